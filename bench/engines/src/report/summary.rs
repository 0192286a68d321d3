//! The runs of a results file, by workload and engine.

use std::collections::BTreeMap;

use clap::ValueEnum as _;

use crate::{
    result::{Ending, Figures, Line},
    stores::Engine,
    workload::{self, Action, Workload},
};

/// All runs, the workloads in their own order.
pub struct Summary {
    pub rows: Vec<Row>,
    pub scale: f64,
    pub runs: usize,
}

/// A workload and who did it.
pub struct Row {
    pub workload: Workload,
    engines: BTreeMap<String, Runs>,
}

/// What came of one workload on one engine.
#[derive(Default)]
pub struct Runs {
    done: Vec<Figures>,
    pub failed: Vec<String>,
}

impl Summary {
    pub fn of(lines: Vec<Line>) -> Self {
        let scale = lines.first().map_or(0.0, |line| line.scale);
        let mut rows: Vec<_> =
            workload::all().into_iter().map(|workload| Row { workload, engines: BTreeMap::new() }).collect();
        for line in lines {
            if let Some(row) = rows.iter_mut().find(|row| row.workload.name == line.workload) {
                let runs = row.engines.entry(line.engine).or_default();
                match line.outcome {
                    Ending::Done(figures) => runs.done.push(*figures),
                    Ending::Failed(why) => runs.failed.push(why),
                }
            }
        }
        rows.retain(|row| !row.engines.is_empty());
        let runs =
            rows.iter().flat_map(|row| row.engines.values()).map(|runs| runs.done.len()).max().unwrap_or(0);
        Self { rows, scale, runs }
    }

    /// Engines that appear, Esker first.
    pub fn engines(&self) -> Vec<Engine> {
        let there = |engine: &Engine| self.rows.iter().any(|row| row.of(*engine).is_some());
        Engine::value_variants().iter().copied().filter(there).collect()
    }
}

impl Row {
    pub fn of(&self, engine: Engine) -> Option<&Runs> {
        self.engines.get(&format!("{engine:?}").to_lowercase())
    }

    /// What is not an engine: fio.
    pub fn others(&self) -> impl Iterator<Item = (&String, &Runs)> {
        self.engines.iter().filter(|(name, _)| name.starts_with("fio"))
    }

    /// The fastest of the others, and Esker's rate over its.
    pub fn best_peer(&self) -> Option<(Engine, f64)> {
        let rate = |engine| self.of(engine).and_then(|runs| runs.median(Figures::rate));
        let peers = Engine::value_variants().iter().copied().filter(|engine| *engine != Engine::Esker);
        let (best, fastest) = peers
            .filter_map(|engine| Some((engine, rate(engine)?)))
            .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        Some((best, rate(Engine::Esker)? / fastest))
    }

    /// Whether it is how long one thing took that says most.
    pub fn is_one_operation(&self) -> bool {
        self.workload.action == Action::Open
    }
}

impl Runs {
    /// The median of a figure over the runs that ended well.
    pub fn median(&self, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        let mut values: Vec<_> = self.done.iter().map(figure).collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(values[middle]),
            _ => Some((values[middle - 1] + values[middle]) / 2.0),
        }
    }

    /// The highest of a figure over the runs that ended well.
    pub fn most(&self, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        self.done.iter().map(figure).max_by(f64::total_cmp)
    }

    /// The run in the middle, by rate.
    pub fn middle(&self) -> Option<&Figures> {
        let mut runs: Vec<_> = self.done.iter().collect();
        runs.sort_unstable_by(|a, b| a.rate().total_cmp(&b.rate()));
        runs.get(runs.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(engine: &str, operations: u64) -> Line {
        let figures = Figures { operations, seconds: 1.0, ..Figures::default() };
        Line {
            workload: "scan-100".into(),
            engine: engine.into(),
            run: 0,
            scale: 1.0,
            outcome: Ending::Done(Box::new(figures)),
        }
    }

    #[test]
    fn the_ratio_is_of_medians_to_the_best_peer() {
        let lines =
            [("esker", 10), ("esker", 30), ("esker", 90), ("lmdb", 60), ("redb", 15), ("fio, x", 900)];
        let summary = Summary::of(lines.map(|(engine, count)| line(engine, count)).into());
        let [row] = summary.rows.as_slice() else { panic!("one workload") };
        assert_eq!(row.best_peer(), Some((Engine::Lmdb, 0.5)));
        assert_eq!(row.others().count(), 1);
        assert_eq!(summary.runs, 3);
        assert_eq!(summary.engines(), [Engine::Esker, Engine::Redb, Engine::Lmdb]);
    }
}
