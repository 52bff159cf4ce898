//! What templates could be made of, and how they could be compared:
//! `cargo run --release --example features -- --model FILE... --data DIR...`
//! measures strangers by the protocol of `bipedalnet evaluate`, with models of `train --leave-out`.
//! The people whom a model knows are the background that heads are learned from.

use std::collections::BTreeMap;
use std::error::Error;
use std::iter::zip;
use std::path::PathBuf;

use bipedalnet::bnn::{Layer, LayerParameters, Model, Network, Scratch, Shape, decode};
use bipedalnet::gait::{Recipe, Recording, cut_windows};
use bipedalnet::service::evaluation::{Comparisons, Figure, Folder, Known, divide, people, probes};
use bipedalnet::training::{Projection, read_data};
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// Model files, each of which leaves out other people
    #[arg(long, required = true, num_args = 1..)]
    model: Vec<PathBuf>,
    /// Folders with recordings, called as in training
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
}

const SEED: u64 = 1;

type Vector = Vec<f32>;

/// Seconds of the probes, and whether the phones have a gyroscope.
const TRIALS: [(f64, bool); 3] = [(2.0, true), (10.0, true), (10.0, false)];

/// Windows of the pieces that an enrollment is divided into: ten seconds.
const PIECE_WINDOWS: usize = 9;

/// What a window becomes.
#[derive(Clone, Copy)]
enum Feature {
    Units,
    UnitSigns,
    /// What the dense layer reads.
    Flattened,
    /// Of convolutions, the mean over time of each channel's signs in each row.
    Means(&'static [usize]),
}

/// How a probe's vectors and an enrollment's are compared.
enum Score {
    /// Cosine of the sums of unit vectors, as served.
    Sums,
    NearestPair,
    MeanPair,
    NearestPiece,
    /// Less the mean score with the last layer's rows, of the probe and of the template (S-norm).
    LessCohort {
        divided: bool,
    },
}

/// Name, and features with a head or without: scores of several are added.
type Row = (&'static str, &'static [(Feature, bool)], Score);

const UNITS: &[(Feature, bool)] = &[(Feature::Units, false)];

const ROWS: [Row; 13] = [
    ("32 units, as served", UNITS, Score::Sums),
    ("their signs", &[(Feature::UnitSigns, false)], Score::Sums),
    ("32 units, nearest pair of windows", UNITS, Score::NearestPair),
    ("32 units, mean of all pairs", UNITS, Score::MeanPair),
    ("32 units, nearest of a template for each 10 s", UNITS, Score::NearestPiece),
    ("32 units, less the cohort's mean (S-norm)", UNITS, Score::LessCohort { divided: false }),
    ("32 units, and divided by its deviation", UNITS, Score::LessCohort { divided: true }),
    ("32 units, head", &[(Feature::Units, true)], Score::Sums),
    ("flattened layer", &[(Feature::Flattened, false)], Score::Sums),
    ("first convolution's means, head", &[(Feature::Means(&[0]), true)], Score::Sums),
    ("second convolution's, head", &[(Feature::Means(&[1]), true)], Score::Sums),
    ("first and second's, head", &[(Feature::Means(&[0, 1]), true)], Score::Sums),
    ("second's, head, and 32 units", &[(Feature::Means(&[1]), true), UNITS[0]], Score::Sums),
];

/// Of each trial, scores with whose probe and whose template they are of.
type Scored = [Vec<(f32, [usize; 2])>; TRIALS.len()];

/// Windows of a recording.
type Windows = Vec<Vec<i16>>;

struct Stranger {
    position: usize,
    folder: usize,
    trials: [Trial; TRIALS.len()],
}

struct Trial {
    enrollment: Windows,
    probes: Vec<Windows>,
}

/// A model with the people whom it does not know, and windows of those whom it knows.
struct Fold {
    network: Network,
    /// Of each convolution, how many layers with weights follow the one that reads its signs, and
    /// these.
    convolutions: Vec<(usize, Shape)>,
    /// The last layer's rows, scaled to length 1.
    cohort: Vec<Vector>,
    strangers: Vec<Stranger>,
    background: Vec<Windows>,
}

impl Fold {
    fn new(
        path: &PathBuf,
        folders: &[Folder],
        positions: &mut BTreeMap<usize, usize>,
    ) -> Result<Self, Box<dyn Error>> {
        let bytes = std::fs::read(path)?;
        let network = Model::from_bytes(&bytes)?.network;
        let (metadata, parameters) = decode(&bytes)?;
        let Some(Some(LayerParameters::Weights { weights, .. })) = parameters.layers.last() else {
            return Err("the last layer has no weights".into());
        };
        let cohort = weights.chunks(network.feature_len()).map(unit).collect();
        let shapes = metadata.architecture.shapes()?;
        let counts = metadata.architecture.weight_counts()?;
        let layers = metadata.architecture.layers.iter().enumerate();
        let signs = layers.filter(|(_, layer)| **layer == Layer::Sign);
        let convolutions = signs.map(|(index, _)| {
            let readers = counts[index..].iter().filter(|count| **count > 0).count();
            (readers - 1, shapes[index + 1])
        });
        let convolutions = convolutions.collect();

        let recipe =
            Recipe::for_input(&metadata.rows, metadata.rate_hz, metadata.architecture.input)
                .ok_or("the model reads windows that cannot be cut here")?;
        let known = Known::to(&metadata);
        let (mut strangers, mut background) = (Vec::new(), Vec::new());
        for (number, person) in people(folders).iter().enumerate() {
            if known.class(person).is_some() {
                let walks = person.walks.iter().map(|walk| &walk.recording);
                let kinds = walks.flat_map(|walk| [true, false].map(|kind| (walk, kind)));
                let cut: Windows =
                    kinds.flat_map(|(walk, kind)| windows(walk, kind, &recipe)).collect();
                background.extend((!cut.is_empty()).then_some(cut));
            } else if let Some(divided) = divide(person, &recipe) {
                let next = positions.len();
                let position = *positions.entry(number).or_insert(next);
                let trials = TRIALS.map(|(seconds, gyroscope)| {
                    let cut = |walk: &Recording| windows(walk, gyroscope, &recipe);
                    let later = divided.later.iter().flat_map(|walk| probes(walk, seconds));
                    Trial {
                        enrollment: divided.enrollment.iter().flat_map(cut).collect(),
                        probes: later
                            .map(|probe| cut(&probe))
                            .filter(|it| !it.is_empty())
                            .collect(),
                    }
                });
                strangers.push(Stranger { position, folder: person.folder, trials });
            }
        }
        if background.is_empty() {
            return Err(format!("{} knows nobody of the data", path.display()).into());
        }
        Ok(Self { network, convolutions, cohort, strangers, background })
    }

    fn vectors(&self, feature: &Feature, windows: &Windows, scratch: &mut Scratch) -> Vec<Vector> {
        const CUT: &str = "cut for this network";
        let sign = |value: &f32| if *value >= 0.0 { 1.0 } else { -1.0 };
        let mut vector = |window: &Vec<i16>| {
            let mut signs_after = |(layers_after, _): &(usize, Shape)| -> Vector {
                let mut signs = Vec::new();
                self.network.run_showing(window, *layers_after, &mut signs, scratch).expect(CUT);
                signs
            };
            match feature {
                Feature::Units => self.network.run(window, scratch).expect(CUT).feature.to_vec(),
                Feature::UnitSigns => {
                    let units = self.network.run(window, scratch).expect(CUT).feature;
                    units.iter().map(sign).collect()
                }
                Feature::Flattened => {
                    signs_after(self.convolutions.last().expect("there is a convolution"))
                }
                Feature::Means(convolutions) => {
                    let mut means = Vec::new();
                    for convolution in convolutions.iter().map(|&index| &self.convolutions[index]) {
                        let Shape { samples, channels, .. } = convolution.1;
                        for row in signs_after(convolution).chunks(samples * channels) {
                            let signs: Vec<Vector> =
                                row.chunks(channels).map(<[f32]>::to_vec).collect();
                            means.extend(sum(&signs).iter().map(|sum| sum / samples as f32));
                        }
                    }
                    means
                }
            }
        };
        windows.iter().map(&mut vector).collect()
    }

    /// Of each probe with the templates of its own data set.
    fn scores(&self, (_, features, score): &Row) -> Scored {
        let mut all: Scored = Default::default();
        for (feature, has_head) in *features {
            let mut scratch = Scratch::default();
            let mut plain = |windows: &Windows| self.vectors(feature, windows, &mut scratch);
            let mut background = || -> Vec<Vec<Vec<f64>>> {
                let people = self.background.iter().map(&mut plain);
                people.map(|vectors| vectors.iter().map(|it| exact(it)).collect()).collect()
            };
            let head = has_head.then(|| Projection::fit(&background()));
            let mut vectors = |windows: &Windows| -> Vec<Vector> {
                let headed = plain(windows).into_iter().map(|vector| match &head {
                    Some(head) => {
                        head.apply(&exact(&vector)).into_iter().map(|value| value as f32).collect()
                    }
                    None => vector,
                });
                headed.map(|vector| unit(&vector)).collect()
            };
            for (trial, all) in all.iter_mut().enumerate() {
                let enrolled: Vec<Vec<Vector>> =
                    self.strangers.iter().map(|it| vectors(&it.trials[trial].enrollment)).collect();
                let mut scores = Vec::new();
                for owner in &self.strangers {
                    for probe in owner.trials[trial].probes.iter().map(&mut vectors) {
                        let others = zip(&self.strangers, &enrolled);
                        for (other, enrolled) in others.filter(|it| it.0.folder == owner.folder) {
                            let score = score.of(&probe, enrolled, &self.cohort);
                            scores.push((score, [owner.position, other.position]));
                        }
                    }
                }
                if all.is_empty() {
                    *all = scores;
                } else {
                    zip(all, scores).for_each(|(sum, score)| sum.0 += score.0);
                }
            }
        }
        all
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    zip(a, b).map(|(a, b)| a * b).sum()
}

fn sum(vectors: &[Vector]) -> Vector {
    let mut sums = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        zip(&mut sums, vector).for_each(|(sum, value)| *sum += value);
    }
    sums
}

fn unit(vector: &[f32]) -> Vector {
    let length = dot(vector, vector).sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|value| value / length).collect()
}

fn exact(vector: &[f32]) -> Vec<f64> {
    vector.iter().copied().map(f64::from).collect()
}

fn windows(walk: &Recording, gyroscope: bool, recipe: &Recipe) -> Windows {
    let walk = if gyroscope { walk.clone() } else { walk.clone().without_angular_rate() };
    let cut = cut_windows(&walk, recipe, recipe.samples / 2)
        .map_or_else(|_| Vec::new(), |cut| cut.windows);
    cut.into_iter().map(|window| window.values).collect()
}

impl Score {
    fn of(&self, probe: &[Vector], enrolled: &[Vector], cohort: &[Vector]) -> f32 {
        let [walk, template] = [probe, enrolled].map(|vectors| unit(&sum(vectors)));
        let cosine = dot(&walk, &template);
        let pairs = || probe.iter().flat_map(|a| enrolled.iter().map(|b| dot(a, b)));
        match self {
            Self::Sums => cosine,
            Self::NearestPair => pairs().fold(-1.0, f32::max),
            Self::MeanPair => pairs().sum::<f32>() / (probe.len() * enrolled.len()) as f32,
            Self::NearestPiece => {
                let pieces = enrolled.chunks(PIECE_WINDOWS).map(|piece| unit(&sum(piece)));
                pieces.map(|piece| dot(&walk, &piece)).fold(-1.0, f32::max)
            }
            Self::LessCohort { divided } => {
                let normalised = [&walk, &template].map(|direction| {
                    let scores = || cohort.iter().map(|row| dot(direction, row));
                    let mean = scores().sum::<f32>() / cohort.len() as f32;
                    let squares = scores().map(|score| (score - mean).powi(2)).sum::<f32>();
                    let deviation = (squares / cohort.len() as f32).sqrt();
                    (cosine - mean) / if *divided { deviation } else { 1.0 }
                });
                normalised.iter().sum()
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut folders = Vec::new();
    for path in &arguments.data {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        folders.push(Folder { name, walks: read_data(std::slice::from_ref(path))?.walks });
    }
    let mut positions = BTreeMap::new();
    let folds = arguments.model.iter().map(|path| Fold::new(path, &folders, &mut positions));
    let folds: Vec<Fold> = folds.collect::<Result<_, _>>()?;

    println!(
        "| template of | 2 s: EER | FNMR at FMR 1 % | 10 s: EER | FNMR at FMR 1 % | more than served | at 0.1 % | with and without gyroscope |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    let mut served = None;
    for row in &ROWS {
        let mut trials: Scored = Default::default();
        for fold in &folds {
            zip(&mut trials, fold.scores(row)).for_each(|(all, scores)| all.extend(scores));
        }
        let [two, ten, without] = trials;
        let of = |scores: Vec<_>| Comparisons::new(positions.len(), scores);
        let both = of([&ten[..], &without].concat());
        let [two, ten] = [of(two), of(ten)];
        let rates = |of: &Comparisons| of.rates(SEED).ok_or("no two strangers can be compared");
        let [eer_of_two, _, fnmr_of_two, _] = rates(&two)?.map(percent);
        let [eer, _, fnmr, strict] = rates(&ten)?.map(percent);
        let [_, _, fnmr_of_both, _] = rates(&both)?.map(percent);
        let above = served.as_ref().and_then(|served| ten.rates_above(served, SEED));
        let more = above.map_or_else(String::new, |[_, _, fnmr, _]| percent(fnmr));
        served.get_or_insert(ten);
        println!(
            "| {} | {eer_of_two} | {fnmr_of_two} | {eer} | {fnmr} | {more} | {strict} | {fnmr_of_both} |",
            row.0
        );
    }
    Ok(())
}

fn percent(Figure { value, low, high }: Figure) -> String {
    let [value, low, high] = [value, low, high].map(|rate| format!("{:.1}", rate * 100.0));
    format!("{value} ({low} to {high})")
}
