//! `bipedalnet demo`

use std::path::{Path, PathBuf};
use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

use super::Failure;
use super::data::read;
use super::throwaway::with_server;
use bipedalnet_client::{Body, Client};
use bipedalnet_core::gait::Recording;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_training::enrollment_splits;

/// Enroll eight walkers on a throwaway server, then name their unseen walks and two strangers'
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder with recordings of ten people or more; simulated walkers where not given
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Decides who walks
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const ENROLLED: usize = 8;
const STRANGERS: usize = 2;

/// What a phone sends in one request at most.
const WALK_SECONDS: f64 = 60.0;

/// Fewest of the eight that must be named for the demo to be a success.
const FEWEST_NAMED: usize = 7;

/// Someone with walks to enroll and another walk.
struct Participant {
    name: String,
    enrollments: Vec<Recording>,
    probe: Recording,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let participants = match &arguments.data {
        Some(folder) => recorded(folder, arguments.seed)?,
        None => simulated(arguments.seed),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(with_server(
        |_| {},
        async |server| {
            let model = server.service.model_id();
            println!("server on {}, model {model}, empty database\n", server.url);
            walk_all(&server.url, &participants).await
        },
    ))
}

/// Enrolls and identifies over HTTP, printing as it goes.
async fn walk_all(url: &str, participants: &[Participant]) -> Result<(), Failure> {
    let client = Client::new(url, None)?;
    for participant in &participants[..ENROLLED] {
        client.put_user(&participant.name).await?;
        for recording in &participant.enrollments {
            client.enroll(&participant.name, recording).await?;
        }
    }
    println!(
        "{:<16} {:<9} {:<16} {:>5} {:>10} {:>11}",
        "who walks", "enrolled", "answer", "score", "latency", "bytes sent"
    );
    let (mut named, mut mistaken) = (0, 0);
    for (index, participant) in participants.iter().enumerate() {
        let begin = Instant::now();
        let answer = client.identify(&participant.probe, None).await?;
        let latency_milliseconds = begin.elapsed().as_secs_f64() * 1e3;
        let enrolled = index < ENROLLED;
        let bytes = Body::of_recording(&participant.probe).bytes.len();
        let user = answer.user.as_deref();
        match user {
            Some(user) if enrolled && user == participant.name => named += 1,
            Some(_) => mistaken += usize::from(!enrolled),
            None => {}
        }
        println!(
            "{:<16} {:<9} {:<16} {:>5} {latency_milliseconds:>7.1} ms {bytes:>11}",
            participant.name,
            if enrolled { "yes" } else { "no" },
            user.unwrap_or("unknown"),
            answer
                .candidates
                .iter()
                .flatten()
                .next()
                .map_or("-".to_owned(), |nearest| format!("{:.2}", nearest.score)),
        );
    }
    let line = format!(
        "{named} of {ENROLLED} enrolled walkers named, {mistaken} of {STRANGERS} strangers mistaken for one of them"
    );
    println!("\n{line}");
    if named < FEWEST_NAMED || mistaken > 0 {
        return Err("the model did not tell these walkers apart well enough".into());
    }
    Ok(())
}

fn simulated(seed: u64) -> Vec<Participant> {
    let conditions = Conditions { seconds: WALK_SECONDS, ..Conditions::default() };
    (0..(ENROLLED + STRANGERS) as u64)
        .map(|number| {
            let walker = Walker::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
            Participant {
                name: format!("walker-{}", number + 1),
                enrollments: [1, 2].map(|seed| walker.walk(seed, &conditions)).into(),
                probe: walker.walk(3, &conditions),
            }
        })
        .collect()
}

/// Ten people that a seed picks.
fn recorded(folder: &Path, seed: u64) -> Result<Vec<Participant>, Failure> {
    let mut participants: Vec<Participant> =
        enrollment_splits(read(&[folder.to_owned()])?.recordings)
            .into_iter()
            .filter_map(|person| {
                let middles = person.enrollments.iter();
                let enrollments = middles.filter_map(|walk| middle(walk, WALK_SECONDS)).collect();
                let probe = middle(&person.probe, WALK_SECONDS)?;
                Some(Participant { name: person.subject, enrollments, probe })
            })
            .collect();
    let needed = ENROLLED + STRANGERS;
    if participants.len() < needed {
        let found = participants.len();
        return Err(format!("{}: {found} people; {needed} are needed", folder.display()).into());
    }
    participants.shuffle(&mut Pcg64Mcg::seed_from_u64(seed));
    participants.truncate(needed);
    Ok(participants)
}

/// Without the phone's way into the pocket and out of it.
fn middle(recording: &Recording, seconds: f64) -> Option<Recording> {
    let start = (recording.duration_seconds() - seconds).max(0.0) / 2.0;
    recording.part(start, seconds)
}
