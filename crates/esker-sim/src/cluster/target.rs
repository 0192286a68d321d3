//! What clients meet: each node answers for itself, as its front would.

use std::time::Duration;

use bytes::Bytes;
use esker_cluster::{Consistency, Error, WriteOptions, raft::RaftNode};
use esker_engine::{Condition, Entry, KeyRange, Refusal, WriteBatch};
use esker_log::clock::Clock;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::sleep;

use super::{Cluster, process::Process};
use crate::{
    clients::{Ask, Target},
    history::{Action, Key, Outcome, Versioned},
};

/// How long a request or an answer takes between a client and a node.
const WAY: std::ops::Range<Duration> = Duration::from_micros(100)..Duration::from_millis(1);

impl Target for Cluster {
    fn ask(&self, ask: Ask) -> BoxFuture<'static, Outcome> {
        let cluster = self.clone();
        async move {
            let rng = cluster.inner.rng.clone();
            sleep(rng.duration(WAY)).await;
            let process = cluster.process(ask.node.unwrap_or(1));
            let Some(process) = process else { return Outcome::Refused("the node is down".into()) };
            let Some(node) = process.node() else { return Outcome::Refused("the node is starting".into()) };
            let outcome = process.run(answer(&process, &node, ask)).await;
            sleep(rng.duration(WAY)).await;
            outcome.unwrap_or_else(|| Outcome::Unknown("the node went down".into()))
        }
        .boxed()
    }
}

async fn answer(process: &Process, node: &RaftNode, ask: Ask) -> Outcome {
    let outcome = match ask.action.consistency() {
        None => write(process, node, &ask).await,
        Some(consistency) => read(process, node, &ask.action, consistency).await,
    };
    outcome.unwrap_or_else(|e| failed(&e))
}

async fn write(process: &Process, node: &RaftNode, ask: &Ask) -> Result<Outcome, Error> {
    let options = WriteOptions { request: Some(ask.request), ..WriteOptions::default() };
    let written = node.write(batch(process, &ask.action)?, options).await?;
    let version = Some(written.version);
    Ok(match (written.refusal(), written.sum()) {
        (Some(Refusal::Condition(present)), _) => Outcome::Failed { present },
        (Some(refusal), _) => Outcome::Refused(refusal.to_string()),
        (None, Some(sum)) => Outcome::Sum { value: u32::try_from(sum).unwrap_or(u32::MAX), version },
        (None, None) => Outcome::Written { version },
    })
}

fn batch(process: &Process, action: &Action) -> Result<WriteBatch, Error> {
    let mut batch = WriteBatch::new();
    match action {
        Action::PutExpiring { key, value, ttl } => {
            let expires = process.clock().wall() + *ttl;
            batch.put_expiring(key, value, expires.as_millis() as u64)?;
        }
        Action::PutIf { key, value, expected } => {
            batch.require(key, expected.map_or(Condition::Absent, Condition::Version))?;
            batch.put(key, value)?;
        }
        Action::Incr { key } => batch.add(key, 1)?,
        Action::DeleteRange { prefix, .. } => batch.delete_range(&KeyRange::prefix(prefix.to_vec()))?,
        _ => {
            for (key, value) in action.writes() {
                match value {
                    Some(value) => batch.put(key, value)?,
                    None => batch.delete(key)?,
                }
            }
        }
    }
    Ok(batch)
}

async fn read(
    process: &Process,
    node: &RaftNode,
    action: &Action,
    consistency: Consistency,
) -> Result<Outcome, Error> {
    if consistency == Consistency::Linearizable {
        node.read_point().await?;
    }
    let applied = Some(node.applied());
    let reader = process.replica().reader();
    Ok(match action {
        Action::Scan { prefix, .. } => {
            let items = reader.scan(&KeyRange::prefix(prefix.to_vec()), false);
            let found = items.map(|item| item.map(found_item)).collect::<Result<_, _>>()?;
            Outcome::Scanned { found, applied }
        }
        Action::Get { key, .. } => {
            let found = reader.get(key)?;
            let version =
                |Entry { value, version, .. }: Entry| Versioned { value: value.into_bytes(), version };
            Outcome::Read { found: found.map(version), applied }
        }
        write => unreachable!("{write} reads nothing"),
    })
}

/// An item as the checkers take it.
pub(super) fn found_item(item: esker_engine::Item) -> (Key, Versioned) {
    let value = item.value.map_or(Bytes::new(), |value| value.into_bytes());
    (item.key.into(), Versioned { value, version: item.version })
}

/// What a client may conclude, going by the documentation of [`Error`].
fn failed(error: &Error) -> Outcome {
    use esker_engine::Error as Engine;
    let why = error.to_string();
    match error {
        Error::OutcomeUnknown(_) | Error::WorkerDied => Outcome::Unknown(why),
        Error::Engine(
            Engine::Busy { .. } | Engine::DiskFull | Engine::MemoryFull | Engine::InvalidRequest(_),
        ) => Outcome::Refused(why),
        Error::Engine(_) => Outcome::Unknown(why),
        _ => Outcome::Refused(why),
    }
}
