//! The verb dialect described; `/metrics` is described with the native API's, whose path it is.

use super::scan;

/// See the module's head.
#[derive(utoipa::OpenApi)]
#[openapi(paths(super::put, super::get, super::batch, scan::scan, super::delete))]
pub(crate) struct Description;
