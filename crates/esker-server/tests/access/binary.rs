//! CHECKS 37: the table of the binary protocol; requests that wait behind one another while callers change.

use std::net::Shutdown;

use super::*;

/// A request, and what it takes.
const REQUESTS: &[(&str, Takes)] = &[
    ("GET 3\na/k", Takes::Read),
    ("GET 3 stale more\na/k", Takes::Read),
    ("HEAD 3\na/k", Takes::Read),
    ("MGET 2\n3\na/k3\na/n", Takes::Read),
    ("MGET 2\n3\na/k3\nc/z", Takes::Everything),
    ("RANGE 3 3\na/aa/z", Takes::Read),
    ("RANGE 2 0 prefix\na/", Takes::Read),
    ("RANGE 2 0 prefix stale more\na/", Takes::Read),
    ("RANGE 3 3\na/ab/z", Takes::Everything),
    ("RANGE 0 0\n", Takes::Everything),
    ("PUT 3 1\na/kv", Takes::Write),
    ("PUT 3 1 more\na/kv", Takes::Write),
    ("PUT 3 1 ttl=100000\na/kv", Takes::Write),
    ("PUT 3 1 if=present\na/kv", Takes::ReadAndWrite),
    ("DEL 3\na/k", Takes::Write),
    ("DEL 3 if=present\na/k", Takes::ReadAndWrite),
    ("INCR 3 1\na/n", Takes::ReadAndWrite),
    ("DELRANGE 3 3\na/aa/z", Takes::Write),
    ("DELRANGE 2 0 prefix\na/", Takes::Write),
    ("DELRANGE 0 0 prefix\n", Takes::Everything),
    ("BPUT 1\n3 1\na/kv", Takes::Write),
    ("BPUT 2\n3 1\na/kv3 1\nc/zv", Takes::Everything),
    ("BATCH 2\nPUT 3 1\na/kvDEL 3\na/n", Takes::Write),
    ("BATCH 2\nPUT 3 1\na/kvDEL 3\nc/z", Takes::Everything),
    ("BATCH 2\nIF 3 present\na/nDEL 3\na/k", Takes::ReadAndWrite),
    ("STATUS\n", Takes::ToBeKnown),
    ("NODES\n", Takes::ToBeKnown),
    ("PING\n", Takes::Nothing),
];

fn auth(shown: &str) -> String {
    format!("AUTH {}\n{shown}", shown.len())
}

/// What is said to all that is sent at once.
fn say(server: &TestServer, sent: &[u8]) -> String {
    let mut client = Client::connect(server.binary.unwrap());
    client.send(sent);
    client.stream.shutdown(Shutdown::Write).unwrap();
    let mut said = Vec::new();
    client.stream.read_to_end(&mut said).unwrap();
    String::from_utf8(said).unwrap()
}

const UNAUTHORIZED: &str = "ERR UNAUTHORIZED ";
const FORBIDDEN: &str = "ERR FORBIDDEN ";
#[test]
fn everybody_does_what_the_table_says_and_nothing_else() {
    let server = server(&control(&users()));
    for (request, takes) in REQUESTS {
        for who in EVERYBODY {
            let before = restore(&server);
            let entrance = if who == Stranger { String::new() } else { auth(&who.token()) };
            let said = say(&server, format!("{entrance}{request}").as_bytes());
            let said = match who {
                Stranger => &said[..],
                Wrong => after_refusal(&said),
                _ => said.strip_prefix("OK 0\n").unwrap_or_else(|| panic!("{who:?} {said}")),
            };
            // Whoever showed something wrong goes on as whoever shows nothing.
            let is_allowed = takes.allows(who) || *takes == Takes::Nothing;
            if is_allowed {
                assert!(
                    !said.contains(UNAUTHORIZED) && !said.contains(FORBIDDEN),
                    "{who:?} {request}: {said}"
                );
                assert!(!said.is_empty(), "{who:?} {request}");
                continue;
            }
            let expected = if matches!(who, Stranger | Wrong) { UNAUTHORIZED } else { FORBIDDEN };
            assert!(said.starts_with(expected), "{who:?} {request}: {said}");
            assert_eq!(
                server.store.status().commit_index,
                before,
                "{who:?} {request}: something was written"
            );
            assert!(!said.contains(SECRET), "{who:?} {request}: {said}");
        }
    }
    assert_denials_are_counted(&server, "binary");
}

/// What follows the answer to a wrong token.
fn after_refusal(said: &str) -> &str {
    let (head, rest) = said.split_once('\n').unwrap();
    let length: usize = head.strip_prefix(UNAUTHORIZED).unwrap().parse().unwrap();
    &rest[length..]
}

/// Each request of what comes at once is done as whom its connection is then.
#[test]
fn those_before_an_auth_are_the_former_callers_and_those_behind_it_the_new_ones() {
    let server = server(&control(&users()));
    restore(&server);
    let (writer, reader) = (auth(&Writer.token()), auth(&Reader.token()));
    let put = |key: &str| format!("PUT {} 1\n{key}v", key.len());
    let wrong = auth("nobodys");
    let all = [
        &put("a/0"), // Of a stranger.
        &writer,
        &put("a/1"),
        &put("a/2"),
        &reader,
        &put("a/3"),
        "GET 3\na/1",
        &wrong,
        "GET 3\na/2",
        &writer,
        "GET 3\na/1",
    ];
    let said = say(&server, all.concat().as_bytes());
    assert!(said.starts_with(UNAUTHORIZED), "{said}");
    assert_eq!(said.matches("OK 0\n").count(), 3, "{said}");
    assert_eq!(said.matches("VALUE 1 ").count(), 2, "{said}");
    assert_eq!(said.matches("ERR FORBIDDEN ").count(), 2, "{said}");
    assert!(said.contains("token is wrongVALUE 1 "), "{said}");
    for (key, is_there) in [("a/0", false), ("a/1", true), ("a/2", true), ("a/3", false)] {
        assert_eq!(server.store.meta(key.as_bytes()).is_some(), is_there, "{key}: {said}");
    }
}

/// Puts that share a commit do not share a refusal.
#[test]
fn neighbours_of_a_refused_put_do_not_suffer() {
    let server = server(&control(&users()));
    restore(&server);
    let puts = "PUT 3 1\na/1vPUT 3 1\nc/1vPUT 3 1\na/2v";
    let said = say(&server, format!("{}{puts}", auth(&Writer.token())).as_bytes());
    assert_eq!((said.matches("OK ").count(), said.matches(FORBIDDEN).count()), (3, 1), "{said}");
    assert!(server.store.meta(b"a/1").is_some() && server.store.meta(b"a/2").is_some());
    assert!(server.store.meta(b"c/1").is_none());
}

#[test]
fn a_password_is_as_good_as_a_token_and_guessing_is_bounded() {
    let mut file = users();
    file.users[0].password = Some(hash_password(b"open: sesame").unwrap());
    let server = server(&control(&file));
    restore(&server);
    let said = say(&server, format!("{}GET 3\na/n", auth("reader:open: sesame")).as_bytes());
    assert!(said.starts_with("OK 0\nVALUE 1 "), "{said}");
    assert!(say(&server, auth("reader:open").as_bytes()).starts_with(UNAUTHORIZED));
    assert!(say(&server, auth("nobody:open: sesame").as_bytes()).starts_with(UNAUTHORIZED));
    let guesses: Vec<String> =
        (0..14).map(|at| say(&server, auth(&format!("reader:guess {at}")).as_bytes())).collect();
    assert!(guesses.iter().any(|said| said.starts_with("TRY_LATER ")), "{guesses:?}");
    let said = say(&server, auth(&Reader.token()).as_bytes());
    assert_eq!(said, "OK 0\n", "a token is no guess");
}

/// Who has not said who it is has nothing received that is large; what it sends with its token, it sends as its owner.
#[test]
fn a_stranger_is_refused_before_a_large_value() {
    let server = server(&control(&users()));
    let mut client = Client::connect(server.binary.unwrap());
    client.send(b"PUT 3 1000000\na/k");
    let mut said = String::new();
    client.stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with(UNAUTHORIZED), "{said}");
    let large = format!("{}PUT 3 1000000\na/k{}", auth(&Writer.token()), "v".repeat(1_000_000));
    let said = say(&server, large.as_bytes());
    assert!(said.starts_with("OK 0\nOK ") && !said.contains("ERR"), "{said}");
}

#[test]
fn a_new_list_of_users_holds_for_connections_that_are_open() {
    let access = control(&users());
    let server = server(&access);
    restore(&server);
    let mut client = Client::connect(server.binary.unwrap());
    client.send(format!("{}PING\n", auth(&Reader.token())).as_bytes());
    assert_eq!([client.raw_line(), client.raw_line()].concat(), "OK 0\nPONG\n");
    let mut file = users();
    file.users[0].rules[0].prefix = "b/".into();
    access.replace(Users::new(&file).unwrap());
    client.send(b"GET 3\na/n");
    assert!(client.raw_line().starts_with(FORBIDDEN));
    file.users.remove(0);
    access.replace(Users::new(&file).unwrap());
    client.send(b"GET 3\na/n");
    // The message has no end of line.
    assert!(client.raw_line().contains(UNAUTHORIZED));
}

/// A token that somebody chose may look like a name and a password.
#[test]
fn a_token_may_have_a_colon() {
    const CHOSEN: &str = "reader:of its own choice";
    let access = AccessControl::of(Users::new(&users()).unwrap().with_token(CHOSEN)).unwrap();
    let server = server(&access);
    restore(&server);
    let said = say(&server, format!("{}GET 3\na/n", auth(CHOSEN)).as_bytes());
    assert!(said.starts_with("OK 0\nVALUE "), "{said}");
    let said = say(&server, auth("reader:of another's choice").as_bytes());
    assert!(said.starts_with(UNAUTHORIZED), "{said}");
}
