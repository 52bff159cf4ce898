//! Products of reals and a matrix.

#[cfg(target_arch = "x86_64")]
use super::Instructions;
use super::Kernels;

/// Sums that are computed together. They fit the registers of each kind of processor.
const STRIPE: usize = 48;

/// One weight of an input for each sum of a stripe, in whole cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Stripe([f32; STRIPE]);

/// Weights of a layer that reads reals, in stripes of outputs.
#[derive(Clone, Debug)]
pub(in crate::bnn) struct Matrix {
    kernels: Kernels,
    inputs: usize,
    outputs: usize,
    /// Ordered `[stripe][input]`, with zeros after the last output.
    stripes: Vec<Stripe>,
}

impl Matrix {
    /// `weight` returns the weight of an input for an output.
    pub fn new(
        kernels: Kernels,
        [inputs, outputs]: [usize; 2],
        weight: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let mut stripes = Vec::with_capacity(inputs * outputs.div_ceil(STRIPE));
        for first in (0..outputs).step_by(STRIPE) {
            stripes.extend((0..inputs).map(|input| {
                let mut stripe = Stripe([0.0; STRIPE]);
                for (lane, output) in stripe.0.iter_mut().zip(first..outputs) {
                    *lane = weight(input, output);
                }
                stripe
            }));
        }
        Self { kernels, inputs, outputs, stripes }
    }

    /// Number of sums.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Writes the sum of each output's products. All kernels add them one after another, as the
    /// reference does.
    pub fn multiply(&self, values: &[f32], sums: &mut [f32]) {
        assert_eq!((values.len(), sums.len()), (self.inputs, self.outputs));
        match self.kernels.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels exist only if the processor has their instructions.
            Instructions::Avx512 => unsafe { avx512(&self.stripes, values, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { avx2(&self.stripes, values, sums) },
            _ => multiply(&self.stripes, values, sums),
        }
    }
}

/// The compiler vectorises the plain loops. It does not fuse a product and a sum.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(stripes: &[Stripe], values: &[f32], sums: &mut [f32]) {
    multiply(stripes, values, sums);
}

/// As above.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(stripes: &[Stripe], values: &[f32], sums: &mut [f32]) {
    multiply(stripes, values, sums);
}

#[inline(always)]
fn multiply(stripes: &[Stripe], values: &[f32], sums: &mut [f32]) {
    let stripes = stripes.chunks_exact(values.len());
    for (stripe, sums) in stripes.zip(sums.chunks_mut(STRIPE)) {
        let mut totals = [0.0; STRIPE];
        for (value, weights) in values.iter().zip(stripe) {
            for (total, weight) in totals.iter_mut().zip(&weights.0) {
                *total += value * weight;
            }
        }
        sums.copy_from_slice(&totals[..sums.len()]);
    }
}
