//! Command line of bipedalnet.
fn main() {}
