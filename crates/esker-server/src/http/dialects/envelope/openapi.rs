//! The envelope dialect described.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{self, Content, Ref, RefOr, ResponseBuilder},
};

use super::{batch, health, key, range, status};

/// See the module's head. `OPTIONS` is there on every path and says what is there.
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    key::get,
    key::put,
    key::delete,
    range::range,
    batch::batch,
    status::status,
    health::health
))]
pub(crate) struct Description;

/// What is answered to a read that fails.
pub(super) struct ReadRefusals;

/// The same of a write.
pub(super) struct WriteRefusals;

const READ_REFUSALS: &[(&str, &str)] = &[
    ("307", "CLUSTER_ERROR: another node leads and this one redirects; see Location"),
    ("400", "INVALID_REQUEST, INVALID_PARAMETERS: the key or a parameter is missing or wrong"),
    ("500", "INTERNAL_ERROR: a stored value is damaged, or the server failed"),
    ("503", "SERVICE_UNAVAILABLE: busy; CLUSTER_ERROR: no leader; see Retry-After"),
];

const WRITE_REFUSALS: &[(&str, &str)] = &[
    ("307", "CLUSTER_ERROR: another node leads and this one redirects; see Location"),
    ("400", "INVALID_REQUEST: the key or the body is missing or wrong; nothing was written"),
    ("403", "FORBIDDEN: a page of a site that is not let in"),
    ("408", "REQUEST_TIMEOUT: the body did not arrive in time"),
    ("413", "PAYLOAD_TOO_LARGE: larger than the limits; nothing was written"),
    ("415", "UNSUPPORTED_MEDIA_TYPE: the body has a Content-Encoding"),
    ("429", "TOO_MANY_REQUESTS: bodies under way fill their budget; see Retry-After"),
    ("500", "INTERNAL_ERROR: the server failed"),
    (
        "503",
        "SERVICE_UNAVAILABLE: busy, or refusing writes; CLUSTER_ERROR: no leader, or the outcome is unknown; see Retry-After",
    ),
    ("507", "DISK_FULL, MEMORY_FULL: reads go on"),
];

impl IntoResponses for ReadRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        described(READ_REFUSALS)
    }
}

impl IntoResponses for WriteRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        described(WRITE_REFUSALS)
    }
}

fn described(refusals: &[(&str, &str)]) -> BTreeMap<String, RefOr<openapi::Response>> {
    let answer = |(status, description): &(&str, &str)| {
        let content = Content::new(Some(Ref::from_schema_name("ErrorEnvelope")));
        let response = ResponseBuilder::new().description(*description);
        ((*status).to_owned(), response.content("application/json", content).into())
    };
    refusals.iter().map(answer).collect()
}
