//! The tables, in Markdown.

use std::fmt::Write as _;

use super::summary::{Row, Runs, Summary};
use crate::{result::Figures, stores::Engine, workload::Latency};

pub fn markdown(summary: &Summary) -> String {
    let mut text = format!(
        "## The engine beside others, in one process\n\nMade by `bench/engines.sh`, scale {}, medians of {} runs.\n\n",
        summary.scale, summary.runs
    );
    text.push_str("Operations a second (records, in batches; of opening, the time):\n\n");
    rates(&mut text, summary);
    text.push_str("\nLatency in microseconds, p50 / p99 / p99.9 / max:\n\n");
    table(&mut text, summary, |_, runs| latency(runs));
    text.push_str("\nProcessor time in microseconds an operation, with all that it left to be done:\n\n");
    table(&mut text, summary, |_, runs| {
        runs.median(|figures| figures.processor_seconds * 1e6 / figures.operations as f64).map(number)
    });
    text.push_str("\nBytes written to the disk for each byte of key and value, until nothing was left to be done; of disk taken for each byte of them that lives:\n\n");
    table(&mut text, summary, amplification);
    text.push_str("\nMost memory, in MiB (with pages of mapped files):\n\n");
    table(&mut text, summary, |_, runs| {
        runs.median(|f| f.rss_peak_bytes as f64 / f64::from(1 << 20)).map(number)
    });
    notes(&mut text, summary);
    text
}

fn rates(text: &mut String, summary: &Summary) {
    let engines = summary.engines();
    heading(text, &engines, &["Esker / best", "best peer"]);
    for row in &summary.rows {
        let mut cells = cells(&engines, row, |row, runs| {
            if row.is_one_operation() {
                runs.median(|figures| figures.seconds * 1e3).map(|ms| format!("{} ms", number(ms)))
            } else {
                runs.median(Figures::rate).map(number)
            }
        });
        match row.best_peer() {
            Some((peer, ratio)) => cells.extend([format!("**{}**", number(ratio)), peer.title().into()]),
            None => cells.extend([String::new(), String::new()]),
        }
        line(text, &row.workload.name, &cells);
    }
}

fn table(text: &mut String, summary: &Summary, cell: impl Fn(&Row, &Runs) -> Option<String>) {
    let engines = summary.engines();
    heading(text, &engines, &[]);
    for row in &summary.rows {
        let cells = cells(&engines, row, &cell);
        if cells.iter().any(|cell| !cell.is_empty()) {
            line(text, &row.workload.name, &cells);
        }
    }
}

fn cells(engines: &[Engine], row: &Row, cell: impl Fn(&Row, &Runs) -> Option<String>) -> Vec<String> {
    let cell = |engine: &Engine| {
        let runs = row.of(*engine)?;
        cell(row, runs).or_else(|| (!runs.failed.is_empty()).then(|| "failed".into()))
    };
    engines.iter().map(|engine| cell(engine).unwrap_or_default()).collect()
}

fn latency(runs: &Runs) -> Option<String> {
    let at = |quantile: fn(&Latency) -> f64| runs.median(|figures| quantile(&figures.latency)).map(number);
    Some(format!("{} / {} / {} / {}", at(|l| l.p50)?, at(|l| l.p99)?, at(|l| l.p999)?, at(|l| l.max)?))
}

fn amplification(row: &Row, runs: &Runs) -> Option<String> {
    let written = runs.median(|figures| figures.written_bytes as f64 / figures.user_bytes as f64);
    let space = runs.median(|figures| figures.disk_bytes as f64 / figures.live_bytes as f64);
    let written = written.filter(|_| row.workload.writes()).map(|ratio| format!("{ratio:.2}; "));
    Some(format!("{}{:.2}", written.unwrap_or_default(), space?))
}

fn notes(text: &mut String, summary: &Summary) {
    for row in &summary.rows {
        for (name, runs) in row.others() {
            let rate = runs.median(Figures::rate).map(number).unwrap_or_default();
            let _ = write!(
                text,
                "\n{name}, with the threads of {}: {rate} reads of 4 KiB a second.\n",
                row.workload.name
            );
        }
    }
    text.push_str("\nThe engines, and what is not their default:\n\n");
    for engine in summary.engines() {
        let _ = writeln!(
            text,
            "- {} (`{}` {}): {}",
            engine.title(),
            engine.package(),
            version(engine),
            engine.settings()
        );
    }
    let lost =
        summary.rows.iter().flat_map(|row| summary.engines().into_iter().map(move |engine| (row, engine)));
    for (row, engine) in lost {
        let Some(runs) = row.of(engine) else { continue };
        if let Some(lost) = runs.median(|figures| figures.lost as f64).filter(|lost| *lost > 0.0) {
            let _ = write!(
                text,
                "\n{}: {} acknowledged records were gone from {}.\n",
                row.workload.name,
                number(lost),
                engine.title()
            );
        }
        if let Some(why) = runs.failed.first() {
            let _ = write!(
                text,
                "\n{}: {} failed {} times: {why}.\n",
                row.workload.name,
                engine.title(),
                runs.failed.len()
            );
        }
    }
    text.push('\n');
}

/// The version that the lock file names.
fn version(engine: Engine) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let name = format!("name = \"{}\"\nversion = \"", engine.package());
    lock.split_once(&name)
        .and_then(|(_, rest)| rest.split('"').next())
        .expect("the lock file has every engine")
}

fn heading(text: &mut String, engines: &[Engine], more: &[&str]) {
    let titles: Vec<_> = engines.iter().map(|engine| engine.title()).chain(more.iter().copied()).collect();
    let _ = writeln!(text, "| | {} |", titles.join(" | "));
    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(titles.len()));
}

fn line(text: &mut String, name: &str, cells: &[String]) {
    let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
}

/// Three digits, thousands apart.
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    if digits > 0 {
        return format!("{value:.*}", digits.min(3) as usize);
    }
    let step = 10_f64.powi(-digits);
    let whole = ((value / step).round() * step) as u64;
    let mut text = whole.to_string();
    for at in (1..text.len()).rev().filter(|at| (text.len() - at).is_multiple_of(3)).collect::<Vec<_>>() {
        text.insert(at, ',');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.01234, "0.012"),
            (1.234, "1.23"),
            (56.78, "56.8"),
            (999.9, "1,000"),
            (1_234_567.0, "1,230,000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn every_engine_has_a_version() {
        use clap::ValueEnum as _;
        for engine in Engine::value_variants() {
            assert!(version(*engine).starts_with(|c: char| c.is_ascii_digit()));
        }
    }
}
