//! Answers, and how they are written.

use std::{borrow::Cow, io::Write};

use bytes::Bytes;

use crate::ErrorCode;

/// A part of what a request is answered: all of it, but for ranges and many keys. `B` is what bytes are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<B = Bytes> {
    /// Done, at this version.
    Ok {
        /// The version.
        version: u64,
        /// More of it.
        extras: Extras,
    },
    /// A value.
    Value {
        /// The value.
        value: B,
        /// The write that put it.
        version: u64,
        /// More of it.
        extras: Extras,
    },
    /// The key is absent.
    NotFound {
        /// More of it.
        extras: Extras,
    },
    /// What is known of a key without its value.
    Meta {
        /// The value's length.
        len: u64,
        /// The write that put it.
        version: u64,
        /// More of it.
        extras: Extras,
    },
    /// So many values or absences follow.
    Values {
        /// How many.
        count: u64,
        /// More of it.
        extras: Extras,
    },
    /// So many pairs follow.
    Pairs {
        /// How many.
        count: u64,
        /// More of it.
        extras: Extras,
    },
    /// One of them.
    Pair {
        /// The key.
        key: B,
        /// The value.
        value: B,
        /// The write that put it, and when it expires, where that was asked for; 0 for never.
        meta: Option<(u64, u64)>,
    },
    /// The range is through.
    End {
        /// Whether there is more behind its limit.
        next: bool,
    },
    /// JSON.
    Info(B),
    /// The server is there.
    Pong,
    /// Nothing was done.
    TryLater {
        /// When to ask again.
        retry_ms: u64,
        /// More of it.
        extras: Extras,
    },
    /// It was not done.
    Error {
        /// For programs, in capitals.
        code: Cow<'static, str>,
        /// For people.
        message: B,
        /// More of it.
        extras: Extras,
    },
}

/// The extra words of an answer; by default none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extras {
    /// When the key expires, in milliseconds since 1970.
    pub expires: Option<u64>,
    /// What the node had applied that answered.
    pub applied: Option<u64>,
    /// Whether the key was there: 1 or 0.
    pub existed: Option<u64>,
    /// What an increment came to.
    pub sum: Option<i64>,
    /// How many keys were deleted.
    pub deleted: Option<u64>,
    /// How many operations were done.
    pub operations: Option<u64>,
    /// The version that a key is at whose condition does not hold.
    pub version: Option<u64>,
    /// When to ask how a write ended, in milliseconds.
    pub retry: Option<u64>,
    /// Why it is too early.
    pub code: Option<ErrorCode>,
}

impl Extras {
    /// Of something that expires then.
    pub fn expiring(expires: Option<u64>) -> Self {
        Self { expires, ..Self::default() }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let numbers = [
            ("expires", self.expires),
            ("applied", self.applied),
            ("existed", self.existed),
            ("deleted", self.deleted),
            ("operations", self.operations),
            ("version", self.version),
            ("retry", self.retry),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                put(out, format_args!(" {name}={number}"));
            }
        }
        if let Some(sum) = self.sum {
            put(out, format_args!(" sum={sum}"));
        }
        if let Some(code) = self.code {
            put(out, format_args!(" code={}", code.as_str().to_ascii_uppercase()));
        }
    }
}

fn put(out: &mut Vec<u8>, line: std::fmt::Arguments<'_>) {
    out.write_fmt(line).expect("writing to a vector cannot fail");
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends an answer.
pub fn write_answer<B: AsRef<[u8]>>(out: &mut Vec<u8>, answer: &Answer<B>) {
    let end = |out: &mut Vec<u8>, extras: &Extras| {
        extras.write(out);
        out.push(b'\n');
    };
    let len = |bytes: &B| bytes.as_ref().len() as u64;
    match answer {
        Answer::Ok { version, extras } => {
            out.extend_from_slice(b"OK");
            number(out, *version);
            end(out, extras);
        }
        Answer::Value { value, version, extras } => {
            out.extend_from_slice(b"VALUE");
            number(out, len(value));
            number(out, *version);
            end(out, extras);
            out.extend_from_slice(value.as_ref());
        }
        Answer::NotFound { extras } => {
            out.extend_from_slice(b"NOT_FOUND");
            end(out, extras);
        }
        Answer::Meta { len, version, extras } => {
            out.extend_from_slice(b"META");
            number(out, *len);
            number(out, *version);
            end(out, extras);
        }
        Answer::Values { count, extras } => {
            out.extend_from_slice(b"VALUES");
            number(out, *count);
            end(out, extras);
        }
        Answer::Pairs { count, extras } => {
            out.extend_from_slice(b"PAIRS");
            number(out, *count);
            end(out, extras);
        }
        Answer::Pair { key, value, meta } => {
            out.extend_from_slice(itoa::Buffer::new().format(len(key)).as_bytes());
            number(out, len(value));
            if let Some((version, expires)) = meta {
                number(out, *version);
                number(out, *expires);
            }
            out.push(b'\n');
            out.extend_from_slice(key.as_ref());
            out.extend_from_slice(value.as_ref());
        }
        Answer::End { next } => out.extend_from_slice(if *next { b"END next\n" } else { b"END\n" }),
        Answer::Info(json) => {
            out.extend_from_slice(b"INFO");
            number(out, len(json));
            out.push(b'\n');
            out.extend_from_slice(json.as_ref());
        }
        Answer::Pong => out.extend_from_slice(b"PONG\n"),
        Answer::TryLater { retry_ms, extras } => {
            out.extend_from_slice(b"TRY_LATER");
            number(out, *retry_ms);
            end(out, extras);
        }
        Answer::Error { code, message, extras } => {
            put(out, format_args!("ERR {code} {}", len(message)));
            end(out, extras);
            out.extend_from_slice(message.as_ref());
        }
    }
}
