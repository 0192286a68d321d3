//! Keys and values in files: JSON Lines and CSV, read and written one record at a time.

mod csv;
mod json_lines;
mod writer;

use std::{fmt, io::BufRead, path::Path};

use esker_client::Batch;
pub(crate) use writer::Writer;

use crate::cli::CsvArgs;

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values.
    Csv,
}

impl Format {
    /// What the file's extension says.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// A key and its value, and the line they were read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The line, from 1.
    pub(crate) line: u64,
    /// The key.
    pub(crate) key: Vec<u8>,
    /// The value.
    pub(crate) value: Vec<u8>,
    /// When it expires, in milliseconds since 1970; `None`: it stays.
    pub(crate) expires_at: Option<u64>,
}

impl Record {
    /// Adds it to a batch.
    pub(crate) fn add_to(&self, batch: &mut Batch) {
        match self.expires_at {
            Some(then) => batch.put_expiring_at(&self.key, &self.value, then),
            None => batch.put(&self.key, &self.value),
        }
    }
}

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    /// The line, from 1.
    pub(crate) line: u64,
    /// What is wrong with it.
    pub(crate) why: String,
    /// Whether what follows cannot be read either.
    pub(crate) fatal: bool,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// The records of a file.
pub(crate) type Records = Box<dyn Iterator<Item = Result<Record, Bad>> + Send>;

/// Reads records in a format.
pub(crate) fn read(
    format: Format,
    input: impl BufRead + Send + 'static,
    csv: &CsvArgs,
) -> Result<Records, Bad> {
    match format {
        Format::Jsonl => Ok(Box::new(json_lines::Reader::new(input))),
        Format::Csv => Ok(Box::new(csv::Reader::new(input, csv)?)),
    }
}

/// The checks that hold for every format.
fn checked(line: u64, key: Vec<u8>, value: Vec<u8>, expires_at: Option<u64>) -> Result<Record, Bad> {
    match key.len() {
        1..=esker_wire::KEY_LEN_MAX => Ok(Record { line, key, value, expires_at }),
        length => {
            Err(bad(line, format!("a key has 1 to {} bytes, this one {length}", esker_wire::KEY_LEN_MAX)))
        }
    }
}

fn bad(line: u64, why: impl fmt::Display) -> Bad {
    Bad { line, why: why.to_string(), fatal: false }
}
