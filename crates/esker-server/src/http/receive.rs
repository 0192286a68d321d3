//! Request bodies: received within a size, a budget and a time.

use std::{future::poll_fn, pin::Pin, time::Duration};

use axum::body::HttpBody;
use bytes::Bytes;
use esker_wire::ErrorCode;
use tokio::time::{Instant, timeout_at};

use super::{Front, budget::Share, error::ApiError};
use crate::Timeouts;

/// A body is given room for so much ahead of what has arrived, however much it announces.
const ROOM_AHEAD: usize = 64 << 10;

/// A body that is no longer has room also while long ones fill what there is for them.
const SMALL_BYTES: usize = 16 << 10;

/// A whole body, and its share of the budget.
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) share: Share,
}

/// Receives a body of at most `limit` bytes. An announced length is checked before anything is read.
pub(crate) async fn receive<B>(front: &Front, mut body: B, limit: usize) -> Result<Received, ApiError>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let mut share = front.body_budget.share();
    let mut pace = Pace::new(&front.config.timeouts);
    let mut first = Bytes::new();
    let mut rest = Vec::new();
    let mut len = 0;
    while let Some(piece) = next_piece(&mut body, &pace).await? {
        len += piece.len();
        if len > limit {
            return Err(too_large(limit));
        }
        let has_room = match len {
            ..=SMALL_BYTES => share.grow_small(piece.len()),
            _ => share.grow(piece.len()),
        };
        if !has_room {
            return Err(ApiError::new(
                ErrorCode::TooManyRequests,
                "the request bodies being received take all the memory they may: retry later",
            ));
        }
        pace.received(piece.len());
        if first.is_empty() {
            first = piece;
        } else {
            if rest.is_empty() {
                rest.reserve(first.len() + piece.len() + ROOM_AHEAD.min(limit));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&piece);
        }
    }
    // Most bodies come in one piece, which is handed on without a copy.
    let bytes = if rest.is_empty() { first } else { Bytes::from(rest) };
    Ok(Received { bytes, share })
}

fn too_large(limit: usize) -> ApiError {
    ApiError::too_large(format!("the body has more than {limit} bytes, the limit for it"), limit)
}

async fn next_piece<B>(body: &mut B, pace: &Pace) -> Result<Option<Bytes>, ApiError>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    loop {
        let frame = timeout_at(pace.deadline(), poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))).await;
        let frame = frame.map_err(|_| {
            ApiError::new(ErrorCode::RequestTimeout, "the body did not arrive in time: send it faster")
        })?;
        match frame.transpose() {
            Err(e) => return Err(ApiError::bad_request(format!("the body is malformed or incomplete: {e}"))),
            Ok(None) => return Ok(None),
            Ok(Some(frame)) => {
                // Trailers say nothing that the API asks for.
                if let Ok(piece) = frame.into_data()
                    && !piece.is_empty()
                {
                    return Ok(Some(piece));
                }
            }
        }
    }
}

/// How fast a body must arrive.
struct Pace {
    stall: Duration,
    bytes_per_second: u64,
    last: Instant,
    /// When all must be here, moved on by what arrives.
    end: Instant,
}

impl Pace {
    fn new(timeouts: &Timeouts) -> Self {
        let now = Instant::now();
        Self {
            stall: timeouts.body_stall,
            bytes_per_second: timeouts.body_bytes_per_second.max(1),
            last: now,
            end: now + timeouts.body_grace,
        }
    }

    fn received(&mut self, bytes: usize) {
        self.last = Instant::now();
        self.end += Duration::from_micros(bytes as u64 * 1_000_000 / self.bytes_per_second);
    }

    fn deadline(&self) -> Instant {
        self.end.min(self.last + self.stall)
    }
}
