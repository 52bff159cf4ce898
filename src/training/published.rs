//! The three networks of the published table (arXiv 2103.16609).

use super::{Augmentation, Schedule};
use crate::bnn::Architecture;
use crate::gait::Recipe;

/// A network of the published table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The float network (arXiv 1606.03238).
    Idnet,
    /// The same with binary weights and signs, and nothing else changed.
    BinarizedIdnet,
    /// The binary network that this project serves.
    Bipedalnet,
}

impl Published {
    /// In the order of the table.
    pub const ALL: [Self; 3] = [Self::Idnet, Self::BinarizedIdnet, Self::Bipedalnet];

    /// Name for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idnet => "idnet",
            Self::BinarizedIdnet => "binarized-idnet",
            Self::Bipedalnet => "bipedalnet",
        }
    }

    /// Published share of windows named correctly, of 38 people of the Padova set.
    pub fn published_top1(self) -> f32 {
        match self {
            Self::Idnet => 0.9805,
            Self::BinarizedIdnet => 0.4145,
            Self::Bipedalnet => 0.9591,
        }
    }

    /// How its windows are cut: two seconds for all.
    pub fn recipe(self) -> Recipe {
        match self {
            Self::Idnet | Self::BinarizedIdnet => Recipe::IDNET,
            Self::Bipedalnet => Recipe::BIPEDALNET,
        }
    }

    /// Its layers.
    pub fn architecture(self, classes: usize) -> Architecture {
        match self {
            Self::Idnet => Architecture::idnet(classes),
            Self::BinarizedIdnet => Architecture::binarized_idnet(classes),
            Self::Bipedalnet => Architecture::bipedalnet(Recipe::BIPEDALNET.samples, classes),
        }
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
        }
    }
}
