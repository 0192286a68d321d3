//! Times to live.

use esker_engine::bitcask::keydir::Slot;

use super::is;
use crate::resp::{
    Args, Reply,
    keyspace::Keyspace,
    number::integer,
    refusal::{Done, Refusal, SYNTAX},
};

/// What a time is counted in, and from when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Millis,
    /// Seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMillis,
}

impl Clock {
    /// As the options of SET and GETEX name it.
    pub(crate) fn of_option(word: &[u8]) -> Option<Self> {
        let options = [
            ("EX", Self::Seconds),
            ("PX", Self::Millis),
            ("EXAT", Self::UnixSeconds),
            ("PXAT", Self::UnixMillis),
        ];
        options.into_iter().find(|(name, _)| is(word, name)).map(|(_, clock)| clock)
    }

    /// A moment in milliseconds since 1970; `None` if there is no such moment.
    fn moment(self, time: i64, now_ms: u64) -> Option<i64> {
        let millis = match self {
            Self::Seconds | Self::UnixSeconds => time.checked_mul(1000)?,
            Self::Millis | Self::UnixMillis => time,
        };
        match self {
            Self::Seconds | Self::Millis => millis.checked_add(i64::try_from(now_ms).ok()?),
            Self::UnixSeconds | Self::UnixMillis => Some(millis),
        }
    }

    /// When a value that is written now expires, in milliseconds since 1970.
    ///
    /// Errors: the time is no number, is not positive, or is later than what a key can have.
    pub(crate) fn expiry(self, time: &[u8], now_ms: u64, command: &[u8]) -> Done<u64> {
        let time = integer(time)?;
        let moment = (time > 0).then(|| self.moment(time, now_ms)).flatten();
        let moment = moment.and_then(|moment| u64::try_from(moment).ok());
        moment.filter(|at| *at <= Slot::EXPIRY_MS_MAX).ok_or_else(|| Refusal::expire_time(command))
    }
}

/// When an expiry is set, by what it was before.
#[derive(Debug, Clone, Copy, Default)]
struct Only {
    absent: bool,
    present: bool,
    later: bool,
    sooner: bool,
}

impl Only {
    fn of(args: Args<'_>) -> Done<Self> {
        let mut only = Self::default();
        for word in args.from(3) {
            match word {
                word if is(word, "NX") => only.absent = true,
                word if is(word, "XX") => only.present = true,
                word if is(word, "GT") => only.later = true,
                word if is(word, "LT") => only.sooner = true,
                other => {
                    return Err(format!("ERR Unsupported option {}", String::from_utf8_lossy(other)).into());
                }
            }
        }
        if only.absent && (only.present || only.later || only.sooner) {
            return Err(Refusal::new("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if only.later && only.sooner {
            return Err(Refusal::new("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(only)
    }

    fn allows(self, before: Option<u64>, moment: i64) -> bool {
        let before = before.map(|at| i64::try_from(at).unwrap_or(i64::MAX));
        // No expiry is later than any.
        !(self.absent && before.is_some()
            || self.present && before.is_none()
            || self.later && before.is_none_or(|at| moment <= at)
            || self.sooner && before.is_some_and(|at| moment >= at))
    }
}

fn expire_at(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>, clock: Clock) -> Done {
    let only = Only::of(args)?;
    let refused = || Refusal::expire_time(args.name());
    let moment = clock.moment(integer(args.get(2))?, keyspace.now_ms()).ok_or_else(refused)?;
    let key = args.get(1);
    let Some(held) = keyspace.get(key)? else {
        reply.integer(0);
        return Ok(());
    };
    if !only.allows(held.expiry, moment) {
        reply.integer(0);
        return Ok(());
    }
    match u64::try_from(moment) {
        Ok(at) if at > Slot::EXPIRY_MS_MAX => return Err(refused()),
        Ok(at) if at > keyspace.now_ms() => {
            let value = held.value.to_vec();
            keyspace.put(key, value, Some(at))?;
        }
        // A time that is over, long ago perhaps.
        _ => keyspace.delete(key),
    }
    reply.integer(1);
    Ok(())
}

pub(crate) fn expire(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    expire_at(keyspace, args, reply, Clock::Seconds)
}

pub(crate) fn pexpire(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    expire_at(keyspace, args, reply, Clock::Millis)
}

pub(crate) fn expireat(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    expire_at(keyspace, args, reply, Clock::UnixSeconds)
}

pub(crate) fn pexpireat(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    expire_at(keyspace, args, reply, Clock::UnixMillis)
}

/// Answers with a time: -2 for a key that is not there, -1 for one that stays.
fn time(
    keyspace: &Keyspace,
    args: Args<'_>,
    reply: &mut Reply<'_>,
    told: impl FnOnce(u64, u64) -> u64,
) -> Done {
    reply.integer(match keyspace.expiry(args.get(1))? {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => i64::try_from(told(at, keyspace.now_ms())).unwrap_or(i64::MAX),
    });
    Ok(())
}

fn to_seconds(millis: u64) -> u64 {
    millis.saturating_add(500) / 1000
}

pub(crate) fn ttl(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    time(keyspace, args, reply, |at, now| to_seconds(at.saturating_sub(now)))
}

pub(crate) fn pttl(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    time(keyspace, args, reply, |at, now| at.saturating_sub(now))
}

pub(crate) fn expiretime(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    time(keyspace, args, reply, |at, _now| to_seconds(at))
}

pub(crate) fn pexpiretime(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    time(keyspace, args, reply, |at, _now| at)
}

pub(crate) fn persist(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.get(1);
    let value = keyspace.get(key)?.filter(|held| held.expiry.is_some()).map(|held| held.value.to_vec());
    reply.integer(i64::from(value.is_some()));
    value.map_or(Ok(()), |value| keyspace.put(key, value, None))
}

/// What GETEX does to a key's expiry.
enum Change {
    Nothing,
    Persist,
    At(u64),
}

fn getex_change(args: Args<'_>, now_ms: u64) -> Done<Change> {
    match args.len() {
        2 => Ok(Change::Nothing),
        3 if is(args.get(2), "PERSIST") => Ok(Change::Persist),
        4 => {
            let clock = Clock::of_option(args.get(2)).ok_or(SYNTAX)?;
            clock.expiry(args.get(3), now_ms, args.name()).map(Change::At)
        }
        _ => Err(SYNTAX),
    }
}

pub(crate) fn getex(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let change = getex_change(args, keyspace.now_ms())?;
    let key = args.get(1);
    let Some(held) = keyspace.get(key)? else {
        reply.null();
        return Ok(());
    };
    reply.bulk(held.value);
    let expiry = match change {
        Change::Nothing => return Ok(()),
        Change::Persist if held.expiry.is_none() => return Ok(()),
        Change::Persist => None,
        Change::At(at) => Some(at),
    };
    let value = held.value.to_vec();
    keyspace.put(key, value, expiry)
}
