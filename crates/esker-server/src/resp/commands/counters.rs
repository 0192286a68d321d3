//! Counters: integers and decimals that are added to.

use crate::resp::{
    Args, Reply,
    keyspace::Keyspace,
    number::{add_floats, integer},
    refusal::{Done, OVERFLOW, Refusal},
    writes::Write,
};

/// What a counting command adds.
fn amount(args: Args<'_>) -> Done<i64> {
    let is = |name: &str| super::is(args.name(), name);
    match args.len() {
        2 if is("decr") => Ok(-1),
        2 => Ok(1),
        _ if is("decrby") => {
            integer(args.get(2))?.checked_neg().ok_or(Refusal::new("ERR decrement would overflow"))
        }
        _ => integer(args.get(2)),
    }
}

/// Adding is the engine's own operation: nothing is read before, and nothing contended.
pub(crate) fn plain_add<'a>(args: Args<'a>, _now_ms: u64) -> Done<Option<Write<'a>>> {
    Ok(Some(Write::Add { key: args.get(1), by: amount(args)? }))
}

pub(crate) fn add(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let by = amount(args)?;
    let key = args.get(1);
    let (old, expiry) = match keyspace.get(key)? {
        Some(held) => (integer(held.value)?, held.expiry),
        None => (0, None),
    };
    let sum = old.checked_add(by).ok_or(OVERFLOW)?;
    keyspace.put(key, sum.to_string().into_bytes(), expiry)?;
    reply.integer(sum);
    Ok(())
}

pub(crate) fn incrbyfloat(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.get(1);
    let (sum, expiry) = match keyspace.get(key)? {
        Some(held) => (add_floats(held.value, args.get(2))?, held.expiry),
        None => (add_floats(b"0", args.get(2))?, None),
    };
    reply.bulk(sum.as_bytes());
    keyspace.put(key, sum.into_bytes(), expiry)
}
