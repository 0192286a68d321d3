//! Compare and delete, which Redis and Valkey have under two names. ERANGE walks, and so is with the scans.

use super::is;
use crate::resp::{
    Args, Reply,
    keyspace::Keyspace,
    refusal::{Done, SYNTAX},
};

fn delete_if(
    keyspace: &mut Keyspace,
    key: &[u8],
    reply: &mut Reply<'_>,
    fits: impl FnOnce(&[u8]) -> bool,
) -> Done {
    let deletes = keyspace.get(key)?.is_some_and(|held| fits(held.value));
    if deletes {
        keyspace.delete(key);
    }
    reply.integer(i64::from(deletes));
    Ok(())
}

/// DELEX key [IFEQ value | IFNE value].
pub(crate) fn delex(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let key = args.get(1);
    match args.len() {
        2 => delete_if(keyspace, key, reply, |_| true),
        4 if is(args.get(2), "IFEQ") => delete_if(keyspace, key, reply, |value| value == args.get(3)),
        4 if is(args.get(2), "IFNE") => delete_if(keyspace, key, reply, |value| value != args.get(3)),
        _ => Err(SYNTAX),
    }
}

/// DELIFEQ key value.
pub(crate) fn delifeq(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    delete_if(keyspace, args.get(1), reply, |value| value == args.get(2))
}
