//! Rounding of reals.

/// The nearest integer of a value that fits 32 bits, away from zero in the middle between two. 0 for NaN.
///
/// The same as `f32::round`, which is a function call for each value on the oldest x86-64.
#[inline(always)]
pub(crate) fn nearest(value: f32) -> i32 {
    let whole = value as i32;
    let rest = value - whole as f32;
    whole + i32::from(rest >= 0.5) - i32::from(rest <= -0.5)
}
