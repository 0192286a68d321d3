//! What a batch comes to, before anything of it is applied.
//!
//! A batch with conditions or adds is *judged*: looked at against the state that all before it made, in log order. It
//! depends on nothing else, the time is in the batch itself; so every replica judges alike, and so does every replay.

use std::collections::HashMap;

use esker_log::{
    Result,
    record::{Record, RecordKind, Records},
};

use crate::{Condition, KeyRange, Refusal, Version, range::decode_deletion_end, stored::Stored};

/// What the log has seen to.
pub(crate) const VERIFIED: &str = "the log verified the frame";

/// The state that a batch is judged against.
pub(crate) trait State {
    /// The version of a key's value, and when it expires; whether it has expired is for the judge to say.
    fn version(&self, key: &[u8]) -> Option<(Version, Option<u64>)>;

    /// The integer that a key which is there holds; `None` if its value is none. May wait for the disk.
    ///
    /// Errors: `Damage`, `Io`: then nobody can say what the batch comes to.
    fn integer(&self, key: &[u8]) -> Result<Option<i64>>;
}

/// What an add came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) value: i64,
    /// When the key expires, as before.
    pub(crate) expiry: Option<u64>,
}

/// What a batch comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is applied; what its adds come to, in their order.
    Applies(Vec<Sum>),
    /// Nothing of it is.
    Void(Refusal),
}

/// What is known of a batch that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// There was nothing to judge: all of it was applied.
    Plain,
    /// Nothing of it was applied.
    Void,
    /// All of it was applied; what its adds came to, in their order.
    Applied(Sums),
    /// It was applied too long ago: if it has conditions or adds, what came of them is not remembered.
    Forgotten,
}

/// What the adds of a batch came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums(pub(crate) Vec<Sum>);

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Applies(sums) => Self::Applied(Sums(sums)),
            Verdict::Void(_) => Self::Void,
        }
    }
}

/// Whether a batch has to be judged: it has conditions or adds. Most have not. `payload` is a row of whole records.
pub fn is_judged(payload: &[u8]) -> bool {
    let mut all = Records::new(payload).flatten().map(|(_, record)| record);
    all.any(|record| matches!(record.kind, RecordKind::Condition | RecordKind::Add))
}

/// The records of a verified payload.
fn records(payload: &[u8]) -> impl Iterator<Item = Record<'_>> {
    Records::new(payload).map(|record| record.expect(VERIFIED).1)
}

/// The time that a stamp says, in milliseconds since 1970.
pub(crate) fn stamp_of(record: &Record<'_>) -> u64 {
    record.key.try_into().map_or(0, u64::from_be_bytes)
}

/// A batch may say a time that is so much behind the latest: the most that the clocks of a cluster may differ, and a proposal
/// wait.
const GRACE_MS: u64 = 60_000;

/// What expired by this time is absent for everybody, in milliseconds since 1970, `stamp_ms` being the latest time that an applied
/// batch said.
///
/// So a merge may drop it, on one replica sooner than on another: clocks that jump back bring it back on neither. A function of
/// the log alone.
pub(crate) fn floor_of(stamp_ms: u64) -> u64 {
    stamp_ms.saturating_sub(GRACE_MS)
}

/// Whether what expires then is absent now. At 0 nothing is.
pub(crate) fn is_expired(expiry: Option<u64>, now: u64) -> bool {
    expiry.is_some_and(|expiry| expiry <= now)
}

/// Judges a batch, which sees no time before `floor_ms`. Errors: those of [`State::integer`].
pub(crate) fn judge(payload: &[u8], floor_ms: u64, state: &dyn State) -> Result<Verdict> {
    let mut now = floor_ms;
    let mut adds = Adds::default();
    for record in records(payload) {
        match record.kind {
            RecordKind::Request => {}
            RecordKind::Stamp => now = now.max(stamp_of(&record)),
            RecordKind::Condition => {
                let present = state.version(record.key).filter(|(_, expiry)| !is_expired(*expiry, now));
                let present = present.map(|(version, _)| version);
                // A condition of a kind that nobody knows does not hold.
                if !Condition::decode(record.value).is_some_and(|condition| condition.holds(present)) {
                    return Ok(Verdict::Void(Refusal::Condition(present)));
                }
            }
            _ => {
                if let Err(refusal) = adds.take(&record, now, state)? {
                    return Ok(Verdict::Void(refusal));
                }
            }
        }
    }
    Ok(Verdict::Applies(adds.sums))
}

/// Follows the operations of a batch as far as its adds depend on them.
#[derive(Default)]
struct Adds<'a> {
    sums: Vec<Sum>,
    /// What the batch has done to keys so far.
    keys: HashMap<&'a [u8], After<'a>>,
    /// What it has deleted, and at which operation.
    deleted: Vec<(usize, KeyRange)>,
    operations: usize,
}

/// A key behind an operation, and which that was.
#[derive(Clone, Copy)]
struct After<'a> {
    operation: usize,
    content: Content<'a>,
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Absent,
    /// What a put stored, not looked at yet.
    Put(u8, &'a [u8]),
    Sum(Sum),
}

impl<'a> Adds<'a> {
    fn take(&mut self, record: &Record<'a>, now: u64, state: &dyn State) -> Result<Result<(), Refusal>> {
        self.operations += 1;
        let content = match record.kind {
            RecordKind::Put => Content::Put(record.flags, record.value),
            RecordKind::Add => match self.add(record, now, state)? {
                Ok(sum) => {
                    self.sums.push(sum);
                    Content::Sum(sum)
                }
                Err(refusal) => return Ok(Err(refusal)),
            },
            RecordKind::DeleteRange => {
                self.deleted.push((self.operations, deleted_range(record)));
                return Ok(Ok(()));
            }
            _ => Content::Absent,
        };
        self.keys.insert(record.key, After { operation: self.operations, content });
        Ok(Ok(()))
    }

    fn add(&self, record: &Record<'_>, now: u64, state: &dyn State) -> Result<Result<Sum, Refusal>> {
        let by = record.value.try_into().map_or(0, i64::from_le_bytes);
        let Some(before) = self.before(record.key, now, state)? else {
            return Ok(Err(Refusal::NotAnInteger));
        };
        let value = before.value.checked_add(by);
        Ok(value.map(|value| Sum { value, expiry: before.expiry }).ok_or(Refusal::Overflow))
    }

    /// The integer that the key holds; `None` if it holds something else.
    fn before(&self, key: &[u8], now: u64, state: &dyn State) -> Result<Option<Sum>> {
        const ABSENT: Sum = Sum { value: 0, expiry: None };
        let deleted = self.deleted.iter().filter(|(_, range)| range.contains(key)).map(|(at, _)| *at).max();
        let after = self.keys.get(key).filter(|after| deleted.is_none_or(|at| at < after.operation));
        match after.map(|after| after.content) {
            Some(Content::Absent) => Ok(Some(ABSENT)),
            Some(Content::Sum(sum)) => Ok(Some(sum)),
            Some(Content::Put(flags, stored)) => Ok(sum_in(flags, stored)),
            None if deleted.is_some() => Ok(Some(ABSENT)),
            None => match state.version(key).filter(|(_, expiry)| !is_expired(*expiry, now)) {
                None => Ok(Some(ABSENT)),
                Some((_, expiry)) => Ok(state.integer(key)?.map(|value| Sum { value, expiry })),
            },
        }
    }
}

/// The integer that a put stores, if it is one.
fn sum_in(flags: u8, stored: &[u8]) -> Option<Sum> {
    let stored = Stored::new(flags, stored).ok()?;
    let value = parse_integer(&stored.value().ok()?)?;
    Some(Sum { value, expiry: stored.expiry })
}

/// The range that a record deletes.
pub(crate) fn deleted_range(record: &Record<'_>) -> KeyRange {
    let start = std::ops::Bound::Included(record.key.to_vec());
    // An end of a kind that nobody knows is none: the writer checked it.
    let end = decode_deletion_end(record.value).unwrap_or(std::ops::Bound::Excluded(&[]));
    KeyRange { start, end: end.map(<[u8]>::to_vec) }
}

/// An integer as `i64` prints it: what adds take, and Redis.
pub(crate) fn parse_integer(value: &[u8]) -> Option<i64> {
    let parsed: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (parsed.to_string().as_bytes() == value).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::WriteBatch;

    /// Keys with version, expiry and value.
    struct Held(BTreeMap<&'static [u8], HeldValue>);

    type HeldValue = (Version, Option<u64>, &'static [u8]);

    impl State for Held {
        fn version(&self, key: &[u8]) -> Option<(Version, Option<u64>)> {
            self.0.get(key).map(|(version, expiry, _)| (*version, *expiry))
        }

        fn integer(&self, key: &[u8]) -> Result<Option<i64>> {
            Ok(self.0.get(key).and_then(|(.., value)| parse_integer(value)))
        }
    }

    fn state() -> Held {
        let keys: [(&[u8], _); 4] = [
            (b"five", (3, None, &b"5"[..])),
            (b"text", (4, None, b"05")),
            (b"most", (5, None, b"9223372036854775807")),
            (b"soon", (6, Some(1000), b"7")),
        ];
        Held(keys.into_iter().collect())
    }

    fn verdict(build: impl FnOnce(&mut WriteBatch)) -> Verdict {
        verdict_from(0, build)
    }

    fn verdict_from(floor_ms: u64, build: impl FnOnce(&mut WriteBatch)) -> Verdict {
        let mut batch = WriteBatch::new();
        build(&mut batch);
        judge(&batch.into_payload().0, floor_ms, &state()).unwrap()
    }

    fn sums(values: &[i64]) -> Verdict {
        Verdict::Applies(values.iter().map(|&value| Sum { value, expiry: None }).collect())
    }

    #[test]
    fn adds_see_what_came_before_them_in_the_batch() {
        let got = verdict(|batch| {
            batch.add(b"five", 1).unwrap();
            batch.add(b"five", -10).unwrap();
            batch.put(b"five", b"100").unwrap();
            batch.add(b"five", 1).unwrap();
            batch.delete(b"five").unwrap();
            batch.add(b"five", 1).unwrap();
            batch.add(b"absent", 9).unwrap();
            batch.delete_range(&KeyRange::all()).unwrap();
            batch.add(b"absent", 2).unwrap();
            batch.add(b"text", 3).unwrap();
        });
        assert_eq!(got, sums(&[6, -4, 101, 1, 9, 2, 3]));
    }

    #[test]
    fn what_cannot_be_added_to_makes_the_batch_void() {
        let refused = |build: fn(&mut WriteBatch)| verdict(build);
        let not = Verdict::Void(Refusal::NotAnInteger);
        assert_eq!(refused(|batch| batch.add(b"text", 1).unwrap()), not);
        assert_eq!(refused(|batch| batch.add(b"most", 1).unwrap()), Verdict::Void(Refusal::Overflow));
        let put_text = |batch: &mut WriteBatch| {
            batch.put(b"k", b"1 ").unwrap();
            batch.add(b"k", 1).unwrap();
        };
        assert_eq!(verdict(put_text), not);
    }

    #[test]
    fn the_stamp_decides_what_has_expired() {
        let at = |now, build: fn(&mut WriteBatch)| {
            verdict(|batch| {
                build(batch);
                batch.stamp(now);
            })
        };
        let add = |batch: &mut WriteBatch| batch.add(b"soon", 1).unwrap();
        assert_eq!(at(999, add), Verdict::Applies(vec![Sum { value: 8, expiry: Some(1000) }]));
        assert_eq!(at(1000, add), sums(&[1]));
        let absent = |batch: &mut WriteBatch| {
            batch.require(b"soon", Condition::Absent).unwrap();
            batch.put(b"soon", b"x").unwrap();
        };
        assert_eq!(at(999, absent), Verdict::Void(Refusal::Condition(Some(6))));
        assert_eq!(at(1000, absent), sums(&[]));
    }

    #[test]
    fn a_stamp_does_not_go_behind_the_floor() {
        let absent = |batch: &mut WriteBatch| {
            batch.require(b"soon", Condition::Absent).unwrap();
            batch.put(b"soon", b"x").unwrap();
            batch.stamp(999);
        };
        assert_eq!(verdict_from(999, absent), Verdict::Void(Refusal::Condition(Some(6))));
        assert_eq!(verdict_from(1000, absent), sums(&[]));
        assert_eq!(floor_of(60_999), 999);
    }

    #[test]
    fn conditions_are_looked_at_before_operations() {
        let build = |condition| {
            verdict(|batch| {
                batch.require(b"five", condition).unwrap();
                batch.put(b"five", b"6").unwrap();
            })
        };
        assert_eq!(build(Condition::Version(3)), sums(&[]));
        assert_eq!(build(Condition::Version(4)), Verdict::Void(Refusal::Condition(Some(3))));
        assert_eq!(build(Condition::Absent), Verdict::Void(Refusal::Condition(Some(3))));
    }

    #[test]
    fn integers_are_as_they_are_printed() {
        for good in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(parse_integer(good.as_bytes()), good.parse().ok());
        }
        for bad in ["", "+1", "01", "-0", " 1", "1\n", "9223372036854775808", "1.0", "\u{661}"] {
            assert_eq!(parse_integer(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
