//! `bipedalnet verify`

use std::path::PathBuf;
use std::process::ExitCode;

use super::Failure;
use super::remote::{Remote, about, read, status};
use bipedalnet_client::VerifyOptions;
use bipedalnet_client::api::{Verified, VerifyAnswer};

/// Tell whether it is the user who walks
///
/// Several recordings count together. Exits with 0 on accept, with 3 on reject, inconclusive and
/// suspected replay, and with 1 where there is no answer.
#[derive(clap::Args)]
pub struct Arguments {
    /// Id of the user
    user: String,
    /// Up to 16 recordings, as many as a session holds: .csv, .json or .cbor, gzipped or not
    #[arg(required = true, num_args = 1..=16, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The false match rate that decides: 0.1, 0.01 or 0.001; the server's where not given
    #[arg(long, value_name = "RATE")]
    fmr: Option<f64>,
    #[command(flatten)]
    remote: Remote,
}

pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { user, files, fmr, remote } = arguments;
    let walks = read(&files)?;
    remote.ask(async |client| {
        let mut session = None;
        let mut last = None;
        for (path, walk) in walks {
            // A server may insist on one; it also names this run's session.
            let challenge = client.challenge(&user).await?.challenge;
            let session = session.get_or_insert_with(|| challenge.clone()).clone();
            let options = VerifyOptions { fmr, session: Some(session), challenge: Some(challenge) };
            let answer = client.verify(&user, &walk, &options).await;
            let answer = answer.map_err(|error| about(path, error))?;
            let is_replay = answer.decision == Verified::SuspectedReplay;
            last = Some(answer);
            // What is good about other walks does not make up for it.
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
    let estimated = answer.estimated_fmr.map(|fmr| format!(" (estimated: {fmr})"));
    let estimated = estimated.unwrap_or_default();
    let ground =
        format!("by {windows} windows of walking, at a false match rate of {fmr}{estimated}");
    match answer.decision {
        Verified::Accept => format!("accept: this is {user}, {ground}"),
        Verified::Reject => format!("reject: this is not {user}, {ground}"),
        Verified::Inconclusive => {
            format!("inconclusive: {windows} windows of walking are too few to tell")
        }
        Verified::SuspectedReplay => {
            format!("suspected replay: an earlier recording of {user}, sent again")
        }
    }
}
