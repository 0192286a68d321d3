//! SPEC 3.5: the binary protocol over real sockets: every request, byte for byte; what is malformed, rude or slow; the drain.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use esker_server::{ServerConfig, Sockets};
use support::{TestServer, eventually};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection on which any bytes are sent.
struct Wire(TcpStream);

impl Wire {
    fn to(server: &TestServer) -> Self {
        Self::connect(server.binary.unwrap())
    }

    #[expect(clippy::disallowed_methods, reason = "tests speak to the server as anybody may")]
    fn connect(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    #[track_caller]
    fn expect(&mut self, answer: &str) {
        let mut got = vec![0; answer.len()];
        self.0.read_exact(&mut got).unwrap_or_else(|e| panic!("{e} instead of {answer}"));
        assert_eq!(String::from_utf8_lossy(&got), answer);
    }

    #[track_caller]
    fn ask(&mut self, request: &str, answer: &str) {
        self.send(request.as_bytes());
        self.expect(answer);
    }

    /// All that comes until the server closes.
    #[track_caller]
    fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let mut byte = [0];
        while !line.ends_with('\n') {
            self.0.read_exact(&mut byte).unwrap();
            line.push(byte[0].into());
        }
        line
    }

    /// An answer that begins with such a line and has a message of the length at its end.
    fn info(&mut self) -> serde_json::Value {
        let line = self.line();
        let len = line.strip_prefix("INFO ").unwrap().trim().parse().unwrap();
        let mut json = vec![0; len];
        self.0.read_exact(&mut json).unwrap();
        serde_json::from_slice(&json).unwrap()
    }
}

/// What the page promises, sent one after the other, all at once, and a byte at a time.
#[test]
fn the_examples_of_the_page_are_answered_byte_for_byte() {
    let page = include_str!("../../../docs/binary.md");
    let block = page.split_once("<!-- examples -->\n```text\n").unwrap().1.split_once("```").unwrap().0;
    let lines: Vec<String> = block.lines().map(|line| line.replace("\\n", "\n")).collect();
    let pairs: Vec<(&str, &str)> = lines
        .chunks(2)
        .map(|pair| (pair[0].strip_prefix("> ").unwrap(), pair[1].strip_prefix("< ").unwrap()))
        .collect();
    assert!(pairs.len() > 20);
    let answers: String = pairs.iter().map(|(_, answer)| *answer).collect();
    let requests: String = pairs.iter().map(|(request, _)| *request).collect();

    let server = TestServer::start();
    let mut wire = Wire::to(&server);
    pairs.iter().for_each(|(request, answer)| wire.ask(request, answer));
    assert_eq!(wire.rest(), "", "the last one closes");
    for piece in [1, 7, requests.len()] {
        let server = TestServer::start();
        let mut wire = Wire::to(&server);
        requests.as_bytes().chunks(piece).for_each(|piece| wire.send(piece));
        assert_eq!(wire.rest(), answers, "in pieces of {piece}");
    }
}

#[test]
fn a_node_tells_how_it_is_and_who_is_with_it() {
    let server = TestServer::start();
    let mut wire = Wire::to(&server);
    wire.send(b"STATUS\nNODES\n");
    let status = wire.info();
    let over_http = server.request("GET", "/api/v1/cluster/status", b"").json();
    for name in ["node_id", "mode", "role", "commit_index", "server_version"] {
        assert_eq!(status[name], over_http[name], "{name}");
    }
    assert_eq!(wire.info(), server.request("GET", "/api/v1/cluster/nodes", b"").json());
}

/// Extra words of requests and answers.
#[test]
fn what_is_asked_for_beside_the_key_is_heeded() {
    let server = TestServer::start();
    let mut wire = Wire::to(&server);
    wire.ask("PUT 1 1 expires=2524608000000\nkv", "OK 1\n");
    wire.ask("GET 1\nk", "VALUE 1 1\nv");
    wire.ask("GET 1 more\nk", "VALUE 1 1 expires=2524608000000\nv");
    wire.ask("HEAD 1 more\nk", "META 1 1 expires=2524608000000\n");
    wire.ask("GET 1 stale more\nk", "VALUE 1 1 expires=2524608000000 applied=1\nv");
    wire.ask("GET 1 stale\nk", "VALUE 1 1\nv");
    wire.ask("RANGE 0 0 more stale\n", "PAIRS 0 applied=1\nPAIRS 1\n1 1 1 2524608000000\nkvEND\n");
    wire.ask("MGET 1 stale more\n1\nx", "VALUES 1 applied=1\nNOT_FOUND\n");
    wire.ask("PUT 1 1 expires=1\nkv", "OK 2\n");
    wire.ask("GET 1\nk", "NOT_FOUND\n");
    wire.ask("DEL 1 more\nk", "OK 3 existed=0\n");
    wire.ask("BPUT 4\n1 1\na11 1\nb21 1\nc31 1\nd4", "OK 4\n");
    wire.ask("RANGE 1 1 after before\nad", "PAIRS 2\n1 1\nb21 1\nc3END\n");
    wire.ask("RANGE 1 0 2 reverse\na", "PAIRS 2\n1 1\nd41 1\nc3END\n");
    wire.ask("RANGE 1 0 4 more\na", "PAIRS 4\n1 1 4 0\na11 1 4 0\nb21 1 4 0\nc31 1 4 0\nd4END\n");
    wire.ask("RANGE 1 0 page=3 more\na", "PAIRS 2\n1 1 4 0\na11 1 4 0\nb2END next\n");
    wire.ask("RANGE 1 0 0 more\na", "END next\n");
    wire.ask("DELRANGE 1 1\nbc", "OK 5 deleted=2\n");
    let why =
        "start and end are keys, which are not empty; `prefix` with an empty start stands for every key";
    wire.ask("DELRANGE 1 0\nb", &format!("ERR BAD_REQUEST {}\n{why}", why.len()));
    wire.ask("PUT 1 1\nnx", "OK 6\n");
    wire.send(b"INCR 1 1\nn");
    assert!(wire.line().starts_with("ERR NOT_AN_INTEGER "));
}

/// CHECKS 33, 35: each is told what is wrong and closed; the server goes on.
#[test]
fn what_is_malformed_is_told_and_closed() {
    let server = TestServer::with(|_, store| store.limits.value_bytes = 1 << 20);
    let endless = "P".repeat(1 << 20);
    let too_long = format!("PUT 1 1 {}\n", "x".repeat(600));
    for (input, code) in [
        ("\n", "MALFORMED"),
        (" \n", "MALFORMED"),
        ("get 1\nk", "MALFORMED"),
        ("FLY 1\nk", "MALFORMED"),
        ("GET\n", "MALFORMED"),
        ("GET x\n", "MALFORMED"),
        ("GET -1\n", "MALFORMED"),
        ("GET 1\r\nk", "MALFORMED"),
        ("GET 1 2\n", "MALFORMED"),
        ("GET  1\nk", "MALFORMED"),
        ("PUT 1\nk", "MALFORMED"),
        ("PUT 1 1 if=maybe\nkv", "MALFORMED"),
        ("PUT 1 1 ttl=0\nkv", "MALFORMED"),
        ("PUT 1 1 later\nkv", "MALFORMED"),
        ("PING now\n", "MALFORMED"),
        ("BPUT 0\n", "MALFORMED"),
        ("BATCH 1\nGET 1\nk", "MALFORMED"),
        ("MGET 2\n1\nab\n", "MALFORMED"),
        ("\0\u{1}\u{2}\n", "MALFORMED"),
        ("POST /api/v1/batch HTTP/1.1\r\nhost: x\r\n\r\nPUT 1 1\nkv", "MALFORMED"),
        (&endless, "MALFORMED"),
        (&too_long, "MALFORMED"),
        ("GET 65536\n", "TOO_LARGE"),
        ("GET 18446744073709551615\n", "TOO_LARGE"),
        ("GET 99999999999999999999\n", "MALFORMED"),
        ("PUT 1 1048577\nk", "TOO_LARGE"),
        ("PUT 1 1073741824\nk", "TOO_LARGE"),
        ("BPUT 100001\n", "TOO_LARGE"),
        ("BPUT 1\n1 1073741824\n", "TOO_LARGE"),
        ("BATCH 2\nPUT 1 1\nkvPUT 1 1073741824\n", "TOO_LARGE"),
        ("MGET 10001\n", "TOO_LARGE"),
        ("RANGE 65536 1\n", "TOO_LARGE"),
        ("AUTH 1000000\n", "TOO_LARGE"),
    ] {
        let mut wire = Wire::to(&server);
        // What came before is answered, what comes behind is not looked at; it may find the connection closed already.
        wire.send(b"PING\n");
        wire.expect("PONG\n");
        let _closed =
            wire.0.write_all(input.as_bytes()).and_then(|()| wire.0.write_all(b"PUT 1 1\nkv")).is_err();
        let told = wire.rest();
        let shown = input.get(..40).unwrap_or(input);
        assert!(
            told.starts_with(&format!("ERR {code} ")) && told.ends_with(": closing"),
            "{shown:?}: {told:?}"
        );
        let (head, message) = told.split_once('\n').unwrap();
        assert_eq!(head.rsplit(' ').next().unwrap().parse(), Ok(message.len()), "{shown:?}");
    }
    Wire::to(&server).ask("GET 1\nk", "NOT_FOUND\n");
    assert_eq!(server.metric("esker_http_body_bytes"), 0.0);
}

/// What is well-formed and cannot be done costs nobody a connection.
#[test]
fn what_cannot_be_done_is_told_and_the_connection_lives_on() {
    let server = TestServer::start();
    let mut wire = Wire::to(&server);
    for request in [
        "GET 0\n",
        "PUT 0 1\nv",
        "DEL 0\n",
        "INCR 0 1\n",
        "HEAD 0\n",
        "BPUT 2\n1 1\nkv0 1\nv",
        "BATCH 1\nDEL 0\n",
        "MGET 1\n0\n",
        "BATCH 1\nIF 1 absent\nk",
        "DELRANGE 0 0\n",
        "PUT 1 1 id=ffffffffffffffff-1\nkv",
    ] {
        wire.send(request.as_bytes());
        let line = wire.line();
        assert!(line.starts_with("ERR BAD_REQUEST "), "{request}: {line}");
        let mut message = vec![0; line.trim().rsplit(' ').next().unwrap().parse().unwrap()];
        wire.0.read_exact(&mut message).unwrap();
    }
    wire.ask("GET 1\nk", "NOT_FOUND\n");
    assert_eq!(server.metric("esker_binary_errors_total"), 11.0);
}

/// Neighbouring plain puts share a commit; a read sees what was sent before it.
#[test]
fn a_pipeline_is_answered_in_order_and_shares_commits() {
    let server = TestServer::start();
    let mut wire = Wire::to(&server);
    let mut requests = String::new();
    for n in 0..1000 {
        requests += &format!("PUT 4 4\n{n:04}{n:04}");
    }
    requests += "GET 4\n0999DEL 4 more\n0000GET 4\n0000";
    wire.send(requests.as_bytes());
    let versions: Vec<u64> =
        (0..1000).map(|_| wire.line().strip_prefix("OK ").unwrap().trim().parse().unwrap()).collect();
    assert!(versions.is_sorted() && *versions.last().unwrap() < 1000, "none shared a commit");
    let last = versions.last().unwrap();
    wire.expect(&format!("VALUE 4 {last}\n0999OK {} existed=1\nNOT_FOUND\n", last + 1));
    assert_eq!(server.metric(r#"esker_binary_requests_total{request="PUT",front="binary"}"#), 1000.0);
    assert_eq!(server.metric(r#"esker_binary_request_seconds_count{operation="GET"}"#), 2.0);
}

fn fill(server: &TestServer, count: usize, len: usize) {
    let mut wire = Wire::to(server);
    let value = vec![b'v'; len];
    for n in 0..count {
        wire.send(format!("PUT 6 {len}\n{n:06}").as_bytes());
        wire.send(&value);
    }
    for _ in 0..count {
        assert!(wire.line().starts_with("OK "));
    }
}

#[test]
fn a_long_range_comes_in_parts_and_whole() {
    let server = TestServer::start();
    fill(&server, 3000, 1000);
    let mut wire = Wire::to(&server);
    wire.send(b"RANGE 0 0\nPING\n");
    let (mut parts, mut next) = (0, 0);
    loop {
        let line = wire.line();
        let Some(count) = line.strip_prefix("PAIRS ") else {
            assert_eq!(line, "END\n");
            break;
        };
        parts += 1;
        for _ in 0..count.trim().parse().unwrap() {
            assert_eq!(wire.line(), "6 1000\n");
            let mut pair = vec![0; 1006];
            wire.0.read_exact(&mut pair).unwrap();
            assert_eq!(pair[..6], *format!("{next:06}").as_bytes());
            next += 1;
        }
    }
    assert_eq!(next, 3000);
    assert!(parts > 5, "{parts}");
    wire.expect("PONG\n");
}

/// Reads a range of tiny pairs to its end; `false` if there was no room to begin it. Errors: it was cut off.
fn read_tiny_pairs(wire: &mut Wire) -> Result<bool, String> {
    wire.send(b"RANGE 0 0\n");
    let mut pairs = 0;
    loop {
        let line = wire.line();
        let Some(count) = line.strip_prefix("PAIRS ") else {
            return match line.starts_with("TRY_LATER ") && pairs == 0 {
                true => Ok(false),
                false => (line == "END\n" && pairs == TINY_PAIRS).then_some(true).ok_or(line),
            };
        };
        let count: usize = count.trim().parse().unwrap();
        // Each is `6 2`, a line's end, its key and its value.
        let mut bytes = vec![0; count * 12];
        wire.0.read_exact(&mut bytes).unwrap();
        assert!(bytes.starts_with(format!("6 2\n{pairs:06}vv").as_bytes()));
        pairs += count;
    }
}

const TINY_PAIRS: usize = 6000;

/// Pairs take far more memory than wire: what is answered is sent before there is a wait for more room, also if it is little.
#[test]
fn ranges_of_tiny_pairs_do_not_keep_each_other_waiting_for_room() {
    let server = TestServer::with(|config, _| config.limits.answer_bytes_under_way = 640 << 10);
    fill(&server, TINY_PAIRS, 2);
    // Not even one waits for itself.
    assert_eq!(read_tiny_pairs(&mut Wire::to(&server)), Ok(true));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut wire = Wire::to(&server);
                eventually("a range is begun", || read_tiny_pairs(&mut wire).unwrap());
            });
        }
    });
    // A client has its answer before the server has counted it out.
    eventually("all room is given back", || server.metric("esker_http_answer_bytes") == 0.0);
}

/// CHECKS 33: who takes nothing of a long answer holds little, and not for ever.
#[test]
fn a_slow_reader_costs_little_and_is_dropped() {
    let server = TestServer::with(|config, _| config.timeouts.write_stall = Duration::from_millis(500));
    fill(&server, 64, 1 << 20);
    let mut wire = Wire::to(&server);
    wire.send(b"RANGE 0 0\n");
    let mut most = 0.0_f64;
    eventually("the connection is dropped", || {
        most = most.max(server.metric("esker_http_answer_bytes"));
        server.metric("esker_binary_connections_stalled_total") == 1.0
    });
    assert!(most > 0.0 && most < 4e6, "{most}");
    assert!(!wire.rest().ends_with("END\n"));
    assert_eq!(server.metric("esker_http_answer_bytes"), 0.0);
    assert_eq!(server.metric(r#"esker_binary_requests_total{request="RANGE",front="binary"}"#), 1.0);
}

/// CHECKS 32, 33: what was announced and has not come takes nothing; what does not come is not waited for.
#[test]
fn half_requests_and_silence_time_out() {
    let server = TestServer::with(|config, store| {
        config.timeouts.body_stall = Duration::from_millis(300);
        config.timeouts.idle = Duration::from_millis(300);
        store.limits.value_bytes = 1 << 30;
        store.limits.batch_bytes = 1 << 30;
    });
    let mut wires: Vec<Wire> =
        ["", "PUT", "PUT 3 5\nke", "PUT 3 1073741824\nkey", "BPUT 2\n1 1\nkv1", "BPUT 1\n1 1073741824\nk"]
            .iter()
            .map(|input| {
                let mut wire = Wire::to(&server);
                wire.send(input.as_bytes());
                wire
            })
            .collect();
    assert!(server.metric("esker_http_body_bytes") < 1e6);
    wires.iter_mut().for_each(|wire| assert_eq!(wire.rest(), ""));
    let mut used = Wire::to(&server);
    used.ask("PING\n", "PONG\n");
    assert_eq!(used.rest(), "");
}

/// CHECKS 33: the bytes of all requests that are being received have a bound.
#[test]
fn requests_that_arrive_share_a_budget() {
    let server = TestServer::with(|config, _| config.limits.body_bytes_under_way = 1 << 20);
    let mut first = Wire::to(&server);
    first.send(b"PUT 1 8000000\nk");
    first.send(&vec![b'v'; 4_000_000]);
    eventually("the first one fills the budget", || server.metric("esker_http_body_bytes") > 1e6);
    let mut second = Wire::to(&server);
    second.send(b"PUT 1 8000000\nk");
    let _closed = second.0.write_all(&vec![b'v'; 1_000_000]).is_err();
    assert_eq!(second.rest(), "TRY_LATER 1000\n");
    first.send(&vec![b'v'; 4_000_000]);
    first.expect("OK 1\n");
}

#[test]
fn connections_have_a_cap_over_all_fronts() {
    let server = TestServer::with(|config, _| config.limits.connections = 2);
    let mut first = Wire::to(&server);
    first.ask("PING\n", "PONG\n");
    let mut http = server.client();
    assert_eq!(http.request("GET", "/ready", &[], b"").status, 200);
    assert_eq!(Wire::to(&server).rest(), "TRY_LATER 1000\n");
    drop(first);
    eventually("a place is free", || {
        let mut wire = Wire::to(&server);
        wire.send(b"PING\n");
        wire.line() == "PONG\n"
    });
}

#[test]
fn who_comes_too_early_is_told_so() {
    let any = || "127.0.0.1:0".parse().unwrap();
    let config = ServerConfig {
        http_address: any(),
        resp_address: None,
        binary_address: Some(any()),
        grpc_address: None,
        ..ServerConfig::default()
    };
    let sockets = Sockets::bind(&config).unwrap();
    let _waiting = sockets.turn_away(&config, "it waits for others").unwrap();
    assert_eq!(Wire::connect(sockets.binary_address().unwrap()).rest(), "TRY_LATER 1000\n");
}

/// What comes after the drain began is not done, and said not to be.
#[test]
fn a_server_that_leaves_says_so() {
    let mut server = TestServer::with(|config, _| config.timeouts.drain_idle = Duration::from_millis(700));
    let mut wire = Wire::to(&server);
    wire.ask("PUT 1 1\nkv", "OK 1\n");
    server.begin_stop();
    eventually("the drain begins", || !server.takes_connections());
    wire.ask("PUT 1 1\nkw", "TRY_LATER 1000\n");
    wire.ask("GET 1 more\nk", "TRY_LATER 1000 code=DRAINING\n");
    assert_eq!(wire.rest(), "");
    assert_eq!(server.finish().connections_cut, 0);
}

/// CHECKS 36: a key is bytes and nothing else.
#[test]
fn any_byte_may_be_in_a_key() {
    let server = TestServer::start();
    let mut wire = Wire::to(&server);
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let keys: [&[u8]; 6] = [&all, b"..", b"../../etc/passwd", b"\0", b"%2f", b"\n"];
    for (at, key) in keys.into_iter().enumerate() {
        wire.send(&[format!("PUT {} 1\n", key.len()).as_bytes(), key, b"v"].concat());
        wire.expect(&format!("OK {}\n", at + 1));
        assert!(server.store.meta(key).is_some(), "{}", key.escape_ascii());
        wire.send(&[format!("GET {}\n", key.len()).as_bytes(), key].concat());
        wire.expect(&format!("VALUE 1 {}\nv", at + 1));
    }
}
