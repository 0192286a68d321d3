//! JSON Lines: `{"key":"k","value":"v"}`, with `"encoding":"base64"` for any bytes and `"expires_at"` in milliseconds since
//! 1970 for what does not stay. Empty lines are passed over.

use std::{
    borrow::Cow,
    io::{BufRead, Read},
};

use esker_wire::{Encoding, decode_base64};
use serde::{Deserialize, de::IgnoredAny};

use super::{Bad, Record, bad, checked};

/// The longest line taken: a value of 1 GiB in base64, its key, and the names around them.
const LINE_LEN_MAX: u64 = (1 << 30) / 3 * 4 + (1 << 20);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(default)]
    encoding: Option<Encoding>,
    #[serde(default)]
    expires_at: Option<u64>,
    /// What an export adds; a write gets a version of its own.
    #[serde(default, rename = "version")]
    _version: Option<IgnoredAny>,
}

/// Reads JSON Lines.
pub(super) struct Reader<R> {
    input: R,
    buffer: Vec<u8>,
    line: u64,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), line: 0, ended: false }
    }

    /// Whether there was another line.
    fn advance(&mut self) -> Result<bool, Bad> {
        self.buffer.clear();
        self.line += 1;
        let fatal = |line, why| Bad { line, why, fatal: true };
        let read = (&mut self.input).take(LINE_LEN_MAX).read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|e| fatal(self.line, e.to_string()))?;
        match read as u64 == LINE_LEN_MAX {
            true => Err(fatal(self.line, format!("the line is longer than {LINE_LEN_MAX} bytes"))),
            false => Ok(read > 0),
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Record, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.advance() {
                Ok(true) if self.buffer.trim_ascii().is_empty() => {}
                Ok(true) => return Some(parse(&self.buffer, self.line)),
                Ok(false) => self.ended = true,
                Err(bad) => {
                    self.ended = true;
                    return Some(Err(bad));
                }
            }
        }
        None
    }
}

fn parse(bytes: &[u8], number: u64) -> Result<Record, Bad> {
    let line: Line<'_> = serde_json::from_slice(bytes).map_err(|e| bad(number, without_line(&e)))?;
    let decode = |text: Cow<'_, str>| match line.encoding {
        None => Ok(text.into_owned().into_bytes()),
        Some(Encoding::Base64) => decode_base64(text.as_bytes()).map_err(|e| bad(number, e)),
    };
    checked(number, decode(line.key)?, decode(line.value)?, line.expires_at)
}

/// serde_json counts lines within what it is given, which here is always the first.
fn without_line(e: &serde_json::Error) -> String {
    e.to_string().replace("at line 1 column", "at column")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Result<(u64, Vec<u8>, Vec<u8>), (u64, String)>;

    fn read(text: &str) -> Vec<Found> {
        let records = Reader::new(text.as_bytes());
        records.map(|r| r.map(|r| (r.line, r.key, r.value)).map_err(|bad| (bad.line, bad.why))).collect()
    }

    #[test]
    fn text_base64_and_blank_lines() {
        let text = "{\"key\":\"a\",\"value\":\"1\\n\",\"version\":9}\r\n\n\
                    {\"key\":\"/w==\",\"value\":\"AA==\",\"encoding\":\"base64\"}";
        let expected = [Ok((1, b"a".to_vec(), b"1\n".to_vec())), Ok((3, vec![0xff], vec![0]))];
        assert_eq!(read(text), expected);
    }

    #[test]
    fn bad_lines_are_numbered_and_do_not_end_the_file() {
        let lines = [
            "{",
            "[]",
            r#"{"key":"a"}"#,
            r#"{"key":"","value":"x"}"#,
            r#"{"key":"a","value":1}"#,
            r#"{"key":"a","value":"!","encoding":"base64"}"#,
            r#"{"key":"a","value":"x","encoding":"hex"}"#,
            r#"{"key":"a","value":"x","ttl":"3s"}"#,
            r#"{"key":"a","value":"x","expires_at":"3s"}"#,
        ];
        let found = read(&format!("{}\n{{\"key\":\"k\",\"value\":\"\"}}\n", lines.join("\n")));
        for (at, found) in found[..lines.len()].iter().enumerate() {
            assert_eq!(found.as_ref().unwrap_err().0, at as u64 + 1);
        }
        assert!(found[lines.len()].is_ok());
    }
}
