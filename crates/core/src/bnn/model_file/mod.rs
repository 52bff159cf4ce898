//! The model file: a network's parameters and metadata in safetensors format.
//!
//! - Binary weights take one bit each: bit `i % 8` of byte `i / 8` is weight `i`, 1 for +1.
//! - Weights of projections and deflations take eight bits each. Each unit or direction has an
//!   exponent; its weights are multiples of two to the power of it.
//! - All other values are 32-bit floats. Metadata is strings.
//! - The checksum is the SHA-256 of the whole file, with the 64 digits of the checksum as zeros.

mod error;
mod header;
mod tensors;

use std::collections::BTreeMap;

pub use error::ModelFileError;
use header::{Header, Json, Type};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Architecture, Network, Parameters};

/// Size of the largest file that is read: three times the largest float network.
pub const MAX_FILE_BYTES: usize = 4 << 20;

const FORMAT_VERSION: &str = "1";
const CHECKSUM_KEY: &str = "sha256";
const CHECKSUM_DIGITS: usize = 64;

/// What a model file says about its network, apart from the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Name for display.
    pub name: String,
    /// Layers and input shape.
    pub architecture: Architecture,
    /// Sample rate of a window. With at most 15 digits, it is read as it was written.
    pub rate_hz: f64,
    /// How the rows of a window are computed.
    pub rows: String,
    /// Names of the outputs or, if the network has none, of the people that it was trained on.
    pub classes: Vec<String>,
    /// Description of the training data.
    pub training_data: String,
    /// Seed of the training.
    pub seed: u64,
    /// Measured figures by name, such as `top1`.
    pub metrics: BTreeMap<String, f32>,
}

/// A packed network, ready to run, and its metadata.
#[derive(Debug)]
pub struct Model {
    /// What its file says about it.
    pub metadata: Metadata,
    /// The packed network.
    pub network: Network,
    checksum: String,
}

impl Model {
    /// Reads a model file and packs its network.
    ///
    /// # Errors
    /// If [`encode`] did not write the file, or the network has float weights.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelFileError> {
        let (metadata, parameters, checksum) = read(bytes)?;
        let network = Network::new(&metadata.architecture, &parameters)?;
        Ok(Self { metadata, network, checksum })
    }

    /// The model's id: the first 16 hexadecimal digits of the file's checksum.
    pub fn id(&self) -> &str {
        &self.checksum[..16]
    }
}

/// Reads the metadata and parameters of a model file.
///
/// # Errors
/// If [`encode`] did not write the file.
pub fn decode(bytes: &[u8]) -> Result<(Metadata, Parameters), ModelFileError> {
    read(bytes).map(|(metadata, parameters, _)| (metadata, parameters))
}

fn read(bytes: &[u8]) -> Result<(Metadata, Parameters, String), ModelFileError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(ModelFileError::TooLarge { bytes: bytes.len() });
    }
    let length = |needed| ModelFileError::Length { bytes: bytes.len(), needed };
    let (prefix, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| length(8))?;
    let header_bytes = u64::from_le_bytes(*prefix);
    if header_bytes > rest.len() as u64 {
        return Err(length(header_bytes.saturating_add(8)));
    }
    let (json, data) = rest.split_at(header_bytes as usize);
    let header = Header::read(json).map_err(ModelFileError::Header)?;
    if header.data_len() != data.len() {
        return Err(length((header.data_len() as u64).saturating_add(8 + header_bytes)));
    }

    let entry = |key| header.entry(key).ok_or(ModelFileError::Foreign(key));
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
        rate_hz: rate_hz(entry("rate_hz")?)?,
        rows: entry("rows")?.to_owned(),
        classes: classes(entry("classes")?)?,
        training_data: entry("training_data")?.to_owned(),
        seed: seed(entry("seed")?)?,
        metrics: metrics(entry("metrics")?)?,
    };
    metadata.check()?;
    let parameters = tensors::read(&header, data, &metadata.architecture)?;
    parameters.check(&metadata.architecture)?;
    Ok((metadata, parameters, actual))
}

fn rate_hz(text: &str) -> Result<f64, ModelFileError> {
    match serde_json::from_slice(text.as_bytes()) {
        Ok(Json::Number(rate_hz)) => Ok(rate_hz),
        _ => Err(unusable("rate_hz", text, "a number")),
    }
}

fn seed(text: &str) -> Result<u64, ModelFileError> {
    text.parse().map_err(|_| unusable("seed", text, "a whole number"))
}

fn classes(text: &str) -> Result<Vec<String>, ModelFileError> {
    let unusable = || unusable("classes", text, "a JSON array of names");
    let Ok(Json::List(names)) = serde_json::from_slice(text.as_bytes()) else {
        return Err(unusable());
    };
    let name = |json| match json {
        Json::Text(name) => Ok(name),
        _ => Err(unusable()),
    };
    names.into_iter().map(name).collect()
}

fn metrics(text: &str) -> Result<BTreeMap<String, f32>, ModelFileError> {
    let unusable = || unusable("metrics", text, "a JSON object of numbers");
    let Ok(Json::Object(metrics)) = serde_json::from_slice(text.as_bytes()) else {
        return Err(unusable());
    };
    let metric = |(name, json)| match json {
        Json::Number(value) => Ok((name, value as f32)),
        _ => Err(unusable()),
    };
    metrics.into_iter().map(metric).collect()
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

/// Writes a model file. The same model always gives the same bytes.
///
/// # Errors
/// If parameters or class names do not fit the architecture, or a metric is not finite.
pub fn encode(metadata: &Metadata, parameters: &Parameters) -> Result<Vec<u8>, ModelFileError> {
    #[derive(Serialize)]
    struct FileHeader {
        __metadata__: BTreeMap<&'static str, String>,
        #[serde(flatten)]
        tensors: BTreeMap<String, WrittenTensor>,
    }

    #[derive(Serialize)]
    struct WrittenTensor {
        dtype: &'static str,
        shape: [usize; 1],
        data_offsets: [usize; 2],
    }

    let architecture = &metadata.architecture;
    parameters.check(architecture)?;
    metadata.check()?;
    let mut tensors = tensors::write(architecture, parameters);
    // Floats come first, so that they are aligned.
    tensors.sort_by_key(|(_, dtype, _)| *dtype != Type::F32);
    let mut data = Vec::new();
    let mut infos = BTreeMap::new();
    for (name, dtype, bytes) in tensors {
        let shape = [bytes.len() / dtype.bytes()];
        let data_offsets = [data.len(), data.len() + bytes.len()];
        infos.insert(name, WrittenTensor { dtype: dtype.name(), shape, data_offsets });
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

/// Position of the checksum's digits in the file.
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
    Some(const_hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests;
