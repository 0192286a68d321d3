//! Walks over many keys: KEYS, SCAN, RANDOMKEY.

use std::{ops::Bound, sync::Arc};

use esker_cluster::{ScanOptions, raft::random_fraction};
use esker_engine::{Item, KeyRange};

use super::is;
use crate::{
    access::{Door, Walk},
    resp::{
        Args, Reply, Walking,
        glob::{literal_prefix, matches},
        number::integer,
        refusal::{Done, NOT_AN_INTEGER, Refusal, SYNTAX},
        room_for_answer,
    },
};

const INVALID_CURSOR: Refusal = Refusal::new("ERR invalid cursor");

/// What a key takes in memory beyond its own bytes, while an answer is made.
const KEY_OVERHEAD: usize = 32;

/// One SCAN looks at so many keys at most, whatever its COUNT,
const COUNT_MAX: u64 = 100_000;
/// and ends early when the keys have so many bytes.
const SCAN_BYTES_MAX: usize = 4 << 20;

fn keys_only(limit: Option<u64>) -> ScanOptions {
    ScanOptions { keys_only: true, limit, ..ScanOptions::default() }
}

/// All keys that fit a pattern and that the caller may read; where that is all of them, at one snapshot.
pub(crate) fn keys<'a>(door: &'a Door, args: Args<'a>, reply: &'a mut Reply<'_>) -> Walking<'a> {
    Box::pin(async move {
        let pattern = args.get(1);
        let room = room_for_answer(door);
        let mut scan = door.walk(&KeyRange::prefix(literal_prefix(pattern)), keys_only(None))?;
        let mut found = Vec::new();
        while let Some(chunk) = scan.next_chunk().await {
            for Item { key, .. } in chunk?.into_iter().filter(|item| matches(pattern, &item.key)) {
                room.admit(key.len() + KEY_OVERHEAD)?;
                found.push(key);
            }
        }
        reply.array(found.len());
        found.iter().for_each(|key| reply.bulk(key));
        Ok(())
    })
}

/// The options of SCAN.
struct Options<'a> {
    pattern: &'a [u8],
    count: u64,
    /// Whether keys of the one type that there is are asked for.
    wants_strings: bool,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>) -> Done<Self> {
        let mut options = Self { pattern: b"*", count: 10, wants_strings: true };
        let mut words = args.from(2);
        while let Some(word) = words.next() {
            let value = words.next().ok_or(SYNTAX)?;
            match word {
                word if is(word, "MATCH") => options.pattern = value,
                word if is(word, "TYPE") => options.wants_strings = is(value, "string"),
                word if is(word, "COUNT") => {
                    options.count = match u64::try_from(integer(value)?) {
                        Ok(0) => return Err(SYNTAX),
                        Ok(count) => count.min(COUNT_MAX),
                        Err(_) => return Err(SYNTAX),
                    };
                }
                _ => return Err(SYNTAX),
            }
        }
        Ok(options)
    }
}

/// The range that a SCAN goes through, from its cursor on.
fn range_from(door: &Door, cursor: &[u8], pattern: &[u8]) -> Done<KeyRange> {
    let cursor = std::str::from_utf8(cursor).ok().and_then(|text| text.parse::<u64>().ok());
    let all = KeyRange::prefix(literal_prefix(pattern));
    match cursor.ok_or(INVALID_CURSOR)? {
        0 => Ok(all),
        cursor => {
            let last = door.resp.cursors.find(cursor).ok_or(INVALID_CURSOR)?;
            let is_before = matches!(&all.start, Bound::Included(start) if *start > last);
            Ok(if is_before { all } else { KeyRange { start: Bound::Excluded(last), ..all } })
        }
    }
}

/// The next keys behind a cursor.
pub(crate) fn scan<'a>(door: &'a Door, args: Args<'a>, reply: &'a mut Reply<'_>) -> Walking<'a> {
    Box::pin(async move {
        let Options { pattern, count, wants_strings } = Options::parse(args)?;
        let range = range_from(door, args.get(1), pattern)?;
        let (mut found, mut last) = (Vec::new(), None);
        // A range that a cursor has used up is empty.
        if !range.is_empty() {
            let scan = door.walk(&range, keys_only(Some(count)))?;
            last = look_through(scan, count, |key| {
                if wants_strings && matches(pattern, key) {
                    found.push(key.to_vec());
                }
            })
            .await?;
        }
        let cursor = last.map_or(0, |key| door.resp.cursors.give(key));
        reply.array(2);
        reply.bulk(cursor.to_string().as_bytes());
        reply.array(found.len());
        found.iter().for_each(|key| reply.bulk(key));
        Ok(())
    })
}

/// Looks at so many keys; the last one, if there may be more.
async fn look_through(mut scan: Walk<'_>, count: u64, mut look: impl FnMut(&[u8])) -> Done<Option<Vec<u8>>> {
    let (mut seen, mut bytes) = (0, 0);
    while let Some(chunk) = scan.next_chunk().await {
        for Item { key, .. } in chunk? {
            look(&key);
            seen += 1;
            bytes += key.len();
            if seen == count || bytes >= SCAN_BYTES_MAX {
                return Ok(Some(key));
            }
        }
    }
    Ok(None)
}

/// A key that lies behind a point drawn at random between the first and the last key: quick, and not evenly spread.
pub(crate) fn randomkey<'a>(door: &'a Door, _args: Args<'a>, reply: &'a mut Reply<'_>) -> Walking<'a> {
    Box::pin(async move {
        let first = first_of(door, &KeyRange::all(), false).await?;
        let last = first_of(door, &KeyRange::all(), true).await?;
        let (Some(first), Some(last)) = (first, last) else {
            reply.null();
            return Ok(());
        };
        let start = between(&first, &last, random_fraction());
        let range = KeyRange { start: Bound::Included(start), end: Bound::Unbounded };
        reply.bulk(&first_of(door, &range, false).await?.unwrap_or(first));
        Ok(())
    })
}

async fn first_of(door: &Door, range: &KeyRange, reverse: bool) -> Done<Option<Vec<u8>>> {
    let options = ScanOptions { reverse, ..keys_only(Some(1)) };
    let chunk = door.walk(range, options)?.next_chunk().await.transpose()?;
    Ok(chunk.and_then(|items| items.into_iter().next()).map(|item| item.key))
}

/// A point between two keys: what they have in common, and so many hundredths of the way in the eight bytes behind.
fn between(first: &[u8], last: &[u8], fraction: f64) -> Vec<u8> {
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let number = |key: &[u8]| {
        let mut bytes = [0; 8];
        let rest = &key[common..];
        let len = rest.len().min(bytes.len());
        bytes[..len].copy_from_slice(&rest[..len]);
        u64::from_be_bytes(bytes)
    };
    let (low, high) = (number(first), number(last));
    let point = low + (high.saturating_sub(low) as f64 * fraction) as u64;
    [&first[..common], &point.to_be_bytes()[..]].concat()
}

/// ERANGE start end [LIMIT n] [REV]: keys and values from `start` to `end`, both included, at one snapshot.
pub(crate) fn erange<'a>(door: &'a Door, args: Args<'a>, reply: &'a mut Reply<'_>) -> Walking<'a> {
    Box::pin(async move {
        let (limit, reverse) = erange_options(args)?;
        let range = erange_of(args);
        let options = ScanOptions { reverse, keys_only: false, limit };
        let room = Arc::new(room_for_answer(door));
        let mut scan = room.admitting(door.scan(&range, options)?);
        let mut items = Vec::new();
        while let Some(chunk) = scan.next_chunk().await {
            items.append(&mut chunk.map_err(|e| room.refusal().unwrap_or_else(|| e.into()))?);
        }
        let bytes = |item: &Item| item.key.len() + item.value.as_ref().map_or(0, |value| value.len());
        reply.reserve(2 * items.len(), items.iter().map(bytes).sum());
        reply.array(2 * items.len());
        for item in items {
            reply.bulk(&item.key);
            reply.bulk(item.value.as_deref().unwrap_or_default());
        }
        Ok(())
    })
}

/// The range of an ERANGE.
pub(crate) fn erange_of(args: Args<'_>) -> KeyRange {
    KeyRange { start: Bound::Included(args.get(1).to_vec()), end: upper(args.get(2)) }
}

/// The empty string as an end stands for the end of all keys.
fn upper(end: &[u8]) -> Bound<Vec<u8>> {
    if end.is_empty() { Bound::Unbounded } else { Bound::Included(end.to_vec()) }
}

fn erange_options(args: Args<'_>) -> Done<(Option<u64>, bool)> {
    let (mut limit, mut reverse) = (None, false);
    let mut words = args.from(3);
    while let Some(word) = words.next() {
        match word {
            word if is(word, "REV") => reverse = true,
            word if is(word, "LIMIT") => {
                let count = integer(words.next().ok_or(SYNTAX)?)?;
                limit = Some(u64::try_from(count).map_err(|_| NOT_AN_INTEGER)?);
            }
            _ => return Err(SYNTAX),
        }
    }
    Ok((limit, reverse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_lies_between_the_keys() {
        for (first, last) in
            [("a", "b"), ("user:000", "user:999"), ("k", "k"), ("a", "aa"), ("a", "zzzzzzzzzzzz")]
        {
            let (first, last) = (first.as_bytes(), last.as_bytes());
            for fraction in [0.0, 0.3, 0.999] {
                let point = between(first, last, fraction);
                assert!(point.as_slice() <= &[last, &[0; 9]].concat()[..], "{point:?}");
                assert!(&[&point[..], &[0]].concat()[..] > first || point.starts_with(first), "{point:?}");
            }
        }
    }
}
