//! Partial responses (RFC 9110, section 14).

use std::ops::Range;

use http_range_header::{RangeUnsatisfiableError, parse_range_header};

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: the header is invalid, or asks for several ranges. A server may ignore both.
    Whole,
    /// At least one byte.
    Part(Range<usize>),
    /// Nothing that exists.
    Beyond,
}

impl Wanted {
    /// `length` is the size of the whole, in bytes.
    pub fn of(header: &str, length: usize) -> Self {
        let Ok(ranges) = parse_range_header(header) else { return Self::Whole };
        if ranges.len() != 1 {
            return Self::Whole;
        }
        match ranges.validate(length as u64).as_deref() {
            Ok([range]) => Self::Part(*range.start() as usize..*range.end() as usize + 1),
            Err(RangeUnsatisfiableError::Unsatisfiable) => Self::Beyond,
            _ => Self::Whole,
        }
    }
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
