//! The connection itself: HELLO, AUTH, PING, CLIENT and others.

use esker_wire::resp::Protocol;

use super::is;
use crate::access::{Refused, Shown};
use crate::resp::{
    Args, Reply,
    number::integer,
    refusal::{Done, Refusal, SYNTAX},
    session::{Answers, Session},
};

pub(crate) fn ping(_session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    match args.len() {
        1 => reply.simple("PONG"),
        2 => reply.bulk(args.get(1)),
        _ => return Err(Refusal::arity("ping")),
    }
    Ok(())
}

pub(crate) fn echo(_session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    reply.bulk(args.get(1));
    Ok(())
}

pub(crate) fn select(_session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    super::keys::only_database(args.get(1))?;
    reply.simple("OK");
    Ok(())
}

const WRONG_PASSWORD: Refusal = Refusal::new("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORDS: Refusal = Refusal::new(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is \
     correct?",
);
const HELLO_FIRST: Refusal = Refusal::new(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option \
     can be used to authenticate the client and select the RESP protocol version at the same time",
);

/// Who one says one is.
#[derive(Clone, Copy)]
struct Claim<'a> {
    /// `None`: there is only a password, or a token.
    name: Option<&'a [u8]>,
    password: &'a [u8],
}

/// Becomes whoever the claim proves. Without users everybody is `default`, with any password.
async fn authenticate(session: &mut Session, claim: Claim<'_>) -> Done {
    let door = &session.door;
    if !door.access.is_locked() {
        return match claim.name {
            None => Err(NO_PASSWORDS),
            Some(b"default") => Ok(()),
            Some(_) => Err(WRONG_PASSWORD),
        };
    }
    let shown = Shown::Password { name: claim.name.unwrap_or(b"default"), password: claim.password };
    let caller = door.access.authenticate(door.arrival().clone(), shown, door.clock().monotonic()).await;
    let caller = caller.map_err(|refused| match refused {
        Refused::Wrong => WRONG_PASSWORD,
        other => Refusal::from(format!("TRYAGAIN {}", other.message())),
    })?;
    session.enter(door.with_caller(caller));
    Ok(())
}

/// AUTH [username] password: also a token, with or without its user's name.
pub(crate) async fn auth(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let claim = match args.len() {
        2 => Claim { name: None, password: args.get(1) },
        3 => Claim { name: Some(args.get(1)), password: args.get(2) },
        _ => return Err(SYNTAX),
    };
    authenticate(session, claim).await?;
    reply.simple("OK");
    Ok(())
}

/// What HELLO asks for: [protover [AUTH username password] [SETNAME name]].
struct Hello<'a> {
    protocol: Option<Protocol>,
    claim: Option<Claim<'a>>,
    name: Option<&'a [u8]>,
}

impl<'a> Hello<'a> {
    fn parse(args: Args<'a>) -> Done<Self> {
        let protocol = if args.len() > 1 { Some(protocol(args.get(1))?) } else { None };
        let mut hello = Self { protocol, claim: None, name: None };
        let mut words = args.from(2);
        while let Some(word) = words.next() {
            let unknown = || format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(word));
            if is(word, "AUTH") {
                let (Some(user), Some(password)) = (words.next(), words.next()) else {
                    return Err(unknown().into());
                };
                hello.claim = Some(Claim { name: Some(user), password });
            } else if is(word, "SETNAME") {
                let given = words.next().ok_or_else(|| Refusal::from(unknown()))?;
                check_name(given)?;
                hello.name = Some(given);
            } else {
                return Err(unknown().into());
            }
        }
        Ok(hello)
    }

    fn greet(self, session: &mut Session, reply: &mut Reply<'_>) -> Done {
        if !session.door.is_known() {
            return Err(HELLO_FIRST);
        }
        if let Some(name) = self.name {
            session.client.told().name = name.to_vec();
        }
        session.protocol = self.protocol.unwrap_or(session.protocol);
        reply.speak(session.protocol);
        greet(session, reply);
        Ok(())
    }
}

/// Whether a HELLO says who one is.
pub(crate) fn hello_authenticates(args: Args<'_>) -> bool {
    Hello::parse(args).is_ok_and(|hello| hello.claim.is_some())
}

/// HELLO with AUTH.
pub(crate) async fn hello_as(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let hello = Hello::parse(args)?;
    if let Some(claim) = hello.claim {
        authenticate(session, claim).await?;
    }
    hello.greet(session, reply)
}

/// HELLO without AUTH.
pub(crate) fn hello(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    Hello::parse(args)?.greet(session, reply)
}

fn protocol(text: &[u8]) -> Done<Protocol> {
    let not_an_integer = Refusal::new("ERR Protocol version is not an integer or out of range");
    match integer(text).map_err(|_| not_an_integer)? {
        2 => Ok(Protocol::Resp2),
        3 => Ok(Protocol::Resp3),
        _ => Err(Refusal::new("NOPROTO unsupported protocol version")),
    }
}

fn greet(session: &Session, reply: &mut Reply<'_>) {
    reply.map(7);
    let mut pair = |name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    // Clients decide by these what they may use: they are told of the Redis whose commands these are.
    pair("server", "redis");
    pair("version", super::server::REDIS_VERSION);
    reply.bulk(b"proto");
    reply.integer(if session.protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(i64::try_from(session.client.id).unwrap_or(i64::MAX));
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    // Every node takes writes.
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
}

pub(crate) fn client_id(session: &mut Session, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    reply.integer(i64::try_from(session.client.id).unwrap_or(i64::MAX));
    Ok(())
}

pub(crate) fn client_info(session: &mut Session, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    reply.text(&(session.client.line() + "\n"));
    Ok(())
}

/// CLIENT LIST [TYPE normal] [ID id ...].
pub(crate) fn client_list(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let ids = match (args.len(), args.from(2).next()) {
        (2, _) => None,
        (4, Some(word)) if is(word, "TYPE") => {
            let kinds = ["normal", "master", "replica", "slave", "pubsub"];
            let kind = args.get(3);
            if !kinds.iter().any(|known| is(kind, known)) {
                return Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(kind)).into());
            }
            (!is(kind, "normal")).then(Vec::new)
        }
        (4.., Some(word)) if is(word, "ID") => {
            Some(args.from(3).map(client_number).collect::<Done<Vec<u64>>>()?)
        }
        _ => return Err(SYNTAX),
    };
    let all = session.door.resp.clients.all();
    let wanted = all.iter().filter(|client| ids.as_ref().is_none_or(|ids| ids.contains(&client.id)));
    let lines: String = wanted.map(|client| client.line() + "\n").collect();
    reply.text(&lines);
    Ok(())
}

fn client_number(text: &[u8]) -> Done<u64> {
    integer(text).ok().and_then(|id| u64::try_from(id).ok()).ok_or(Refusal::new("ERR Invalid client ID"))
}

/// CLIENT KILL addr:port, or [ID id] [ADDR addr:port] [LADDR addr:port] [SKIPME yes|no].
pub(crate) fn client_kill(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    if args.len() == 3 {
        let killed = kill(session, &[Filter::Peer(args.get(2))], false);
        return match killed {
            0 => Err(Refusal::new("ERR No such client")),
            _ => {
                reply.simple("OK");
                Ok(())
            }
        };
    }
    let (mut filters, mut skip_me) = (Vec::new(), true);
    let mut words = args.from(2);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(SYNTAX)?;
        match word {
            word if is(word, "ID") => {
                let id = client_number(value).ok().filter(|id| *id > 0);
                filters.push(Filter::Id(id.ok_or(Refusal::new("ERR client-id should be greater than 0"))?));
            }
            word if is(word, "ADDR") => filters.push(Filter::Peer(value)),
            word if is(word, "LADDR") => filters.push(Filter::Local(value)),
            word if is(word, "SKIPME") && is(value, "yes") => skip_me = true,
            word if is(word, "SKIPME") && is(value, "no") => skip_me = false,
            _ => return Err(SYNTAX),
        }
    }
    reply.integer(kill(session, &filters, skip_me));
    Ok(())
}

enum Filter<'a> {
    Id(u64),
    Peer(&'a [u8]),
    Local(&'a [u8]),
}

fn kill(session: &Session, filters: &[Filter<'_>], skip_me: bool) -> i64 {
    let is_at = |address: Option<std::net::SocketAddr>, text: &[u8]| {
        address.is_some_and(|address| address.to_string().as_bytes() == text)
    };
    let all = session.door.resp.clients.all();
    let fits = all.iter().filter(|client| {
        let mine = client.id == session.client.id;
        !(mine && skip_me)
            && filters.iter().all(|filter| match filter {
                Filter::Id(id) => client.id == *id,
                Filter::Peer(text) => is_at(client.peer, text),
                Filter::Local(text) => is_at(client.local, text),
            })
    });
    fits.map(|client| client.killed.notify_one()).count() as i64
}

pub(crate) fn client_getname(session: &mut Session, _args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let name = session.client.told().name.clone();
    reply.bulk_or_null(Some(name.as_slice()).filter(|name| !name.is_empty()));
    Ok(())
}

/// Names are told in lists of one line each.
fn check_name(name: &[u8]) -> Done {
    match name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        true => check_told_len(name),
        false => Err(Refusal::new("ERR Client names cannot contain spaces, newlines or special characters.")),
    }
}

fn check_told_len(text: &[u8]) -> Done {
    const LEN_MAX: usize = 1024;
    match text.len() <= LEN_MAX {
        true => Ok(()),
        false => Err(Refusal::new("ERR a client's name has at most 1024 bytes")),
    }
}

pub(crate) fn client_setname(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    check_name(args.get(2))?;
    session.client.told().name = args.get(2).to_vec();
    reply.simple("OK");
    Ok(())
}

pub(crate) fn client_setinfo(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    let (what, value) = (args.get(2), args.get(3));
    let name = String::from_utf8_lossy(what).into_owned();
    if !value.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Err(format!("ERR {name} cannot contain spaces, newlines or special characters.").into());
    }
    check_told_len(value)?;
    match what {
        word if is(word, "lib-name") => session.client.told().library = value.to_vec(),
        word if is(word, "lib-ver") => session.client.told().library_version = value.to_vec(),
        _ => return Err(format!("ERR Unrecognized option '{name}'").into()),
    }
    reply.simple("OK");
    Ok(())
}

/// CLIENT NO-EVICT and NO-TOUCH: clients are not evicted, and being read changes nothing of a key, so both hold anyhow.
pub(crate) fn client_switch(_session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    match is(args.get(2), "on") || is(args.get(2), "off") {
        true => reply.simple("OK"),
        false => return Err(SYNTAX),
    }
    Ok(())
}

pub(crate) fn client_reply(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) -> Done {
    match args.get(2) {
        word if is(word, "on") => {
            session.answers = Answers::On;
            reply.simple("OK");
        }
        word if is(word, "off") => session.answers = Answers::Off,
        word if is(word, "skip") => {
            if session.answers == Answers::On {
                session.answers = Answers::SkipNext;
            }
        }
        _ => return Err(SYNTAX),
    }
    Ok(())
}
