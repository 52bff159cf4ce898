//! Fingerprints of recordings, to detect replays. `docs/replay.md` has the measurements.

use std::array;
use std::iter::zip;

use super::orientation::norm;
use super::resample::Signal;
use super::{Recipe, Recording};
use crate::bnn::Kernels;
use crate::bnn::alignments::{PLACES, Row, SEGMENT_BYTES};

const GRID_HZ: f64 = 50.0;

/// Widths of the moving means that remove noise and drift. Each is applied twice.
const NOISE_WIDTH: usize = 3;
const DRIFT_WIDTH: usize = 12;
/// Grid points that the moving means and the change remove from both ends together.
const EDGES: usize = 2 * (NOISE_WIDTH - 1) + 2 + 2 * (DRIFT_WIDTH - 1);
/// Grid points of a recording before the first point of its fingerprint.
const BEFORE: usize = EDGES / 2 + SHORTEST_STRIDE;

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
const LEAST_BYTES: usize = LEAST_OVERLAP / POINTS_PER_BYTE;
const VERSION: u8 = 1;

/// A replay at another speed drifts away from the original. So fingerprints are compared in blocks of
/// 10 s, at several speeds. At another speed, a block's segments of [`SEGMENT_BYTES`] move apart or
/// together.
const BLOCK_BYTES: usize = 128;
const SPEEDS: [f64; 7] = [1.0, 0.99, 1.01, 0.98, 1.02, 0.97, 1.03];
/// The segments of a block move by less than this.
const DRIFT_BYTES: usize = 5;
/// Unknown bytes around a fingerprint, so that a block may begin before it and end after it.
const PADDING_BYTES: usize = BLOCK_BYTES + 2 * PLACES;

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
    /// Bit `2 * point + row`, from the lowest bit of each byte. At least [`LEAST_OVERLAP`] points.
    bits: Vec<u8>,
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
    pub const MIN_BYTES: usize = 1 + LEAST_BYTES;
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
        let bit = |point: usize, row: usize| {
            let (values, now) = (&rows[row], point + SHORTEST_STRIDE);
            u8::from(values[now] > values[now - strides[point]])
        };
        let byte = |index: usize| {
            let bits = 0..8;
            bits.map(|at| bit(POINTS_PER_BYTE * index + at / ROWS, at % ROWS) << at).sum()
        };
        Some(Self { bits: (0..strides.len() / POINTS_PER_BYTE).map(byte).collect() })
    }

    /// Whether this recording is the `earlier` one or a part of it, or shares at least its first or last
    /// 2 s with it.
    ///
    /// Measured on real walks of 68 people: none of 4,597 new walks of 10 s is taken for a replay of
    /// other walking of the same person. All replays of 10 s that have a fingerprint are found, wherever
    /// they are cut out. 95 to 99 % are found if they are also turned, scaled, resampled to at least
    /// 25 Hz, noisy (up to a tenth of the movement), rounded to 8 bits, or up to 3 % faster or slower.
    pub fn is_replay_of(&self, earlier: &Self) -> bool {
        self.is_replay_of_any([earlier])
    }

    /// Whether this recording is a replay of one of the earlier ones.
    pub fn is_replay_of_any<'a>(&self, earlier: impl IntoIterator<Item = &'a Self>) -> bool {
        let blocks = self.bits.chunks(BLOCK_BYTES).filter(|bits| bits.len() >= LEAST_BYTES);
        let blocks: Vec<Block> = blocks.map(Block::new).collect();
        let mut counts = Vec::new();
        earlier.into_iter().any(|earlier| {
            let earlier = Surrounded::new(earlier);
            blocks.iter().any(|block| block.is_in(&earlier, &mut counts))
        })
    }

    /// The bytes for storage.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&[VERSION], &self.bits[..]].concat()
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
        Ok(Self { bits: bytes[1..].to_vec() })
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

/// A fingerprint with [`PADDING_BYTES`] on either side.
struct Surrounded {
    /// The bytes of number `n` begin with point `n` of each byte.
    shifted: [Row; POINTS_PER_BYTE],
    bytes: usize,
}

impl Surrounded {
    fn new(fingerprint: &Fingerprint) -> Self {
        let padded = |bytes: &[u8]| [&[0; PADDING_BYTES], bytes, &[0; PADDING_BYTES]].concat();
        let (bits, known) =
            (padded(&fingerprint.bits), padded(&vec![u8::MAX; fingerprint.bits.len()]));
        let shifted = array::from_fn(|shift| {
            let moved = |bytes: &[u8]| {
                let pairs = zip(bytes, &bytes[1..]);
                let byte =
                    |(&low, &high)| (u16::from_le_bytes([low, high]) >> (ROWS * shift)) as u8;
                pairs.map(byte).collect()
            };
            Row { bits: moved(&bits), known: moved(&known) }
        });
        Self { shifted, bytes: fingerprint.bits.len() }
    }
}

/// A part of a fingerprint, of at least [`LEAST_BYTES`].
struct Block {
    bits: Vec<u8>,
    /// For each number of bytes that overlap: with as many mismatches or more, recordings are never the
    /// same.
    limits: Vec<u16>,
}

impl Block {
    fn new(bits: &[u8]) -> Self {
        let limit = |bytes| if bytes < LEAST_BYTES { 0 } else { limit(8 * bytes) };
        Self { bits: bits.to_vec(), limits: (0..=bits.len()).map(limit).collect() }
    }

    /// Whether the block matches a fingerprint at any place and speed.
    ///
    /// The mismatches of each segment are counted once at each place. At each speed, those of the block
    /// are then sums of one count per segment.
    fn is_in(&self, earlier: &Surrounded, counts: &mut Vec<u8>) -> bool {
        let kernels = Kernels::preferred();
        let first = PADDING_BYTES + LEAST_BYTES - DRIFT_BYTES - self.bits.len();
        let places = self.bits.len() + earlier.bytes + 2 * DRIFT_BYTES + 1 - 2 * LEAST_BYTES;
        let places = places.next_multiple_of(PLACES);
        let limits: Vec<u16> = (first..first + places)
            .map(|place| {
                let (start, end) = (PADDING_BYTES, PADDING_BYTES + earlier.bytes);
                let overlap = (place + self.bits.len()).min(end).saturating_sub(place.max(start));
                // Places begin up to three points later, and segments move.
                self.limits[(overlap + 1 + DRIFT_BYTES).min(self.bits.len())]
            })
            .collect();
        // Segments move by up to `DRIFT_BYTES` to either side, rounded up to whole groups.
        const { assert!(2 * DRIFT_BYTES <= PLACES) };
        let counted = places + PLACES;
        let segments = self.bits.chunks(SEGMENT_BYTES);
        counts.resize(segments.len() * POINTS_PER_BYTE * counted, 0);
        let mut free = counts.chunks_mut(counted);
        for (index, segment) in segments.clone().enumerate() {
            let first = first + SEGMENT_BYTES * index - DRIFT_BYTES;
            for (row, counts) in earlier.shifted.iter().zip(&mut free) {
                kernels.mismatches(segment, row, first, counts);
            }
        }
        let (mut lists, mut sums) = (Vec::new(), vec![0; places]);
        SPEEDS.iter().any(|&speed| {
            let moved = |segment| {
                let middle = POINTS_PER_BYTE * DRIFT_BYTES;
                middle
                    .checked_add_signed(drift(segment, speed))
                    .expect("a drift is shorter than `DRIFT_BYTES`")
            };
            let moved: Vec<usize> = (0..segments.len()).map(moved).collect();
            (0..POINTS_PER_BYTE).any(|shift| {
                lists.clear();
                lists.extend(moved.iter().enumerate().map(|(segment, moved)| {
                    let point = moved + shift;
                    let list = POINTS_PER_BYTE * segment + point % POINTS_PER_BYTE;
                    &counts[counted * list..][..counted][point / POINTS_PER_BYTE..]
                }));
                let is_same = |(place, (&sum, &limit)): (usize, (&u16, &u16))| {
                    sum < limit && {
                        let start = POINTS_PER_BYTE * (first + place) + shift;
                        let overlap = self.overlap(start, speed, earlier);
                        overlap >= LEAST_OVERLAP && are_the_same(ROWS * overlap, sum.into())
                    }
                };
                kernels.sums_below(&lists, &limits, &mut sums)
                    && sums.iter().zip(&limits).enumerate().any(is_same)
            })
        })
    }

    /// The number of points that overlap if the block starts at this point of a padded fingerprint.
    fn overlap(&self, start: usize, speed: f64, earlier: &Surrounded) -> usize {
        let (begin, end) =
            (POINTS_PER_BYTE * PADDING_BYTES, POINTS_PER_BYTE * (PADDING_BYTES + earlier.bytes));
        let segments = self.bits.chunks(SEGMENT_BYTES).enumerate();
        segments
            .map(|(segment, bits)| {
                let start = start + POINTS_PER_BYTE * SEGMENT_BYTES * segment;
                let start = start.saturating_add_signed(drift(segment, speed));
                let stop = start + POINTS_PER_BYTE * bits.len();
                stop.min(end).saturating_sub(start.max(begin))
            })
            .sum()
    }
}

/// By how many points a segment of a block is later in the earlier recording, if the block is of a copy
/// that is faster by `speed`.
///
/// All places are tried, so a constant does not matter. [`BEFORE`] only rounds right for copies that
/// begin with a sample of the original.
fn drift(segment: usize, speed: f64) -> isize {
    let middle = POINTS_PER_BYTE * (SEGMENT_BYTES * segment + SEGMENT_BYTES / 2);
    ((BEFORE + middle) as f64 * (speed - 1.0)).round() as isize
}

/// With as many mismatches in this many bits or fewer, recordings are never the same.
fn limit(bits: usize) -> u16 {
    let bits_per_second = ROWS as f64 * GRID_HZ;
    let bits = bits as f64;
    let excess = CORRELATION_SECONDS * (bits_per_second * bits).sqrt();
    (((1.0 - CHANCE_CORRELATION) * bits - excess) / 2.0).max(0.0) as u16 + 2
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
