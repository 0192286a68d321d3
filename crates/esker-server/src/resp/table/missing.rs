//! What there is in Redis and not here, told to whoever tries it.

use super::Spec;
use crate::resp::{
    Args,
    refusal::{Refusal, lower},
};

/// Commands of Redis that there are none of here, for whoever tries them, and why.
pub(super) static MISSING: &[(&str, &str)] = &[
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
        "subscribe unsubscribe psubscribe punsubscribe publish ssubscribe sunsubscribe spublish pubsub",
    ),
    (
        "commands are not shown to others: /metrics counts them, and the log tells of those that fail",
        "monitor",
    ),
    (
        "nodes replicate by themselves: INFO and `esker cluster status` tell how they fare",
        "replicaof slaveof sync psync replconf failover role wait waitaof",
    ),
    (
        "every write is in the log when it is answered: `esker admin` has backups",
        "save bgsave bgrewriteaof lastsave",
    ),
    ("values go to other stores by `esker export` and `esker import`", "dump restore migrate"),
    ("what is slow is in the log, and how long all took in /metrics", "slowlog latency"),
    ("there is one database", "move swapdb"),
    ("a signal (SIGTERM) stops the server", "shutdown"),
    ("/debug/pprof over HTTP has profiles", "debug"),
];

/// Subcommands likewise: the command, why, and which.
static MISSING_SUBCOMMANDS: &[(&str, &str, &str)] = &[
    ("config", "settings are given at start: see `esker config`", "set rewrite"),
    ("config", "figures only grow: take differences, or see /metrics", "resetstat"),
    ("acl", "users are in a file that `esker user` looks after", "setuser deluser load save"),
    ("acl", "who was refused is in the log", "log"),
    ("acl", "`esker user token` makes a token", "genpass"),
    (
        "client",
        "clients are not told what others change: watch a prefix over HTTP or gRPC",
        "tracking trackinginfo caching getredir",
    ),
    ("client", "clients are never paused, and never wait for keys", "pause unpause unblock"),
];

/// An error shows so much of an unknown name, and so much of its arguments.
const SHOWN: usize = 128;

pub(super) fn unknown_subcommand(parent: &Spec, word: &[u8]) -> Refusal {
    let (name, sub) = (parent.name.to_ascii_uppercase(), lower(word));
    let is_it = |(command, _, subs): &&(&str, &str, &str)| {
        *command == parent.name && subs.split(' ').any(|missing| missing == sub)
    };
    if let Some((_, why, _)) = MISSING_SUBCOMMANDS.iter().find(is_it) {
        let sub = sub.to_ascii_uppercase();
        return format!("ERR '{name} {sub}' is not supported by Esker: {why}").into();
    }
    let shown = String::from_utf8_lossy(&word[..word.len().min(SHOWN)]);
    format!("ERR unknown subcommand '{shown}'. Try {name} HELP.").into()
}

pub(super) fn unknown(args: Args<'_>) -> Refusal {
    let name = lower(args.name());
    if name == "cluster" {
        // Any node takes any command: clients that look for slots and find this go on without.
        return Refusal::new("ERR This instance has cluster support disabled");
    }
    if let Some((why, _)) = MISSING.iter().find(|(_, names)| names.split(' ').any(|missing| missing == name))
    {
        return format!("ERR '{name}' is not supported by Esker: {why}").into();
    }
    let shown = &args.name()[..args.name().len().min(SHOWN)];
    let mut text =
        format!("ERR unknown command '{}', with args beginning with: ", String::from_utf8_lossy(shown));
    let before = text.len();
    for arg in args.from(1) {
        let left = SHOWN.saturating_sub(text.len() - before);
        if left == 0 {
            break;
        }
        let arg = &arg[..arg.len().min(left)];
        text.push_str(&format!("'{}' ", String::from_utf8_lossy(arg)));
    }
    text.into()
}
