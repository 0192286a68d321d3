//! What goes to standard output.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use crate::exit::{Failure, output};

/// Standard output, buffered; flush it before the command ends.
pub(crate) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Tells something on standard error. That nobody reads it any more is no reason to end, nor to end otherwise.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _closed = writeln!(io::stderr(), "{text}").is_err();
}

/// Prints one line.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(output)
}

/// Prints one JSON document on a line of its own.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut out = stdout();
    serde_json::to_writer(&mut out, value)
        .map_err(io::Error::from)
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush())
        .map_err(output)
}

/// A number of things for people: `1 key`, `2 keys`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// How long something took, for people.
pub(crate) fn took(millis: u64) -> String {
    match millis {
        0 => "less than 1 ms".into(),
        1..1000 => format!("{millis} ms"),
        1000..120_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis / 1000 % 60),
    }
}

/// Bytes for people: printable text as it is, anything else as `\xNN`, on one line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                letter if letter.is_control() => {
                    letter.to_string().bytes().for_each(|byte| push_hex(&mut text, byte))
                }
                letter => text.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_hex(&mut text, *byte));
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    text.push_str(&format!("\\x{byte:02x}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|number| count(number, "key")), ["0 keys", "1 key", "2 keys"]);
    }

    #[test]
    fn times_are_told_as_people_do() {
        for (millis, told) in [
            (0, "less than 1 ms"),
            (1, "1 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (119_999, "119.9 s"),
            (125_400, "2 min 5 s"),
        ] {
            assert_eq!(took(millis), told);
        }
    }

    #[test]
    fn what_is_not_printable_is_escaped() {
        assert_eq!(printable("a\tü\\".as_bytes()), "a\\tü\\\\");
        assert_eq!(printable(b"\xff\x00x\n"), "\\xff\\x00x\\n");
    }
}
