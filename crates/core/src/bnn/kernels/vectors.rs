//! Products of long vectors, for galleries.

#[cfg(target_arch = "x86_64")]
use super::Instructions;
use super::Kernels;

/// 128 values of four bits in a cache line: value `v` in the lower half of byte `v`, and value `v + 64`
/// in its upper half.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Nibbles(pub [u8; Nibbles::VALUES / 2]);

/// The values that a line of [`Nibbles`] is multiplied with, in their order.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Bytes(pub [i8; Nibbles::VALUES]);

/// A cache line of 16-bit values.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Words(pub [i16; Words::VALUES]);

impl Nibbles {
    pub const VALUES: usize = 128;
}

impl Words {
    pub const VALUES: usize = 32;
}

impl Kernels {
    /// Writes the product of each vector with a probe of as many lines.
    pub(crate) fn nibble_products(
        self,
        vectors: &[Nibbles],
        probe: &[Bytes],
        products: &mut [i32],
    ) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels exist only if the processor has their instructions.
            Instructions::Avx512 => unsafe { x86::avx512_nibbles(vectors, probe, products) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { x86::avx2_nibbles(vectors, probe, products) },
            _ => nibbles(vectors, probe, products),
        }
    }

    /// The product of two vectors. It must fit 32 bits.
    pub(crate) fn word_product(self, a: &[Words], b: &[Words]) -> i32 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: kernels exist only if the processor has their instructions.
            Instructions::Avx512 => unsafe { x86::avx512_words(a, b) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx2 => unsafe { x86::avx2_words(a, b) },
            _ => words(a, b),
        }
    }
}

fn nibbles(vectors: &[Nibbles], probe: &[Bytes], products: &mut [i32]) {
    for (vector, product) in vectors.chunks_exact(probe.len()).zip(products) {
        *product = 0;
        for (line, probe) in vector.iter().zip(probe) {
            let (lower, upper) = probe.0.split_at(Nibbles::VALUES / 2);
            for ((byte, lower), upper) in line.0.iter().zip(lower).zip(upper) {
                let [low, high] = [byte & 15, byte >> 4].map(i32::from);
                *product += low * i32::from(*lower) + high * i32::from(*upper);
            }
        }
    }
}

fn words(a: &[Words], b: &[Words]) -> i32 {
    let mut sum = 0;
    for (a, b) in a.iter().zip(b) {
        for (&a, &b) in a.0.iter().zip(&b.0) {
            sum += i32::from(a) * i32::from(b);
        }
    }
    sum
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Bytes, Nibbles, Words};

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn avx512_nibbles(vectors: &[Nibbles], probe: &[Bytes], products: &mut [i32]) {
        let low_bits = _mm512_set1_epi8(15);
        for (vector, product) in vectors.chunks_exact(probe.len()).zip(products) {
            let mut sums = [_mm512_setzero_si512(); 2];
            for (line, probe) in vector.iter().zip(probe) {
                // SAFETY: a line has 64 bytes.
                let line = unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
                // SAFETY: the bytes of a probe are twice 64, aligned to 64.
                let [lower, upper] =
                    [0, 64].map(|at| unsafe { _mm512_load_si512(probe.0[at..].as_ptr().cast()) });
                let low = _mm512_and_si512(line, low_bits);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(line), low_bits);
                sums[0] = _mm512_dpbusd_epi32(sums[0], low, lower);
                sums[1] = _mm512_dpbusd_epi32(sums[1], high, upper);
            }
            *product = _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]));
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn avx2_nibbles(vectors: &[Nibbles], probe: &[Bytes], products: &mut [i32]) {
        let low_bits = _mm256_set1_epi8(15);
        let ones = _mm256_set1_epi16(1);
        for (vector, product) in vectors.chunks_exact(probe.len()).zip(products) {
            let mut sums = _mm256_setzero_si256();
            for (line, probe) in vector.iter().zip(probe) {
                // Four products of 15 and -128, twice, fit 16 bits.
                let mut pairs = _mm256_setzero_si256();
                for half in [0, 32] {
                    // SAFETY: half of a line has 32 bytes, aligned to 32.
                    let line = unsafe { _mm256_load_si256(line.0[half..].as_ptr().cast()) };
                    let [lower, upper] = [half, 64 + half].map(|at| {
                        // SAFETY: a quarter of a probe has 32 bytes, aligned to 32.
                        unsafe { _mm256_load_si256(probe.0[at..].as_ptr().cast()) }
                    });
                    let low = _mm256_and_si256(line, low_bits);
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(line), low_bits);
                    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(low, lower));
                    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(high, upper));
                }
                sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
            }
            *product = sum(sums);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn avx512_words(a: &[Words], b: &[Words]) -> i32 {
        // SAFETY: a line has 64 bytes, aligned to 64.
        let load = |line: &Words| unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
        let ((a, a_last), (b, b_last)) = (a.as_chunks::<2>(), b.as_chunks::<2>());
        let mut sums = [_mm512_setzero_si512(); 2];
        for (a, b) in a.iter().zip(b) {
            for at in 0..2 {
                sums[at] = _mm512_dpwssd_epi32(sums[at], load(&a[at]), load(&b[at]));
            }
        }
        let last = super::words(a_last, b_last);
        last + _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
    }

    #[target_feature(enable = "avx2")]
    pub fn avx2_words(a: &[Words], b: &[Words]) -> i32 {
        let load = |line: &Words, half: usize| {
            let half = &line.0[half * Words::VALUES / 2..][..Words::VALUES / 2];
            // SAFETY: half of a line has 32 bytes, aligned to 32.
            unsafe { _mm256_load_si256(half.as_ptr().cast()) }
        };
        let mut sums = [_mm256_setzero_si256(); 2];
        for (a, b) in a.iter().zip(b) {
            for (half, lanes) in sums.iter_mut().enumerate() {
                let products = _mm256_madd_epi16(load(a, half), load(b, half));
                *lanes = _mm256_add_epi32(*lanes, products);
            }
        }
        sum(_mm256_add_epi32(sums[0], sums[1]))
    }

    /// The sum of all lanes.
    #[target_feature(enable = "avx2")]
    fn sum(lanes: __m256i) -> i32 {
        let halves =
            _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
        let quarters = _mm_add_epi32(halves, _mm_shuffle_epi32::<0b01_00_11_10>(halves));
        let sum = _mm_add_epi32(quarters, _mm_shuffle_epi32::<0b10_11_00_01>(quarters));
        _mm_cvtsi128_si32(sum)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_kernels_multiply_the_same(
            lines in 1..9usize,
            bytes in vec(any::<u8>(), 5 * 8 * 64),
            probe in vec(any::<i8>(), 8 * Nibbles::VALUES),
            values in vec((-2900..2900i16, -2900..2900i16), 8 * Words::VALUES),
        ) {
            let vectors: Vec<Nibbles> =
                bytes.as_chunks().0[..5 * lines].iter().map(|bytes| Nibbles(*bytes)).collect();
            let probe: Vec<Bytes> =
                probe.as_chunks().0[..lines].iter().map(|values| Bytes(*values)).collect();
            let mut expected = [0; 5];
            nibbles(&vectors, &probe, &mut expected);
            let (a, b): (Vec<i16>, Vec<i16>) = values.into_iter().unzip();
            let [c, d] = [&a, &b].map(|values| {
                values.as_chunks().0[..lines].iter().map(|values| Words(*values)).collect::<Vec<_>>()
            });
            for kernels in Kernels::available() {
                let mut products = [7; 5];
                kernels.nibble_products(&vectors, &probe, &mut products);
                prop_assert_eq!(products, expected);
                prop_assert_eq!(kernels.word_product(&c, &d), words(&c, &d));
            }
        }
    }
}
