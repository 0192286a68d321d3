//! The plots, in SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    coord::ranged1d::SegmentValue,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    summary::{Row, Summary},
    tables::number,
};
use crate::{stores::Engine, workload::Sample};

const WIDTH: u32 = 900;

/// What a curve shows of a sample.
type Figure = fn(&Sample) -> f64;

/// Draws all that there are figures for; names and titles of the files.
pub fn draw(summary: &Summary, dir: &Path) -> Result<Vec<(String, String)>> {
    let mut drawn = Vec::new();
    if ratios(summary, &dir.join("ratios.svg"))? {
        drawn.push(("ratios.svg".into(), "Esker's rate over the best peer's".into()));
    }
    let curves: [(&str, &str, Figure); 4] = [
        ("rate", "operations a second", |sample| sample.rate),
        ("slowest", "slowest operation, ms", |sample| sample.slowest_ms),
        ("disk", "disk taken, MiB", |sample| sample.disk_bytes as f64 / f64::from(1 << 20)),
        ("memory", "resident memory, MiB", |sample| sample.rss_bytes as f64 / f64::from(1 << 20)),
    ];
    for row in summary.rows.iter().filter(|row| row.workload.sampled) {
        for (what, unit, figure) in curves {
            let (name, title) =
                (format!("{}-{what}.svg", row.workload.name), format!("{}: {unit}", row.workload.name));
            if over_time(summary, row, &dir.join(&name), &title, figure)? {
                drawn.push((name, title));
            }
        }
    }
    Ok(drawn)
}

/// One bar a workload, on a logarithmic axis around 1.
fn ratios(summary: &Summary, path: &Path) -> Result<bool> {
    let bars: Vec<_> = summary
        .rows
        .iter()
        .filter_map(|row| {
            row.best_peer().map(|(peer, ratio)| (row.workload.name.as_str(), peer, ratio.log2()))
        })
        .collect();
    if bars.is_empty() {
        return Ok(false);
    }
    let reach = bars.iter().map(|(_, _, ratio)| ratio.abs()).fold(1.0, f64::max).ceil() + 1.0;
    let root = SVGBackend::new(path, (WIDTH, 60 + 22 * bars.len() as u32)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("a plot cannot be drawn: {error}");
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .margin(10)
        .caption("Esker's rate over the best peer's", ("sans-serif", 18))
        .x_label_area_size(25)
        .y_label_area_size(170)
        .build_cartesian_2d(-reach..reach, (0..bars.len()).into_segmented())
        .map_err(|error| failed(&error))?;
    let name = |value: &SegmentValue<usize>| match value {
        SegmentValue::CenterOf(at) => bars.get(bars.len() - 1 - at).map_or("", |bar| bar.0).to_string(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len())
        .x_labels(9)
        .light_line_style(WHITE)
        .x_label_formatter(&factor)
        .y_label_formatter(&name)
        .draw()
        .map_err(|error| failed(&error))?;
    let rising = || bars.iter().rev().enumerate();
    let shapes = rising().map(|(at, (_, _, ratio))| {
        let color = if *ratio >= 0.0 { RGBColor(46, 125, 50) } else { RGBColor(198, 40, 40) };
        let corners = [(0.0, SegmentValue::Exact(at)), (*ratio, SegmentValue::Exact(at + 1))];
        let mut bar = Rectangle::new(corners, color.filled());
        bar.set_margin(3, 3, 0, 0);
        bar
    });
    chart.draw_series(shapes).map_err(|error| failed(&error))?;
    let style = TextStyle::from(("sans-serif", 12)).pos(Pos::new(HPos::Left, VPos::Center));
    let labels = rising().map(|(at, (_, peer, ratio))| {
        let label = format!(" {} {}", number(ratio.exp2()), peer.title());
        Text::new(label, (ratio.max(0.0), SegmentValue::CenterOf(at)), style.clone())
    });
    chart.draw_series(labels).map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))?;
    Ok(true)
}

/// A power of two as people write it.
fn factor(power: &f64) -> String {
    if *power < 0.0 { format!("1/{}", number((-power).exp2())) } else { number(power.exp2()) }
}

/// A line an engine, of its run in the middle.
fn over_time(
    summary: &Summary,
    row: &Row,
    path: &Path,
    title: &str,
    figure: fn(&Sample) -> f64,
) -> Result<bool> {
    let lines: Vec<(Engine, Vec<(f64, f64)>)> = summary
        .engines()
        .into_iter()
        .filter_map(|engine| {
            let samples = &row.of(engine)?.middle()?.samples;
            Some((engine, samples.iter().map(|sample| (sample.seconds, figure(sample))).collect()))
        })
        .collect();
    let points = || lines.iter().flat_map(|(_, points)| points);
    let right = points().map(|point| point.0).fold(0.0, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max) * 1.05;
    if right <= 0.0 || top <= 0.0 {
        return Ok(false);
    }
    let root = SVGBackend::new(path, (WIDTH, 420)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("a plot cannot be drawn: {error}");
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .margin(10)
        .caption(title, ("sans-serif", 18))
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..right, 0.0..top)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_label_formatter(&|value| number(*value))
        .light_line_style(WHITE)
        .draw()
        .map_err(|error| failed(&error))?;
    for (engine, points) in lines {
        let style = color(engine).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points, style))
            .map_err(|error| failed(&error))?
            .label(engine.title())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
        .map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))?;
    Ok(true)
}

fn color(engine: Engine) -> RGBColor {
    match engine {
        Engine::Esker => RGBColor(198, 40, 40),
        #[cfg(feature = "rocksdb")]
        Engine::Rocksdb => RGBColor(21, 101, 192),
        Engine::Fjall => RGBColor(0, 131, 143),
        Engine::Redb => RGBColor(239, 108, 0),
        Engine::Lmdb => RGBColor(106, 27, 154),
    }
}
