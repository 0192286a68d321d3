//! The header line of a request.

use std::fmt::Write;

use super::{
    HEADER_LEN_MAX,
    options::{Options, demand},
    parser::Malformed,
    text,
};
use crate::batch::Demand;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Sets a key.
    Put,
    /// Reads a key.
    Get,
    /// Tells the length of a value.
    Head,
    /// Deletes a key.
    Del,
    /// Adds to the integer that a key holds.
    Incr,
    /// Reads a range.
    Range,
    /// Deletes a range.
    DelRange,
    /// Sets keys, all or none.
    Bput,
    /// Does operations, all or none.
    Batch,
    /// Reads keys at one snapshot.
    Mget,
    /// Tells how the node is.
    Status,
    /// Tells the members.
    Nodes,
    /// Tells that the server is there.
    Ping,
    /// Says who one is.
    Auth,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 14] = [
        Self::Put,
        Self::Get,
        Self::Head,
        Self::Del,
        Self::Incr,
        Self::Range,
        Self::DelRange,
        Self::Bput,
        Self::Batch,
        Self::Mget,
        Self::Status,
        Self::Nodes,
        Self::Ping,
        Self::Auth,
    ];

    /// As headers spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Del => "DEL",
            Self::Incr => "INCR",
            Self::Range => "RANGE",
            Self::DelRange => "DELRANGE",
            Self::Bput => "BPUT",
            Self::Batch => "BATCH",
            Self::Mget => "MGET",
            Self::Status => "STATUS",
            Self::Nodes => "NODES",
            Self::Ping => "PING",
            Self::Auth => "AUTH",
        }
    }

    pub(super) fn find(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str().as_bytes() == word)
    }

    /// How many numbers follow it at least.
    fn numbers(self) -> usize {
        match self {
            Self::Put | Self::Range | Self::DelRange => 2,
            Self::Get | Self::Head | Self::Del | Self::Bput | Self::Batch | Self::Mget | Self::Auth => 1,
            // What is added is a number of its own kind.
            Self::Incr => 1,
            Self::Status | Self::Nodes | Self::Ping => 0,
        }
    }
}

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the request does.
    pub verb: Verb,
    /// The length of the key, of the range's start or of the token; or how many items follow.
    pub first: usize,
    /// The length of the value, or of the range's end.
    pub second: usize,
    /// What an increment adds.
    pub by: i64,
    /// At most so many pairs of a range.
    pub limit: Option<u64>,
    /// The extra words.
    pub options: Options,
}

impl Header {
    /// A header with these lengths, or this number of items, and these extra words.
    pub fn new(verb: Verb, first: usize, second: usize, options: Options) -> Self {
        Self { verb, first, second, by: 0, limit: None, options }
    }

    /// Of an increment.
    pub fn incr(key_len: usize, by: i64, options: Options) -> Self {
        Self { by, ..Self::new(Verb::Incr, key_len, 0, options) }
    }

    /// The same, of a range of at most so many pairs.
    #[must_use]
    pub fn limited(self, limit: Option<u64>) -> Self {
        Self { limit, ..self }
    }

    /// Reads a line, without its end. Errors: it is no header.
    pub fn read(line: &[u8]) -> Result<Self, Malformed> {
        Self::read_as(line, false)
    }

    /// The same, of an operation within a batch if that is said.
    pub(super) fn read_as(line: &[u8], within_batch: bool) -> Result<Self, Malformed> {
        let mut words = line.split(|&byte| byte == b' ').peekable();
        let name = words.next().unwrap_or_default();
        let verb = Verb::find(name)
            .ok_or_else(|| Malformed::line(format!("`{}` is no request", text::shown(name))))?;
        let wrong = || {
            let line = text::shown(line);
            Malformed::line(format!("`{line}` is no header of {}", verb.as_str()))
        };
        let mut header = Self::new(verb, 0, 0, Options::default());
        for place in [&mut header.first, &mut header.second].into_iter().take(verb.numbers()) {
            *place = words.next().and_then(text::number).ok_or_else(wrong)?;
        }
        match verb {
            Verb::Incr => header.by = words.next().and_then(text::signed).ok_or_else(wrong)?,
            Verb::Range => {
                let limit = words.peek().copied().filter(|word| word.first().is_some_and(u8::is_ascii_digit));
                if let Some(limit) = limit {
                    header.limit = Some(text::number(limit).ok_or_else(wrong)?);
                    words.next();
                }
            }
            _ => {}
        }
        for word in words {
            header.options.take(word, verb, within_batch).map_err(|()| {
                let (word, verb) = (text::shown(word), verb.as_str());
                Malformed::line(format!("`{word}` is no word of {verb}, is there twice, or says nothing"))
            })?;
        }
        if header.options.prefix && (header.second > 0 || header.options.after || header.options.before) {
            return Err(Malformed::line("`prefix` goes with a start alone".into()));
        }
        Ok(header)
    }

    /// Appends the line with its end.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut line = String::from(self.verb.as_str());
        let said = "writing to a string cannot fail";
        for number in [self.first, self.second].into_iter().take(self.verb.numbers()) {
            write!(line, " {number}").expect(said);
        }
        if self.verb == Verb::Incr {
            write!(line, " {}", self.by).expect(said);
        }
        if let Some(limit) = self.limit {
            write!(line, " {limit}").expect(said);
        }
        self.options.write(&mut line);
        line.push('\n');
        debug_assert!(line.len() <= HEADER_LEN_MAX, "{line}");
        out.extend_from_slice(line.as_bytes());
    }
}

/// The line of a condition within a batch: `IF <klen> <what>`. `None`: it is no such line.
pub(super) fn condition(line: &[u8]) -> Option<(usize, Demand)> {
    let mut words = line.strip_prefix(b"IF ")?.split(|&byte| byte == b' ');
    let found = (text::number(words.next()?)?, demand(words.next()?)?);
    words.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ack, Ttl, batch::Expiry, binary::SyncWish};

    fn written(header: Header) -> String {
        let mut out = Vec::new();
        header.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn headers_are_read_as_they_are_written() {
        let options = Options {
            expiry: Ttl::from_millis(7).map(Expiry::After),
            condition: Some(Demand::Version(u64::MAX)),
            sync: Some(SyncWish::Every(5)),
            ack: Some(Ack::All),
            id: Some((u64::MAX, 1)),
            more: true,
            ..Options::default()
        };
        let put = Header::new(Verb::Put, 3, 5, options);
        let line = "PUT 3 5 ttl=7 if=18446744073709551615 sync=every:5 ack=all id=ffffffffffffffff-1 more\n";
        assert_eq!(written(put), line);
        assert_eq!(Header::read(line.trim_end().as_bytes()), Ok(put));
        let scan = Options {
            reverse: true,
            keys: true,
            page: Some(9),
            stale: true,
            after: true,
            ..Options::default()
        };
        for header in [
            Header::new(Verb::Range, 1, 2, scan).limited(Some(0)),
            Header::new(Verb::Range, 0, 0, Options::default()),
            Header::incr(1, i64::MIN, Options::default()),
            Header::new(Verb::Ping, 0, 0, Options::default()),
        ] {
            let line = written(header);
            assert_eq!(Header::read(line.trim_end().as_bytes()), Ok(header), "{line}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for line in [
            "",
            " ",
            "PUT",
            "PUT 1",
            "PUT 1 ",
            "PUT  1 1",
            "PUT 1 1 ",
            "put 1 1",
            "PUT 1 1\r",
            "PUT -1 1",
            "PUT 1 x",
            "GET 99999999999999999999999",
            "PING 1",
            "GET 1 2",
            "GET 1 ttl=1",
            "GET 1 more more",
            "GET 1 more=1",
            "PUT 1 1 ttl=0",
            "PUT 1 1 ttl=1 expires=1",
            "PUT 1 1 ttl",
            "PUT 1 1 if=never",
            "PUT 1 1 sync=every:",
            "PUT 1 1 id=1",
            "PUT 1 1 ack=most",
            "PUT 1 1 stale",
            "RANGE 1 1 5 5",
            "RANGE 1 1 -5",
            "RANGE 1 1 prefix",
            "INCR 1",
            "INCR 1 +1",
            "INCR 1 9223372036854775808",
            "BPUT 1 if=absent",
            "STATUS x",
            "IF 1 absent",
        ] {
            assert!(Header::read(line.as_bytes()).is_err(), "{line}");
        }
    }
}
