//! From bytes to answers, a piece at a time.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::{
    HEADER_LEN_MAX,
    answer::{Answer, Extras},
    text,
};
use crate::{ErrorCode, KEY_LEN_MAX};

/// The longest value that is taken: no server is set to more.
const VALUE_LEN_MAX: usize = 1 << 30;
/// The longest JSON, and the longest message of an error.
const TEXT_LEN_MAX: usize = 16 << 20;

/// Bytes that are no answer: another program is there, or it is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAnAnswer(pub String);

impl fmt::Display for NotAnAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAnAnswer {}

/// Takes answers off the front of a buffer. Keys and values are parts of it.
#[derive(Debug, Default)]
pub struct AnswerParser {
    /// So many pairs are still to come.
    pairs: u64,
    missing: usize,
}

/// A line's words, taken one by one.
struct Words<'a>(std::slice::Split<'a, u8, fn(&u8) -> bool>);

impl<'a> Words<'a> {
    fn of(line: &'a [u8]) -> Self {
        Self(line.split(|&byte| byte == b' '))
    }

    fn number(&mut self) -> Option<u64> {
        self.0.next().and_then(text::number)
    }

    fn len(&mut self, max: usize) -> Option<usize> {
        let len = self.0.next().and_then(text::number)?;
        (len <= max).then_some(len)
    }

    /// Words that are not known are skipped: a newer server may have more to say.
    fn extras(self) -> Option<Extras> {
        let mut extras = Extras::default();
        for word in self.0 {
            let Some(at) = word.iter().position(|&byte| byte == b'=') else { continue };
            let (name, value) = (&word[..at], &word[at + 1..]);
            let place = match name {
                b"expires" => &mut extras.expires,
                b"applied" => &mut extras.applied,
                b"existed" => &mut extras.existed,
                b"deleted" => &mut extras.deleted,
                b"operations" => &mut extras.operations,
                b"version" => &mut extras.version,
                b"retry" => &mut extras.retry,
                b"sum" => {
                    extras.sum = Some(text::signed(value)?);
                    continue;
                }
                b"code" => {
                    let code = std::str::from_utf8(value).ok()?.to_ascii_lowercase();
                    extras.code = ErrorCode::from_text(&code);
                    continue;
                }
                _ => continue,
            };
            *place = Some(text::number(value)?);
        }
        Some(extras)
    }
}

/// What a line announces: an answer without its bytes, and how many of them come in two parts.
type Announced = (Answer<()>, usize, usize);

impl AnswerParser {
    /// The next answer, or part of one, if it is there as a whole; it is then cut off the buffer.
    ///
    /// Errors: the buffer holds something that is no answer. There is no going on.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, NotAnAnswer> {
        let mut searched = 0;
        let found = text::line_end(&input[..input.len().min(HEADER_LEN_MAX)], &mut searched);
        let Some(end) = found else {
            self.missing = 1;
            return match input.len() >= HEADER_LEN_MAX {
                true => Err(NotAnAnswer("a line without end".into())),
                false => Ok(None),
            };
        };
        let line = &input[..end];
        let announced = if self.pairs > 0 { pair(line) } else { announced(line) };
        let (answer, first, second) =
            announced.ok_or_else(|| NotAnAnswer(format!("`{}`", text::shown(line))))?;
        let whole = end + 1 + first + second;
        if input.len() < whole {
            self.missing = whole - input.len();
            return Ok(None);
        }
        let mut bytes = input.split_to(whole).freeze().split_off(end + 1);
        let second = bytes.split_off(first);
        match answer {
            Answer::Pairs { count, .. } => self.pairs = count,
            Answer::Pair { .. } => self.pairs -= 1,
            _ => {}
        }
        Ok(Some(with_bytes(answer, bytes, second)))
    }

    /// How many bytes have to come at least before there is a next answer, after there was none.
    pub fn missing(&self) -> usize {
        self.missing
    }
}

fn pair(line: &[u8]) -> Option<Announced> {
    let mut words = Words::of(line);
    let (first, second) = (words.len(KEY_LEN_MAX)?, words.len(VALUE_LEN_MAX)?);
    let meta = match words.0.next() {
        None => None,
        Some(version) => Some((text::number(version)?, words.number()?)),
    };
    Some((Answer::Pair { key: (), value: (), meta }, first, second))
}

fn announced(line: &[u8]) -> Option<Announced> {
    let mut words = Words::of(line);
    let none = |answer| Some((answer, 0, 0));
    match words.0.next()? {
        b"OK" => none(Answer::Ok { version: words.number()?, extras: words.extras()? }),
        b"VALUE" => {
            let len = words.len(VALUE_LEN_MAX)?;
            Some((Answer::Value { value: (), version: words.number()?, extras: words.extras()? }, len, 0))
        }
        b"NOT_FOUND" => none(Answer::NotFound { extras: words.extras()? }),
        b"META" => {
            let (len, version) = (words.number()?, words.number()?);
            none(Answer::Meta { len, version, extras: words.extras()? })
        }
        b"VALUES" => none(Answer::Values { count: words.number()?, extras: words.extras()? }),
        b"PAIRS" => none(Answer::Pairs { count: words.number()?, extras: words.extras()? }),
        b"END" => none(Answer::End { next: words.0.any(|word| word == b"next") }),
        b"INFO" => Some((Answer::Info(()), words.len(TEXT_LEN_MAX)?, 0)),
        b"PONG" => none(Answer::Pong),
        b"TRY_LATER" => none(Answer::TryLater { retry_ms: words.number()?, extras: words.extras()? }),
        b"ERR" => {
            let code = String::from_utf8(words.0.next()?.to_vec()).ok()?;
            let len = words.len(TEXT_LEN_MAX)?;
            Some((Answer::Error { code: code.into(), message: (), extras: words.extras()? }, len, 0))
        }
        _ => None,
    }
}

fn with_bytes(answer: Answer<()>, first: Bytes, second: Bytes) -> Answer {
    match answer {
        Answer::Ok { version, extras } => Answer::Ok { version, extras },
        Answer::Value { version, extras, .. } => Answer::Value { value: first, version, extras },
        Answer::NotFound { extras } => Answer::NotFound { extras },
        Answer::Meta { len, version, extras } => Answer::Meta { len, version, extras },
        Answer::Values { count, extras } => Answer::Values { count, extras },
        Answer::Pairs { count, extras } => Answer::Pairs { count, extras },
        Answer::Pair { meta, .. } => Answer::Pair { key: first, value: second, meta },
        Answer::End { next } => Answer::End { next },
        Answer::Info(()) => Answer::Info(first),
        Answer::Pong => Answer::Pong,
        Answer::TryLater { retry_ms, extras } => Answer::TryLater { retry_ms, extras },
        Answer::Error { code, extras, .. } => Answer::Error { code, message: first, extras },
    }
}
