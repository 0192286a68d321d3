//! CHECKS 35: Any bytes in any pieces as requests and as answers of the binary protocol: parsed alike whole and in pieces, or
//! refused, within the limits.
#![no_main]

use bytes::BytesMut;
use esker_wire::binary::{Answer, AnswerParser, HEADER_LEN_MAX, Parser, ParserLimits, Verb};
use libfuzzer_sys::fuzz_target;

const LIMITS: ParserLimits = ParserLimits { value_bytes: 256, batch_ops: 16, batch_bytes: 1024 };
const KEY_LEN_MAX: usize = 65_535;

/// The requests of `input`, handed over in pieces of this length; and whether it ended with an error.
fn requests(input: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let mut parser = Parser::new(LIMITS);
    let (mut buffer, mut parsed) = (Vec::new(), Vec::new());
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&buffer) {
                Err(_) => return (parsed, true),
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let request = frame.request(&buffer);
                    let count = match request.header.verb {
                        Verb::Bput => request.items().pairs().count(),
                        Verb::Batch => request.items().operations().count(),
                        Verb::Mget => request.items().keys().count(),
                        _ => {
                            assert_eq!(request.first().len(), request.header.first);
                            assert!(request.second().len() <= KEY_LEN_MAX);
                            request.header.first
                        }
                    };
                    assert_eq!(count, request.header.first);
                    let mut text = Vec::new();
                    request.header.write(&mut text);
                    assert!(text.len() <= HEADER_LEN_MAX);
                    parsed.push(text);
                }
            }
        }
        buffer.drain(..parser.start());
        parser.forget();
    }
    (parsed, false)
}

fn answers(input: &[u8], piece: usize) -> (Vec<Answer>, bool) {
    let (mut parser, mut buffer, mut parsed) = (AnswerParser::default(), BytesMut::new(), Vec::new());
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Err(_) => return (parsed, true),
                Ok(None) => break,
                Ok(Some(answer)) => parsed.push(answer),
            }
        }
    }
    (parsed, false)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let (piece, whole) = (usize::from(piece) + 1, bytes.len().max(1));
    assert_eq!(requests(bytes, whole), requests(bytes, piece));
    assert_eq!(answers(bytes, whole), answers(bytes, piece));
});
