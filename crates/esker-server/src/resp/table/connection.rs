//! The connection, and its transactions.

use super::{
    Control::{Auth, Discard, Exec, Multi, Quit, Reset, Watch},
    Family::{Connection, Transactions},
    Run::{Control as Ctl, Parent, Session as Of},
    Spec,
    rows::*,
};
use crate::resp::commands::{connection, introspection, transactions};

/// Commands around a transaction.
#[rustfmt::skip]
pub(super) static TRANSACTIONS: &[Spec] = &[
    other("multi", 1, SESSION, Transactions, Ctl(Multi),
        ("1.2.0", "", "Begins a transaction: commands are queued until EXEC")),
    other("exec", 1, SESSION, Transactions, Ctl(Exec), ("1.2.0", "", "Runs the queued commands, all at once")),
    other("discard", 1, SESSION, Transactions, Ctl(Discard), ("2.0.0", "", "Forgets the queued commands")),
    Spec { keys: ALL, ..other("watch", -2, SESSION, Transactions, Ctl(Watch),
        ("2.2.0", "key...", "Has EXEC do nothing if one of these keys is written before")) },
    other("unwatch", 1, SESSION, Transactions, Of(transactions::unwatch), ("2.2.0", "", "Forgets the watched keys")),
];

/// Commands over the connection.
#[rustfmt::skip]
pub(super) static ROWS: &[Spec] = &[
    other("hello", -1, SESSION, Connection, Of(connection::hello),
        ("6.0.0", "[protover [AUTH username password] [SETNAME clientname]]", "Chooses the protocol")),
    other("auth", -2, SESSION, Connection, Ctl(Auth),
        ("1.0.0", "[username] password", "Says who one is, by a password or a token")),
    other("ping", -1, SESSION, Connection, Of(connection::ping), ("1.0.0", "[message]", "Answers PONG, or what it is given")),
    other("echo", 2, SESSION, Connection, Of(connection::echo), ("1.0.0", "message", "Answers with what it is given")),
    other("select", 2, SESSION, Connection, Of(connection::select), ("1.0.0", "index", "Chooses database 0, the only one")),
    other("quit", -1, SESSION, Connection, Ctl(Quit), ("1.0.0", "", "Closes the connection")),
    other("reset", 1, SESSION, Connection, Ctl(Reset), ("6.2.0", "", "Makes the connection as it was when it was opened")),
    other("client", -2, ADMIN, Connection, Parent(CLIENT), ("2.4.0", "", "Connections")),
];

/// The subcommands of CLIENT.
#[rustfmt::skip]
static CLIENT: &[Spec] = &[
    other("client|id", 2, SESSION, Connection, Of(connection::client_id), ("5.0.0", "", "The connection's number")),
    other("client|info", 2, SESSION, Connection, Of(connection::client_info),
        ("6.2.0", "", "The connection's line of CLIENT LIST")),
    other("client|list", -2, ADMIN, Connection, Of(connection::client_list),
        ("2.4.0", "[TYPE type | ID client-id...]", "All connections")),
    other("client|kill", -3, ADMIN, Connection, Of(connection::client_kill),
        ("2.4.0", "(addr | [ID client-id] [ADDR addr] [LADDR addr] [SKIPME (YES | NO)])", "Closes connections")),
    other("client|getname", 2, SESSION, Connection, Of(connection::client_getname), ("2.6.9", "", "The connection's name")),
    other("client|setname", 3, SESSION, Connection, Of(connection::client_setname),
        ("2.6.9", "connection-name", "Names the connection")),
    other("client|setinfo", 4, SESSION, Connection, Of(connection::client_setinfo),
        ("7.2.0", "(LIB-NAME libname | LIB-VER libver)", "Names the client's library")),
    other("client|no-evict", 3, SESSION, Connection, Of(connection::client_switch),
        ("7.0.0", "(ON | OFF)", "Accepted, as clients are never evicted")),
    other("client|no-touch", 3, SESSION, Connection, Of(connection::client_switch),
        ("7.2.0", "(ON | OFF)", "Accepted, as reads change nothing of a key")),
    other("client|reply", 3, SESSION, Connection, Of(connection::client_reply),
        ("3.2.0", "(ON | OFF | SKIP)", "Whether commands are answered")),
    other("client|help", 2, SESSION, Connection, Of(introspection::help), ("5.0.0", "", "These lines")),
];
