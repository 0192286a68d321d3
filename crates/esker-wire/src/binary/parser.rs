//! From bytes to requests, a piece at a time.

use std::{fmt, ops::Range};

use super::{
    HEADER_LEN_MAX, TOKEN_LEN_MAX,
    header::{Header, Verb},
    items::{Items, Line},
    text,
};
use crate::{ErrorCode, KEY_LEN_MAX, mget::KEYS_MAX};

/// What a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParserLimits {
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Parts of a `BPUT` or a `BATCH`.
    pub batch_ops: usize,
    /// Bytes of the keys and values of a request of many parts, but for a single one.
    pub batch_bytes: usize,
}

/// Bytes that are no request. The connection cannot go on: nobody knows where the next one begins, or it would have to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// For programs: `BadRequest` or `PayloadTooLarge`.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl Malformed {
    pub(super) fn line(message: String) -> Self {
        Self { code: ErrorCode::BadRequest, message: format!("{message}: closing") }
    }

    fn too_large(what: &str, got: usize, limit: usize) -> Self {
        let message = format!("{what}: {got}, the limit is {limit}: closing");
        Self { code: ErrorCode::PayloadTooLarge, message }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Malformed {}

/// Where a request lies in the buffer.
#[derive(Debug, Clone)]
pub struct Frame {
    header: Header,
    body: Range<usize>,
}

impl Frame {
    /// The request, in the buffer in which it was found.
    pub fn request<'a>(&self, input: &'a [u8]) -> Request<'a> {
        Request { header: self.header, body: &input[self.body.clone()] }
    }
}

/// A request whose every byte is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Its header.
    pub header: Header,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The key, the range's start, or the token.
    pub fn first(&self) -> &'a [u8] {
        &self.body[..self.header.first]
    }

    /// The value, or the range's end.
    pub fn second(&self) -> &'a [u8] {
        &self.body[self.header.first..]
    }

    /// The parts of a request of many.
    pub fn items(&self) -> Items<'a> {
        Items::new(self.body)
    }

    /// How many bytes follow its header.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }
}

/// What the parser is in the middle of.
#[derive(Debug, Clone, Copy)]
enum State {
    /// The next byte begins a header.
    Between,
    /// So many bytes are to follow the header.
    Body(Header, usize),
    /// So many parts are to follow, and so many bytes of keys and values are there already.
    Parts { header: Header, left: usize, bytes: usize },
    /// The same within a part of so many bytes.
    Part { header: Header, left: usize, bytes: usize, len: usize },
}

/// Finds requests in a buffer that grows at its end and is cut off at its start.
#[derive(Debug)]
pub struct Parser {
    limits: ParserLimits,
    state: State,
    /// Where the present request begins.
    start: usize,
    /// Where what follows its header begins.
    body: usize,
    /// All before is parsed.
    at: usize,
    /// There is no line's end between `at` and here.
    searched: usize,
}

impl Parser {
    /// A parser at the beginning of an empty buffer.
    pub fn new(limits: ParserLimits) -> Self {
        Self { limits, state: State::Between, start: 0, body: 0, at: 0, searched: 0 }
    }

    /// The next request, if it is there as a whole. `input` is the buffer: what was handed in before, less what was
    /// [forgotten](Parser::forget), and what has come since.
    ///
    /// Errors: the buffer holds something that is no request. There is no going on.
    pub fn parse(&mut self, input: &[u8]) -> Result<Option<Frame>, Malformed> {
        loop {
            let (header, is_there) = match self.state {
                State::Between => match self.line(input)? {
                    None => return Ok(None),
                    Some(line) => {
                        let header = Header::read(&input[line])?;
                        self.body = self.at;
                        self.state = self.begin(header)?;
                        continue;
                    }
                },
                State::Body(header, len) => (header, self.skip(input, len)),
                State::Parts { header, left: 0, .. } => (header, true),
                State::Parts { header, left, bytes } => match self.line(input)? {
                    None => return Ok(None),
                    Some(line) => {
                        let part = Line::read(header.verb, &input[line])?;
                        let len = self.check_part(&part, bytes)?;
                        self.state = State::Part { header, left: left - 1, bytes: bytes + len, len };
                        continue;
                    }
                },
                State::Part { header, left, bytes, len } => {
                    if self.skip(input, len) {
                        self.state = State::Parts { header, left, bytes };
                        continue;
                    }
                    (header, false)
                }
            };
            return Ok(is_there.then(|| self.finish(header)));
        }
    }

    fn begin(&self, header: Header) -> Result<State, Malformed> {
        let Header { verb, first, second, .. } = header;
        match verb {
            Verb::Bput | Verb::Batch | Verb::Mget => {
                let limit = if verb == Verb::Mget { KEYS_MAX } else { self.limits.batch_ops };
                match first {
                    0 => Err(Malformed::line(format!("{} of nothing", verb.as_str()))),
                    count if count > limit => Err(Malformed::too_large("parts", count, limit)),
                    left => Ok(State::Parts { header, left, bytes: 0 }),
                }
            }
            Verb::Auth if first > TOKEN_LEN_MAX => {
                Err(Malformed::too_large("bytes of a token", first, TOKEN_LEN_MAX))
            }
            Verb::Range | Verb::DelRange => {
                check_key(first)?;
                check_key(second)?;
                Ok(State::Body(header, first + second))
            }
            _ => {
                check_key(first)?;
                self.check_value(second)?;
                Ok(State::Body(header, first + second))
            }
        }
    }

    fn check_value(&self, len: usize) -> Result<(), Malformed> {
        let limit = self.limits.value_bytes;
        if len > limit { Err(Malformed::too_large("bytes of a value", len, limit)) } else { Ok(()) }
    }

    /// The length of a part that may follow so many bytes of others.
    fn check_part(&self, part: &Line, before: usize) -> Result<usize, Malformed> {
        check_key(part.first)?;
        if part.are_keys {
            check_key(part.second)?
        } else {
            self.check_value(part.second)?
        }
        let (len, limit) = (part.first + part.second, self.limits.batch_bytes);
        if before > 0 && before + len > limit {
            return Err(Malformed::too_large("bytes of keys and values", before + len, limit));
        }
        Ok(len)
    }

    /// The next line, without its end, if it is there as a whole.
    fn line(&mut self, input: &[u8]) -> Result<Option<Range<usize>>, Malformed> {
        let end = text::line_end(input, &mut self.searched);
        if end.unwrap_or(input.len()) - self.at >= HEADER_LEN_MAX {
            return Err(Malformed::line(format!("a header has more than {HEADER_LEN_MAX} bytes")));
        }
        Ok(end.map(|end| {
            let line = self.at..end;
            (self.at, self.searched) = (end + 1, end + 1);
            line
        }))
    }

    /// Goes on behind so many bytes, if they are there.
    fn skip(&mut self, input: &[u8], len: usize) -> bool {
        let is_there = input.len() - self.at >= len;
        if is_there {
            self.at += len;
            self.searched = self.at;
        }
        is_there
    }

    fn finish(&mut self, header: Header) -> Frame {
        let frame = Frame { header, body: self.body..self.at };
        (self.state, self.start) = (State::Between, self.at);
        frame
    }

    /// Where the present request begins in the buffer: all before belongs to requests that were taken.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Whether a request has begun and is not there as a whole.
    pub fn is_within(&self, input: &[u8]) -> bool {
        self.start < input.len()
    }

    /// How many bytes have to come at least before there is anything to parse.
    pub fn missing(&self, input: &[u8]) -> usize {
        match self.state {
            State::Body(_, len) | State::Part { len, .. } => {
                (self.at + len).saturating_sub(input.len()).max(1)
            }
            State::Between | State::Parts { .. } => 1,
        }
    }

    /// The caller has cut off all before [`Parser::start`].
    pub fn forget(&mut self) {
        let cut = std::mem::take(&mut self.start);
        self.at -= cut;
        self.searched -= cut;
        self.body = self.body.saturating_sub(cut);
    }
}

fn check_key(len: usize) -> Result<(), Malformed> {
    if len > KEY_LEN_MAX { Err(Malformed::too_large("bytes of a key", len, KEY_LEN_MAX)) } else { Ok(()) }
}
