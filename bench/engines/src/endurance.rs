//! A plot of what `bench/endurance.sh` has sampled.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
};

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::report::panels::{BLUE, Curve, Panel, RED, draw};

#[derive(Debug, clap::Args)]
pub struct EnduranceArgs {
    /// The samples, a line of JSON each.
    samples: PathBuf,
    /// The plot to write.
    plot: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
struct Sample {
    phase: String,
    /// Since the phase began.
    seconds: f64,
    disk_bytes: f64,
    rss_bytes: f64,
    open_files: f64,
    operations_per_second: f64,
    put_p999_ms: f64,
    get_p999_ms: f64,
}

const MIB: f64 = (1 << 20) as f64;

pub fn endurance(args: &EnduranceArgs) -> Result<()> {
    let file = BufReader::new(std::fs::File::open(&args.samples)?);
    let samples =
        file.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<Vec<Sample>>>()?;
    ensure!(!samples.is_empty(), "there are no samples");
    let (samples, second_phase) = one_after_another(samples);
    let curve = |name, color, figure: fn(&Sample) -> f64| Curve {
        name,
        color,
        points: samples.iter().map(|sample| (sample.seconds, figure(sample))).collect(),
    };
    let one = |title: &str, figure| Panel {
        title: title.into(),
        curves: vec![curve("", BLUE, figure)],
        logarithmic: false,
        shaded: second_phase.clone(),
    };
    let panels = [
        one("disk taken, MiB", |sample| sample.disk_bytes / MIB),
        one("resident memory, MiB", |sample| sample.rss_bytes / MIB),
        one("open files", |sample| sample.open_files),
        one("operations a second", |sample| sample.operations_per_second),
        Panel {
            title: "p99.9, ms".into(),
            curves: vec![
                curve("puts", RED, |sample| sample.put_p999_ms),
                curve("gets", BLUE, |sample| sample.get_p999_ms),
            ],
            logarithmic: true,
            shaded: second_phase.clone(),
        },
    ];
    let title = "Endless overwriting; shaded: a queue whose keys never repeat";
    draw(&args.plot, title, &panels)
}

/// The phases on one axis, and the times of the second.
fn one_after_another(mut samples: Vec<Sample>) -> (Vec<Sample>, Vec<(f64, f64)>) {
    let first_phase = samples[0].phase.clone();
    let end = |samples: &[Sample]| samples.iter().map(|sample| sample.seconds).fold(0.0, f64::max);
    let count = samples.iter().take_while(|sample| sample.phase == first_phase).count();
    let began = end(&samples[..count]);
    samples[count..].iter_mut().for_each(|sample| sample.seconds += began);
    let second = (count < samples.len()).then(|| (began, end(&samples)));
    (samples, second.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_phase_follows_the_first() {
        let sample = |phase: &str, seconds| Sample {
            phase: phase.into(),
            seconds,
            disk_bytes: 0.0,
            rss_bytes: 0.0,
            open_files: 0.0,
            operations_per_second: 0.0,
            put_p999_ms: 0.0,
            get_p999_ms: 0.0,
        };
        let (samples, shaded) =
            one_after_another(vec![sample("a", 1.0), sample("a", 2.0), sample("b", 1.0), sample("b", 3.0)]);
        assert!(samples.iter().map(|sample| sample.seconds).eq([1.0, 2.0, 3.0, 5.0]));
        assert_eq!(shaded, [(2.0, 5.0)]);
    }
}
