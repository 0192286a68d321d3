//! Strings, and what compares before it deletes.

use super::{Family::String, Needs, Spec, rows::*};
use crate::resp::commands::{counters, esker, expiry, strings};

/// Commands over the values of keys.
#[rustfmt::skip]
pub(super) static ROWS: &[Spec] = &[
    over_keys("get", 2, READ_FAST, FIRST, (String, VALUES), strings::get, ("1.0.0", "key", "The value of a key"))
        .looking(strings::look_get),
    over_keys("set", -3, WRITE, FIRST, (String, Needs::AsAsked(strings::set_needs)), strings::set,
        ("1.0.0", "key value [NX | XX | IFEQ value | IFNE value] [GET] [EX seconds | PX milliseconds \
         | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
         "Sets a key"))
        .plainly(strings::plain_set),
    over_keys("setnx", 3, WRITE_FAST, FIRST, (String, PRESENCE), strings::setnx,
        ("1.0.0", "key value", "Sets a key if it is absent"))
        .plainly(strings::plain_setnx),
    over_keys("setex", 4, WRITE, FIRST, (String, NOTHING), strings::setex,
        ("2.0.0", "key seconds value", "Sets a key for so many seconds"))
        .plainly(strings::plain_setex),
    over_keys("psetex", 4, WRITE, FIRST, (String, NOTHING), strings::setex,
        ("2.6.0", "key milliseconds value", "Sets a key for so many milliseconds"))
        .plainly(strings::plain_setex),
    over_keys("getset", 3, WRITE_FAST, FIRST, (String, VALUES), strings::getset,
        ("1.0.0", "key value", "Sets a key; answers with what it held")),
    over_keys("getdel", 2, DELETE_FAST, FIRST, (String, VALUES), strings::getdel,
        ("6.2.0", "key", "Deletes a key; answers with what it held")),
    over_keys("getex", -2, DELETE_FAST, FIRST, (String, VALUES), expiry::getex,
        ("6.2.0", "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
         "The value of a key, whose expiry it changes")),
    over_keys("mget", -2, READ_FAST, ALL, (String, VALUES), strings::mget,
        ("1.0.0", "key...", "The values of many keys, at one snapshot")),
    over_keys("mset", -3, WRITE, PAIRS, (String, NOTHING), strings::mset,
        ("1.0.1", "(key value)...", "Sets many keys, all at once"))
        .plainly(strings::plain_mset),
    over_keys("msetnx", -3, WRITE, PAIRS, (String, PRESENCE), strings::msetnx,
        ("1.0.1", "(key value)...", "Sets many keys if all are absent"))
        .plainly(strings::plain_msetnx),
    over_keys("strlen", 2, READ_FAST, FIRST, (String, VALUES), strings::strlen, ("2.2.0", "key", "The length of a value")),
    over_keys("append", 3, WRITE_FAST, FIRST, (String, VALUES), strings::append,
        ("2.0.0", "key value", "Adds to the end of a value")),
    over_keys("getrange", 4, READ, FIRST, (String, VALUES), strings::getrange,
        ("2.4.0", "key start end", "A part of a value")),
    over_keys("substr", 4, READ, FIRST, (String, VALUES), strings::getrange,
        ("1.0.0", "key start end", "The older name of GETRANGE")),
    over_keys("setrange", 4, WRITE, FIRST, (String, VALUES), strings::setrange,
        ("2.2.0", "key offset value", "Writes over a part of a value")),
    over_keys("incr", 2, WRITE_FAST, FIRST, (String, VALUES), counters::add,
        ("1.0.0", "key", "Adds 1 to an integer"))
        .plainly(counters::plain_add),
    over_keys("decr", 2, WRITE_FAST, FIRST, (String, VALUES), counters::add,
        ("1.0.0", "key", "Takes 1 from an integer"))
        .plainly(counters::plain_add),
    over_keys("incrby", 3, WRITE_FAST, FIRST, (String, VALUES), counters::add,
        ("1.0.0", "key increment", "Adds to an integer"))
        .plainly(counters::plain_add),
    over_keys("decrby", 3, WRITE_FAST, FIRST, (String, VALUES), counters::add,
        ("1.0.0", "key decrement", "Takes from an integer"))
        .plainly(counters::plain_add),
    over_keys("incrbyfloat", 3, WRITE_FAST, FIRST, (String, VALUES), counters::incrbyfloat,
        ("2.6.0", "key increment", "Adds to a decimal number")),
    over_keys("delex", -2, DELETE_FAST, FIRST, (String, VALUES), esker::delex,
        ("8.4.0", "key [IFEQ value | IFNE value]", "Deletes a key")),
    over_keys("delifeq", 3, DELETE_FAST, FIRST, (String, VALUES), esker::delifeq,
        ("Valkey 9.0.0", "key value", "Deletes a key if it holds this value")),
];
