//! What follows the header of a request of many parts.

use std::borrow::Cow;

use super::{
    header::{Header, Verb, condition},
    options::{Options, write_demand},
    parser::Malformed,
    text,
};
use crate::batch::{Expiry, Operation, Range};

/// The parts of a request, each a line and the bytes that it announces.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    rest: &'a [u8],
}

/// A part's line, and its two lengths.
pub(super) struct Line {
    pub(super) first: usize,
    pub(super) second: usize,
    /// Whether both are keys, as of a range.
    pub(super) are_keys: bool,
}

impl Line {
    /// Reads the line of a part of such a request. Errors: it is none.
    pub(super) fn read(verb: Verb, line: &[u8]) -> Result<Self, Malformed> {
        let wrong = || {
            let line = text::shown(line);
            Malformed::line(format!("`{line}` is no part of {}", verb.as_str()))
        };
        let mut words = line.split(|&byte| byte == b' ');
        let mut length = || words.next().and_then(text::number).ok_or_else(wrong);
        match verb {
            Verb::Mget => {
                let first = length()?;
                words.next().is_none().then_some(Self { first, second: 0, are_keys: true }).ok_or_else(wrong)
            }
            Verb::Bput => {
                let (first, second) = (length()?, length()?);
                words.next().is_none().then_some(Self { first, second, are_keys: false }).ok_or_else(wrong)
            }
            _ => operation(line).map(|(line, _)| line),
        }
    }
}

/// What an operation's line says beside its lengths.
enum Doing {
    Condition(crate::batch::Demand),
    Other(Header),
}

fn operation(line: &[u8]) -> Result<(Line, Doing), Malformed> {
    if let Some((first, demand)) = condition(line) {
        return Ok((Line { first, second: 0, are_keys: true }, Doing::Condition(demand)));
    }
    let header = Header::read_as(line, true)?;
    match header.verb {
        Verb::Put | Verb::Del | Verb::Incr | Verb::DelRange => {
            let (first, second, are_keys) = (header.first, header.second, header.verb != Verb::Put);
            Ok((Line { first, second, are_keys }, Doing::Other(header)))
        }
        other => Err(Malformed::line(format!("{} is no operation of a batch", other.as_str()))),
    }
}

impl<'a> Items<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// The next part: its line, and its bytes.
    fn next(&mut self, verb: Verb) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
        let end = self.rest.iter().position(|&byte| byte == b'\n')?;
        let (line, rest) = (&self.rest[..end], &self.rest[end + 1..]);
        let Line { first, second, .. } = Line::read(verb, line).ok()?;
        let (first, rest) = rest.split_at_checked(first)?;
        let (second, rest) = rest.split_at_checked(second)?;
        self.rest = rest;
        Some((line, first, second))
    }

    /// As keys of `MGET`.
    pub fn keys(mut self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || self.next(Verb::Mget).map(|(_, key, _)| key))
    }

    /// As keys and values of `BPUT`.
    pub fn pairs(mut self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        std::iter::from_fn(move || self.next(Verb::Bput).map(|(_, key, value)| (key, value)))
    }

    /// As operations of `BATCH`.
    pub fn operations(mut self) -> impl Iterator<Item = Operation<'a>> {
        std::iter::from_fn(move || {
            let (line, first, second) = self.next(Verb::Batch)?;
            let (_, doing) = operation(line).ok()?;
            Some(decoded(doing, first, second))
        })
    }
}

fn decoded<'a>(doing: Doing, first: &'a [u8], second: &'a [u8]) -> Operation<'a> {
    let (first, second) = (Cow::Borrowed(first), Cow::Borrowed(second));
    match doing {
        Doing::Condition(demand) => Operation::Require { key: first, demand },
        Doing::Other(Header { verb, by, options, .. }) => match verb {
            Verb::Put => Operation::Put { key: first, value: second, expiry: options.expiry },
            Verb::Incr => Operation::Incr { key: first, by },
            Verb::DelRange if options.prefix => Operation::DeleteRange(Range::Prefix(first)),
            Verb::DelRange => Operation::DeleteRange(Range::Between(first, second)),
            _ => Operation::Delete { key: first },
        },
    }
}

/// Operations as `BATCH` has them, encoded as they are added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operations {
    bytes: Vec<u8>,
    count: usize,
}

impl Operations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, operation: &Operation<'_>) {
        self.count += 1;
        put_operation(&mut self.bytes, operation);
    }

    /// How many there are, conditions among them.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What was added, in its order.
    pub fn iter(&self) -> impl Iterator<Item = Operation<'_>> {
        Items::new(&self.bytes).operations()
    }

    /// What follows the header of `BATCH`.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Appends an operation of `BATCH`.
pub fn put_operation(out: &mut Vec<u8>, operation: &Operation<'_>) {
    let header = |verb, first: usize, second: usize| Header::new(verb, first, second, Options::default());
    let with = |expiry: Option<Expiry>| Options { expiry, ..Options::default() };
    let (header, first, second): (_, &[u8], &[u8]) = match operation {
        Operation::Put { key, value, expiry } => {
            (Header { options: with(*expiry), ..header(Verb::Put, key.len(), value.len()) }, key, value)
        }
        Operation::Delete { key } => (header(Verb::Del, key.len(), 0), key, b""),
        Operation::Incr { key, by } => (Header::incr(key.len(), *by, Options::default()), key, b""),
        Operation::DeleteRange(Range::Prefix(prefix)) => {
            let options = Options { prefix: true, ..Options::default() };
            (Header::new(Verb::DelRange, prefix.len(), 0, options), prefix, b"")
        }
        Operation::DeleteRange(Range::Between(start, end)) => {
            (header(Verb::DelRange, start.len(), end.len()), start, end)
        }
        Operation::Require { key, demand } => {
            let mut line = format!("IF {} ", key.len());
            write_demand(&mut line, *demand);
            line.push('\n');
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(key);
            return;
        }
    };
    header.write(out);
    out.extend_from_slice(first);
    out.extend_from_slice(second);
}
