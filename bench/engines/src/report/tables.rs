//! The tables, in Markdown.

use std::fmt::Write as _;

use super::summary::{Row, Runs, Summary};
use crate::{
    result::Figures,
    stores::Engine,
    workload::{Latency, Scale},
};

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
    beyond_memory(&mut text, summary);
    notes(&mut text, summary);
    text
}

/// What was done under the memory limit, and by fio beside it. What says most are medians; a stall is the longest of all runs.
fn beyond_memory(text: &mut String, summary: &Summary) {
    let rows: Vec<_> = summary.rows.iter().filter(|row| row.workload.beyond_memory()).collect();
    if rows.is_empty() {
        return;
    }
    let limit = mib(Scale(summary.scale).memory_limit() as f64);
    let _ = write!(
        text,
        "\nUnder a limit of {limit} MiB for processes and page cache, with eight times as much data in values of 1 KiB; peaks in MiB:\n\n"
    );
    let columns =
        ["a second", "of fio, page cache", "of fio, O_DIRECT", "longest stall, ms", "RSS", "of the group"];
    let _ = writeln!(text, "| | {} |", columns.join(" | "));
    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(columns.len()));
    for row in rows {
        let fio = |name: &str| {
            row.others().find(|(other, _)| *other == name).and_then(|(_, runs)| runs.median(Figures::rate))
        };
        let beside = [fio("fio, page cache"), fio("fio, O_DIRECT")];
        let engines = summary.engines();
        let engines = engines.iter().filter_map(|engine| Some((engine.title(), row.of(*engine)?)));
        for (name, runs) in engines.chain(row.others().map(|(name, runs)| (name.as_str(), runs))) {
            let Some(rate) = runs.median(Figures::rate) else { continue };
            let ratios = beside.map(|fio| fio.map_or_else(String::new, |fio| number(rate / fio)));
            let peak =
                |figure: fn(&Figures) -> u64| runs.most(|f| figure(f) as f64).map(mib).unwrap_or_default();
            let stall = runs.most(|figures| figures.latency.max / 1e3).map(number).unwrap_or_default();
            let [cached, direct] = ratios;
            let (rss, group) = (peak(|f| f.rss_peak_bytes), peak(|f| f.group_peak_bytes));
            line(
                text,
                &format!("{}, {name}", row.workload.name),
                &[number(rate), cached, direct, stall, rss, group],
            );
        }
    }
}

fn mib(bytes: f64) -> String {
    number(bytes / f64::from(1 << 20))
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
    use crate::result::{Ending, Line};

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
    fn what_is_beyond_memory_stands_beside_fio() {
        let line = |engine: &str, operations, max| Line {
            workload: "beyond-read".into(),
            engine: engine.into(),
            run: 0,
            scale: 1.0,
            outcome: Ending::Done(Box::new(Figures {
                operations,
                seconds: 1.0,
                latency: Latency { max, ..Latency::default() },
                group_peak_bytes: 512 << 20,
                ..Figures::default()
            })),
        };
        let lines = vec![
            line("esker", 800, 90_000.0),
            line("esker", 800, 120_000.0),
            line("fio, page cache", 1000, 1.0),
            line("fio, O_DIRECT", 1600, 1.0),
        ];
        let text = markdown(&Summary::of(lines));
        assert!(text.contains("| beyond-read, Esker | 800 | 0.800 | 0.500 | 120 | 0 | 512 |"), "{text}");
    }

    #[test]
    fn every_engine_has_a_version() {
        use clap::ValueEnum as _;
        for engine in Engine::value_variants() {
            assert!(version(*engine).starts_with(|c: char| c.is_ascii_digit()));
        }
    }
}
