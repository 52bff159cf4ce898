//! Directions in 16 bits, for similarities to a cohort.

use super::super::{Calibration, Template};
use crate::bnn::Kernels;
use crate::bnn::vectors::Words;
use crate::rounding::nearest;

/// Sums of products fit into 32 bits, because directions have a length of about 1.
const ONE: f32 = 32_767.0;

/// The direction of a template in units of 1 / [`ONE`], padded with zeros.
#[derive(Debug)]
pub(super) struct Rounded {
    lines: Vec<Words>,
    pub windows: u32,
    attenuation: f32,
}

impl Rounded {
    pub fn new(template: &Template, calibration: &Calibration) -> Self {
        Self::with_length(template, template.inverse_length(), calibration)
    }

    /// With the template's [`inverse_length`](Template::inverse_length).
    pub fn with_length(
        template: &Template,
        inverse_length: f32,
        calibration: &Calibration,
    ) -> Self {
        let line = |values: &[f32]| {
            let mut line = Words([0; Words::VALUES]);
            for (word, value) in line.0.iter_mut().zip(values) {
                *word = nearest(value * inverse_length * ONE) as i16;
            }
            line
        };
        Self {
            lines: template.values().chunks(Words::VALUES).map(line).collect(),
            windows: template.windows(),
            attenuation: calibration.attenuation(template.windows()),
        }
    }

    /// Cosine of two directions, corrected for their numbers of windows.
    pub fn similarity(&self, other: &Self, kernels: Kernels) -> f32 {
        let cosine = kernels.word_product(&self.lines, &other.lines) as f32 / (ONE * ONE);
        cosine / (self.attenuation * other.attenuation)
    }

    /// The highest similarity to one of several.
    pub fn highest(&self, others: &[Self], kernels: Kernels) -> f32 {
        others.iter().map(|other| self.similarity(other, kernels)).fold(f32::MIN, f32::max)
    }
}
