//! The model file: a network's parameters and what is known of them, in safetensors form.
//!
//! Binary weights take one bit each (bit `i % 8` of byte `i / 8` is weight `i`, 1 for +1), all
//! else is 32-bit floats. Metadata is strings. The checksum is the SHA-256 of the whole file with
//! its own 64 digits as zeros.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, View};
use sha2::{Digest, Sha256};

use super::{
    Architecture, ArchitectureError, Layer, LayerParameters, Network, NetworkError, Parameters,
    Weights,
};

/// Largest file that is looked at.
pub const MAX_FILE_BYTES: usize = 16 << 20;

const FORMAT_VERSION: &str = "1";
const CHECKSUM_KEY: &str = "sha256";
const CHECKSUM_DIGITS: usize = 64;

/// What is known of a network beside its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Name for people.
    pub name: String,
    /// Layers and input shape.
    pub architecture: Architecture,
    /// Samples a second of a window.
    pub rate_hz: f64,
    /// The way in which the rows of a window are made.
    pub rows: String,
    /// Name of each output.
    pub classes: Vec<String>,
    /// What it was trained on.
    pub training_data: String,
    /// Seed of the training.
    pub seed: u64,
    /// Measured figures by name, such as `top1`.
    pub metrics: BTreeMap<String, f32>,
}

/// A packed network, ready to run, with what is known of it.
#[derive(Debug)]
pub struct Model {
    /// What is known of it.
    pub metadata: Metadata,
    /// The network.
    pub network: Network,
    checksum: String,
}

/// Why bytes are not a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// Too large to be one.
    #[error("the model file has {bytes} bytes; at most {MAX_FILE_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not the container format, or cut short.
    #[error("not a safetensors file, or damaged: {0}")]
    Container(#[from] safetensors::SafeTensorError),
    /// The content is not what was written.
    #[error(
        "the model file's checksum is {actual}, not {recorded} as it says: it was altered; fetch it again"
    )]
    Checksum {
        /// As the file says.
        recorded: String,
        /// Of the file.
        actual: String,
    },
    /// Written by another version of this program.
    #[error("the model file has format version {0}; this program reads {FORMAT_VERSION}")]
    Version(String),
    /// An entry of the metadata is missing or wrong.
    #[error(
        "the model file's metadata entry {key:?} is missing or wrong: is it a model of this program?"
    )]
    Metadata {
        /// The entry.
        key: &'static str,
    },
    /// The layers do not make a network.
    #[error("the model file: {0}")]
    Architecture(#[from] ArchitectureError),
    /// A tensor is missing, superfluous, or of another type or size.
    #[error("the model file's tensor {0:?} is missing, superfluous, or of the wrong type or size")]
    Tensor(String),
    /// The parameters do not make a network that can be run.
    #[error("the model file: {0}")]
    Network(#[from] NetworkError),
}

impl Model {
    /// Reads and packs a model.
    ///
    /// # Errors
    /// On any file that [`encode`] did not write, and on networks with float weights.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelFileError> {
        let (metadata, parameters, checksum) = read(bytes)?;
        let network = Network::new(&metadata.architecture, &parameters)?;
        Ok(Self { metadata, network, checksum })
    }

    /// The first 16 hexadecimal digits of the file's checksum, which name the model.
    pub fn id(&self) -> &str {
        &self.checksum[..16]
    }
}

/// Reads a model's metadata and parameters.
///
/// # Errors
/// On any file that [`encode`] did not write.
pub fn decode(bytes: &[u8]) -> Result<(Metadata, Parameters), ModelFileError> {
    read(bytes).map(|(metadata, parameters, _)| (metadata, parameters))
}

fn read(bytes: &[u8]) -> Result<(Metadata, Parameters, String), ModelFileError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(ModelFileError::TooLarge { bytes: bytes.len() });
    }
    let tensors = SafeTensors::deserialize(bytes)?;
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let empty = HashMap::new();
    let entries = header.metadata().as_ref().unwrap_or(&empty);
    let entry = |key: &'static str| {
        entries.get(key).map(String::as_str).ok_or(ModelFileError::Metadata { key })
    };
    let recorded = entry(CHECKSUM_KEY)?;
    let version = entry("format_version")?;
    let actual = checksum(bytes).ok_or(ModelFileError::Metadata { key: CHECKSUM_KEY })?;
    if recorded != actual {
        return Err(ModelFileError::Checksum { recorded: recorded.to_owned(), actual });
    }
    if version != FORMAT_VERSION {
        return Err(ModelFileError::Version(version.to_owned()));
    }

    let parsed = |key| ModelFileError::Metadata { key };
    let architecture: Architecture = entry("architecture")?.parse()?;
    let classes: Vec<String> =
        serde_json::from_str(entry("classes")?).map_err(|_| parsed("classes"))?;
    if classes.len() != architecture.classes() {
        return Err(parsed("classes"));
    }
    let rate_hz: f64 = entry("rate_hz")?.parse().map_err(|_| parsed("rate_hz"))?;
    if !(rate_hz.is_finite() && rate_hz > 0.0) {
        return Err(parsed("rate_hz"));
    }
    let metadata = Metadata {
        name: entry("name")?.to_owned(),
        rate_hz,
        rows: entry("rows")?.to_owned(),
        classes,
        training_data: entry("training_data")?.to_owned(),
        seed: entry("seed")?.parse().map_err(|_| parsed("seed"))?,
        metrics: serde_json::from_str(entry("metrics")?).map_err(|_| parsed("metrics"))?,
        architecture,
    };
    let parameters = read_parameters(&tensors, &metadata.architecture)?;
    parameters.check(&metadata.architecture)?;
    Ok((metadata, parameters, actual))
}

fn read_parameters(
    tensors: &SafeTensors<'_>,
    architecture: &Architecture,
) -> Result<Parameters, ModelFileError> {
    let mut expected = 0;
    let mut bytes_of = |name: &str, dtype: Dtype, bytes: usize| {
        expected += 1;
        match tensors.tensor(name) {
            Ok(tensor) if tensor.dtype() == dtype && tensor.data().len() == bytes => {
                Ok(tensor.data().to_vec())
            }
            _ => Err(ModelFileError::Tensor(name.to_owned())),
        }
    };
    let shapes = architecture.shapes()?;
    let counts = architecture.weight_counts()?;
    let mut layers = Vec::new();
    for (index, layer) in architecture.layers.iter().enumerate() {
        let channels = shapes[index + 1].channels;
        layers.push(match *layer {
            Layer::Convolution { bias, .. } | Layer::Dense { bias, .. } => {
                let name = format!("{index}.weights");
                let weights = match architecture.weights {
                    Weights::Binary => unpack(
                        &bytes_of(&name, Dtype::U8, counts[index].div_ceil(8))?,
                        counts[index],
                    ),
                    Weights::Float => floats(&bytes_of(&name, Dtype::F32, counts[index] * 4)?),
                };
                let bias = bias
                    .then(|| bytes_of(&format!("{index}.bias"), Dtype::F32, channels * 4))
                    .transpose()?
                    .map(|bytes| floats(&bytes));
                Some(LayerParameters::Weights { weights, bias })
            }
            Layer::BatchNorm => {
                let name = format!("{index}.batch_norm");
                let values = floats(&bytes_of(&name, Dtype::F32, channels * 12)?);
                let (beta, rest) = values.split_at(channels);
                let (mean, variance) = rest.split_at(channels);
                Some(LayerParameters::BatchNorm {
                    beta: beta.to_vec(),
                    mean: mean.to_vec(),
                    variance: variance.to_vec(),
                })
            }
            Layer::MaxPool { .. } | Layer::Sign | Layer::Tanh => None,
        });
    }
    if tensors.len() != expected {
        return Err(ModelFileError::Tensor("(one too many)".to_owned()));
    }
    Ok(Parameters { layers })
}

/// Writes a model file.
///
/// # Errors
/// When parameters or class names do not fit the architecture.
pub fn encode(metadata: &Metadata, parameters: &Parameters) -> Result<Vec<u8>, ModelFileError> {
    let architecture = &metadata.architecture;
    parameters.check(architecture)?;
    if metadata.classes.len() != architecture.classes() {
        return Err(ModelFileError::Metadata { key: "classes" });
    }
    let mut tensors = Vec::new();
    for (index, layer) in parameters.layers.iter().enumerate() {
        match layer {
            Some(LayerParameters::Weights { weights, bias }) => {
                let tensor = match architecture.weights {
                    Weights::Binary => Tensor::bytes(pack(weights)),
                    Weights::Float => Tensor::floats(weights),
                };
                tensors.push((format!("{index}.weights"), tensor));
                if let Some(bias) = bias {
                    tensors.push((format!("{index}.bias"), Tensor::floats(bias)));
                }
            }
            Some(LayerParameters::BatchNorm { beta, mean, variance }) => {
                let tensor = Tensor::floats(&[&beta[..], mean, variance].concat());
                tensors.push((format!("{index}.batch_norm"), tensor));
            }
            None => {}
        }
    }
    let json = |key, result: serde_json::Result<String>| {
        result.map_err(|_| ModelFileError::Metadata { key })
    };
    let entries = HashMap::from([
        ("format_version".to_owned(), FORMAT_VERSION.to_owned()),
        ("name".to_owned(), metadata.name.clone()),
        ("architecture".to_owned(), architecture.to_string()),
        ("rate_hz".to_owned(), metadata.rate_hz.to_string()),
        ("rows".to_owned(), metadata.rows.clone()),
        ("classes".to_owned(), json("classes", serde_json::to_string(&metadata.classes))?),
        ("training_data".to_owned(), metadata.training_data.clone()),
        ("seed".to_owned(), metadata.seed.to_string()),
        ("metrics".to_owned(), json("metrics", serde_json::to_string(&metadata.metrics))?),
        (CHECKSUM_KEY.to_owned(), "0".repeat(CHECKSUM_DIGITS)),
    ]);
    let mut file = safetensors::serialize(tensors, Some(entries))?;
    let digits = checksum(&file).ok_or(ModelFileError::Metadata { key: CHECKSUM_KEY })?;
    let at = checksum_position(&file).ok_or(ModelFileError::Metadata { key: CHECKSUM_KEY })?;
    file[at..at + CHECKSUM_DIGITS].copy_from_slice(digits.as_bytes());
    Ok(file)
}

/// Where the checksum's digits stand in the header.
fn checksum_position(file: &[u8]) -> Option<usize> {
    let key = format!("\"{CHECKSUM_KEY}\":\"");
    let at = file.windows(key.len()).position(|bytes| bytes == key.as_bytes())? + key.len();
    (at + CHECKSUM_DIGITS <= file.len()).then_some(at)
}

fn checksum(file: &[u8]) -> Option<String> {
    let at = checksum_position(file)?;
    let mut hash = Sha256::new();
    hash.update(&file[..at]);
    hash.update([b'0'; CHECKSUM_DIGITS]);
    hash.update(&file[at + CHECKSUM_DIGITS..]);
    Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

struct Tensor {
    dtype: Dtype,
    shape: [usize; 1],
    data: Vec<u8>,
}

impl Tensor {
    fn bytes(data: Vec<u8>) -> Self {
        Self { dtype: Dtype::U8, shape: [data.len()], data }
    }

    fn floats(values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: [values.len()], data }
    }
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

fn pack(weights: &[f32]) -> Vec<u8> {
    weights
        .chunks(8)
        .map(|weights| {
            weights
                .iter()
                .enumerate()
                .fold(0, |byte, (bit, &weight)| byte | u8::from(weight > 0.0) << bit)
        })
        .collect()
}

fn unpack(bytes: &[u8], count: usize) -> Vec<f32> {
    (0..count).map(|at| if bytes[at / 8] >> (at % 8) & 1 == 1 { 1.0 } else { -1.0 }).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect()
}
