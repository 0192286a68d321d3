//! CSV. The header names the columns `key` and `value`, and perhaps `encoding` (empty or `base64`) and `expires_at` (empty, or
//! milliseconds since 1970); where the first line does not, it is data, and key and value are in the first two columns.

use std::io::BufRead;

use csv::{ByteRecord, ReaderBuilder};
use esker_wire::decode_base64;

use super::{Bad, Record, bad, checked};
use crate::cli::CsvArgs;

/// Where what is, counted from 0.
struct Columns {
    key: usize,
    value: usize,
    encoding: Option<usize>,
    expires_at: Option<usize>,
}

/// Reads CSV.
pub(super) struct Reader<R> {
    input: csv::Reader<R>,
    columns: Columns,
    /// The first line, where it is data.
    first: Option<ByteRecord>,
    row: ByteRecord,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R, args: &CsvArgs) -> Result<Self, Bad> {
        let mut input = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(args.delimiter)
            .from_reader(input);
        let mut row = ByteRecord::new();
        let any = input.read_byte_record(&mut row).map_err(|e| fatal(&e))?;
        let header = if args.no_header { None } else { header(&row, args)? };
        let first = (any && header.is_none()).then(|| row.clone());
        let columns = header.unwrap_or(Columns { key: 0, value: 1, encoding: None, expires_at: None });
        Ok(Self { input, columns, first, row, ended: false })
    }

    fn advance(&mut self) -> Result<bool, Bad> {
        if let Some(first) = self.first.take() {
            self.row = first;
            return Ok(true);
        }
        self.input.read_byte_record(&mut self.row).map_err(|e| fatal(&e))
    }

    fn expires_at(&self) -> Result<Option<u64>, String> {
        let Some(text) = self.columns.expires_at.and_then(|at| self.row.get(at)) else { return Ok(None) };
        let number = || str::from_utf8(text).ok()?.parse().ok();
        match text {
            b"" => Ok(None),
            _ => number().map(Some).ok_or_else(|| {
                let text = String::from_utf8_lossy(text);
                format!(
                    "expires_at `{text}` is no number of milliseconds since 1970: leave it empty or write one"
                )
            }),
        }
    }

    fn record(&self) -> Result<Record, Bad> {
        let line = self.row.position().map_or(0, csv::Position::line);
        let column = |at: usize| {
            let wanted =
                || bad(line, format!("it has {} columns, column {} is wanted", self.row.len(), at + 1));
            self.row.get(at).map(<[u8]>::to_vec).ok_or_else(wanted)
        };
        let (key, value) = (column(self.columns.key)?, column(self.columns.value)?);
        let expires_at = self.expires_at().map_err(|why| bad(line, why))?;
        match self.columns.encoding.and_then(|at| self.row.get(at)) {
            None | Some(b"") => checked(line, key, value, expires_at),
            Some(b"base64") => {
                let decode = |text: &[u8]| decode_base64(text).map_err(|e| bad(line, e));
                checked(line, decode(&key)?, decode(&value)?, expires_at)
            }
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                Err(bad(line, format!("encoding `{other}` is not known: leave it empty or write base64")))
            }
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Record, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.advance() {
            Ok(true) => Some(self.record()),
            Ok(false) => None,
            Err(bad) => {
                self.ended = true;
                Some(Err(bad))
            }
        }
    }
}

fn header(row: &ByteRecord, args: &CsvArgs) -> Result<Option<Columns>, Bad> {
    let named = |name: &str| row.iter().position(|column| column == name.as_bytes());
    let key = named(args.key_column.as_deref().unwrap_or("key"));
    let value = named(args.value_column.as_deref().unwrap_or("value"));
    match (key, value) {
        (Some(key), Some(value)) => {
            Ok(Some(Columns { key, value, encoding: named("encoding"), expires_at: named("expires_at") }))
        }
        _ if args.key_column.is_none() && args.value_column.is_none() => Ok(None),
        _ => Err(Bad { fatal: true, ..bad(1, "the header does not name the columns asked for") }),
    }
}

fn fatal(e: &csv::Error) -> Bad {
    let line = e.position().map_or(0, csv::Position::line);
    Bad { line, why: e.to_string(), fatal: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGS: CsvArgs = CsvArgs { delimiter: b',', no_header: false, key_column: None, value_column: None };

    fn read(text: &'static str, args: &CsvArgs) -> Vec<Result<(String, String), u64>> {
        let string = |bytes| String::from_utf8(bytes).unwrap();
        let records = Reader::new(text.as_bytes(), args).unwrap_or_else(|bad| panic!("{bad}"));
        records.map(|r| r.map(|r| (string(r.key), string(r.value))).map_err(|bad| bad.line)).collect()
    }

    fn pair(key: &str, value: &str) -> Result<(String, String), u64> {
        Ok((key.to_owned(), value.to_owned()))
    }

    #[test]
    fn with_and_without_a_header() {
        let expected = [pair("a", "1"), pair("b", "2,\n\"x\"")];
        assert_eq!(read("key,value\na,1\nb,\"2,\n\"\"x\"\"\"\n", &ARGS), expected);
        assert_eq!(read("value,other,key\n1,x,a\n\"2,\n\"\"x\"\"\",,b\n", &ARGS), expected);
        assert_eq!(read("a,1\r\nb,\"2,\n\"\"x\"\"\",more\r\n", &ARGS), expected);
        assert_eq!(read("", &ARGS), []);
    }

    #[test]
    fn as_told() {
        let named = CsvArgs {
            key_column: Some("id".into()),
            value_column: Some("text".into()),
            delimiter: b';',
            ..ARGS
        };
        assert_eq!(read("text;id\n1;a\n", &named), [pair("a", "1")]);
        assert!(Reader::new(&b"x;y\n"[..], &named).is_err());
        let data = CsvArgs { no_header: true, ..ARGS };
        assert_eq!(read("key,value\n", &data), [pair("key", "value")]);
        let marked = "key,value,encoding\nYQ==,MQ==,base64\na,1,\n";
        assert_eq!(read(marked, &ARGS), [pair("a", "1"), pair("a", "1")]);
    }

    #[test]
    fn bad_lines_are_numbered() {
        assert_eq!(read("key,value\na\nb,2\n,3\n", &ARGS), [Err(2), pair("b", "2"), Err(4)]);
        assert_eq!(read("key,value,encoding\na,1,hex\na,!,base64", &ARGS), [Err(2), Err(3)]);
        assert_eq!(
            read("key,value,expires_at\na,1,\na,1,soon\na,1,-1", &ARGS),
            [pair("a", "1"), Err(3), Err(4)]
        );
    }
}
