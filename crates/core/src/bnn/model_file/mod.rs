//! The model file: a network's parameters and what is known of them, in safetensors form.
//!
//! Binary weights take one bit each (bit `i % 8` of byte `i / 8` is weight `i`, 1 for +1). Those of a
//! projection and a deflation take eight: for each unit or direction, steps of two to the power of
//! its exponent. All else is 32-bit floats. Metadata is strings. The checksum is the SHA-256 of the whole file with
//! its own 64 digits as zeros.

use std::collections::BTreeMap;
use std::str::FromStr;

use safetensors::tensor::{Dtype, Metadata as Header, TensorInfo};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Architecture, ArchitectureError, Layer, LayerParameters, Network, NetworkError, Parameters,
    Weights, int8_step,
};

/// Largest file that is looked at: three times the float network.
pub const MAX_FILE_BYTES: usize = 4 << 20;

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
    /// Name of each output or, if the network has none, of each person that it was trained on.
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
    /// Cut short, continued, or not the container format.
    #[error(
        "the model file has {bytes} bytes where its header asks for {needed}: it is cut short, or not a safetensors file"
    )]
    Length {
        /// Its size.
        bytes: usize,
        /// The size that it tells of.
        needed: u64,
    },
    /// Not the container format.
    #[error("the model file has no safetensors header: {0}")]
    Header(#[source] serde_json::Error),
    /// Not in the form in which this format is written.
    #[error("the model file's header repeats itself or is not in compact form")]
    Form,
    /// Another program's file.
    #[error("a safetensors file, but not a model of this program: its metadata has no {0:?}")]
    Foreign(&'static str),
    /// Written by another version of this program.
    #[error("the model file has format version {0:?}; this program reads {FORMAT_VERSION:?}")]
    Version(String),
    /// The content is not what was written.
    #[error(
        "the model file's checksum is {actual}, not {recorded:?} as it says: it was altered; fetch it again"
    )]
    Checksum {
        /// As the file says.
        recorded: String,
        /// Of the file.
        actual: String,
    },
    /// A value of the metadata cannot be used.
    #[error("the model file's {key} is {value:?}; it must be {needed}")]
    Metadata {
        /// Which value.
        key: &'static str,
        /// What is there, its beginning if it is long.
        value: String,
        /// What is needed.
        needed: &'static str,
    },
    /// Every output needs a name.
    #[error("the model file names {names} classes; its network has {classes}")]
    ClassCount {
        /// Names.
        names: usize,
        /// Outputs of the network.
        classes: usize,
    },
    /// The layers do not make a network.
    #[error("the model file: {0}")]
    Architecture(#[from] ArchitectureError),
    /// A tensor is missing or is not what the architecture asks for.
    #[error("the model file's tensor {name:?} is {found}; it must be {needed}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is there.
        found: String,
        /// What is needed.
        needed: String,
    },
    /// A tensor that the architecture does not ask for.
    #[error("the model file's tensor {0:?} belongs to no layer")]
    ExtraTensor(String),
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
    // Not left to `SafeTensors::deserialize`, whose sum of sizes can overflow.
    let length = |needed| ModelFileError::Length { bytes: bytes.len(), needed };
    let (prefix, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| length(8))?;
    let header_bytes = u64::from_le_bytes(*prefix);
    if header_bytes > rest.len() as u64 {
        return Err(length(header_bytes.saturating_add(8)));
    }
    let (json, data) = rest.split_at(header_bytes as usize);
    let header: Header = serde_json::from_slice(json).map_err(ModelFileError::Header)?;
    if header.data_len() != data.len() {
        return Err(length((header.data_len() as u64).saturating_add(8 + header_bytes)));
    }
    // Repeated keys are lost in reading, so a header that has them is longer than its meaning.
    let compact = serde_json::to_vec(&header).map_err(ModelFileError::Header)?;
    if compact.len() != json.trim_ascii_end().len() {
        return Err(ModelFileError::Form);
    }

    let entries = header.metadata().as_ref().ok_or(ModelFileError::Foreign("format_version"))?;
    let entry = |key| entries.get(key).map(String::as_str).ok_or(ModelFileError::Foreign(key));
    let version = entry("format_version")?;
    if version != FORMAT_VERSION {
        return Err(ModelFileError::Version(excerpt(version)));
    }
    let recorded = entry(CHECKSUM_KEY)?;
    let actual = checksum(bytes).ok_or(ModelFileError::Foreign(CHECKSUM_KEY))?;
    if recorded != actual {
        return Err(ModelFileError::Checksum { recorded: excerpt(recorded), actual });
    }

    let metadata = Metadata {
        name: entry("name")?.to_owned(),
        architecture: entry("architecture")?.parse()?,
        rate_hz: parsed("rate_hz", entry("rate_hz")?, "a number")?,
        rows: entry("rows")?.to_owned(),
        classes: json_of("classes", entry("classes")?, "a JSON array of names")?,
        training_data: entry("training_data")?.to_owned(),
        seed: parsed("seed", entry("seed")?, "a whole number")?,
        metrics: json_of("metrics", entry("metrics")?, "a JSON object of numbers")?,
    };
    metadata.check()?;
    let parameters = read_parameters(&header, data, &metadata.architecture)?;
    parameters.check(&metadata.architecture)?;
    Ok((metadata, parameters, actual))
}

fn parsed<T: FromStr>(
    key: &'static str,
    value: &str,
    needed: &'static str,
) -> Result<T, ModelFileError> {
    value.parse().map_err(|_| unusable(key, value, needed))
}

fn json_of<T: serde::de::DeserializeOwned>(
    key: &'static str,
    value: &str,
    needed: &'static str,
) -> Result<T, ModelFileError> {
    serde_json::from_str(value).map_err(|_| unusable(key, value, needed))
}

fn unusable(key: &'static str, value: &str, needed: &'static str) -> ModelFileError {
    ModelFileError::Metadata { key, value: excerpt(value), needed }
}

fn excerpt(value: &str) -> String {
    value.chars().take(80).collect()
}

impl Metadata {
    fn check(&self) -> Result<(), ModelFileError> {
        let (names, classes) = (self.classes.len(), self.architecture.classes());
        if classes > 0 && names != classes {
            return Err(ModelFileError::ClassCount { names, classes });
        }
        if !(self.rate_hz.is_finite() && self.rate_hz > 0.0) {
            return Err(unusable("rate_hz", &self.rate_hz.to_string(), "finite and above zero"));
        }
        if let Some((name, value)) = self.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(unusable("metrics", &format!("{name}: {value}"), "finite"));
        }
        Ok(())
    }
}

fn read_parameters(
    header: &Header,
    data: &[u8],
    architecture: &Architecture,
) -> Result<Parameters, ModelFileError> {
    let mut known = Vec::new();
    let mut tensor = |name: String, dtype: Dtype, length: usize| {
        let error = |found: String| ModelFileError::Tensor {
            name: name.clone(),
            found,
            needed: format!("{dtype} [{length}]"),
        };
        let info = header.info(&name).ok_or_else(|| error("missing".to_owned()))?;
        let (start, end) = info.data_offsets;
        let bytes = data
            .get(start..end)
            .filter(|_| info.dtype == dtype && info.shape == [length])
            .ok_or_else(|| error(excerpt(&format!("{} {:?}", info.dtype, info.shape))))?;
        known.push(name.clone());
        Ok::<_, ModelFileError>((name, bytes))
    };
    let shapes = architecture.shapes()?;
    let counts = architecture.weight_counts()?;
    let mut layers = Vec::new();
    for (index, layer) in architecture.layers.iter().enumerate() {
        let channels = shapes[index + 1].channels;
        layers.push(match *layer {
            Layer::Convolution { bias, .. } | Layer::Dense { bias, .. } => {
                let (name, count) = (format!("{index}.weights"), counts[index]);
                let weights = match architecture.weights {
                    Weights::Binary => {
                        let (name, bytes) = tensor(name, Dtype::U8, count.div_ceil(8))?;
                        unpack(bytes, count).ok_or_else(|| ModelFileError::Tensor {
                            name,
                            found: "not zero after its last weight".to_owned(),
                            needed: format!("{count} bits, then zeros"),
                        })?
                    }
                    Weights::Float => floats(tensor(name, Dtype::F32, count)?.1),
                };
                let bias = if bias {
                    Some(floats(tensor(format!("{index}.bias"), Dtype::F32, channels)?.1))
                } else {
                    None
                };
                Some(LayerParameters::Weights { weights, bias })
            }
            Layer::Projection { units } => {
                let values = tensor(format!("{index}.weights"), Dtype::I8, counts[index])?.1;
                let exponents = tensor(format!("{index}.exponents"), Dtype::I8, units)?.1;
                let weights = unpack_int8(values, exponents);
                let bias = floats(tensor(format!("{index}.bias"), Dtype::F32, channels)?.1);
                Some(LayerParameters::Weights { weights, bias: Some(bias) })
            }
            Layer::BatchNorm => {
                let name = format!("{index}.batch_norm");
                let values = floats(tensor(name, Dtype::F32, 3 * channels)?.1);
                let (beta, rest) = values.split_at(channels);
                let (mean, variance) = rest.split_at(channels);
                Some(LayerParameters::BatchNorm {
                    beta: beta.to_vec(),
                    mean: mean.to_vec(),
                    variance: variance.to_vec(),
                })
            }
            Layer::Deflation { directions } => {
                let values = tensor(format!("{index}.directions"), Dtype::I8, counts[index])?.1;
                let exponents = tensor(format!("{index}.exponents"), Dtype::I8, directions)?.1;
                let directions = unpack_int8(values, exponents);
                let centre = floats(tensor(format!("{index}.centre"), Dtype::F32, channels)?.1);
                Some(LayerParameters::Deflation { centre, directions })
            }
            Layer::MaxPool { .. }
            | Layer::Sign
            | Layer::Tanh
            | Layer::Mean
            | Layer::Autocorrelation { .. }
            | Layer::Normalise => None,
        });
    }
    match header.tensors().into_keys().filter(|name| !known.contains(name)).min() {
        Some(extra) => Err(ModelFileError::ExtraTensor(excerpt(&extra))),
        None => Ok(Parameters { layers }),
    }
}

/// Writes a model file; the same model always gives the same bytes.
///
/// # Errors
/// When parameters or class names do not fit the architecture, or a figure is not finite.
pub fn encode(metadata: &Metadata, parameters: &Parameters) -> Result<Vec<u8>, ModelFileError> {
    #[derive(Serialize)]
    struct FileHeader {
        __metadata__: BTreeMap<&'static str, String>,
        #[serde(flatten)]
        tensors: BTreeMap<String, TensorInfo>,
    }

    let architecture = &metadata.architecture;
    parameters.check(architecture)?;
    metadata.check()?;
    let mut tensors = Vec::new();
    for (index, layer) in parameters.layers.iter().enumerate() {
        match layer {
            Some(LayerParameters::Weights { weights, bias }) => {
                let name = format!("{index}.weights");
                match (architecture.layers[index], architecture.weights) {
                    (Layer::Projection { units }, _) => {
                        let (values, exponents) = pack_int8(weights, units);
                        tensors.push((name, Dtype::I8, values));
                        tensors.push((format!("{index}.exponents"), Dtype::I8, exponents));
                    }
                    (_, Weights::Binary) => tensors.push((name, Dtype::U8, pack(weights))),
                    (_, Weights::Float) => tensors.push((name, Dtype::F32, le_bytes(weights))),
                }
                if let Some(bias) = bias {
                    tensors.push((format!("{index}.bias"), Dtype::F32, le_bytes(bias)));
                }
            }
            Some(LayerParameters::BatchNorm { beta, mean, variance }) => {
                let values = le_bytes(&[&beta[..], mean, variance].concat());
                tensors.push((format!("{index}.batch_norm"), Dtype::F32, values));
            }
            Some(LayerParameters::Deflation { centre, directions }) => {
                let (values, exponents) = pack_int8(directions, directions.len() / centre.len());
                tensors.push((format!("{index}.directions"), Dtype::I8, values));
                tensors.push((format!("{index}.exponents"), Dtype::I8, exponents));
                tensors.push((format!("{index}.centre"), Dtype::F32, le_bytes(centre)));
            }
            None => {}
        }
    }
    // Floats first, so that they lie aligned.
    tensors.sort_by_key(|(_, dtype, _)| *dtype != Dtype::F32);
    let mut data = Vec::new();
    let mut infos = BTreeMap::new();
    for (name, dtype, bytes) in tensors {
        let shape = vec![bytes.len() * 8 / dtype.bitsize()];
        let data_offsets = (data.len(), data.len() + bytes.len());
        infos.insert(name, TensorInfo { dtype, shape, data_offsets });
        data.extend(bytes);
    }
    let entries = BTreeMap::from([
        ("format_version", FORMAT_VERSION.to_owned()),
        ("name", metadata.name.clone()),
        ("architecture", architecture.to_string()),
        ("rate_hz", metadata.rate_hz.to_string()),
        ("rows", metadata.rows.clone()),
        ("classes", serde_json::to_string(&metadata.classes).map_err(ModelFileError::Header)?),
        ("training_data", metadata.training_data.clone()),
        ("seed", metadata.seed.to_string()),
        ("metrics", serde_json::to_string(&metadata.metrics).map_err(ModelFileError::Header)?),
        (CHECKSUM_KEY, "0".repeat(CHECKSUM_DIGITS)),
    ]);
    let header = FileHeader { __metadata__: entries, tensors: infos };
    let mut json = serde_json::to_vec(&header).map_err(ModelFileError::Header)?;
    json.resize(json.len().next_multiple_of(8), b' ');

    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json);
    file.extend(data);
    if file.len() > MAX_FILE_BYTES {
        return Err(ModelFileError::TooLarge { bytes: file.len() });
    }
    let digits = checksum(&file).ok_or(ModelFileError::Foreign(CHECKSUM_KEY))?;
    let at = checksum_position(&file).ok_or(ModelFileError::Foreign(CHECKSUM_KEY))?;
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

/// Weights of each unit in steps, and the binary logarithm of a step.
fn pack_int8(weights: &[f32], units: usize) -> (Vec<u8>, Vec<u8>) {
    let rows = weights.chunks_exact(weights.len() / units).map(|row| (row, int8_step(row)));
    let values = rows.clone().flat_map(|(row, step)| {
        row.iter().map(move |weight| ((weight / step) as i8).cast_unsigned())
    });
    let exponents = rows.map(|(_, step)| (step.log2() as i8).cast_unsigned());
    (values.collect(), exponents.collect())
}

/// The reverse of [`pack_int8`].
fn unpack_int8(values: &[u8], exponents: &[u8]) -> Vec<f32> {
    let steps = exponents.iter().map(|exponent| 2f32.powi(exponent.cast_signed().into()));
    let rows = values.chunks_exact(values.len() / exponents.len()).zip(steps);
    let row = |(row, step)| {
        let values: &[u8] = row;
        values.iter().map(move |value| f32::from(value.cast_signed()) * step)
    };
    rows.flat_map(row).collect()
}

/// Nothing where a bit after the last weight is set.
fn unpack(bytes: &[u8], count: usize) -> Option<Vec<f32>> {
    let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1 == 1;
    (count..bytes.len() * 8)
        .all(|at| !bit(at))
        .then(|| (0..count).map(|at| if bit(at) { 1.0 } else { -1.0 }).collect())
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[cfg(test)]
mod tests;
