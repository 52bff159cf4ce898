//! The model file of a retrained network, with its calibration.
//!
//! A network that was trained on all users has no strangers left to calibrate it. `train` trains more
//! networks, each without some people, which takes too long here. So the parent's calibration is
//! carried over. Thresholds stay, since the gallery normalises strengths. The prior of similarities
//! moves as the similarities of simulated strangers do: neither network was trained on these.

use std::collections::BTreeMap;

use bipedalnet_core::bnn::{self, Metadata, Model, ModelFileError, Network};
use bipedalnet_core::gait::Recipe;
use bipedalnet_core::gait::simulator::{Conditions, Walker};
use bipedalnet_core::identity::Calibration;

use super::Retrained;
use crate::data::SubjectRecording;
use crate::evaluation::HeldOutSubjects;

/// Simulated strangers. They give enough comparisons for a spread.
const STRANGERS: u64 = 48;

const STRANGER_SECONDS: f64 = 56.0;

/// First seed of the simulated strangers. No network is trained on walkers from here on.
const STRANGER_SEED: u64 = 0xca11_0000;

/// Makes the model file of a retrained network. It takes about a second of compute.
///
/// # Errors
/// If the network does not fit a model file.
pub fn retrained_model(parent: &Model, retrained: &Retrained) -> Result<Vec<u8>, ModelFileError> {
    let metadata = &parent.metadata;
    let recipe = Recipe::for_input(&metadata.rows, metadata.rate_hz, metadata.architecture.input)
        .expect("a retrained model cuts windows");
    let walks = strangers();
    let network = Network::new(&retrained.architecture, &retrained.parameters)?;
    let [before, after] =
        [&parent.network, &network].map(|network| HeldOutSubjects::new(network, recipe, &walks));
    let mut metrics = BTreeMap::from([
        ("users".to_owned(), retrained.users as f32),
        ("epochs".to_owned(), retrained.epochs as f32),
        ("best_epoch".to_owned(), retrained.best_epoch as f32),
    ]);
    if let Some(accuracy) = retrained.validation_accuracy {
        metrics.insert("validation_top1".to_owned(), accuracy);
    }
    if let Ok(calibration) = Calibration::from_metrics(&metadata.metrics) {
        let mut carried = calibration.clone();
        if let (Some(before), Some(after)) = (before, after) {
            carried = after.carry_over(&calibration, &before);
            metrics.insert("simulated_strangers_eer".to_owned(), after.eer(&carried));
            let of_parent = before.eer(&calibration);
            metrics.insert("simulated_strangers_eer_of_parent".to_owned(), of_parent);
        }
        metrics.extend(carried.to_metrics());
    }
    let Retrained { users, data_sha256, .. } = retrained;
    let training_data = match retrained.architecture.classes() {
        // The network still knows the people of its first training.
        0 => format!(
            "{}; refitted to {users} users, recordings of SHA-256 {data_sha256}; from model {}",
            metadata.training_data,
            parent.id()
        ),
        classes => format!(
            "{users} users, recordings of SHA-256 {data_sha256}; {} simulated walkers; from model {}",
            classes - users,
            parent.id()
        ),
    };
    let metadata = Metadata {
        name: metadata.name.clone(),
        architecture: retrained.architecture.clone(),
        rate_hz: metadata.rate_hz,
        rows: metadata.rows.clone(),
        classes: retrained.classes.clone(),
        training_data,
        seed: retrained.seed,
        metrics,
    };
    bnn::encode(&metadata, &retrained.parameters)
}

fn strangers() -> Vec<SubjectRecording> {
    let conditions = Conditions { seconds: STRANGER_SECONDS, ..Conditions::default() };
    let walk = |number| SubjectRecording {
        subject: format!("stranger {}", number + 1),
        session: "1".to_owned(),
        recording: Walker::new(STRANGER_SEED + number).walk(1, &conditions),
    };
    (0..STRANGERS).map(walk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_keeps_the_calibration_of_its_parent() {
        let file = include_bytes!("../../../../models/bipedalnet-openset.safetensors");
        let parent = Model::from_bytes(file).unwrap();
        let (metadata, parameters) = bnn::decode(file).unwrap();
        // As if nothing had been learned, so scores keep their meaning.
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
        let [before, after] = [&metadata, about]
            .map(|metadata| Calibration::from_metrics(&metadata.metrics).unwrap().to_metrics());
        for (name, before) in before {
            let after = after[&name];
            assert!(
                (before - after).abs() <= 1e-3 * before.abs(),
                "{name}: {before}, then {after}"
            );
        }
        let eer = |name: &str| about.metrics[name];
        assert_eq!(eer("simulated_strangers_eer"), eer("simulated_strangers_eer_of_parent"));
        assert!(eer("simulated_strangers_eer") < 0.1);
    }
}
