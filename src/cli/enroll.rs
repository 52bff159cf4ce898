//! `bipedalnet enroll`

use std::path::PathBuf;

use bipedalnet_client::api::{EnrolledAnswer, NextStep, UserState};

use super::Failure;
use super::data::TableArguments;
use super::remote::{Remote, Within, about};

/// Enroll walks of a user, who is created if needed
///
/// If a file fails, the files before it have been enrolled.
#[derive(clap::Args)]
pub struct Arguments {
    /// Id of the user
    user: String,
    /// Recordings, one walk each: .csv, .tsv, .txt, .log, .dat, .json or .cbor, also gzipped
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    tables: TableArguments,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    remote: Remote,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { user, files, tables, within, remote } = arguments;
    let walks = tables.read_files(&files)?;
    remote.call(async |client| {
        let client = within.of(client);
        client.put_user(&user).await?;
        for (path, walk) in walks {
            let answer = client.enroll(&user, &walk).await.map_err(|error| about(path, error))?;
            remote.print(&answer, &format!("{}: {}", path.display(), line(&answer)))?;
        }
        Ok(())
    })
}

fn line(answer: &EnrolledAnswer) -> String {
    let EnrolledAnswer { enrollment, windows_accepted, windows_refused, user, .. } = answer;
    let mut line = format!("enrollment {enrollment}: {windows_accepted} windows of walking");
    for refused in windows_refused {
        line += &format!(", {} refused ({})", refused.windows, refused.detail);
    }
    let (name, windows, missing) = (&user.user, user.windows, user.windows_missing);
    line + &match user.status {
        UserState::Ready if user.next_step == Some(NextStep::WalkAnotherTime) => {
            format!("; {name} is ready with {windows}; enroll another walk on another day")
        }
        UserState::Ready => format!("; {name} is ready with {windows}"),
        UserState::Collecting => format!("; {name} has {windows}, {missing} more are needed"),
    }
}
