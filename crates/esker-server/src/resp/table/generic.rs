//! Keys of whatever kind, and walks over them.

use super::{
    Family::{Esker, Generic},
    Run::{Parent, Session as Of, Walk},
    Spec,
    rows::*,
};
use crate::resp::commands::{expiry, introspection, keys, scan};

/// Commands over keys, whatever they hold.
#[rustfmt::skip]
pub(super) static ROWS: &[Spec] = &[
    over_keys("del", -2, DELETE, ALL, (Generic, PRESENCE), keys::del,
        ("1.0.0", "key...", "Deletes keys"))
        .plainly(keys::plain_del),
    over_keys("unlink", -2, DELETE_FAST, ALL, (Generic, PRESENCE), keys::del,
        ("4.0.0", "key...", "Deletes keys"))
        .plainly(keys::plain_del),
    over_keys("exists", -2, READ_FAST, ALL, (Generic, PRESENCE), keys::exists,
        ("1.0.0", "key...", "How many of these keys there are")),
    over_keys("touch", -2, READ_FAST, ALL, (Generic, PRESENCE), keys::exists,
        ("3.2.1", "key...", "How many of these keys there are")),
    over_keys("type", 2, READ_FAST, FIRST, (Generic, PRESENCE), keys::type_,
        ("1.0.0", "key", "`string`, or `none` for no key")),
    over_keys("expire", -3, DELETE_FAST, FIRST, (Generic, VALUES), expiry::expire,
        ("1.0.0", "key seconds [NX | XX | GT | LT]", "Has a key expire in so many seconds")),
    over_keys("pexpire", -3, DELETE_FAST, FIRST, (Generic, VALUES), expiry::pexpire,
        ("2.6.0", "key milliseconds [NX | XX | GT | LT]", "Has a key expire in so many milliseconds")),
    over_keys("expireat", -3, DELETE_FAST, FIRST, (Generic, VALUES), expiry::expireat,
        ("1.2.0", "key unix-time-seconds [NX | XX | GT | LT]", "Has a key expire at a time in seconds since 1970")),
    over_keys("pexpireat", -3, DELETE_FAST, FIRST, (Generic, VALUES), expiry::pexpireat,
        ("2.6.0", "key unix-time-milliseconds [NX | XX | GT | LT]", "Has a key expire at a time in milliseconds since 1970")),
    over_keys("ttl", 2, READ_FAST, FIRST, (Generic, PRESENCE), expiry::ttl,
        ("1.0.0", "key", "In how many seconds a key expires")),
    over_keys("pttl", 2, READ_FAST, FIRST, (Generic, PRESENCE), expiry::pttl,
        ("2.6.0", "key", "In how many milliseconds a key expires")),
    over_keys("expiretime", 2, READ_FAST, FIRST, (Generic, PRESENCE), expiry::expiretime,
        ("7.0.0", "key", "When a key expires, in seconds since 1970")),
    over_keys("pexpiretime", 2, READ_FAST, FIRST, (Generic, PRESENCE), expiry::pexpiretime,
        ("7.0.0", "key", "When a key expires, in milliseconds since 1970")),
    over_keys("persist", 2, DELETE_FAST, FIRST, (Generic, VALUES), expiry::persist, ("2.2.0", "key", "Has a key stay")),
    over_keys("rename", 3, DELETE, FIRST_TWO, (Generic, VALUES), keys::rename,
        ("1.0.0", "key newkey", "Gives a key another name")),
    over_keys("renamenx", 3, DELETE_FAST, FIRST_TWO, (Generic, VALUES), keys::renamenx,
        ("1.0.0", "key newkey", "Gives a key another name if that is free")),
    over_keys("copy", -3, WRITE, FIRST_TWO, (Generic, VALUES), keys::copy,
        ("6.2.0", "source destination [DB destination-db] [REPLACE]", "Copies a key")),
    other("keys", 2, WALK, Generic, Walk(scan::keys), ("1.0.0", "pattern", "All keys that fit a pattern")),
    other("scan", -2, WALK, Generic, Walk(scan::scan),
        ("2.8.0", "cursor [MATCH pattern] [COUNT count] [TYPE type]", "Some keys, and where it goes on")),
    other("randomkey", 1, WALK, Generic, Walk(scan::randomkey), ("1.0.0", "", "Any key")),
    other("object", -2, READ, Generic, Parent(OBJECT), ("2.2.3", "", "How values are kept")),
];

/// What Redis has not.
#[rustfmt::skip]
pub(super) static ESKER: &[Spec] = &[
    other("erange", -3, WALK, Esker, Walk(scan::erange),
        (NEW, "start end [LIMIT count] [REV]", "Keys and values from one key to another, both included")),
];

/// The subcommands of OBJECT.
#[rustfmt::skip]
static OBJECT: &[Spec] = &[
    over_keys("object|encoding", 3, READ, SECOND, (Generic, VALUES), keys::object_encoding,
        ("2.2.3", "key", "How Redis would keep the value: `int`, `embstr` or `raw`")),
    over_keys("object|freq", 3, READ, SECOND, (Generic, PRESENCE), keys::object_freq,
        ("4.0.0", "key", "An error: how often a key is read is not counted")),
    over_keys("object|idletime", 3, READ, SECOND, (Generic, PRESENCE), keys::object_idletime,
        ("2.2.3", "key", "0: when a key was read is not kept")),
    over_keys("object|refcount", 3, READ, SECOND, (Generic, PRESENCE), keys::object_refcount, ("2.2.3", "key", "1")),
    other("object|help", 2, SESSION, Generic, Of(introspection::help), ("6.2.0", "", "These lines")),
];
