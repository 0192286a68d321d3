//! What can go wrong, told by what the caller can do about it.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use esker_wire::ErrorCode;

/// The result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request did not succeed. An absent key is no error.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The request is wrong or breaks a limit: fix it. Nothing was written.
    InvalidRequest {
        /// The server's code; `None` where the client noticed first.
        code: Option<ErrorCode>,
        /// What is wrong.
        message: String,
    },
    /// A condition of the write does not hold, so nothing of it was done: look again, and decide anew.
    ConditionFailed {
        /// The version that the key is at; `None` if it is absent.
        version: Option<u64>,
        /// The same in words.
        message: String,
    },
    /// The server cannot take the request now: send it again after a while. Nothing was written.
    RetryLater {
        /// Why.
        code: ErrorCode,
        /// Why, in words.
        message: String,
        /// When a retry is likely to be taken.
        retry_after: Duration,
    },
    /// Another node leads the cluster. The client goes there by itself, so this tells that the nodes sent it around
    /// until its time was up. Nothing was written.
    NotLeader {
        /// Who leads, in the words of the node that was asked last.
        message: String,
        /// The leader's endpoint, where it was told.
        leader: Option<Arc<str>>,
    },
    /// The cluster does not know whether the write was done: it may or may not be. With [`crate::Retry::resend_writes`]
    /// the client finds out by itself.
    OutcomeUnknown {
        /// Why.
        message: String,
        /// When a retry is likely to find out.
        retry_after: Duration,
    },
    /// The server failed: its operator has to act.
    Server {
        /// The status of the answer.
        status: u16,
        /// What kind of failure.
        code: ErrorCode,
        /// What happened.
        message: String,
    },
    /// No connection could be made: nothing was sent.
    Unreachable {
        /// The address tried.
        endpoint: Arc<str>,
        /// What the system said.
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The connection broke after the request was sent. A write may or may not have been done.
    Interrupted {
        /// What happened to the connection.
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// No answer came in time. A write may or may not have been done.
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// A stream of items ended before its end: what came is good but not all.
    Truncated {
        /// How many items came.
        items: u64,
        /// What happened.
        why: String,
    },
    /// This is not asked for over the protocol of the endpoints, but over another one.
    NotSupported {
        /// What was asked for.
        what: &'static str,
    },
    /// A watch cannot go on: the server no longer knows all that happened. Begin another one, then read anew what is watched:
    /// changes that the read has seen already may come again, and lead to the same state.
    Resync {
        /// From this version on the server knows everything.
        version: u64,
        /// Why.
        message: String,
    },
    /// The answer is not what Esker's interface promises: is another program listening there?
    Protocol(String),
}

impl Error {
    /// A mistake the client noticed before sending anything.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidRequest { code: None, message: message.into() }
    }

    /// The server's code, where it gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::InvalidRequest { code, .. } => *code,
            Self::RetryLater { code, .. } | Self::Server { code, .. } => Some(*code),
            Self::ConditionFailed { .. } => Some(ErrorCode::PreconditionFailed),
            Self::NotLeader { .. } => Some(ErrorCode::NotLeader),
            Self::OutcomeUnknown { .. } => Some(ErrorCode::OutcomeUnknown),
            _ => None,
        }
    }

    /// When the server said to come back.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RetryLater { retry_after, .. } | Self::OutcomeUnknown { retry_after, .. } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }

    /// Whether the trouble is the one node's that was asked, so that another may well not have it.
    pub(crate) fn is_of_one_node(&self) -> bool {
        use ErrorCode::{Draining, TooManyConnections, Unavailable, WritesRefused};
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } | Self::TimedOut { .. } => true,
            Self::RetryLater { code, .. } => matches!(code, Draining | TooManyConnections | Unavailable),
            Self::Server { code, .. } => *code == WritesRefused,
            _ => false,
        }
    }

    /// Whether the next attempt had better ask another node: all but what is about the request or the client.
    pub(crate) fn moves_on(&self) -> bool {
        match self {
            Self::RetryLater { code, .. } => *code != ErrorCode::TooManyRequests,
            Self::NotLeader { .. } | Self::OutcomeUnknown { .. } => true,
            error => error.is_of_one_node(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequest { message, .. } | Self::ConditionFailed { message, .. } => {
                f.write_str(message)
            }
            Self::RetryLater { message, retry_after, .. } => {
                write!(f, "{message} (try again in {} ms)", retry_after.as_millis())
            }
            Self::NotLeader { message, .. } => write!(f, "the nodes disagree about who leads: {message}"),
            Self::OutcomeUnknown { message, .. } => f.write_str(message),
            // It was found out behind the head of the answer.
            Self::Server { status: 200, code, message } => write!(f, "{message} ({code})"),
            Self::Server { status, code, message } => write!(f, "{message} ({status} {code})"),
            Self::Unreachable { endpoint, source } => {
                let cause = root(source.as_ref());
                write!(f, "cannot connect to {endpoint}: {cause}; is `esker serve` running there?")
            }
            Self::Interrupted { source } => {
                write!(f, "the connection broke before the answer came: {}", root(source.as_ref()))
            }
            Self::TimedOut { after } => write!(f, "no answer within {} ms", after.as_millis()),
            Self::Truncated { items, why } => write!(f, "the stream broke after {items} items: {why}"),
            Self::NotSupported { what } => {
                write!(f, "{what} is asked for over HTTP: give an endpoint that begins with http://")
            }
            Self::Resync { version, message } => {
                write!(f, "the watch cannot go on: {message} (everything is there from version {version} on)")
            }
            Self::Protocol(what) => write!(f, "not an answer of Esker: {what}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Unreachable { source, .. } | Self::Interrupted { source } => Some(source.as_ref()),
            _ => None,
        }
    }
}

/// What somebody is asked whose server does not speak as the endpoint says.
pub(crate) const OTHER_PORT: &str =
    "is this the port of another protocol? `esker serve` prints an endpoint for each";

/// The innermost cause: what the system said, without each layer's preamble.
pub(crate) fn root<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}
