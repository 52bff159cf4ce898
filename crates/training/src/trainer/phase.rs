//! Phases of a training: real weights first, then restricted ones.

use std::ops::Range;

use bipedalnet_core::bnn::{Architecture, ArchitectureError, Parameters, Weights};
use rand_pcg::Pcg64Mcg;

use super::epochs::Schedule;
use crate::network::{Compression, Network};

/// Share of the rate for real weights, which need not be pushed to another sign.
const REAL_WEIGHTS_RATE: f32 = 0.5;

/// Scale of the logits of a binary network, which brings these sums of signs near unit variance for
/// the softmax. Their order, which is all that counts after training, does not change.
pub const BINARY_LOGIT_SCALE: f32 = 0.4;

/// Epochs with one kind of weights.
pub struct Phase {
    pub architecture: Architecture,
    pub compression: Option<Compression>,
    pub epochs: Range<usize>,
    pub rate: f32,
    pub logit_scale: f32,
}

impl Phase {
    pub fn first(architecture: &Architecture, schedule: &Schedule) -> Self {
        let real = Self::real_epochs(architecture, schedule);
        if real == 0 {
            return Self::last(architecture, schedule);
        }
        Self {
            architecture: Architecture { weights: Weights::Float, ..architecture.clone() },
            compression: None,
            epochs: 0..real,
            rate: REAL_WEIGHTS_RATE * schedule.rate,
            logit_scale: 1.0,
        }
    }

    pub fn last(architecture: &Architecture, schedule: &Schedule) -> Self {
        let logit_scale = match architecture.weights {
            Weights::Binary => BINARY_LOGIT_SCALE,
            Weights::Float => 1.0,
        };
        Self {
            architecture: architecture.clone(),
            compression: schedule.compression,
            epochs: Self::real_epochs(architecture, schedule)..schedule.epochs,
            rate: schedule.rate,
            logit_scale,
        }
    }

    fn real_epochs(architecture: &Architecture, schedule: &Schedule) -> usize {
        if architecture.weights == Weights::Float && schedule.compression.is_none() {
            return 0;
        }
        (schedule.epochs as f32 * schedule.real_share) as usize
    }
}

/// A network for a phase. Its latent weights are those that the phase before has learned.
pub fn start_from(
    learned: &Parameters,
    phase: &Phase,
    random: &mut Pcg64Mcg,
) -> Result<Network, ArchitectureError> {
    let mut network = Network::new(&phase.architecture, random)?;
    network.import(&learned.layers, 1.0);
    network.compress(phase.compression);
    Ok(network)
}
