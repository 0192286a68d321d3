//! Values: reading and writing them, whole and in parts.

use super::{expiry::Clock, is};
use crate::resp::{
    Args, Reply,
    keyspace::{Keyspace, Need},
    number::integer,
    refusal::{Done, Refusal, SYNTAX, TOO_LONG},
    writes::{Said, When, Write},
};

pub(crate) fn get(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    look_get(keyspace.get(args.get(1))?.map(|held| held.value), reply);
    Ok(())
}

pub(crate) fn look_get(value: Option<&[u8]>, reply: &mut Reply<'_>) {
    reply.bulk_or_null(value);
}

pub(crate) fn mget(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let mut bytes = 0;
    for key in args.from(1) {
        bytes += keyspace.get(key)?.map_or(0, |held| held.value.len());
    }
    reply.reserve(args.len(), bytes);
    reply.array(args.len() - 1);
    for key in args.from(1) {
        reply.bulk_or_null(keyspace.get(key)?.map(|held| held.value));
    }
    Ok(())
}

/// The options of SET.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetOptions<'a> {
    only: Only<'a>,
    /// Answers with what the key held.
    get: bool,
    lifetime: Lifetime<'a>,
}

/// When SET writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only<'a> {
    Always,
    Absent,
    Present,
    /// If the key holds this.
    Equal(&'a [u8]),
    /// If it does not, or is absent.
    Different(&'a [u8]),
}

/// For how long the value stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifetime<'a> {
    Forever,
    /// As long as the value before would have.
    Kept,
    Until(Clock, &'a [u8]),
}

impl<'a> SetOptions<'a> {
    /// Reads the options behind key and value.
    pub(crate) fn parse(args: Args<'a>) -> Done<Self> {
        let mut options = Self { only: Only::Always, get: false, lifetime: Lifetime::Forever };
        let mut words = args.from(3);
        while let Some(word) = words.next() {
            let mut next = || words.next().ok_or(SYNTAX);
            if is(word, "GET") {
                options.get = true;
            } else if is(word, "NX") {
                options.only(Only::Absent)?;
            } else if is(word, "XX") {
                options.only(Only::Present)?;
            } else if is(word, "IFEQ") {
                options.only(Only::Equal(next()?))?;
            } else if is(word, "IFNE") {
                options.only(Only::Different(next()?))?;
            } else if is(word, "KEEPTTL") {
                options.live(Lifetime::Kept)?;
            } else if let Some(clock) = Clock::of_option(word) {
                options.live(Lifetime::Until(clock, next()?))?;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(options)
    }

    /// The same may be said twice, but not two different things.
    fn only(&mut self, only: Only<'a>) -> Done {
        let fits = self.only == Only::Always || self.only == only;
        self.only = only;
        fits.then_some(()).ok_or(SYNTAX)
    }

    fn live(&mut self, lifetime: Lifetime<'a>) -> Done {
        let fits = self.lifetime == Lifetime::Forever
            || self.lifetime == Lifetime::Kept && lifetime == Lifetime::Kept;
        self.lifetime = lifetime;
        fits.then_some(()).ok_or(SYNTAX)
    }

    fn expiry(&self, args: Args<'_>, now_ms: u64, before: Option<u64>) -> Done<Option<u64>> {
        match self.lifetime {
            Lifetime::Forever => Ok(None),
            Lifetime::Kept => Ok(before),
            Lifetime::Until(clock, time) => clock.expiry(time, now_ms, args.name()).map(Some),
        }
    }

    /// Whether it is enough to know whether the key is there, and how it is answered.
    fn condition(&self) -> Option<When> {
        match self.only {
            _ if self.get || self.lifetime == Lifetime::Kept => None,
            Only::Always => Some(When::Always),
            Only::Absent => Some(When::Absent),
            Only::Present => Some(When::Present),
            Only::Equal(_) | Only::Different(_) => None,
        }
    }
}

/// What SET reads before it writes.
pub(crate) fn set_needs(args: Args<'_>) -> Need {
    match SetOptions::parse(args) {
        // It will be refused without having been read for.
        Err(_) => Need::Nothing,
        Ok(options) => match options.condition() {
            Some(When::Always) => Need::Nothing,
            Some(_) => Need::Presence,
            None => Need::Values,
        },
    }
}

/// SET, where it is enough to know whether the key is there.
pub(crate) fn plain_set<'a>(args: Args<'a>, now_ms: u64) -> Done<Option<Write<'a>>> {
    let options = SetOptions::parse(args)?;
    let Some(when) = options.condition() else { return Ok(None) };
    let expiry = options.expiry(args, now_ms, None)?;
    Ok(Some(Write::Put {
        key: args.get(1),
        value: args.get(2),
        expiry,
        when,
        done: Said::Ok,
        refused: Said::Null,
    }))
}

pub(crate) fn set(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let options = SetOptions::parse(args)?;
    let (key, value) = (args.get(1), args.get(2));
    let needs_old = options.condition().is_none();
    let (old_value, old_expiry) = match if needs_old { keyspace.get(key)? } else { None } {
        Some(held) => (Some(held.value.to_vec()), held.expiry),
        None => (None, None),
    };
    let expiry = options.expiry(args, keyspace.now_ms(), old_expiry)?;
    let writes = match options.only {
        Only::Always => true,
        Only::Absent => !keyspace.exists(key)?,
        Only::Present => keyspace.exists(key)?,
        Only::Equal(expected) => old_value.as_deref() == Some(expected),
        Only::Different(other) => old_value.as_deref() != Some(other),
    };
    if writes {
        keyspace.put(key, value.to_vec(), expiry)?;
    }
    match options.get {
        true => reply.bulk_or_null(old_value.as_deref()),
        false if writes => reply.simple("OK"),
        false => reply.null(),
    }
    Ok(())
}

pub(crate) fn plain_setnx<'a>(args: Args<'a>, _now_ms: u64) -> Done<Option<Write<'a>>> {
    let (key, value) = (args.get(1), args.get(2));
    let (done, refused) = (Said::Number(1), Said::Number(0));
    Ok(Some(Write::Put { key, value, expiry: None, when: When::Absent, done, refused }))
}

pub(crate) fn setnx(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.get(1);
    let writes = !keyspace.exists(key)?;
    if writes {
        keyspace.put(key, args.get(2).to_vec(), None)?;
    }
    reply.integer(i64::from(writes));
    Ok(())
}

fn clock_of_set(args: Args<'_>) -> Clock {
    if is(args.name(), "psetex") { Clock::Millis } else { Clock::Seconds }
}

pub(crate) fn plain_setex<'a>(args: Args<'a>, now_ms: u64) -> Done<Option<Write<'a>>> {
    let expiry = Some(clock_of_set(args).expiry(args.get(2), now_ms, args.name())?);
    let (key, value) = (args.get(1), args.get(3));
    let (done, refused) = (Said::Ok, Said::Null);
    Ok(Some(Write::Put { key, value, expiry, when: When::Always, done, refused }))
}

pub(crate) fn setex(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let expiry = clock_of_set(args).expiry(args.get(2), keyspace.now_ms(), args.name())?;
    keyspace.put(args.get(1), args.get(3).to_vec(), Some(expiry))?;
    reply.simple("OK");
    Ok(())
}

pub(crate) fn getset(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    reply.bulk_or_null(keyspace.get(args.get(1))?.map(|held| held.value));
    keyspace.put(args.get(1), args.get(2).to_vec(), None)
}

pub(crate) fn getdel(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.get(1);
    let held = keyspace.get(key)?;
    let is_there = held.is_some();
    reply.bulk_or_null(held.map(|held| held.value));
    if is_there {
        keyspace.delete(key);
    }
    Ok(())
}

/// Errors: a key without a value.
fn pairs(args: Args<'_>) -> Done {
    match args.len() % 2 {
        1 => Ok(()),
        _ => Err(Refusal::arity(&crate::resp::refusal::lower(args.name()))),
    }
}

pub(crate) fn plain_mset<'a>(args: Args<'a>, _now_ms: u64) -> Done<Option<Write<'a>>> {
    pairs(args)?;
    Ok(Some(Write::PutAll { pairs: args, if_absent: false }))
}

pub(crate) fn plain_msetnx<'a>(args: Args<'a>, _now_ms: u64) -> Done<Option<Write<'a>>> {
    pairs(args)?;
    Ok(Some(Write::PutAll { pairs: args, if_absent: true }))
}

fn put_all(keyspace: &mut Keyspace, args: Args<'_>) -> Done {
    (1..args.len()).step_by(2).try_for_each(|at| keyspace.put(args.get(at), args.get(at + 1).to_vec(), None))
}

pub(crate) fn mset(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    pairs(args)?;
    put_all(keyspace, args)?;
    reply.simple("OK");
    Ok(())
}

pub(crate) fn msetnx(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    pairs(args)?;
    for at in (1..args.len()).step_by(2) {
        if keyspace.exists(args.get(at))? {
            reply.integer(0);
            return Ok(());
        }
    }
    put_all(keyspace, args)?;
    reply.integer(1);
    Ok(())
}

pub(crate) fn strlen(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    reply.integer(keyspace.get(args.get(1))?.map_or(0, |held| held.value.len() as i64));
    Ok(())
}

pub(crate) fn append(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, more) = (args.get(1), args.get(2));
    let held = keyspace.get(key)?;
    let (old, expiry) = held.map_or((&[][..], None), |held| (held.value, held.expiry));
    if old.len() + more.len() > keyspace.value_bytes_max() {
        return Err(TOO_LONG);
    }
    let value = [old, more].concat();
    let len = value.len();
    keyspace.put(key, value, expiry)?;
    reply.integer(len as i64);
    Ok(())
}

/// The part of a value from `start` to `end`, both within; counted from its end if negative.
fn part(value: &[u8], start: i64, end: i64) -> &[u8] {
    let len = value.len() as i64;
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let from_start = |at: i64| if at < 0 { (len.saturating_add(at)).max(0) } else { at };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    if start > end || len == 0 {
        return &[];
    }
    &value[start as usize..=end as usize]
}

pub(crate) fn getrange(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let (start, end) = (integer(args.get(2))?, integer(args.get(3))?);
    let held = keyspace.get(args.get(1))?;
    reply.bulk(held.map_or(&[][..], |held| part(held.value, start, end)));
    Ok(())
}

pub(crate) fn setrange(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let (key, offset, piece) = (args.get(1), integer(args.get(2))?, args.get(3));
    let offset = usize::try_from(offset).map_err(|_| Refusal::new("ERR offset is out of range"))?;
    let held = keyspace.get(key)?;
    let (old, expiry) = held.map_or((&[][..], None), |held| (held.value, held.expiry));
    if piece.is_empty() {
        reply.integer(old.len() as i64);
        return Ok(());
    }
    let end =
        offset.checked_add(piece.len()).filter(|end| *end <= keyspace.value_bytes_max()).ok_or(TOO_LONG)?;
    let mut value = old.to_vec();
    value.resize(old.len().max(end), 0);
    value[offset..end].copy_from_slice(piece);
    let len = value.len();
    keyspace.put(key, value, expiry)?;
    reply.integer(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_as_in_redis() {
        for (start, end, expected) in [
            (0, -1, "hello"),
            (0, 0, "h"),
            (1, 3, "ell"),
            (-3, -1, "llo"),
            (-100, 100, "hello"),
            (5, 10, ""),
            (3, 1, ""),
            (-1, -3, ""),
            (i64::MIN, i64::MAX, "hello"),
            (0, -100, "h"),
        ] {
            assert_eq!(part(b"hello", start, end), expected.as_bytes(), "{start} {end}");
        }
        assert!(part(b"", 0, -1).is_empty());
    }
}
