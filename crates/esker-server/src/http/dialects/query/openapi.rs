//! The query dialect described.

use super::range;

/// See the module's head.
#[derive(utoipa::OpenApi)]
#[openapi(paths(super::put, super::read, range::range, super::batch_put, super::delete))]
pub(crate) struct Description;
