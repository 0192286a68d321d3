//! The one table of commands.

use super::{
    Args, Reply, Walking,
    commands::{
        connection, counters, esker, expiry, introspection, keys, scan, server, strings, transactions,
    },
    keyspace::{Keyspace, Need},
    refusal::{Done, Refusal, lower},
    session::Session,
    writes::Write,
};
use crate::http::Front;

/// A command, or a subcommand of one.
pub(crate) struct Spec {
    /// In lower case; a subcommand's is `command|subcommand`.
    pub(crate) name: &'static str,
    /// How many arguments it has, the name among them; at least so many, if negative.
    pub(crate) arity: i32,
    pub(crate) flags: &'static [&'static str],
    pub(crate) keys: Keys,
    pub(crate) family: Family,
    pub(crate) summary: &'static str,
    /// The Redis that had it first, or the Esker.
    pub(crate) since: &'static str,
    pub(crate) run: Run,
    /// What it writes, where that does not depend on what it reads.
    pub(crate) plain: Option<Plain>,
}

/// Which arguments are keys: from the first to the last, counted from the end if negative, every so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) first: i32,
    pub(crate) last: i32,
    pub(crate) step: i32,
}

/// Groups of commands, as Redis names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    String,
    Generic,
    Connection,
    Server,
    Transactions,
    Esker,
}

/// What a command over keys does.
pub(crate) type OverKeys = fn(&mut Keyspace, Args<'_>, &mut Reply<'_>) -> Done;
/// Says what a command writes; the time is in milliseconds since 1970.
pub(crate) type Plain = for<'a> fn(Args<'a>, u64) -> Done<Option<Write<'a>>>;

/// How a command is run.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// In memory, over keys that were read before.
    Keys(Needs, OverKeys),
    /// Over what is known of the connection and the server.
    Session(fn(&mut Session, Args<'_>, &mut Reply<'_>) -> Done),
    /// Over many keys of the store; not within a transaction.
    Walk(for<'a> fn(&'a Front, Args<'a>, &'a mut Reply<'_>) -> Walking<'a>),
    /// At once, also within a transaction.
    Control(Control),
    /// One of these.
    Parent(&'static [Spec]),
}

/// Commands that are never queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Multi,
    Exec,
    Discard,
    Watch,
    Reset,
    Quit,
}

/// What a command reads of its keys.
#[derive(Clone, Copy)]
pub(crate) enum Needs {
    Always(Need),
    /// It depends on its options.
    AsAsked(fn(Args<'_>) -> Need),
    /// It has no keys, and asks how many there are.
    Count,
}

const WRITE: &[&str] = &["write", "denyoom"];
const WRITE_FAST: &[&str] = &["write", "denyoom", "fast"];
const DELETE: &[&str] = &["write"];
const DELETE_FAST: &[&str] = &["write", "fast"];
const READ: &[&str] = &["readonly"];
const READ_FAST: &[&str] = &["readonly", "fast"];
const WALK: &[&str] = &["readonly", "no_multi"];
const SESSION: &[&str] = &["noscript", "loading", "stale", "fast"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];

const NONE: Keys = Keys { first: 0, last: 0, step: 0 };
const FIRST: Keys = Keys { first: 1, last: 1, step: 1 };
const SECOND: Keys = Keys { first: 2, last: 2, step: 1 };
const FIRST_TWO: Keys = Keys { first: 1, last: 2, step: 1 };
const ALL: Keys = Keys { first: 1, last: -1, step: 1 };
const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };

const VALUES: Needs = Needs::Always(Need::Values);
const PRESENCE: Needs = Needs::Always(Need::Presence);
const NOTHING: Needs = Needs::Always(Need::Nothing);

use Family::{Connection, Esker, Generic, Server, String, Transactions};
use std::string::String as Text;

type Words = (&'static str, &'static str);

const fn over_keys(
    name: &'static str,
    arity: i32,
    flags: &'static [&'static str],
    keys: Keys,
    (family, needs): (Family, Needs),
    run: OverKeys,
    (since, summary): Words,
) -> Spec {
    Spec { name, arity, flags, keys, family, summary, since, run: Run::Keys(needs, run), plain: None }
}

const fn other(
    name: &'static str,
    arity: i32,
    flags: &'static [&'static str],
    family: Family,
    run: Run,
    (since, summary): Words,
) -> Spec {
    Spec { name, arity, flags, keys: NONE, family, summary, since, run, plain: None }
}

impl Spec {
    const fn plainly(self, plain: Plain) -> Self {
        Self { plain: Some(plain), ..self }
    }
}

use Control::{Discard, Exec, Multi, Quit, Reset, Watch};
use Run::{Control as Ctl, Parent, Session as Of, Walk};

const NEW: &str = "Esker 0.1.0";

/// Every command there is.
pub(crate) static TABLE: &[Spec] = &[
    over_keys("get", 2, READ_FAST, FIRST, (String, VALUES), strings::get, ("1.0.0", "The value of a key")),
    over_keys("set", -3, WRITE, FIRST, (String, Needs::AsAsked(strings::set_needs)), strings::set,
        ("1.0.0", "Sets a key: [NX | XX | IFEQ value | IFNE value] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]"))
        .plainly(strings::plain_set),
    over_keys("setnx", 3, WRITE_FAST, FIRST, (String, PRESENCE), strings::setnx, ("1.0.0", "Sets a key if it is absent"))
        .plainly(strings::plain_setnx),
    over_keys("setex", 4, WRITE, FIRST, (String, NOTHING), strings::setex, ("2.0.0", "Sets a key for so many seconds"))
        .plainly(strings::plain_setex),
    over_keys("psetex", 4, WRITE, FIRST, (String, NOTHING), strings::setex,
        ("2.6.0", "Sets a key for so many milliseconds"))
        .plainly(strings::plain_setex),
    over_keys("getset", 3, WRITE_FAST, FIRST, (String, VALUES), strings::getset,
        ("1.0.0", "Sets a key; answers with what it held")),
    over_keys("getdel", 2, DELETE_FAST, FIRST, (String, VALUES), strings::getdel,
        ("6.2.0", "Deletes a key; answers with what it held")),
    over_keys("getex", -2, DELETE_FAST, FIRST, (String, VALUES), expiry::getex,
        ("6.2.0", "The value of a key, whose expiry it changes: [EX s | PX ms | EXAT s | PXAT ms | PERSIST]")),
    over_keys("mget", -2, READ_FAST, ALL, (String, VALUES), strings::mget,
        ("1.0.0", "The values of many keys, at one snapshot")),
    over_keys("mset", -3, WRITE, PAIRS, (String, NOTHING), strings::mset, ("1.0.1", "Sets many keys, all at once"))
        .plainly(strings::plain_mset),
    over_keys("msetnx", -3, WRITE, PAIRS, (String, PRESENCE), strings::msetnx,
        ("1.0.1", "Sets many keys if all are absent"))
        .plainly(strings::plain_msetnx),
    over_keys("strlen", 2, READ_FAST, FIRST, (String, VALUES), strings::strlen, ("2.2.0", "The length of a value")),
    over_keys("append", 3, WRITE_FAST, FIRST, (String, VALUES), strings::append, ("2.0.0", "Adds to the end of a value")),
    over_keys("getrange", 4, READ, FIRST, (String, VALUES), strings::getrange, ("2.4.0", "A part of a value")),
    over_keys("substr", 4, READ, FIRST, (String, VALUES), strings::getrange, ("1.0.0", "The older name of GETRANGE")),
    over_keys("setrange", 4, WRITE, FIRST, (String, VALUES), strings::setrange,
        ("2.2.0", "Writes over a part of a value")),
    over_keys("incr", 2, WRITE_FAST, FIRST, (String, VALUES), counters::add, ("1.0.0", "Adds 1 to an integer"))
        .plainly(counters::plain_add),
    over_keys("decr", 2, WRITE_FAST, FIRST, (String, VALUES), counters::add, ("1.0.0", "Takes 1 from an integer"))
        .plainly(counters::plain_add),
    over_keys("incrby", 3, WRITE_FAST, FIRST, (String, VALUES), counters::add, ("1.0.0", "Adds to an integer"))
        .plainly(counters::plain_add),
    over_keys("decrby", 3, WRITE_FAST, FIRST, (String, VALUES), counters::add, ("1.0.0", "Takes from an integer"))
        .plainly(counters::plain_add),
    over_keys("incrbyfloat", 3, WRITE_FAST, FIRST, (String, VALUES), counters::incrbyfloat,
        ("2.6.0", "Adds to a decimal number")),
    over_keys("del", -2, DELETE, ALL, (Generic, PRESENCE), keys::del, ("1.0.0", "Deletes keys"))
        .plainly(keys::plain_del),
    over_keys("unlink", -2, DELETE_FAST, ALL, (Generic, PRESENCE), keys::del, ("4.0.0", "Deletes keys"))
        .plainly(keys::plain_del),
    over_keys("exists", -2, READ_FAST, ALL, (Generic, PRESENCE), keys::exists, ("1.0.0", "How many of these keys there are")),
    over_keys("touch", -2, READ_FAST, ALL, (Generic, PRESENCE), keys::exists, ("3.2.1", "How many of these keys there are")),
    over_keys("type", 2, READ_FAST, FIRST, (Generic, PRESENCE), keys::type_, ("1.0.0", "`string`, or `none` for no key")),
    over_keys("expire", -3, DELETE_FAST, FIRST, (Generic, VALUES), expiry::expire,
        ("1.0.0", "Has a key expire in so many seconds: [NX | XX | GT | LT]")),
    over_keys("pexpire", -3, DELETE_FAST, FIRST, (Generic, VALUES), expiry::pexpire,
        ("2.6.0", "Has a key expire in so many milliseconds: [NX | XX | GT | LT]")),
    over_keys("expireat", -3, DELETE_FAST, FIRST, (Generic, VALUES), expiry::expireat,
        ("1.2.0", "Has a key expire at a time in seconds since 1970: [NX | XX | GT | LT]")),
    over_keys("pexpireat", -3, DELETE_FAST, FIRST, (Generic, VALUES), expiry::pexpireat,
        ("2.6.0", "Has a key expire at a time in milliseconds since 1970: [NX | XX | GT | LT]")),
    over_keys("ttl", 2, READ_FAST, FIRST, (Generic, PRESENCE), expiry::ttl, ("1.0.0", "In how many seconds a key expires")),
    over_keys("pttl", 2, READ_FAST, FIRST, (Generic, PRESENCE), expiry::pttl,
        ("2.6.0", "In how many milliseconds a key expires")),
    over_keys("expiretime", 2, READ_FAST, FIRST, (Generic, PRESENCE), expiry::expiretime,
        ("7.0.0", "When a key expires, in seconds since 1970")),
    over_keys("pexpiretime", 2, READ_FAST, FIRST, (Generic, PRESENCE), expiry::pexpiretime,
        ("7.0.0", "When a key expires, in milliseconds since 1970")),
    over_keys("persist", 2, DELETE_FAST, FIRST, (Generic, VALUES), expiry::persist, ("2.2.0", "Has a key stay")),
    over_keys("rename", 3, DELETE, FIRST_TWO, (Generic, VALUES), keys::rename, ("1.0.0", "Gives a key another name")),
    over_keys("renamenx", 3, DELETE_FAST, FIRST_TWO, (Generic, VALUES), keys::renamenx,
        ("1.0.0", "Gives a key another name if that is free")),
    over_keys("copy", -3, WRITE, FIRST_TWO, (Generic, VALUES), keys::copy, ("6.2.0", "Copies a key: [DB 0] [REPLACE]")),
    over_keys("flushdb", -1, DELETE, NONE, (Server, NOTHING), keys::flush, ("1.0.0", "Deletes all keys: [ASYNC | SYNC]"))
        .plainly(keys::plain_flush),
    over_keys("flushall", -1, DELETE, NONE, (Server, NOTHING), keys::flush, ("1.0.0", "Deletes all keys: [ASYNC | SYNC]"))
        .plainly(keys::plain_flush),
    over_keys("dbsize", 1, READ_FAST, NONE, (Server, Needs::Count), keys::dbsize, ("1.0.0", "How many keys there are")),
    other("keys", 2, WALK, Generic, Walk(scan::keys), ("1.0.0", "All keys that fit a pattern")),
    other("scan", -2, WALK, Generic, Walk(scan::scan),
        ("2.8.0", "Some keys, and where it goes on: [MATCH pattern] [COUNT n] [TYPE type]")),
    other("randomkey", 1, WALK, Generic, Walk(scan::randomkey), ("1.0.0", "Any key")),
    other("erange", -3, WALK, Esker, Walk(scan::erange),
        (NEW, "Keys and values from one key to another, both included: [LIMIT n] [REV]")),
    over_keys("delex", -2, DELETE_FAST, FIRST, (String, VALUES), esker::delex,
        ("8.4.0", "Deletes a key: [IFEQ value | IFNE value]")),
    over_keys("delifeq", 3, DELETE_FAST, FIRST, (String, VALUES), esker::delifeq,
        ("Valkey 9.0.0", "Deletes a key if it holds this value")),
    other("multi", 1, SESSION, Transactions, Ctl(Multi), ("1.2.0", "Begins a transaction: commands are queued until EXEC")),
    other("exec", 1, SESSION, Transactions, Ctl(Exec), ("1.2.0", "Runs the queued commands, all at once")),
    other("discard", 1, SESSION, Transactions, Ctl(Discard), ("2.0.0", "Forgets the queued commands")),
    Spec { keys: ALL, ..other("watch", -2, SESSION, Transactions, Ctl(Watch),
        ("2.2.0", "Has EXEC do nothing if one of these keys is written before")) },
    other("unwatch", 1, SESSION, Transactions, Of(transactions::unwatch), ("2.2.0", "Forgets the watched keys")),
    other("hello", -1, SESSION, Connection, Of(connection::hello),
        ("6.0.0", "Chooses the protocol: [2 | 3 [AUTH user password] [SETNAME name]]")),
    other("auth", -2, SESSION, Connection, Of(connection::auth), ("1.0.0", "Says who one is")),
    other("ping", -1, SESSION, Connection, Of(connection::ping), ("1.0.0", "Answers PONG, or what it is given")),
    other("echo", 2, SESSION, Connection, Of(connection::echo), ("1.0.0", "Answers with what it is given")),
    other("select", 2, SESSION, Connection, Of(connection::select), ("1.0.0", "Chooses database 0, the only one")),
    other("quit", -1, SESSION, Connection, Ctl(Quit), ("1.0.0", "Closes the connection")),
    other("reset", 1, SESSION, Connection, Ctl(Reset), ("6.2.0", "Makes the connection as it was when it was opened")),
    other("client", -2, ADMIN, Connection, Parent(CLIENT), ("2.4.0", "Connections")),
    other("command", -1, SESSION, Server, Parent(COMMAND), ("2.8.13", "What commands there are")),
    other("info", -1, ADMIN, Server, Of(server::info), ("1.0.0", "How the server fares: [section ...]")),
    other("config", -2, ADMIN, Server, Parent(CONFIG), ("2.0.0", "Settings")),
    other("time", 1, SESSION, Server, Of(server::time), ("2.6.0", "The server's time: seconds since 1970, microseconds")),
    other("module", -2, ADMIN, Server, Parent(MODULE), ("4.0.0", "Modules")),
    other("memory", -2, READ, Server, Parent(MEMORY), ("4.0.0", "Memory")),
    other("object", -2, READ, Generic, Parent(OBJECT), ("2.2.3", "How values are kept")),
];

static CLIENT: &[Spec] = &[
    other(
        "client|id",
        2,
        SESSION,
        Connection,
        Of(connection::client_id),
        ("5.0.0", "The connection's number"),
    ),
    other(
        "client|info",
        2,
        SESSION,
        Connection,
        Of(connection::client_info),
        ("6.2.0", "The connection's line of CLIENT LIST"),
    ),
    other(
        "client|list",
        -2,
        ADMIN,
        Connection,
        Of(connection::client_list),
        ("2.4.0", "All connections: [TYPE normal | ID id ...]"),
    ),
    other(
        "client|kill",
        -3,
        ADMIN,
        Connection,
        Of(connection::client_kill),
        ("2.4.0", "Closes connections: addr | [ID id] [ADDR addr] [LADDR addr] [SKIPME yes | no]"),
    ),
    other(
        "client|getname",
        2,
        SESSION,
        Connection,
        Of(connection::client_getname),
        ("2.6.9", "The connection's name"),
    ),
    other(
        "client|setname",
        3,
        SESSION,
        Connection,
        Of(connection::client_setname),
        ("2.6.9", "Names the connection"),
    ),
    other(
        "client|setinfo",
        4,
        SESSION,
        Connection,
        Of(connection::client_setinfo),
        ("7.2.0", "Names the client's library: LIB-NAME name | LIB-VER version"),
    ),
    other(
        "client|no-evict",
        3,
        SESSION,
        Connection,
        Of(connection::client_switch),
        ("7.0.0", "ON | OFF: accepted, as clients are never evicted"),
    ),
    other(
        "client|no-touch",
        3,
        SESSION,
        Connection,
        Of(connection::client_switch),
        ("7.2.0", "ON | OFF: accepted, as reads change nothing of a key"),
    ),
    other(
        "client|reply",
        3,
        SESSION,
        Connection,
        Of(connection::client_reply),
        ("3.2.0", "Whether commands are answered: ON | OFF | SKIP"),
    ),
    other("client|help", 2, SESSION, Connection, Of(introspection::help), ("5.0.0", "These lines")),
];

static COMMAND: &[Spec] = &[
    other(
        "command|count",
        2,
        SESSION,
        Server,
        Of(introspection::count),
        ("2.8.13", "How many commands there are"),
    ),
    other(
        "command|docs",
        -2,
        SESSION,
        Server,
        Of(introspection::docs),
        ("7.0.0", "What commands do: [command ...]"),
    ),
    other(
        "command|info",
        -2,
        SESSION,
        Server,
        Of(introspection::info),
        ("2.8.13", "How commands are called: [command ...]"),
    ),
    other(
        "command|list",
        -2,
        SESSION,
        Server,
        Of(introspection::list),
        ("7.0.0", "The names of commands: [FILTERBY ACLCAT category | PATTERN pattern | MODULE module]"),
    ),
    other(
        "command|getkeys",
        -3,
        SESSION,
        Server,
        Of(introspection::getkeys),
        ("2.8.13", "Which words of a command are keys"),
    ),
    other("command|help", 2, SESSION, Server, Of(introspection::help), ("5.0.0", "These lines")),
];

static CONFIG: &[Spec] = &[
    other(
        "config|get",
        -3,
        ADMIN,
        Server,
        Of(server::config_get),
        ("2.0.0", "Settings whose names fit a pattern"),
    ),
    other("config|help", 2, ADMIN, Server, Of(introspection::help), ("5.0.0", "These lines")),
];

static MODULE: &[Spec] = &[
    other("module|list", 2, ADMIN, Server, Of(server::module_list), ("4.0.0", "The modules: none")),
    other("module|help", 2, ADMIN, Server, Of(introspection::help), ("5.0.0", "These lines")),
];

static MEMORY: &[Spec] = &[
    over_keys(
        "memory|usage",
        -3,
        READ,
        SECOND,
        (Server, PRESENCE),
        keys::memory_usage,
        ("4.0.0", "About how many bytes a key takes, in memory and log: [SAMPLES n]"),
    ),
    other("memory|help", 2, SESSION, Server, Of(introspection::help), ("4.0.0", "These lines")),
];

static OBJECT: &[Spec] = &[
    over_keys(
        "object|encoding",
        3,
        READ,
        SECOND,
        (Generic, VALUES),
        keys::object_encoding,
        ("2.2.3", "How Redis would keep the value: `int`, `embstr` or `raw`"),
    ),
    over_keys(
        "object|freq",
        3,
        READ,
        SECOND,
        (Generic, PRESENCE),
        keys::object_freq,
        ("4.0.0", "An error: how often a key is read is not counted"),
    ),
    over_keys(
        "object|idletime",
        3,
        READ,
        SECOND,
        (Generic, PRESENCE),
        keys::object_idletime,
        ("2.2.3", "0: when a key was read is not kept"),
    ),
    over_keys("object|refcount", 3, READ, SECOND, (Generic, PRESENCE), keys::object_refcount, ("2.2.3", "1")),
    other("object|help", 2, SESSION, Generic, Of(introspection::help), ("6.2.0", "These lines")),
];

/// Commands of Redis that there are none of here, for whoever tries them: of types that Esker does not have, and of
/// scripts, functions and subscriptions.
static MISSING: &[(&str, &str)] = &[
    (
        "values are strings: lists, hashes, sets, sorted sets, streams, bitmaps and the like are not supported",
        "lpush rpush lpushx rpushx lpop rpop llen lrange lindex lset linsert lrem ltrim lmove rpoplpush blpop brpop blmove \
         brpoplpush lpos lmpop blmpop hset hsetnx hget hmset hmget hgetall hdel hexists hincrby hincrbyfloat hkeys hvals hlen \
         hstrlen hscan hrandfield sadd srem smembers sismember smismember scard spop srandmember sinter sinterstore sintercard \
         sunion sunionstore sdiff sdiffstore smove sscan zadd zrem zscore zmscore zincrby zcard zcount zrange zrangestore \
         zrangebyscore zrevrange zrevrangebyscore zrangebylex zrevrangebylex zlexcount zrank zrevrank zpopmin zpopmax bzpopmin \
         bzpopmax zmpop bzmpop zunion zunionstore zinter zinterstore zintercard zdiff zdiffstore zremrangebyrank \
         zremrangebyscore zremrangebylex zscan zrandmember xadd xread xreadgroup xrange xrevrange xlen xdel xtrim xack xclaim \
         xautoclaim xpending xgroup xinfo xsetid geoadd geopos geodist geohash geosearch geosearchstore georadius \
         georadiusbymember pfadd pfcount pfmerge setbit getbit bitcount bitpos bitop bitfield bitfield_ro sort sort_ro lcs",
    ),
    (
        "there are no scripts: use MULTI, SET ... IFEQ or DELEX",
        "eval evalsha eval_ro evalsha_ro script fcall fcall_ro function",
    ),
    (
        "there are no channels to subscribe to",
        "subscribe unsubscribe psubscribe punsubscribe publish ssubscribe sunsubscribe spublish pubsub monitor",
    ),
];

/// How many slots there are to find a command by its hash; more than twice as many as commands.
const SLOTS: usize = 256;

/// Finds a command and its place in the table; of a command with subcommands, the subcommand.
///
/// Errors: there is none of this name, or it does not take so many arguments.
pub(crate) fn find(args: Args<'_>) -> Done<(usize, &'static Spec)> {
    let place = place_of(args.name()).ok_or_else(|| unknown(args))?;
    let spec = &TABLE[place];
    let found = match spec.run {
        // COMMAND alone is COMMAND INFO for all; no other may stand alone.
        Run::Parent(all) if args.len() == 1 && spec.takes(1) => {
            return Ok((place, all.iter().find(|spec| spec.name == "command|info").unwrap_or(spec)));
        }
        Run::Parent(_) if args.len() == 1 => return Err(Refusal::arity(spec.name)),
        Run::Parent(all) => subcommand(spec, all, args.get(1))?,
        _ => spec,
    };
    match found.takes(args.len()) {
        true => Ok((place, found)),
        false => Err(Refusal::arity(found.name)),
    }
}

/// The place of a command in the table.
pub(crate) fn place_of(name: &[u8]) -> Option<usize> {
    static PLACES: std::sync::LazyLock<[Vec<u16>; SLOTS]> = std::sync::LazyLock::new(|| {
        let mut places = [const { Vec::new() }; SLOTS];
        for (place, spec) in TABLE.iter().enumerate() {
            places[hash(spec.name.as_bytes())].push(place as u16);
        }
        places
    });
    let mut candidates = PLACES[hash(name)].iter().map(|place| usize::from(*place));
    candidates.find(|place| TABLE[*place].name.as_bytes().eq_ignore_ascii_case(name))
}

/// Spreads names by their length and three of their letters, in whatever case.
fn hash(name: &[u8]) -> usize {
    let letter = |at: usize| name.get(at).map_or(0, |byte| usize::from(byte | 0x20));
    let last = name.len().wrapping_sub(1);
    (name.len() * 31 + letter(0) * 7 + letter(1) * 13 + letter(last) * 3) % SLOTS
}

fn subcommand(parent: &'static Spec, all: &'static [Spec], word: &[u8]) -> Done<&'static Spec> {
    let found = all.iter().find(|spec| spec.last_word().as_bytes().eq_ignore_ascii_case(word));
    found.ok_or_else(|| {
        let shown = &word[..word.len().min(SHOWN)];
        let parent = parent.name.to_ascii_uppercase();
        format!("ERR unknown subcommand '{}'. Try {parent} HELP.", Text::from_utf8_lossy(shown)).into()
    })
}

/// An error shows so much of an unknown name, and so much of its arguments.
const SHOWN: usize = 128;

fn unknown(args: Args<'_>) -> Refusal {
    let name = lower(args.name());
    if let Some((why, _)) = MISSING.iter().find(|(_, names)| names.split(' ').any(|missing| missing == name))
    {
        return format!("ERR '{name}' is not supported by Esker: {why}").into();
    }
    let shown = &args.name()[..args.name().len().min(SHOWN)];
    let mut text =
        format!("ERR unknown command '{}', with args beginning with: ", Text::from_utf8_lossy(shown));
    let before = text.len();
    for arg in args.from(1) {
        let left = SHOWN.saturating_sub(text.len() - before);
        if left == 0 {
            break;
        }
        let arg = &arg[..arg.len().min(left)];
        text.push_str(&format!("'{}' ", Text::from_utf8_lossy(arg)));
    }
    text.into()
}

impl Spec {
    /// Whether it takes so many arguments, its name among them.
    pub(crate) fn takes(&self, len: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { len >= arity } else { len == arity }
    }

    /// The name, or a subcommand's own part of it.
    pub(crate) fn last_word(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, last)| last)
    }

    /// Its subcommands, if it has any.
    pub(crate) fn subcommands(&self) -> &'static [Self] {
        if let Run::Parent(all) = self.run { all } else { &[] }
    }

    /// Whether it is run also between MULTI and EXEC.
    pub(crate) fn runs_at_once(&self) -> bool {
        matches!(self.run, Run::Control(_))
    }

    /// Whether it changes no key.
    pub(crate) fn only_reads(&self) -> bool {
        self.flags.contains(&"readonly")
    }

    /// What it reads of its keys.
    pub(crate) fn needs(&self, args: Args<'_>) -> Need {
        match self.run {
            Run::Keys(Needs::Always(need), _) => need,
            Run::Keys(Needs::AsAsked(needs), _) => needs(args),
            _ => Need::Nothing,
        }
    }
}

impl Keys {
    /// The keys of a command whose number of arguments is right.
    pub(crate) fn of<'a>(self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let last = match self.last {
            ..0 => args.len().saturating_sub(self.last.unsigned_abs() as usize),
            last => (last as usize).min(args.len() - 1),
        };
        let first = self.first.max(0) as usize;
        let count = if first == 0 { 0 } else { (last + 1).saturating_sub(first) };
        args.from(first).take(count).step_by(self.step.max(1) as usize)
    }
}

impl Family {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] = [String, Generic, Transactions, Connection, Server, Esker];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            String => "string",
            Generic => "generic",
            Connection => "connection",
            Server => "server",
            Transactions => "transactions",
            Esker => "esker",
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_wire::resp::{Commands, Parser, ParserLimits};

    use super::*;

    fn with(line: &str, check: impl FnOnce(Args<'_>)) {
        let (mut commands, input) = (Commands::default(), format!("{line}\r\n").into_bytes());
        assert_eq!(Parser::new(ParserLimits::default()).parse(&input, &mut commands), Ok(true));
        check(commands.get(0, &input));
    }

    fn all() -> impl Iterator<Item = &'static Spec> {
        TABLE.iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands()))
    }

    #[test]
    fn rows_are_well_formed() {
        let mut names: Vec<_> = all().map(|spec| spec.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for spec in all() {
            assert_eq!(spec.name, spec.name.to_ascii_lowercase());
            assert!(spec.arity != 0 && !spec.summary.is_empty() && !spec.since.is_empty(), "{}", spec.name);
            let writes = spec.flags.contains(&"write");
            assert!(!(writes && spec.only_reads()), "{}", spec.name);
            assert!(spec.plain.is_none() || writes, "{}", spec.name);
            // Whatever its keys are, they are there if the number of arguments is right.
            let least = spec.arity.unsigned_abs() as i32;
            assert!(spec.keys.first < least && spec.keys.last < least, "{}", spec.name);
        }
        for (_, names) in MISSING {
            for name in names.split(' ') {
                assert!(!name.is_empty() && place_of(name.as_bytes()).is_none(), "{name:?}");
            }
        }
    }

    #[test]
    fn every_command_is_found_in_whatever_case() {
        for (place, spec) in TABLE.iter().enumerate() {
            assert_eq!(place_of(spec.name.as_bytes()), Some(place));
            assert_eq!(place_of(spec.name.to_ascii_uppercase().as_bytes()), Some(place));
        }
        for name in ["", "ge", "gett", "\u{0}et", "client|id"] {
            assert_eq!(place_of(name.as_bytes()), None);
        }
    }

    #[test]
    fn errors_name_what_was_asked_for() {
        for (line, expected) in [
            ("get", "ERR wrong number of arguments for 'get' command"),
            ("GET a b", "ERR wrong number of arguments for 'get' command"),
            ("client", "ERR wrong number of arguments for 'client' command"),
            ("CLIENT SETNAME", "ERR wrong number of arguments for 'client|setname' command"),
            ("client nonsense", "ERR unknown subcommand 'nonsense'. Try CLIENT HELP."),
            ("Foo", "ERR unknown command 'Foo', with args beginning with: "),
            ("foo a b", "ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
        ] {
            with(line, |args| assert_eq!(find(args).err().unwrap().text(), expected));
        }
        with(&format!("foo {} b", "a".repeat(200)), |args| {
            let text = find(args).err().unwrap().text().to_owned();
            assert!(text.ends_with(&format!("'{}' ", "a".repeat(128))), "{text}");
        });
        for line in ["lpush k v", "EVAL s 0", "SUBSCRIBE c"] {
            with(line, |args| assert!(find(args).err().unwrap().text().contains("is not supported")));
        }
    }

    #[test]
    fn keys_are_where_the_table_says() {
        for (line, expected) in [
            ("get a", vec!["a"]),
            ("mset a 1 b 2", vec!["a", "b"]),
            ("del a b c", vec!["a", "b", "c"]),
            ("rename a b", vec!["a", "b"]),
            ("object encoding a", vec!["a"]),
            ("ping a", vec![]),
        ] {
            with(line, |args| {
                let keys: Vec<_> = find(args).ok().unwrap().1.keys.of(args).collect();
                assert_eq!(keys, expected.iter().map(|key| key.as_bytes()).collect::<Vec<_>>(), "{line}");
            });
        }
    }
}
