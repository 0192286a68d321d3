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
mod refusals;
mod room;
mod service;
mod stream;

pub(crate) use answer::{AnswerRoom, answers_fill_budget};
#[cfg(test)]
pub(crate) use budget::Budget;
pub(crate) use budget::Share;
pub(crate) use dialects::Dialect;
pub(crate) use error::ApiError;
pub(crate) use front::{Front, STALL_LOOK_EVERY};
#[cfg(test)]
pub(crate) use front::{test_service, test_service_at};
pub(crate) use native::{add_operation, condition_of_demand, nodes_answer, readiness, status_answer};
pub use openapi::openapi_json;
pub(crate) use receive::{Received, receive};
pub(crate) use room::Room;
pub(crate) use service::Service;
pub(crate) use stream::{ROOM_PATIENCE, admit, admit_counted, share_of};
