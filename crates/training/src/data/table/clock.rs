//! Times of day.

const DAY: f64 = 86_400.0;
const HOUR: f64 = 3_600.0;

/// Reads a column of dates and times of day, such as `2024-05-07 16:29:36.123`.
///
/// Only the time of day counts. If it runs back by half a day, a new day has begun; this works for any
/// order of day, month and year.
#[derive(Debug, Default)]
pub struct Clock {
    begun: f64,
    last: f64,
}

impl Clock {
    /// Seconds from the midnight before the first cell. `None` if the cell has no time of day.
    pub fn seconds(&mut self, cell: &str) -> Option<f64> {
        let (seconds, period) = time_of_day(cell)?;
        if seconds < self.last - period / 2.0 {
            self.begun += period;
        }
        self.last = seconds;
        Some(self.begun + seconds)
    }
}

/// Seconds, and after how many of them the clock begins anew.
fn time_of_day(cell: &str) -> Option<(f64, f64)> {
    let cell = cell.split('[').next()?.to_ascii_lowercase();
    let word_ends = |c: char| c.is_whitespace() || c == 't';
    let words: Vec<&str> = cell.split(word_ends).filter(|word| !word.is_empty()).collect();
    let (seconds, period) = words.iter().rev().find_map(|word| clock(word))?;
    let hour = (seconds / HOUR) as u32;
    let half_day = if words.iter().any(|word| word.ends_with("pm")) && hour < 12 {
        DAY / 2.0
    } else if words.iter().any(|word| word.ends_with("am")) && hour == 12 {
        -DAY / 2.0
    } else {
        0.0
    };
    Some((seconds + half_day, period))
}

/// `16:29:36.123`, with any sign between the parts; or `29:36.1`, as spreadsheets shorten it.
fn clock(word: &str) -> Option<(f64, f64)> {
    let word = word.trim_end_matches(['a', 'p', 'm', 'z']);
    let word = word.split('+').next()?;
    // A zone such as -07:00.
    let word = match word.split_once(':') {
        Some((_, rest)) if rest.contains(':') => word.split('-').next()?,
        _ => word,
    };
    let parts: Vec<&str> = word.split([':', '-', '.', ',', '_']).collect();
    let whole = |part: &str, below: u32| {
        let short = !part.is_empty() && part.len() <= 2;
        let number = short.then(|| part.parse::<u32>().ok()).flatten();
        number.filter(|number| *number < below).map(f64::from)
    };
    let fraction = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| format!("0.{part}").parse::<f64>().ok()).flatten()
    };
    match parts[..] {
        [h, m, s] if word.contains(':') && !word.contains(['.', ',']) => {
            Some((whole(h, 24)? * HOUR + whole(m, 60)? * 60.0 + whole(s, 61)?, DAY))
        }
        [h, m, s, f] => {
            Some((whole(h, 24)? * HOUR + whole(m, 60)? * 60.0 + whole(s, 61)? + fraction(f)?, DAY))
        }
        [m, s, f] if word.contains(':') => {
            Some((whole(m, 60)? * 60.0 + whole(s, 61)? + fraction(f)?, HOUR))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_way_to_write_a_time_of_day_is_read() {
        let expected = 16.0 * HOUR + 29.0 * 60.0 + 36.123;
        for cell in [
            "16:29:36.123",
            "2024-05-07 16:29:36.123",
            "2024-05-07T16:29:36.123Z",
            "2024-05-07T16:29:36.123000-07:00",
            "2024-05-07 16:29:36.123000+0100 [Europe/London]",
            "2018-05-14T16.29.36.123",
            "07.05.24 16:29:36,123",
            "5/7/2024 4:29:36.123 PM",
            "4:29:36.123pm",
            "2015-08-28 16:29:36:123",
            "2015-08-28 16-29-36_123",
            "Tuesday 07-May-2024 04-29-36-123 PM",
        ] {
            let seconds = Clock::default().seconds(cell).unwrap_or_else(|| panic!("{cell}"));
            assert!((seconds - expected).abs() < 1e-6, "{cell}: {seconds}");
        }
        assert_eq!(Clock::default().seconds("29:36.1"), Some(29.0 * 60.0 + 36.1));
        assert_eq!(Clock::default().seconds("12:00:05 am"), Some(5.0));
        for cell in ["", "2024-05-07", "1.5.3", "12:75:00", "noon", "1:2", "::", "é:é:é"] {
            assert_eq!(Clock::default().seconds(cell), None, "{cell}");
        }
    }

    #[test]
    fn time_goes_on_after_midnight() {
        let mut clock = Clock::default();
        let mut read = |cell| clock.seconds(cell).unwrap();
        let before = read("31.12.24 23:59:59.900");
        assert!((read("1.1.25 00:00:00.100") - before - 0.2).abs() < 1e-6);
        let mut clock = Clock::default();
        assert_eq!(clock.seconds("59:59.5"), Some(3599.5));
        assert_eq!(clock.seconds("00:00.5"), Some(3600.5));
    }
}
