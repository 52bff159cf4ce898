//! `bipedalnet verify`

use std::path::PathBuf;
use std::process::ExitCode;

use bipedalnet_client::VerifyOptions;
use bipedalnet_client::api::{Verified, VerifyAnswer};

use super::Failure;
use super::data::TableArguments;
use super::remote::{Remote, Within, about, explain, status};

/// Verify that a walker is a user (1:1)
///
/// Several recordings count together. Exits with 0 if the user is accepted, with 3 if the result is
/// reject, inconclusive or suspected replay, and with 1 on errors.
#[derive(clap::Args)]
pub struct Arguments {
    /// Id of the user
    user: String,
    /// Up to 16 recordings: .csv, .tsv, .txt, .log, .dat, .json or .cbor, also gzipped
    #[arg(required = true, num_args = 1..=16, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// False match rate to decide at: 0.1, 0.01 or 0.001 [default: the server's]
    #[arg(long, value_name = "RATE")]
    fmr: Option<f64>,
    #[command(flatten)]
    tables: TableArguments,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    remote: Remote,
}

pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { user, files, fmr, tables, within, remote } = arguments;
    let walks = tables.read_files(&files)?;
    remote.call(async |client| {
        let client = within.of(client);
        let mut session = None;
        let mut last = None;
        for (path, walk) in walks {
            // A server may require a challenge. The first one also names the session.
            let challenge = client.challenge(&user).await?.challenge;
            let session = session.get_or_insert_with(|| challenge.clone()).clone();
            let options = VerifyOptions { fmr, session: Some(session), challenge: Some(challenge) };
            let answer = client.verify(&user, &walk, &options).await;
            let answer = answer.map_err(|error| about(path, error))?;
            let is_replay = answer.decision == Verified::SuspectedReplay;
            last = Some(answer);
            // Other walks must not outweigh a replay.
            if is_replay {
                break;
            }
        }
        let answer = last.ok_or("there is no recording")?;
        remote.print(&answer, &line(&answer))?;
        Ok(status(answer.decision == Verified::Accept))
    })
}

fn line(answer: &VerifyAnswer) -> String {
    let VerifyAnswer { user, fmr, windows, .. } = answer;
    let estimated = answer.estimated_fmr.map(|fmr| format!(", estimated {fmr}"));
    let estimated = estimated.unwrap_or_default();
    let basis = format!("{windows} windows of walking, false match rate {fmr}{estimated}");
    match answer.decision {
        Verified::Accept => format!("accept: this is {user} ({basis})"),
        Verified::Reject => format!("reject: this is not {user} ({basis})"),
        Verified::Inconclusive => {
            format!("inconclusive: {}", explain(answer.reason, *windows))
        }
        Verified::SuspectedReplay => {
            format!("suspected replay: this repeats an earlier recording of {user}")
        }
    }
}
