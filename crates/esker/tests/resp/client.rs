//! A client of the Redis protocol that shows every answer as text, and can be rude.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// No test waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Answer>),
    /// Of RESP3.
    Map(Vec<(Answer, Answer)>),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &mut dyn Iterator<Item = &Answer>| {
            for (at, item) in items.enumerate() {
                write!(f, "{}{item}", if at > 0 { " " } else { "" })?;
            }
            Ok(())
        };
        match self {
            Self::Simple(text) => f.write_str(text),
            Self::Error(text) => write!(f, "(error) {text}"),
            Self::Integer(number) => write!(f, "(integer) {number}"),
            Self::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Nil => f.write_str("(nil)"),
            Self::Array(items) => {
                f.write_str("[")?;
                list(f, &mut items.iter())?;
                f.write_str("]")
            }
            // As RESP2 has it, so that one script serves both versions.
            Self::Map(pairs) => {
                f.write_str("[")?;
                list(f, &mut pairs.iter().flat_map(|(key, value)| [key, value]))?;
                f.write_str("]")
            }
        }
    }
}

impl Answer {
    /// The text of a string, simple or not.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Simple(text) | Self::Error(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => other.to_string(),
        }
    }

    pub(crate) fn items(self) -> Vec<Answer> {
        match self {
            Self::Array(items) => items,
            other => panic!("no array: {other}"),
        }
    }
}

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// One command, its words separated by spaces, and its answer.
    pub(crate) fn ask(&mut self, line: &str) -> Answer {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.call(&words)
    }

    /// One command and its answer.
    pub(crate) fn call(&mut self, words: &[&[u8]]) -> Answer {
        self.send(&encode(words));
        self.answer()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends as much as is taken without waiting; how much that was.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stream = self.stream.get_mut();
        stream.set_nonblocking(true)?;
        let sent = stream.write(bytes);
        stream.set_nonblocking(false)?;
        sent
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    pub(crate) fn try_answer(&mut self) -> io::Result<Answer> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let (kind, rest) = (line[0], String::from_utf8_lossy(&line[1..]).into_owned());
        let number = || rest.parse::<i64>().unwrap_or_else(|_| panic!("{}", line.escape_ascii()));
        Ok(match kind {
            b'+' => Answer::Simple(rest),
            b'-' => Answer::Error(rest),
            b':' => Answer::Integer(number()),
            b'_' => Answer::Nil,
            b'$' | b'*' if number() < 0 => Answer::Nil,
            b'$' => Answer::Bulk(self.bytes(number() as usize)?),
            b'=' => Answer::Bulk(self.bytes(number() as usize)?.split_off("txt:".len())),
            b'*' | b'~' => {
                Answer::Array((0..number()).map(|_| self.try_answer()).collect::<io::Result<_>>()?)
            }
            b'%' => {
                let pairs = (0..number()).map(|_| Ok((self.try_answer()?, self.try_answer()?)));
                Answer::Map(pairs.collect::<io::Result<_>>()?)
            }
            other => panic!("an answer of an unknown kind {other}: {rest}"),
        })
    }

    fn bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len + 2];
        self.stream.read_exact(&mut bytes)?;
        assert!(bytes.ends_with(b"\r\n"));
        bytes.truncate(len);
        Ok(bytes)
    }

    /// All that still comes, as text.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Whether the server closes the connection, after whatever it still says.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// A command as an array of strings.
pub(crate) fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
