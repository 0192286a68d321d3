//! Slots: each field keeps what it is given, beside all others at their bounds.

use proptest::{option, prelude::*};

use super::super::Slot;

/// 2020-01-01T00:00:00Z, from which slots count.
const EPOCH_MS: u64 = 1_577_836_800_000;

/// The highest version.
const VERSION_MAX: u64 = (1 << 56) - 1;

/// The longest value.
const VALUE_LEN_MAX: u32 = (1 << 31) - 1;

proptest! {
    #[test]
    fn a_record_keeps_what_it_is_given(
        segment in prop_oneof![1..=u32::MAX, Just(1), Just(u32::MAX)],
        offset in prop_oneof![any::<u32>(), Just(0), Just(u32::MAX)],
        value_len in prop_oneof![0..=VALUE_LEN_MAX, Just(0), Just(VALUE_LEN_MAX)],
        version in prop_oneof![0..=VERSION_MAX, Just(0), Just(VERSION_MAX)],
        compressed in any::<bool>(),
        expiry in option::of(prop_oneof![EPOCH_MS + 1..=Slot::EXPIRY_MS_MAX, Just(Slot::EXPIRY_MS_MAX)]),
    ) {
        let plain = Slot::new(segment, offset, value_len, version);
        let slot = plain.expiring(expiry).compressed(compressed);
        prop_assert_eq!((slot.segment(), slot.offset(), slot.value_len()), (segment, offset, value_len));
        prop_assert_eq!((slot.version(), slot.expiry()), (version, expiry));
        prop_assert_eq!((slot.is_compressed(), slot.as_sum()), (compressed, None));
        prop_assert_eq!(slot.expiring(None).compressed(false), plain);
    }

    #[test]
    fn a_sum_keeps_what_it_is_given(
        sum in prop_oneof![any::<i64>(), Just(0), Just(-1), Just(i64::MIN), Just(i64::MAX)],
        version in prop_oneof![0..=VERSION_MAX, Just(0), Just(VERSION_MAX)],
        expiry in option::of(EPOCH_MS + 1..=Slot::EXPIRY_MS_MAX),
    ) {
        let slot = Slot::sum(sum, version).expiring(expiry).compressed(false);
        prop_assert_eq!((slot.as_sum(), slot.version(), slot.expiry()), (Some(sum), version, expiry));
        prop_assert_eq!((slot.segment(), slot.is_compressed()), (0, false));
    }
}

fn expiry_of(at_ms: u64) -> Option<u64> {
    Slot::new(1, 0, 0, VERSION_MAX).expiring(Some(at_ms)).expiry()
}

#[test]
fn an_expiry_out_of_bounds_moves_to_the_nearest() {
    for early in [0, 1, EPOCH_MS - 1, EPOCH_MS, EPOCH_MS + 1] {
        assert_eq!(expiry_of(early), Some(EPOCH_MS + 1));
    }
    assert_eq!(Slot::EXPIRY_MS_MAX, EPOCH_MS + 0xff_ffff_ffff);
    for late in [Slot::EXPIRY_MS_MAX, Slot::EXPIRY_MS_MAX + 1, u64::MAX] {
        assert_eq!(expiry_of(late), Some(Slot::EXPIRY_MS_MAX));
    }
    assert_eq!(Slot::new(1, 0, 0, VERSION_MAX).expiring(Some(u64::MAX)).version(), VERSION_MAX);
}

#[test]
fn a_key_is_absent_from_its_expiry_on() {
    let slot = Slot::new(1, 0, 0, 7);
    assert!(!slot.is_expired(u64::MAX), "it has no expiry");
    let at = EPOCH_MS + (1 << 33) + 5;
    let slot = slot.expiring(Some(at));
    assert_eq!([at - 1, at, at + 1].map(|now| slot.is_expired(now)), [false, true, true]);
    assert!(slot.expiring(Some(1)).is_expired(EPOCH_MS + 1));
}

#[test]
fn places_are_the_same_by_segment_and_offset_and_sums_by_version() {
    let slot = Slot::new(1, 2, 3, 4);
    assert!(slot.same_place(Slot::new(1, 2, 30, 40).compressed(true).expiring(Some(u64::MAX))));
    assert!(!slot.same_place(Slot::new(1, 20, 3, 4)));
    assert!(!slot.same_place(Slot::new(10, 2, 3, 4)));
    let sum = Slot::sum(2 << 32, 4);
    assert!(sum.same_place(Slot::sum(7, 4).expiring(Some(u64::MAX))));
    assert!(!sum.same_place(Slot::sum(2 << 32, 5)));
    assert!(!sum.same_place(slot) && !slot.same_place(sum));
}
