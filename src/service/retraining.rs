//! A retrained network's model file, with what its scores tell.
//!
//! Nobody is left whom a network trained on all users has not seen; training more networks, each
//! without some, is what `train` does and takes too long here. So likelihood ratios are carried over
//! from the parent: the new network's scores of simulated strangers, whom neither network was trained
//! on, are stretched and moved to lie where the parent's lie.

use std::collections::BTreeMap;

use super::calibration::StrangerScores;
use crate::bnn::{self, Metadata, Model, ModelFileError, Network};
use crate::gait::Recipe;
use crate::gait::simulator::{Conditions, Walker};
use crate::identity::LikelihoodRatio;
use crate::training::{Person, Retrained};

/// Simulated strangers: enough comparisons for a spread.
const STRANGERS: u64 = 48;

const STRANGER_SECONDS: f64 = 30.0;

/// Simulated walkers from here on are nobody else's; no network is trained on them.
const STRANGER_SEED: u64 = 0xca11_0000;

/// The model file of a retrained network. Takes about a second of compute.
///
/// # Errors
/// When the network does not fit a model file.
pub fn retrained_model(parent: &Model, retrained: &Retrained) -> Result<Vec<u8>, ModelFileError> {
    let metadata = &parent.metadata;
    let recipe = Recipe::for_input(&metadata.rows, metadata.rate_hz, metadata.architecture.input)
        .expect("a retrained model cuts windows");
    let strangers = strangers();
    let scores = |network: &Network| {
        let mut scores = StrangerScores::default();
        scores.add(network, recipe, &strangers);
        scores
    };
    let network = Network::new(&retrained.architecture, &retrained.parameters)?;
    let (before, after) = (scores(&parent.network), scores(&network));
    let mut metrics = BTreeMap::from([
        ("users".to_owned(), retrained.users as f32),
        ("epochs".to_owned(), retrained.epochs as f32),
        ("best_epoch".to_owned(), retrained.best_epoch as f32),
    ]);
    if let Some(accuracy) = retrained.validation_accuracy {
        metrics.insert("validation_top1".to_owned(), accuracy);
    }
    if let (Some(before), Some(after)) = (before.calibrate(), after.calibrate()) {
        metrics.insert("simulated_strangers_eer".to_owned(), after.eer);
        metrics.insert("simulated_strangers_eer_of_parent".to_owned(), before.eer);
    }
    if let Ok(likelihood) = LikelihoodRatio::from_metrics(&metadata.metrics) {
        metrics.extend(after.carry_over(&likelihood, &before).to_metrics());
    }
    let background = retrained.classes.len() - retrained.users;
    let metadata = Metadata {
        name: metadata.name.clone(),
        architecture: retrained.architecture.clone(),
        rate_hz: metadata.rate_hz,
        rows: metadata.rows.clone(),
        classes: retrained.classes.clone(),
        training_data: format!(
            "{} users, recordings of SHA-256 {}; {background} simulated walkers; from model {}",
            retrained.users,
            retrained.data_sha256,
            parent.id(),
        ),
        seed: retrained.seed,
        metrics,
    };
    bnn::encode(&metadata, &retrained.parameters)
}

fn strangers() -> Vec<Person> {
    let conditions = Conditions { seconds: STRANGER_SECONDS, ..Conditions::default() };
    let people = (0..STRANGERS).map(|number| {
        let walker = Walker::new(STRANGER_SEED + number);
        Person {
            subject: format!("stranger {}", number + 1),
            enrollments: vec![walker.walk(1, &conditions)],
            unseen: walker.walk(2, &conditions),
        }
    });
    people.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_keeps_likelihood_ratios_that_suit_it() {
        let file = include_bytes!("../../models/bipedalnet-pooled.safetensors");
        let parent = Model::from_bytes(file).unwrap();
        let (metadata, parameters) = bnn::decode(file).unwrap();
        // As if nothing had been learned: the same scores tell the same.
        let retrained = Retrained {
            architecture: metadata.architecture.clone(),
            parameters,
            classes: metadata.classes.clone(),
            data_sha256: "0123".to_owned(),
            users: 2,
            seed: 9,
            epochs: 3,
            best_epoch: 2,
            validation_accuracy: None,
        };
        let file = retrained_model(&parent, &retrained).unwrap();
        let model = Model::from_bytes(&file).unwrap();
        let about = &model.metadata;
        assert!(about.training_data.contains(parent.id()) && about.training_data.contains("0123"));
        for (name, before) in metadata.metrics.iter().filter(|(name, _)| name.starts_with("llr_")) {
            let after = about.metrics[name];
            assert!((before - after).abs() < 1e-3 * before.abs(), "{name}: {before}, then {after}");
        }
        assert!(LikelihoodRatio::from_metrics(&about.metrics).is_ok());
        let eer = |name: &str| about.metrics[name];
        assert_eq!(eer("simulated_strangers_eer"), eer("simulated_strangers_eer_of_parent"));
        assert!(eer("simulated_strangers_eer") < 0.1);
    }
}
