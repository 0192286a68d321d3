//! What a run came to, for people and for scripts.

use std::{io::Write, time::Duration};

use clap::ValueEnum;
use serde_json::json;

use super::{
    BenchArgs,
    session::Target,
    tally::Row,
    worker::Outcome,
    workload::{Kind, Workload},
};
use crate::{
    exit::{Failure, output as output_error},
    output,
};

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Prints the figures; fails if there were errors.
pub(super) fn print(args: &BenchArgs, target: &Target, outcome: &Outcome) -> Result<(), Failure> {
    match args.json {
        true => output::json(&as_json(args, target, outcome))?,
        false => table(args, target, outcome).map_err(output_error)?,
    }
    match outcome.tally.first_error() {
        Some(error) => Err(Failure::Error(format!("some operations failed, the first one so: {error}"))),
        None => Ok(()),
    }
}

fn table(args: &BenchArgs, target: &Target, outcome: &Outcome) -> std::io::Result<()> {
    let mut out = output::stdout();
    let (workload, connections) = (name(args.workload), args.connections);
    let took = outcome.took.as_secs_f64();
    let (target, sync) = (target.name(), args.sync_name(target));
    writeln!(out, "{workload} on {target} with {connections} connections, sync {sync}, {took:.2} s")?;
    writeln!(
        out,
        "{:18} {:>10} {:>12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>11}",
        "operation",
        "count",
        "per second",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "missed",
        "errors",
        "longest gap"
    )?;
    for (kind, row) in outcome.tally.rows() {
        let count = keys(args, kind, row);
        write!(out, "{:18} {count:>10} {:>12.0}", kind.name(), count as f64 / took)?;
        for (_, quantile) in QUANTILES {
            write!(out, " {:>9}", latency(row.latency.value_at_quantile(quantile)))?;
        }
        let (max, gap) = (latency(row.latency.max()), format!("{:.1?}", outcome.gaps[kind as usize]));
        writeln!(out, " {max:>9} {:>7} {:>7} {gap:>11}", row.missed, row.errors)?;
    }
    out.flush()
}

/// A batch counts as its keys; its latency is the batch's.
fn keys(args: &BenchArgs, kind: Kind, row: &Row) -> u64 {
    match (args.workload, kind) {
        (Workload::Fill, Kind::Insert) => (row.latency.len() * u64::from(args.batch)).min(args.records),
        _ => row.latency.len(),
    }
}

fn latency(nanos: u64) -> String {
    format!("{:.1?}", Duration::from_nanos(nanos))
}

fn name(workload: Workload) -> String {
    workload.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn as_json(args: &BenchArgs, target: &Target, outcome: &Outcome) -> serde_json::Value {
    let took = outcome.took.as_secs_f64();
    let operations: serde_json::Map<_, _> = outcome
        .tally
        .rows()
        .map(|(kind, row)| {
            let count = keys(args, kind, row);
            let mut figures = json!({
                "count": count,
                "per_second": count as f64 / took,
                "missed": row.missed,
                "errors": row.errors,
                "longest_gap_ms": outcome.gaps[kind as usize].as_secs_f64() * 1e3,
                "latency_us_mean": row.latency.mean() / 1e3,
                "latency_us_max": row.latency.max() as f64 / 1e3,
            });
            for (label, quantile) in QUANTILES {
                figures[format!("latency_us_{label}")] =
                    (row.latency.value_at_quantile(quantile) as f64 / 1e3).into();
            }
            (kind.name().to_owned(), figures)
        })
        .collect();
    json!({
        "workload": name(args.workload),
        "target": target.name(),
        "connections": args.connections,
        "records": args.records,
        "key_bytes": args.key_bytes,
        "value_bytes": args.value_bytes,
        "batch": args.batch,
        "sync": args.sync_name(target),
        "ack": matches!(target, Target::Http(_)).then(|| args.ack.unwrap_or_default().as_str()),
        "stale": args.stale,
        "rate": args.rate,
        "seed": args.seed,
        "seconds": took,
        "operations": operations,
    })
}
