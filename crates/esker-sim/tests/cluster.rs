//! Real nodes under faults. `cargo run --release -p esker-sim -- --seeds 1000` does the same for as long as one likes.

use esker_cluster::raft::{Bug, plant};
use esker_sim::cluster::{ScenarioOptions, run};

/// A planted defect is found within so many seeds; without one, all of them keep every promise.
const SEEDS: u64 = 60;

/// The first seed under which a promise is not kept.
fn first_failure(seeds: u64, options: &ScenarioOptions) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| {
        let report = run(seed, options);
        (!report.failures.is_empty()).then(|| (seed, report.to_string()))
    })
}

/// CHECKS 16 to 22, 26, 28.
#[test]
fn clusters_of_three_keep_every_promise() {
    assert_eq!(first_failure(20, &ScenarioOptions::default()), None);
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

fn assert_found(bug: Bug) {
    plant(Some(bug));
    let found = first_failure(SEEDS, &ScenarioOptions::default());
    plant(None);
    assert!(found.is_some(), "{bug:?} was not found within {SEEDS} seeds");
}

/// CHECKS 3.
#[test]
fn acknowledging_before_the_sync_is_found() {
    assert_found(Bug::AckBeforeSync);
}

/// CHECKS 17.
#[test]
fn reading_without_asking_who_leads_is_found() {
    assert_found(Bug::ReadWithoutIndex);
}

/// CHECKS 3.
#[test]
fn forgetting_the_vote_is_found() {
    assert_found(Bug::ForgetVote);
}

/// CHECKS 19.
#[test]
fn applying_a_request_twice_is_found() {
    assert_found(Bug::ApplyTwice);
}
