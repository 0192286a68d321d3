//! HTTP: from a request to its answer.
//!
//! Requests for single keys, nearly all there are, take a short way: their path is matched before the router.
//! That way also keeps keys raw: no router decodes or normalises them. The dialects have tables of their own, which come
//! next; what is in none of them is the router's.

mod answer;
mod ask;
mod budget;
mod decode;
mod dialects;
mod drain;
mod error;
mod front;
mod native;
mod openapi;
mod plain;
mod query;
mod receive;
mod service;
mod stream;

pub(crate) use budget::Share;
pub(crate) use front::Front;
#[cfg(test)]
pub(crate) use front::test_service;
pub use openapi::openapi_json;
pub(crate) use service::Service;
