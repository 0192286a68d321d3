//! From clients to verdict: a correct toy passes, and each planted defect is found by the check that is there for it.

mod support;

use std::{sync::Arc, time::Duration};

use esker_sim::{
    checker::{self, Promises, assert_none, check_end_state},
    clients::{Clients, Workload},
    history::{History, Recorder},
    sim::{self, Sim},
};
use support::{Defect, Toy};

async fn work(sim: Sim, defect: Defect) -> (History, Vec<checker::Failure>) {
    let recorder = Recorder::new();
    let toy = Arc::new(Toy::new(defect, sim.rng.fork("toy")));
    let clients = Clients::start(&Workload::default(), toy.clone(), &recorder, &sim.rng.fork("clients"));
    tokio::time::sleep(Duration::from_secs(20)).await;
    clients.stop().await;
    let history = recorder.history();
    history.operations.iter().for_each(|operation| sim.trace.note(operation));
    let mut failures = checker::check(&history, Promises::default());
    failures.extend(check_end_state(&history, &toy.end_state()));
    (history, failures)
}

fn found(seed: u64, defect: Defect) -> Vec<&'static str> {
    let (_, failures) = sim::run(seed, |sim| work(sim, defect));
    failures.into_iter().map(|failure| failure.check).collect()
}

#[test]
fn a_correct_cluster_passes_under_many_seeds_and_runs_the_same_twice() {
    for seed in 0..10 {
        let run = |sim| work(sim, Defect::None);
        let (history, failures) = sim::check_deterministic(seed, run).unwrap();
        assert!(history.answered() > 3000, "{}", history.answered());
        assert_none(&failures, &history, &format!("seed {seed}"));
    }
}

#[test]
fn every_defect_is_found_by_its_check() {
    for (defect, check) in [
        (Defect::ReadsLag, "linearizability"),
        (Defect::RefusedAreDone, "linearizability"),
        (Defect::AcknowledgedAreLost, "linearizability"),
        (Defect::RetriesAreDoneAgain, "linearizability"),
        (Defect::BatchesAreTorn, "atomic batches"),
        (Defect::StaleReadsGoBack, "monotonic stale reads"),
        (Defect::VersionsAreOff, "versions"),
        (Defect::ConditionsAreIgnored, "linearizability"),
        (Defect::IncrementsAreLost, "linearizability"),
    ] {
        let found: Vec<_> = (0..5).filter(|seed| self::found(*seed, defect).contains(&check)).collect();
        assert!(found.len() >= 4, "{defect:?}: only under seeds {found:?}");
    }
}
