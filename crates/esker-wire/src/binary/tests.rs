//! Both directions, at any split of the bytes.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    Ack, ErrorCode, KEY_LEN_MAX, Ttl,
    batch::{Demand, Expiry, Operation, Range},
};

const LIMITS: ParserLimits = ParserLimits { value_bytes: 64, batch_ops: 8, batch_bytes: 256 };

/// A request as its client has it.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    header: Header,
    body: Vec<u8>,
}

/// The requests of `input`, handed over in pieces, and the error that it ended with.
fn parse(input: &[u8], pieces: &mut dyn FnMut() -> usize) -> (Vec<Owned>, Option<Malformed>) {
    let mut parser = Parser::new(LIMITS);
    let (mut buffer, mut requests, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        loop {
            match parser.parse(&buffer) {
                Err(e) => return (requests, Some(e)),
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let request = frame.request(&buffer);
                    requests.push(Owned {
                        header: request.header,
                        body: [request.first(), request.second()].concat(),
                    });
                }
            }
        }
        buffer.drain(..parser.start());
        parser.forget();
        assert_eq!(parser.start(), 0);
        if at == input.len() {
            return (requests, None);
        }
        let piece = pieces().clamp(1, input.len() - at);
        buffer.extend_from_slice(&input[at..at + piece]);
        at += piece;
    }
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(b'\n'), Just(b' '), any::<u8>()], 0..=max)
}

fn demand() -> impl Strategy<Value = Demand> {
    prop_oneof![Just(Demand::Absent), Just(Demand::Present), any::<u64>().prop_map(Demand::Version)]
}

fn expiry() -> impl Strategy<Value = Expiry> {
    let ttl = (1..u64::MAX).prop_map(|millis| Expiry::After(Ttl::from_millis(millis).unwrap()));
    prop_oneof![ttl, any::<u64>().prop_map(Expiry::At)]
}

fn write_options() -> impl Strategy<Value = Options> {
    let sync =
        prop_oneof![Just(SyncWish::Always), Just(SyncWish::Never), any::<u64>().prop_map(SyncWish::Every)];
    let ack = prop_oneof![Just(Ack::Majority), Just(Ack::Local), Just(Ack::All)];
    (option::of(sync), option::of(ack), option::of(any::<(u64, u64)>()), any::<bool>())
        .prop_map(|(sync, ack, id, more)| Options { sync, ack, id, more, ..Options::default() })
}

fn operation() -> impl Strategy<Value = Operation<'static>> {
    let key = || bytes(20).prop_map(Cow::<[u8]>::Owned);
    prop_oneof![
        (key(), bytes(20), option::of(expiry())).prop_map(|(key, value, expiry)| Operation::Put {
            key,
            value: value.into(),
            expiry
        }),
        key().prop_map(|key| Operation::Delete { key }),
        (key(), any::<i64>()).prop_map(|(key, by)| Operation::Incr { key, by }),
        key().prop_map(|prefix| Operation::DeleteRange(Range::Prefix(prefix))),
        (key(), key()).prop_map(|(start, end)| Operation::DeleteRange(Range::Between(start, end))),
        (key(), demand()).prop_map(|(key, demand)| Operation::Require { key, demand }),
    ]
}

fn of(header: Header, parts: &[&[u8]]) -> Owned {
    Owned { header, body: parts.concat() }
}

fn request() -> impl Strategy<Value = Owned> {
    let put = (bytes(40), bytes(64), option::of(expiry()), option::of(demand()), write_options()).prop_map(
        |(key, value, expiry, condition, options)| {
            let options = Options { expiry, condition, ..options };
            of(Header::new(Verb::Put, key.len(), value.len(), options), &[&key, &value])
        },
    );
    let get = (bytes(40), any::<bool>(), any::<bool>()).prop_map(|(key, stale, more)| {
        of(Header::new(Verb::Get, key.len(), 0, Options { stale, more, ..Options::default() }), &[&key])
    });
    let incr = (bytes(40), any::<i64>(), write_options())
        .prop_map(|(key, by, options)| of(Header::incr(key.len(), by, options), &[&key]));
    let range =
        (bytes(40), bytes(40), option::of(any::<u64>()), any::<[bool; 5]>(), option::of(any::<u64>()))
            .prop_map(|(start, end, limit, [after, before, reverse, keys, more], page)| {
                let options = Options { after, before, reverse, keys, more, page, ..Options::default() };
                of(Header::new(Verb::Range, start.len(), end.len(), options).limited(limit), &[&start, &end])
            });
    let batch = (vec(operation(), 1..=6), write_options()).prop_map(|(operations, options)| {
        let mut encoded = Operations::new();
        operations.iter().for_each(|operation| encoded.push(operation));
        assert_eq!(encoded.iter().collect::<Vec<_>>(), operations);
        of(Header::new(Verb::Batch, encoded.count(), 0, options), &[&encoded.into_bytes()])
    });
    let plain = prop_oneof![Just(Verb::Ping), Just(Verb::Status), Just(Verb::Nodes)]
        .prop_map(|verb| of(Header::new(verb, 0, 0, Options::default()), &[]));
    prop_oneof![put, get, incr, range, batch, plain]
}

fn extras() -> impl Strategy<Value = Extras> {
    let code = prop_oneof![Just(ErrorCode::Busy), Just(ErrorCode::NoLeader)];
    (option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<i64>()), option::of(code)).prop_map(
        |(expires, applied, sum, code)| Extras {
            expires,
            applied,
            sum,
            code,
            retry: applied,
            ..Extras::default()
        },
    )
}

/// An answer with all that belongs to it.
fn answer() -> impl Strategy<Value = Vec<Answer>> {
    let data = || bytes(60).prop_map(Bytes::from);
    let one = prop_oneof![
        (any::<u64>(), extras()).prop_map(|(version, extras)| Answer::Ok { version, extras }),
        (data(), any::<u64>(), extras()).prop_map(|(value, version, extras)| Answer::Value {
            value,
            version,
            extras
        }),
        extras().prop_map(|extras| Answer::NotFound { extras }),
        (any::<u64>(), any::<u64>(), extras()).prop_map(|(len, version, extras)| Answer::Meta {
            len,
            version,
            extras
        }),
        data().prop_map(Answer::Info),
        Just(Answer::Pong),
        any::<bool>().prop_map(|next| Answer::End { next }),
        (any::<u64>(), extras()).prop_map(|(retry_ms, extras)| Answer::TryLater { retry_ms, extras }),
        (data(), extras()).prop_map(|(message, extras)| Answer::Error {
            code: "BUSY".into(),
            message,
            extras
        }),
    ];
    let pair = (data(), data(), option::of(any::<(u64, u64)>()))
        .prop_map(|(key, value, meta)| Answer::Pair { key, value, meta });
    let pairs = (vec(pair, 0..4), extras()).prop_map(|(pairs, extras)| {
        let head = Answer::Pairs { count: pairs.len() as u64, extras };
        std::iter::once(head).chain(pairs).collect()
    });
    prop_oneof![one.prop_map(|answer| vec![answer]), pairs]
}

proptest! {
    #[test]
    fn requests_arrive_as_they_were_sent(requests in vec(request(), 0..6), pieces in vec(1_usize..40, 1..20)) {
        let mut sent = Vec::new();
        for request in &requests {
            request.header.write(&mut sent);
            sent.extend_from_slice(&request.body);
        }
        let mut pieces = pieces.iter().copied().cycle();
        let (got, error) = parse(&sent, &mut || pieces.next().unwrap());
        prop_assert_eq!(error, None);
        prop_assert_eq!(got, requests);
    }

    #[test]
    fn answers_arrive_as_they_were_sent(answers in vec(answer(), 0..6), pieces in vec(1_usize..40, 1..20)) {
        let answers = answers.concat();
        let mut sent = Vec::new();
        answers.iter().for_each(|answer| write_answer(&mut sent, answer));
        let (mut parser, mut buffer, mut got) = (AnswerParser::default(), BytesMut::new(), Vec::new());
        let (mut pieces, mut at) = (pieces.iter().copied().cycle(), 0);
        while at < sent.len() {
            let piece = pieces.next().unwrap().min(sent.len() - at);
            buffer.extend_from_slice(&sent[at..at + piece]);
            at += piece;
            while let Some(answer) = parser.next(&mut buffer).unwrap() {
                got.push(answer);
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(got, answers);
    }

    #[test]
    fn any_bytes_are_refused_alike_whole_and_in_pieces(input in bytes(200), piece in 1_usize..20) {
        let whole = parse(&input, &mut || usize::MAX);
        prop_assert_eq!(parse(&input, &mut || piece), whole);
    }
}

/// Lengths are refused when they are announced: nothing of what they announce is there.
#[test]
fn what_is_announced_beyond_a_limit_is_refused_at_once() {
    let endless = "P".repeat(HEADER_LEN_MAX);
    for (input, code) in [
        ("PUT 1 65\n", ErrorCode::PayloadTooLarge),
        ("PUT 1 1073741824\n", ErrorCode::PayloadTooLarge),
        ("PUT 65536 1\n", ErrorCode::PayloadTooLarge),
        ("GET 65536\n", ErrorCode::PayloadTooLarge),
        ("GET 18446744073709551615\n", ErrorCode::PayloadTooLarge),
        ("RANGE 65536 1\n", ErrorCode::PayloadTooLarge),
        ("RANGE 1 65536\n", ErrorCode::PayloadTooLarge),
        ("AUTH 4097\n", ErrorCode::PayloadTooLarge),
        ("BPUT 9\n", ErrorCode::PayloadTooLarge),
        ("BPUT 0\n", ErrorCode::BadRequest),
        ("MGET 10001\n", ErrorCode::PayloadTooLarge),
        ("BPUT 2\n1 65\n", ErrorCode::PayloadTooLarge),
        ("BATCH 2\nPUT 1 65\n", ErrorCode::PayloadTooLarge),
        ("BATCH 2\nDELRANGE 1 65536\n", ErrorCode::PayloadTooLarge),
        ("BATCH 2\nGET 1\nk", ErrorCode::BadRequest),
        ("BATCH 2\nPUT 1 1 if=absent\n", ErrorCode::BadRequest),
        ("BATCH 2\nIF 1 maybe\n", ErrorCode::BadRequest),
        ("MGET 2\n1 1\n", ErrorCode::BadRequest),
        (&endless, ErrorCode::BadRequest),
    ] {
        let (requests, error) = parse(input.as_bytes(), &mut || usize::MAX);
        assert_eq!((requests.len(), error.map(|e| e.code)), (0, Some(code)), "{input}");
    }
    let mut many = b"BPUT 8\n".to_vec();
    (0..4).for_each(|_| many.extend([&b"1 64\nk"[..], &[b'v'; 64]].concat()));
    assert_eq!(parse(&many, &mut || 7).1.map(|e| e.code), Some(ErrorCode::PayloadTooLarge));
    // The longest header that there can be is no endless line.
    let long = Header::new(
        Verb::Put,
        KEY_LEN_MAX,
        64,
        Options {
            expiry: Some(Expiry::At(u64::MAX)),
            condition: Some(Demand::Version(u64::MAX)),
            sync: Some(SyncWish::Every(u64::MAX)),
            ack: Some(Ack::Majority),
            id: Some((u64::MAX, u64::MAX)),
            more: true,
            ..Options::default()
        },
    );
    let mut line = Vec::new();
    long.write(&mut line);
    assert_eq!(parse(&line, &mut || 1), (Vec::new(), None));
}

#[test]
fn what_is_no_answer_is_refused() {
    for input in [
        "HTTP/1.1 400 Bad Request\r\n",
        "OK\n",
        "OK x\n",
        "VALUE 1\n",
        "VALUE 99999999999 1\n",
        "INFO 99999999\n",
        "ERR\n",
        "TRY_LATER soon\n",
        "PAIRS 1\n70000 1\n",
        "PAIRS 1\n1 1 7\n",
        "OK 1 sum=x\n",
    ] {
        let mut buffer = BytesMut::from(input);
        let mut parser = AnswerParser::default();
        let mut outcome = parser.next(&mut buffer);
        if matches!(outcome, Ok(Some(Answer::Pairs { .. }))) {
            outcome = parser.next(&mut buffer);
        }
        assert!(outcome.is_err(), "{input}: {outcome:?}");
    }
    assert!(AnswerParser::default().next(&mut BytesMut::from(&[b'O'; HEADER_LEN_MAX][..])).is_err());
    let newer = AnswerParser::default().next(&mut BytesMut::from("OK 1 new=x newer sum=2\n")).unwrap();
    assert_eq!(newer, Some(Answer::Ok { version: 1, extras: Extras { sum: Some(2), ..Extras::default() } }));
}
