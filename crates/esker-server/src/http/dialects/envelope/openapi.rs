//! The envelope dialect described.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{self, RefOr},
};

use super::{batch, health, key, range, status};
use crate::http::refusals::Form;

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
    ("408", "REQUEST_TIMEOUT: the body did not arrive in time"),
    ("413", "PAYLOAD_TOO_LARGE: larger than the limits; nothing was written"),
    ("415", "UNSUPPORTED_MEDIA_TYPE: the body has a Content-Encoding"),
    ("500", "INTERNAL_ERROR: the server failed"),
    (
        "503",
        "SERVICE_UNAVAILABLE: busy, or refusing writes; CLUSTER_ERROR: no leader, or the outcome is unknown; see Retry-After",
    ),
    ("507", "DISK_FULL, MEMORY_FULL: reads go on"),
];

impl IntoResponses for ReadRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        Form::Envelope.describe(READ_REFUSALS)
    }
}

impl IntoResponses for WriteRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        Form::Envelope.describe(WRITE_REFUSALS)
    }
}
