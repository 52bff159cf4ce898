//! Names the subject with the nearest features.

/// Names windows by their features, for networks without classes.
#[derive(Default)]
pub struct NearestSubject {
    /// For each person, the direction of the sum of their windows' directions.
    directions: Vec<Vec<f32>>,
}

impl NearestSubject {
    /// Takes the features of each person's windows. A person without windows is never named.
    pub fn new(people: &[Vec<Vec<f32>>]) -> Self {
        let mut nearest = Self::default();
        nearest.add(people);
        nearest
    }

    /// Adds more people.
    pub fn add(&mut self, people: &[Vec<Vec<f32>>]) {
        let direction = |windows: &Vec<Vec<f32>>| {
            let mut sum = vec![0.0; windows.first().map_or(0, Vec::len)];
            for window in windows {
                sum.iter_mut().zip(direction(window)).for_each(|(sum, value)| *sum += value);
            }
            direction(&sum)
        };
        self.directions.extend(people.iter().map(direction));
    }

    /// The cosine of a window with each person. It replaces logits.
    pub fn cosines(&self, feature: &[f32]) -> Vec<f32> {
        let window = direction(feature);
        let cosine = |person: &Vec<f32>| match person.len() {
            0 => -1.0,
            _ => person.iter().zip(&window).map(|(a, b)| a * b).sum(),
        };
        self.directions.iter().map(cosine).collect()
    }
}

fn direction(values: &[f32]) -> Vec<f32> {
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.iter().map(|value| value / length.max(f32::MIN_POSITIVE)).collect()
}
