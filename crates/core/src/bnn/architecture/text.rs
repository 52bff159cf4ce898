//! The one-line form of an architecture.

use std::fmt;
use std::str::FromStr;

use super::{Architecture, ArchitectureError, Layer, Padding, Weights};

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = match self.weights {
            Weights::Binary => "binary",
            Weights::Float => "float",
        };
        write!(f, "{precision} {}x{}", self.input[0], self.input[1])?;
        self.layers.iter().try_for_each(|layer| write!(f, " {layer}"))
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plus = |bias| if bias { "+" } else { "" };
        match *self {
            Self::Convolution { filters, kernel: [rows, samples], padding, bias } => {
                let same = if padding == Padding::Same { "/same" } else { "" };
                write!(f, "conv{filters}/{rows}x{samples}{same}{}", plus(bias))
            }
            Self::MaxPool { size: [rows, samples] } => write!(f, "pool{rows}x{samples}"),
            Self::BatchNorm => f.write_str("bn"),
            Self::Sign => f.write_str("sign"),
            Self::Tanh => f.write_str("tanh"),
            Self::Mean => f.write_str("mean"),
            Self::Autocorrelation { lags: [a, b, c] } => write!(f, "acf{a},{b},{c}"),
            Self::Deflation { directions } => write!(f, "deflate{directions}"),
            Self::Normalise => f.write_str("norm"),
            Self::Projection { units } => write!(f, "project{units}"),
            Self::Dense { units, bias } => write!(f, "dense{units}{}", plus(bias)),
        }
    }
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let weights = match word() {
            "binary" => Weights::Binary,
            "float" => Weights::Float,
            other => return Err(ArchitectureError::UnknownLayer(other.to_owned())),
        };
        let input = word();
        let input = pair(input).ok_or_else(|| ArchitectureError::UnknownLayer(input.to_owned()))?;
        let layers = words
            .map(|word| {
                parse_layer(word).ok_or_else(|| ArchitectureError::UnknownLayer(word.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        let architecture = Self { input, weights, layers };
        architecture.shapes()?;
        Ok(architecture)
    }
}

/// Reads the word of one layer.
fn parse_layer(word: &str) -> Option<Layer> {
    match word {
        "bn" => return Some(Layer::BatchNorm),
        "sign" => return Some(Layer::Sign),
        "tanh" => return Some(Layer::Tanh),
        "mean" => return Some(Layer::Mean),
        "norm" => return Some(Layer::Normalise),
        _ => {}
    }
    if let Some(units) = word.strip_prefix("project") {
        return Some(Layer::Projection { units: units.parse().ok()? });
    }
    if let Some(directions) = word.strip_prefix("deflate") {
        return Some(Layer::Deflation { directions: directions.parse().ok()? });
    }
    if let Some(lags) = word.strip_prefix("acf") {
        let lags: Vec<usize> =
            lags.split(',').map(|lag| lag.parse().ok()).collect::<Option<_>>()?;
        return Some(Layer::Autocorrelation { lags: lags.try_into().ok()? });
    }
    let (word, bias) = match word.strip_suffix('+') {
        Some(rest) => (rest, true),
        None => (word, false),
    };
    if let Some(units) = word.strip_prefix("dense") {
        Some(Layer::Dense { units: units.parse().ok()?, bias })
    } else if let Some(size) = word.strip_prefix("pool") {
        Some(Layer::MaxPool { size: pair(size)? })
    } else {
        let mut parts = word.strip_prefix("conv")?.split('/');
        let filters = parts.next()?.parse().ok()?;
        let kernel = pair(parts.next()?)?;
        let padding = match (parts.next(), parts.next()) {
            (None, None) => Padding::Valid,
            (Some("same"), None) => Padding::Same,
            _ => return None,
        };
        Some(Layer::Convolution { filters, kernel, padding, bias })
    }
}

fn pair(text: &str) -> Option<[usize; 2]> {
    let (rows, samples) = text.split_once('x')?;
    Some([rows.parse().ok()?, samples.parse().ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_line_form_reads_back() {
        for architecture in [
            Architecture::bipedalnet(100, 38),
            Architecture::pooled(100, 38),
            Architecture::openset(100),
            Architecture::idnet(24),
            Architecture::binarized_idnet(24),
        ] {
            assert_eq!(architecture.to_string().parse(), Ok(architecture));
        }
        for text in [
            "",
            "binary",
            "binary 8x",
            "binary 8x100",
            "binary 8x100 conv",
            "float 2x2 conv3/3x3 dense2",
            "binary 8x20 conv4/3x3 bn sign acf3,6 dense2",
            "binary 8x20 conv4/3x3 bn sign acf3,6,18 dense2",
            "binary 8x20 conv4/3x3 bn sign acf0,6,12 dense2",
            "binary 8x20 conv4/3x3 bn sign deflate3",
            "binary 8x20 conv4/3x3 bn sign acf1,2,3 deflate0",
            "binary 8x20 conv4/3x3 bn sign acf1,2,3 deflate3 dense2",
        ] {
            assert!(text.parse::<Architecture>().is_err(), "{text:?}");
        }
    }
}
