//! SPEC 3.6 with the real binary: every command and its error texts, in both versions of the protocol, by scripts which a
//! Redis answers alike; pipelines, transactions, rude clients, clusters.

mod client;
mod clients;
use crate::support::program;
use crate::support::proxy;
mod redis;
mod redis_tools;
mod script;
mod spec;
use crate::support;
use crate::support::terminal;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use client::{Answer, Client, encode};
use esker_sim::processes::{Cluster, ClusterOptions};
use script::Way;
use support::{Server, esker};
use tempfile::TempDir;

const SCRIPTS: [(&str, &str); 7] = [
    ("strings", include_str!("scripts/strings.txt")),
    ("counters", include_str!("scripts/counters.txt")),
    ("expiry", include_str!("scripts/expiry.txt")),
    ("keys", include_str!("scripts/keys.txt")),
    ("scans", include_str!("scripts/scans.txt")),
    ("transactions", include_str!("scripts/transactions.txt")),
    ("connection", include_str!("scripts/connection.txt")),
];

fn server(more: &[&str]) -> (Server, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<&str> = ["--wal-sync-policy", "never"].iter().chain(more).copied().collect();
    (Server::start(dir.path(), &all), dir)
}

fn ok() -> Answer {
    Answer::Simple("OK".into())
}

fn bulk(text: impl AsRef<[u8]>) -> Answer {
    Answer::Bulk(text.as_ref().to_vec())
}

/// A figure of `/metrics`.
fn metric(server: &Server, name: &str) -> f64 {
    let mut client = Client::connect(server.endpoint.trim_start_matches("http://"));
    client.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let text = client.rest();
    let line =
        text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |figure| figure.parse().unwrap())
}

#[test]
fn every_command_answers_as_the_scripts_say() {
    let (server, _dir) = server(&[]);
    let mut differences = Vec::new();
    for (name, script) in SCRIPTS {
        for way in [Way::Inline, Way::Resp3] {
            differences.extend(script::differences(name, script, &server.resp, way, true));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Wherever connections are served: the scripts, pipelines, long answers, and HTTP beside them.
#[test]
fn all_runtimes_answer_alike() {
    for runtime in ["homes", "shared", "per-core"] {
        for policy in ["never", "always"] {
            let dir = tempfile::tempdir().unwrap();
            let server = Server::start(dir.path(), &["--runtime", runtime, "--wal-sync-policy", policy]);
            let differences: Vec<_> = SCRIPTS
                .iter()
                .flat_map(|(name, text)| script::differences(name, text, &server.resp, Way::Resp3, true))
                .collect();
            assert!(differences.is_empty(), "{runtime} {policy}: {}", differences.join("\n"));
            let value = vec![b'v'; 300_000];
            thread::scope(|scope| {
                for n in 0..8 {
                    let (address, value) = (&server.resp, &value);
                    scope.spawn(move || {
                        let mut client = Client::connect(address);
                        let (own, long) = (format!("own:{n}"), format!("long:{n}"));
                        assert_eq!(client.call(&[b"SET", long.as_bytes(), value]), ok());
                        for turn in 0..100 {
                            let text = turn.to_string();
                            client.send(format!("SET {own} {text}\r\nGET {own}\r\n").as_bytes());
                            assert_eq!(client.answer(), ok());
                            assert_eq!(client.answer(), bulk(&text));
                            if turn % 30 == 0 {
                                assert_eq!(client.ask(&format!("GET {long}")), bulk(value));
                            }
                        }
                    });
                }
            });
            assert_eq!(server.ok(&["get", "own:7"]), "99", "{runtime} {policy}");
        }
    }
}

/// The same scripts, but for what is marked as Esker's own: where there is a Redis, it says whether they are right.
#[test]
fn a_redis_answers_the_same() {
    let Some(redis) = redis::Redis::start() else {
        eprintln!("skipped: there is no redis-server");
        return;
    };
    let mut differences = Vec::new();
    for (name, script) in SCRIPTS {
        for way in [Way::Inline, Way::Resp3] {
            differences.extend(script::differences(name, script, redis.address(), way, false));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Whatever writes and reads a pipeline mixes, its answers are in order, and each sees those before it.
#[test]
fn a_pipeline_is_answered_in_order() {
    let (server, _dir) = server(&[]);
    let mut client = Client::connect(&server.resp);
    let (mut request, mut expected) = (Vec::new(), Vec::new());
    for n in 0..3000_usize {
        let (key, value) = (format!("k{}", n % 7), format!("v{n}"));
        request.extend(encode(&[b"SET", key.as_bytes(), value.as_bytes()]));
        expected.push(ok());
        match n % 6 {
            0 => {
                request.extend(encode(&[b"GET", key.as_bytes()]));
                expected.push(bulk(value));
            }
            1 => {
                request.extend(encode(&[b"INCR", b"count"]));
                expected.push(Answer::Integer((n / 6) as i64 + 1));
            }
            2 => {
                request.extend(encode(&[b"DEL", key.as_bytes(), b"absent"]));
                expected.push(Answer::Integer(1));
            }
            3 => {
                request.extend(encode(&[b"SET", key.as_bytes(), b"other", b"NX"]));
                expected.push(Answer::Nil);
            }
            4 => {
                request.extend(encode(&[b"APPEND", key.as_bytes(), b"!"]));
                expected.push(Answer::Integer(value.len() as i64 + 1));
            }
            _ => {
                request.extend(encode(&[b"NONSENSE"]));
                let error = "ERR unknown command 'NONSENSE', with args beginning with: ";
                expected.push(Answer::Error(error.into()));
            }
        }
    }
    client.send(&request);
    for (at, expected) in expected.into_iter().enumerate() {
        assert_eq!(client.answer(), expected, "answer {at}");
    }
}

/// Writes of a pipeline that need no answer of their own are committed together.
#[test]
fn a_pipeline_of_sets_shares_commits() {
    let (server, _dir) = server(&[]);
    let mut client = Client::connect(&server.resp);
    let before = metric(&server, "esker_engine_batches_total");
    let request: Vec<u8> =
        (0..500).flat_map(|n| encode(&[b"SET", format!("k{n}").as_bytes(), b"v"])).collect();
    client.send(&request);
    (0..500).for_each(|_| assert_eq!(client.answer(), ok()));
    let batches = metric(&server, "esker_engine_batches_total") - before;
    assert!((1.0..=50.0).contains(&batches), "{batches} batches");
    assert_eq!(client.ask("DBSIZE"), Answer::Integer(500));
    assert_eq!(metric(&server, "esker_resp_commands_total{command=\"set\",front=\"resp\"}"), 500.0);
    assert_eq!(metric(&server, "esker_resp_request_seconds_count{operation=\"set\"}"), 500.0);
}

/// What was acknowledged is there after a kill.
#[test]
fn acknowledged_writes_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server.resp);
    assert_eq!(client.ask("SET k v EX 1000"), ok());
    assert_eq!(client.ask("INCR n"), Answer::Integer(1));
    for command in ["MULTI", "SET a 1", "SET b 2", "EXEC"] {
        client.ask(command);
    }
    server.kill();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server.resp);
    assert_eq!(client.ask("MGET k n a b").to_string(), r#"["v" "1" "1" "2"]"#);
    assert!(client.ask("TTL k").to_string().contains("99") || client.ask("TTL k") == Answer::Integer(1000));
}

/// Of those who read a value under WATCH and write it back, none loses another's update.
#[test]
fn watched_transactions_lose_no_update() {
    const CLIENTS: usize = 4;
    const EACH: usize = 50;
    let (server, _dir) = server(&[]);
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::connect(&server.resp);
                for _ in 0..EACH {
                    loop {
                        assert_eq!(client.ask("WATCH balance"), ok());
                        let now: i64 = match client.ask("GET balance") {
                            Answer::Nil => 0,
                            other => other.text().parse().unwrap(),
                        };
                        client.ask("MULTI");
                        client.ask(&format!("SET balance {}", now + 1));
                        client.ask("INCR commits");
                        match client.ask("EXEC") {
                            Answer::Nil => refused.fetch_add(1, Ordering::Relaxed),
                            done => break assert_eq!(done.items().len(), 2),
                        };
                    }
                }
            });
        }
    });
    let mut client = Client::connect(&server.resp);
    let all = (CLIENTS * EACH).to_string();
    assert_eq!(client.ask("MGET balance commits"), Answer::Array(vec![bulk(&all), bulk(&all)]));
    println!("{} of the transactions were refused and begun anew", refused.into_inner());
}

/// Commands that read and write are atomic, however many clients contend for one key.
#[test]
fn contended_commands_lose_no_update() {
    const CLIENTS: usize = 8;
    const EACH: usize = 100;
    let (server, _dir) = server(&[]);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::connect(&server.resp);
                for _ in 0..EACH {
                    assert!(matches!(client.ask("APPEND log x"), Answer::Integer(_)));
                    assert!(matches!(client.ask("INCR n"), Answer::Integer(_)));
                    assert!(matches!(client.ask("INCRBYFLOAT f 0.5"), Answer::Bulk(_)));
                }
            });
        }
    });
    let mut client = Client::connect(&server.resp);
    let count = (CLIENTS * EACH) as i64;
    assert_eq!(client.ask("STRLEN log"), Answer::Integer(count));
    assert_eq!(client.ask("GET n"), bulk(count.to_string()));
    assert_eq!(client.ask("GET f"), bulk((count / 2).to_string()));
}

/// A transaction is seen whole or not at all.
#[test]
fn transactions_are_isolated() {
    let (server, _dir) = server(&[]);
    let mut writer = Client::connect(&server.resp);
    writer.ask("MSET a 0 b 0");
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=500 {
                writer.ask("MULTI");
                writer.ask("INCR a");
                writer.ask("INCR b");
                let sums = Answer::Array(vec![Answer::Integer(n), Answer::Integer(n)]);
                assert_eq!(writer.ask("EXEC"), sums);
            }
            done.store(1, Ordering::Release);
        });
        let mut reader = Client::connect(&server.resp);
        while done.load(Ordering::Acquire) == 0 {
            let pair = reader.ask("MGET a b").items();
            assert_eq!(pair[0], pair[1]);
            reader.ask("MULTI");
            reader.ask("GET a");
            reader.ask("GET b");
            let pair = reader.ask("EXEC").items();
            assert_eq!(pair[0], pair[1]);
        }
    });
}

#[test]
fn a_scan_visits_every_key_that_stays() {
    let (server, _dir) = server(&[]);
    let mut client = Client::connect(&server.resp);
    for n in 0..2500 {
        client.send(&encode(&[b"SET", format!("key:{n:04}").as_bytes(), b"v"]));
    }
    (0..2500).for_each(|_| assert_eq!(client.answer(), ok()));
    let (mut seen, mut cursor, mut calls) = (BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let mut parts = client.ask(&format!("SCAN {cursor} COUNT 100")).items();
        let keys = parts.pop().unwrap().items();
        cursor = parts.pop().unwrap().text();
        assert!(keys.len() <= 100);
        seen.extend(keys.iter().map(Answer::text));
        calls += 1;
        // Behind and before the cursor, what changes meanwhile does not matter.
        client.ask(&format!("DEL key:{:04}", calls));
        client.ask(&format!("SET key:{:04}x v", calls));
        if cursor == "0" {
            break;
        }
    }
    assert!((25..=27).contains(&calls), "{calls}");
    assert!((100..2500).all(|n| seen.contains(&format!("key:{n:04}"))));
    // A cursor may be used again, and on another connection.
    let mut parts = client.ask("SCAN 0 COUNT 5").items();
    let (first, cursor) = (parts.pop().unwrap(), parts.pop().unwrap().text());
    let again = |client: &mut Client| client.ask(&format!("SCAN {cursor} COUNT 5")).items().pop().unwrap();
    let (next, other) = (again(&mut client), again(&mut Client::connect(&server.resp)));
    assert_eq!(next, other);
    assert_ne!(first, next);
    assert_eq!(client.ask("KEYS key:00??").items().len(), 100 - 27.min(calls));
}

/// CHECKS 36: any bytes are a key, and the same one over HTTP.
#[test]
fn any_bytes_are_a_key() {
    let (server, _dir) = server(&[]);
    let mut client = Client::connect(&server.resp);
    let every: Vec<u8> = (0..=255).collect();
    for key in
        [b"..".as_slice(), b"/", b"a/../b", b"%2f", b"\0", b"\r\n", b" ", b"*1\r\n$4\r\nPING\r\n", &every]
    {
        assert_eq!(client.call(&[b"SET", key, key]), ok());
        assert_eq!(client.call(&[b"GET", key]), bulk(key));
        assert_eq!(client.call(&[b"EXISTS", key]), Answer::Integer(1));
        let coded: String = key.iter().map(|byte| format!("%{byte:02X}")).collect();
        let mut http = Client::connect(server.endpoint.trim_start_matches("http://"));
        http.send(
            format!("DELETE /api/v1/kv/{coded} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        );
        assert!(http.rest().contains("\"existed\":true"));
        assert_eq!(client.call(&[b"EXISTS", key]), Answer::Integer(0));
    }
    let longest = [b'k'; 65_535];
    assert_eq!(client.call(&[b"SET", &longest, b"v"]), ok());
    assert_eq!(client.call(&[b"KEYS", b"kkk*"]), Answer::Array(vec![bulk(longest)]));
    assert!(client.call(&[b"SET", &[b'k'; 65_536], b"v"]).to_string().starts_with("(error) ERR the key has"));
    assert_eq!(client.call(&[b"GET", &[b'k'; 65_536]]), Answer::Nil);
}

/// CHECKS 33 and 35: what is no command is told so, and the connection is closed.
#[test]
fn malformed_commands_end_the_connection_with_an_error() {
    let (server, _dir) = server(&["--max-value-bytes", "1MiB"]);
    for (bytes, error) in [
        (&b"*2\r\n:1\r\n"[..], "ERR Protocol error: expected '$', got ':'"),
        (b"*x\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1048577\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1073741824\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$4\r\nPINGxx", "ERR Protocol error: expected CRLF after an argument"),
        (b"SET k \"v\r\n", "ERR Protocol error: unbalanced quotes in request"),
        (&[b'a'; 70_000], "ERR Protocol error: too big inline request"),
    ] {
        let mut client = Client::connect(&server.resp);
        // What came before is done and answered.
        client.send(b"PING\r\n");
        client.send(bytes);
        assert_eq!(client.answer(), Answer::Simple("PONG".into()));
        assert_eq!(client.answer(), Answer::Error(error.into()));
        assert!(client.is_closed());
    }
}

/// A page in a browser can send a request to any port of its reader's machine.
#[test]
fn requests_of_http_are_not_taken_for_commands() {
    let (server, _dir) = server(&[]);
    let mut client = Client::connect(&server.resp);
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET k v\r\n");
    assert!(client.is_closed());
    assert_eq!(Client::connect(&server.resp).ask("EXISTS k"), Answer::Integer(0));
}

/// CHECKS 33: a client that does not read is not read from, and holds little memory.
#[test]
fn a_client_that_reads_nothing_is_not_read_from() {
    let (server, _dir) = server(&["--write-stall-timeout-ms", "1s"]);
    let mut client = Client::connect(&server.resp);
    assert_eq!(client.call(&[b"SET", b"large", &[b'v'; 100_000]]), ok());
    let pipeline = encode(&[b"GET", b"large"]).repeat(1000);
    // Answers of gigabytes are asked for, until nothing more is taken.
    let (mut sent, start) = (0, Instant::now());
    while start.elapsed() < Duration::from_secs(20) {
        match client.try_send(&pipeline) {
            Ok(bytes) => sent += bytes,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                if metric(&server, "esker_resp_connections_stalled_total") == 1.0 {
                    break;
                }
            }
            // It was dropped already.
            Err(_) => break,
        }
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    assert!(client.is_closed());
    let memory = metric(&server, "process_resident_memory_bytes");
    assert!(memory < 400e6, "{memory}");
    assert_eq!(metric(&server, "esker_http_answer_bytes"), 0.0);
    assert_eq!(Client::connect(&server.resp).ask("STRLEN large"), Answer::Integer(100_000));
}

/// CHECKS 32 and 33: what is announced and does not come takes no memory, and not for ever.
#[test]
fn half_a_command_takes_little_and_not_for_long() {
    let (server, _dir) = server(&["--body-stall-timeout-ms", "500ms", "--idle-timeout-ms", "700ms"]);
    let before = metric(&server, "process_resident_memory_bytes");
    let mut rude: Vec<Client> = (0..100).map(|_| Client::connect(&server.resp)).collect();
    for client in &mut rude {
        client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16000000\r\nvvvv");
    }
    let mut silent = Client::connect(&server.resp);
    let mut used = Client::connect(&server.resp);
    assert_eq!(used.ask("PING"), Answer::Simple("PONG".into()));
    assert!(metric(&server, "process_resident_memory_bytes") - before < 50e6);
    for client in rude.iter_mut().chain([&mut silent]) {
        assert!(client.is_closed());
    }
    assert_eq!(
        used.ask("PING"),
        Answer::Simple("PONG".into()),
        "one that has been used may be idle for longer"
    );
}

/// CHECKS 33: the bytes of all commands that are being received have a bound.
#[test]
fn commands_under_way_have_a_budget() {
    let (server, _dir) = server(&["--body-bytes-under-way", "8MiB"]);
    let value = vec![b'v'; 6 << 20];
    let mut command = encode(&[b"SET", b"k", &value]);
    command.truncate(command.len() - 2);
    let mut first = Client::connect(&server.resp);
    first.send(&command);
    // It is there when its bytes are counted.
    while metric(&server, "esker_http_body_bytes") < 6e6 {
        thread::yield_now();
    }
    let mut second = Client::connect(&server.resp);
    // All of it may not be taken.
    let _sent = second.try_send(&command);
    let refused = second.answer().to_string();
    assert!(refused.starts_with("(error) OOM "), "{refused}");
    first.send(b"\r\n");
    assert_eq!(first.answer(), ok());
    assert_eq!(first.ask("STRLEN k"), Answer::Integer(6 << 20));
}

#[test]
fn connections_have_a_cap_and_are_told() {
    let (server, _dir) = server(&["--max-connections", "2"]);
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(&server.resp)).collect();
    clients.iter_mut().for_each(|client| drop(client.ask("PING")));
    let mut third = Client::connect(&server.resp);
    assert_eq!(third.answer(), Answer::Error("ERR max number of clients reached".into()));
    assert!(third.is_closed());
    assert_eq!(clients[0].ask("QUIT"), ok());
    assert!(clients[0].is_closed());
}

#[test]
fn clients_can_be_listed_and_killed() {
    let (server, _dir) = server(&[]);
    let (mut one, mut two) = (Client::connect(&server.resp), Client::connect(&server.resp));
    one.ask("CLIENT SETNAME one");
    two.ask("CLIENT SETNAME two");
    let list = one.ask("CLIENT LIST").text();
    assert!(
        list.contains("name=one") && list.contains("name=two") && list.contains("cmd=client|setname"),
        "{list}"
    );
    let id = two.ask("CLIENT ID").to_string().replace("(integer) ", "");
    assert_eq!(one.ask(&format!("CLIENT KILL ID {id}")), Answer::Integer(1));
    assert!(two.is_closed());
    let answered = [
        "CLIENT REPLY OFF",
        "SET a 1",
        "NONSENSE",
        "CLIENT REPLY ON",
        "CLIENT REPLY SKIP",
        "GET a",
        "INCR a",
    ];
    answered.iter().for_each(|line| one.send(format!("{line}\r\n").as_bytes()));
    assert_eq!(one.answer(), ok());
    assert_eq!(one.answer(), Answer::Integer(2));
}

#[test]
fn a_shutdown_answers_what_has_arrived() {
    let (server, _dir) = server(&[]);
    let mut client = Client::connect(&server.resp);
    client.ask("PING");
    client.send(
        &(0..100).flat_map(|n| encode(&[b"SET", format!("k{n}").as_bytes(), b"v"])).collect::<Vec<u8>>(),
    );
    server.signal("TERM");
    (0..100).for_each(|_| assert_eq!(client.answer(), ok()));
    assert!(client.is_closed());
    assert_eq!(server.wait(), Some(0));
}

/// Two servers on one machine do not share the port in silence.
#[test]
fn a_port_that_is_taken_is_told() {
    let (first, _dir) = server(&[]);
    let port = first.resp.rsplit(':').next().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let refused = Server::try_start(dir.path(), &["--resp-port", &port]).err().unwrap();
    assert!(refused.1.contains(&format!("port {port} on 127.0.0.1 is in use")), "{}", refused.1);
    let without = Server::start(dir.path(), &["--resp-port", "off"]);
    assert!(without.resp.is_empty());
    let output = esker(&["config", "--port", "0", "--json"]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("follows from port"));
}

/// Any node takes any command; without a majority there is an error that clients know.
#[test]
fn a_cluster_is_one_store_for_clients_of_redis() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_esker"), 3);
    let mut cluster = runtime.block_on(Cluster::start(&options)).unwrap();
    let leader = runtime.block_on(cluster.leader()).unwrap();
    let numbers = cluster.numbers();
    let mut clients: Vec<Client> =
        numbers.iter().map(|node| Client::connect(&cluster.resp_address(*node))).collect();
    let (first, rest) = clients.split_first_mut().unwrap();
    // A pipeline keeps its order here, too.
    let mut request = Vec::new();
    for n in 0..50 {
        request.extend(encode(&[b"SET", b"k", n.to_string().as_bytes()]));
        request.extend(encode(&[b"APPEND", b"k", b"!"]));
        request.extend(encode(&[b"INCR", b"n"]));
    }
    first.send(&request);
    for n in 0..50_i64 {
        assert_eq!(first.answer(), ok());
        assert_eq!(first.answer(), Answer::Integer(n.to_string().len() as i64 + 1));
        assert_eq!(first.answer(), Answer::Integer(n + 1));
    }
    for client in rest.iter_mut() {
        assert_eq!(client.ask("MGET k n"), Answer::Array(vec![bulk("49!"), bulk("50")]));
    }
    rest[0].ask("WATCH k");
    rest[1].ask("SET k other");
    rest[0].ask("MULTI");
    rest[0].ask("SET n 0");
    assert_eq!(rest[0].ask("EXEC"), Answer::Nil);
    let survivor = numbers.iter().position(|node| *node != leader).unwrap();
    for node in &numbers {
        if *node != numbers[survivor] {
            cluster.kill(*node).unwrap();
        }
    }
    let client = &mut clients[survivor];
    // A write that is under way when the leader is lost may be in doubt; soon the node knows that nobody leads.
    let start = Instant::now();
    while client.ask("SET k v").to_string().starts_with("(error) ERR the write may or may not come to pass") {
        assert!(start.elapsed() < Duration::from_secs(30), "the node never knows that it is alone");
    }
    let down = "(error) CLUSTERDOWN the cluster has no leader now: retry shortly";
    for command in ["SET k v", "GET k", "INCR n", "APPEND k v", "MGET k n", "KEYS *", "WATCH k"] {
        assert_eq!(client.ask(command).to_string(), down, "{command}");
    }
    assert_eq!(client.ask("MULTI"), ok());
    client.ask("SET k v");
    assert_eq!(client.ask("EXEC").to_string(), down);
    // What needs no leader is answered, and says that there is none.
    assert_eq!(client.ask("PING"), Answer::Simple("PONG".into()));
    assert!(client.ask("INFO replication").text().contains("esker_leader:"));
}
