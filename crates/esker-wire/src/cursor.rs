//! Where a list goes on: opaque to callers, checked when it comes back.
//!
//! The text is base64url of: format version (1), direction (0 forward, 1 reverse), the last key answered,
//! crc32c of all that (4 bytes, little-endian). The range itself is not in it: the caller repeats its query.

use crate::{DecodeError, KEY_LEN_MAX, decode_base64, encode_base64url};

const FORMAT: u8 = 1;
const HEAD_LEN: usize = 2;
const CHECKSUM_LEN: usize = 4;
/// The longest cursor, in characters.
pub const CURSOR_LEN_MAX: usize = (HEAD_LEN + KEY_LEN_MAX + CHECKSUM_LEN).div_ceil(3) * 4;

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The last key answered.
    pub last_key: Vec<u8>,
    /// Whether the list runs from the end of the range to its start.
    pub reverse: bool,
}

impl Cursor {
    /// The cursor's text.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(HEAD_LEN + self.last_key.len() + CHECKSUM_LEN);
        bytes.extend_from_slice(&[FORMAT, u8::from(self.reverse)]);
        bytes.extend_from_slice(&self.last_key);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        encode_base64url(&bytes)
    }

    /// Reads a cursor; one that is mangled or of another format is refused.
    pub fn decode(text: &[u8]) -> Result<Self, DecodeError> {
        let refused =
            || DecodeError::new("not a cursor of this API: pass `next` of the answer before, unchanged");
        if text.len() > CURSOR_LEN_MAX {
            return Err(refused());
        }
        let bytes = decode_base64(text).map_err(|_| refused())?;
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or_else(refused)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(refused());
        }
        match body {
            [FORMAT, direction @ (0 | 1), key @ ..] if (1..=KEY_LEN_MAX).contains(&key.len()) => {
                Ok(Self { last_key: key.to_vec(), reverse: *direction == 1 })
            }
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trips(last_key in proptest::collection::vec(any::<u8>(), 1..100), reverse: bool) {
            let cursor = Cursor { last_key, reverse };
            prop_assert_eq!(Cursor::decode(cursor.encode().as_bytes()).unwrap(), cursor);
        }

        #[test]
        fn a_flipped_bit_is_refused(last_key in proptest::collection::vec(any::<u8>(), 1..40), at: usize, bit in 0..8u8) {
            let mut bytes = decode_base64(Cursor { last_key, reverse: false }.encode().as_bytes()).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(Cursor::decode(encode_base64url(&bytes).as_bytes()).is_err());
        }

        /// CHECKS 35.
        #[test]
        fn any_input_is_decoded_or_refused(text: Vec<u8>) {
            let _ = Cursor::decode(&text);
        }
    }

    #[test]
    fn the_longest_key_fits() {
        let cursor = Cursor { last_key: vec![7; KEY_LEN_MAX], reverse: true };
        assert_eq!(Cursor::decode(cursor.encode().as_bytes()).unwrap(), cursor);
    }
}
