//! Keys as such: whether they are there, their names, what kind of value they have.

use super::is;
use crate::resp::{
    Args, Reply,
    keyspace::{Keyspace, check_key},
    number::integer,
    refusal::{Done, NO_SUCH_KEY, Refusal, SYNTAX},
    writes::Write,
};

/// The engine counts which of them were there.
pub(crate) fn plain_del<'a>(args: Args<'a>, _now_ms: u64) -> Done<Option<Write<'a>>> {
    // A key that no store can hold is not there; the store is not asked about it.
    let all_may_be = args.from(1).all(|key| check_key(key).is_ok());
    Ok(all_may_be.then_some(Write::Delete { keys: args }))
}

pub(crate) fn del(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let mut deleted = 0;
    for key in args.from(1) {
        if keyspace.exists(key)? {
            keyspace.delete(key);
            deleted += 1;
        }
    }
    reply.integer(deleted);
    Ok(())
}

/// EXISTS and TOUCH: a key that is named twice counts twice.
pub(crate) fn exists(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let mut found = 0;
    for key in args.from(1) {
        found += i64::from(keyspace.exists(key)?);
    }
    reply.integer(found);
    Ok(())
}

pub(crate) fn type_(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    reply.simple(if keyspace.exists(args.get(1))? { "string" } else { "none" });
    Ok(())
}

/// Moves a value with its expiry; whether it did.
fn move_value(keyspace: &mut Keyspace, args: Args<'_>, over: bool) -> Done<bool> {
    let (from, to) = (args.get(1), args.get(2));
    let held = keyspace.get(from)?.ok_or(NO_SUCH_KEY)?;
    let (value, expiry) = (held.value.to_vec(), held.expiry);
    if from == to {
        return Ok(over);
    }
    if !over && keyspace.exists(to)? {
        return Ok(false);
    }
    keyspace.put(to, value, expiry)?;
    keyspace.delete(from);
    Ok(true)
}

pub(crate) fn rename(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    move_value(keyspace, args, true)?;
    reply.simple("OK");
    Ok(())
}

pub(crate) fn renamenx(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let moved = move_value(keyspace, args, false)?;
    reply.integer(i64::from(moved));
    Ok(())
}

pub(crate) fn copy(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let (from, to) = (args.get(1), args.get(2));
    let mut replace = false;
    let mut words = args.from(3);
    while let Some(word) = words.next() {
        match word {
            word if is(word, "REPLACE") => replace = true,
            word if is(word, "DB") => only_database(words.next().ok_or(SYNTAX)?)?,
            _ => return Err(SYNTAX),
        }
    }
    if from == to {
        return Err(Refusal::new("ERR source and destination objects are the same"));
    }
    let Some(held) = keyspace.get(from)? else {
        reply.integer(0);
        return Ok(());
    };
    let (value, expiry) = (held.value.to_vec(), held.expiry);
    let copies = replace || !keyspace.exists(to)?;
    if copies {
        keyspace.put(to, value, expiry)?;
    }
    reply.integer(i64::from(copies));
    Ok(())
}

/// Errors: it names another database than the one there is.
pub(crate) fn only_database(number: &[u8]) -> Done {
    match integer(number)? {
        0 => Ok(()),
        _ => Err(Refusal::new("ERR DB index is out of range")),
    }
}

pub(crate) fn object_encoding(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    /// As long as a value may be that Redis keeps beside its header.
    const EMBEDDED_MAX: usize = 44;
    match keyspace.get(args.get(2))?.map(|held| held.value) {
        None => reply.null(),
        Some(value) if integer(value).is_ok() => reply.bulk(b"int"),
        Some(value) if value.len() <= EMBEDDED_MAX => reply.bulk(b"embstr"),
        Some(_) => reply.bulk(b"raw"),
    }
    Ok(())
}

/// OBJECT IDLETIME and REFCOUNT: a number that is the same for every key, since nothing here is counted so.
fn of_any(keyspace: &Keyspace, args: Args<'_>, reply: &mut Reply<'_>, number: i64) -> Done {
    match keyspace.exists(args.get(2))? {
        true => reply.integer(number),
        false => reply.null(),
    }
    Ok(())
}

pub(crate) fn object_idletime(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    of_any(keyspace, args, reply, 0)
}

pub(crate) fn object_refcount(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    of_any(keyspace, args, reply, 1)
}

pub(crate) fn object_freq(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    if keyspace.exists(args.get(2))? {
        return Err(Refusal::new(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between \
             policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    reply.null();
    Ok(())
}

/// What a key takes: in the index, and in the log.
pub(crate) fn memory_usage(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    /// Of a key's entry in the index and its record's head in the log, about.
    const OVERHEAD: u64 = 64;
    let mut options = args.from(3);
    match (options.next(), options.next(), options.next()) {
        (None, ..) => {}
        (Some(word), Some(count), None) if is(word, "SAMPLES") => {
            integer(count)?;
        }
        _ => return Err(SYNTAX),
    }
    let key = args.get(2);
    match keyspace.exists(key)? {
        false => reply.null(),
        true => {
            let value = keyspace.value_len(key)?.unwrap_or(0);
            reply.integer(i64::try_from(value + key.len() as u64 + OVERHEAD).unwrap_or(i64::MAX));
        }
    }
    Ok(())
}

pub(crate) fn flush(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    flush_mode(args)?;
    keyspace.flush();
    reply.simple("OK");
    Ok(())
}

pub(crate) fn plain_flush<'a>(args: Args<'a>, _now_ms: u64) -> Done<Option<Write<'a>>> {
    flush_mode(args)?;
    Ok(Some(Write::Flush))
}

/// ASYNC and SYNC come to the same: all keys go at once, and their space later.
fn flush_mode(args: Args<'_>) -> Done {
    match args.len() {
        1 => Ok(()),
        2 if is(args.get(1), "ASYNC") || is(args.get(1), "SYNC") => Ok(()),
        _ => Err(SYNTAX),
    }
}

pub(crate) fn dbsize(keyspace: &mut Keyspace, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    reply.integer(i64::try_from(keyspace.count()).unwrap_or(i64::MAX));
    Ok(())
}
