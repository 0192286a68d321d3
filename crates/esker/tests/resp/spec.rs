//! Every command of SPEC 3.6 by its name, in its order, in both versions of the protocol; and what there is not.

use super::{client::Client, server};

/// A command, and how its answer begins.
const COMMANDS: &[(&str, &str)] = &[
    ("HELLO 3", "[\"server\" \"redis\""),
    ("HELLO 2", "[\"server\" \"redis\""),
    ("AUTH default secret", "OK"),
    ("PING", "PONG"),
    ("ECHO hi", "\"hi\""),
    ("SELECT 0", "OK"),
    ("CLIENT SETNAME me", "OK"),
    ("CLIENT GETNAME", "\"me\""),
    ("CLIENT ID", "(integer) "),
    ("CLIENT INFO", "\"id="),
    ("CLIENT LIST", "\"id="),
    ("CLIENT SETINFO LIB-NAME lib", "OK"),
    ("CLIENT NO-EVICT ON", "OK"),
    ("COMMAND COUNT", "(integer) "),
    ("COMMAND DOCS get", "[\"get\" [\"summary\""),
    ("COMMAND INFO get", "[[\"get\" (integer) 2"),
    ("INFO", "\"# Server"),
    ("CONFIG GET maxmemory", "[\"maxmemory\" \"0\"]"),
    ("DBSIZE", "(integer) 0"),
    ("TIME", "[\""),
    ("GET k", "(nil)"),
    ("SET k v NX", "OK"),
    ("SET k v XX GET", "\"v\""),
    ("SET k v EX 100", "OK"),
    ("SET k v PX 100000", "OK"),
    ("SET k v EXAT 2500000000", "OK"),
    ("SET k v PXAT 2500000000000", "OK"),
    ("SET k v KEEPTTL", "OK"),
    ("SETNX k v", "(integer) 0"),
    ("SETEX k 100 v", "OK"),
    ("PSETEX k 100000 v", "OK"),
    ("GETSET k w", "\"v\""),
    ("GETDEL k", "\"w\""),
    ("GETEX k", "(nil)"),
    ("MSET a 1 b 2", "OK"),
    ("MGET a b", "[\"1\" \"2\"]"),
    ("MSETNX a 1 c 3", "(integer) 0"),
    ("DEL b", "(integer) 1"),
    ("UNLINK b", "(integer) 0"),
    ("EXISTS a", "(integer) 1"),
    ("TYPE a", "string"),
    ("STRLEN a", "(integer) 1"),
    ("APPEND a 0", "(integer) 2"),
    ("GETRANGE a 0 0", "\"1\""),
    ("SETRANGE a 1 1", "(integer) 2"),
    ("INCR a", "(integer) 12"),
    ("DECR a", "(integer) 11"),
    ("INCRBY a 4", "(integer) 15"),
    ("DECRBY a 5", "(integer) 10"),
    ("INCRBYFLOAT a 0.5", "\"10.5\""),
    ("EXPIRE a 100", "(integer) 1"),
    ("PEXPIRE a 100000", "(integer) 1"),
    ("EXPIREAT a 2500000000", "(integer) 1"),
    ("PEXPIREAT a 2500000000000", "(integer) 1"),
    ("TTL a", "(integer) "),
    ("PTTL a", "(integer) "),
    ("EXPIRETIME a", "(integer) 2500000000"),
    ("PERSIST a", "(integer) 1"),
    ("KEYS *", "[\"a\"]"),
    ("SCAN 0 MATCH * COUNT 10 TYPE string", "[\"0\" [\"a\"]]"),
    ("RANDOMKEY", "\"a\""),
    ("RENAME a b", "OK"),
    ("COPY b c", "(integer) 1"),
    ("ERANGE a z LIMIT 1 REV", "[\"c\" \"10.5\"]"),
    ("MULTI", "OK"),
    ("GET b", "QUEUED"),
    ("EXEC", "[\"10.5\"]"),
    ("MULTI", "OK"),
    ("DISCARD", "OK"),
    ("WATCH b", "OK"),
    ("UNWATCH", "OK"),
    // Beside SPEC.
    ("MODULE LIST", "[]"),
    ("MEMORY USAGE b", "(integer) "),
    ("OBJECT ENCODING b", "\"embstr\""),
    ("OBJECT FREQ b", "(error) ERR An LFU maxmemory policy is not selected"),
    ("OBJECT IDLETIME b", "(integer) 0"),
    ("CLIENT NO-TOUCH ON", "OK"),
    ("SET b 11 IFEQ 10.5", "OK"),
    ("DELIFEQ b nonsense", "(integer) 0"),
    ("DELEX b IFEQ 11", "(integer) 1"),
    ("ACL DRYRUN default GET k", "OK"),
    ("FLUSHDB", "OK"),
    ("FLUSHALL", "OK"),
    ("RESET", "RESET"),
    // What there is not says why, and the connection lives on.
    ("EVAL return 0", "(error) ERR 'eval' is not supported by Esker: there are no scripts"),
    ("LPUSH l v", "(error) ERR 'lpush' is not supported by Esker: values are strings"),
    ("SUBSCRIBE c", "(error) ERR 'subscribe' is not supported by Esker: "),
    ("MONITOR", "(error) ERR 'monitor' is not supported by Esker: "),
    ("REPLICAOF NO ONE", "(error) ERR 'replicaof' is not supported by Esker: "),
    (
        "CONFIG SET maxmemory 1",
        "(error) ERR 'CONFIG SET' is not supported by Esker: settings are given at start",
    ),
    ("ACL SETUSER x", "(error) ERR 'ACL SETUSER' is not supported by Esker: users are in a file"),
    ("CLIENT TRACKING ON", "(error) ERR 'CLIENT TRACKING' is not supported by Esker: "),
    ("CLUSTER SLOTS", "(error) ERR This instance has cluster support disabled"),
    ("NONSENSE", "(error) ERR unknown command 'NONSENSE'"),
    ("GET", "(error) ERR wrong number of arguments for 'get' command"),
    ("QUIT", "OK"),
];

#[test]
fn every_command_of_the_spec_is_there() {
    let (server, _dir) = server(&[]);
    for version in ["2", "3"] {
        let mut client = Client::connect(&server.resp);
        client.ask(&format!("HELLO {version}"));
        for (command, expected) in COMMANDS {
            let answer = client.ask(command).to_string();
            assert!(answer.starts_with(expected), "{command}: {answer}");
            if command.starts_with("HELLO ") || *command == "RESET" {
                client.ask(&format!("HELLO {version}"));
            }
        }
        assert!(client.is_closed());
    }
}

/// Walks and what concerns the connection's user have no place in a transaction; the exact words, which docs/resp.md has.
#[test]
fn what_a_transaction_cannot_hold_is_refused_where_it_is_queued() {
    let (server, _dir) = server(&[]);
    let mut client = Client::connect(&server.resp);
    for command in ["KEYS *", "SCAN 0", "RANDOMKEY", "ERANGE a z", "AUTH default x", "HELLO 3 AUTH default x"]
    {
        client.ask("MULTI");
        let refused = client.ask(command).to_string();
        assert_eq!(refused, "(error) ERR Command not allowed inside a transaction", "{command}");
        let aborted = client.ask("EXEC").to_string();
        assert_eq!(aborted, "(error) EXECABORT Transaction discarded because of previous errors.");
    }
}
