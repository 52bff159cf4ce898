use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::gait::simulator::{Conditions, Replay, Walker};

fn walk(person: u64, walk: u64, seconds: f64) -> Recording {
    Walker::new(person).walk(walk, &Conditions { seconds, ..Conditions::default() })
}

fn fingerprint(recording: &Recording) -> Fingerprint {
    Fingerprint::of(recording).unwrap()
}

#[test]
fn another_walk_is_not_a_replay() {
    for person in 0..20 {
        let [first, second] = [1, 2].map(|seed| fingerprint(&walk(person, seed, 30.0)));
        assert!(!second.is_replay_of(&first), "{person}");
    }
    // The rest of the same walk is not a replay either.
    let long = walk(1, 1, 60.0);
    let [early, late] = [0.0, 30.5].map(|start| fingerprint(&long.part(start, 29.5).unwrap()));
    assert!(!late.is_replay_of(&early));
}

#[test]
fn a_changed_copy_and_its_original_are_replays_of_each_other() {
    let changes = [
        Replay::default(),
        Replay { rate_hz: Some(100.0), ..Replay::default() },
        Replay { rate_hz: Some(33.0), ..Replay::default() },
        Replay { jitter_periods: 0.3, ..Replay::default() },
        Replay { turned: true, scale: 1.2, ..Replay::default() },
        Replay { noise: 0.05, step_m_s2: 0.3, ..Replay::default() },
        Replay { speed: 1.02, ..Replay::default() },
    ];
    for person in 0..10 {
        let original = walk(person, 1, 40.0);
        let earlier = fingerprint(&original);
        for change in &changes {
            let part = original.part(7.3 + person as f64, 10.0).unwrap();
            let copy = fingerprint(&change.copy(&part, person).unwrap());
            assert!(copy.is_replay_of(&earlier), "{person} {change:?}");
            assert!(earlier.is_replay_of(&copy), "{person} {change:?}");
        }
    }
}

#[test]
fn the_size_of_a_fingerprint_is_bounded() {
    assert_eq!(fingerprint(&walk(1, 1, 60.0)).to_bytes().len(), Fingerprint::MAX_BYTES);
    let longer = fingerprint(&walk(1, 1, 200.0));
    assert_eq!(longer.to_bytes().len(), Fingerprint::MAX_BYTES);
    assert_eq!(longer, fingerprint(&walk(1, 1, 200.0).part(0.0, 60.0).unwrap()));
    assert_eq!(Fingerprint::of(&walk(1, 1, 3.0)), None);
    assert_eq!(fingerprint(&walk(1, 1, 3.4)).to_bytes().len(), Fingerprint::MIN_BYTES);
}

#[test]
fn bytes_that_are_no_fingerprint_are_rejected() {
    let with_version = |version: u8, length: usize| {
        let mut bytes = vec![0; length];
        bytes[0] = version;
        Fingerprint::from_bytes(&bytes)
    };
    assert_eq!(with_version(2, 200), Err(FingerprintError::Version { version: 2 }));
    for length in [1, Fingerprint::MIN_BYTES - 1, Fingerprint::MAX_BYTES + 1] {
        assert_eq!(with_version(VERSION, length), Err(FingerprintError::Length { length }));
    }
    assert_eq!(Fingerprint::from_bytes(&[]), Err(FingerprintError::Length { length: 0 }));
}

/// The comparison as `docs/replay.md` describes it, bit by bit.
mod plain {
    use super::*;

    pub fn is_replay_of(own: &Fingerprint, earlier: &Fingerprint) -> bool {
        let (own, earlier) = (bits(own), bits(earlier));
        let blocks: Vec<&[bool]> = own.chunks(8 * BLOCK_BYTES).collect();
        SPEEDS.iter().any(|&speed| blocks.iter().any(|block| holds(&earlier, block, speed)))
    }

    fn bits(fingerprint: &Fingerprint) -> Vec<bool> {
        let bit = |at: usize| fingerprint.bits[at / 8] >> (at % 8) & 1 == 1;
        (0..8 * fingerprint.bits.len()).map(bit).collect()
    }

    fn holds(earlier: &[bool], block: &[bool], speed: f64) -> bool {
        // Where each bit of the block is if the block starts at 0. The numbers are those of the
        // description, not the constants of the fast comparison.
        let place = |at: usize| {
            let middle = (at / 32) * 16 + 8;
            at as isize + 2 * ((speed - 1.0) * (54 + middle) as f64).round() as isize
        };
        let reach = (block.len() + 64) as isize;
        let places: Vec<isize> = (0..block.len()).map(place).collect();
        (-reach..earlier.len() as isize).step_by(ROWS).any(|start| {
            let (mut overlap, mut mismatches) = (0, 0);
            for (bit, place) in block.iter().zip(&places) {
                if let Some(other) = earlier.get((start + place) as usize) {
                    overlap += 1;
                    mismatches += usize::from(other != bit);
                }
            }
            overlap >= ROWS * LEAST_OVERLAP && are_the_same(overlap, mismatches)
        })
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), Fingerprint::MIN_BYTES - 1..Fingerprint::MAX_BYTES).prop_map(stored)
}

fn stored(bits: Vec<u8>) -> Vec<u8> {
    [vec![VERSION], bits].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn stored_bytes_are_restored(bytes in bytes()) {
        prop_assert_eq!(Fingerprint::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn any_bytes_are_accepted_or_rejected(bytes in vec(any::<u8>(), 0..900)) {
        if let Ok(fingerprint) = Fingerprint::from_bytes(&bytes) {
            prop_assert!(fingerprint.is_replay_of(&fingerprint));
        }
    }

    #[test]
    fn random_fingerprints_do_not_match(one in bytes(), other in bytes()) {
        let [one, other] = [one, other].map(|bytes| Fingerprint::from_bytes(&bytes).unwrap());
        prop_assert!(!one.is_replay_of(&other));
    }

    #[test]
    fn only_hopeless_places_are_left_out(bits in ROWS * LEAST_OVERLAP..1024usize, of in 0..1024usize) {
        let least = limit(bits.max(of)).into();
        prop_assert!((least..=bits).all(|mismatches| !are_the_same(bits, mismatches)));
    }

    #[test]
    fn the_fast_comparison_is_the_plain_one(
        bits in vec(any::<u8>(), 100..700),
        start in 0..100usize,
        length in 25..160usize,
        speed in proptest::sample::select(&SPEEDS),
        other in vec(any::<u8>(), 0..200),
        flips in vec(any::<(u8, u8, u8)>(), 160),
    ) {
        let whole = Fingerprint::from_bytes(&stored(bits.clone())).unwrap();
        let start = start.min(bits.len() - 25);
        let mut part: Vec<u8> = (start..bits.len().min(start + length))
            .map(|at| {
                let drift = drift((at - start) / SEGMENT_BYTES, speed);
                let point = |point: usize| {
                    let point = (POINTS_PER_BYTE * at + point).saturating_add_signed(drift);
                    let (byte, point) = (point / POINTS_PER_BYTE, point % POINTS_PER_BYTE);
                    bits.get(byte).map_or(0, |byte| byte >> (ROWS * point))
                };
                (0..POINTS_PER_BYTE).map(|at| (point(at) & 0b11) << (ROWS * at)).sum()
            })
            .collect();
        // Each bit differs with a probability of 3/8, near what decides.
        let flips = flips.iter().map(|(a, b, c)| a & (b | c));
        part.iter_mut().zip(flips).for_each(|(byte, flip)| *byte ^= flip);
        let part = Fingerprint::from_bytes(&stored([&other[..], &part].concat())).unwrap();
        prop_assert_eq!(part.is_replay_of(&whole), plain::is_replay_of(&part, &whole));
        prop_assert_eq!(whole.is_replay_of(&part), plain::is_replay_of(&whole, &part));
    }

    #[test]
    fn a_part_is_found_at_any_position(
        bits in vec(any::<u8>(), 200..700),
        start in 0..130usize,
        length in 50..70usize,
        other in vec(any::<u8>(), 0..150),
    ) {
        let whole = Fingerprint::from_bytes(&stored(bits.clone())).unwrap();
        let end = bits.len() - length;
        for part in [
            [&bits[start..start + length], &[]],
            [&other[..], &bits[..length]],
            [&bits[end..], &other[..]],
        ] {
            let mut part = part.concat();
            // One in eight bits differs.
            part.iter_mut().for_each(|byte| *byte ^= 0b100);
            let part = Fingerprint::from_bytes(&stored(part)).unwrap();
            prop_assert!(part.is_replay_of(&whole));
            prop_assert!(whole.is_replay_of(&part));
        }
    }
}

proptest! {
    #[test]
    fn a_stride_has_the_smallest_mean_difference_around_a_point(
        values in vec(-50..50i8, SHORTEST_STRIDE + 1..200),
    ) {
        // Integers, so that sums do not depend on their order.
        let values: Vec<f32> = values.into_iter().map(f32::from).collect();
        for (index, found) in strides(&values).into_iter().enumerate() {
            let now = index + SHORTEST_STRIDE;
            let difference = |stride: usize| {
                let from = (now - stride).saturating_sub(NEIGHBOURHOOD);
                let to = (now - stride + NEIGHBOURHOOD + 1).min(values.len() - stride);
                let sum: f32 = (from..to).map(|at| (values[at + stride] - values[at]).abs()).sum();
                f64::from(sum) / (to - from) as f64
            };
            let strides = SHORTEST_STRIDE..=LONGEST_STRIDE.min(now);
            let least = strides.min_by(|a, b| difference(*a).total_cmp(&difference(*b)));
            prop_assert_eq!(Some(found), least);
        }
    }
}
