//! Names the subject whose features are nearest.

/// Names windows by features, for networks that have no classes of their own.
#[derive(Default)]
pub struct NearestSubject {
    /// Of each person, the direction of the sum of their windows' directions.
    directions: Vec<Vec<f32>>,
}

impl NearestSubject {
    /// From the features of each person's windows. A person without any is never named.
    pub fn new(people: &[Vec<Vec<f32>>]) -> Self {
        let mut nearest = Self::default();
        nearest.add(people);
        nearest
    }

    /// Adds people after those that there are.
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

    /// Cosine of a window with each person, in place of logits.
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
