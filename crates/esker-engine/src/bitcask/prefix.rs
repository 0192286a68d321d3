//! What two keys begin with together.

/// With how many bytes both begin alike. Looks at eight at a time: sorted keys that share most of their bytes are compared for every
/// entry of an index file.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut at = 0;
    while let (Some(of_a), Some(of_b)) = (a[at..].first_chunk::<8>(), b[at..].first_chunk::<8>()) {
        // The first byte is the lowest.
        let different = u64::from_le_bytes(*of_a) ^ u64::from_le_bytes(*of_b);
        if different != 0 {
            return at + (different.trailing_zeros() / u8::BITS) as usize;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a == b).count()
}

/// The longest that [`are_equal`] takes.
pub(super) const EQUAL_LEN_MAX: usize = 16;

/// Whether two of one length, of [`EQUAL_LEN_MAX`] bytes at most, are equal. A call of `memcmp` costs more than to look at them.
pub(super) fn are_equal(a: &[u8], b: &[u8]) -> bool {
    debug_assert!(a.len() == b.len() && a.len() <= EQUAL_LEN_MAX);
    match a.len() {
        // Where the two overlap, the same is looked at twice.
        8.. => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        4.. => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        _ => a.iter().eq(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_far_as_both_go() {
        let key: Vec<u8> = (0..40).collect();
        for len in 0..=key.len() {
            assert_eq!([common_prefix(&key, &key[..len]), common_prefix(&key[..len], &key)], [len; 2]);
            for at in 0..len {
                let mut other = key[..len].to_vec();
                other[at] ^= 0x80;
                assert_eq!([common_prefix(&key, &other), common_prefix(&other, &key)], [at; 2], "of {len}");
            }
        }
    }

    #[test]
    fn one_byte_makes_them_unequal() {
        let bytes: Vec<u8> = (0..16).collect();
        for len in 0..=bytes.len() {
            let (bytes, mut other) = (&bytes[..len], bytes[..len].to_vec());
            assert!(are_equal(bytes, &other));
            for at in 0..len {
                other[at] ^= 0x80;
                assert!(!are_equal(bytes, &other), "{at} of {len}");
                other[at] ^= 0x80;
            }
        }
    }
}
