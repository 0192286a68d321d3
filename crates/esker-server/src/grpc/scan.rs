//! A range as a stream of messages, in constant memory: the chunk that is made ahead, and the one being sent.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use esker_cluster::{Chunk, Room, with_read_ahead};
use esker_engine::{Item, Version};
use esker_proto::v1::{Entry, Item as ItemMessage, ScanResponse};
use esker_wire::cursor::Cursor;
use tokio_stream::Stream;
use tonic::Status;

use super::status::status_of;
use crate::access::GuardedScan;
use crate::http::{ApiError, Front, ROOM_PATIENCE, admit_counted};

/// See the module.
pub(super) struct ScanStream {
    front: Arc<Front>,
    scan: GuardedScan,
    /// The first chunk.
    first: Option<Chunk>,
    reverse: bool,
    applied_version: Option<Version>,
    /// Of the message that was given out last, until the next is asked for. Its pieces have shares of their own when they are handed on.
    room: Option<Room>,
}

impl ScanStream {
    /// The first chunk is awaited, so that a scan that fails at once has no answer but its error.
    pub(super) async fn begin(
        front: Arc<Front>,
        scan: GuardedScan,
        reverse: bool,
        applied_version: Option<Version>,
    ) -> Result<Self, ApiError> {
        let scan = scan.shaped(|chunk: Chunk| {
            // The message is written into a buffer that grows by doubling.
            let bytes: usize = chunk.iter().map(|item| 2 * item.memory()).sum();
            (chunk, with_read_ahead(bytes))
        });
        let mut scan = scan.admitting(admit_counted(&front.answer_budget), ROOM_PATIENCE);
        let first = scan.next_chunk().await.transpose()?;
        let room = scan.take_room();
        Ok(Self { front, scan, first, reverse, applied_version, room })
    }

    fn message(&self, chunk: Chunk) -> ScanResponse {
        let last_key = chunk.last().map(|item| item.key.clone());
        let cursor = last_key.map(|last_key| Cursor { last_key, reverse: self.reverse }.encode());
        ScanResponse {
            items: chunk.into_iter().map(item_message).collect(),
            cursor: cursor.unwrap_or_default(),
            applied_version: self.applied_version,
        }
    }
}

fn item_message(item: Item) -> ItemMessage {
    let Item { key, value, version, expiry } = item;
    let value = value.map(esker_engine::Value::into_bytes).unwrap_or_default();
    ItemMessage { key: key.into(), entry: Some(Entry { value, version, expires_at_ms: expiry }) }
}

impl Stream for ScanStream {
    type Item = Result<ScanResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(this.message(first))));
        }
        this.room = None;
        let chunk = ready!(this.scan.poll_next_chunk(cx));
        this.room = this.scan.take_room();
        Poll::Ready(chunk.map(|chunk| match chunk {
            Ok(chunk) => Ok(this.message(chunk)),
            Err(error) => Err(status_of(&this.front, error.into())),
        }))
    }
}
