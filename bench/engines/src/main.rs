//! Esker's engine beside RocksDB, fjall, redb and LMDB. `bench/README.md` says how to run it, `docs/benchmarks.md` what came of it.

#![expect(
    clippy::disallowed_methods,
    reason = "a measuring program, not the product: it looks at the clock itself"
)]

use anyhow::Result;
use clap::{Parser, Subcommand};

mod cgroup;
mod data;
mod endurance;
mod files;
mod fio;
mod process;
mod report;
mod result;
mod run;
mod stores;
mod tails;
mod workload;

/// One allocator for all, those in C and C++ included (`override`), so that it is not what is compared.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Measures storage engines beside one another")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures, and adds to a file of results
    Run(run::RunArgs),
    /// Makes a table and plots of a file of results
    Report(report::ReportArgs),
    /// Tails of latency at a fixed rate, while Esker merges and while it does not
    Tails(tails::TailsArgs),
    /// Makes a plot of the samples of `bench/endurance.sh`
    Endurance(endurance::EnduranceArgs),
    /// One workload on one engine, as `run` starts it
    #[command(hide = true)]
    Child { order: String },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run(args) => run::run(args),
        Command::Report(args) => report::report(&args),
        Command::Tails(args) => tails::tails(&args),
        Command::Endurance(args) => endurance::endurance(&args),
        Command::Child { order } => run::obey(&order),
    }
}
