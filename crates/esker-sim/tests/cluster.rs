//! Real nodes under faults. `cargo run --release -p esker-sim -- --seeds 1000` does the same for as long as one likes.

use esker_cluster::raft::{Bug, plant};
use esker_sim::cluster::{ScenarioOptions, run};

/// A planted defect is found within so many seeds.
const SEEDS: u64 = 60;
/// Without one, all of these keep every promise.
const SEEDS_OF_CORRECT: u64 = 8;

/// The first seed under which a promise is not kept.
fn first_failure(mut seeds: impl Iterator<Item = u64>, options: &ScenarioOptions) -> Option<(u64, String)> {
    seeds.find_map(|seed| {
        let report = run(seed, options);
        (!report.failures.is_empty()).then(|| (seed, report.to_string()))
    })
}

/// CHECKS 16 to 22, 26, 28.
#[test]
fn clusters_of_three_keep_every_promise() {
    assert_eq!(first_failure(0..SEEDS_OF_CORRECT, &ScenarioOptions::default()), None);
}

/// Needs tokio's seed (see `sim::run`).
#[cfg(tokio_unstable)]
#[test]
fn a_seed_runs_the_same_twice() {
    for seed in [1, 2] {
        let options = ScenarioOptions::default();
        let report = esker_sim::sim::check_deterministic(seed, |sim| {
            esker_sim::cluster::in_simulation(sim, options.clone())
        })
        .unwrap();
        assert!(report.history.answered() > 100, "{}", report.history.answered());
    }
}

/// `first` is a seed that found it once, so that it need not be looked for as long.
fn assert_found(bug: Bug, first: u64) {
    plant(Some(bug));
    let found = first_failure((first..SEEDS).chain(0..first), &ScenarioOptions::default());
    plant(None);
    let (seed, _) = found.unwrap_or_else(|| panic!("{bug:?} was not found within {SEEDS} seeds"));
    println!("{bug:?} was found with the seed {seed}");
}

/// CHECKS 3.
#[test]
fn acknowledging_before_the_sync_is_found() {
    assert_found(Bug::AckBeforeSync, 19);
}

/// CHECKS 17.
#[test]
fn reading_without_asking_who_leads_is_found() {
    assert_found(Bug::ReadWithoutIndex, 8);
}

/// CHECKS 3.
#[test]
fn forgetting_the_vote_is_found() {
    assert_found(Bug::ForgetVote, 0);
}

/// CHECKS 19.
#[test]
fn applying_a_request_twice_is_found() {
    assert_found(Bug::ApplyTwice, 1);
}
