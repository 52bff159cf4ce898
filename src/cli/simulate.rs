//! `bipedalnet simulate`

use std::io::{IsTerminal, Write};

use super::Failure;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_core::gait::{Precision, RecordingDocument, compact};

/// Print a simulated walk, to try the service without a phone
#[derive(clap::Args)]
pub struct Arguments {
    /// Who walks
    #[arg(long, default_value_t = 1)]
    walker: u64,
    /// Which of their walks
    #[arg(long, default_value_t = 1)]
    walk: u64,
    /// How long it lasts
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=900))]
    seconds: u16,
    /// As a phone without a gyroscope records it
    #[arg(long)]
    no_gyroscope: bool,
    /// As compact CBOR instead of JSON
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
