//! The server as a whole.

use super::{
    Family::Server,
    Needs,
    Run::{Parent, Session as Of},
    Spec,
    rows::*,
};
use crate::resp::commands::{acl, introspection, keys, server};

/// Commands over all keys, and over the server.
#[rustfmt::skip]
pub(super) static ROWS: &[Spec] = &[
    over_keys("flushdb", -1, DELETE, NONE, (Server, NOTHING), keys::flush,
        ("1.0.0", "[ASYNC | SYNC]", "Deletes all keys"))
        .plainly(keys::plain_flush),
    over_keys("flushall", -1, DELETE, NONE, (Server, NOTHING), keys::flush,
        ("1.0.0", "[ASYNC | SYNC]", "Deletes all keys"))
        .plainly(keys::plain_flush),
    over_keys("dbsize", 1, READ_FAST, NONE, (Server, Needs::Count), keys::dbsize, ("1.0.0", "", "How many keys there are")),
    other("command", -1, SESSION, Server, Parent(COMMAND), ("2.8.13", "", "What commands there are")),
    other("info", -1, ADMIN, Server, Of(server::info), ("1.0.0", "[section...]", "How the server fares")),
    other("config", -2, ADMIN, Server, Parent(CONFIG), ("2.0.0", "", "Settings")),
    other("time", 1, SESSION, Server, Of(server::time), ("2.6.0", "", "The server's time: seconds since 1970, microseconds")),
    other("acl", -2, ADMIN, Server, Parent(ACL), ("6.0.0", "", "Users and their rights")),
    other("module", -2, ADMIN, Server, Parent(MODULE), ("4.0.0", "", "Modules")),
    other("memory", -2, READ, Server, Parent(MEMORY), ("4.0.0", "", "Memory")),
];

/// The subcommands of COMMAND.
#[rustfmt::skip]
static COMMAND: &[Spec] = &[
    other("command|count", 2, SESSION, Server, Of(introspection::count), ("2.8.13", "", "How many commands there are")),
    other("command|docs", -2, SESSION, Server, Of(introspection::docs), ("7.0.0", "[command-name...]", "What commands do")),
    other("command|info", -2, SESSION, Server, Of(introspection::info),
        ("2.8.13", "[command-name...]", "How commands are called")),
    other("command|list", -2, SESSION, Server, Of(introspection::list),
        ("7.0.0", "[FILTERBY (MODULE module-name | ACLCAT category | PATTERN pattern)]", "The names of commands")),
    other("command|getkeys", -3, SESSION, Server, Of(introspection::getkeys),
        ("2.8.13", "command [arg...]", "Which words of a command are keys")),
    other("command|help", 2, SESSION, Server, Of(introspection::help), ("5.0.0", "", "These lines")),
];

/// The subcommands of CONFIG.
#[rustfmt::skip]
static CONFIG: &[Spec] = &[
    other("config|get", -3, ADMIN, Server, Of(server::config_get),
        ("2.0.0", "parameter...", "Settings whose names fit a pattern")),
    other("config|help", 2, ADMIN, Server, Of(introspection::help), ("5.0.0", "", "These lines")),
];

/// The subcommands of ACL.
#[rustfmt::skip]
static ACL: &[Spec] = &[
    other("acl|whoami", 2, SESSION, Server, Of(acl::whoami), ("6.0.0", "", "The connection's user")),
    other("acl|users", 2, ADMIN, Server, Of(acl::users), ("6.0.0", "", "The names of all users")),
    other("acl|list", 2, ADMIN, Server, Of(acl::list), ("6.0.0", "", "All users with their rights, a line each")),
    other("acl|getuser", 3, ADMIN, Server, Of(acl::getuser), ("6.0.0", "username", "A user's rights")),
    other("acl|cat", -2, SESSION, Server, Of(acl::cat),
        ("6.0.0", "[category]", "The categories of commands, or the commands of one")),
    other("acl|dryrun", -4, ADMIN, Server, Of(acl::dryrun),
        ("7.0.0", "username command [arg...]", "Whether a user may run a command, which is not run")),
    other("acl|help", 2, SESSION, Server, Of(introspection::help), ("6.0.0", "", "These lines")),
];

/// The subcommands of MODULE.
#[rustfmt::skip]
static MODULE: &[Spec] = &[
    other("module|list", 2, ADMIN, Server, Of(server::module_list), ("4.0.0", "", "The modules: none")),
    other("module|help", 2, ADMIN, Server, Of(introspection::help), ("5.0.0", "", "These lines")),
];

/// The subcommands of MEMORY.
#[rustfmt::skip]
static MEMORY: &[Spec] = &[
    over_keys("memory|usage", -3, READ, SECOND, (Server, PRESENCE), keys::memory_usage,
        ("4.0.0", "key [SAMPLES count]", "About how many bytes a key takes, in memory and log")),
    other("memory|help", 2, SESSION, Server, Of(introspection::help), ("4.0.0", "", "These lines")),
];
