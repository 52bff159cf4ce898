//! Parameters as tensors.

use super::super::{Architecture, Layer, LayerParameters, Parameters, Weights, int8_step};
use super::header::{Header, Type};
use super::{ModelFileError, excerpt};

/// A tensor of a file: name, type and bytes.
pub(super) type Tensor = (String, Type, Vec<u8>);

/// The tensors of parameters that fit the architecture.
pub(super) fn write(architecture: &Architecture, parameters: &Parameters) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    for (index, layer) in parameters.layers.iter().enumerate() {
        let mut add = |list: &str, dtype, bytes| {
            tensors.push((format!("{index}.{list}"), dtype, bytes));
        };
        match layer {
            Some(LayerParameters::Weights { weights, bias }) => {
                match (architecture.layers[index], architecture.weights) {
                    (Layer::Projection { units }, _) => {
                        let (values, exponents) = pack_int8(weights, units);
                        add("weights", Type::I8, values);
                        add("exponents", Type::I8, exponents);
                    }
                    (_, Weights::Binary) => add("weights", Type::U8, pack_bits(weights)),
                    (_, Weights::Float) => add("weights", Type::F32, le_bytes(weights)),
                }
                if let Some(bias) = bias {
                    add("bias", Type::F32, le_bytes(bias));
                }
            }
            Some(LayerParameters::BatchNorm { beta, mean, variance }) => {
                add("batch_norm", Type::F32, le_bytes(&[&beta[..], mean, variance].concat()));
            }
            Some(LayerParameters::Deflation { centre, directions }) => {
                let (values, exponents) = pack_int8(directions, directions.len() / centre.len());
                add("directions", Type::I8, values);
                add("exponents", Type::I8, exponents);
                add("centre", Type::F32, le_bytes(centre));
            }
            None => {}
        }
    }
    tensors
}

/// Reads the parameters that an architecture needs, and no others.
pub(super) fn read(
    header: &Header,
    data: &[u8],
    architecture: &Architecture,
) -> Result<Parameters, ModelFileError> {
    let (shapes, counts) = (architecture.shapes()?, architecture.weight_counts()?);
    let mut names = Vec::new();
    let mut layers = Vec::new();
    for (index, layer) in architecture.layers.iter().enumerate() {
        let reader = LayerReader { header, data, index, names: &mut names };
        let channels = shapes[index + 1].channels;
        layers.push(reader.read(*layer, architecture.weights, counts[index], channels)?);
    }
    match header.tensors().iter().find(|tensor| !names.contains(&tensor.name)) {
        Some(extra) => Err(ModelFileError::ExtraTensor(excerpt(&extra.name))),
        None => Ok(Parameters { layers }),
    }
}

/// Reads the tensors of one layer.
struct LayerReader<'a, 'b> {
    header: &'a Header,
    data: &'a [u8],
    index: usize,
    /// Names of all tensors that were read.
    names: &'b mut Vec<String>,
}

impl LayerReader<'_, '_> {
    fn read(
        mut self,
        layer: Layer,
        precision: Weights,
        count: usize,
        channels: usize,
    ) -> Result<Option<LayerParameters>, ModelFileError> {
        Ok(Some(match layer {
            Layer::Convolution { bias, .. } | Layer::Dense { bias, .. } => {
                let weights = match precision {
                    Weights::Binary => self.bits(count)?,
                    Weights::Float => self.floats("weights", count)?,
                };
                let bias = if bias { Some(self.floats("bias", channels)?) } else { None };
                LayerParameters::Weights { weights, bias }
            }
            Layer::Projection { units } => {
                let weights = self.int8("weights", count, units)?;
                LayerParameters::Weights { weights, bias: Some(self.floats("bias", channels)?) }
            }
            Layer::BatchNorm => {
                let values = self.floats("batch_norm", 3 * channels)?;
                let list = |at: usize| values[at * channels..][..channels].to_vec();
                LayerParameters::BatchNorm { beta: list(0), mean: list(1), variance: list(2) }
            }
            Layer::Deflation { directions } => {
                let directions = self.int8("directions", count, directions)?;
                LayerParameters::Deflation { directions, centre: self.floats("centre", channels)? }
            }
            Layer::MaxPool { .. }
            | Layer::Sign
            | Layer::Tanh
            | Layer::Mean
            | Layer::Autocorrelation { .. }
            | Layer::Normalise => return Ok(None),
        }))
    }

    fn bytes(&mut self, list: &str, dtype: Type, length: usize) -> Result<&[u8], ModelFileError> {
        let name = format!("{}.{list}", self.index);
        let found = match self.header.tensors().iter().find(|tensor| tensor.name == name) {
            Some(info) if info.dtype == dtype.name() && info.shape == [length] => {
                let bytes = self.data.get(info.bytes.clone());
                bytes
                    .filter(|bytes| Some(bytes.len()) == length.checked_mul(dtype.bytes()))
                    .ok_or_else(|| format!("{} bytes", info.bytes.len()))
            }
            Some(info) => Err(excerpt(&format!("{} {:?}", info.dtype, info.shape))),
            None => Err("missing".to_owned()),
        };
        let bytes = found.map_err(|found| ModelFileError::Tensor {
            name: name.clone(),
            found,
            needed: format!("{} [{length}]", dtype.name()),
        })?;
        self.names.push(name);
        Ok(bytes)
    }

    fn floats(&mut self, list: &str, length: usize) -> Result<Vec<f32>, ModelFileError> {
        self.bytes(list, Type::F32, length).map(floats)
    }

    /// Binary weights.
    fn bits(&mut self, count: usize) -> Result<Vec<f32>, ModelFileError> {
        let bytes = self.bytes("weights", Type::U8, count.div_ceil(8))?;
        unpack_bits(bytes, count).ok_or_else(|| ModelFileError::Tensor {
            name: format!("{}.weights", self.index),
            found: "not zero after its last weight".to_owned(),
            needed: format!("{count} bits, then zeros"),
        })
    }

    /// Weights of eight bits, in rows of one step each.
    fn int8(&mut self, list: &str, count: usize, rows: usize) -> Result<Vec<f32>, ModelFileError> {
        let values = self.bytes(list, Type::I8, count)?.to_vec();
        Ok(unpack_int8(&values, self.bytes("exponents", Type::I8, rows)?))
    }
}

fn pack_bits(weights: &[f32]) -> Vec<u8> {
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

/// Weights of each unit in steps, and the binary logarithm of each step.
fn pack_int8(weights: &[f32], units: usize) -> (Vec<u8>, Vec<u8>) {
    let rows = weights.chunks_exact(weights.len() / units).map(|row| (row, int8_step(row)));
    let values = rows.clone().flat_map(|(row, step)| {
        row.iter().map(move |weight| ((weight / step) as i8).cast_unsigned())
    });
    let exponents = rows.map(|(_, step)| (step.log2() as i8).cast_unsigned());
    (values.collect(), exponents.collect())
}

/// The inverse of [`pack_int8`].
fn unpack_int8(values: &[u8], exponents: &[u8]) -> Vec<f32> {
    let steps = exponents.iter().map(|exponent| 2f32.powi(exponent.cast_signed().into()));
    let rows = values.chunks_exact(values.len() / exponents.len()).zip(steps);
    let row = |(row, step)| {
        let values: &[u8] = row;
        values.iter().map(move |value| f32::from(value.cast_signed()) * step)
    };
    rows.flat_map(row).collect()
}

/// `None` if a bit after the last weight is set.
fn unpack_bits(bytes: &[u8], count: usize) -> Option<Vec<f32>> {
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
