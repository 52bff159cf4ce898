//! Rounding of reals.

/// Adding it leaves a whole number in the lowest bits of a float.
const WHOLE: f32 = 1.5 * (1u32 << 23) as f32;

/// The nearest integer of a value below 2^22, away from zero in the middle between two. 0 for NaN.
///
/// The same as `f32::round`, which is a function call for each value on the oldest x86-64. It also avoids
/// the cast of a float to an integer, which the compiler does not vectorise.
#[inline(always)]
pub(crate) fn nearest(value: f32) -> i32 {
    let value = if value.is_nan() { 0.0 } else { value };
    let shifted = value + WHOLE;
    let even = (shifted.to_bits() as i32).wrapping_sub(WHOLE.to_bits() as i32);
    // Of two that are as near, the even one was chosen.
    let rest = value - (shifted - WHOLE);
    even + i32::from((rest >= 0.5) & (value > 0.0)) - i32::from((rest <= -0.5) & (value < 0.0))
}
