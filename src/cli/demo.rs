//! `bipedalnet demo`

use std::path::{Path, PathBuf};
use std::time::Instant;

use bipedalnet_client::{Body, Client};
use bipedalnet_core::gait::Recording;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_training::enrollment_splits;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

use super::data::TableArguments;
use super::throwaway::with_server;
use super::{Failure, phone_demo};

/// Enroll eight walkers on a temporary server, then identify them and two strangers
///
/// Fails if fewer than seven walkers are identified, or if a stranger is. With `--phone`, serves a page on
/// which you enroll and verify yourself instead.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder with recordings of at least ten people [default: simulated walkers]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Seed that selects the walkers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    tables: TableArguments,
    /// Serve the page /phone in the local network, and print its address as a QR code, until Ctrl-C
    #[arg(long, conflicts_with_all = ["data", "seed"])]
    phone: bool,
}

const ENROLLED: usize = 8;
const STRANGERS: usize = 2;

const WALK_SECONDS: f64 = 60.0;

/// The demo fails if fewer of the eight walkers are identified.
const MIN_IDENTIFIED: usize = 7;

struct Participant {
    name: String,
    enrollments: Vec<Recording>,
    probe: Recording,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if arguments.data.is_none() && !arguments.tables.is_empty() {
        return Err("options for tables need --data".into());
    }
    if arguments.phone {
        return runtime.block_on(phone_demo::run());
    }
    let participants = match &arguments.data {
        Some(folder) => recorded(folder, &arguments.tables, arguments.seed)?,
        None => simulated(arguments.seed),
    };
    runtime.block_on(with_server(
        |_| {},
        async |server| {
            let model = server.service.model_id();
            println!("server at {}, model {model}, empty database\n", server.url);
            walk_all(&server.url, &participants).await
        },
    ))
}

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
        "walker", "enrolled", "answer", "score", "latency", "bytes sent"
    );
    let (mut identified, mut mistaken) = (0, 0);
    for (index, participant) in participants.iter().enumerate() {
        let begin = Instant::now();
        let answer = client.identify(&participant.probe, None).await?;
        let latency_milliseconds = begin.elapsed().as_secs_f64() * 1e3;
        let enrolled = index < ENROLLED;
        let bytes = Body::of_recording(&participant.probe).bytes.len();
        let user = answer.user.as_deref();
        match user {
            Some(user) if enrolled && user == participant.name => identified += 1,
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
        "{identified} of {ENROLLED} enrolled walkers identified, {mistaken} of {STRANGERS} strangers mistaken for one of them"
    );
    println!("\n{line}");
    if identified < MIN_IDENTIFIED || mistaken > 0 {
        return Err("the model did not distinguish these walkers well enough".into());
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

/// Picks ten people at random.
fn recorded(
    folder: &Path,
    tables: &TableArguments,
    seed: u64,
) -> Result<Vec<Participant>, Failure> {
    let data = tables.read_folders(&[folder.to_owned()])?;
    let mut participants: Vec<Participant> = enrollment_splits(data.recordings)
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
        return Err(
            format!("{}: {found} people; at least {needed} are needed", folder.display()).into()
        );
    }
    participants.shuffle(&mut Pcg64Mcg::seed_from_u64(seed));
    participants.truncate(needed);
    Ok(participants)
}

/// The middle of a recording, without the phone's way into and out of the pocket.
fn middle(recording: &Recording, seconds: f64) -> Option<Recording> {
    let start = (recording.duration_seconds() - seconds).max(0.0) / 2.0;
    recording.part(start, seconds)
}
