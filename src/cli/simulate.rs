//! `bipedalnet simulate`

use std::io::{IsTerminal, Write};

use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_core::gait::{Precision, RecordingDocument, compact};

use super::Failure;

/// Print a simulated recording, to try the service without a phone
#[derive(clap::Args)]
pub struct Arguments {
    /// Number of the walker; the same number walks the same way
    #[arg(long, default_value_t = 1)]
    walker: u64,
    /// Number of the walk; each one differs a little
    #[arg(long, default_value_t = 1)]
    walk: u64,
    /// Length of the walk
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=900))]
    seconds: u16,
    /// Record without a gyroscope
    #[arg(long)]
    no_gyroscope: bool,
    /// Print compact CBOR instead of JSON
    #[arg(long)]
    cbor: bool,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let conditions = Conditions {
        seconds: arguments.seconds.into(),
        gyroscope: !arguments.no_gyroscope,
        ..Conditions::default()
    };
    let recording = Walker::new(arguments.walker).walk(arguments.walk, &conditions);
    let mut bytes = if arguments.cbor {
        compact(&recording, &Precision::default())?
    } else {
        serde_json::to_vec(&RecordingDocument::from(&recording))?
    };
    let mut out = std::io::stdout();
    if out.is_terminal() && !arguments.cbor {
        bytes.push(b'\n');
    }
    out.write_all(&bytes)?;
    Ok(())
}
