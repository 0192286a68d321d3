//! What the Store answers when it cannot do what was asked.

use std::{fmt, time::Duration};

/// The result of a Store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the Store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The request is larger than a limit: make it smaller. Nothing was written.
    TooLarge(String),
    /// The same maintenance work is under way: wait for it.
    AlreadyRunning(&'static str),
    /// The engine refused or failed; its kinds say what to do.
    Engine(esker_engine::Error),
    /// No leader is known, or the one that is known does not answer. Nothing was written: retry after the given time.
    NoLeader {
        /// When to come back.
        retry_after: Duration,
    },
    /// This node is no member of its cluster any more. Nothing was written: go to another node.
    Removed,
    /// Another node leads, and this one is told to redirect. Nothing was written: go to the leader.
    NotLeader {
        /// The leader's number.
        leader: u64,
        /// Where its HTTP front is, `host:port`.
        http_address: String,
    },
    /// The write was handed on and no answer came: it may or may not come to pass. Retry with the same request id.
    OutcomeUnknown(String),
    /// The cluster's state does not allow the change of membership, or the mode has none. Nothing was changed.
    Refused(String),
    /// The Store was never asked: nobody knows who the caller is, and not everybody may do this. Nothing was read or written.
    Unauthenticated,
    /// The Store was never asked: the caller has no right to do this. Nothing was read or written.
    Denied(String),
    /// What was read for clients that do not take it fills the memory for it: read on after the given time.
    NoRoom {
        /// When to come back.
        retry_after: Duration,
    },
    /// A worker died of a defect before it answered. A write may or may not have been committed.
    WorkerDied,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(why) => f.write_str(why),
            Self::AlreadyRunning(what) => write!(f, "{what} is already running: wait for it to finish"),
            Self::Engine(e) => e.fmt(f),
            Self::NoLeader { .. } => f.write_str("the cluster has no leader now: retry shortly"),
            Self::Removed => f.write_str(
                "this node was removed from its cluster and answers stale reads only: go to another node",
            ),
            Self::NotLeader { leader, http_address } => {
                write!(f, "node {leader} leads the cluster: go to http://{http_address}")
            }
            Self::OutcomeUnknown(why) => {
                write!(f, "the write may or may not come to pass ({why}): retry it with the same request id")
            }
            Self::Refused(why) => f.write_str(why),
            Self::Unauthenticated => {
                f.write_str("this takes a name and a password, or a token: none was shown")
            }
            Self::Denied(why) => f.write_str(why),
            Self::NoRoom { .. } => f.write_str(
                "the answers that clients have not taken yet fill all the memory they may: retry later",
            ),
            Self::WorkerDied => f.write_str("a worker thread died before it answered: report this defect"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Engine(e) => Some(e),
            _ => None,
        }
    }
}

impl From<esker_engine::Error> for Error {
    fn from(e: esker_engine::Error) -> Self {
        Self::Engine(e)
    }
}
