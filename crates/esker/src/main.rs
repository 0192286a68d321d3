//! `esker`: the server, the command line and the load generator in one binary.
//!
//! [`cli`] says what can be typed, [`commands`] has one file for each word, [`config`] finds out the server's
//! settings, [`records`] reads and writes JSON Lines and CSV, [`exit`] is what the process ends with, [`profiles`] what
//! it tells of its time and memory. What the commands do lives in the crates below: the engine, the server and the client.

mod bench;
mod cli;
mod commands;
mod config;
mod exit;
mod files;
mod otlp;
mod output;
mod profiles;
mod records;

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = cli::parse().and_then(commands::run);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
