//! Parts of an answer (RFC 9110, section 14).

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: there is no header, or one of a kind that may be ignored, such as several ranges.
    Whole,
    /// These bytes, of which there is at least one.
    Part(Range<usize>),
    /// Bytes that there are not.
    Beyond,
}

impl Wanted {
    /// Of a representation with so many bytes.
    pub fn of(header: &str, length: usize) -> Self {
        let Some(part) = header
            .split_once('=')
            .filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"))
            .and_then(|(_, range)| range.trim().split_once('-'))
        else {
            return Self::Whole;
        };
        let range = match part {
            ("", suffix) => match number(suffix) {
                Some(suffix) => length.saturating_sub(suffix)..length,
                None => return Self::Whole,
            },
            (first, last) => match (number(first), number(last)) {
                (Some(first), None) if last.is_empty() => first..length,
                (Some(first), Some(last)) if first <= last => {
                    first..length.min(last.saturating_add(1))
                }
                _ => return Self::Whole,
            },
        };
        if range.is_empty() { Self::Beyond } else { Self::Part(range) }
    }
}

/// Digits; more than any length is as good as the largest.
fn number(digits: &str) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (header, expected) in [
            ("bytes=0-499", Wanted::Part(0..500)),
            ("bytes=500-999", Wanted::Part(500..1000)),
            ("bytes=-1", Wanted::Part(999..1000)),
            ("bytes=-2000", Wanted::Part(0..1000)),
            ("bytes=990-", Wanted::Part(990..1000)),
            ("Bytes= 990-2000", Wanted::Part(990..1000)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..1000)),
            ("bytes=1000-", Wanted::Beyond),
            ("bytes=1000-1001", Wanted::Beyond),
            ("bytes=99999999999999999999999-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=2-1", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=1", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(Wanted::of(header, 1000), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_within_the_whole(header in "(bytes=)?[0-9]{0,21}-?[0-9]{0,21}|.{0,20}", length in 0..5000_usize) {
            if let Wanted::Part(range) = Wanted::of(&header, length) {
                prop_assert!(!range.is_empty() && range.end <= length);
            }
        }
    }
}
