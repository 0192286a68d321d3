//! The command words that go on until somebody ends them.

use std::{ffi::OsString, time::Duration};

use clap::Args;
use esker_client::WatchOptions;

use super::values::millis;

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only keys that begin with this
    #[arg(long)]
    pub(crate) prefix: Option<OsString>,
    /// Begin with this version; by default with what is written from now on
    #[arg(long, value_name = "VERSION")]
    pub(crate) from: Option<u64>,
    /// Leave out the values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Stop after so many changes
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Also tell up to which version nothing else happened
    #[arg(long)]
    pub(crate) progress: bool,
    /// Print JSON Lines
    #[arg(long)]
    pub(crate) json: bool,
}

impl WatchArgs {
    pub(crate) fn options(&self) -> WatchOptions {
        let prefix = self.prefix.clone().unwrap_or_default().into_encoded_bytes();
        let options = WatchOptions::prefix(prefix);
        let options = if self.keys_only { options.keys_only() } else { options };
        match self.from {
            Some(version) => options.from(version),
            None => options,
        }
    }
}

/// Commands from a terminal, or from elsewhere.
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// Do these instead of reading any; may be given several times
    #[arg(short = 'c', long = "command", value_name = "COMMANDS")]
    pub(crate) commands: Vec<String>,
    /// Stop at the first command that fails
    #[arg(long)]
    pub(crate) stop_on_error: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The live view.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// How often a sample is taken
    #[arg(short, long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Print one sample, of one interval, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Print JSON: a line for each sample
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads how long to wait between samples, for clap.
fn interval(text: &str) -> Result<Duration, String> {
    const INTERVAL_MIN: Duration = Duration::from_millis(100);
    let interval = Duration::from_millis(millis(text)?);
    if interval < INTERVAL_MIN { Err("give at least 100ms".into()) } else { Ok(interval) }
}
