//! What is typed, as commands and words. Pure, and fed piece by piece, so that a quote may span lines.
//!
//! Words are separated by blanks, commands by line ends and `;`. Within `'…'` every byte stands for itself; outside of that `\`
//! begins an escape: `\n` `\t` `\r`, `\xHH` for any byte, and `\` before a blank, a quote, `\`, `;` or `#` for just that; at the
//! end of a line it joins the next one. `#` at the beginning of a word is a comment up to the end of the line.

use std::fmt;

/// A word's bytes.
pub(super) type Word = Vec<u8>;

/// The bytes of one command: a value of 16 MiB with every byte as `\xHH`, and some more.
pub(super) const COMMAND_LEN_MAX: usize = 80 << 20;

/// Why what was typed is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SyntaxError {
    /// No escape begins so.
    UnknownEscape(u8),
    /// `\x` wants two hexadecimal digits.
    NotHex,
    /// The quote that began last has no end.
    Unfinished,
    /// It is longer than [`COMMAND_LEN_MAX`].
    TooLong,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEscape(byte) => {
                write!(
                    f,
                    "\\{} is no escape: a backslash itself is \\\\, any byte \\xHH",
                    byte.escape_ascii()
                )
            }
            Self::NotHex => f.write_str("\\x wants two hexadecimal digits, as in \\x0a"),
            Self::Unfinished => f.write_str("a quote is never closed"),
            Self::TooLong => write!(f, "a command of more than {COMMAND_LEN_MAX} bytes"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Between,
    Bare,
    Single,
    Double,
    Comment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Escape {
    #[default]
    None,
    Begun,
    Hex(Option<u8>),
}

/// Reads commands.
#[derive(Debug, Default)]
pub(super) struct Parser {
    place: Place,
    escape: Escape,
    /// The word that is being read, where one is.
    word: Word,
    /// Where it began, counted from the first byte that was fed.
    word_start: usize,
    /// Where the escape began that may be a word's beginning.
    escape_start: Option<usize>,
    fed: usize,
    /// The words before it, of the same command.
    words: Vec<Word>,
    /// Memory that these words take.
    held: usize,
    commands: std::collections::VecDeque<Vec<Word>>,
}

impl Parser {
    /// Takes the next bytes. After an error what the command holds is forgotten, and the next byte begins another one.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), SyntaxError> {
        for &byte in bytes {
            if let Err(error) = self.byte(byte) {
                *self =
                    Self { fed: self.fed, commands: std::mem::take(&mut self.commands), ..Self::default() };
                return Err(error);
            }
            self.fed += 1;
        }
        Ok(())
    }

    /// The next whole command; never an empty one.
    pub(super) fn take(&mut self) -> Option<Vec<Word>> {
        self.commands.pop_front()
    }

    /// Whether a line's end now would end the command.
    pub(super) fn is_whole(&self) -> bool {
        self.escape == Escape::None && !matches!(self.place, Place::Single | Place::Double)
    }

    /// There is nothing more.
    pub(super) fn finish(&mut self) -> Result<(), SyntaxError> {
        if !self.is_whole() {
            return Err(SyntaxError::Unfinished);
        }
        self.end_command();
        Ok(())
    }

    /// The words of the unfinished command before the one that is being read.
    pub(super) fn words(&self) -> &[Word] {
        &self.words
    }

    /// The word that is being read, and where it began; an empty one here if none is.
    pub(super) fn word(&self) -> (usize, &[u8]) {
        match self.place {
            Place::Between | Place::Comment => (self.fed, b""),
            _ => (self.word_start, &self.word),
        }
    }

    /// Whether what follows is a comment.
    pub(super) fn in_comment(&self) -> bool {
        self.place == Place::Comment
    }

    fn byte(&mut self, byte: u8) -> Result<(), SyntaxError> {
        match (self.escape, self.place) {
            (Escape::Begun, _) => self.escaped(byte),
            (Escape::Hex(first), _) => self.hex(first, byte),
            (Escape::None, Place::Comment) => {
                if byte == b'\n' {
                    self.end_command();
                }
                Ok(())
            }
            (Escape::None, Place::Single) if byte == b'\'' => self.enter(Place::Bare),
            (Escape::None, Place::Single) => self.push(byte),
            (Escape::None, place) if byte == b'\\' => {
                self.escape = Escape::Begun;
                self.escape_start = (place == Place::Between).then_some(self.fed);
                Ok(())
            }
            (Escape::None, Place::Double) if byte == b'"' => self.enter(Place::Bare),
            (Escape::None, Place::Double) => self.push(byte),
            (Escape::None, place) => self.outside(byte, place),
        }
    }

    /// A byte outside of quotes.
    fn outside(&mut self, byte: u8, place: Place) -> Result<(), SyntaxError> {
        match byte {
            b' ' | b'\t' | b'\r' => self.end_word(),
            b'\n' | b';' => self.end_command(),
            b'#' if place == Place::Between => self.place = Place::Comment,
            b'\'' => return self.enter(Place::Single),
            b'"' => return self.enter(Place::Double),
            _ => return self.push(byte),
        }
        Ok(())
    }

    fn escaped(&mut self, byte: u8) -> Result<(), SyntaxError> {
        self.escape = Escape::None;
        match byte {
            // Joins the lines.
            b'\n' => {
                self.escape_start = None;
                Ok(())
            }
            b'n' => self.push(b'\n'),
            b't' => self.push(b'\t'),
            b'r' => self.push(b'\r'),
            b'x' => {
                self.begin_word();
                self.escape = Escape::Hex(None);
                Ok(())
            }
            b'\\' | b'"' | b'\'' | b' ' | b';' | b'#' => self.push(byte),
            _ => Err(SyntaxError::UnknownEscape(byte)),
        }
    }

    fn hex(&mut self, first: Option<u8>, byte: u8) -> Result<(), SyntaxError> {
        let digit = (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digit = digit.ok_or(SyntaxError::NotHex)?;
        match first {
            None => {
                self.escape = Escape::Hex(Some(digit));
                Ok(())
            }
            Some(first) => {
                self.escape = Escape::None;
                self.push(first << 4 | digit)
            }
        }
    }

    fn begin_word(&mut self) {
        if self.place == Place::Between {
            self.place = Place::Bare;
            self.word_start = self.escape_start.take().unwrap_or(self.fed);
        }
    }

    fn enter(&mut self, place: Place) -> Result<(), SyntaxError> {
        self.begin_word();
        self.place = place;
        Ok(())
    }

    fn push(&mut self, byte: u8) -> Result<(), SyntaxError> {
        self.begin_word();
        if self.held + self.word.len() >= COMMAND_LEN_MAX {
            return Err(SyntaxError::TooLong);
        }
        self.word.push(byte);
        Ok(())
    }

    fn end_word(&mut self) {
        if self.place == Place::Bare {
            self.held += self.word.len() + size_of::<Word>();
            self.words.push(std::mem::take(&mut self.word));
            self.place = Place::Between;
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.place = Place::Between;
        self.held = 0;
        if !self.words.is_empty() {
            self.commands.push_back(std::mem::take(&mut self.words));
        }
    }
}

/// A word as it can be typed again.
pub(super) fn quote(word: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./:@%+=,-".contains(byte);
    match std::str::from_utf8(word) {
        Ok(text) if !text.is_empty() && word.iter().all(plain) => text.to_owned(),
        _ => format!("\"{}\"", crate::output::printable(word).replace('"', "\\\"")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &[u8]) -> Result<Vec<Vec<Word>>, SyntaxError> {
        let mut parser = Parser::default();
        parser.feed(text)?;
        parser.finish()?;
        Ok(std::iter::from_fn(|| parser.take()).collect())
    }

    fn words(text: &str) -> Vec<Vec<String>> {
        let commands = parse(text.as_bytes()).unwrap();
        let text = |word: Word| String::from_utf8(word).unwrap();
        commands.into_iter().map(|words| words.into_iter().map(text).collect()).collect()
    }

    #[test]
    fn words_and_commands() {
        assert_eq!(
            words("put  a 1; get a\n\n;# nothing\nscan # all"),
            [vec!["put", "a", "1"], vec!["get", "a"], vec!["scan"]]
        );
        assert_eq!(words("put '' a#b"), [["put", "", "a#b"]]);
        assert_eq!(words(r#"put "a b"'c "d'e f"#), [["put", "a bc \"de", "f"]]);
        assert_eq!(words("put a\\\nb 'x\ny'"), [["put", "ab", "x\ny"]]);
        assert_eq!(words(r#"put 'a\x' \#1 "\t\"" "#), [["put", "a\\x", "#1", "\t\""]]);
        assert_eq!(parse(b"get \\x00\\xfF\xe4").unwrap(), [[b"get".to_vec(), b"\x00\xff\xe4".to_vec()]]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(parse(br"get \q"), Err(SyntaxError::UnknownEscape(b'q')));
        assert_eq!(parse(br"get \x0g"), Err(SyntaxError::NotHex));
        for text in ["get 'a", "get \"a\\\"", "get a\\", "get \\x0"] {
            assert_eq!(parse(text.as_bytes()), Err(SyntaxError::Unfinished), "{text}");
        }
        let mut parser = Parser::default();
        assert!(parser.feed(br"get a; put \q").is_err());
        assert_eq!(parser.take(), Some(vec![b"get".to_vec(), b"a".to_vec()]));
        assert!(parser.words().is_empty() && parser.is_whole());
    }

    #[test]
    fn the_word_at_the_cursor_is_known() {
        for (text, start, word) in [
            ("get ab", 4, "ab"),
            ("get ", 4, ""),
            ("get 'a b", 4, "a b"),
            ("get \\x41b", 4, "Ab"),
            ("g", 0, "g"),
        ] {
            let mut parser = Parser::default();
            parser.feed(text.as_bytes()).unwrap();
            assert_eq!(parser.word(), (start, word.as_bytes()), "{text}");
        }
    }

    proptest! {
        /// Any bytes can be typed.
        #[test]
        fn what_is_quoted_is_read_back(words in proptest::collection::vec(any::<Vec<u8>>(), 1..5)) {
            let line: Vec<_> = words.iter().map(|word| quote(word)).collect();
            prop_assert_eq!(parse(line.join(" ").as_bytes()).unwrap(), vec![words]);
        }

        #[test]
        fn it_does_not_matter_where_the_pieces_end(text in "[a\\\\x0\"'# ;\nn]{0,40}", cut in 0_usize..40) {
            let whole = parse(text.as_bytes());
            let (head, tail) = text.as_bytes().split_at(cut.min(text.len()));
            let mut parser = Parser::default();
            let fed = parser.feed(head).and_then(|()| parser.feed(tail)).and_then(|()| parser.finish());
            let pieces = fed.map(|()| std::iter::from_fn(|| parser.take()).collect::<Vec<_>>());
            prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            let _read = parse(&bytes);
        }
    }
}
