//! Times of samples as phones and files have them: what is mended, and what is refused.

use std::fmt;

use super::SignalError;
use super::resample::LONGEST_GAP_SECONDS;

/// With fewer samples, nothing is mended or guessed.
const FEWEST_SAMPLES: usize = 10;

/// At most this many samples before a gap of this length are stale. Sensors deliver what they had before
/// they were started.
const MOST_STALE: usize = 5;
const STALE_SECONDS: f64 = 1.0;

/// A longer gap is a pause. It is the length of a window.
const LONGEST_GAP_KEPT_SECONDS: f64 = 2.0;

/// What a pause is shortened to: no window spans it.
const PAUSE_SECONDS: f64 = 0.3;
const _: () = assert!(PAUSE_SECONDS > LONGEST_GAP_SECONDS);

/// Sampling that is slower on average has gaps, not pauses.
const SLOWEST_SECONDS: f64 = 0.1;

/// If more samples share the time of the one before, times are rounded.
const MOST_REPEATED_SHARE: f64 = 0.1;

/// Sample periods that a unit of time is judged by: 15 to 250 Hz.
const PERIOD_SECONDS: std::ops::RangeInclusive<f64> = 0.004..=0.067;

/// Units of time, and how many of each are a second.
const UNITS: [(&str, f64); 7] = [
    ("milliseconds", 1e3),
    ("microseconds", 1e6),
    ("ticks of 100 ns", 1e7),
    ("nanoseconds", 1e9),
    ("minutes", 1.0 / 60.0),
    ("hours", 1.0 / 3_600.0),
    ("days", 1.0 / 86_400.0),
];

/// A fault of a recording that was mended. The client should still remove its cause.
#[derive(Clone, Debug, PartialEq)]
pub enum Mend {
    /// The first samples were dropped.
    StaleSamples {
        /// Number of samples.
        samples: usize,
    },
    /// Samples with the time of the sample before were left out.
    RepeatedTimes {
        /// Number of samples.
        samples: usize,
    },
    /// The recording was split where no samples were taken for long.
    Pauses {
        /// Number of pauses.
        pauses: usize,
        /// Length of the longest.
        longest_seconds: f64,
    },
}

impl Mend {
    /// A short name for programs. It never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::StaleSamples { .. } => "stale-samples",
            Self::RepeatedTimes { .. } => "repeated-times",
            Self::Pauses { .. } => "pauses",
        }
    }
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleSamples { samples: 1 } => {
                write!(f, "the first sample was dropped: its time is far from the others")
            }
            Self::StaleSamples { samples } => write!(
                f,
                "the first {samples} samples were dropped: their times are far from the others"
            ),
            Self::RepeatedTimes { samples: 1 } => {
                write!(f, "1 sample was left out: it has the time of the sample before")
            }
            Self::RepeatedTimes { samples } => {
                write!(
                    f,
                    "{samples} samples were left out: they have the times of those before them"
                )
            }
            Self::Pauses { pauses, longest_seconds } => write!(
                f,
                "the recording was split at {pauses} {} without samples; the longest lasts \
                 {longest_seconds:.1} s",
                if *pauses == 1 { "pause" } else { "pauses" }
            ),
        }
    }
}

/// The times of a recording after mending.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// They rise strictly.
    pub times: Vec<f64>,
    /// Which samples were dropped, in order.
    pub dropped: Vec<usize>,
    /// For each pause, the number of kept samples before it, and its true length.
    pub pauses: Vec<(usize, f64)>,
    pub mends: Vec<Mend>,
}

impl Clock {
    /// Mends finite times. `is_copy` says whether a sample has the values of the one before.
    pub fn new(times: Vec<f64>, is_copy: impl Fn(usize) -> bool) -> Result<Self, SignalError> {
        let mut clock = Self { times, ..Self::default() };
        if clock.times.len() < FEWEST_SAMPLES {
            rising(&clock.times, 0)?;
            return Ok(clock);
        }
        let mut stale = usize::from(clock.times[1] < clock.times[0]);
        rising_or_equal(&clock.times, stale)?;
        let mut sorted = Vec::with_capacity(clock.times.len());
        sorted.extend(intervals(&clock.times[stale..]).filter(|&it| it > 0.0));
        sorted.sort_unstable_by(f64::total_cmp);
        let Some(&median) = sorted.get(sorted.len() / 2) else {
            return Err(rounded(&clock.times, 0.0));
        };
        batched(&clock.times[stale..], &sorted)?;
        in_seconds(median)?;

        let repeats: Vec<usize> = (stale + 1..clock.times.len())
            .filter(|&at| clock.times[at] <= clock.times[at - 1])
            .collect();
        let differing = repeats.iter().filter(|&&at| !is_copy(at)).count();
        let most = (clock.times.len() as f64 * MOST_REPEATED_SHARE).max(1.0);
        if differing as f64 > most {
            return Err(rounded(&clock.times[stale..], median));
        }
        if median <= SLOWEST_SECONDS {
            let is_gap = |at: &usize| clock.times[*at] - clock.times[at - 1] > STALE_SECONDS;
            let last = (stale + 1..=MOST_STALE.min(clock.times.len() - 1)).rfind(is_gap);
            // With more gaps, the samples are not stale but rare.
            let next = |first: usize| first + 1..(first + 1 + MOST_STALE).min(clock.times.len());
            stale = last.filter(|&last| !next(last).any(|at| is_gap(&at))).unwrap_or(stale);
        }
        clock.drop_samples(stale, repeats);
        if median <= SLOWEST_SECONDS {
            clock.shorten_pauses();
        }
        Ok(clock)
    }

    fn drop_samples(&mut self, stale: usize, mut repeats: Vec<usize>) {
        repeats.retain(|&at| at > stale);
        if stale > 0 {
            self.mends.push(Mend::StaleSamples { samples: stale });
        }
        if !repeats.is_empty() {
            self.mends.push(Mend::RepeatedTimes { samples: repeats.len() });
        }
        self.dropped = (0..stale).chain(repeats).collect();
        drop_at(&mut self.times, &self.dropped);
    }

    fn shorten_pauses(&mut self) {
        let (mut excess, mut longest_seconds) = (0.0, 0f64);
        let mut before = self.times[0];
        for (at, time) in self.times.iter_mut().enumerate().skip(1) {
            let gap = *time - before;
            before = *time;
            if gap > LONGEST_GAP_KEPT_SECONDS {
                self.pauses.push((at, gap));
                longest_seconds = longest_seconds.max(gap);
                excess += gap - PAUSE_SECONDS;
            }
            *time -= excess;
        }
        if !self.pauses.is_empty() {
            self.mends.push(Mend::Pauses { pauses: self.pauses.len(), longest_seconds });
        }
    }
}

/// Removes the elements at these positions, which are in order.
pub(super) fn drop_at<T>(values: &mut Vec<T>, positions: &[usize]) {
    if positions.is_empty() {
        return;
    }
    let (mut positions, mut at) = (positions.iter().copied().peekable(), 0);
    values.retain(|_| {
        let is_dropped = positions.next_if_eq(&at).is_some();
        at += 1;
        !is_dropped
    });
}

fn intervals(times: &[f64]) -> impl Iterator<Item = f64> + '_ {
    times.windows(2).map(|pair| pair[1] - pair[0])
}

fn rising(times: &[f64], first: usize) -> Result<(), SignalError> {
    match times.windows(2).skip(first).position(|pair| pair[1] <= pair[0]) {
        Some(offset) => Err(backward(times, first + offset + 1)),
        None => Ok(()),
    }
}

fn rising_or_equal(times: &[f64], first: usize) -> Result<(), SignalError> {
    match times.windows(2).skip(first).position(|pair| pair[1] < pair[0]) {
        Some(offset) => Err(backward(times, first + offset + 1)),
        None => Ok(()),
    }
}

fn backward(times: &[f64], index: usize) -> SignalError {
    SignalError::BackwardTime {
        index,
        previous_seconds: times[index - 1],
        time_seconds: times[index],
    }
}

fn rounded(times: &[f64], step_seconds: f64) -> SignalError {
    let repeated = intervals(times).filter(|&it| it <= 0.0).count();
    SignalError::RoundedTimes {
        percent: 100.0 * repeated as f32 / (times.len() - 1) as f32,
        step_seconds,
        rate_hz: rate_hz(times),
    }
}

/// Times of arrival, if samples are delivered in batches. The sensor took them evenly.
fn batched(times: &[f64], sorted: &[f64]) -> Result<(), SignalError> {
    let within = sorted[sorted.len() * 2 / 5];
    let gaps = &sorted[sorted.partition_point(|&it| it <= 4.0 * within)..];
    let batches = gaps.len() + 1;
    let samples = times.len() as f64 / batches as f64;
    let batch_seconds = within * (samples - 1.0);
    let gap_seconds = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    if batches >= 5 && samples >= 1.8 && batch_seconds < (0.5 * gap_seconds).min(1.0) {
        let samples = samples.round() as usize;
        return Err(SignalError::BatchedTimes { samples, gap_seconds, rate_hz: rate_hz(times) });
    }
    Ok(())
}

fn in_seconds(median: f64) -> Result<(), SignalError> {
    match UNITS.iter().find(|(_, per_second)| PERIOD_SECONDS.contains(&(median / per_second))) {
        Some(&(unit, per_second)) if !PERIOD_SECONDS.contains(&median) => {
            Err(SignalError::TimeUnits { interval: median, unit, rate_hz: per_second / median })
        }
        _ => Ok(()),
    }
}

/// Mean rate; 0 if all times are the same.
fn rate_hz(times: &[f64]) -> f64 {
    match times[times.len() - 1] - times[0] {
        0.0 => 0.0,
        seconds => (times.len() - 1) as f64 / seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even(samples: usize, rate_hz: f64) -> Vec<f64> {
        (0..samples).map(|index| index as f64 / rate_hz).collect()
    }

    fn mended(times: Vec<f64>) -> Clock {
        Clock::new(times, |_| false).unwrap()
    }

    fn refused(times: Vec<f64>) -> (&'static str, String) {
        let error = Clock::new(times, |_| false).unwrap_err();
        assert_eq!(error.field(), "time_seconds");
        (error.code(), error.to_string())
    }

    #[test]
    fn ordinary_times_are_left_alone() {
        let jitter = |index: usize| [0.0, 0.004, -0.006, 0.009][index % 4];
        for rate_hz in [20.0, 50.0, 200.0, 400.0] {
            let mut times = even(500, rate_hz);
            if rate_hz < 100.0 {
                times.iter_mut().enumerate().for_each(|(index, time)| *time += jitter(index));
            }
            // Lost samples, and a gap that is too short for a pause.
            times.retain(|time| (time * 7.3).fract() > 0.05);
            times.iter_mut().filter(|time| **time > 2.0).for_each(|time| *time += 1.5);
            let clock = mended(times.clone());
            assert_eq!(clock.times, times);
            assert_eq!(clock.mends, []);
        }
    }

    #[test]
    fn a_unit_of_time_is_recognised() {
        for (unit, per_second) in UNITS {
            for rate_hz in [20.0, 50.0, 100.0] {
                let mut times = even(400, rate_hz);
                times.iter_mut().skip(200).for_each(|time| *time += 120.0);
                times.iter_mut().for_each(|time| *time *= per_second);
                let (code, message) = refused(times);
                assert_eq!(code, "time-units");
                assert!(message.contains(unit), "{unit} at {rate_hz} Hz: {message}");
            }
        }
    }

    #[test]
    fn stale_first_samples_are_dropped() {
        for stale in [vec![-5000.0], vec![-1.1], vec![1e9], vec![-9000.0, -9000.0, -8000.0]] {
            let times = [stale.clone(), even(100, 50.0)].concat();
            let clock = mended(times);
            assert_eq!(clock.times, even(100, 50.0));
            assert_eq!(clock.dropped, (0..stale.len()).collect::<Vec<_>>());
            assert_eq!(clock.mends, [Mend::StaleSamples { samples: stale.len() }]);
        }
        // Rare samples are not stale: nobody knows where the recording begins.
        let rare = vec![-9.0, -8.98, -6.0, -5.98, -5.96, -5.94, -3.0, -2.98];
        let times = [rare, even(100, 50.0)].concat();
        assert!(mended(times).dropped.is_empty());
        let (code, _) = refused([vec![9.0, 8.0], even(100, 50.0)].concat());
        assert_eq!(code, "backward-time");
    }

    #[test]
    fn some_repeated_times_are_left_out() {
        let mut times = even(100, 25.0);
        times.insert(50, times[49]);
        times.insert(70, times[69]);
        let clock = mended(times);
        assert_eq!((clock.times, clock.dropped), (even(100, 25.0), vec![50, 70]));
        assert_eq!(clock.mends, [Mend::RepeatedTimes { samples: 2 }]);
        // Each sample was delivered twice.
        let twice: Vec<f64> = even(100, 25.0).into_iter().flat_map(|time| [time; 2]).collect();
        let clock = Clock::new(twice, |at| at % 2 == 1).unwrap();
        assert_eq!((clock.times, clock.dropped.len()), (even(100, 25.0), 100));
    }

    #[test]
    fn rounded_times_are_refused_with_the_true_rate() {
        let round = |step: f64| even(400, 50.0).iter().map(|t| (t / step).floor() * step).collect();
        for (step, expected) in [(0.1, "0.1 s"), (1.0, "1 s")] {
            let (code, message) = refused(round(step));
            assert_eq!(code, "rounded-times");
            assert!(message.contains(expected) && message.contains("rate_hz"), "{message}");
        }
        let (code, message) = refused(vec![7.0; 100]);
        assert_eq!(code, "rounded-times");
        assert!(message.contains("100 %") && !message.contains("rate_hz"), "{message}");
    }

    #[test]
    fn times_of_arrival_are_refused_with_the_true_rate() {
        for (batch, spacing) in [(2, 0.001), (5, 0.001), (10, 0.002), (50, 0.0002)] {
            let times = (0..500).map(|index: usize| {
                ((index / batch + 1) * batch) as f64 / 50.0 + (index % batch) as f64 * spacing
            });
            let (code, message) = refused(times.collect());
            assert_eq!(code, "batched-times");
            assert!(message.contains(&format!("batches of about {batch} ")), "{message}");
            assert!(message.contains("50") || message.contains("51"), "{message}");
        }
    }

    #[test]
    fn a_recording_is_split_at_pauses() {
        let mut times = even(300, 50.0);
        times.iter_mut().skip(100).for_each(|time| *time += 120.0);
        times.iter_mut().skip(200).for_each(|time| *time += 3.0);
        let clock = mended(times);
        assert!((clock.times[100] - clock.times[99] - PAUSE_SECONDS).abs() < 1e-9);
        assert!((clock.times[299] - (299.0 / 50.0 + 2.0 * (PAUSE_SECONDS - 0.02))).abs() < 1e-9);
        assert_eq!(clock.pauses.iter().map(|pause| pause.0).collect::<Vec<_>>(), [100, 200]);
        assert!((clock.pauses[0].1 - 120.02).abs() < 1e-9);
        let [Mend::Pauses { pauses: 2, longest_seconds }] = clock.mends[..] else { panic!() };
        assert!((longest_seconds - 120.02).abs() < 1e-9);
        // A second look finds nothing to mend.
        assert_eq!(mended(clock.times).mends, []);
    }
}
