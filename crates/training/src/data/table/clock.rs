//! Times of day.

const DAY: f64 = 86_400.0;
const HOUR: f64 = 3_600.0;

/// Reads a column of times of day, such as `16:29:36.123`, with dates or without.
///
/// A date may have any order of day, month and year, so only its change counts. Without dates, a new
/// day has begun if the time runs back by half a day.
#[derive(Debug, Default)]
pub struct Clock {
    begun: f64,
    last: f64,
    date: Date,
}

impl Clock {
    /// Seconds from the midnight before the first cell. `None` if the cell has no time of day. `date`
    /// has the date if the cell has none.
    pub fn seconds(&mut self, cell: &str, date: &str) -> Option<f64> {
        let Reading { seconds, period, date: own } = time_of_day(cell)?;
        let date = if own.numbers.is_empty() { Date::new([date]) } else { own };
        let has_dates = !date.numbers.is_empty() && !self.date.numbers.is_empty();
        if has_dates && period == DAY {
            self.begun += self.date.days_to(&date) * DAY;
        } else if seconds < self.last - period / 2.0 {
            self.begun += period;
        }
        self.date = date;
        self.last = seconds;
        Some(self.begun + seconds)
    }
}

/// A date in any order of day, month and year.
#[derive(Debug, Default)]
struct Date {
    numbers: Vec<f64>,
    /// Names of the month and the day of the week.
    names: String,
}

impl Date {
    fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut date = Self::default();
        for part in words.into_iter().flat_map(|word| word.split(|c: char| !c.is_alphanumeric())) {
            match part.parse() {
                Ok(number) => date.numbers.push(number),
                Err(_) => date.names += part,
            }
        }
        date
    }

    /// Days to another date. A change of month or year counts as one day, since the order of the numbers
    /// is not known, and a pause of any day splits a walk.
    fn days_to(&self, other: &Self) -> f64 {
        let pairs = self.numbers.iter().zip(&other.numbers);
        let mut changes = pairs.map(|(from, to)| to - from).filter(|change| *change != 0.0);
        match (changes.next(), changes.next()) {
            (None, _) => 0.0,
            (Some(days), None) if days > 0.0 || self.names == other.names => days,
            _ => 1.0,
        }
    }
}

/// Whether a cell is a date alone.
pub fn is_date(cell: &str) -> bool {
    let parts: Vec<&str> = cell.split(['-', '/', '.']).collect();
    let is_number = |part: &&&str| {
        (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let short = parts.iter().filter(is_number).filter(|part| part.len() <= 2).count();
    let is_month = |part: &str| part.len() >= 3 && part.chars().all(char::is_alphabetic);
    match parts[..] {
        [_, month, _] if is_month(month) => {
            parts.iter().filter(is_number).count() == 2 && short > 0
        }
        [_, _, _] => parts.iter().all(|part| is_number(&part)) && short >= 2,
        _ => false,
    }
}

/// What a cell says.
struct Reading {
    seconds: f64,
    /// Seconds after which the clock begins anew.
    period: f64,
    /// The date beside it.
    date: Date,
}

fn time_of_day(cell: &str) -> Option<Reading> {
    let cell = cell.split('[').next()?.to_ascii_lowercase();
    let word_ends = |c: char| c.is_whitespace() || c == 't';
    let words: Vec<&str> = cell.split(word_ends).filter(|word| !word.is_empty()).collect();
    let (at, (seconds, period)) =
        words.iter().enumerate().rev().find_map(|(at, word)| Some((at, clock(word)?)))?;
    let hour = (seconds / HOUR) as u32;
    let half_day = if words.iter().any(|word| word.ends_with("pm")) && hour < 12 {
        DAY / 2.0
    } else if words.iter().any(|word| word.ends_with("am")) && hour == 12 {
        -DAY / 2.0
    } else {
        0.0
    };
    // A word with a sign is a zone.
    let is_zone = |word: &&str| word.contains('+') || word.starts_with('-');
    let beside = words.iter().enumerate().filter(|(index, word)| *index != at && !is_zone(word));
    let date = Date::new(beside.map(|(_, word)| *word));
    Some(Reading { seconds: seconds + half_day, period, date })
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
            let seconds = Clock::default().seconds(cell, "").unwrap_or_else(|| panic!("{cell}"));
            assert!((seconds - expected).abs() < 1e-6, "{cell}: {seconds}");
        }
        assert_eq!(Clock::default().seconds("29:36.1", ""), Some(29.0 * 60.0 + 36.1));
        assert_eq!(Clock::default().seconds("12:00:05 am", ""), Some(5.0));
        for cell in ["", "2024-05-07", "1.5.3", "12:75:00", "noon", "1:2", "::", "é:é:é"] {
            assert_eq!(Clock::default().seconds(cell, ""), None, "{cell}");
        }
    }

    #[test]
    fn time_goes_on_after_midnight() {
        let mut clock = Clock::default();
        let mut read = |cell| clock.seconds(cell, "").unwrap();
        let before = read("31.12.24 23:59:59.900");
        assert!((read("1.1.25 00:00:00.100") - before - 0.2).abs() < 1e-6);
        let mut clock = Clock::default();
        assert_eq!(clock.seconds("59:59.5", ""), Some(3599.5));
        assert_eq!(clock.seconds("00:00.5", ""), Some(3600.5));
    }

    #[test]
    fn a_change_of_date_is_a_pause_unless_midnight_passes() {
        for (before, after, seconds) in [
            (["07.05.2024 16:29:36.0", ""], ["08.05.2024 16:29:36.5", ""], DAY + 0.5),
            (["07.05.2024 16:29:36.0", ""], ["09.05.2024 16:29:36.5", ""], 2.0 * DAY + 0.5),
            (["5/7/2024 4:29:36 PM", ""], ["5/8/2024 4:29:37 PM", ""], DAY + 1.0),
            (["2024-05-31T16:29:36", ""], ["2024-06-02T16:29:37", ""], DAY + 1.0),
            (["2024-05-07 23:59:59.5", ""], ["2024-05-08 00:00:00.5", ""], 1.0),
            (["31.12.2024 23:59:59.5", ""], ["01.01.2025 00:00:00.5", ""], 1.0),
            (["30 April 2024 23:59:59.5", ""], ["1 May 2024 00:00:00.5", ""], 1.0),
            // The date stays, so it is not tomorrow.
            (["2024-05-07 23:59:59.5", ""], ["2024-05-07 00:00:00.5", ""], 1.0 - DAY),
            (["2024-05-08 16:29:36", ""], ["2024-05-07 16:29:36", ""], -DAY),
            (["16:29:36", "2024-05-07"], ["16:29:37", "2024-05-09"], 2.0 * DAY + 1.0),
            (["23:59:59", "7-May-2024"], ["00:00:01", "8-May-2024"], 2.0),
            (["2024-03-31 01:59:59 +0100", ""], ["2024-03-31 02:00:00 +0200", ""], 1.0),
        ] {
            let mut clock = Clock::default();
            let begin = clock.seconds(before[0], before[1]).unwrap();
            let end = clock.seconds(after[0], after[1]).unwrap();
            assert!((end - begin - seconds).abs() < 1e-6, "{before:?} {after:?}: {}", end - begin);
        }
        for cell in ["2024-05-07", "7.5.24", "07/05/2024", "7-May-2024"] {
            assert!(is_date(cell), "{cell}");
        }
        for cell in ["", "1.5", "1.234.567", "16:29:36", "a-b-c", "-1.5", "192.168.1.1"] {
            assert!(!is_date(cell), "{cell}");
        }
    }
}
