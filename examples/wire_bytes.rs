//! Measures the bytes of a walk of ten seconds on the wire, and the accuracy lost by compact forms:
//!
//!     cargo run --release --example wire_bytes -- --data DIR
//!
//! Enrolls all sessions of each person but the last, which is used for probes. Prints a Markdown table.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use bipedalnet_core::bnn::{Model, Scratch};
use bipedalnet_core::cbor;
use bipedalnet_core::gait::{
    Precision, Recipe, Recording, RecordingDocument, compact, cut_windows, exact,
};
use bipedalnet_core::identity::{Calibration, Decision, Gallery, Template, UserId};
use bipedalnet_training::{TableOptions, enrollment_splits, read_data};
use clap::Parser;
use flate2::Compression;
use flate2::write::GzEncoder;

const PROBE_SECONDS: f64 = 10.0;
/// Probes overlap, so that the figures depend less on where they start.
const STRIDE_SECONDS: f64 = 1.0;

/// Fine enough that rounding is below the sensors' noise.
const FINE: Precision =
    Precision { rate_hz: 50.0, acceleration_step_m_s2: 0.002, angular_rate_step_rad_s: 0.001 };

#[derive(Parser)]
struct Arguments {
    /// Folder with a manifest.csv.
    #[arg(long)]
    data: PathBuf,
    /// Model file that identifies.
    #[arg(long, default_value = "models/bipedalnet-openset.safetensors")]
    model: PathBuf,
}

type Encode = fn(&Recording) -> Result<Vec<u8>, Box<dyn Error>>;
type Decode = fn(&[u8]) -> Result<RecordingDocument, Box<dyn Error>>;

const FORMATS: [(&str, Encode, Decode); 4] = [
    ("JSON", |walk| Ok(serde_json::to_vec(&RecordingDocument::from(walk))?), from_json),
    ("CBOR, float32", |walk| Ok(exact(walk)), from_cbor),
    ("CBOR, fine steps (int16)", |walk| Ok(compact(walk, &FINE)?), from_cbor),
    ("CBOR, compact", |walk| Ok(compact(walk, &Precision::default())?), from_cbor),
];

fn from_json(bytes: &[u8]) -> Result<RecordingDocument, Box<dyn Error>> {
    Ok(serde_json::from_slice(bytes)?)
}

fn from_cbor(bytes: &[u8]) -> Result<RecordingDocument, Box<dyn Error>> {
    Ok(cbor::from_slice(bytes)?)
}

type Compress = fn(&[u8]) -> std::io::Result<Vec<u8>>;

/// The compression levels that clients use.
const COMPRESSIONS: [(&str, Compress); 4] =
    [("plain", |bytes| Ok(bytes.to_vec())), ("gzip 6", gzip), ("zstd 3", zstd), ("br 5", brotli)];

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn zstd(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::encode_all(bytes, 3)
}

fn brotli(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressed = Vec::new();
    brotli::CompressorWriter::new(&mut compressed, 4096, 5, 20).write_all(bytes)?;
    Ok(compressed)
}

/// A gallery and the model that identifies its people.
struct Identifier {
    model: Model,
    recipe: Recipe,
    scratch: Scratch,
    gallery: Gallery,
}

impl Identifier {
    fn new(model: Model) -> Result<Self, Box<dyn Error>> {
        let metadata = &model.metadata;
        let calibration = Calibration::from_metrics(&metadata.metrics)
            .map_err(|metric| format!("the model has no {metric}"))?;
        let recipe =
            Recipe::for_input(&metadata.rows, metadata.rate_hz, metadata.architecture.input)
                .ok_or("the model needs windows that no recipe gives")?;
        let gallery = Gallery::new(model.network.feature_len(), calibration);
        Ok(Self { model, recipe, scratch: Scratch::default(), gallery })
    }

    fn template(&mut self, walk: &Recording) -> Result<Template, Box<dyn Error>> {
        let network = &self.model.network;
        let mut template = Template::empty(network.feature_len());
        for window in cut_windows(walk, &self.recipe, self.recipe.samples / 2)?.windows {
            template.add_window(network.run(&window.values, &mut self.scratch)?.feature);
        }
        Ok(template)
    }

    fn identify(
        &mut self,
        walk: &Recording,
        among: Option<&BTreeSet<UserId>>,
    ) -> Result<(Decision, f32), Box<dyn Error>> {
        let probe = self.template(walk)?;
        let candidates = self.gallery.rank(&probe, among, 5);
        let users = self.gallery.count(among);
        let (calibration, tails) = (self.gallery.calibration(), self.gallery.tails());
        let decision = Decision::new(&candidates, users, &probe, calibration, &tails.single);
        Ok((decision, candidates.first().map_or(0.0, |candidate| candidate.score)))
    }
}

/// Results of the probes in one form.
#[derive(Default)]
struct Tally {
    right: u32,
    wrong: u32,
    unknown: u32,
    inconclusive: u32,
    /// Probes that were identified although the person was not in the gallery.
    strangers_named: u32,
    score_moves: f32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut identifier = Identifier::new(Model::from_bytes(&std::fs::read(arguments.model)?)?)?;
    let mut users = BTreeSet::new();
    let mut probes: Vec<(UserId, Recording)> = Vec::new();
    for person in
        enrollment_splits(read_data(&[arguments.data], &TableOptions::default())?.recordings)
    {
        let user: UserId = person.subject.parse()?;
        for walk in &person.enrollments {
            let template = identifier.template(walk)?;
            identifier.gallery.add(&user, &template);
        }
        let starts = (0..).map(|index| f64::from(index) * STRIDE_SECONDS);
        let whole = |start: &f64| start + PROBE_SECONDS <= person.probe.duration_seconds();
        for start in starts.take_while(whole) {
            let part = person.probe.part(start, PROBE_SECONDS);
            probes.extend(part.map(|part| (user.clone(), part)));
        }
        users.insert(user);
    }
    println!(
        "{} people, {} walks of {PROBE_SECONDS} s, {STRIDE_SECONDS} s apart. Bytes: mean (maximum).\n",
        users.len(),
        probes.len()
    );
    let names = COMPRESSIONS.map(|(name, _)| name).join(" | ");
    println!(
        "| form | {names} | right | wrong | unknown | inconclusive | strangers identified | mean change of score |"
    );
    println!("|---|{}", "---|".repeat(COMPRESSIONS.len() + 6));
    for (name, encode, decode) in FORMATS {
        let mut bytes = [(0, 0); COMPRESSIONS.len()];
        let mut tally = Tally::default();
        for (user, walk) in &probes {
            let body = encode(walk)?;
            for ((sum, most), (_, compress)) in bytes.iter_mut().zip(COMPRESSIONS) {
                let length = compress(&body)?.len();
                *sum += length;
                *most = length.max(*most);
            }
            let received = Recording::try_from(decode(&body)?)?;
            let (decision, score) = identifier.identify(&received, None)?;
            match decision {
                Decision::Identified(named) if named == *user => tally.right += 1,
                Decision::Identified(_) => tally.wrong += 1,
                Decision::Unknown => tally.unknown += 1,
                Decision::Inconclusive(_) => tally.inconclusive += 1,
            }
            let mut others = users.clone();
            others.remove(user);
            let (as_stranger, _) = identifier.identify(&received, Some(&others))?;
            tally.strangers_named += u32::from(matches!(as_stranger, Decision::Identified(_)));
            tally.score_moves += (score - identifier.identify(walk, None)?.1).abs();
        }
        print_row(name, bytes, &tally, probes.len());
    }
    Ok(())
}

fn print_row(
    name: &str,
    bytes: [(usize, usize); COMPRESSIONS.len()],
    tally: &Tally,
    probes: usize,
) {
    let bytes = bytes.map(|(sum, most)| format!("{} ({most})", sum / probes)).join(" | ");
    let shares =
        [tally.right, tally.wrong, tally.unknown, tally.inconclusive, tally.strangers_named]
            .map(|walks| format!("{:.1} %", f64::from(walks) * 100.0 / probes as f64))
            .join(" | ");
    println!("| {name} | {bytes} | {shares} | {:.4} |", tally.score_moves / probes as f32);
}
