//! Runs clusters of real nodes under faults, one seed after another, until one does not keep what Esker promises.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use esker_sim::cluster::{Report, ScenarioOptions, run};

const USAGE: &str = "\
esker-sim: clusters of Esker nodes under faults, in virtual time

  --seeds N     run N seeds, from --first on (default 1000)
  --first N     the first of them (default 0)
  --seed N      run this one and print what happened
  --nodes N     nodes in the cluster (default 3)
  --steps N     seconds of faults in each run (default 15)
  --clients N   clients (default 6)
  --jobs N      runs at a time (default: the cores)
";

/// How often progress is told, in seeds.
const NOTICE_EVERY: u64 = 50;

struct Arguments {
    first: u64,
    seeds: u64,
    replay: Option<u64>,
    jobs: usize,
    options: ScenarioOptions,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut parsed =
            Self { first: 0, seeds: 1000, replay: None, jobs, options: ScenarioOptions::default() };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a number"))?;
            let number: u64 = value.parse().map_err(|_| format!("{name}: {value} is no number"))?;
            match name.as_str() {
                "--seeds" => parsed.seeds = number,
                "--first" => parsed.first = number,
                "--seed" => parsed.replay = Some(number),
                "--nodes" if number > 1 => parsed.options.nodes = number,
                "--steps" => parsed.options.faulty_for = Duration::from_secs(number),
                "--clients" => parsed.options.clients = u32::try_from(number).map_err(|e| e.to_string())?,
                "--jobs" if number > 0 => parsed.jobs = usize::try_from(number).map_err(|e| e.to_string())?,
                _ => return Err(format!("{name} {value} is not understood")),
            }
        }
        Ok(parsed)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprint!("{why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let held = match arguments.replay {
        Some(seed) => replay(seed, &arguments.options),
        None => run_all(&arguments),
    };
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// One seed, with everything that happened.
fn replay(seed: u64, options: &ScenarioOptions) -> io::Result<bool> {
    let report = run(seed, options);
    let mut out = io::stdout().lock();
    for line in &report.trace {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{report}")?;
    Ok(report.failures.is_empty())
}

/// Many seeds, on as many threads as there are jobs; ends with the first that fails.
fn run_all(arguments: &Arguments) -> io::Result<bool> {
    let (next, done) = (AtomicU64::new(arguments.first), AtomicU64::new(0));
    let end = arguments.first.saturating_add(arguments.seeds);
    let failed = AtomicBool::new(false);
    let first_failure: Mutex<Option<Report>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                while !failed.load(Ordering::Acquire) {
                    let seed = next.fetch_add(1, Ordering::AcqRel);
                    if seed >= end {
                        return;
                    }
                    let report = run(seed, &arguments.options);
                    let done = done.fetch_add(1, Ordering::AcqRel) + 1;
                    if done.is_multiple_of(NOTICE_EVERY) {
                        eprintln!("{done} of {} seeds", arguments.seeds);
                    }
                    if !report.failures.is_empty() {
                        failed.store(true, Ordering::Release);
                        let mut first = first_failure.lock().unwrap_or_else(|e| e.into_inner());
                        first.get_or_insert(report);
                    }
                }
            });
        }
    });
    let failure = first_failure.into_inner().unwrap_or_else(|e| e.into_inner());
    let mut out = io::stdout().lock();
    match failure {
        None => writeln!(out, "{} seeds kept every promise", done.into_inner())?,
        Some(report) => {
            let ScenarioOptions { nodes, faulty_for, clients, .. } = &arguments.options;
            let steps = faulty_for.as_secs();
            writeln!(out, "{report}")?;
            writeln!(
                out,
                "replay: esker-sim --seed {} --nodes {nodes} --steps {steps} --clients {clients}",
                report.plan.seed
            )?;
            return Ok(false);
        }
    }
    Ok(true)
}
