//! Doing something to a cluster while clients use it, and holding what they saw against the promises.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use esker_client::{Client, Settings};

use super::{
    Cluster,
    scenarios::PROBE_KEY,
    target::{ClientTarget, scan},
    wait_for,
};
use crate::{
    Rng,
    checker::{self, Failure, Promises, State, assert_none, check_end_state},
    clients::{Clients, Workload},
    history::{History, Outcome, Recorder},
};

/// What came of it.
#[derive(Debug)]
pub struct Report<T> {
    /// What the scenario measured.
    pub measured: T,
    /// What the clients saw.
    pub history: History,
    /// The promises that were not kept.
    pub failures: Vec<Failure>,
}

impl<T> Report<T> {
    /// What the clients were told of operations that failed, i.e. that the library's retries did not hide.
    pub fn errors(&self) -> Vec<&str> {
        let outcomes = self.history.operations.iter().map(|operation| &operation.outcome);
        let told = outcomes.filter_map(|outcome| match outcome {
            Outcome::Refused(why) | Outcome::Unknown(why) => Some(why.as_str()),
            _ => None,
        });
        told.collect()
    }

    /// Refusals among them.
    pub fn refusals(&self) -> usize {
        let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
        self.history.operations.iter().filter(|operation| refused(&operation.outcome)).count()
    }

    /// Panics unless all promises were kept and at least `answered` operations answered; gives what was measured.
    ///
    /// # Panics
    ///
    /// If a promise was not kept, or so little was answered that the run shows nothing.
    pub fn check(self, answered: usize) -> T {
        assert_none(&self.failures, &self.history, "real processes: not to be replayed exactly");
        let got = self.history.answered();
        assert!(got >= answered, "only {got} operations were answered: the run shows nothing");
        self.measured
    }
}

/// Runs `scenario` on the cluster while clients work on it. Afterwards all nodes run, and what is there is read from each.
///
/// `any` is the client for what is asked of no particular node; `settings` are those of the others.
pub async fn under_load<T>(
    cluster: &mut Cluster,
    workload: &Workload,
    settings: &Settings,
    any: Client,
    scenario: impl AsyncFnOnce(&mut Cluster, &Recorder) -> io::Result<T>,
) -> io::Result<Report<T>> {
    let recorder = Recorder::new();
    let target = Arc::new(ClientTarget::new(cluster.clients(settings)?, any));
    let clients = Clients::start(workload, target, &recorder, &Rng::new(u64::from(std::process::id())));
    let measured = scenario(cluster, &recorder).await;
    clients.stop().await;
    let measured = measured?;
    cluster.start_all().await?;
    let history = recorder.history();
    let mut failures = checker::check(&history, Promises::default());
    for (node, client) in cluster.clients(&Settings::default())? {
        let state = end_state(&client).await?;
        failures.extend(check_end_state(&history, &state).into_iter().map(|failure| {
            let message = format!("read from node {node}: {}", failure.message);
            Failure { message, ..failure }
        }));
    }
    Ok(Report { measured, history, failures })
}

/// Everything that is there, once the node answers.
async fn end_state(client: &Client) -> io::Result<State> {
    /// Longer than any recovery is allowed to take.
    const WITHIN: Duration = Duration::from_secs(30);
    wait_for("a node tells what it holds", WITHIN, async || {
        // What the scenarios write to see whether they can is in no history.
        let found = scan(client, &Bytes::new()).await.ok();
        Ok(found.map(|found| found.into_iter().filter(|(key, _)| *key != PROBE_KEY).collect()))
    })
    .await
}
