//! `bipedalnet trial`

use std::path::{Path, PathBuf};

use bipedalnet_client::Client;
use bipedalnet_training::evaluation::Figure;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Failure;
use super::data::TableArguments;
use super::output_file::OutputFile;
use super::throwaway::with_server;
use crate::field_trial::{
    Enrolled, FieldTrial, Identifications, Outcome, Rates, Refusals, Setup, Verifications,
};
use crate::service::Service;

/// Measure the service's decisions on recordings, over HTTP
///
/// Starts a temporary server and enrolls everybody who has all sessions: 30 s of walking from each
/// session to enroll, in pieces of 10 s. The other pieces are probes. Each is identified among all
/// users and, as a stranger's, among all other users. Up to three pieces in a row are verified at
/// false match rates of 1 % and 0.1 %, as the walker and as eight others.
///
/// People whom the model was trained on are not left out.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of recordings, as for `train`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Session to enroll. Several sessions, separated by commas, are enrolled in this order
    #[arg(long, value_name = "SESSION", value_delimiter = ',', required = true)]
    enroll: Vec<String>,
    /// Session to probe with. If it is also enrolled, probes start 5 s after the enrolled part
    #[arg(long, value_name = "SESSION")]
    probe: String,
    /// Model file. Default: the shipped model
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Remove the gyroscope's data from these recordings
    #[arg(long, value_name = "WHICH")]
    without_gyroscope: Option<WithoutGyroscope>,
    /// Also write all figures to a JSON file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seed of the users who are claimed and of the intervals. Decisions at a threshold can still differ,
    /// since each server transforms templates with its own secret
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    tables: TableArguments,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum WithoutGyroscope {
    /// Enrolled recordings
    Enroll,
    /// Probes
    Probe,
    /// All recordings
    Both,
}

const FALSE_MATCH_RATES: [f64; 2] = [0.01, 0.001];

#[derive(Serialize)]
struct Report {
    data: String,
    model: String,
    enrolled: String,
    probed: String,
    without_gyroscope: Option<WithoutGyroscope>,
    seed: u64,
    /// People with all sessions.
    people: usize,
    /// People who became ready and have probes.
    participants: usize,
    never_ready: Vec<String>,
    without_probes: Vec<String>,
    refused_enrollments: Refusals,
    refused_probes: Refusals,
    identification: Rates,
    strangers: Rates,
    verification: Vec<Verification>,
}

#[derive(Serialize)]
struct Verification {
    fmr: f64,
    own: Rates,
    others: Rates,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    // First, so that a wrong path does not cost a measurement.
    let json = arguments.json.as_deref().map(OutputFile::create).transpose()?;
    let data = arguments.tables.read_folders(std::slice::from_ref(&arguments.data))?;
    let without = arguments.without_gyroscope;
    let setup = Setup {
        enroll: arguments.enroll.clone(),
        probe: arguments.probe.clone(),
        enroll_without_gyroscope: matches!(
            without,
            Some(WithoutGyroscope::Enroll | WithoutGyroscope::Both)
        ),
        probe_without_gyroscope: matches!(
            without,
            Some(WithoutGyroscope::Probe | WithoutGyroscope::Both)
        ),
        seed: arguments.seed,
    };
    let trial = FieldTrial::new(data.recordings, setup)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(&trial, &arguments))?;
    print(&report);
    if let Some(json) = json {
        json.write(&serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}

async fn measure(trial: &FieldTrial, arguments: &Arguments) -> Result<Report, Failure> {
    let model = arguments.model.as_deref();
    let ask = async |service: &Service, enrolled: Enrolled<'_>| {
        let bar = bar("identify");
        let answers = enrolled.identify(|done, all| show(&bar, done, all)).await?;
        bar.finish_and_clear();
        let Identifications { enrolled: identification, strangers, refused } = answers;
        Ok(Report {
            data: arguments.data.display().to_string(),
            model: service.model_id(),
            enrolled: arguments.enroll.join("+"),
            probed: arguments.probe.clone(),
            without_gyroscope: arguments.without_gyroscope,
            seed: arguments.seed,
            people: trial.people(),
            participants: enrolled.participants(),
            never_ready: enrolled.never_ready,
            without_probes: enrolled.without_probes,
            refused_enrollments: enrolled.refused,
            refused_probes: refused,
            identification,
            strangers,
            verification: Vec::new(),
        })
    };
    let mut report = with_enrolled(trial, model, ask).await?;
    for fmr in FALSE_MATCH_RATES {
        let ask = async |_: &Service, enrolled: Enrolled<'_>| {
            let bar = bar(&format!("verify at FMR {} %", fmr * 100.0));
            let answers = enrolled.verify(fmr, |done, all| show(&bar, done, all)).await?;
            bar.finish_and_clear();
            let Verifications { own, others } = answers;
            Ok(Verification { fmr, own, others })
        };
        report.verification.push(with_enrolled(trial, model, ask).await?);
    }
    Ok(report)
}

/// Enrolls everybody on a new server, and sends requests to it.
async fn with_enrolled<T>(
    trial: &FieldTrial,
    model: Option<&Path>,
    ask: impl AsyncFnOnce(&Service, Enrolled<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_server(
        |config| {
            config.model = model.map(Path::to_owned);
            config.http.key_requests_per_second = 0;
            config.http.address_requests_per_second = 0;
        },
        async |server| {
            let client = Client::new(&server.url, None)?;
            let bar = bar("enroll");
            let enrolled = trial.enroll(&client, |done, all| show(&bar, done, all)).await?;
            bar.finish_and_clear();
            // Otherwise chance decides whether probes meet the old thresholds or the new ones.
            server.service.thresholds.fit().await?;
            ask(&server.service, enrolled).await
        },
    )
    .await
}

fn bar(stage: &str) -> ProgressBar {
    let template = "{prefix} {bar:24} {percent:>3} %  {eta} left";
    let style = ProgressStyle::with_template(template).expect("a valid template");
    ProgressBar::new(1).with_style(style).with_prefix(stage.to_owned())
}

fn show(bar: &ProgressBar, done: usize, all: usize) {
    bar.set_length(all as u64);
    bar.set_position(done as u64);
}

fn print(report: &Report) {
    println!(
        "{} > {}: {} people, {} took part; model {}",
        report.enrolled, report.probed, report.people, report.participants, report.model
    );
    for (what, names) in [
        ("never ready", &report.never_ready),
        ("no recording to probe with", &report.without_probes),
    ] {
        if !names.is_empty() {
            println!("{what}: {}", names.join(", "));
        }
    }
    for (what, refused) in [
        ("refused to enroll", &report.refused_enrollments),
        ("refused to identify", &report.refused_probes),
    ] {
        if !refused.is_empty() {
            let reasons = refused.iter().map(|(reason, pieces)| format!("{reason} {pieces}"));
            println!("{what}: {}", reasons.collect::<Vec<_>>().join(", "));
        }
    }
    println!("\nIn % (95 % interval by person):\n");
    println!("| | asked | right user | wrong user | nobody | inconclusive | replay | refused |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    use Outcome::{Accepted, Named, Rejected, Right, Unknown, Wrong};
    row("1:N, enrolled", &report.identification, [Some(Right), Some(Wrong), Some(Unknown)]);
    row("1:N, not enrolled", &report.strangers, [None, Some(Named), Some(Unknown)]);
    for Verification { fmr, own, others } in &report.verification {
        let at = format!("1:1 at FMR {} %", fmr * 100.0);
        row(&format!("{at}, own claims"), own, [Some(Accepted), None, Some(Rejected)]);
        row(&format!("{at}, others' claims"), others, [None, Some(Accepted), Some(Rejected)]);
    }
}

fn row(question: &str, rates: &Rates, decided: [Option<Outcome>; 3]) {
    let open = [Outcome::Inconclusive, Outcome::SuspectedReplay, Outcome::Refused];
    let columns = decided.into_iter().chain(open.map(Some));
    let cells = columns.map(|outcome| match outcome.and_then(|outcome| rates.share(outcome)) {
        Some(figure) => format!(" {} |", percent_with_interval(figure)),
        None => " - |".to_owned(),
    });
    println!("| {question} | {} |{}", rates.asked, cells.collect::<String>());
}

/// Has two decimals, to show one false match in a thousand.
fn percent_with_interval(figure: &Figure) -> String {
    let [value, low, high] = [figure.value, figure.low, figure.high].map(|rate| rate * 100.0);
    format!("{value:.2} ({low:.2} to {high:.2})")
}
