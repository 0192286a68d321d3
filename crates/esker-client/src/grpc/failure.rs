//! What a status that is no success asks of the caller: the same as over HTTP.

use std::{sync::Arc, time::Duration};

use esker_wire::{ErrorCode, options::RETRY_AFTER_MS_HEADER};
use hyper_util::client::legacy;
use tonic::{Code, Status};

use crate::{Error, endpoints::Endpoint};

/// The code of the other fronts.
const CODE: &str = "esker-code";
/// The version that a key is at whose condition does not hold.
const VERSION: &str = "esker-version";
/// When to come back if the server does not say.
const RETRY_SOON: Duration = Duration::from_millis(100);

pub(super) fn error_of(status: &Status, endpoint: &Endpoint) -> Error {
    match told(status, CODE) {
        // A newer server may say more.
        Some(code) => refusal(ErrorCode::from_text(code).unwrap_or(ErrorCode::Internal), status),
        None => untold(status, endpoint),
    }
}

fn told<'a>(status: &'a Status, name: &str) -> Option<&'a str> {
    status.metadata().get(name)?.to_str().ok()
}

/// What the server says.
fn refusal(code: ErrorCode, status: &Status) -> Error {
    let message = status.message().to_owned();
    let number = |name| told(status, name).and_then(|number| number.parse().ok());
    let retry_after = number(RETRY_AFTER_MS_HEADER).map_or(RETRY_SOON, Duration::from_millis);
    match code {
        ErrorCode::NotLeader => Error::NotLeader { message, leader: None },
        ErrorCode::PreconditionFailed => Error::ConditionFailed { version: number(VERSION), message },
        ErrorCode::OutcomeUnknown => Error::OutcomeUnknown { message, retry_after },
        // Waiting does not help a store that refuses writes until somebody repairs it.
        ErrorCode::WritesRefused => Error::Server { status: code.status(), code, message },
        code if matches!(code.status(), 429 | 503) => Error::RetryLater { code, message, retry_after },
        code if (400..500).contains(&code.status()) => Error::InvalidRequest { code: Some(code), message },
        code => Error::Server { status: code.status(), code, message },
    }
}

/// What became of the call where Esker has said nothing.
fn untold(status: &Status, endpoint: &Endpoint) -> Error {
    let source = std::error::Error::source(status);
    let is_connect = source.and_then(|source| source.downcast_ref::<legacy::Error>());
    let message = || Arc::new(std::io::Error::other(chain(status)));
    match (is_connect.is_some_and(legacy::Error::is_connect), status.code()) {
        (true, _) => Error::Unreachable { endpoint: endpoint.clone(), source: message() },
        (false, Code::Unimplemented | Code::Internal) if source.is_none() => {
            Error::Protocol(status.message().to_owned())
        }
        (false, Code::Unavailable) if source.is_none() => Error::RetryLater {
            code: ErrorCode::Unavailable,
            message: status.message().to_owned(),
            retry_after: RETRY_SOON,
        },
        (false, _) => Error::Interrupted { source: message() },
    }
}

/// What happened, with all its causes.
fn chain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;

    fn error(code: Code, told: &[(&'static str, &str)]) -> Error {
        let mut metadata = MetadataMap::new();
        told.iter().for_each(|(name, value)| _ = metadata.insert(*name, value.parse().unwrap()));
        error_of(&Status::with_metadata(code, "why", metadata), &"grpc://h:1".into())
    }

    #[test]
    fn a_status_asks_for_what_its_code_asks_for_over_http() {
        let failed = error(Code::FailedPrecondition, &[(CODE, "precondition_failed"), (VERSION, "7")]);
        assert!(matches!(failed, Error::ConditionFailed { version: Some(7), .. }), "{failed}");
        let later = error(Code::Unavailable, &[(CODE, "no_leader"), (RETRY_AFTER_MS_HEADER, "70")]);
        assert_eq!(later.retry_after(), Some(Duration::from_millis(70)));
        let refused = error(Code::Unavailable, &[(CODE, "writes_refused")]);
        assert!(matches!(refused, Error::Server { .. }) && refused.is_of_one_node(), "{refused}");
        let unknown = error(Code::Unknown, &[(CODE, "outcome_unknown")]);
        assert!(matches!(unknown, Error::OutcomeUnknown { .. }), "{unknown}");
        let bad = error(Code::InvalidArgument, &[(CODE, "bad_request")]);
        assert!(matches!(bad, Error::InvalidRequest { .. }), "{bad}");
        assert!(matches!(error(Code::Unimplemented, &[]), Error::Protocol(_)));
        assert!(matches!(error(Code::Unknown, &[]), Error::Interrupted { .. }));
    }
}
