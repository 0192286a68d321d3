//! A cluster as its users reach it: through the client library.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_client::{Batch, Client, Condition, Error, PutOptions, Query, Range, WriteOptions};
use esker_cluster::Consistency;
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    clients::{Ask, Target},
    history::{Action, Outcome, Versioned},
};

/// Asks nodes by name, or whichever `any` chooses. Set the clients' `resend_writes` off unless they send request ids: a write
/// that is done twice is a defect to the checker. Stale reads are refused, as the library has none.
pub struct ClientTarget {
    by_node: BTreeMap<u64, Client>,
    any: Client,
}

impl ClientTarget {
    /// `any` is asked where no node is named.
    pub fn new(by_node: BTreeMap<u64, Client>, any: Client) -> Self {
        Self { by_node, any }
    }
}

impl Target for ClientTarget {
    fn ask(&self, ask: Ask) -> BoxFuture<'static, Outcome> {
        let named = ask.node.and_then(|node| self.by_node.get(&node));
        let client = named.unwrap_or(&self.any).clone();
        async move {
            if ask.action.consistency() == Some(Consistency::Stale) {
                return Outcome::Refused("the client library has no stale reads".into());
            }
            perform(&client, ask.action).await.unwrap_or_else(|e| outcome_of(&e))
        }
        .boxed()
    }
}

async fn perform(client: &Client, action: Action) -> Result<Outcome, Error> {
    let written = |version| Ok(Outcome::Written { version: Some(version) });
    match action {
        Action::Put { key, value } => written(client.put(&key, value).await?.version),
        Action::PutExpiring { key, value, ttl } => {
            let options = PutOptions::default().ttl(ttl);
            written(client.put_with(&key, value, options).await?.version)
        }
        Action::PutIf { key, value, expected } => {
            let options = PutOptions {
                condition: Some(expected.map_or(Condition::Absent, Condition::Version)),
                ..PutOptions::default()
            };
            written(client.put_with(&key, value, options).await?.version)
        }
        Action::Incr { key } => {
            let done = client.incr(&key, 1).await?;
            let value = u32::try_from(done.value).unwrap_or(u32::MAX);
            Ok(Outcome::Sum { value, version: Some(done.version) })
        }
        Action::DeleteRange { prefix, .. } => {
            let range = Range::Prefix(prefix.to_vec());
            written(client.delete_range(&range, WriteOptions::default()).await?.version)
        }
        Action::Delete { key } => written(client.delete(&key).await?.version),
        Action::Batch { writes } => {
            let mut batch = Batch::new();
            for (key, value) in writes {
                match value {
                    Some(value) => batch.put(&key, &value),
                    None => batch.delete(&key),
                }
            }
            written(client.batch(batch, WriteOptions::default()).await?.version)
        }
        Action::Get { key, .. } => {
            let entry = client.get(&key).await?;
            let found = entry.map(|entry| Versioned { value: entry.value, version: entry.version });
            Ok(Outcome::Read { found, applied: None })
        }
        Action::Scan { prefix, .. } => {
            Ok(Outcome::Scanned { found: scan(client, &prefix).await?, applied: None })
        }
    }
}

/// All keys with a prefix.
pub(super) async fn scan(client: &Client, prefix: &Bytes) -> Result<Vec<(Bytes, Versioned)>, Error> {
    let range = if prefix.is_empty() { Range::All } else { Range::Prefix(prefix.to_vec()) };
    let mut stream = client.scan(&Query { range, ..Query::default() }).await?;
    let mut found = Vec::new();
    while let Some(item) = stream.next().await {
        let item = item?;
        let value = Bytes::from(item.value.unwrap_or_default());
        found.push((Bytes::from(item.key), Versioned { value, version: item.version }));
    }
    Ok(found)
}

/// What the library promises to have done nothing is a refusal; all else may or may not have been done.
fn outcome_of(error: &Error) -> Outcome {
    match error {
        Error::ConditionFailed { version, .. } => Outcome::Failed { present: *version },
        Error::InvalidRequest { .. } | Error::RetryLater { .. } | Error::Unreachable { .. } => {
            Outcome::Refused(error.to_string())
        }
        _ => Outcome::Unknown(error.to_string()),
    }
}
