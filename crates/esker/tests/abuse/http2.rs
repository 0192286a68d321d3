//! Calls of gRPC as bytes of HTTP/2, also such as no client would send.

use prost::Message;

/// What a connection begins with: SETTINGS with the largest windows that there are, for each stream and for all of them.
pub(crate) const PREFACE: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff\0\0\x04\x08\0\0\0\0\0\x7f\xfe\0\0";
/// How the frame begins that ends a connection, behind its length: the type, no flags, the connection.
pub(crate) const GOAWAY: &str = "\x07\0\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head in HPACK: two names and values of its table, the others as they are.
fn head(path: &str) -> Vec<u8> {
    let mut head = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        head.extend_from_slice(name);
        head.push(u8::try_from(value.len()).unwrap());
        head.extend_from_slice(value.as_bytes());
    };
    literal(&[0x04], path);
    literal(&[0x01], "test");
    literal(&[0x0f, 0x10], "application/grpc");
    literal(b"\0\x02te", "trailers");
    head
}

fn message(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &message].concat()
}

/// The n-th call of a connection; the first brings what a connection begins with.
pub(crate) fn call(n: u32, path: &str, asked: &impl Message) -> Vec<u8> {
    let stream = 2 * n + 1;
    let head = frame(HEADERS, END_HEADERS, stream, &head(path));
    let body = frame(DATA, END_STREAM, stream, &message(asked));
    [if n == 0 { PREFACE } else { b"" }, &head, &body].concat()
}

/// A frame that breaks off within a head.
pub(crate) fn half_of_a_head(path: &str) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, 1, &head(path));
    [PREFACE, &head[..head.len() / 2]].concat()
}

/// A head, and a frame that breaks off within a message of ten bytes.
pub(crate) fn half_of_a_body(path: &str) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, 1, &head(path));
    let body = frame(DATA, END_STREAM, 1, b"\0\0\0\0\x0aabcdefghij");
    [PREFACE, &head, &body[..body.len() - 5]].concat()
}

/// So much of a body may be in one frame.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 14;

/// A head, the head of the longest frame, and the beginning of a message of a MiB in it.
pub(crate) fn long_body(path: &str) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, 1, &head(path));
    let body = frame(DATA, 0, 1, &[0; FRAME_BYTES_MAX]);
    let frame_head = &body[..body.len() - FRAME_BYTES_MAX];
    [PREFACE, &head, frame_head, b"\0\0\x10\0\0"].concat()
}
