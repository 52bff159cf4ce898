//! Templates of walks.

use std::borrow::Cow;

/// The sum of the unit feature vectors of a walk's windows, and the number of windows.
///
/// Its direction identifies the walker. Templates of one user can be added.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    sum: Vec<f32>,
    windows: u32,
}

/// Why stored values are not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The length is not that of the network's feature.
    #[error("the template has {length} values; the network's feature has {needed}")]
    Length {
        /// Length of the values.
        length: usize,
        /// Length that is needed.
        needed: usize,
    },
    /// The values are not finite, or their sum is too long for the number of windows.
    #[error("the template's values are not a sum of {windows} unit vectors")]
    Values {
        /// Number of windows.
        windows: u32,
    },
}

impl Template {
    /// A template without windows.
    pub fn empty(feature_len: usize) -> Self {
        Self { sum: vec![0.0; feature_len], windows: 0 }
    }

    /// Restores a template from storage.
    ///
    /// # Errors
    /// If the values cannot come from [`Template::values`] with this feature length.
    pub fn from_values(
        sum: Vec<f32>,
        windows: u32,
        feature_len: usize,
    ) -> Result<Self, TemplateError> {
        if sum.len() != feature_len {
            return Err(TemplateError::Length { length: sum.len(), needed: feature_len });
        }
        let length = norm(&sum);
        // Packing moves each value by at most half a step, which is 1/254 of the largest value.
        let rounding = 1.001 + (feature_len as f32).sqrt() / 254.0;
        if length.is_nan() || length > windows as f32 * rounding {
            return Err(TemplateError::Values { windows });
        }
        Ok(Self { sum, windows })
    }

    /// A scale above zero, and one signed byte per value in units of this scale.
    pub fn pack(&self) -> (f32, Vec<u8>) {
        let scale = self.scale();
        let steps = self.sum.iter().map(|value| (value / scale).round() as i8);
        (scale, steps.map(i8::cast_unsigned).collect())
    }

    /// The values of a packed template.
    pub fn unpack(scale: f32, steps: &[u8]) -> Vec<f32> {
        steps.iter().map(|step| f32::from(step.cast_signed()) * scale).collect()
    }

    /// This template after packing and unpacking, so that memory and storage hold the same.
    pub fn rounded(mut self) -> Self {
        let scale = self.scale();
        self.sum.iter_mut().for_each(|value| *value = (*value / scale).round() * scale);
        self
    }

    /// The step with which the largest value is 127 steps.
    fn scale(&self) -> f32 {
        let largest = self.sum.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        (largest / 127.0).max(f32::MIN_POSITIVE)
    }

    /// How well the windows agree: the cosine of one window and the mean direction, estimated from the
    /// length of the sum. From 0 to 1. `None` for fewer than two windows.
    pub fn coherence(&self) -> Option<f32> {
        let windows = self.windows as f32;
        let square = norm(&self.sum).powi(2);
        (self.windows > 1)
            .then(|| ((square - windows) / (windows * (windows - 1.0))).clamp(0.0, 1.0).sqrt())
    }

    /// Whether a feature has a direction, that is a length that is finite and not almost zero.
    pub fn is_direction(feature: &[f32]) -> bool {
        norm(feature).is_normal()
    }

    /// Adds the feature of one window.
    pub fn add_window(&mut self, feature: &[f32]) {
        let length = norm(feature).max(f32::MIN_POSITIVE);
        for (sum, value) in self.sum.iter_mut().zip(feature) {
            *sum += value / length;
        }
        self.windows += 1;
    }

    /// Adds another template of the same user.
    pub fn add(&mut self, other: &Self) {
        self.sum.iter_mut().zip(&other.sum).for_each(|(sum, value)| *sum += value);
        self.windows = self.windows.saturating_add(other.windows);
    }

    /// The same direction, with the weight of at most this many windows.
    pub(super) fn with_at_most(&self, windows: u32) -> Cow<'_, Self> {
        if self.windows <= windows {
            return Cow::Borrowed(self);
        }
        let share = windows as f32 / self.windows as f32;
        Cow::Owned(Self { sum: self.sum.iter().map(|value| value * share).collect(), windows })
    }

    /// The sum of the windows' unit vectors.
    pub fn values(&self) -> &[f32] {
        &self.sum
    }

    /// The same walk with other values. They must have the same length as a vector.
    pub(super) fn with_values(&self, change: impl FnOnce(&[f32]) -> Vec<f32>) -> Self {
        Self { sum: change(&self.sum), windows: self.windows }
    }

    /// Number of windows.
    pub fn windows(&self) -> u32 {
        self.windows
    }

    /// Cosine of the angle between two templates, from -1 to 1.
    pub fn cosine(&self, other: &Self) -> f32 {
        self.direction().zip(other.direction()).map(|(a, b)| a * b).sum()
    }

    /// The direction, with a length of 1. Zero if the windows cancel out.
    pub(super) fn direction(&self) -> impl Iterator<Item = f32> {
        let scale = self.inverse_length();
        self.sum.iter().map(move |value| value * scale)
    }

    /// The factor that makes a direction of the values. It takes longer than a product of two templates.
    pub(super) fn inverse_length(&self) -> f32 {
        1.0 / norm(&self.sum).max(f32::MIN_POSITIVE)
    }
}

/// In double precision, so that squares of client data neither vanish nor overflow.
fn norm(values: &[f32]) -> f32 {
    let square = |&value: &f32| f64::from(value) * f64::from(value);
    let (eights, rest) = values.as_chunks::<8>();
    // Side by side: one sum would wait for each of its additions.
    let mut sums = [0.0; 8];
    for eight in eights {
        sums.iter_mut().zip(eight).for_each(|(sum, value)| *sum += square(value));
    }
    (sums.iter().sum::<f64>() + rest.iter().map(square).sum::<f64>()).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_window_has_the_same_weight() {
        let mut template = Template::empty(2);
        template.add_window(&[100.0, 0.0]);
        template.add_window(&[0.0, 0.1]);
        assert_eq!((template.values(), template.windows()), (&[1.0, 1.0][..], 2));
        let mut more = Template::empty(2);
        more.add_window(&[0.0, 0.0]);
        more.add_window(&[-3.0, 0.0]);
        template.add(&more);
        assert_eq!((template.values(), template.windows()), (&[0.0, 1.0][..], 4));
    }

    proptest! {
        #[test]
        fn a_packed_template_is_rounded(
            features in prop::collection::vec(prop::collection::vec(-9.0..9.0f32, 5), 1..20),
        ) {
            let mut template = Template::empty(5);
            features.iter().for_each(|feature| template.add_window(feature));
            let (scale, steps) = template.pack();
            let unpacked = Template::unpack(scale, &steps);
            let read = Template::from_values(unpacked, template.windows(), 5).unwrap();
            prop_assert_eq!(&read, &template.clone().rounded());
            prop_assert_eq!(&read.clone().rounded(), &read);
            prop_assert!(norm(template.values()) < 1e-3 || template.cosine(&read) > 0.99);
        }
    }

    #[test]
    fn coherence_measures_how_windows_agree() {
        let mut template = Template::empty(2);
        template.add_window(&[1.0, 0.0]);
        assert_eq!(template.coherence(), None);
        template.add_window(&[1.0, 0.0]);
        assert_eq!(template.coherence(), Some(1.0));
        template.add_window(&[-1.0, 0.0]);
        template.add_window(&[-1.0, 0.0]);
        assert_eq!(template.coherence(), Some(0.0));
    }

    #[test]
    fn values_that_are_no_template_are_rejected() {
        assert!(Template::from_values(vec![1.0, 1.0], 2, 2).is_ok());
        assert_eq!(
            Template::from_values(vec![1.0], 1, 2),
            Err(TemplateError::Length { length: 1, needed: 2 })
        );
        for values in [[3.0, 0.0], [f32::NAN, 0.0], [f32::INFINITY, 0.0]] {
            assert_eq!(
                Template::from_values(values.to_vec(), 2, 2),
                Err(TemplateError::Values { windows: 2 })
            );
        }
    }
}
