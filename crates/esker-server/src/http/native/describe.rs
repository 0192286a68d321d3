//! The native API described for programs, derived from the handlers; and `/api/v1/openapi.json`, which describes all there is.

use http::Response;
use utoipa::OpenApi;

use super::{admin, backup, batch, cluster, debug, delete_range, health, incr, key, list, mget, watch};
use crate::http::{
    answer::{AnswerBody, json_bytes},
    openapi::openapi_json,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Esker",
        description = "The HTTP APIs of Esker, a persistent key/value store: the native one, and dialects beside it"
    ),
    paths(
        key::get,
        key::head,
        key::put,
        key::delete,
        incr::incr,
        list::list,
        delete_range::delete_range,
        mget::mget,
        batch::batch,
        watch::watch,
        cluster::status,
        cluster::nodes,
        cluster::members,
        backup::backup,
        admin::checkpoint,
        admin::compact,
        admin::merge_now,
        admin::verify,
        health::health,
        health::ready,
        super::metrics,
        debug::profile,
        debug::heap,
        openapi
    )
)]
pub(in crate::http) struct Description;

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "operations", responses(
    (status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object),
))]
pub(super) async fn openapi() -> Response<AnswerBody> {
    json_bytes(openapi_json())
}
