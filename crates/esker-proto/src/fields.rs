//! How much a message would decode to, told before it is.
//!
//! Two bytes are enough for an element of a repeated field, which takes fifty times as much once it is decoded. So whoever takes
//! messages from strangers counts first.

/// How many fields a message has, each element of a repeated one counted. `None`: it is no message, or has groups, which proto3 does not.
pub fn count(message: &[u8]) -> Option<usize> {
    let mut rest = message;
    let mut fields = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let skipped = match tag & 7 {
            0 => {
                varint(&mut rest)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        rest = rest.get(skipped..)?;
        fields += 1;
    }
    Some(fields)
}

/// A number of at most ten bytes, seven bits in each, the last one without the eighth.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let end = rest.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    let (bytes, after) = rest.split_at(end + 1);
    *rest = after;
    Some(bytes.iter().rev().fold(0, |number: u64, byte| number << 7 | u64::from(byte & 0x7f)))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::v1::{BatchRequest, MultiGetRequest, Operation, PutRequest};

    #[test]
    fn every_element_counts() {
        let keys = vec!["a".into(), "".into(), vec![b'k'; 300].into()];
        let asked = MultiGetRequest { keys, consistency: 2 };
        assert_eq!(count(&asked.encode_to_vec()), Some(4));
        let operations = vec![Operation { operation: None }; 1000];
        let batch = BatchRequest { operations, ..Default::default() };
        assert_eq!(count(&batch.encode_to_vec()), Some(1000));
        let put = PutRequest { ttl_ms: Some(u64::MAX), ..Default::default() };
        assert_eq!(count(&put.encode_to_vec()), Some(1));
        assert_eq!(count(b""), Some(0));
    }

    #[test]
    fn what_is_no_message_is_not_counted() {
        for wrong in [
            &b"\x0a"[..],
            b"\x0a\x05abc",
            b"\x08",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0b\x0c",
            b"\x09abc",
        ] {
            assert_eq!(count(wrong), None, "{wrong:?}");
        }
    }
}
