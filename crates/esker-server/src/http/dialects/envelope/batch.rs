//! `POST /kv/batch`: writes of which the valid ones commit together, and the others say what is wrong with them.

use std::borrow::Cow;

use esker_cluster::{Batch, Limits};
use esker_wire::Encoding;
use http::request::Parts;
use hyper::body::Incoming;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Answer,
    given::{Given, Write},
    shapes::{Envelope, Outcome, Refusal, enveloped},
};
use crate::access::Door;
use crate::http::{
    answer::AnswerRoom,
    decode::{batch_body_max, decode},
    dialects::reading::{BodyError, read_list},
    error::ApiError,
    plain,
    receive::receive,
};

/// The body of a batch.
#[derive(ToSchema)]
#[schema(as = envelope::BatchRequest)]
#[expect(dead_code, reason = "only described: it is read operation by operation")]
pub(super) struct BatchRequest<'a> {
    /// What to do, in order: a later operation on a key wins over an earlier one.
    operations: Vec<Operation<'a>>,
}

/// An operation.
#[derive(ToSchema)]
#[schema(as = envelope::Operation)]
#[expect(dead_code, reason = "only described: it is read as what it is taken to be")]
pub(super) struct Operation<'a> {
    /// `put` or `delete`.
    #[schema(rename = "type")]
    kind: Cow<'a, str>,
    key: Cow<'a, str>,
    /// Of a put.
    value: Option<Cow<'a, str>>,
    /// How key and value are written; absent for text.
    encoding: Option<Encoding>,
}

/// The answer to a batch.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchData {
    operations_count: usize,
    successful_operations: usize,
    failed_operations: usize,
    /// One for each operation, in their order.
    results: Vec<OperationResult>,
}

/// What came of an operation.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct OperationResult {
    /// Its type, as it was given; null if there was none.
    operation: Option<String>,
    /// Its key, as it was given; null if there was none.
    key: Option<String>,
    #[serde(flatten)]
    end: End,
}

/// How an operation ended.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(super) enum End {
    /// It was committed with all others that were valid.
    Success {
        /// The batch's version.
        offset: u64,
    },
    /// It was invalid, and is left out.
    Error {
        /// What is wrong with it.
        error: String,
    },
}

/// Commits the valid operations of a batch together. Deletes of absent keys are valid.
#[utoipa::path(post, path = "/kv/batch", tag = "envelope dialect",
    request_body(content = BatchRequest<'static>, description = "JSON, whatever the Content-Type says"),
    responses(
        (status = 200, description = "All committed, at one version", body = Envelope<BatchData>),
        (status = 207, description = "Some were invalid; all others are committed, at one version", body = Envelope<BatchData>),
        super::openapi::WriteRefusals,
    ))]
pub(super) async fn batch(door: &Door, parts: &Parts, body: Incoming) -> Answer {
    let options = plain::write_asked(&parts.headers)?;
    let limits = door.limits();
    let received = receive(door, body, batch_body_max(limits)).await?;
    let Reading { batch, mut results, .. } =
        decode(received, move |json| Reading::of(json, limits)).await??;
    // Taken before: what was committed must not be answered with an error.
    let room = AnswerRoom::take(door, results.iter().map(OperationResult::bytes).sum())?;
    let successful = batch.len();
    let committed = plain::write(door, batch, options).await?;
    for result in &mut results {
        if let End::Success { offset } = &mut result.end {
            *offset = committed.version;
        }
    }
    let failed = results.len() - successful;
    let data = BatchData {
        operations_count: results.len(),
        successful_operations: successful,
        failed_operations: failed,
        results,
    };
    let outcome = if failed == 0 { Outcome::Success } else { Outcome::PartialSuccess };
    Ok(enveloped(door, outcome, data, room))
}

impl OperationResult {
    /// About as long as it is written.
    fn bytes(&self) -> usize {
        /// Names and brackets, and a usual sentence.
        const AROUND: usize = 96;
        AROUND + self.key.as_deref().map_or(0, str::len) + self.operation.as_deref().map_or(0, str::len)
    }
}

/// A batch as it is read.
struct Reading {
    batch: Batch,
    results: Vec<OperationResult>,
    limits: Limits,
}

impl Reading {
    fn of(json: &[u8], limits: Limits) -> Result<Self, Refusal> {
        let mut reading = Self { batch: Batch::new(limits), results: Vec::new(), limits };
        match read_list(json, "operations", &mut |given| reading.take(given)) {
            Ok(()) => Ok(reading),
            Err(BodyError::Refused(e)) => Err(e.into()),
            Err(BodyError::Missing) => Err(Refusal::body("Missing 'operations' field in request body")),
            Err(BodyError::Malformed(_)) if json.trim_ascii().is_empty() => {
                Err(Refusal::body("Missing 'operations' field in request body"))
            }
            Err(BodyError::Malformed(why)) => {
                Err(Refusal::body(format!("The body is not {{\"operations\":[...]}}: {why}")))
            }
        }
    }

    /// Takes an operation on, or keeps what is wrong with it.
    ///
    /// Errors: the batch as a whole is too large.
    fn take(&mut self, given: Given<'_>) -> Result<(), ApiError> {
        if self.results.len() >= self.limits.batch_ops {
            let limit = self.limits.batch_ops;
            let why = format!("the batch has more than {limit} operations: split it");
            return Err(ApiError::too_large(why, limit));
        }
        let (operation, key) = (given.kind().map(str::to_owned), given.key().map(str::to_owned));
        let end = match given.into_write() {
            Ok(write) => self.add(write)?,
            Err(error) => End::Error { error },
        };
        self.results.push(OperationResult { operation, key, end });
        Ok(())
    }

    fn add(&mut self, Write { key, value }: Write<'_>) -> Result<End, ApiError> {
        let limit = self.limits.value_bytes;
        if let Some(value) = value.as_ref().filter(|value| value.len() > limit) {
            let got = value.len();
            return Ok(End::Error { error: format!("the value has {got} bytes, the limit is {limit}") });
        }
        let added = match value {
            Some(value) => self.batch.put(&key, &value),
            None => self.batch.delete(&key),
        };
        match added {
            Ok(()) => Ok(End::Success { offset: 0 }),
            // One key or value; a batch that grows too large is refused as a whole.
            Err(esker_cluster::Error::Engine(esker_engine::Error::InvalidRequest(error))) => {
                Ok(End::Error { error })
            }
            Err(e) => Err(e.into()),
        }
    }
}
