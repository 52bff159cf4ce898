//! What is kept of a walk.

/// The direction of a walk in the network's feature space, and how many windows it stands for:
/// the sum of the windows' unit vectors. Templates of one user add up.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    sum: Vec<f32>,
    windows: u32,
}

/// Why values are not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Another length than the network's feature.
    #[error("the template has {length} values; the network's feature has {needed}")]
    Length {
        /// Length given.
        length: usize,
        /// Length needed.
        needed: usize,
    },
    /// Not a sum of unit vectors: not finite, or longer than its windows allow.
    #[error("the template's values are not a sum of {windows} unit vectors")]
    Values {
        /// Windows claimed.
        windows: u32,
    },
}

impl Template {
    /// A template of no window yet.
    pub fn empty(feature_len: usize) -> Self {
        Self { sum: vec![0.0; feature_len], windows: 0 }
    }

    /// Takes a template back from storage.
    ///
    /// # Errors
    /// When the values cannot have come from [`Template::values`] of this feature length.
    pub fn from_values(
        sum: Vec<f32>,
        windows: u32,
        feature_len: usize,
    ) -> Result<Self, TemplateError> {
        if sum.len() != feature_len {
            return Err(TemplateError::Length { length: sum.len(), needed: feature_len });
        }
        let length = norm(&sum);
        // Packing moves each value by half a step at most, which is a 254th of the largest.
        let rounding = 1.001 + (feature_len as f32).sqrt() / 254.0;
        if length.is_nan() || length > windows as f32 * rounding {
            return Err(TemplateError::Values { windows });
        }
        Ok(Self { sum, windows })
    }

    /// One signed byte a value, in units of a scale that is above zero.
    pub fn pack(&self) -> (f32, Vec<u8>) {
        let scale = self.scale();
        let steps = self.sum.iter().map(|value| (value / scale).round() as i8);
        (scale, steps.map(i8::cast_unsigned).collect())
    }

    /// The values of a packed template.
    pub fn unpack(scale: f32, steps: &[u8]) -> Vec<f32> {
        steps.iter().map(|step| f32::from(step.cast_signed()) * scale).collect()
    }

    /// The template that packing and unpacking gives: what is in memory is then what is in storage.
    pub fn rounded(mut self) -> Self {
        let scale = self.scale();
        self.sum.iter_mut().for_each(|value| *value = (*value / scale).round() * scale);
        self
    }

    /// The largest value is 127 steps.
    fn scale(&self) -> f32 {
        let largest = self.sum.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        (largest / 127.0).max(f32::MIN_POSITIVE)
    }

    /// How much a walk's windows agree: the cosine between a window and the direction of all, as
    /// estimated from the length of their sum. From 0 to 1; `None` for fewer than two windows.
    pub fn coherence(&self) -> Option<f32> {
        let windows = self.windows as f32;
        let square = norm(&self.sum).powi(2);
        (self.windows > 1)
            .then(|| ((square - windows) / (windows * (windows - 1.0))).clamp(0.0, 1.0).sqrt())
    }

    /// Whether a feature has a direction: it is finite, and not as good as zero.
    pub fn is_direction(feature: &[f32]) -> bool {
        norm(feature).is_normal()
    }

    /// Adds a window's feature.
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

    /// The sum of the windows' unit vectors.
    pub fn values(&self) -> &[f32] {
        &self.sum
    }

    /// Windows that it stands for.
    pub fn windows(&self) -> u32 {
        self.windows
    }

    /// Cosine of the angle between two templates, from -1 to 1.
    pub fn cosine(&self, other: &Self) -> f32 {
        self.direction().zip(other.direction()).map(|(a, b)| a * b).sum()
    }

    /// The direction alone, of length 1; zero where the windows cancel out.
    pub(super) fn direction(&self) -> impl Iterator<Item = f32> {
        let scale = 1.0 / norm(&self.sum).max(f32::MIN_POSITIVE);
        self.sum.iter().map(move |value| value * scale)
    }
}

/// In double precision: squares of what a client may send neither vanish nor overflow.
fn norm(values: &[f32]) -> f32 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_window_counts_alike_however_loud() {
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
    fn coherence_is_that_of_the_windows() {
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
    fn storage_gives_back_only_templates() {
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
