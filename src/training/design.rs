//! The networks that are trained, each with what suits it: the three of the published table (arXiv
//! 2103.16609), and one of our own.

use std::ops::ControlFlow;

use super::projection::pooled;
use super::{Augmentation, Division, Progress, Schedule, Trained, evaluate, train};
use crate::bnn::{Architecture, NetworkError};
use crate::gait::Recipe;

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// The float network of the published table (arXiv 1606.03238).
    Idnet,
    /// The same with binary weights and signs, and nothing else changed.
    BinarizedIdnet,
    /// The binary network of the published table.
    Bipedalnet,
    /// The binary network that tells strangers apart best.
    Pooled,
}

impl Design {
    /// In the order of the published table.
    pub const PUBLISHED: [Self; 3] = [Self::Idnet, Self::BinarizedIdnet, Self::Bipedalnet];

    /// Those that can serve, the better one first.
    pub const SERVING: [Self; 2] = [Self::Pooled, Self::Bipedalnet];

    /// Name for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idnet => "idnet",
            Self::BinarizedIdnet => "binarized-idnet",
            Self::Bipedalnet => "bipedalnet",
            Self::Pooled => "bipedalnet-pooled",
        }
    }

    /// Published share of windows named correctly, of 38 people of the Padova set.
    pub fn published_top1(self) -> Option<f32> {
        match self {
            Self::Idnet => Some(0.9805),
            Self::BinarizedIdnet => Some(0.4145),
            Self::Bipedalnet => Some(0.9591),
            Self::Pooled => None,
        }
    }

    /// How its windows are cut: two seconds for all.
    pub fn recipe(self) -> Recipe {
        match self {
            Self::Idnet | Self::BinarizedIdnet => Recipe::IDNET,
            Self::Bipedalnet | Self::Pooled => Recipe::BIPEDALNET,
        }
    }

    /// Its layers.
    pub fn architecture(self, classes: usize) -> Architecture {
        match self {
            Self::Idnet => Architecture::idnet(classes),
            Self::BinarizedIdnet => Architecture::binarized_idnet(classes),
            Self::Bipedalnet => Architecture::bipedalnet(Recipe::BIPEDALNET.samples, classes),
            Self::Pooled => Architecture::pooled(Recipe::BIPEDALNET.samples, classes),
        }
    }

    /// Trains it; as [`train`] does, what there is of it where it is stopped early.
    ///
    /// # Errors
    /// When the division's windows are not of its length.
    pub fn train(
        self,
        division: &Division,
        schedule: &Schedule,
        progress: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Option<(Architecture, Trained)>, NetworkError> {
        let classes = division.subjects.len();
        let learned = if self == Self::Pooled { Self::Bipedalnet } else { self };
        let architecture = learned.architecture(classes);
        let Some(trained) = train(&architecture, division, schedule, progress)? else {
            return Ok(None);
        };
        if learned == self {
            return Ok(Some((architecture, trained)));
        }
        let (architecture, parameters) = pooled(&trained.parameters, division)?;
        let validation_accuracy = evaluate(&architecture, &parameters, &division.validation)?.top1;
        Ok(Some((architecture, Trained { parameters, validation_accuracy, ..trained })))
    }

    /// A schedule that suits it.
    pub fn schedule(self, seed: u64) -> Schedule {
        let augmentation =
            Augmentation { without_gyroscope: 0.0, low_rate: 0.0, ..Augmentation::SERVED };
        let schedule = Schedule {
            epochs: 12,
            batch: 64,
            rate: 1e-3,
            averaging: 0.998,
            real_share: 0.0,
            seed,
            augmentation,
            compression: None,
        };
        match self {
            Self::Idnet | Self::BinarizedIdnet => schedule,
            Self::Bipedalnet => Schedule { epochs: 100, real_share: 0.35, rate: 2e-3, ..schedule },
            // Of what is trained two convolutions are kept.
            Self::Pooled => Schedule { epochs: 40, real_share: 0.35, rate: 2e-3, ..schedule },
        }
    }
}
