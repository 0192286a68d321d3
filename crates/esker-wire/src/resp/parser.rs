//! From bytes to commands, a piece at a time.
//!
//! ```text
//! *<count>\r\n  then count times  $<length>\r\n<bytes>\r\n      an array of strings
//! <word> <word> ...\n                                          a line of words, if it does not begin with *
//! ```
//!
//! The parser remembers how far it has come, so that no byte is looked at twice, however small the pieces are.

use std::fmt;

use super::{Commands, commands::Word, inline, integer::parse_integer};

/// What a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParserLimits {
    /// Arguments of a command, its name among them.
    pub arguments: usize,
    /// Bytes of one argument.
    pub argument_bytes: usize,
    /// Bytes of a whole command, with all that separates its arguments. At most 2 GiB.
    pub command_bytes: usize,
    /// Bytes of a line: of a whole inline command, or of a length.
    pub line_bytes: usize,
}

impl Default for ParserLimits {
    fn default() -> Self {
        Self { arguments: 1 << 20, argument_bytes: 16 << 20, command_bytes: 128 << 20, line_bytes: 64 << 10 }
    }
}

/// Bytes that are no command. The connection cannot go on: nobody knows where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// An inline command is longer than a line may be.
    InlineTooLong,
    /// The line that tells the number of arguments does not end.
    CountTooLong,
    /// The line that tells an argument's length does not end.
    LengthTooLong,
    /// The number of arguments is none, or too large.
    InvalidCount,
    /// Where an argument should begin is something else.
    NotAString(u8),
    /// An argument's length is none, or too large.
    InvalidLength,
    /// An argument does not end where its length says.
    NoLineEnd,
    /// The arguments have too many bytes together.
    CommandTooLong,
    /// The quotes of an inline command do not match.
    UnbalancedQuotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            Self::InlineTooLong => f.write_str("too big inline request"),
            Self::CountTooLong => f.write_str("too big mbulk count string"),
            Self::LengthTooLong => f.write_str("too big bulk count string"),
            Self::InvalidCount => f.write_str("invalid multibulk length"),
            // A byte that is no letter would break the line that tells of it.
            Self::NotAString(got) if !got.is_ascii_graphic() => f.write_str("expected '$', got ' '"),
            Self::NotAString(got) => write!(f, "expected '$', got '{}'", char::from(*got)),
            Self::InvalidLength => f.write_str("invalid bulk length"),
            Self::NoLineEnd => f.write_str("expected CRLF after an argument"),
            Self::CommandTooLong => f.write_str("too big command"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// What the parser is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next byte begins a command.
    Between,
    /// So many arguments are to come; the next byte begins a length.
    Length { arguments: usize },
    /// An argument of this length, and so many after it.
    Argument { len: usize, arguments: usize },
}

/// Finds commands in a buffer that grows at its end and is cut off at its start.
#[derive(Debug)]
pub struct Parser {
    limits: ParserLimits,
    state: State,
    /// Where the present command begins.
    start: usize,
    /// All before is parsed.
    at: usize,
    /// There is no line's end between `at` and here.
    searched: usize,
    /// The arguments of the present command that are there.
    words: Vec<Word>,
}

impl Parser {
    /// A parser at the beginning of an empty buffer.
    pub fn new(limits: ParserLimits) -> Self {
        Self { limits, state: State::Between, start: 0, at: 0, searched: 0, words: Vec::new() }
    }

    /// Takes the next command, if it is there as a whole; says whether it was. `input` is the buffer: what was handed in
    /// before, less what was [forgotten](Parser::forget), and what has come since.
    ///
    /// Errors: the buffer holds something that is no command. There is no going on.
    pub fn parse(&mut self, input: &[u8], commands: &mut Commands) -> Result<bool, ProtocolError> {
        loop {
            let goes_on = match self.state {
                State::Between => match input.get(self.at) {
                    None => return Ok(false),
                    Some(b'*') => self.count(input)?,
                    Some(_) => {
                        let before = commands.len();
                        match self.inline(input, commands)? {
                            true if commands.len() > before => return Ok(true),
                            is_line => is_line,
                        }
                    }
                },
                State::Length { arguments } => self.length(input, arguments)?,
                State::Argument { len, arguments } => {
                    let is_there = self.argument(input, len, arguments)?;
                    if is_there && arguments == 0 {
                        self.finish(commands);
                        return Ok(true);
                    }
                    is_there
                }
            };
            if !goes_on {
                return Ok(false);
            }
        }
    }

    /// Where the present command begins in the buffer: all before belongs to commands that were taken.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Whether a command has begun and is not there as a whole.
    pub fn is_within(&self, input: &[u8]) -> bool {
        self.start < input.len()
    }

    /// How many bytes have to come at least before there is anything to parse.
    pub fn missing(&self, input: &[u8]) -> usize {
        match self.state {
            State::Argument { len, .. } => (self.at + len + 2).saturating_sub(input.len()).max(1),
            State::Between | State::Length { .. } => 1,
        }
    }

    /// Bytes of memory that it takes.
    pub fn held(&self) -> usize {
        size_of::<Word>() * self.words.capacity()
    }

    /// The caller has cut off all before [`Parser::start`].
    pub fn forget(&mut self) {
        let cut = std::mem::take(&mut self.start);
        self.at -= cut;
        self.searched -= cut;
        // The words of the present command move with it.
        self.words.iter_mut().for_each(|word| word.start -= cut as u32);
    }

    fn finish(&mut self, commands: &mut Commands) {
        const KEPT: usize = 1024;
        commands.push(&self.words);
        self.words.clear();
        self.words.shrink_to(KEPT);
        self.begin_next();
    }

    fn begin_next(&mut self) {
        self.state = State::Between;
        self.start = self.at;
    }

    /// `*<count>`.
    fn count(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let Some(line) = self.line(input, ProtocolError::CountTooLong)? else { return Ok(false) };
        let count = parse_integer(&line[1..]).ok_or(ProtocolError::InvalidCount)?;
        match usize::try_from(count) {
            Ok(0) | Err(_) => self.begin_next(),
            Ok(count) if count > self.limits.arguments => return Err(ProtocolError::InvalidCount),
            Ok(count) => self.state = State::Length { arguments: count - 1 },
        }
        Ok(true)
    }

    /// `$<length>`.
    fn length(&mut self, input: &[u8], arguments: usize) -> Result<bool, ProtocolError> {
        match input.get(self.at) {
            None => return Ok(false),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::NotAString(*other)),
        }
        let Some(line) = self.line(input, ProtocolError::LengthTooLong)? else { return Ok(false) };
        let len = parse_integer(&line[1..]).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|len| *len <= self.limits.argument_bytes).ok_or(ProtocolError::InvalidLength)?;
        if self.at - self.start + len > self.limits.command_bytes {
            return Err(ProtocolError::CommandTooLong);
        }
        self.state = State::Argument { len, arguments };
        Ok(true)
    }

    /// An argument's bytes and the end of its line.
    fn argument(&mut self, input: &[u8], len: usize, arguments: usize) -> Result<bool, ProtocolError> {
        let end = self.at + len;
        match input.get(end..end + 2) {
            None => return Ok(false),
            Some(b"\r\n") => {}
            Some(_) => return Err(ProtocolError::NoLineEnd),
        }
        // Both are bounded by the buffer, which holds a command of bounded length and what was read with its end.
        self.words.push(Word { start: self.at as u32, len: len as u32 });
        self.move_to(end + 2);
        if arguments > 0 {
            self.state = State::Length { arguments: arguments - 1 };
        }
        Ok(true)
    }

    /// A line of words. Whether there is one; it may be empty.
    fn inline(&mut self, input: &[u8], commands: &mut Commands) -> Result<bool, ProtocolError> {
        let Some(end) = self.line_feed(input, ProtocolError::InlineTooLong)? else { return Ok(false) };
        let line = &input[self.at..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        inline::split(line, self.limits.arguments, commands).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.move_to(end + 1);
        self.begin_next();
        Ok(true)
    }

    /// A line that ends with CRLF, without it; `None` if it is not there yet.
    fn line<'a>(
        &mut self,
        input: &'a [u8],
        too_long: ProtocolError,
    ) -> Result<Option<&'a [u8]>, ProtocolError> {
        let Some(end) = self.line_feed(input, too_long)? else { return Ok(None) };
        let line = input[self.at..end].strip_suffix(b"\r").ok_or(match too_long {
            ProtocolError::CountTooLong => ProtocolError::InvalidCount,
            _ => ProtocolError::InvalidLength,
        })?;
        self.move_to(end + 1);
        Ok(Some(line))
    }

    /// Where the present line's LF is.
    fn line_feed(&mut self, input: &[u8], too_long: ProtocolError) -> Result<Option<usize>, ProtocolError> {
        let unseen = input.get(self.searched..).unwrap_or_default();
        match unseen.iter().position(|byte| *byte == b'\n') {
            Some(found) if self.searched + found - self.at <= self.limits.line_bytes => {
                Ok(Some(self.searched + found))
            }
            None if input.len() - self.at <= self.limits.line_bytes => {
                self.searched = input.len();
                Ok(None)
            }
            _ => Err(too_long),
        }
    }

    fn move_to(&mut self, at: usize) {
        self.at = at;
        self.searched = at;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: ParserLimits =
        ParserLimits { arguments: 4, argument_bytes: 8, command_bytes: 40, line_bytes: 16 };

    type Parsed = Vec<Vec<Vec<u8>>>;

    /// Parses what comes in pieces of these lengths, over and over, cutting off what is done after each.
    fn parse(input: &[u8], pieces: &[usize], limits: ParserLimits) -> (Parsed, Option<ProtocolError>) {
        let mut parser = Parser::new(limits);
        let (mut buffer, mut parsed, mut commands) = (Vec::new(), Vec::new(), Commands::default());
        let mut rest = input;
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at((*piece).clamp(1, rest.len().max(1)).min(rest.len()));
            buffer.extend_from_slice(now);
            rest = later;
            loop {
                match parser.parse(&buffer, &mut commands) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(e) => return (parsed, Some(e)),
                }
            }
            for at in 0..commands.len() {
                parsed.push(commands.get(at, &buffer).from(0).map(<[u8]>::to_vec).collect());
            }
            commands.clear();
            buffer.drain(..parser.start());
            parser.forget();
            assert_eq!(parser.start(), 0);
            assert!(parser.missing(&buffer) >= 1);
            if rest.is_empty() {
                break;
            }
        }
        (parsed, None)
    }

    fn texts(commands: &[&[&str]]) -> Parsed {
        let bytes = |command: &&[&str]| command.iter().map(|word| word.as_bytes().to_vec()).collect();
        commands.iter().map(bytes).collect()
    }

    const SEVERAL: &[u8] =
        b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\nget  k\r\n\r\n*0\r\n*-1\r\n\
        *2\r\n$3\r\nGET\r\n$0\r\n\r\nset 'a b' \"\\x00\"\n";

    #[test]
    fn every_split_of_the_bytes_gives_the_same_commands() {
        let expected = texts(&[
            &["PING"],
            &["SET", "k", "\r\n\r\n"],
            &["get", "k"],
            &["GET", ""],
            &["set", "a b", "\0"],
        ]);
        for first in 1..SEVERAL.len() {
            let pieces = [first, SEVERAL.len()];
            assert_eq!(
                parse(SEVERAL, &pieces, ParserLimits::default()),
                (expected.clone(), None),
                "at {first}"
            );
        }
        for piece in 1..20 {
            assert_eq!(
                parse(SEVERAL, &[piece], ParserLimits::default()),
                (expected.clone(), None),
                "by {piece}"
            );
        }
    }

    #[test]
    fn every_malformed_class_is_told_apart() {
        for (input, expected) in [
            (&b"*x\r\n"[..], ProtocolError::InvalidCount),
            (b"*\r\n", ProtocolError::InvalidCount),
            (b"*01\r\n", ProtocolError::InvalidCount),
            (b"*1\n", ProtocolError::InvalidCount),
            (b"*5\r\n", ProtocolError::InvalidCount),
            (b"*99999999999999999999\r\n", ProtocolError::CountTooLong),
            (b"*1111111111111111111111", ProtocolError::CountTooLong),
            (b"*1\r\n:1\r\n", ProtocolError::NotAString(b':')),
            (b"*1\r\n*1\r\n", ProtocolError::NotAString(b'*')),
            (b"*1\r\n$-1\r\n", ProtocolError::InvalidLength),
            (b"*1\r\n$\r\n", ProtocolError::InvalidLength),
            (b"*1\r\n$9\r\n", ProtocolError::InvalidLength),
            (b"*1\r\n$1\n", ProtocolError::InvalidLength),
            (b"*1\r\n$111111111111111111", ProtocolError::LengthTooLong),
            (b"*1\r\n$1\r\nabc", ProtocolError::NoLineEnd),
            (b"*4\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n$8\r\n", ProtocolError::CommandTooLong),
            (b"12345678901234567\r\n", ProtocolError::InlineTooLong),
            (b"12345678901234567", ProtocolError::InlineTooLong),
            (b"get \"k\r\n", ProtocolError::UnbalancedQuotes),
            (b"1 2 3 4 5\r\n", ProtocolError::UnbalancedQuotes),
        ] {
            for piece in [1, 2, 3, input.len()] {
                let (parsed, error) = parse(input, &[piece], SMALL);
                assert_eq!((parsed.len(), error), (0, Some(expected)), "{}", input.escape_ascii());
            }
            let text = expected.to_string();
            assert!(text.starts_with("Protocol error: ") && !text.contains(['\r', '\n']), "{text}");
        }
        assert!(!ProtocolError::NotAString(b'\n').to_string().contains('\n'));
    }

    #[test]
    fn what_was_announced_takes_no_memory() {
        let limits = ParserLimits { argument_bytes: 1 << 30, ..ParserLimits::default() };
        let limits = ParserLimits { command_bytes: 1 << 30, ..limits };
        let mut parser = Parser::new(limits);
        let input = b"*1048576\r\n$1000000000\r\n";
        assert_eq!(parser.parse(input, &mut Commands::default()), Ok(false));
        assert_eq!((parser.held(), parser.missing(input)), (0, 1_000_000_002));
        assert!(parser.is_within(input));
    }

    #[test]
    fn many_arguments_are_given_back() {
        let mut parser = Parser::new(ParserLimits::default());
        let mut input = b"*100000\r\n".to_vec();
        (0..100_000).for_each(|_| input.extend_from_slice(b"$0\r\n\r\n"));
        let mut commands = Commands::default();
        assert_eq!(parser.parse(&input, &mut commands), Ok(true));
        assert_eq!(commands.get(0, &input).len(), 100_000);
        assert!(commands.held() >= 800_000);
        commands.clear();
        assert!(commands.held() < 100_000 && parser.held() < 100_000);
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed(
            commands in proptest::collection::vec(proptest::collection::vec(any::<Vec<u8>>(), 1..5), 0..5),
            pieces in proptest::collection::vec(1..50_usize, 1..5),
        ) {
            let mut input = Vec::new();
            for command in &commands {
                input.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
                for word in command {
                    input.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                    input.extend_from_slice(word);
                    input.extend_from_slice(b"\r\n");
                }
            }
            prop_assert_eq!(parse(&input, &pieces, ParserLimits::default()), (commands, None));
        }

        /// CHECKS 35.
        #[test]
        fn any_bytes_in_any_pieces_are_parsed_alike(
            input in "[*$0-9a\"' \\\\\r\n-]{0,80}", pieces in proptest::collection::vec(1..20_usize, 1..4),
        ) {
            let input = input.as_bytes();
            let (whole, error) = parse(input, &[input.len().max(1)], SMALL);
            let (pieced, pieced_error) = parse(input, &pieces, SMALL);
            prop_assert_eq!(error.is_some(), pieced_error.is_some());
            // What came before the error was handed over with its pieces; as one piece it is lost with it.
            prop_assert!(pieced.len() >= whole.len());
            prop_assert!(error.is_some() || pieced == whole);
        }
    }
}
