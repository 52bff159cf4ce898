//! Fingerprints of recordings, to detect replays. `docs/replay.md` has the measurements.

use std::ops::Range;

use super::orientation::norm;
use super::resample::Signal;
use super::{Recipe, Recording};
use crate::bnn::Kernels;
use crate::bnn::alignments::{self, Row, lowest};

const GRID_HZ: f64 = 50.0;

/// Widths of the moving means that remove noise and drift. Each is applied twice.
const NOISE_WIDTH: usize = 3;
const DRIFT_WIDTH: usize = 12;
/// Grid points that the moving means and the change remove from both ends together.
const EDGES: usize = 2 * (NOISE_WIDTH - 1) + 2 + 2 * (DRIFT_WIDTH - 1);

/// Shortest and longest stride in grid points: 0.8 and 1.4 s.
const SHORTEST_STRIDE: usize = 40;
const LONGEST_STRIDE: usize = 70;
/// The duration of a stride is estimated at each point, from this many points on either side.
const NEIGHBOURHOOD: usize = 25;

/// Bits per point.
const ROWS: usize = 2;
const POINTS_PER_BYTE: usize = 8 / ROWS;
/// Two fingerprints must overlap by this many points, which is 2 s.
const LEAST_OVERLAP: usize = 100;
const VERSION: u8 = 1;

/// A replay at another speed drifts away from the original. So fingerprints are compared in blocks of
/// 10 s, at several speeds.
const BLOCK_WORDS: usize = 16;
const SPEEDS: [f64; 7] = [1.0, 0.99, 1.01, 0.98, 1.02, 0.97, 1.03];

/// Fingerprints that a block is compared with before the next block: they fit into the first cache.
const TOGETHER: usize = 16;

/// Two recordings that overlap for `s` seconds are the same if the correlation of their bits is above
/// `CHANCE_CORRELATION + CORRELATION_SECONDS / sqrt(s)`: 0.57 at 2 s, 0.35 at 10 s. The correlation is
/// the number of equal bits minus the number of different ones, divided by the number of all.
///
/// Measured on 10 s of new walking: with 0.35 as `CORRELATION_SECONDS`, 1 % of the probes would be
/// above, and with 0.42 0.1 %. The nearest of 4,602 probes would need 0.47.
const CHANCE_CORRELATION: f64 = 0.18;
const CORRELATION_SECONDS: f64 = 0.55;

/// A fingerprint that recognises a recording: 230 bytes for 20 s.
///
/// The strides and walks of a person resemble each other, but the differences from stride to stride
/// never repeat. There are two bits for each 1/50 s. They tell whether the magnitude of the
/// acceleration, and that of its change, are larger than one stride before. They do not depend on the
/// phone's orientation, the sensor's scale or the person's mean stride.
#[derive(Clone, Debug, PartialEq)]
pub struct Fingerprint {
    /// Multiple of [`POINTS_PER_BYTE`], at least [`LEAST_OVERLAP`].
    points: usize,
    /// Bit `2 * point + row`, from the lowest bit of each word. Bits after the last are 0.
    words: Vec<u64>,
}

/// Why stored bytes are not a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Another version of the algorithm made it, so it cannot be compared.
    #[error("the fingerprint has version {version}; this program reads version {VERSION}")]
    Version {
        /// Version of the fingerprint.
        version: u8,
    },
    /// It is shorter or longer than the fingerprint of any recording.
    #[error(
        "the fingerprint has {length} bytes; {} to {} are allowed",
        Fingerprint::MIN_BYTES,
        Fingerprint::MAX_BYTES
    )]
    Length {
        /// Number of bytes.
        length: usize,
    },
}

impl Fingerprint {
    /// A fingerprint covers at most this much of a recording, from its start.
    pub const LONGEST_SECONDS: f64 = 60.0;
    /// Bytes of the shortest fingerprint, for 3.4 s.
    pub const MIN_BYTES: usize = 1 + LEAST_OVERLAP / POINTS_PER_BYTE;
    /// Bytes of the longest fingerprint, for a minute or more.
    pub const MAX_BYTES: usize = 1
        + ((Self::LONGEST_SECONDS * GRID_HZ) as usize + 1 - EDGES - SHORTEST_STRIDE)
            / POINTS_PER_BYTE;

    /// The fingerprint of a recording's first minute. `None` if the recording is shorter than 3.4 s, its
    /// sample rate is too low, or gravity is missing.
    pub fn of(recording: &Recording) -> Option<Self> {
        let samples = LEAST_OVERLAP + SHORTEST_STRIDE + EDGES;
        let beginning = recording.part(0.0, Self::LONGEST_SECONDS)?;
        let recipe = Recipe { rate_hz: GRID_HZ, samples, ..Recipe::OPENSET };
        let signal = Signal::new(&beginning, &recipe).ok()?;
        let rows = rows(&signal.acceleration_m_s2);
        let strides = strides(&rows[0]);
        let points = strides.len() / POINTS_PER_BYTE * POINTS_PER_BYTE;
        let mut words = vec![0; (ROWS * points).div_ceil(64)];
        for (point, &stride) in strides[..points].iter().enumerate() {
            let now = point + SHORTEST_STRIDE;
            for (row, values) in rows.iter().enumerate() {
                let bit = ROWS * point + row;
                words[bit / 64] |= u64::from(values[now] > values[now - stride]) << (bit % 64);
            }
        }
        Some(Self { points, words })
    }

    /// Whether this recording is the `earlier` one or a part of it, or shares at least its first or last
    /// 2 s with it.
    ///
    /// Measured on real walks of 68 people: none of 4,602 new walks of 10 s is taken for a replay of
    /// another walk of the same person. All replays of 10 s are found, wherever they are cut out. 95 to
    /// 100 % are found if they are also turned, scaled, resampled to at least 25 Hz, noisy (up to a tenth
    /// of the movement), rounded to 8 bits, or up to 3 % faster or slower.
    pub fn is_replay_of(&self, earlier: &Self) -> bool {
        self.is_replay_of_any([earlier])
    }

    /// Whether this recording is a replay of one of the earlier ones.
    pub fn is_replay_of_any<'a>(&self, earlier: impl IntoIterator<Item = &'a Self>) -> bool {
        let parts: Vec<Part> =
            SPEEDS.iter().flat_map(|&speed| self.at_speed(speed).parts()).collect();
        let earlier: Vec<_> = earlier.into_iter().map(Surrounded::new).collect();
        let mut counts = Vec::new();
        let mut groups = earlier.chunks(TOGETHER);
        groups.any(|group| parts.iter().any(|part| part.is_in_any(group, &mut counts)))
    }

    /// Blocks of 10 s.
    fn parts(&self) -> Vec<Part> {
        let part = |(index, words): (usize, &[u64])| {
            let mut part = Part { words: [0; BLOCK_WORDS], bits: ROWS * self.points };
            part.words[..words.len()].copy_from_slice(words);
            part.bits = (part.bits - 64 * BLOCK_WORDS * index).min(64 * BLOCK_WORDS);
            part
        };
        self.words.chunks(BLOCK_WORDS).enumerate().map(part).collect()
    }

    /// The fingerprint of the same recording at another speed.
    fn at_speed(&self, speed: f64) -> Self {
        let points = (self.points as f64 / speed) as usize;
        let mut words = vec![0; (ROWS * points).div_ceil(64)];
        for point in 0..points {
            let from = ROWS * (point as f64 * speed) as usize;
            let to = ROWS * point;
            // The bits of one point are in the same word.
            words[to / 64] |= (self.words[from / 64] >> (from % 64) & 0b11) << (to % 64);
        }
        Self { points, words }
    }

    /// The bytes for storage.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bits = self.words.iter().flat_map(|word| word.to_le_bytes());
        [VERSION].into_iter().chain(bits.take(self.points / POINTS_PER_BYTE)).collect()
    }

    /// Restores a fingerprint from storage.
    ///
    /// # Errors
    /// If the version is another one, or there are too few or too many bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FingerprintError> {
        if let Some(&version) = bytes.first()
            && version != VERSION
        {
            return Err(FingerprintError::Version { version });
        }
        if !(Self::MIN_BYTES..=Self::MAX_BYTES).contains(&bytes.len()) {
            return Err(FingerprintError::Length { length: bytes.len() });
        }
        let words = bytes[1..].chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        Ok(Self { points: (bytes.len() - 1) * POINTS_PER_BYTE, words: words.collect() })
    }
}

/// Magnitude of the acceleration and of its change, without noise and drift.
fn rows(acceleration_m_s2: &[[f32; 3]]) -> [Vec<f32>; ROWS] {
    let [x, y, z] = [0, 1, 2].map(|axis| {
        smooth(&acceleration_m_s2.iter().map(|a| a[axis]).collect::<Vec<_>>(), NOISE_WIDTH)
    });
    let at = |index: usize| [x[index], y[index], z[index]];
    let change = |index: usize| {
        let (before, after) = (at(index - 1), at(index + 1));
        norm([after[0] - before[0], after[1] - before[1], after[2] - before[2]])
    };
    let inner = 1..x.len() - 1;
    [
        without_drift(&inner.clone().map(|index| norm(at(index))).collect::<Vec<_>>()),
        without_drift(&inner.map(change).collect::<Vec<_>>()),
    ]
}

fn without_drift(values: &[f32]) -> Vec<f32> {
    let drift = smooth(values, DRIFT_WIDTH);
    values[DRIFT_WIDTH - 1..].iter().zip(drift).map(|(value, drift)| value - drift).collect()
}

/// A moving mean of a moving mean. Returns `2 * (width - 1)` fewer values.
fn smooth(values: &[f32], width: usize) -> Vec<f32> {
    let mean = |values: &[f32]| -> Vec<f32> {
        values.windows(width).map(|window| window.iter().sum::<f32>() / width as f32).collect()
    };
    mean(&mean(values))
}

/// For each point from [`SHORTEST_STRIDE`] on, the number of points back to the most similar movement.
fn strides(values: &[f32]) -> Vec<usize> {
    const WIDTH: usize = 2 * NEIGHBOURHOOD + 1;
    let mut least = vec![f64::INFINITY; values.len() - SHORTEST_STRIDE];
    let mut best = vec![SHORTEST_STRIDE; values.len() - SHORTEST_STRIDE];
    // Sums of differences up to each point. The sum over a range is one subtraction. Nothing is added
    // before the first and after the last point.
    let mut sums = vec![0.0; values.len() + WIDTH];
    for stride in SHORTEST_STRIDE..=LONGEST_STRIDE.min(values.len() - 1) {
        let count = values.len() - stride;
        let mut sum = 0.0;
        let differences = values[stride..].iter().zip(values);
        for (slot, (a, b)) in sums[NEIGHBOURHOOD + 1..].iter_mut().zip(differences) {
            sum += f64::from((a - b).abs());
            *slot = sum;
        }
        sums[NEIGHBOURHOOD + 1 + count..][..NEIGHBOURHOOD].fill(sum);
        let first = stride - SHORTEST_STRIDE;
        let (least, best) = (&mut least[first..], &mut best[first..]);
        // Between the ends, all points have the same number of neighbours, so the compiler vectorises.
        let start = NEIGHBOURHOOD.min(count);
        let end = count.saturating_sub(NEIGHBOURHOOD).max(start);
        for point in (0..start).chain(end..count) {
            let to = (point + NEIGHBOURHOOD + 1).min(count);
            let neighbours = to - point.saturating_sub(NEIGHBOURHOOD);
            let difference = (sums[point + WIDTH] - sums[point]) / neighbours as f64;
            take_less(&mut least[point], &mut best[point], difference, stride);
        }
        let points = least[start..end].iter_mut().zip(&mut best[start..end]);
        let stretches = sums[start..].iter().zip(&sums[start + WIDTH..]);
        for ((least, best), (from, to)) in points.zip(stretches) {
            take_less(least, best, (to - from) / WIDTH as f64, stride);
        }
    }
    best
}

/// Without a branch, because it would often be mispredicted.
fn take_less(least: &mut f64, best: &mut usize, difference: f64, stride: usize) {
    let less = difference < *least;
    *least = if less { difference } else { *least };
    *best = if less { stride } else { *best };
}

/// A part of a fingerprint. Words and bits after the last are 0.
struct Part {
    words: [u64; BLOCK_WORDS],
    bits: usize,
}

/// A fingerprint with padding, so that a block may extend past its ends.
struct Surrounded {
    row: Row,
    /// The range of its bits, after a block of padding.
    bits: Range<usize>,
}

impl Surrounded {
    fn new(fingerprint: &Fingerprint) -> Self {
        let bits = ROWS * fingerprint.points;
        Self {
            row: Row::new(&fingerprint.words, bits),
            bits: 64 * BLOCK_WORDS..64 * BLOCK_WORDS + bits,
        }
    }
}

impl Part {
    /// Whether the part matches one of the fingerprints at any position.
    fn is_in_any(&self, fingerprints: &[Surrounded], counts: &mut Vec<u64>) -> bool {
        let used = std::array::from_fn(|at| lowest(self.bits.saturating_sub(64 * at)));
        let most = most_mismatches(self.bits) as u64;
        (0..64).step_by(ROWS).any(|shift| {
            let block =
                alignments::Block { words: moved(&self.words, shift), mask: moved(&used, shift) };
            fingerprints.iter().any(|Surrounded { row, bits }| {
                let matches = |(place, &mismatches): (usize, &u64)| {
                    // Most are.
                    if mismatches > most {
                        return false;
                    }
                    let start = 64 * place + shift;
                    let end = (start + self.bits).min(bits.end);
                    let overlap = end.saturating_sub(start.max(bits.start));
                    overlap >= ROWS * LEAST_OVERLAP && are_the_same(overlap, mismatches as usize)
                };
                Kernels::preferred().mismatches(&block, row, most, counts)
                    && counts.iter().enumerate().any(matches)
            })
        })
    }
}

/// Shifts a part by `shift` bits, less than 64, to later bits.
fn moved(part: &[u64; BLOCK_WORDS], shift: usize) -> [u64; alignments::BLOCK_WORDS] {
    let mut moved = [0; alignments::BLOCK_WORDS];
    for (index, &word) in part.iter().enumerate() {
        let wide = u128::from(word) << shift;
        moved[index] |= wide as u64;
        moved[index + 1] |= (wide >> 64) as u64;
    }
    moved
}

/// With more mismatches in this many bits or fewer, recordings are never the same.
fn most_mismatches(bits: usize) -> usize {
    let bits_per_second = ROWS as f64 * GRID_HZ;
    let bits = bits as f64;
    let excess = CORRELATION_SECONDS * (bits_per_second * bits).sqrt();
    (((1.0 - CHANCE_CORRELATION) * bits - excess) / 2.0).max(0.0) as usize + 1
}

fn are_the_same(bits: usize, mismatches: usize) -> bool {
    let bits = bits as f64;
    // Both sides of the comparison are multiplied by `bits` and squared.
    let excess = (1.0 - CHANCE_CORRELATION) * bits - 2.0 * mismatches as f64;
    let bits_per_second = ROWS as f64 * GRID_HZ;
    excess > 0.0 && excess * excess > CORRELATION_SECONDS.powi(2) * bits_per_second * bits
}

#[cfg(test)]
mod tests;
