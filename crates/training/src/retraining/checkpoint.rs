//! The state of a retraining between two epochs, as bytes.
//!
//! The format is little-endian: a magic number, the version, the fields in their order, and the
//! SHA-256 of all bytes before. A list has its length before it.

use bipedalnet_core::bnn::{LayerParameters, Parameters};
use sha2::{Digest, Sha256};

use crate::network::State;

const MAGIC: &[u8; 8] = b"bpncheck";
const VERSION: u32 = 1;
const DIGEST_BYTES: usize = 32;

/// The state of a retraining after an epoch. A run that resumes from it ends with the same network as
/// one that was never stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Identifies the parent, the data and the options.
    pub(super) job: [u8; DIGEST_BYTES],
    /// Epochs done.
    pub(super) epoch: u32,
    /// All epochs of the job. They set the schedule.
    pub(super) epochs: u32,
    /// Windows drawn so far. Each number has its own random stream.
    pub(super) drawn: u64,
    /// Mean cross-entropy over the last epoch. `None` if nothing is learned by gradients.
    pub(super) loss: Option<f32>,
    pub(super) network: State,
    /// Share of validation windows that were named correctly after the last epoch.
    pub(super) validation_accuracy: Option<f32>,
    pub(super) best: Best,
}

/// The best network so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    pub parameters: Parameters,
    pub epoch: u32,
    pub validation_accuracy: Option<f32>,
}

/// Why bytes are not a checkpoint that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes are something else.
    #[error("this is not a checkpoint of a retraining")]
    Foreign,
    /// Another version of this program wrote it.
    #[error("the checkpoint has format version {0}; this program reads {VERSION}")]
    Version(u32),
    /// The bytes are not those that were written.
    #[error("the checkpoint is incomplete or was altered: its checksum is wrong")]
    Checksum,
    /// The checksum is right, but the content cannot be used.
    #[error("the checkpoint's {0} cannot be used")]
    Content(&'static str),
    /// It belongs to another retraining.
    #[error(
        "the checkpoint belongs to a retraining with another parent, other data or other options"
    )]
    OtherJob,
}

impl Checkpoint {
    /// Epochs done.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// All epochs of the job. A time budget decides their number after the first.
    pub fn epochs(&self) -> u32 {
        self.epochs
    }

    /// Mean cross-entropy over the last epoch. `None` if nothing is learned by gradients.
    pub fn loss(&self) -> Option<f32> {
        self.loss
    }

    /// Share of validation windows that were named correctly after the last epoch. `None` if there are
    /// none.
    pub fn validation_accuracy(&self) -> Option<f32> {
        self.validation_accuracy
    }

    /// Encodes the checkpoint, in about 5 MB.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.job);
        bytes.extend(self.epoch.to_le_bytes());
        bytes.extend(self.epochs.to_le_bytes());
        bytes.extend(self.drawn.to_le_bytes());
        write_figure(&mut bytes, self.loss);
        write_figure(&mut bytes, self.validation_accuracy);
        bytes.extend(self.network.steps.to_le_bytes());
        write_count(&mut bytes, self.network.lists.len());
        self.network.lists.as_flattened().iter().for_each(|list| write_list(&mut bytes, list));
        bytes.extend(self.best.epoch.to_le_bytes());
        write_figure(&mut bytes, self.best.validation_accuracy);
        write_count(&mut bytes, self.best.parameters.layers.len());
        for layer in &self.best.parameters.layers {
            let (kind, lists): (u8, Vec<&Vec<f32>>) = match layer {
                None => (0, Vec::new()),
                Some(LayerParameters::Weights { weights, bias: None }) => (1, vec![weights]),
                Some(LayerParameters::Weights { weights, bias: Some(bias) }) => {
                    (2, vec![weights, bias])
                }
                Some(LayerParameters::BatchNorm { beta, mean, variance }) => {
                    (3, vec![beta, mean, variance])
                }
                Some(LayerParameters::Deflation { centre, directions }) => {
                    (4, vec![centre, directions])
                }
            };
            bytes.push(kind);
            lists.into_iter().for_each(|list| write_list(&mut bytes, list));
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        bytes
    }

    /// Decodes a checkpoint.
    ///
    /// # Errors
    /// If [`Checkpoint::to_bytes`] did not write these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let version = bytes.strip_prefix(MAGIC).ok_or(CheckpointError::Foreign)?;
        let (version, _) = version.split_first_chunk().ok_or(CheckpointError::Checksum)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(CheckpointError::Version(version));
        }
        let (content, digest) =
            bytes.split_last_chunk::<DIGEST_BYTES>().ok_or(CheckpointError::Checksum)?;
        if Sha256::digest(content)[..] != digest[..] {
            return Err(CheckpointError::Checksum);
        }
        let mut reader = Reader(&content[MAGIC.len() + size_of_val(&version)..]);
        let checkpoint = reader.checkpoint().ok_or(CheckpointError::Content("layout"))?;
        if !(1..=checkpoint.epochs).contains(&checkpoint.epoch) {
            return Err(CheckpointError::Content("number of epochs"));
        }
        Ok(checkpoint)
    }
}

fn write_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend((count as u64).to_le_bytes());
}

fn write_list(bytes: &mut Vec<u8>, list: &[f32]) {
    write_count(bytes, list.len());
    bytes.extend(list.iter().flat_map(|value| value.to_le_bytes()));
}

/// Writes NaN for `None`.
fn write_figure(bytes: &mut Vec<u8>, figure: Option<f32>) {
    bytes.extend(figure.unwrap_or(f32::NAN).to_le_bytes());
}

/// The bytes that are left to read. Its methods give `None` if there are too few.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn checkpoint(&mut self) -> Option<Checkpoint> {
        let job = self.array()?;
        let epoch = u32::from_le_bytes(self.array()?);
        let epochs = u32::from_le_bytes(self.array()?);
        let drawn = u64::from_le_bytes(self.array()?);
        let loss = self.figure()?;
        let validation_accuracy = self.figure()?;
        let steps = i32::from_le_bytes(self.array()?);
        let lists = self.many(|reader| Some([reader.list()?, reader.list()?, reader.list()?]))?;
        let best = Best {
            epoch: u32::from_le_bytes(self.array()?),
            validation_accuracy: self.figure()?,
            parameters: Parameters { layers: self.many(Self::layer)? },
        };
        let network = State { lists, steps };
        let checkpoint =
            Checkpoint { job, epoch, epochs, drawn, loss, network, validation_accuracy, best };
        self.0.is_empty().then_some(checkpoint)
    }

    fn layer(&mut self) -> Option<Option<LayerParameters>> {
        let [kind] = self.array()?;
        Some(match kind {
            0 => None,
            1 => Some(LayerParameters::Weights { weights: self.list()?, bias: None }),
            2 => Some(LayerParameters::Weights { weights: self.list()?, bias: Some(self.list()?) }),
            3 => Some(LayerParameters::BatchNorm {
                beta: self.list()?,
                mean: self.list()?,
                variance: self.list()?,
            }),
            4 => {
                Some(LayerParameters::Deflation { centre: self.list()?, directions: self.list()? })
            }
            _ => return None,
        })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn figure(&mut self) -> Option<Option<f32>> {
        let figure = f32::from_le_bytes(self.array()?);
        Some((!figure.is_nan()).then_some(figure))
    }

    /// Each item takes at least one byte, so a wrong count cannot allocate more than there is.
    fn many<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = u64::from_le_bytes(self.array()?);
        (0..count).map(|_| item(self)).collect()
    }

    fn list(&mut self) -> Option<Vec<f32>> {
        let count = usize::try_from(u64::from_le_bytes(self.array()?)).ok()?;
        let (list, rest) = self.0.split_at_checked(count.checked_mul(4)?)?;
        self.0 = rest;
        Some(list.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-1e3f32..1e3, 0..5)
    }

    fn layer() -> impl Strategy<Value = Option<LayerParameters>> {
        prop_oneof![
            Just(None),
            (list(), prop::option::of(list()))
                .prop_map(|(weights, bias)| Some(LayerParameters::Weights { weights, bias })),
            (list(), list()).prop_map(|(centre, directions)| {
                Some(LayerParameters::Deflation { centre, directions })
            }),
            (list(), list(), list()).prop_map(|(beta, mean, variance)| {
                Some(LayerParameters::BatchNorm { beta, mean, variance })
            }),
        ]
    }

    fn checkpoint() -> impl Strategy<Value = Checkpoint> {
        let network = (prop::collection::vec([list(), list(), list()], 0..4), 0..9)
            .prop_map(|(lists, steps)| State { lists, steps });
        let best = (prop::collection::vec(layer(), 0..4), 1u32..9, prop::option::of(0f32..1.0))
            .prop_map(|(layers, epoch, validation_accuracy)| Best {
                parameters: Parameters { layers },
                epoch,
                validation_accuracy,
            });
        (any::<([u8; 32], u64)>(), 1u32..9, 9u32..99, prop::option::of(0f32..9.0), network, best)
            .prop_map(|((job, drawn), epoch, epochs, loss, network, best)| Checkpoint {
                job,
                epoch,
                epochs,
                drawn,
                loss,
                network,
                validation_accuracy: best.validation_accuracy.map(|accuracy| accuracy / 2.0),
                best,
            })
    }

    /// Bytes after which the checksum holds, whatever they say.
    fn sealed(mut content: Vec<u8>) -> Vec<u8> {
        let digest = Sha256::digest(&content);
        content.extend(digest);
        content
    }

    proptest! {
        #[test]
        fn bytes_give_the_checkpoint_back(checkpoint in checkpoint()) {
            prop_assert_eq!(Checkpoint::from_bytes(&checkpoint.to_bytes()), Ok(checkpoint));
        }

        #[test]
        fn damage_is_noticed(
            checkpoint in checkpoint(),
            at in any::<prop::sample::Index>(),
            by in 1u8..,
        ) {
            let mut bytes = checkpoint.to_bytes();
            let at = at.index(bytes.len());
            prop_assert!(Checkpoint::from_bytes(&bytes[..at]).is_err());
            bytes[at] ^= by;
            prop_assert!(Checkpoint::from_bytes(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let content = [MAGIC, &VERSION.to_le_bytes()[..], &bytes].concat();
            prop_assert!(Checkpoint::from_bytes(&bytes).is_err());
            prop_assert!(Checkpoint::from_bytes(&content).is_err());
            prop_assert!(Checkpoint::from_bytes(&sealed(content)).is_err());
        }

        #[test]
        fn a_count_asks_for_no_more_than_there_is(
            checkpoint in checkpoint(),
            at in any::<prop::sample::Index>(),
            count in any::<[u8; 8]>(),
        ) {
            let mut bytes = checkpoint.to_bytes();
            bytes.truncate(bytes.len() - DIGEST_BYTES);
            let at = at.index(bytes.len() - count.len());
            bytes[at..at + count.len()].copy_from_slice(&count);
            // Whatever it is taken for, it neither panics nor allocates what is not there.
            let _ = Checkpoint::from_bytes(&sealed(bytes));
        }
    }

    #[test]
    fn another_version_is_named() {
        let content = [MAGIC, &7u32.to_le_bytes()[..]].concat();
        assert_eq!(Checkpoint::from_bytes(&sealed(content)), Err(CheckpointError::Version(7)));
    }
}
