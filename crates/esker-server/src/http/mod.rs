//! HTTP: from a request to its answer.
//!
//! Requests for single keys, nearly all there are, take a short way: their path is matched before the router.
//! That way also keeps keys raw: no router decodes or normalises them.

mod answer;
mod ask;
mod budget;
mod drain;
mod error;
mod front;
mod native;
mod query;
mod receive;
mod service;

pub(crate) use budget::Share;
pub(crate) use front::Front;
#[cfg(test)]
pub(crate) use front::test_service;
pub use native::openapi_json;
pub(crate) use service::Service;
