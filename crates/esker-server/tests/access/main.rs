//! SPEC 5.5, CHECKS 37: nobody without rights reads or changes anything, whatever the front.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod binary;
mod grpc;
use crate::support;

use std::io::{Read, Write};

use esker_cluster::{Batch, WriteOptions};
use esker_server::{
    AccessControl, NewToken, RuleEntry, TokenEntry, UserEntry, Users, UsersFile, hash_password, hash_token,
};

use support::{Answer, Client, TestServer};

const SECRET: &str = "value-that-nobody-may-see";

/// Whoever calls. Each has a token that is its name doubled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Stranger,
    Wrong,
    Reader,
    Writer,
    Both,
    Other,
    Prometheus,
    Admin,
}

use Who::{Admin, Both, Other, Prometheus, Reader, Stranger, Writer, Wrong};

const EVERYBODY: [Who; 8] = [Stranger, Wrong, Reader, Writer, Both, Other, Prometheus, Admin];

impl Who {
    fn token(self) -> String {
        format!("{self:?}{self:?}").to_lowercase()
    }
}

/// What an operation takes; `a/` is where the readers' and writers' keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    ToBeKnown,
    Read,
    Write,
    ReadAndWrite,
    Everything,
    Metrics,
}

impl Takes {
    fn allows(self, who: Who) -> bool {
        match (self, who) {
            (Self::Nothing, who) => who != Wrong,
            (_, Stranger | Wrong) => false,
            (_, Admin) | (Self::ToBeKnown, _) => true,
            (Self::Read, who) => matches!(who, Reader | Both),
            (Self::Write, who) => matches!(who, Writer | Both),
            (Self::ReadAndWrite, who) => who == Both,
            (Self::Metrics, who) => who == Prometheus,
            (Self::Everything, _) => false,
        }
    }
}

fn user(who: Who, rules: &[(&str, bool, bool)]) -> UserEntry {
    let rules = rules.iter().map(|&(prefix, read, write)| RuleEntry {
        prefix: prefix.into(),
        base64: false,
        read,
        write,
    });
    UserEntry {
        name: format!("{who:?}").to_lowercase(),
        rules: rules.collect(),
        admin: who == Admin,
        metrics: who == Prometheus,
        tokens: vec![TokenEntry { name: "t".into(), sha256: hash_token(&who.token()) }],
        ..UserEntry::default()
    }
}

fn users() -> UsersFile {
    UsersFile {
        users: vec![
            user(Reader, &[("a/", true, false)]),
            user(Writer, &[("a/", false, true)]),
            user(Both, &[("a/", true, true)]),
            user(Other, &[("b/", true, true), ("a/k/deeper", true, true)]),
            user(Prometheus, &[]),
            user(Admin, &[]),
        ],
    }
}

fn control(file: &UsersFile) -> AccessControl {
    AccessControl::of(Users::new(file).unwrap()).unwrap()
}

fn server(access: &AccessControl) -> TestServer {
    let access = access.clone();
    TestServer::with(move |config, _| {
        config.access = access;
        config.resp_address = Some("127.0.0.1:0".parse().unwrap());
    })
}

/// Puts the keys as they were; gives the version then.
fn restore(server: &TestServer) -> u64 {
    let mut batch = Batch::new(server.store.limits());
    batch.put(b"a/k", SECRET.as_bytes()).unwrap();
    batch.put(b"a/n", b"7").unwrap();
    batch.put(b"c/z", SECRET.as_bytes()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(server.store.write(batch, WriteOptions::default())).unwrap().version
}

/// method, target, body, headers, what it takes.
type Row = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)], Takes);

const HTTP: &[Row] = &[
    ("GET", "/api/v1/kv/a/k", "", &[], Takes::Read),
    ("HEAD", "/api/v1/kv/a/k", "", &[], Takes::Read),
    ("PUT", "/api/v1/kv/a/k", "v", &[], Takes::Write),
    ("PUT", "/api/v1/kv/a/k", "v", &[("if-none-match", "*")], Takes::ReadAndWrite),
    ("DELETE", "/api/v1/kv/a/k", "", &[], Takes::Write),
    ("DELETE", "/api/v1/kv/a/k", "", &[("if-match", "*")], Takes::ReadAndWrite),
    ("POST", "/api/v1/kv/a/n/incr", "{\"by\":1}", &[], Takes::ReadAndWrite),
    ("GET", "/api/v1/kv?prefix=a/", "", &[], Takes::Read),
    ("GET", "/api/v1/kv?prefix=a/", "", &[("accept", "application/x-ndjson")], Takes::Read),
    ("GET", "/api/v1/kv?start=a/a&end=a/z", "", &[], Takes::Read),
    ("GET", "/api/v1/kv?start=a/a&end=b/z", "", &[], Takes::Everything),
    ("GET", "/api/v1/kv", "", &[], Takes::Everything),
    ("DELETE", "/api/v1/kv?prefix=a/", "", &[], Takes::Write),
    ("DELETE", "/api/v1/kv?prefix=", "", &[], Takes::Everything),
    ("POST", "/api/v1/mget", "{\"keys\":[\"a/k\"]}", &[], Takes::Read),
    ("POST", "/api/v1/mget", "{\"keys\":[\"a/k\",\"c/z\"]}", &[], Takes::Everything),
    (
        "POST",
        "/api/v1/batch",
        "{\"operations\":[{\"type\":\"put\",\"key\":\"a/k\",\"value\":\"v\"}]}",
        &[],
        Takes::Write,
    ),
    (
        "POST",
        "/api/v1/batch",
        "{\"operations\":[{\"type\":\"put\",\"key\":\"a/k\",\"value\":\"v\"},{\"type\":\"delete\",\"key\":\"c/z\"}]}",
        &[],
        Takes::Everything,
    ),
    (
        "POST",
        "/api/v1/batch",
        "{\"operations\":[{\"type\":\"delete\",\"key\":\"a/k\"}],\"if\":[{\"key\":\"a/n\",\"is\":\"present\"}]}",
        &[],
        Takes::ReadAndWrite,
    ),
    ("GET", "/kv/a/k", "", &[], Takes::Read),
    ("PUT", "/kv/a/k", "{\"value\":\"v\"}", &[], Takes::Write),
    ("DELETE", "/kv/a/k", "", &[], Takes::Write),
    ("GET", "/kv/range?start=a/a&end=a/z", "", &[], Takes::Read),
    (
        "POST",
        "/kv/batch",
        "{\"operations\":[{\"type\":\"put\",\"key\":\"a/k\",\"value\":\"v\"}]}",
        &[],
        Takes::Write,
    ),
    ("POST", "/put", "{\"key\":\"a/k\",\"value\":\"v\"}", &[], Takes::Write),
    ("GET", "/get?key=a/k", "", &[], Takes::Read),
    ("GET", "/scan?start=a/a&end=a/z", "", &[], Takes::Read),
    ("GET", "/scan?start=&end=", "", &[], Takes::Everything),
    ("POST", "/delete?key=a/k", "", &[], Takes::Write),
    ("POST", "/batch", "{\"items\":[{\"key\":\"a/k\",\"value\":\"v\"}]}", &[], Takes::Write),
    ("PUT", "/put?key=a/k", "v", &[], Takes::Write),
    ("GET", "/read?key=a/k", "", &[], Takes::Read),
    ("GET", "/range?start=a/a&end=a/z", "", &[], Takes::Read),
    ("POST", "/batchput", "{\"a/k\":\"v\"}", &[], Takes::Write),
    ("DELETE", "/delete?key=a/k", "", &[], Takes::Write),
    ("GET", "/status", "", &[], Takes::ToBeKnown),
    ("GET", "/api/v1/cluster/status", "", &[], Takes::ToBeKnown),
    ("GET", "/api/v1/cluster/nodes", "", &[], Takes::ToBeKnown),
    ("GET", "/nothing/is/here", "", &[], Takes::ToBeKnown),
    ("POST", "/api/v1/cluster/members", "{\"remove\":1}", &[], Takes::Everything),
    ("POST", "/api/v1/admin/checkpoint", "", &[], Takes::Everything),
    ("POST", "/api/v1/admin/compact", "", &[], Takes::Everything),
    ("POST", "/api/v1/admin/merge", "", &[], Takes::Everything),
    ("POST", "/api/v1/admin/verify", "", &[], Takes::Everything),
    ("POST", "/api/v1/admin/backup", "", &[], Takes::Everything),
    ("GET", "/debug/pprof/profile?seconds=1", "", &[], Takes::Everything),
    ("GET", "/debug/pprof/heap", "", &[], Takes::Everything),
    ("GET", "/metrics", "", &[], Takes::Metrics),
    ("GET", "/metrics?format=json", "", &[], Takes::Metrics),
    ("GET", "/health", "", &[], Takes::Nothing),
    ("GET", "/api/v1/health", "", &[], Takes::Nothing),
    ("GET", "/ready", "", &[], Takes::Nothing),
    ("GET", "/api/v1/openapi.json", "", &[], Takes::Nothing),
    ("OPTIONS", "/kv/a/k", "", &[], Takes::Nothing),
];

fn ask(server: &TestServer, who: Who, (method, target, body, headers, _): &Row) -> Answer {
    let authorization = format!("Bearer {}", who.token());
    let mut headers = headers.to_vec();
    if who != Stranger {
        headers.push(("authorization", &authorization));
    }
    server.client().request(method, target, &headers, body.as_bytes())
}

#[test]
fn over_http_everybody_does_what_the_table_says_and_nothing_else() {
    let server = server(&control(&users()));
    for row in HTTP {
        let takes = row.4;
        for who in EVERYBODY {
            let before = restore(&server);
            let answer = ask(&server, who, row);
            let expected = match who {
                _ if takes.allows(who) => None,
                Stranger | Wrong => Some(401),
                _ => Some(403),
            };
            match expected {
                None => assert!(!matches!(answer.status, 401 | 403), "{who:?} {row:?} {answer:?}"),
                Some(status) => {
                    assert_eq!(answer.status, status, "{who:?} {row:?} {answer:?}");
                    assert_eq!(
                        server.store.status().commit_index,
                        before,
                        "{who:?} {row:?}: something was written"
                    );
                    let body = String::from_utf8_lossy(&answer.body).into_owned();
                    assert!(!body.contains(SECRET), "{who:?} {row:?} {body}");
                    let challenge = answer.header("www-authenticate").is_some();
                    assert_eq!(challenge, status == 401, "{who:?} {row:?} {answer:?}");
                }
            }
        }
    }
}

/// The words of a command; what it takes.
const RESP: &[(&str, Takes)] = &[
    ("GET a/k", Takes::Read),
    ("MGET a/k a/n", Takes::Read),
    ("MGET a/k c/z", Takes::Everything),
    ("EXISTS a/k", Takes::Read),
    ("STRLEN a/k", Takes::Read),
    ("TTL a/k", Takes::Read),
    ("TYPE a/k", Takes::Read),
    ("OBJECT ENCODING a/k", Takes::Read),
    ("MEMORY USAGE a/k", Takes::Read),
    ("WATCH a/k", Takes::Read),
    ("ERANGE a/a a/z", Takes::Read),
    ("ERANGE a/a z", Takes::Everything),
    ("SET a/k v", Takes::Write),
    ("SET a/k v NX", Takes::ReadAndWrite),
    ("SET a/k v GET", Takes::ReadAndWrite),
    ("SETEX a/k 100 v", Takes::Write),
    ("MSET a/k v a/l w", Takes::Write),
    ("MSET a/k v c/z w", Takes::Everything),
    ("SETNX a/k v", Takes::ReadAndWrite),
    ("GETSET a/k v", Takes::ReadAndWrite),
    ("GETDEL a/k", Takes::ReadAndWrite),
    ("DEL a/k", Takes::ReadAndWrite),
    ("APPEND a/k v", Takes::ReadAndWrite),
    ("INCR a/n", Takes::ReadAndWrite),
    ("EXPIRE a/k 100", Takes::ReadAndWrite),
    ("RENAME a/k a/l", Takes::ReadAndWrite),
    ("RENAME a/k c/l", Takes::Everything),
    ("COPY c/z a/l", Takes::Everything),
    ("FLUSHALL", Takes::Everything),
    ("FLUSHDB", Takes::Everything),
    ("DBSIZE", Takes::Everything),
    ("CLIENT LIST", Takes::Everything),
    ("CLIENT KILL ID 999", Takes::Everything),
    ("ACL LIST", Takes::Everything),
    ("ACL GETUSER admin", Takes::Everything),
    ("ACL DRYRUN reader GET a/k", Takes::Everything),
    ("ACL WHOAMI", Takes::ToBeKnown),
    ("INFO", Takes::ToBeKnown),
    ("PING", Takes::ToBeKnown),
    ("KEYS *", Takes::ToBeKnown),
    ("SCAN 0", Takes::ToBeKnown),
    ("RANDOMKEY", Takes::ToBeKnown),
    ("COMMAND COUNT", Takes::ToBeKnown),
    ("RESET", Takes::Nothing),
];

/// What the server says to these lines until it closes.
fn talk(server: &TestServer, lines: &[&str]) -> String {
    let mut client = Client::connect(server.resp.unwrap());
    for line in lines {
        client.send(format!("{line}\r\n").as_bytes());
    }
    client.send(b"QUIT\r\n");
    let mut said = Vec::new();
    client.stream.read_to_end(&mut said).unwrap();
    String::from_utf8(said).unwrap()
}

/// What is said to a command of somebody, in and out of a transaction.
fn say(server: &TestServer, who: Who, line: &str) -> String {
    match who {
        Stranger => talk(server, &[line]),
        _ => {
            let said = talk(server, &[&format!("AUTH {}", who.token()), line]);
            let (first, rest) = said.split_once("\r\n").unwrap();
            match who {
                // Who is wrong often enough is told that.
                Wrong => {
                    assert!(first.starts_with("-WRONGPASS ") || first.starts_with("-TRYAGAIN "), "{first}")
                }
                _ => assert_eq!(first, "+OK"),
            }
            rest.to_owned()
        }
    }
}

#[test]
fn over_resp_everybody_does_what_the_table_says_and_nothing_else() {
    let server = server(&control(&users()));
    for (line, takes) in RESP {
        for who in EVERYBODY {
            let before = restore(&server);
            let said = say(&server, who, line);
            // Whoever showed something wrong goes on as whoever shows nothing.
            let expected = match who {
                Wrong if *takes == Takes::Nothing => "",
                _ if takes.allows(who) => "",
                Stranger | Wrong => "-NOAUTH ",
                _ => "-NOPERM ",
            };
            if expected.is_empty() {
                assert!(!said.starts_with("-NO"), "{who:?} {line}: {said}");
            } else {
                assert!(said.starts_with(expected), "{who:?} {line}: {said}");
                assert_eq!(
                    server.store.status().commit_index,
                    before,
                    "{who:?} {line}: something was written"
                );
                assert!(!said.contains(SECRET), "{who:?} {line}: {said}");
            }
        }
    }
}

/// ACL DRYRUN says of each command and user what the table says, and runs none.
#[test]
fn a_dry_run_says_who_may_do_what() {
    let server = server(&control(&users()));
    let before = restore(&server);
    for (line, takes) in RESP {
        for who in [Admin, Reader, Writer, Both, Other] {
            let user = format!("{who:?}").to_lowercase();
            let said = say(&server, Admin, &format!("ACL DRYRUN {user} {line}"));
            let (answer, _) = said.split_once("+OK\r\n").unwrap();
            match takes.allows(who) {
                true => assert!(answer.is_empty(), "{user} {line}: {said}"),
                false => {
                    assert!(answer.contains(&format!("User {user} has no permissions to ")), "{line}: {said}")
                }
            }
        }
    }
    assert_eq!(server.store.status().commit_index, before);
    for (line, error) in [
        ("nobody GET a/k", "-ERR User 'nobody' not found\r\n"),
        ("reader NONSENSE", "-ERR Command 'nonsense' not found\r\n"),
        ("reader GET", "-ERR wrong number of arguments for 'get' command\r\n"),
    ] {
        assert!(say(&server, Admin, &format!("ACL DRYRUN {line}")).starts_with(error), "{line}");
    }
}

#[test]
fn walks_show_what_may_be_read() {
    let server = server(&control(&users()));
    restore(&server);
    assert_eq!(say(&server, Reader, "KEYS *"), "*2\r\n$3\r\na/k\r\n$3\r\na/n\r\n+OK\r\n");
    assert_eq!(say(&server, Other, "KEYS *"), "*0\r\n+OK\r\n");
    assert_eq!(say(&server, Writer, "RANDOMKEY"), "$-1\r\n+OK\r\n");
    assert!(say(&server, Reader, "SCAN 0 COUNT 100").ends_with("*2\r\n$3\r\na/k\r\n$3\r\na/n\r\n+OK\r\n"));
    assert_eq!(say(&server, Admin, "KEYS *").matches("$3").count(), 3);
    assert!(say(&server, Admin, "INFO keyspace").contains("keys=3"));
    assert!(!say(&server, Reader, "INFO keyspace").contains("keys="));
}

#[test]
fn a_transaction_is_refused_where_it_is_queued_and_neighbours_do_not_suffer() {
    let server = server(&control(&users()));
    let before = restore(&server);
    let auth = format!("AUTH {}", Writer.token());
    let said = talk(&server, &[&auth, "MULTI", "SET a/k v", "SET c/z v", "EXEC"]);
    assert!(said.contains("+QUEUED\r\n-NOPERM ") && said.contains("-EXECABORT "), "{said}");
    assert_eq!(server.store.status().commit_index, before);
    let said = talk(&server, &[&auth, "SET a/1 v", "SET c/1 v", "SET a/2 v"]);
    assert_eq!(said.lines().filter(|line| *line == "+OK").count(), 4, "{said}");
    assert!(server.store.meta(b"a/1").is_some() && server.store.meta(b"a/2").is_some());
    assert!(server.store.meta(b"c/1").is_none());
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", esker_wire::encode_base64(format!("{name}:{password}").as_bytes()))
}

fn status_of(server: &TestServer, authorization: &str) -> u16 {
    server.client().request("GET", "/api/v1/kv/a/k", &[("authorization", authorization)], b"").status
}

#[test]
fn passwords_work_on_every_front_and_wrong_ones_look_alike() {
    let mut file = users();
    file.users[0].password = Some(hash_password(b"open sesame").unwrap());
    file.users.push(UserEntry { password: Some(hash_password(b"alone").unwrap()), ..user(Stranger, &[]) });
    file.users.last_mut().unwrap().name = "default".into();
    let server = server(&control(&file));
    restore(&server);
    assert_eq!(status_of(&server, &basic("reader", "open sesame")), 200);
    assert_eq!(status_of(&server, &basic("reader", &Reader.token())), 200, "a token stands for the password");
    let answer = |name| {
        let authorization = basic(name, "open barley");
        let answer =
            server.client().request("GET", "/api/v1/kv/a/k", &[("authorization", &authorization)], b"");
        (answer.status, answer.body)
    };
    assert_eq!(answer("reader"), answer("nobody"));
    assert_eq!(answer("reader").0, 401);
    let hello = talk(&server, &["HELLO 3 AUTH reader \"open sesame\"", "GET a/k", "ACL WHOAMI"]);
    assert!(hello.contains(SECRET) && hello.contains("$6\r\nreader\r\n"), "{hello}");
    assert!(talk(&server, &["HELLO 3"]).starts_with("-NOAUTH HELLO "));
    assert!(talk(&server, &["AUTH alone", "ACL WHOAMI"]).contains("default"));
    assert!(
        talk(&server, &["ACL WHOAMI"]).starts_with("-NOAUTH "),
        "a default user with a password has to show it"
    );
    let reset = talk(&server, &["AUTH alone", "RESET", "PING"]);
    assert!(reset.contains("+RESET\r\n-NOAUTH "), "{reset}");
}

/// The connections of a pool show the right password all at once, on a server that has not seen it yet.
#[test]
fn a_pool_may_come_at_once() {
    let mut file = users();
    file.users[0].password = Some(hash_password(b"open sesame").unwrap());
    let server = server(&control(&file));
    restore(&server);
    std::thread::scope(|threads| {
        for at in 0..40 {
            let server = &server;
            threads.spawn(move || match at % 2 {
                0 => assert_eq!(status_of(server, &basic("reader", "open sesame")), 200),
                _ => {
                    let told = talk(server, &["AUTH reader \"open sesame\"", "ACL WHOAMI"]);
                    assert!(told.contains("$6\r\nreader\r\n"), "{told}");
                }
            });
        }
    });
}

/// An address that guesses is stopped, and whoever is known goes on.
#[test]
fn guessing_is_bounded_and_harms_nobody_else() {
    let mut file = users();
    file.users[0].password = Some(hash_password(b"open sesame").unwrap());
    let server = server(&control(&file));
    restore(&server);
    assert_eq!(status_of(&server, &basic("reader", "open sesame")), 200);
    let guesses: Vec<u16> =
        (0..14).map(|at| status_of(&server, &basic("reader", &format!("guess {at}")))).collect();
    assert!(guesses.contains(&401) && guesses.contains(&429), "{guesses:?}");
    assert_eq!(status_of(&server, &basic("reader", "open sesame")), 200, "it is remembered");
    assert_eq!(status_of(&server, &format!("Bearer {}", Reader.token())), 200);
    // Clients of Redis are told to come back, not that their password is wrong: they need not give up for good.
    let too_often = talk(&server, &["AUTH reader one", "AUTH reader two", "HELLO 3 AUTH reader three"]);
    assert!(
        too_often.ends_with("\r\n+OK\r\n") && too_often.contains("-TRYAGAIN too many wrong"),
        "{too_often}"
    );
    let text = server.client().request(
        "GET",
        "/metrics",
        &[("authorization", &format!("Bearer {}", Prometheus.token()))],
        b"",
    );
    let text = text.text();
    for reason in ["bad_credentials", "too_many_attempts"] {
        assert!(
            text.contains(&format!("esker_access_denied_total{{front=\"http\",reason=\"{reason}\"}}")),
            "{text}"
        );
    }
}

/// Passwords are verified elsewhere: requests that need none do not wait for them.
#[test]
fn a_flood_of_passwords_stalls_nobody() {
    let mut file = users();
    file.users[0].password = Some(hash_password(b"open sesame").unwrap());
    let server = server(&control(&file));
    restore(&server);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
            for (at, client) in clients.iter_mut().enumerate() {
                let authorization = basic("nobody", &at.to_string());
                client.send_request("GET", "/api/v1/kv/a/k", &[("authorization", &authorization)], b"");
            }
            clients.iter_mut().for_each(|client| assert!(matches!(client.read().unwrap().status, 401 | 429)));
        });
        let mut served = 0;
        while !flood.is_finished() {
            assert_eq!(status_of(&server, &format!("Bearer {}", Reader.token())), 200);
            served += 1;
        }
        assert!(served > 8, "{served}");
    });
}

#[test]
fn a_new_list_of_users_holds_for_connections_that_are_open() {
    let access = control(&users());
    let server = server(&access);
    restore(&server);
    let mut resp = Client::connect(server.resp.unwrap());
    resp.send(format!("AUTH {}\r\nGET a/n\r\n", Reader.token()).as_bytes());
    assert_eq!([resp.raw_line(), resp.raw_line(), resp.raw_line()].concat(), "+OK\r\n$1\r\n7\r\n");
    let mut http = server.client();
    let authorization = format!("Bearer {}", Reader.token());
    let read = |http: &mut Client| {
        http.request("GET", "/api/v1/kv/a/n", &[("authorization", &authorization)], b"").status
    };
    assert_eq!(read(&mut http), 200);
    let mut file = users();
    file.users[0].rules[0].prefix = "b/".into();
    access.replace(Users::new(&file).unwrap());
    assert_eq!(read(&mut http), 403);
    resp.send(b"GET a/n\r\n");
    assert!(resp.raw_line().starts_with("-NOPERM "));
    file.users.remove(0);
    access.replace(Users::new(&file).unwrap());
    assert_eq!(read(&mut http), 401);
    resp.send(b"GET b/n\r\n");
    assert!(resp.raw_line().starts_with("-NOAUTH "));
}

#[test]
fn whoever_shows_nothing_is_the_default_user_if_there_is_one() {
    let mut file = users();
    file.users.push(UserEntry {
        name: "default".into(),
        tokens: Vec::new(),
        ..user(Stranger, &[("c/", true, false)])
    });
    let server = server(&control(&file));
    restore(&server);
    assert_eq!(server.request("GET", "/api/v1/kv/c/z", b"").status, 200);
    server.request("GET", "/api/v1/kv/a/k", b"").error(403, "forbidden");
    assert!(talk(&server, &["GET c/z"]).contains(SECRET));
    assert_eq!(status_of(&server, "Bearer nonsense"), 401, "what is shown is looked at");
}

/// A stranger's body is not taken.
#[test]
fn a_stranger_is_refused_before_its_body() {
    let server = server(&control(&users()));
    let mut client = server.client();
    client.send(b"PUT /api/v1/kv/a/k HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n");
    assert_eq!(client.read().unwrap().status, 401);
    let mut writer = server.client();
    let head = format!(
        "PUT /api/v1/kv/c/z HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\nauthorization: Bearer {}\r\n\r\n",
        Writer.token()
    );
    writer.stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(writer.read().unwrap().status, 403);
}

#[test]
fn made_tokens_open_and_pages_of_other_sites_may_show_them() {
    let made = NewToken::generate("ci").unwrap();
    let mut file = users();
    file.users[0].tokens.push(made.entry.clone());
    let server = server(&control(&file));
    restore(&server);
    assert_eq!(status_of(&server, &format!("Bearer {}", made.secret)), 200);
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization"),
    ];
    let answer = server.client().request("OPTIONS", "/kv/a/k", &preflight, b"");
    assert_eq!((answer.status, answer.header("access-control-allow-headers")), (204, Some("authorization")));
    let refused = server.client().request("GET", "/kv/a/k", &[("origin", "https://app.example")], b"");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("*")));
}

/// What was refused is in the metrics, by front and reason.
fn assert_denials_are_counted(server: &TestServer, front: &str) {
    let authorization = format!("Bearer {}", Prometheus.token());
    let answer = server.client().request("GET", "/metrics", &[("authorization", &authorization)], b"");
    let text = answer.text();
    for reason in ["no_credentials", "bad_credentials", "not_allowed"] {
        let name = format!("esker_access_denied_total{{front=\"{front}\",reason=\"{reason}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        assert!(line.is_some_and(|count| count.parse::<u64>().unwrap() > 0), "{name}: {text}");
    }
}

/// A header that cannot be read is a wrong one, and counted as such.
#[test]
fn what_cannot_be_read_is_counted() {
    let server = server(&control(&users()));
    assert_eq!(status_of(&server, "Digest x"), 401);
    let authorization = format!("Bearer {}", Prometheus.token());
    let answer = server.client().request("GET", "/metrics", &[("authorization", &authorization)], b"");
    let counted = "esker_access_denied_total{front=\"http\",reason=\"bad_credentials\"} 1\n";
    assert!(answer.text().contains(counted), "{}", answer.text());
}

/// A stranger of RESP has nothing received that is large.
#[test]
fn a_stranger_of_resp_is_refused_before_a_large_value() {
    let server = server(&control(&users()));
    let mut client = Client::connect(server.resp.unwrap());
    client.send(b"*3\r\n$3\r\nSET\r\n$3\r\na/k\r\n$1000000\r\nv");
    let mut said = String::new();
    client.stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("-NOAUTH "), "{said}");
    let mut large = format!("AUTH {}\r\n", Writer.token()).into_bytes();
    large.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$3\r\na/k\r\n$1000000\r\n");
    large.resize(large.len() + 1_000_000, b'v');
    large.extend_from_slice(b"\r\nQUIT\r\n");
    let mut client = Client::connect(server.resp.unwrap());
    client.send(&large);
    let mut said = String::new();
    client.stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "+OK\r\n+OK\r\n+OK\r\n");
}

/// A list that is taken slowly ends where its taker's right does.
#[test]
fn a_list_under_way_ends_with_the_right() {
    const VALUE_BYTES: usize = 1 << 20;
    const VALUES: usize = 64;
    let access = control(&users());
    let server = server(&access);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in 0..VALUES {
        let mut batch = Batch::new(server.store.limits());
        batch.put(format!("a/{n:03}").as_bytes(), &vec![b'v'; VALUE_BYTES]).unwrap();
        runtime.block_on(server.store.write(batch, WriteOptions::default())).unwrap();
    }
    let mut list = server.client();
    let authorization = format!("Bearer {}", Reader.token());
    let headers = [("authorization", &authorization[..]), ("accept", "application/x-ndjson")];
    list.send_request("GET", "/api/v1/kv?prefix=a/", &headers, b"");
    assert_eq!(list.read_head().unwrap().status, 200);
    let mut range = Client::connect(server.binary.unwrap());
    let token = Reader.token();
    range.send(format!("AUTH {}\n{token}RANGE 2 0 prefix\na/", token.len()).as_bytes());
    assert_eq!(range.raw_line(), "OK 0\n");
    assert!(range.raw_line().starts_with("PAIRS "));
    let mut file = users();
    file.users.remove(0);
    access.replace(Users::new(&file).unwrap());
    let answer = Answer { status: 200, headers: Vec::new(), body: Vec::new(), complete: true };
    let answer = Answer { headers: vec![("transfer-encoding".into(), "chunked".into())], ..answer };
    let answer = list.read_body(answer);
    assert!(answer.body.len() < VALUES * VALUE_BYTES, "{}", answer.body.len());
    range.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let said: String =
        std::iter::repeat_with(|| range.raw_line()).take_while(|line| !line.is_empty()).collect();
    assert!(said.len() < VALUES * VALUE_BYTES, "{}", said.len());
    assert!(said.contains("ERR UNAUTHORIZED "));
}
