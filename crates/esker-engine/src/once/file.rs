//! The file `REQUESTS`: what came of the requests whose frames a restart does not replay. `docs/format.md` has the byte table.
//!
//! It is replaced as a whole before index files that reach further than it are written. A client's requests are many and
//! their numbers count up, so each is told by what has changed since the one before: about six bytes.

use std::collections::{HashMap, hash_map};

use esker_log::{
    Log, Opening, Result,
    format::{FORMAT_VERSION, Invalid, StoreId, check_head},
    recovery::invalid_header,
    small_file::{read_small, write_durably},
};

use crate::{
    Committed, Outcome, RequestId,
    replica::REQUESTS_MAX,
    requests::RequestList,
    varint::{put_varint, take_varint, unzigzag, zigzag},
};

/// The file's name.
const NAME: &str = "REQUESTS";
const MAGIC: &[u8; 8] = b"ESKREQUE";
/// Magic, format version and store.
const HEAD_LEN: usize = 28;
const CHECKSUM_LEN: usize = 4;

/// Reads the file; nothing if there is none. A damaged one is noticed, and forgotten: it holds no data, and a store that refused to
/// open for it would serve its users worse.
///
/// Errors: `UnsupportedFormat`, `Io`.
pub(super) fn read(opening: &mut Opening) -> Result<Vec<(RequestId, Committed)>> {
    if !opening.other_files().iter().any(|name| name == NAME) {
        return Ok(Vec::new());
    }
    let path = opening.dir().join(NAME);
    let bytes = read_small(opening.disk().as_ref(), &path)?.unwrap_or_default();
    match decode(&bytes, opening.store()) {
        Ok(requests) => Ok(requests),
        Err(newer @ Invalid::Newer(_)) => Err(invalid_header(&path, newer)),
        Err(Invalid::Bad(what)) => {
            opening.notice(format!(
                "{} is damaged ({what}) and is made anew: a write that is retried from before this start may be applied twice",
                path.display()
            ));
            Ok(Vec::new())
        }
    }
}

/// Replaces the file, durably. Errors: `DiskFull`, `Io`.
pub(super) fn write(log: &Log, requests: &RequestList) -> Result<()> {
    write_durably(log.disk().as_ref(), log.dir(), NAME, &encode(log.store(), requests))
}

fn encode(store: &StoreId, requests: &[(RequestId, Committed)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_LEN + 8 * requests.len() + CHECKSUM_LEN);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(store);
    put_varint(&mut out, requests.len() as u64);
    // Each client's number in the order of their appearance, and its last request's.
    let mut clients: HashMap<u64, (u64, u64)> = HashMap::new();
    let mut version = 0;
    for (id, committed) in requests {
        let next = clients.len() as u64;
        match clients.entry(id.client) {
            hash_map::Entry::Occupied(mut entry) => {
                let (number, last) = entry.get_mut();
                put_varint(&mut out, *number + 1);
                put_varint(&mut out, zigzag(id.sequence.wrapping_sub(*last).cast_signed()));
                *last = id.sequence;
            }
            hash_map::Entry::Vacant(entry) => {
                put_varint(&mut out, 0);
                out.extend_from_slice(&id.to_bytes());
                entry.insert((next, id.sequence));
            }
        }
        put_varint(&mut out, zigzag(committed.version.wrapping_sub(version).cast_signed()));
        version = committed.version;
        put_varint(&mut out, committed.existed.into());
        let (kind, detail) = committed.outcome.to_parts();
        out.push(kind);
        put_varint(&mut out, detail);
    }
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn decode(bytes: &[u8], store: &StoreId) -> Result<Vec<(RequestId, Committed)>, Invalid> {
    let end = bytes.len().saturating_sub(CHECKSUM_LEN);
    if end < HEAD_LEN {
        return Err(Invalid::Bad("it is cut off"));
    }
    check_head(bytes, MAGIC, end)?;
    if &bytes[12..HEAD_LEN] != store {
        return Err(Invalid::Bad("it belongs to another store"));
    }
    decode_body(&bytes[HEAD_LEN..end]).ok_or(Invalid::Bad("a field is cut off or makes no sense"))
}

fn decode_body(mut rest: &[u8]) -> Option<Vec<(RequestId, Committed)>> {
    let count = usize::try_from(take_varint(&mut rest)?).ok().filter(|count| *count <= REQUESTS_MAX)?;
    let mut clients: Vec<RequestId> = Vec::new();
    let mut version: u64 = 0;
    let mut requests = Vec::new();
    for _ in 0..count {
        let id = take_id(&mut rest, &mut clients)?;
        version = version.wrapping_add(unzigzag(take_varint(&mut rest)?).cast_unsigned());
        let existed = u32::try_from(take_varint(&mut rest)?).ok()?;
        let (kind, behind) = rest.split_first()?;
        rest = behind;
        let outcome = Outcome::from_parts(*kind, take_varint(&mut rest)?)?;
        requests.push((id, Committed { version, existed, outcome }));
    }
    rest.is_empty().then_some(requests)
}

/// Takes a request's id; `clients` are the ids that each client came with last.
fn take_id(rest: &mut &[u8], clients: &mut Vec<RequestId>) -> Option<RequestId> {
    let Some(number) = take_varint(rest)?.checked_sub(1) else {
        let (id, behind) = rest.split_at_checked(crate::REQUEST_ID_LEN)?;
        *rest = behind;
        let id = RequestId::from_bytes(id)?;
        clients.push(id);
        return Some(id);
    };
    let last = clients.get_mut(usize::try_from(number).ok()?)?;
    last.sequence = last.sequence.wrapping_add(unzigzag(take_varint(rest)?).cast_unsigned());
    Some(*last)
}

/// Decodes `body` as what stands between head and checksum. What decodes must come back when it is encoded.
#[cfg(fuzzing)]
pub fn fuzz(body: &[u8]) {
    const STORE: StoreId = [0; 16];
    if let Some(requests) = decode_body(body) {
        assert_eq!(decode(&encode(&STORE, &requests), &STORE).ok(), Some(requests));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Refusal;

    const STORE: StoreId = [7; 16];

    fn request() -> impl Strategy<Value = (RequestId, Committed)> {
        let id = (prop_oneof![0..3_u64, any::<u64>()], any::<u64>())
            .prop_map(|(client, sequence)| RequestId { client, sequence });
        let outcome = prop_oneof![
            Just(Outcome::Applied),
            any::<i64>().prop_map(Outcome::Sum),
            Just(Outcome::Refused(Refusal::Condition(None))),
            (1..u64::MAX).prop_map(|version| Outcome::Refused(Refusal::Condition(Some(version)))),
            Just(Outcome::Refused(Refusal::Overflow)),
        ];
        (id, any::<u64>(), any::<u32>(), outcome)
            .prop_map(|(id, version, existed, outcome)| (id, Committed { version, existed, outcome }))
    }

    proptest! {
        #[test]
        fn requests_come_back_as_they_were(requests in prop::collection::vec(request(), 0..50)) {
            let bytes = encode(&STORE, &requests);
            prop_assert_eq!(decode(&bytes, &STORE).ok(), Some(requests));
        }

        #[test]
        fn a_changed_byte_is_found(
            requests in prop::collection::vec(request(), 0..5),
            at in any::<prop::sample::Index>(),
            mask in 1..=255_u8,
        ) {
            let mut bytes = encode(&STORE, &requests);
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
            prop_assert!(decode(&bytes, &STORE).is_err());
            prop_assert!(decode(&bytes[..at], &STORE).is_err());
        }
    }

    #[test]
    fn a_client_that_counts_up_takes_few_bytes() {
        let request = |n| (RequestId { client: u64::MAX / 3, sequence: n }, Committed::applied(n + 1000, 1));
        let requests: Vec<_> = (0..1000).map(request).collect();
        assert!(encode(&STORE, &requests).len() < 7 * 1000);
    }

    #[test]
    fn another_stores_file_is_refused() {
        assert!(matches!(decode(&encode(&STORE, &[]), &[8; 16]), Err(Invalid::Bad(_))));
    }
}
