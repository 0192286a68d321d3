//! Running something under a seed, in virtual time, in one thread; and checking that it runs the same twice.

use std::{fmt, future::Future};

use crate::{
    Rng,
    trace::{Fingerprint, Trace},
};

/// What everything in one simulation shares.
#[derive(Debug, Clone)]
pub struct Sim {
    /// What it is replayed by.
    pub seed: u64,
    /// Where all its randomness comes from: fork it by name for each part.
    pub rng: Rng,
    /// What happened.
    pub trace: Trace,
}

/// Runs `body` under `seed`: one thread, and a clock that jumps to the next timer when nobody has anything to do.
///
/// What `body` must not do, for it would make runs differ: take the time or randomness from elsewhere, go by the
/// order of a `HashMap`, start threads, or use `tokio::select!` without `biased` (it polls its branches in an order
/// that tokio draws at random). [`check_deterministic`] finds such things out. Where several tasks wait for one
/// `tokio::sync::watch`, as real nodes do, runs repeat exactly only if built with `--cfg tokio_unstable`, as `.cargo/config.toml` says.
pub fn run<T, F: Future<Output = T>>(seed: u64, body: impl FnOnce(Sim) -> F) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true);
    // tokio wakes those who wait for a `watch` in an order that it draws at random, from a seed that only its unstable
    // interface sets.
    #[cfg(tokio_unstable)]
    runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    runtime.build().expect("a runtime without I/O needs nothing that can be missing").block_on(async {
        let sim = Sim { seed, rng: Rng::new(seed), trace: Trace::new() };
        body(sim).await
    })
}

/// Two runs under one seed went apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diverged {
    /// The seed.
    pub seed: u64,
    /// Where, and what each run did there.
    pub message: String,
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two runs under seed {} differ: {}", self.seed, self.message)
    }
}

impl std::error::Error for Diverged {}

/// Runs `body` twice under one seed and compares the traces; gives the result of the second run.
pub fn check_deterministic<T, F: Future<Output = T>>(
    seed: u64,
    body: impl Fn(Sim) -> F,
) -> Result<T, Diverged> {
    let once = || {
        run(seed, |sim| {
            let trace = sim.trace.clone();
            let work = body(sim);
            async move {
                let result = work.await;
                (result, trace.fingerprint())
            }
        })
    };
    let (_, first) = once();
    let (result, second) = once();
    match difference(&first, &second) {
        None => Ok(result),
        Some(message) => Err(Diverged { seed, message }),
    }
}

fn difference(first: &Fingerprint, second: &Fingerprint) -> Option<String> {
    if first == second {
        return None;
    }
    let apart = first.lines.iter().zip(&second.lines).position(|(one, two)| one != two);
    let at = apart.unwrap_or(first.lines.len().min(second.lines.len()));
    let line = |of: &Fingerprint| of.lines.get(at).cloned().unwrap_or_else(|| "nothing more".into());
    Some(format!(
        "at kept line {at} of {} and {}:\n  first:  {}\n  second: {}",
        first.count,
        second.count,
        line(first),
        line(second)
    ))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use super::*;

    #[test]
    fn time_is_virtual_and_runs_repeat() {
        let hours = check_deterministic(3, |sim| async move {
            for _ in 0..100 {
                tokio::time::sleep(sim.rng.duration(Duration::ZERO..Duration::from_secs(7200))).await;
                sim.trace.note("woke");
            }
            sim.trace.elapsed().as_secs() / 3600
        });
        assert!((80..120).contains(&hours.unwrap()));
    }

    #[test]
    fn runs_that_differ_are_found_and_shown() {
        let runs = AtomicU64::new(0);
        let outcome = check_deterministic(3, |sim| {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            async move {
                sim.trace.note("the same");
                sim.trace.note(format!("run {run}"));
            }
        });
        let message = outcome.unwrap_err().to_string();
        assert!(
            message.contains("run 0") && message.contains("run 1") && message.contains("seed 3"),
            "{message}"
        );
    }
}
