//! Estimates of compute, to admit or refuse a request before it is done.

use std::ops::{Add, Sub};

/// An estimate of compute: about the microseconds that it takes on one thread. Relative costs matter;
/// the pool measures how long they take on its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(u64);

impl Cost {
    /// For what takes this many microseconds.
    pub const fn of_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// A walk that is still encoded in this many bytes.
    pub fn of_bytes(bytes: usize) -> Self {
        Self(100 + bytes as u64 / 20)
    }

    /// Reading a walk.
    pub fn of_walk(seconds: f64) -> Self {
        Self(100 + (35.0 * seconds) as u64)
    }

    /// The fingerprints of a walk, and their comparison with earlier ones.
    pub fn of_fingerprints(seconds: f64, earlier: usize) -> Self {
        Self((seconds * (30.0 + 3.0 * earlier as f64)) as u64)
    }

    pub(super) fn half(self) -> Self {
        Self(self.0 / 2)
    }

    pub(super) fn ratio(self, other: Self) -> f64 {
        self.0 as f64 / other.0.max(1) as f64
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}
