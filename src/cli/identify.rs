//! `bipedalnet identify`

use std::path::PathBuf;
use std::process::ExitCode;

use bipedalnet_client::api::{Identified, IdentifyAnswer};

use super::Failure;
use super::data::TableArguments;
use super::remote::{Remote, Within, about, explain, status};

/// Identify a walker (1:N)
///
/// Exits with 0 if the walker is identified, with 3 if the result is unknown or inconclusive, and with
/// 1 on errors.
#[derive(clap::Args)]
pub struct Arguments {
    /// Recording: .csv, .tsv, .txt, .log, .dat, .json or .cbor, also gzipped
    file: PathBuf,
    #[command(flatten)]
    tables: TableArguments,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    remote: Remote,
}

pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { file, tables, within, remote } = arguments;
    let walks = tables.read_files(std::slice::from_ref(&file))?;
    remote.call(async |client| {
        let client = within.of(client);
        let answer = client.identify(&walks[0].1, None).await;
        let answer = answer.map_err(|error| about(&file, error))?;
        remote.print(&answer, &line(&answer))?;
        Ok(status(answer.decision == Identified::Identified))
    })
}

fn line(answer: &IdentifyAnswer) -> String {
    let windows = answer.windows;
    match (answer.decision, &answer.user) {
        (Identified::Identified, user) => {
            let user = user.as_deref().unwrap_or_default();
            let nearest = answer.candidates.iter().flatten().next();
            let estimated = nearest
                .map(|nearest| format!(", estimated false match rate {}", nearest.estimated_fmr));
            format!("{user} ({windows} windows of walking{})", estimated.unwrap_or_default())
        }
        (Identified::Unknown, _) => format!("unknown ({windows} windows of walking)"),
        (Identified::Inconclusive, _) => {
            format!("inconclusive: {}", explain(answer.reason, windows))
        }
    }
}
