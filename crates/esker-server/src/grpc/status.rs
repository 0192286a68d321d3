//! Errors as this front tells them: one table from the codes of all fronts to gRPC's (docs/grpc.md has it, too).

use std::{collections::HashMap, time::Duration};

use esker_wire::ErrorCode;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetail, ErrorInfo, RetryInfo, StatusExt};

use crate::http::{ApiError, Front};

/// Whose codes they are, in `ErrorInfo`.
const DOMAIN: &str = "esker";
/// Metadata: the code of the other fronts.
const CODE: &str = "esker-code";
/// Metadata: when to come back.
const RETRY_AFTER_MS: &str = "retry-after-ms";
/// Metadata: the version that a key is at whose condition does not hold; not there if it is absent.
const VERSION: &str = "esker-version";
/// Metadata: the number of the node that leads.
const LEADER: &str = "esker-leader";
/// Metadata: where that node's HTTP front is.
const LEADER_HTTP: &str = "esker-leader-http";

/// The table.
pub(super) fn code_of(code: ErrorCode) -> Code {
    use ErrorCode as E;
    match code {
        E::BadRequest => Code::InvalidArgument,
        E::Unauthorized => Code::Unauthenticated,
        E::Forbidden => Code::PermissionDenied,
        E::KeyNotFound => Code::NotFound,
        E::NotSupported | E::RouteNotFound | E::MethodNotAllowed | E::UnsupportedMediaType => {
            Code::Unimplemented
        }
        E::RequestTimeout => Code::DeadlineExceeded,
        E::Conflict | E::NotAnInteger | E::PreconditionFailed => Code::FailedPrecondition,
        E::Overflow => Code::OutOfRange,
        E::PayloadTooLarge | E::UriTooLong | E::HeadersTooLarge | E::DiskFull | E::MemoryFull => {
            Code::ResourceExhausted
        }
        E::Damaged => Code::DataLoss,
        // What a client may simply try again, here or on another node: nothing was written.
        E::NotLeader
        | E::TooManyRequests
        | E::Unavailable
        | E::Busy
        | E::TooManyConnections
        | E::Draining
        | E::NoLeader
        | E::WritesRefused => Code::Unavailable,
        // Not UNAVAILABLE, which clients try again by themselves, and without the request's id that would be a second write.
        E::OutcomeUnknown => Code::Unknown,
        _ => Code::Internal,
    }
}

/// An error as the status of a call. Damage is told to the operator, too.
pub(super) fn status_of(front: &Front, error: ApiError) -> Status {
    if let Some(damage) = error.damage() {
        front.damage_found(damage);
    }
    told(error)
}

/// An error as a status.
pub(super) fn told(error: ApiError) -> Status {
    let retry_after = error.retry_after();
    let error = error.into_body();
    let particulars = particulars(error.details.as_ref());
    let metadata = metadata(error.code, retry_after, &particulars);
    let info = ErrorInfo::new(error.code.as_str(), DOMAIN, particulars);
    let retry = retry_after.map(|after| ErrorDetail::RetryInfo(RetryInfo::new(Some(after))));
    let details = std::iter::once(ErrorDetail::ErrorInfo(info)).chain(retry);
    Status::with_error_details_vec_and_metadata(code_of(error.code), error.message, details, metadata)
}

/// The details of an error, each as text.
fn particulars(details: Option<&serde_json::Value>) -> HashMap<String, String> {
    let fields = details.and_then(|details| details.as_object()).into_iter().flatten();
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    fields.filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), text(value))).collect()
}

fn metadata(
    code: ErrorCode,
    retry_after: Option<Duration>,
    particulars: &HashMap<String, String>,
) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert(CODE, MetadataValue::from_static(code.as_str()));
    if let Some(after) = retry_after {
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        metadata.insert(RETRY_AFTER_MS, millis.into());
    }
    for (of, name, particular) in [
        (ErrorCode::PreconditionFailed, VERSION, "version"),
        (ErrorCode::NotLeader, LEADER, "leader"),
        (ErrorCode::NotLeader, LEADER_HTTP, "http_address"),
    ] {
        let told = particulars.get(particular).and_then(|told| told.parse().ok());
        if let Some(told) = told.filter(|_| of == code) {
            metadata.insert(name, told);
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{grpc::metrics::spelled, http::test_service};

    /// A code that is new has to be given its place here and in the page.
    #[test]
    fn the_page_has_the_table() {
        let page = include_str!("../../../../docs/grpc.md");
        for code in ErrorCode::ALL {
            let (code, becomes) = (format!("`{code}`"), format!("`{}`", spelled(code_of(*code))));
            let mut rows = page.lines().filter(|line| line.starts_with('|'));
            let is_told = rows.any(|row| row.contains(&code) && row.contains(&becomes));
            assert!(is_told, "docs/grpc.md does not tell that {code} becomes {becomes}");
        }
    }

    #[tokio::test]
    async fn an_error_says_what_to_do_and_when() {
        let (service, _dir) = test_service();
        let front = service.front();
        let retry_after = Duration::from_millis(70);
        let status = status_of(front, esker_cluster::Error::NoLeader { retry_after }.into());
        assert_eq!(status.code(), Code::Unavailable);
        let told = |name| status.metadata().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!((told(CODE), told(RETRY_AFTER_MS)), ("no_leader".into(), "70".into()));
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(retry_after));

        let status = status_of(front, esker_engine::Refusal::Condition(Some(7)).into());
        assert_eq!(status.code(), Code::FailedPrecondition);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.metadata["version"].as_str()), ("precondition_failed", "7"));

        let elsewhere = esker_cluster::Error::NotLeader { leader: 3, http_address: "h:8082".into() };
        let status = status_of(front, elsewhere.into());
        assert_eq!(status.metadata().get(LEADER).unwrap(), "3");
        assert_eq!(status.metadata().get(LEADER_HTTP).unwrap(), "h:8082");
    }

    #[tokio::test]
    async fn damage_reaches_the_operator() {
        let (service, _dir) = test_service();
        let damage = esker_engine::Damage { path: "f".into(), offset: 7, what: "a checksum".into() };
        let error = esker_cluster::Error::from(esker_engine::Error::Damage(damage));
        assert_eq!(status_of(service.front(), error.into()).code(), Code::DataLoss);
        assert_eq!(service.door().health().0.stats.damage.times, 1);
    }
}
