//! Whether something has grown: the first quarter of the samples beside the last.

use std::fmt::Write;

use super::{load::Phase, sample::Sample};

/// What one figure came to in one phase.
#[derive(Debug)]
pub(crate) struct Verdict {
    phase: &'static str,
    figure: &'static str,
    first: f64,
    last: f64,
    /// The most that the last may be.
    bound: Option<f64>,
}

/// How one figure is seen.
struct Figure {
    name: &'static str,
    of: fn(&Sample) -> f64,
    /// By how much the last quarter may exceed the first, in parts of it and beyond that; `None`: it is only shown.
    room: Option<(f64, f64)>,
}

const MIB: f64 = (1 << 20) as f64;

/// Disk use goes up and down with each merge and by the space reserved ahead, what is allocated with the requests and merges under
/// way, and both are medians of some seconds only in a short run. Resident memory has free pages in it that have not been given back
/// yet: how many depends on when the threads of the allocator ran.
const FIGURES: [Figure; 7] = [
    Figure { name: "disk, MiB", of: |sample| sample.disk_bytes as f64 / MIB, room: Some((0.15, 8.0)) },
    Figure {
        name: "allocated, MiB",
        of: |sample| sample.allocated_bytes as f64 / MIB,
        room: Some((0.1, 8.0)),
    },
    Figure { name: "resident, MiB", of: |sample| sample.rss_bytes as f64 / MIB, room: Some((0.25, 64.0)) },
    Figure { name: "open files", of: |sample| sample.open_files as f64, room: Some((0.1, 16.0)) },
    Figure { name: "operations/s", of: |sample| sample.operations_per_second, room: None },
    Figure { name: "put p99.9, ms", of: |sample| sample.put_p999_ms, room: None },
    Figure { name: "get p99.9, ms", of: |sample| sample.get_p999_ms, room: None },
];

/// All figures of a phase.
pub(crate) fn judge(phase: Phase, samples: &[Sample]) -> Vec<Verdict> {
    let quarter = samples.len() / 4;
    assert!(quarter > 0, "only {} samples", samples.len());
    let figure = |figure: &Figure| {
        let values: Vec<_> = samples.iter().map(figure.of).collect();
        let first = median(&values[..quarter]);
        let bound = figure.room.map(|(part, more)| first * (1.0 + part) + more);
        let last = median(&values[values.len() - quarter..]);
        Verdict { phase: phase.name(), figure: figure.name, first, last, bound }
    };
    FIGURES.iter().map(figure).collect()
}

impl Verdict {
    pub(crate) fn has_grown(&self) -> bool {
        self.bound.is_some_and(|bound| self.last > bound)
    }
}

/// For `docs/benchmarks.md`.
pub(crate) fn table(verdicts: &[Verdict]) -> String {
    let mut text = String::from(
        "| phase | figure | first quarter | last quarter | at most |\n| --- | --- | ---: | ---: | ---: |\n",
    );
    for Verdict { phase, figure, first, last, bound } in verdicts {
        let bound = bound.map_or_else(String::new, |bound| format!("{bound:.0}"));
        writeln!(text, "| {phase} | {figure} | {first:.1} | {last:.1} | {bound} |")
            .expect("a string takes it");
    }
    text
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn growth_is_seen_and_ups_and_downs_are_not() {
    let sample = |n: u64, disk_bytes: u64| Sample {
        at: std::time::Duration::from_secs(n),
        disk_bytes,
        rss_bytes: 64 << 20,
        allocated_bytes: 48 << 20,
        open_files: 40,
        operations_per_second: 1.0,
        put_p999_ms: 1.0,
        get_p999_ms: 1.0,
    };
    let grown = |disk: fn(u64) -> u64| {
        let samples: Vec<_> = (0..40).map(|n| sample(n, disk(n) << 20)).collect();
        let verdicts = judge(Phase::Queue, &samples);
        verdicts
            .iter()
            .filter(|verdict| verdict.has_grown())
            .map(|verdict| verdict.figure)
            .collect::<Vec<_>>()
    };
    assert_eq!(grown(|n| 100 + 2 * n), ["disk, MiB"]);
    assert!(grown(|n| 100 + 50 * (n % 5)).is_empty());
}
