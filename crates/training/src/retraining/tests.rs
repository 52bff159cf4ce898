use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use bipedalnet_core::bnn::{self, Architecture, LayerParameters, Metadata, Parameters};
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_core::gait::{Recording, Rows};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::epochs::{MOST_EPOCHS, epochs_within};
use super::users::given;
use super::*;
use crate::network::Network;
use crate::trainer::Deflation;

const MEMORY_BYTES: usize = 256 << 20;

/// A small network with random weights.
fn parent() -> Vec<u8> {
    let layers = "binary 8x100 conv8/3x3 pool2x8 bn sign dense16 bn sign dense3";
    let architecture: Architecture = layers.parse().unwrap();
    let network = Network::new(&architecture, &mut Pcg64Mcg::seed_from_u64(1)).unwrap();
    file(architecture, &network.parameters())
}

/// A small network without classes. Its deflation changes nothing.
fn parent_without_classes() -> Vec<u8> {
    let classifier = "binary 8x100 conv8/3x3 pool2x8 bn sign acf1,2,3 norm dense3";
    let classifier: Architecture = classifier.parse().unwrap();
    let network = Network::new(&classifier, &mut Pcg64Mcg::seed_from_u64(1)).unwrap();
    let architecture = "binary 8x100 conv8/3x3 pool2x8 bn sign acf1,2,3 deflate4";
    let architecture: Architecture = architecture.parse().unwrap();
    let last = architecture.layers.len() - 1;
    let length = architecture.shapes().unwrap()[last].len();
    let mut layers = network.parameters().layers[..last].to_vec();
    layers.push(Some(Deflation::none(length, 4).parameters()));
    file(architecture, &Parameters { layers })
}

fn file(architecture: Architecture, parameters: &Parameters) -> Vec<u8> {
    let metadata = Metadata {
        name: "small".to_owned(),
        architecture,
        rate_hz: 50.0,
        rows: Rows::TurnedAxes1.name().to_owned(),
        classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
        training_data: String::new(),
        seed: 1,
        metrics: BTreeMap::new(),
    };
    bnn::encode(&metadata, parameters).unwrap()
}

fn user(person: u64, seconds: &[f64]) -> Vec<Recording> {
    let walk = |(number, &seconds)| {
        let conditions = Conditions { seconds, ..Conditions::default() };
        Walker::new(person).walk(number as u64, &conditions)
    };
    seconds.iter().enumerate().map(walk).collect()
}

fn two_users() -> Vec<Vec<Recording>> {
    vec![user(1, &[20.0, 12.0]), user(2, &[20.0])]
}

fn options(last_layers_only: bool, epochs: u32) -> RetrainingOptions {
    let epochs = u16::try_from(epochs).unwrap();
    let length = Length::Epochs(NonZeroU16::new(epochs).unwrap());
    RetrainingOptions { last_layers_only, length, seed: 3, memory_bytes: MEMORY_BYTES }
}

/// Retrains the network of a file on people's recordings.
fn retrain(
    parent: &[u8],
    people: Vec<Vec<Recording>>,
    options: &RetrainingOptions,
    checkpoint: Option<Checkpoint>,
    observe: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Option<Retrained>, RetrainingError> {
    given(&people, |users| super::retrain(parent, users, options, checkpoint, observe))
}

/// Runs to the end, or stops after some checkpoints and returns the last one as bytes.
fn run(
    users: Vec<Vec<Recording>>,
    options: &RetrainingOptions,
    from: Option<&[u8]>,
    checkpoints: u32,
) -> (Option<Retrained>, Vec<u8>) {
    let from = from.map(|bytes| Checkpoint::from_bytes(bytes).unwrap());
    let mut left = checkpoints;
    let mut last = Vec::new();
    let retrained = retrain(&parent(), users, options, from, |event| {
        let Event::Checkpoint(checkpoint) = event else { return ControlFlow::Continue(()) };
        last = checkpoint.to_bytes();
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (retrained.unwrap(), last)
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[test]
fn a_resumed_run_ends_as_an_undisturbed_one() {
    for (last_layers_only, epochs, threads) in [(false, 4, 2), (true, 2, 1)] {
        let options = options(last_layers_only, epochs);
        let whole = |from: Option<&[u8]>| run(two_users(), &options, from, u32::MAX);
        let (undisturbed, end) = pool(1).install(|| whole(None));
        let (stopped, half) =
            pool(threads).install(|| run(two_users(), &options, None, epochs / 2));
        assert!(stopped.is_none());
        let (resumed, _) = pool(threads).install(|| whole(Some(&half)));
        let undisturbed = undisturbed.unwrap();
        assert!(resumed.as_ref() == Some(&undisturbed), "{last_layers_only}");
        assert!(undisturbed.epochs == epochs && undisturbed.validation_accuracy.is_some());
        // From the end nothing is left to do.
        assert!(whole(Some(&end)).0 == Some(undisturbed));
    }
}

#[test]
fn a_checkpoint_serves_its_own_job_alone() {
    let ours = options(false, 2);
    let (_, bytes) = run(two_users(), &ours, None, 1);
    let others = [
        (vec![user(1, &[40.0])], ours.clone()),
        (two_users(), RetrainingOptions { seed: 4, ..ours.clone() }),
        (two_users(), RetrainingOptions { last_layers_only: true, ..ours.clone() }),
    ];
    for (users, options) in others {
        let checkpoint = Checkpoint::from_bytes(&bytes).unwrap();
        let on = |_: Event<'_>| ControlFlow::Continue(());
        let error = retrain(&parent(), users, &options, Some(checkpoint), on);
        assert!(matches!(error, Err(RetrainingError::Checkpoint(CheckpointError::OtherJob))));
    }
    let damages: [fn(&mut Checkpoint); 3] = [
        |checkpoint| drop(checkpoint.network.lists.pop()),
        |checkpoint| checkpoint.network.lists[0][1][0] = f32::NAN,
        |checkpoint| drop(checkpoint.best.parameters.layers.pop()),
    ];
    for damage in damages {
        let mut checkpoint = Checkpoint::from_bytes(&bytes).unwrap();
        damage(&mut checkpoint);
        let on = |_: Event<'_>| ControlFlow::Continue(());
        let error = retrain(&parent(), two_users(), &ours, Some(checkpoint), on);
        assert!(matches!(error, Err(RetrainingError::Checkpoint(CheckpointError::Content(_)))));
    }
}

#[test]
fn it_stops_wherever_it_is_told_to() {
    let options = options(true, 1);
    let mut events = 0;
    let mut all = |_: Event<'_>| {
        events += 1;
        ControlFlow::Continue(())
    };
    retrain(&parent(), two_users(), &options, None, &mut all).unwrap().unwrap();
    // In preparing, in training, while statistics are averaged, at the checkpoint.
    for stop in [1, 5, events - 6, events] {
        let mut seen = 0;
        let stopped = retrain(&parent(), two_users(), &options, None, |_| {
            seen += 1;
            if seen == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(stopped.unwrap().is_none() && seen == stop, "{stop} of {events}");
    }
}

#[test]
fn the_last_layers_alone_change_where_that_is_asked_for() {
    let (before, parameters) = decode(&parent()).unwrap();
    // Without validation the last epoch is kept, which has changed something.
    let users = vec![user(1, &[20.0]), user(2, &[20.0])];
    let retrained = run(users, &options(true, 4), None, u32::MAX).0.unwrap();
    let dense = 4;
    let same = |layers: std::ops::Range<usize>| {
        retrained.parameters.layers[layers.clone()] == parameters.layers[layers]
    };
    assert!(same(0..dense) && !same(dense..dense + 1));
    let classes = retrained.classes.len();
    assert_eq!((retrained.architecture.classes(), retrained.users), (classes, 2));
    assert_eq!(retrained.classes[1..3], ["user 2", "background 1"].map(str::to_owned));
    let Some(Some(LayerParameters::Weights { weights, .. })) = retrained.parameters.layers.last()
    else {
        panic!("the last layer is dense");
    };
    assert_eq!(weights.len(), classes * 16);
    assert_eq!(before.architecture.layers.len(), retrained.architecture.layers.len());
}

#[test]
fn much_data_of_one_user_does_not_drown_another() {
    let parent = include_bytes!("../../../../models/bipedalnet.safetensors");
    let users = vec![user(1, &[150.0]), user(2, &[15.0, 60.0])];
    let on = |_: Event<'_>| ControlFlow::Continue(());
    let retrained = retrain(parent, users, &options(true, 3), None, on);
    // All that validates is of the user with a tenth of the data, one of 34 to choose from.
    let accuracy = retrained.unwrap().unwrap().validation_accuracy.unwrap();
    assert!(accuracy > 0.25, "{accuracy}");
}

#[test]
fn a_time_budget_sets_the_number_of_epochs_once() {
    let budget = |seconds| RetrainingOptions {
        length: Length::Budget(Duration::from_secs(seconds)),
        ..options(true, 1)
    };
    assert_eq!(run(two_users(), &budget(0), None, u32::MAX).0.unwrap().epochs, 1);
    let long = budget(1_000_000);
    let (_, first) = run(two_users(), &long, None, 1);
    let (_, second) = run(two_users(), &long, Some(&first), 1);
    for (bytes, epoch) in [(first, 1), (second, 2)] {
        let checkpoint = Checkpoint::from_bytes(&bytes).unwrap();
        assert_eq!((checkpoint.epoch(), checkpoint.epochs()), (epoch, MOST_EPOCHS));
    }
    assert_eq!(epochs_within(Duration::from_secs(100), 10.0, 20.0), 4);
}

#[test]
fn a_network_without_classes_is_refitted_in_one_pass() {
    let parent = parent_without_classes();
    let (_, before) = decode(&parent).unwrap();
    let refitted = |options: &RetrainingOptions, checkpoint| {
        let mut events = (0, Vec::new());
        let mut last_step = 0;
        let retrained = retrain(&parent, two_users(), options, checkpoint, |event| {
            match event {
                Event::Progress(progress) if progress.steps > 0 => {
                    assert_eq!((progress.step, progress.epoch), (last_step + 1, 1));
                    last_step = progress.step;
                    assert!(progress.step <= progress.steps && progress.loss.is_none());
                }
                Event::Progress(_) => {}
                Event::Checkpoint(checkpoint) => events = (events.0 + 1, checkpoint.to_bytes()),
            }
            ControlFlow::Continue(())
        });
        (retrained.unwrap().unwrap(), events)
    };
    let options = options(false, 5);
    let (retrained, (checkpoints, end)) = pool(1).install(|| refitted(&options, None));
    assert_eq!(
        (checkpoints, retrained.epochs, retrained.best_epoch, retrained.users),
        (1, 1, 1, 2)
    );
    assert_eq!(retrained.classes, ["a", "b", "c"].map(str::to_owned));
    let accuracy = retrained.validation_accuracy.unwrap();
    assert!((0.0..=1.0).contains(&accuracy));
    // The convolutions stay, and the same walks give the same network.
    let last = before.layers.len() - 1;
    assert!(retrained.parameters.layers[..last] == before.layers[..last]);
    assert!(retrained.parameters.layers[last] != before.layers[last]);
    assert!(pool(2).install(|| refitted(&options, None)).0 == retrained);
    let last_layers = RetrainingOptions { last_layers_only: true, ..options.clone() };
    assert!(refitted(&last_layers, None).0 == retrained);
    // From its end nothing is left to do.
    let checkpoint = Checkpoint::from_bytes(&end).unwrap();
    assert_eq!((checkpoint.epoch(), checkpoint.epochs(), checkpoint.loss()), (1, 1, None));
    let (resumed, (checkpoints, _)) = refitted(&options, Some(checkpoint.clone()));
    assert!(resumed == retrained && checkpoints == 0);
    let mut damaged = checkpoint;
    drop(damaged.best.parameters.layers.pop());
    let on = |_: Event<'_>| ControlFlow::Continue(());
    let error = retrain(&parent, two_users(), &options, Some(damaged), on);
    assert!(matches!(error, Err(RetrainingError::Checkpoint(CheckpointError::Content(_)))));
}

#[test]
fn a_refit_stops_wherever_it_is_told_to() {
    let (parent, options) = (parent_without_classes(), options(false, 1));
    let mut events = 0;
    let mut all = |_: Event<'_>| {
        events += 1;
        ControlFlow::Continue(())
    };
    retrain(&parent, two_users(), &options, None, &mut all).unwrap().unwrap();
    for stop in 1..=events {
        let mut seen = 0;
        let stopped = retrain(&parent, two_users(), &options, None, |_| {
            seen += 1;
            if seen == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(stopped.unwrap().is_none() && seen == stop, "{stop} of {events}");
    }
}

#[test]
fn what_cannot_be_retrained_is_told_at_once() {
    let options = options(false, 1);
    let told = |parent: &[u8], users, options: &RetrainingOptions| {
        let on = |_: Event<'_>| ControlFlow::Continue(());
        retrain(parent, users, options, None, on).unwrap_err().to_string()
    };
    let users = vec![user(1, &[60.0]), user(2, &[2.1])];
    let message = told(&parent(), users, &options);
    assert!(message.contains("and 1 users have too few"), "{message}");
    assert!(told(&parent(), Vec::new(), &options).contains("no users"));
    assert!(told(b"nothing", two_users(), &options).contains("safetensors"));
    let small = RetrainingOptions { memory_bytes: 1 << 20, ..options.clone() };
    assert!(told(&parent(), two_users(), &small).contains("1048576 are allowed"));
    assert!(told(&parent_without_classes(), two_users(), &small).contains("1048576 are allowed"));
}
