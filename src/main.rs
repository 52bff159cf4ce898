//! The program `bipedalnet`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bipedalnet::run()
}
