//! What retraining does for users, and to them while it runs, over HTTP with the real program:
//! `cargo build --release && cargo run --release --example retraining_over_http -- --data DIR`,
//! where DIR is a data set of which each person's last session probes the others.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bipedalnet::api::{TrainDocument, TrainingScope};
use bipedalnet::client::Client;
use bipedalnet::gait::Recording;
use bipedalnet::training::{Person, by_person, read_data};
use clap::Parser;

const PROBE_SECONDS: f64 = 10.0;

/// Between the requests whose latency is measured.
const PAUSE: Duration = Duration::from_millis(20);

const IDLE: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct Arguments {
    /// Folder with a manifest.csv.
    #[arg(long)]
    data: PathBuf,
    /// Model file to go out from, the shipped one where not given.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Passes over the data.
    #[arg(long, default_value_t = 20)]
    epochs: u16,
    /// Train the last layers alone.
    #[arg(long)]
    last_layers: bool,
}

/// The program beside this one; ended with this one.
struct Server {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(model: Option<PathBuf>) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let program = std::env::current_exe()?.with_file_name("../bipedalnet");
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--keep-recordings-days", "1"]);
        command.args(["--address-requests-per-second", "0", "--database"]);
        command.arg(folder.path().join("bench.db"));
        if let Some(model) = model {
            command.arg("--model").arg(model);
        }
        let mut process = command.stderr(Stdio::piped()).spawn()?;
        let lines = BufReader::new(process.stderr.take().ok_or("no stderr")?).lines();
        let mut lines = lines.map_while(Result::ok);
        let line = lines.find(|line| line.contains("address=")).ok_or("it did not start")?;
        let (_, rest) = line.split_once("address=").ok_or("no address")?;
        let url = format!("http://{}", rest.split_whitespace().next().unwrap_or_default());
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { process, url, _folder: folder })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let people = by_person(read_data(&[arguments.data])?.walks);
    let server = Server::start(arguments.model)?;
    let client = Client::new(&server.url, None)?;
    for Person { subject, enrollments, .. } in &people {
        client.put_user(subject).await?;
        for walk in enrollments {
            client.enroll(subject, walk).await?;
        }
    }
    let mut probes: Vec<(&str, Recording)> = Vec::new();
    for Person { subject, unseen, .. } in &people {
        let starts = (0..).map(|index| f64::from(index) * PROBE_SECONDS);
        let starts = starts.take_while(|start| start + PROBE_SECONDS <= unseen.duration_seconds());
        probes.extend(
            starts.filter_map(|start| Some((&subject[..], unseen.part(start, PROBE_SECONDS)?))),
        );
    }
    println!("{} people, {} walks of {PROBE_SECONDS} s", people.len(), probes.len());
    let before = identify_all(&client, &probes).await?;
    let end = Instant::now() + IDLE;
    let idle = latencies(&client, &probes, async || Ok(Instant::now() < end)).await?;

    let scope = match arguments.last_layers {
        true => TrainingScope::LastLayers,
        false => TrainingScope::Whole,
    };
    let epochs = Some(arguments.epochs);
    let document = TrainDocument { scope, epochs, seed: Some(1), ..TrainDocument::default() };
    let begin = Instant::now();
    let job = client.train(&document).await?.job;
    let mut speeds = Vec::new();
    let mut asked = Instant::now();
    let during = latencies(&client, &probes, async || {
        if asked.elapsed() < Duration::from_secs(1) {
            return Ok(true);
        }
        asked = Instant::now();
        let job = client.training_job(job).await?;
        speeds.extend(job.samples_per_second);
        Ok(job.ended_at_unix_seconds.is_none())
    })
    .await?;
    let seconds = begin.elapsed().as_secs_f64();
    let done = client.training_job(job).await?;
    let after = identify_all(&client, &probes).await?;
    let models = client.models().await?;
    let model = models.models.iter().find(|model| Some(&model.model) == done.model.as_ref());

    println!("state {:?}, activated {}, reason {:?}", done.state, done.activated, done.reason);
    println!("gate: {:?}", model.and_then(|model| model.comparison.as_ref()));
    println!(
        "{} epochs in {seconds:.0} s, up to the switch; validation {:?}",
        done.epoch, done.validation_accuracy
    );
    println!("windows a second: {:.0}", speeds.last().copied().unwrap_or_default());
    println!(
        "| | right | wrong | unknown | p50 (ms) | p99 (ms) | requests |\n|---|--:|--:|--:|--:|--:|--:|"
    );
    for (name, [right, wrong, unknown], latencies) in
        [("before", before, Some(idle)), ("during", [0; 3], Some(during)), ("after", after, None)]
    {
        let all = probes.len() as f64 / 100.0;
        let shares = [right, wrong, unknown].map(|count| f64::from(count) / all);
        let [p50, p99, count] = latencies.map_or([f64::NAN; 3], |mut all| {
            all.sort_by(f64::total_cmp);
            [all[all.len() / 2], all[all.len() * 99 / 100], all.len() as f64]
        });
        println!(
            "| {name} | {:.1} % | {:.1} % | {:.1} % | {p50:.2} | {p99:.2} | {count} |",
            shares[0], shares[1], shares[2]
        );
    }
    Ok(())
}

/// How many are named right, wrong and not at all.
async fn identify_all(
    client: &Client,
    probes: &[(&str, Recording)],
) -> Result<[u32; 3], Box<dyn Error>> {
    let mut counts = [0; 3];
    for (subject, walk) in probes {
        let place = match client.identify(walk, None).await?.user {
            Some(user) if user == *subject => 0,
            Some(_) => 1,
            None => 2,
        };
        counts[place] += 1;
    }
    Ok(counts)
}

/// Milliseconds that requests take, one after another, as long as `go_on`.
async fn latencies(
    client: &Client,
    probes: &[(&str, Recording)],
    mut go_on: impl AsyncFnMut() -> Result<bool, Box<dyn Error>>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut milliseconds = Vec::new();
    for (_, walk) in probes.iter().cycle() {
        if !go_on().await? {
            break;
        }
        let begin = Instant::now();
        client.identify(walk, None).await?;
        milliseconds.push(begin.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(milliseconds)
}
