//! What clients did and saw: the input of the [checkers](crate::checker).

mod recorder;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use esker_cluster::Consistency;

pub use recorder::{OpId, Recorder};

/// A key.
pub type Key = Bytes;
/// A value. Workloads should never write one value twice to a key: it makes checking much cheaper.
pub type Value = Bytes;

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment {
    /// Its place among all calls and returns, of which no two have the same. This, not the time, is what checkers go by: in virtual time many things
    /// happen at once.
    pub order: u64,
    /// The time, for readers.
    pub at: Duration,
}

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Set a key.
    Put {
        /// Which.
        key: Key,
        /// To what.
        value: Value,
    },
    /// Remove a key.
    Delete {
        /// Which.
        key: Key,
    },
    /// Set and remove (`None`) several keys at once.
    Batch {
        /// Which, to what.
        writes: Vec<(Key, Option<Value>)>,
    },
    /// Set a key that is absent again after a while, by the clocks of the nodes, which may be wrong.
    PutExpiring {
        /// Which. Nothing but such puts and reads, and stale ones, say anything of it.
        key: Key,
        /// To what.
        value: Value,
        /// How long it lives.
        ttl: Duration,
    },
    /// Set a key, if it is at a version.
    PutIf {
        /// Which.
        key: Key,
        /// To what.
        value: Value,
        /// The version; `None`: if it is absent.
        expected: Option<u64>,
    },
    /// Add one to a counter: a key that nothing else writes.
    Incr {
        /// Which.
        key: Key,
    },
    /// Remove all keys with a prefix at once.
    DeleteRange {
        /// Which.
        prefix: Bytes,
        /// All keys that begin so: there are no others. For each of them, it is a delete.
        keys: Vec<Key>,
    },
    /// Read a key.
    Get {
        /// Which.
        key: Key,
        /// What it may see.
        consistency: Consistency,
    },
    /// Read all keys with a prefix.
    Scan {
        /// Which.
        prefix: Bytes,
        /// What it may see.
        consistency: Consistency,
    },
}

impl Action {
    /// What it writes: each key with its new value, `None` for absence. Nothing if it reads, or counts.
    pub fn writes(&self) -> Vec<(&Key, Option<&Value>)> {
        match self {
            Self::Put { key, value }
            | Self::PutExpiring { key, value, .. }
            | Self::PutIf { key, value, .. } => {
                vec![(key, Some(value))]
            }
            Self::DeleteRange { keys, .. } => keys.iter().map(|key| (key, None)).collect(),
            Self::Delete { key } => vec![(key, None)],
            Self::Batch { writes } => writes.iter().map(|(key, value)| (key, value.as_ref())).collect(),
            Self::Get { .. } | Self::Scan { .. } | Self::Incr { .. } => Vec::new(),
        }
    }

    /// Whether what it writes may be absent after a while without a delete.
    pub fn expires(&self) -> bool {
        matches!(self, Self::PutExpiring { .. })
    }

    /// Whether it writes.
    pub fn is_write(&self) -> bool {
        self.consistency().is_none()
    }

    /// What a read may see; `None` for writes.
    pub fn consistency(&self) -> Option<Consistency> {
        match self {
            Self::Get { consistency, .. } | Self::Scan { consistency, .. } => Some(*consistency),
            _ => None,
        }
    }
}

/// A value as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Value,
    /// The version of the write that put it.
    pub version: u64,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The write was acknowledged.
    Written {
        /// Its version; `None` if the target tells none.
        version: Option<u64>,
    },
    /// The increment was acknowledged.
    Sum {
        /// What the counter came to.
        value: u32,
        /// The version; `None` if the target tells none.
        version: Option<u64>,
    },
    /// The condition did not hold: nothing was written.
    Failed {
        /// The version that the key was at; `None` if it was absent.
        present: Option<u64>,
    },
    /// A get was answered.
    Read {
        /// What was there.
        found: Option<Versioned>,
        /// Up to which version the answering node had applied, if it said so.
        applied: Option<u64>,
    },
    /// A scan was answered.
    Scanned {
        /// What was there, in key order.
        found: Vec<(Key, Versioned)>,
        /// Up to which version the answering node had applied, if it said so.
        applied: Option<u64>,
    },
    /// It is certain that the operation did nothing and never will.
    Refused(String),
    /// Nobody knows: a write may take effect at any later time, or never.
    Unknown(String),
}

/// An operation of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Who. A client does one thing at a time.
    pub client: u32,
    /// Which node was asked; `None` if the client library chose.
    pub node: Option<u64>,
    /// What was asked for.
    pub action: Action,
    /// When.
    pub call: Moment,
    /// When the outcome was known; `None` if the run ended before.
    pub end: Option<Moment>,
    /// How it ended; [`Outcome::Unknown`] until it does.
    pub outcome: Outcome,
}

impl Operation {
    /// Whether it is a write that may have taken effect.
    pub fn may_have_written(&self) -> bool {
        self.action.is_write() && !matches!(self.outcome, Outcome::Refused(_) | Outcome::Failed { .. })
    }

    /// Whether it is a write that was acknowledged.
    pub fn was_acknowledged(&self) -> bool {
        matches!(self.outcome, Outcome::Written { .. } | Outcome::Sum { .. })
    }

    /// The version of an acknowledged write, if the target told one.
    pub fn version(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Written { version } | Outcome::Sum { version, .. } => version,
            _ => None,
        }
    }

    /// When the write was acknowledged, by order; `None` if it never was.
    pub fn acknowledged_at(&self) -> Option<u64> {
        self.was_acknowledged().then(|| self.end.map(|end| end.order)).flatten()
    }

    /// What an answered read found of `key`; `None` if it says nothing of it.
    pub fn found(&self, key: &Key) -> Option<Option<&Versioned>> {
        match (&self.action, &self.outcome) {
            (Action::Get { key: asked, .. }, Outcome::Read { found, .. }) if asked == key => {
                Some(found.as_ref())
            }
            (Action::Scan { prefix, .. }, Outcome::Scanned { found, .. }) if key.starts_with(prefix) => {
                Some(found.iter().find(|(found, _)| found == key).map(|(_, found)| found))
            }
            _ => None,
        }
    }

    /// Up to which version the node that answered the read had applied, if it said so.
    pub fn applied(&self) -> Option<u64> {
        match &self.outcome {
            Outcome::Read { applied, .. } | Outcome::Scanned { applied, .. } => *applied,
            _ => None,
        }
    }
}

/// A node began anew: what it answers may lie before what it answered earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Which.
    pub node: u64,
    /// When.
    pub at: Moment,
}

/// All that happened in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The operations, by the order of their calls.
    pub operations: Vec<Operation>,
    /// The restarts, in order.
    pub restarts: Vec<Restart>,
}

impl History {
    /// Every key that was named or found.
    pub fn keys(&self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for operation in &self.operations {
            keys.extend(operation.action.writes().into_iter().map(|(key, _)| key.clone()));
            match (&operation.action, &operation.outcome) {
                (Action::Get { key, .. } | Action::Incr { key }, _) => {
                    keys.insert(key.clone());
                }
                (_, Outcome::Scanned { found, .. }) => keys.extend(found.iter().map(|(key, _)| key.clone())),
                _ => {}
            }
        }
        keys
    }

    /// For each key, the positions of the operations that say something of it, in order.
    pub fn by_key(&self) -> BTreeMap<Key, Vec<usize>> {
        let mut by_key: BTreeMap<Key, Vec<usize>> =
            self.keys().into_iter().map(|key| (key, Vec::new())).collect();
        for (at, operation) in self.operations.iter().enumerate() {
            match &operation.action {
                Action::Scan { prefix, .. } => {
                    let covered = by_key.range_mut(prefix.clone()..);
                    covered
                        .take_while(|(key, _)| key.starts_with(prefix))
                        .for_each(|(_, of_key)| of_key.push(at));
                }
                Action::Get { key, .. } | Action::Incr { key } => {
                    by_key.entry(key.clone()).or_default().push(at);
                }
                writes => {
                    for key in writes.writes().into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>() {
                        by_key.entry(key.clone()).or_default().push(at);
                    }
                }
            }
        }
        by_key
    }

    /// How many writes were acknowledged, and reads answered.
    pub fn answered(&self) -> usize {
        let silent = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_) | Outcome::Unknown(_));
        self.operations.iter().filter(|operation| !silent(&operation.outcome)).count()
    }
}

/// Bytes for readers: text as it is, the rest escaped, long ones cut.
pub(crate) fn show(bytes: &[u8]) -> String {
    const SHOWN: usize = 40;
    let cut = if bytes.len() > SHOWN { "…" } else { "" };
    format!("{}{cut}", bytes[..bytes.len().min(SHOWN)].escape_ascii())
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |consistency: &Consistency| match consistency {
            Consistency::Linearizable => "",
            Consistency::Stale => "stale ",
        };
        match self {
            Self::Put { key, value } => write!(f, "put {} = {}", show(key), show(value)),
            Self::PutExpiring { key, value, ttl } => {
                write!(f, "put {} = {} for {ttl:?}", show(key), show(value))
            }
            Self::PutIf { key, value, expected: Some(version) } => {
                write!(f, "put {} = {} if at {version}", show(key), show(value))
            }
            Self::PutIf { key, value, expected: None } => {
                write!(f, "put {} = {} if absent", show(key), show(value))
            }
            Self::Incr { key } => write!(f, "incr {}", show(key)),
            Self::DeleteRange { prefix, .. } => write!(f, "delete {}*", show(prefix)),
            Self::Delete { key } => write!(f, "delete {}", show(key)),
            Self::Get { key, consistency } => write!(f, "{}get {}", kind(consistency), show(key)),
            Self::Scan { prefix, consistency } => write!(f, "{}scan {}*", kind(consistency), show(prefix)),
            Self::Batch { writes } => {
                f.write_str("batch")?;
                writes.iter().try_for_each(|(key, value)| match value {
                    Some(value) => write!(f, " {} = {}", show(key), show(value)),
                    None => write!(f, " {} deleted", show(key)),
                })
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let applied = |f: &mut fmt::Formatter<'_>, applied: &Option<u64>| match applied {
            Some(applied) => write!(f, " (node at {applied})"),
            None => Ok(()),
        };
        match self {
            Self::Written { version: Some(version) } => write!(f, "done, version {version}"),
            Self::Written { version: None } => f.write_str("done"),
            Self::Sum { value, version: Some(version) } => write!(f, "sum {value}, version {version}"),
            Self::Sum { value, version: None } => write!(f, "sum {value}"),
            Self::Failed { present: Some(version) } => write!(f, "not done: it is at {version}"),
            Self::Failed { present: None } => f.write_str("not done: it is absent"),
            Self::Read { found: None, applied: at } => {
                f.write_str("absent")?;
                applied(f, at)
            }
            Self::Read { found: Some(found), applied: at } => {
                write!(f, "{} at version {}", show(&found.value), found.version)?;
                applied(f, at)
            }
            Self::Scanned { found, applied: at } => {
                for (key, found) in found {
                    write!(f, "{} = {} at {}, ", show(key), show(&found.value), found.version)?;
                }
                f.write_str("end")?;
                applied(f, at)
            }
            Self::Refused(why) => write!(f, "REFUSED ({why})"),
            Self::Unknown(why) => write!(f, "OUTCOME UNKNOWN ({why})"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.end.map_or("      never".into(), |end| format!("{:>11.6}", end.at.as_secs_f64()));
        let node = self.node.map_or("any".into(), |node| format!("n{node}"));
        write!(
            f,
            "{:>11.6} .. {end}  c{:<3} {node:<3}  {} -> {}",
            self.call.at.as_secs_f64(),
            self.client,
            self.action,
            self.outcome
        )
    }
}
