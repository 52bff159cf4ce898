//! Is this recording one that was sent before? `docs/replay.md` has the measurements.

use super::orientation::norm;
use super::resample::Signal;
use super::{Recipe, Recording};

const GRID_HZ: f64 = 50.0;
/// Of a longer recording, the beginning is kept: fingerprints have at most
/// [`Fingerprint::MAX_BYTES`].
const LONGEST_SECONDS: f64 = 60.0;

/// Widths of the moving means, each applied twice: sensor noise goes, and so does what drifts.
const NOISE_WIDTH: usize = 3;
const DRIFT_WIDTH: usize = 12;
/// Grid points that the moving means and the change take from both ends together.
const EDGES: usize = 2 * (NOISE_WIDTH - 1) + 2 + 2 * (DRIFT_WIDTH - 1);

/// Durations of a stride, in grid points: 0.8 to 1.4 s.
const SHORTEST_STRIDE: usize = 40;
const LONGEST_STRIDE: usize = 70;
/// The stride's duration is found anew at each point, from this many points to either side.
const NEIGHBOURHOOD: usize = 25;

/// Two bits a point.
const ROWS: usize = 2;
const POINTS_PER_BYTE: usize = 8 / ROWS;
/// Points by which two fingerprints must overlap, 2 s.
const LEAST_OVERLAP: usize = 100;
const VERSION: u8 = 1;

/// 10 s of a recording are compared as one: longer, two clocks may run apart.
const BLOCK_WORDS: usize = 16;
const STRETCHES: [f64; 7] = [1.0, 0.99, 1.01, 0.98, 1.02, 0.97, 1.03];

/// Two recordings that overlap by `s` seconds are the same where the correlation of their bits
/// (agreeing less differing, by all) is above `CHANCE_CORRELATION + CORRELATION_SECONDS / sqrt(s)`.
const CHANCE_CORRELATION: f64 = 0.18;
const CORRELATION_SECONDS: f64 = 0.6;

/// What is kept of a recording, to know it again.
///
/// A person's strides resemble each other, and so do their walks; what differs from stride to
/// stride never comes back. At each fiftieth of a second one bit tells whether the acceleration's
/// magnitude is above what it was a stride before, and one the same of the magnitude of its
/// change. The phone's orientation, the sensor's scale and the person's mean stride leave no
/// trace in them.
#[derive(Clone, Debug, PartialEq)]
pub struct Fingerprint {
    /// Multiple of [`POINTS_PER_BYTE`], at least [`LEAST_OVERLAP`].
    points: usize,
    /// Bit `2 * point + row`, from the lowest of each word on; 0 past the last.
    words: Vec<u64>,
}

/// Why bytes are not a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Made another way, and not to be compared with those of this version.
    #[error("the fingerprint is of version {version}; this program knows version {VERSION}")]
    Version {
        /// Version seen.
        version: u8,
    },
    /// Shorter or longer than any recording's.
    #[error(
        "the fingerprint has {length} bytes; {} to {} are possible",
        Fingerprint::MIN_BYTES,
        Fingerprint::MAX_BYTES
    )]
    Length {
        /// Bytes seen.
        length: usize,
    },
}

impl Fingerprint {
    /// Length of the shortest, in bytes: of 3.4 s.
    pub const MIN_BYTES: usize = 1 + LEAST_OVERLAP / POINTS_PER_BYTE;
    /// Length of the longest, in bytes: of a minute or more.
    pub const MAX_BYTES: usize =
        1 + ((LONGEST_SECONDS * GRID_HZ) as usize + 1 - EDGES - SHORTEST_STRIDE) / POINTS_PER_BYTE;

    /// The fingerprint of a recording's first minute. None of one that is too short (less than
    /// 3.4 s), sampled too slowly, or without gravity.
    pub fn of(recording: &Recording) -> Option<Self> {
        let samples = LEAST_OVERLAP + SHORTEST_STRIDE + EDGES;
        let beginning = recording.part(0.0, LONGEST_SECONDS)?;
        let signal = Signal::new(&beginning, &Recipe { rate_hz: GRID_HZ, samples }).ok()?;
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

    /// x
    pub fn score(&self, earlier: &Self, a: f64) -> (f64, f64, f64) {
        let earlier = Surrounded::new(earlier);
        let mut best = (f64::MIN, 0.0, 0.0);
        let n: i32 = std::env::var("STR").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
        for stretch in (-n..=n).map(|k| 1.0 + f64::from(k) / 100.0) {
            self.stretched(stretch).occurs_in(&earlier, |bits, m| {
                let c = 1.0 - 2.0 * m as f64 / bits as f64;
                let s = bits as f64 / (ROWS as f64 * GRID_HZ);
                let v = (c - a) * s.sqrt();
                if v > best.0 {
                    best = (v, c, s);
                }
                false
            });
        }
        best
    }

    /// Whether this recording, or 2 s of it or more, is the `earlier` one or a part of it.
    pub fn is_replay_of(&self, earlier: &Self) -> bool {
        let earlier = Surrounded::new(earlier);
        STRETCHES.iter().any(|&stretch| self.stretched(stretch).occurs_in(&earlier, are_the_same))
    }

    /// As if it had been recorded by a clock that runs faster by this factor.
    fn stretched(&self, stretch: f64) -> Self {
        let points = (self.points as f64 / stretch) as usize;
        let mut words = vec![0; (ROWS * points).div_ceil(64)];
        for point in 0..points {
            // Both bits of a point are in one word.
            let from = ROWS * ((point as f64 * stretch) as usize).min(self.points - 1);
            let to = ROWS * point;
            words[to / 64] |= (self.words[from / 64] >> (from % 64) & 0b11) << (to % 64);
        }
        Self { points, words }
    }

    fn occurs_in(&self, earlier: &Surrounded, mut same: impl FnMut(usize, usize) -> bool) -> bool {
        let mut bits = ROWS * self.points;
        self.words.chunks(BLOCK_WORDS).any(|block| {
            let block_bits = bits.min(64 * BLOCK_WORDS);
            bits -= block_bits;
            (0..64).step_by(ROWS).any(|shift| {
                let values = shifted(block.iter().copied(), shift);
                let known = (0..block.len()).map(|word| ones(block_bits - 64 * word));
                let known = shifted(known, shift);
                let places = earlier.words.windows(BLOCK_WORDS + 1);
                places.zip(earlier.known.windows(BLOCK_WORDS + 1)).enumerate().any(
                    |(place, (words, there))| {
                        let start = 64 * place + shift;
                        let end = (start + block_bits).min(earlier.end);
                        let overlap = end.saturating_sub(start.max(earlier.start));
                        let mut mismatches = 0;
                        for index in 0..BLOCK_WORDS + 1 {
                            mismatches +=
                                ((values[index] ^ words[index]) & known[index] & there[index])
                                    .count_ones();
                        }
                        overlap >= ROWS * LEAST_OVERLAP && same(overlap, mismatches as usize)
                    },
                )
            })
        })
    }

    /// For storage.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bits = self.words.iter().flat_map(|word| word.to_le_bytes());
        [VERSION].into_iter().chain(bits.take(self.points / POINTS_PER_BYTE)).collect()
    }

    /// Takes a fingerprint back from storage.
    ///
    /// # Errors
    /// When the bytes are of another version, or too few or too many.
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

/// Magnitude of acceleration, and of its change, without noise and drift.
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

/// A moving mean of a moving mean; `2 * (width - 1)` values fewer.
fn smooth(values: &[f32], width: usize) -> Vec<f32> {
    let mean = |values: &[f32]| -> Vec<f32> {
        values.windows(width).map(|window| window.iter().sum::<f32>() / width as f32).collect()
    };
    mean(&mean(values))
}

/// For each point from [`SHORTEST_STRIDE`] on, how many points before it the movement around it
/// was most like.
fn strides(values: &[f32]) -> Vec<usize> {
    let mut best = vec![(f64::INFINITY, SHORTEST_STRIDE); values.len() - SHORTEST_STRIDE];
    let mut sums = Vec::with_capacity(values.len());
    for stride in SHORTEST_STRIDE..=LONGEST_STRIDE.min(values.len() - 1) {
        // Sums of differences up to each point, to have any stretch's in one step.
        sums.clear();
        sums.push(0.0);
        let differences =
            values[stride..].iter().zip(values).map(|(a, b)| f64::from((a - b).abs()));
        sums.extend(differences.scan(0.0, |sum, difference| {
            *sum += difference;
            Some(*sum)
        }));
        for (best, point) in best[stride - SHORTEST_STRIDE..].iter_mut().zip(0usize..) {
            let from = point.saturating_sub(NEIGHBOURHOOD);
            let to = (point + NEIGHBOURHOOD + 1).min(sums.len() - 1);
            let difference = (sums[to] - sums[from]) / (to - from) as f64;
            if difference < best.0 {
                *best = (difference, stride);
            }
        }
    }
    best.into_iter().map(|(_, stride)| stride).collect()
}

/// An earlier fingerprint with nothing around it, where a block may hang over its ends.
struct Surrounded {
    words: Vec<u64>,
    /// Which bits are the fingerprint's.
    known: Vec<u64>,
    /// Its first bit, and the one after its last.
    start: usize,
    end: usize,
}

impl Surrounded {
    fn new(fingerprint: &Fingerprint) -> Self {
        let bits = ROWS * fingerprint.points;
        let surround =
            |words: Vec<u64>| [&[0; BLOCK_WORDS], &words[..], &[0; BLOCK_WORDS]].concat();
        let known = (0..fingerprint.words.len()).map(|index| ones(bits - 64 * index));
        Self {
            known: surround(known.collect()),
            words: surround(fingerprint.words.clone()),
            start: 64 * BLOCK_WORDS,
            end: 64 * BLOCK_WORDS + bits,
        }
    }
}

/// The lowest `count` bits set, or all 64.
fn ones(count: usize) -> u64 {
    if count < 64 { (1 << count) - 1 } else { u64::MAX }
}

/// Moves bits towards the later ones by `shift`, which is less than 64.
fn shifted(words: impl Iterator<Item = u64>, shift: usize) -> [u64; BLOCK_WORDS + 1] {
    let mut moved = [0; BLOCK_WORDS + 1];
    for (index, word) in words.enumerate() {
        let wide = u128::from(word) << shift;
        moved[index] |= wide as u64;
        moved[index + 1] |= (wide >> 64) as u64;
    }
    moved
}

fn are_the_same(bits: usize, mismatches: usize) -> bool {
    let seconds = bits as f64 / (ROWS as f64 * GRID_HZ);
    let correlation = 1.0 - 2.0 * mismatches as f64 / bits as f64;
    correlation > CHANCE_CORRELATION + CORRELATION_SECONDS / seconds.sqrt()
}
