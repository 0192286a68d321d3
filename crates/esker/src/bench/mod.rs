//! `esker bench`: a load generator.
//!
//! ```text
//! args -> plan: what every operation does     workload, distribution, data, random
//!      -> workers: who does it, and when      worker, pace
//!      -> session: how it is done             session, servers, http, binary, grpc, redis, embedded
//!      -> report: what it took                tally, gap, report
//! ```
//!
//! Latency is measured from the moment an operation *should* have begun: with `--rate` a server that stalls is
//! charged for all the operations that had to wait meanwhile (no coordinated omission). Without `--rate` every
//! connection begins the next operation when the last one ended, and latency is the service time alone.
//!
//! Errors are counted and gone on from, on another connection, so that a run can span the death of a node: how long
//! nothing succeeded is then the figure that counts.

mod args;
mod binary;
mod data;
mod distribution;
mod embedded;
mod gap;
mod grpc;
mod http;
mod pace;
mod plan;
mod random;
mod redis;
mod report;
mod servers;
mod session;
mod tally;
mod worker;
mod workload;

pub(crate) use args::BenchArgs;

use crate::{cli::Connection, commands, exit::Failure, output};
use plan::Plan;
use servers::Secrets;
use session::Target;

/// Loads the records a workload needs, runs it, and reports.
pub(crate) fn run(connection: &Connection, args: BenchArgs) -> Result<(), Failure> {
    let target = args.target.as_deref().unwrap_or(&connection.endpoint);
    let target = match target.strip_prefix("dir:") {
        Some(dir) => Target::embedded(dir, &args)?,
        None => {
            let (credentials, tls) = commands::secrets(&connection.identity)?;
            Target::servers(target, &args, Secrets { credentials, tls }, connection.timeout())?
        }
    };
    args.check(&target)?;
    target.probe()?;
    if args.needs_load() {
        output::note(format_args!("loading {} records ...", args.records));
        let loaded = worker::run(&target, &Plan::load(&args))?;
        if let Some(error) = loaded.tally.first_error() {
            return Err(Failure::Error(format!("loading: {error}")));
        }
    }
    let outcome = worker::run(&target, &Plan::new(&args))?;
    target.close()?;
    report::print(&args, &target, &outcome)
}
