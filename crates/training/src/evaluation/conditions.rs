//! Changes to a probe that phones and people cause after enrollment.

use bipedalnet_core::gait::simulator::Replay;
use bipedalnet_core::{
    cbor,
    gait::{Precision, Recording, RecordingDocument, compact},
};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// Share of the samples that are lost.
const MISSING_SHARE: f64 = 0.1;

/// The smallest common range of a sensor: 2 g.
const RANGE_M_S2: f32 = 19.6;

const NOISE_M_S2: f32 = 0.3;

/// Seeds of a condition's random numbers.
#[derive(Clone, Copy)]
pub struct Seeds {
    /// For what stays the same over a recording, such as the phone's orientation.
    pub recording: u64,
    /// For what differs between probes.
    pub probe: u64,
}

/// Changes a probe. `None` if no recording is left.
pub type Change = fn(&Recording, Seeds) -> Option<Recording>;

/// A way in which probes differ from enrolled recordings.
#[derive(Clone, Copy)]
pub struct Condition {
    pub name: &'static str,
    pub change: Change,
}

/// No change.
pub const UNCHANGED: Condition =
    Condition { name: "as recorded", change: |walk, _| Some(walk.clone()) };

const WITHOUT_GYROSCOPE: Condition = Condition {
    name: "without gyroscope",
    change: |walk, _| Some(walk.clone().without_angular_rate()),
};

pub const CONDITIONS: [Condition; 8] = [
    Condition {
        name: "turned in the pocket",
        change: |walk, seeds| {
            Replay { turned: true, ..Replay::default() }.copy(walk, seeds.recording)
        },
    },
    Condition {
        name: "20 Hz",
        change: |walk, seeds| {
            Replay { rate_hz: Some(20.0), ..Replay::default() }.copy(walk, seeds.probe)
        },
    },
    Condition { name: "compact transport", change: sent_compact },
    WITHOUT_GYROSCOPE,
    Condition { name: "10 % of samples missing", change: with_samples_missing },
    Condition { name: "clipped at 2 g", change: |walk, _| clipped(walk) },
    Condition {
        name: "8 % faster",
        change: |walk, seeds| Replay { speed: 1.08, ..Replay::default() }.copy(walk, seeds.probe),
    },
    Condition { name: "noise of 0.3 m/s^2", change: noisy },
];

fn sent_compact(walk: &Recording, _: Seeds) -> Option<Recording> {
    let bytes = compact(walk, &Precision::default()).ok()?;
    cbor::from_slice::<RecordingDocument>(&bytes).ok()?.try_into().ok()
}

fn with_samples_missing(walk: &Recording, seeds: Seeds) -> Option<Recording> {
    let mut random = Pcg64Mcg::seed_from_u64(seeds.probe);
    let samples = walk.time_seconds().len();
    let kept: Vec<usize> = (0..samples).filter(|_| !random.random_bool(MISSING_SHARE)).collect();
    let of = |source: &[[f32; 3]]| kept.iter().map(|&index| source[index]).collect();
    let times = kept.iter().map(|&index| walk.time_seconds()[index]).collect();
    Recording::new(times, of(walk.acceleration_m_s2()), walk.angular_rate_rad_s().map(of)).ok()
}

fn clipped(walk: &Recording) -> Option<Recording> {
    with_acceleration(walk, |value| value.clamp(-RANGE_M_S2, RANGE_M_S2))
}

fn noisy(walk: &Recording, seeds: Seeds) -> Option<Recording> {
    let mut random = Pcg64Mcg::seed_from_u64(seeds.probe);
    with_acceleration(walk, |value| {
        let noise: f32 = StandardNormal.sample(&mut random);
        value + NOISE_M_S2 * noise
    })
}

fn with_acceleration(walk: &Recording, mut change: impl FnMut(f32) -> f32) -> Option<Recording> {
    let mut acceleration = walk.acceleration_m_s2().to_vec();
    acceleration.as_flattened_mut().iter_mut().for_each(|value| *value = change(*value));
    let rates = walk.angular_rate_rad_s().map(<[_]>::to_vec);
    Recording::new(walk.time_seconds().to_vec(), acceleration, rates).ok()
}

#[cfg(test)]
mod tests {
    use bipedalnet_core::gait::simulator::{Conditions, Walker};

    use super::*;

    fn changed(name: &str, walk: &Recording) -> Recording {
        let condition = CONDITIONS.iter().find(|condition| condition.name == name).unwrap();
        (condition.change)(walk, Seeds { recording: 1, probe: 2 }).unwrap()
    }

    fn norms(samples: &[[f32; 3]]) -> Vec<f32> {
        samples.iter().map(|sample| sample.iter().map(|v| v * v).sum::<f32>().sqrt()).collect()
    }

    #[test]
    fn conditions_do_what_they_say() {
        let conditions = Conditions { seconds: 10.0, rate_hz: 100.0, ..Conditions::default() };
        let walk = Walker::new(3).walk(1, &conditions);
        let rates = walk.angular_rate_rad_s().unwrap();

        let turned = changed("turned in the pocket", &walk);
        assert_ne!(turned.acceleration_m_s2(), walk.acceleration_m_s2());
        let lengths = |walk: &Recording| {
            [norms(walk.acceleration_m_s2()), norms(walk.angular_rate_rad_s().unwrap())].concat()
        };
        for (a, b) in lengths(&turned).iter().zip(lengths(&walk)) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }

        let slow = changed("20 Hz", &walk);
        assert!((slow.rate_hz() - 20.0).abs() < 1e-6 && slow.duration_seconds() > 9.8);
        assert_eq!(slow.angular_rate_rad_s().unwrap().len(), slow.time_seconds().len());

        let sent = changed("compact transport", &walk);
        assert!((sent.rate_hz() - 50.0).abs() < 1e-3);

        assert_eq!(changed("without gyroscope", &walk).angular_rate_rad_s(), None);

        let holed = changed("10 % of samples missing", &walk);
        let share = holed.time_seconds().len() as f64 / walk.time_seconds().len() as f64;
        assert!((share - 0.9).abs() < 0.03, "{share}");
        let position =
            walk.time_seconds().iter().position(|time| *time == holed.time_seconds()[500]);
        assert_eq!(holed.angular_rate_rad_s().unwrap()[500], rates[position.unwrap()]);

        let clipped = changed("clipped at 2 g", &walk);
        let largest = |walk: &Recording| {
            walk.acceleration_m_s2().iter().flatten().map(|v| v.abs()).fold(0.0, f32::max)
        };
        assert!(largest(&walk) > RANGE_M_S2 && largest(&clipped) == RANGE_M_S2);

        let fast = changed("8 % faster", &walk);
        assert!((walk.duration_seconds() / fast.duration_seconds() - 1.08).abs() < 1e-9);
        assert_eq!(fast.angular_rate_rad_s(), walk.angular_rate_rad_s());

        let noisy = changed("noise of 0.3 m/s^2", &walk);
        let pairs = noisy.acceleration_m_s2().iter().flatten();
        let squares =
            pairs.zip(walk.acceleration_m_s2().iter().flatten()).map(|(a, b)| (a - b).powi(2));
        let deviation = (squares.sum::<f32>() / (3 * rates.len()) as f32).sqrt();
        assert!((deviation - 0.3).abs() < 0.02, "{deviation}");
    }
}
