//! Writing records.

use std::io::{self, Write};

use esker_client::Item;
use esker_wire::{encode_base64, kv};

use super::Format;

/// Writes keys and values in a format.
pub(crate) enum Writer<W: Write> {
    /// JSON Lines.
    Jsonl(W),
    /// CSV; boxed because of its size.
    Csv(Box<::csv::Writer<W>>),
}

impl<W: Write> Writer<W> {
    /// Begins the file.
    pub(crate) fn new(format: Format, out: W) -> io::Result<Self> {
        match format {
            Format::Jsonl => Ok(Self::Jsonl(out)),
            Format::Csv => {
                let mut out = ::csv::Writer::from_writer(out);
                out.write_record(["key", "value", "encoding", "expires_at"])?;
                Ok(Self::Csv(Box::new(out)))
            }
        }
    }

    /// Writes one record. What is not UTF-8 goes in base64 and is marked so.
    pub(crate) fn write(&mut self, item: &Item) -> io::Result<()> {
        let expires_at = item.expires_at;
        match self {
            Self::Jsonl(out) => {
                let item = kv::Item::new(&item.key, item.value.as_deref(), item.version, false);
                let item = item.expiring(expires_at);
                serde_json::to_writer(&mut *out, &item)?;
                out.write_all(b"\n")
            }
            Self::Csv(out) => {
                let value = item.value.as_deref().unwrap_or_default();
                let then = expires_at.map(|then| then.to_string()).unwrap_or_default();
                let row = match (str::from_utf8(&item.key), str::from_utf8(value)) {
                    (Ok(key), Ok(value)) => out.write_record([key, value, "", &then]),
                    _ => out.write_record([
                        encode_base64(&item.key),
                        encode_base64(value),
                        "base64".into(),
                        then,
                    ]),
                };
                Ok(row?)
            }
        }
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Jsonl(mut out) => {
                out.flush()?;
                Ok(out)
            }
            Self::Csv(mut out) => {
                out.flush()?;
                out.into_inner().map_err(|e| io::Error::new(e.error().kind(), e.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::CsvArgs, records};

    #[test]
    fn what_is_written_reads_back() {
        let values: [&[u8]; 6] = [b"plain", b"", b"a,\"b\"\r\nc", b"\xff\x00", "ü".as_bytes(), b" spaced "];
        let item = |(at, value): (usize, &&[u8])| {
            let key = [b"k,\n\"", &[at as u8][..]].concat();
            let expires_at = (at % 2 == 1).then_some(1_900_000_000_000 + at as u64);
            Item { key, value: Some(value.to_vec()), version: 1, expires_at }
        };
        let items: Vec<Item> = values.iter().enumerate().map(item).collect();
        let expected: Vec<_> = items
            .iter()
            .map(|item| (item.key.clone(), item.value.clone().unwrap(), item.expires_at))
            .collect();
        for format in [Format::Jsonl, Format::Csv] {
            let mut writer = Writer::new(format, Vec::new()).unwrap();
            items.iter().for_each(|item| writer.write(item).unwrap());
            let bytes = writer.finish().unwrap();
            let args = CsvArgs { delimiter: b',', no_header: false, key_column: None, value_column: None };
            let read =
                records::read(format, io::Cursor::new(bytes), &args).unwrap_or_else(|bad| panic!("{bad}"));
            let read: Vec<_> =
                read.map(|record| record.unwrap()).map(|it| (it.key, it.value, it.expires_at)).collect();
            assert_eq!(read, expected);
        }
    }
}
