//! The network designs: the three of the published table (arXiv 2103.16609), and the open-set
//! network.

use std::ops::ControlFlow;

use bipedalnet_core::bnn::{Architecture, NetworkError};
use bipedalnet_core::gait::Recipe;

use super::accuracy::accuracy;
use super::deflation::with_deflation;
use super::epochs::{Progress, Schedule, Trained, train};
use crate::data::{Augmentation, Division};

/// A network with its layers, its windows and its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// The float network of the published table (arXiv 1606.03238).
    Idnet,
    /// The same with binary weights and signs.
    BinarizedIdnet,
    /// The binary network of the published table.
    Bipedalnet,
    /// The shipped binary network. It recognises strangers best.
    Openset,
}

/// Windows that the open-set network learns from. Four times as many do not improve the recognition
/// of strangers of other data sets.
const OPENSET_WINDOWS: usize = 400_000;

/// Most passes of the open-set network over little data.
const MOST_EPOCHS: usize = 40;

impl Design {
    /// In the order of the published table.
    pub const PUBLISHED: [Self; 3] = [Self::Idnet, Self::BinarizedIdnet, Self::Bipedalnet];

    /// The designs that can serve, the better one first.
    pub const SERVING: [Self; 2] = [Self::Openset, Self::Bipedalnet];

    /// Name for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idnet => "idnet",
            Self::BinarizedIdnet => "binarized-idnet",
            Self::Bipedalnet => "bipedalnet",
            Self::Openset => "bipedalnet-openset",
        }
    }

    /// The published share of windows that are named correctly, among 38 people of the Padova set.
    pub fn published_top1(self) -> Option<f32> {
        match self {
            Self::Idnet => Some(0.9805),
            Self::BinarizedIdnet => Some(0.4145),
            Self::Bipedalnet => Some(0.9591),
            Self::Openset => None,
        }
    }

    /// How its windows of two seconds are cut.
    pub fn recipe(self) -> Recipe {
        match self {
            Self::Idnet | Self::BinarizedIdnet => Recipe::IDNET,
            Self::Bipedalnet => Recipe::BIPEDALNET,
            Self::Openset => Recipe::OPENSET,
        }
    }

    /// Its layers. The open-set network has no classes.
    pub fn architecture(self, classes: usize) -> Architecture {
        match self {
            Self::Idnet => Architecture::idnet(classes),
            Self::BinarizedIdnet => Architecture::binarized_idnet(classes),
            Self::Bipedalnet => Architecture::bipedalnet(Recipe::BIPEDALNET.samples, classes),
            Self::Openset => Architecture::openset(Recipe::OPENSET.samples),
        }
    }

    /// Trains it. If it is stopped, the result is the same as that of [`train`].
    ///
    /// # Errors
    /// If the division's windows have another length.
    pub fn train(
        self,
        division: &Division,
        schedule: &Schedule,
        progress: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Option<(Architecture, Trained)>, NetworkError> {
        let classes = division.subjects.len();
        let learned = match self {
            Self::Openset => Architecture::openset_classifier(division.recipe.samples, classes),
            _ => self.architecture(classes),
        };
        let Some(trained) = train(&learned, division, schedule, progress)? else {
            return Ok(None);
        };
        if self != Self::Openset {
            return Ok(Some((learned, trained)));
        }
        let architecture = Architecture::openset(division.recipe.samples);
        let parameters = with_deflation(&architecture, &trained.parameters, division)?;
        let evaluation = accuracy(&architecture, &parameters, division, &division.validation)?;
        let validation_accuracy = evaluation.top1;
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
            Self::Openset => {
                Schedule { epochs: MOST_EPOCHS, real_share: 0.35, rate: 2e-3, ..schedule }
            }
        }
    }

    /// Passes over this data that suit it. The open-set network learns as much from few passes over
    /// many people as from many passes over few.
    pub fn epochs(self, division: &Division) -> usize {
        match self {
            Self::Openset => {
                OPENSET_WINDOWS.div_ceil(division.windows_per_epoch().max(1)).min(MOST_EPOCHS)
            }
            _ => self.schedule(0).epochs,
        }
    }
}
