//! What an answer that is no success asks of the caller: the same as over HTTP.

use std::time::Duration;

use esker_wire::{
    ErrorCode,
    binary::{Answer, MALFORMED, TOO_LARGE},
};

use crate::{Error, Result};

/// The code where there is nothing to hold what was shown against.
const NOT_CONFIGURED: &str = "AUTH_NOT_CONFIGURED";
/// When to ask how a write ended if the server does not say.
const RETRY_SOON: Duration = Duration::from_millis(50);

/// The answer, or the error that it is.
pub(super) fn refusal(answer: Answer) -> Result<Answer> {
    match answer {
        Answer::TryLater { retry_ms, extras } => {
            let retry_after = Duration::from_millis(retry_ms);
            // One without a code turns away the connection: another node may well not.
            let code = extras.code.unwrap_or(ErrorCode::Unavailable);
            Err(Error::RetryLater { code, message: why(code).into(), retry_after })
        }
        Answer::Error { code, message, extras } => {
            let message = String::from_utf8_lossy(&message).into_owned();
            let retry_after = extras.retry.map_or(RETRY_SOON, Duration::from_millis);
            Err(match code_of(&code) {
                ErrorCode::PreconditionFailed => Error::ConditionFailed { version: extras.version, message },
                ErrorCode::OutcomeUnknown => Error::OutcomeUnknown { message, retry_after },
                code if (400..500).contains(&code.status()) => {
                    Error::InvalidRequest { code: Some(code), message }
                }
                code => Error::Server { status: code.status(), code, message },
            })
        }
        answer => Ok(answer),
    }
}

/// Whether an answer is the last of its connection, and what was sent behind its request was not looked at.
pub(super) fn closes(answer: &Answer) -> bool {
    match answer {
        Answer::TryLater { extras, .. } => extras.code.is_none(),
        Answer::Error { code, .. } => *code == MALFORMED || *code == TOO_LARGE,
        _ => false,
    }
}

fn code_of(code: &str) -> ErrorCode {
    match code {
        MALFORMED | NOT_CONFIGURED => ErrorCode::BadRequest,
        TOO_LARGE => ErrorCode::PayloadTooLarge,
        // A newer server may say more.
        other => ErrorCode::from_text(&other.to_ascii_lowercase()).unwrap_or(ErrorCode::Internal),
    }
}

/// The protocol spares a server that has much to do the words.
fn why(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Busy => "the server has as much to do as it takes on",
        ErrorCode::Draining => "the server is shutting down",
        ErrorCode::NoLeader => "the cluster has no leader now",
        ErrorCode::NotLeader => "another node leads the cluster, and this one does not forward",
        ErrorCode::TooManyRequests => "the requests that are being received fill the memory for them",
        _ => "the server takes no requests now",
    }
}

/// What the answer to a request of another kind would be.
pub(super) fn unexpected(answer: &Answer) -> Error {
    Error::Protocol(format!("an answer to another request: {answer:?}"))
}
