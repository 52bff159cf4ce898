//! What retraining on enrolled people takes and what it brings:
//! `cargo run --release --example retraining_report -- --data DIR`, where DIR is a data set of
//! which each person's last session probes, window by window, a gallery of the others.

use std::error::Error;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use bipedalnet::bnn::{Network, Scratch};
use bipedalnet::gait::{Recipe, Recording, cut_windows};
use bipedalnet::identity::Template;
use bipedalnet::training::{
    Event, Length, Person, RetrainingOptions, Scope, Users, by_person, low_priority_pool,
    read_data, retrain,
};
use clap::Parser;

const RECIPE: Recipe = Recipe::BIPEDALNET;

#[derive(Parser)]
struct Arguments {
    /// Folder with a manifest.csv.
    #[arg(long)]
    data: PathBuf,
    /// Model file to start from.
    #[arg(long, default_value = "models/bipedalnet-pooled.safetensors")]
    parent: PathBuf,
    /// Passes over the data.
    #[arg(long, default_value = "20")]
    epochs: NonZeroU16,
    #[arg(long, default_value = "2")]
    threads: usize,
    #[arg(long, default_value = "1")]
    seed: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let file = std::fs::read(&arguments.parent)?;
    let people = by_person(read_data(&[arguments.data])?.walks);
    let (_, parameters) = bipedalnet::bnn::decode(&file)?;
    let parent = bipedalnet::bnn::Model::from_bytes(&file)?;
    let before = Network::new(&parent.metadata.architecture, &parameters)?;
    println!("{} people; the parent names {}", people.len(), named(&before, &people)?);
    let walks: Vec<Recording> =
        people.iter().flat_map(|person| person.enrollments.clone()).collect();
    let mut names = 0..;
    let recordings: Vec<Vec<i64>> = people
        .iter()
        .map(|person| names.by_ref().take(person.enrollments.len()).collect())
        .collect();
    let read = move |name: i64| Ok(walks[name as usize].clone());
    let users = Users { recordings: &recordings, read: &read };
    for scope in [Scope::LastLayers, Scope::Whole] {
        let options = RetrainingOptions {
            scope,
            length: Length::Epochs(arguments.epochs),
            seed: arguments.seed,
            memory_bytes: 512 << 20,
        };
        let pool = low_priority_pool(arguments.threads)?;
        let begin = Instant::now();
        let mut samples_per_second = 0.0;
        let observe = |event: Event<'_>| {
            if let Event::Progress(progress) = event {
                samples_per_second = progress.samples_per_second;
            }
            ControlFlow::Continue(())
        };
        let retrained = pool.install(|| retrain(&file, &users, &options, None, observe))?;
        let seconds = begin.elapsed().as_secs_f32();
        let retrained = retrained.ok_or("stopped")?;
        let network = Network::new(&retrained.architecture, &retrained.parameters)?;
        println!(
            "{scope:?}: {seconds:.1} s, {samples_per_second:.0} windows a second, validation {:.4}, epoch {} of {} kept; names {}",
            retrained.validation_accuracy.unwrap_or(f32::NAN),
            retrained.best_epoch,
            retrained.epochs,
            named(&network, &people)?,
        );
    }
    Ok(())
}

/// Windows of the people's unseen walks whose nearest template is their own.
fn named(network: &Network, people: &[Person]) -> Result<String, Box<dyn Error>> {
    let mut scratch = Scratch::default();
    let mut template = |values: &[Vec<i16>]| -> Result<Template, Box<dyn Error>> {
        let mut template = Template::empty(network.feature_len());
        for values in values {
            template.add_window(network.run(values, &mut scratch)?.feature);
        }
        Ok(template)
    };
    let windows = |recording: &Recording| -> Result<Vec<Vec<i16>>, Box<dyn Error>> {
        let cut = cut_windows(recording, &RECIPE, RECIPE.samples / 2)?;
        Ok(cut.windows.into_iter().map(|window| window.values).collect())
    };
    let mut gallery = Vec::new();
    for person in people {
        let mut enrolled = Vec::new();
        for walk in &person.enrollments {
            enrolled.extend(windows(walk)?);
        }
        gallery.push(template(&enrolled)?);
    }
    let (mut right, mut all) = (0, 0);
    for (own, person) in people.iter().enumerate() {
        for window in windows(&person.unseen)? {
            let probe = template(&[window])?;
            let score = |place: &usize| gallery[*place].cosine(&probe);
            let nearest = (0..gallery.len()).max_by(|a, b| score(a).total_cmp(&score(b)));
            right += usize::from(nearest == Some(own));
            all += 1;
        }
    }
    Ok(format!("{right} of {all} windows of 2 s ({:.1} %)", 100.0 * right as f64 / all as f64))
}
