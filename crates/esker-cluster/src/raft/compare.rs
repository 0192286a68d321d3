//! Replicas compare their states (CHECKS 26): the leader puts a mark into the log now and then; each node sums its state up at
//! that very entry, in the background, and asks the others for theirs. Who finds itself alone against a majority has
//! diverged: it says so, takes no more writes and takes part no more, so that it can be replaced.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use esker_engine::{
    Error, RequestId, Result,
    replica::{RANGES, Summary},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Handle, node::Leadership, propose::Write};
use crate::{Ack, peer::wire};

/// What a node knows of its last comparison.
#[derive(Default)]
pub(crate) struct Comparing {
    own: Mutex<Option<Summary>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether the own summary was compared with a majority.
    settled: bool,
    /// When this node, as the leader, put a mark last, and what was applied then.
    marked: Option<(Instant, u64)>,
    marks: u64,
}

impl Comparing {
    /// The last summary, as a message.
    pub(crate) fn summary(&self) -> Option<wire::Summary> {
        let own = self.own.lock();
        own.as_ref().map(|own| wire::Summary { at: own.at, ranges: own.ranges.clone() })
    }
}

impl Handle {
    /// Does what is due of a comparison; called again and again. An error: this node has diverged.
    pub(crate) async fn compare(self: &Arc<Self>, interval: Duration) -> Result<()> {
        self.mark(interval).await;
        if let Some(comparison) = self.shared.replica.take_comparison() {
            let summary = if self.shared.blocking_threads {
                let sum = tokio::task::spawn_blocking(|| comparison.sum()).await;
                sum.map_err(|e| Error::io("summing the state up", std::io::Error::other(e)))??
            } else {
                comparison.sum()?
            };
            *self.comparing.own.lock() = Some(summary);
            self.comparing.state.lock().settled = false;
        }
        if self.comparing.state.lock().settled {
            return Ok(());
        }
        let own = self.comparing.own.lock().clone();
        match own {
            Some(own) => self.compare_with_others(&own).await,
            None => Ok(()),
        }
    }

    /// On the leader: puts a mark into the log when it is time and there is something new.
    async fn mark(&self, interval: Duration) {
        let applied = self.reads.applied();
        let nth = {
            let mut state = self.comparing.state.lock();
            let is_due = state.marked.is_none_or(|(when, at)| when.elapsed() >= interval && applied > at);
            if !matches!(self.leadership(), Leadership::Mine) || !is_due {
                return;
            }
            // The mark is an entry itself.
            state.marked = Some((Instant::now(), applied + 1));
            state.marks += 1;
            state.marks
        };
        let mut batch = esker_engine::WriteBatch::new();
        batch.request(RequestId::comparison(nth)).expect("an empty batch takes a request id");
        batch.stamp(self.shared.replica.now_ms());
        let write = Write::new(batch.into_payload(), None, Ack::Majority);
        if let Err(e) = self.propose(&write, Instant::now() + self.shared.config.commit_patience).await {
            tracing::debug!(attempt = ?e, "the mark of a comparison was not taken");
        }
    }

    async fn compare_with_others(&self, own: &Summary) -> Result<()> {
        let membership = self.membership();
        let others = membership.membership().nodes().filter(|(id, _)| **id != self.shared.node_id());
        let ask = others.map(|(id, node)| {
            let peer = self.shared.connect(*id, node);
            async move {
                let request = wire::HelloRequest { summary: true, ..wire::HelloRequest::default() };
                peer.hello(request).await.ok().and_then(|reply| reply.summary)
            }
        });
        let answers = futures_util::future::join_all(ask).await;
        let theirs = answers.into_iter().flatten().filter(|found| found.ranges.len() == RANGES);
        let theirs: Vec<_> = theirs.map(|found| Summary { at: found.at, ranges: found.ranges }).collect();
        if theirs.iter().any(|their| their.at > own.at) {
            // This node is behind with the summing: the next mark will do.
            self.comparing.state.lock().settled = true;
            return Ok(());
        }
        let mut votes: BTreeMap<&[u64], usize> = [(own.ranges.as_slice(), 1)].into();
        for their in theirs.iter().filter(|their| their.at == own.at) {
            *votes.entry(&their.ranges).or_default() += 1;
        }
        let majority = membership.membership().nodes().count() / 2 + 1;
        let Some((agreed, _)) = votes.into_iter().find(|(_, count)| *count >= majority) else {
            return Ok(());
        };
        self.comparing.state.lock().settled = true;
        let agreed = Summary { at: own.at, ranges: agreed.to_vec() };
        match own.differences(&agreed) {
            ranges if ranges.is_empty() => Ok(()),
            ranges => Err(diverged(own.at, &ranges)),
        }
    }
}

fn diverged(at: u64, ranges: &[u8]) -> Error {
    let first = ranges.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(", ");
    let why = format!(
        "at entry {at} its state differs from a majority's, in {} ranges of keys, those that begin with the byte {first}: \
         wipe its data directory and start it again, it comes back from the others",
        ranges.len()
    );
    Error::io("comparing this replica with the others", std::io::Error::other(why))
}
