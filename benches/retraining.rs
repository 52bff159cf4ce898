//! Identification before, during and after a training job.
//!
//!     cargo bench --bench retraining -- --data DIR [--model FILE] [--last-layers] [--epochs N]
//!
//! The people of a data set enroll all sessions but the last, over HTTP with the real program. Walks
//! of ten seconds from the last session are identified before and after a training job. While the job
//! runs, identifications follow one after the other, and their latency is measured.

mod server;

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bipedalnet_client::Client;
use bipedalnet_client::api::{TrainDocument, TrainingScope};
use bipedalnet_core::gait::Recording;
use bipedalnet_training::{EnrollmentSplit, TableOptions, enrollment_splits, read_data};
use clap::Parser;
use server::{Server, quantile};

const PROBE_SECONDS: f64 = 10.0;

/// Pause between the requests that measure latency.
const PAUSE: Duration = Duration::from_millis(20);

const IDLE: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct Arguments {
    /// Folder with a manifest.csv.
    #[arg(long)]
    data: PathBuf,
    /// Model file to start from [default: the shipped model].
    #[arg(long)]
    model: Option<PathBuf>,
    /// Passes over the data.
    #[arg(long, default_value_t = 20)]
    epochs: u16,
    /// Train only the last layers.
    #[arg(long)]
    last_layers: bool,
    /// Cargo passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(Arguments::parse()))
}

async fn measure(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let people =
        enrollment_splits(read_data(&[arguments.data], &TableOptions::default())?.recordings);
    let model = arguments.model.map(|path| path.display().to_string());
    let model = model.iter().flat_map(|path| ["--model", path]);
    let options: Vec<&str> = ["--keep-recordings-days", "1"].into_iter().chain(model).collect();
    let server = Server::start_with(tempfile::tempdir()?, &options);
    let client = Client::new(&format!("http://{}", server.address), None)?;
    for EnrollmentSplit { subject, enrollments, .. } in &people {
        client.put_user(subject).await?;
        for walk in enrollments {
            client.enroll(subject, walk).await?;
        }
    }
    let mut probes: Vec<(&str, Recording)> = Vec::new();
    for EnrollmentSplit { subject, probe: unseen, .. } in &people {
        let starts = (0..).map(|index| f64::from(index) * PROBE_SECONDS);
        let whole = |start: &f64| start + PROBE_SECONDS <= unseen.duration_seconds();
        for start in starts.take_while(whole) {
            probes.extend(unseen.part(start, PROBE_SECONDS).map(|part| (&subject[..], part)));
        }
    }
    println!("{} people, {} walks of {PROBE_SECONDS} s", people.len(), probes.len());
    let before = identify_all(&client, &probes).await?;
    let end = Instant::now() + IDLE;
    let idle = latencies_ms(&client, &probes, async || Ok(Instant::now() < end)).await?;

    let scope = match arguments.last_layers {
        true => TrainingScope::LastLayers,
        false => TrainingScope::Whole,
    };
    let epochs = Some(arguments.epochs);
    let document = TrainDocument { scope, epochs, ..TrainDocument::default() };
    let begin = Instant::now();
    let job = client.train(&document).await?.job;
    let mut windows_per_second = 0.0;
    let mut asked = Instant::now();
    let busy = latencies_ms(&client, &probes, async || {
        if asked.elapsed() < Duration::from_secs(1) {
            return Ok(true);
        }
        asked = Instant::now();
        let job = client.training_job(job).await?;
        windows_per_second = job.samples_per_second.unwrap_or(windows_per_second);
        Ok(job.ended_at_unix_seconds.is_none())
    })
    .await?;
    let seconds = begin.elapsed().as_secs_f64();
    let job = client.training_job(job).await?;
    let after = identify_all(&client, &probes).await?;
    let models = client.models().await?.models;
    let model = models.iter().find(|model| Some(&model.model) == job.model.as_ref());

    println!("{:?}, activated: {}, reason: {:?}", job.state, job.activated, job.reason);
    println!("{} epochs in {seconds:.0} s, the switch included", job.epoch);
    println!("{windows_per_second:.0} windows a second, validation {:?}", job.validation_accuracy);
    println!("{:#?}", model.and_then(|model| model.comparison.as_ref()));
    println!("| | right | wrong | unknown |\n|---|--:|--:|--:|");
    for (name, counts) in [("before", before), ("after", after)] {
        let [right, wrong, unknown] =
            counts.map(|count| f64::from(count) / probes.len() as f64 * 100.0);
        println!("| {name} | {right:.1} % | {wrong:.1} % | {unknown:.1} % |");
    }
    println!("\n| | requests | p50 (ms) | p90 (ms) | p99 (ms) |\n|---|--:|--:|--:|--:|");
    for (name, mut all) in [("idle", idle), ("while training", busy)] {
        all.sort_by(f64::total_cmp);
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| quantile(&all, share));
        println!("| {name} | {} | {p50:.2} | {p90:.2} | {p99:.2} |", all.len());
    }
    Ok(())
}

/// Counts correct identifications, wrong ones, and those that identify nobody.
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

/// Latencies of requests, sent one after another as long as `go_on` allows.
async fn latencies_ms(
    client: &Client,
    probes: &[(&str, Recording)],
    mut go_on: impl AsyncFnMut() -> Result<bool, Box<dyn Error>>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut all = Vec::new();
    for (_, walk) in probes.iter().cycle() {
        if !go_on().await? {
            break;
        }
        let begin = Instant::now();
        client.identify(walk, None).await?;
        all.push(begin.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(all)
}
