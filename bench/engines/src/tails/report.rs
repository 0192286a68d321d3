//! What the runs came to: a table, and a plot over time.

use std::{fmt, fmt::Write as _, path::Path, time::Duration};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    TailsArgs,
    load::{Event, Load},
};
use crate::{
    report::{
        panels::{BLUE, Curve, Panel, RED, draw},
        replace_in,
        tables::number,
    },
    workload::Latency,
};

/// What stands around the table in the document.
const PART: &str = "bench/tails";

/// Of the plot.
const SLOT: Duration = Duration::from_millis(100);

/// A slot has too few operations for a p99.9 of its own: it is that of as many slots around it.
const SLOTS_AROUND: usize = 10;

/// One run.
pub struct Run {
    pub load: Load,
    /// The times of merges, in seconds.
    pub merging: Vec<(f64, f64)>,
    pub merges: u64,
}

/// The figures of one run; latencies in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    merges: u64,
    /// The share of time in which one was going on.
    merging_share: f64,
    reads: Latency,
    writes: Latency,
    /// Of what was due while a merge was going on, if there were any.
    reads_while_merging: Option<Latency>,
    writes_while_merging: Option<Latency>,
}

impl Run {
    pub fn figures(&self) -> Figures {
        let end = self.load.writes.iter().map(|event| event.due).max().unwrap_or_default();
        let merging = self.merging.iter().fold(0.0, |sum, (from, to)| sum + to - from);
        Figures {
            merges: self.merges,
            merging_share: merging / end.as_secs_f64().max(1e-9),
            reads: latency(&self.load.reads, |_| true).unwrap_or_default(),
            writes: latency(&self.load.writes, |_| true).unwrap_or_default(),
            reads_while_merging: latency(&self.load.reads, |event| self.is_merging(event)),
            writes_while_merging: latency(&self.load.writes, |event| self.is_merging(event)),
        }
    }

    fn is_merging(&self, event: &Event) -> bool {
        let due = event.due.as_secs_f64();
        self.merging.iter().any(|(from, to)| (*from..=*to).contains(&due))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let merging = self.merging_share * 100.0;
        write!(f, "{} merges, {merging:.0}% of the time; reads {}", self.merges, cell(&self.reads))?;
        write!(f, "; writes {} µs", cell(&self.writes))
    }
}

fn cell(latency: &Latency) -> String {
    let Latency { p50, p99, p999, max } = *latency;
    [p50, p99, p999, max].map(number).join(" / ")
}

fn latency(events: &[Event], which: impl Fn(&Event) -> bool) -> Option<Latency> {
    let mut histogram = histogram();
    for event in events.iter().filter(|event| which(event)) {
        histogram.record(event.took.as_nanos() as u64).expect("it grows");
    }
    Latency::of(&histogram)
}

/// Prints the table, or makes it a part of the document.
pub fn table(args: &TailsArgs, figures: &[Figures]) -> Result<()> {
    let (with, without): (Vec<_>, Vec<_>) = figures.iter().cloned().partition(|figures| figures.merges > 0);
    let mut text = format!(
        "## Tails while merging\n\nMade by `bench/tails.sh`: {} records of 1 KiB, {} gets and {} synced puts a second, offered at a \
         fixed rate (latency counts from when an operation was due), runs of {} s, with merges and without in turn; medians of {}. \
         Microseconds, p50 / p99 / p99.9 / max.\n\n",
        number(args.records as f64),
        number(args.reads as f64),
        number(args.writes as f64),
        args.seconds,
        with.len()
    );
    text.push_str("| | gets | synced puts |\n| --- | ---: | ---: |\n");
    let mut line = |name: &str, reads: Option<Latency>, writes: Option<Latency>| {
        let text = &mut text;
        let cells = [reads, writes].map(|latency| latency.as_ref().map(cell).unwrap_or_default());
        writeln!(text, "| {name} | {} | {} |", cells[0], cells[1]).expect("a string takes it");
    };
    let (reads, writes) = (median(&without, |f| Some(f.reads)), median(&without, |f| Some(f.writes)));
    let (busy_reads, busy_writes) =
        (median(&with, |f| f.reads_while_merging), median(&with, |f| f.writes_while_merging));
    line("without merges", reads, writes);
    line("with merges", median(&with, |f| Some(f.reads)), median(&with, |f| Some(f.writes)));
    line("of that, while one ran", busy_reads, busy_writes);
    let merges: Vec<_> = with.iter().map(|figures| figures.merges.to_string()).collect();
    let share = with.iter().map(|figures| figures.merging_share).sum::<f64>() / with.len().max(1) as f64;
    writeln!(text, "\nMerges in the runs: {}, {:.0}% of the time.", merges.join(", "), share * 100.0)?;
    if let [Some(reads), Some(writes), Some(busy_reads), Some(busy_writes)] =
        [reads, writes, busy_reads, busy_writes]
    {
        writeln!(
            text,
            "p99.9 while one ran, over that without merges (asked: 3): gets **{}**, synced puts **{}**. Longest of all (asked: \
             50 ms): gets {} ms, puts {} ms.",
            number(busy_reads.p999 / reads.p999),
            number(busy_writes.p999 / writes.p999),
            number(longest(&with, |f| f.reads) / 1e3),
            number(longest(&with, |f| f.writes) / 1e3),
        )?;
    }
    let plot = args.plot.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    writeln!(text, "\n![p99.9 and max over time, with and without merges](plots/{plot})")?;
    match &args.into {
        Some(document) => replace_in(document, PART, &text),
        None => {
            println!("{text}");
            Ok(())
        }
    }
}

/// Of each quantile by itself.
fn median(figures: &[Figures], of: impl Fn(&Figures) -> Option<Latency>) -> Option<Latency> {
    let all: Vec<_> = figures.iter().filter_map(of).collect();
    let at = |quantile: fn(&Latency) -> f64| {
        let mut values: Vec<_> = all.iter().map(quantile).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Some(Latency { p50: at(|l| l.p50)?, p99: at(|l| l.p99)?, p999: at(|l| l.p999)?, max: at(|l| l.max)? })
}

fn longest(figures: &[Figures], of: impl Fn(&Figures) -> Latency) -> f64 {
    figures.iter().map(|figures| of(figures).max).fold(0.0, f64::max)
}

/// The slowest of each tenth of a second and p99.9 of the second around it; shaded: merges.
pub fn plot(path: &Path, runs: &[Run]) -> Result<()> {
    let panel = |run: &Run, what: &str, events: &[Event]| {
        let slots = slots(events);
        let curve = |name, color, figure: fn(&Slot) -> f64| Curve {
            name,
            color,
            points: slots.iter().map(|slot| (slot.at, figure(slot) / 1e6)).collect(),
        };
        let how = if run.merges > 0 { "with merges (shaded)" } else { "without merges" };
        Panel {
            title: format!("{what}, {how}: ms"),
            curves: vec![
                curve("max of 100 ms", RED, |slot| slot.max),
                curve("p99.9 of 1 s", BLUE, |slot| slot.p999),
            ],
            logarithmic: true,
            shaded: run.merging.clone(),
        }
    };
    let panels: Vec<_> = runs
        .iter()
        .flat_map(|run| [panel(run, "gets", &run.load.reads), panel(run, "synced puts", &run.load.writes)])
        .collect();
    draw(path, "Latency at a fixed rate", &panels)
}

/// A piece of time; latencies in nanoseconds.
struct Slot {
    /// In seconds.
    at: f64,
    max: f64,
    p999: f64,
}

/// By when the operations were due.
fn slots(events: &[Event]) -> Vec<Slot> {
    let slot = |event: &Event| (event.due.as_nanos() / SLOT.as_nanos()) as usize;
    let mut histograms = vec![histogram(); events.iter().map(slot).max().map_or(0, |last| last + 1)];
    for event in events {
        histograms[slot(event)].record(event.took.as_nanos() as u64).expect("it grows");
    }
    let of = |at: usize| {
        let around = at.saturating_sub(SLOTS_AROUND / 2)..histograms.len().min(at + SLOTS_AROUND / 2);
        let mut sum = histogram();
        histograms[around].iter().for_each(|part| sum.add(part).expect("it grows"));
        let (max, p999) = (histograms[at].max() as f64, sum.value_at_quantile(0.999) as f64);
        Slot { at: at as f64 * SLOT.as_secs_f64(), max, p999 }
    };
    (0..histograms.len()).filter(|at| !histograms[*at].is_empty()).map(of).collect()
}

fn histogram() -> Histogram<u64> {
    Histogram::new(2).expect("two digits are allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(due_ms: u64, took_ms: u64) -> Event {
        Event { due: Duration::from_millis(due_ms), took: Duration::from_millis(took_ms) }
    }

    #[test]
    fn what_was_due_while_a_merge_ran_is_told_apart() {
        let events = || vec![event(100, 1), event(1500, 9), event(1550, 7), event(3000, 1)];
        let run =
            Run { load: Load { reads: events(), writes: events() }, merging: vec![(1.0, 2.0)], merges: 1 };
        let figures = run.figures();
        assert_eq!((figures.reads_while_merging.unwrap().p50 / 1e3).round(), 7.0, "{figures:?}");
        assert_eq!((figures.reads.p50 / 1e3).round(), 1.0, "{figures:?}");
        assert!((figures.merging_share - 1.0 / 3.0).abs() < 1e-9);
        let slots = slots(&run.load.reads);
        let max = |slot: &Slot| (slot.max / 1e6).round();
        assert!(slots.iter().map(max).eq([1.0, 9.0, 1.0]));
        assert!(slots[1].p999 >= slots[1].max * 0.99 && slots[0].p999 < slots[1].max / 5.0);
    }
}
