//! Import and export.

use std::path::PathBuf;

use clap::Args;

use super::{
    keys::RangeArgs,
    values::{bytes, millis},
};
use crate::records::Format;

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file; - is standard input
    pub(crate) file: PathBuf,
    /// The format; by default the file's extension tells: .csv, or .jsonl, .ndjson, .json
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// At most so many keys in one atomic batch
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) batch_ops: u32,
    /// At most so many bytes of keys and values in one batch
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = bytes)]
    pub(crate) batch_bytes: u64,
    /// Send batches on so many connections at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) connections: u16,
    /// Go on past lines that cannot be read and keys and values that the server refuses, and count them; the import
    /// then succeeds
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// How long to try again while the server is busy, restarting or away
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = millis)]
    pub(crate) retry_for: u64,
    #[command(flatten)]
    pub(crate) csv: CsvArgs,
    /// Print JSON: what was done
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a CSV file is laid out.
#[derive(Debug, Clone, Args)]
pub(crate) struct CsvArgs {
    /// CSV: what separates columns
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    pub(crate) delimiter: u8,
    /// CSV: the first line is data, even if it reads key,value
    #[arg(long, conflicts_with_all = ["key_column", "value_column"])]
    pub(crate) no_header: bool,
    /// CSV: the name of the keys' column
    #[arg(long, value_name = "NAME")]
    pub(crate) key_column: Option<String>,
    /// CSV: the name of the values' column
    #[arg(long, value_name = "NAME")]
    pub(crate) value_column: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file; - is standard output. A file appears only when it is complete; it replaces the one of that name and
    /// keeps its mode
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// The format; by default the file's extension tells; on standard output it is JSON Lines
    #[arg(long)]
    pub(crate) format: Option<Format>,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        b"\\t" => Ok(b'\t'),
        _ => Err("give one character, or \\t for a tab".into()),
    }
}
