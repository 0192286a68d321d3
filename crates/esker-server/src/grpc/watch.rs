//! Changes as a stream of messages. `docs/watch.md` says what is told, and how.
//!
//! A message is asked for when the client has taken the one before, so that a slow client is not read for. Its changes have room in the
//! answers' budget from when they are read until the next ones are asked for.

use std::{ops::Bound, pin::Pin, sync::Arc};

use bytes::Bytes;
use esker_cluster::WatchEvent;
use esker_engine::{
    KeyRange, Value,
    watch::{Change, ChangeKind},
};
use esker_proto::v1::{
    Change as ChangeMessage, ChangedKey, Changes, DeletedKey, DeletedRange, Progress, Resync, WatchResponse,
    change::Kind, watch_response::Event,
};
use futures_util::stream::unfold;
use tokio_stream::Stream;
use tonic::Status;

use super::status::status_of;
use crate::{
    access::GuardedWatch,
    http::{Front, admit_counted},
};

/// See the module.
pub(super) type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

/// What `watch` tells, until it ends or the client goes away.
pub(super) fn stream(front: Arc<Front>, watch: GuardedWatch) -> WatchStream {
    let watch = watch.admitting(admit_counted(&front.answer_budget));
    Box::pin(unfold((front, watch), |(front, mut watch)| async {
        let told = watch.next().await?;
        let told = told.map(message).map_err(|error| status_of(&front, error.into()));
        Some((told, (front, watch)))
    }))
}

fn message(event: WatchEvent) -> WatchResponse {
    WatchResponse {
        event: Some(match event {
            WatchEvent::Changes(changes) => {
                Event::Changes(Changes { changes: changes.into_iter().map(change_message).collect() })
            }
            WatchEvent::Progress(version) => Event::Progress(Progress { version }),
            WatchEvent::Resync { from, why } => Event::Resync(Resync { from, message: why.into() }),
        }),
    }
}

fn change_message(change: Change) -> ChangeMessage {
    let kind = match change.kind {
        ChangeKind::Put { key, value, expiry } => Kind::Put(ChangedKey {
            key: key.into(),
            value: value.map(Value::into_bytes).unwrap_or_default(),
            expires_at_ms: expiry,
        }),
        ChangeKind::Delete { key } => Kind::Delete(DeletedKey { key: key.into() }),
        ChangeKind::DeleteRange(range) => Kind::DeleteRange(range_message(range)),
    };
    ChangeMessage { version: change.version, end_of_version: change.is_last, kind: Some(kind) }
}

fn range_message(KeyRange { start, end }: KeyRange) -> DeletedRange {
    let (start, start_excluded) = bound(start);
    let (end, end_excluded) = bound(end);
    DeletedRange { start, start_excluded, end, end_excluded }
}

/// The key at the end of a range, if there is an end, and whether it is out of it.
fn bound(bound: Bound<Vec<u8>>) -> (Option<Bytes>, bool) {
    match bound {
        Bound::Unbounded => (None, false),
        Bound::Included(key) => (Some(key.into()), false),
        Bound::Excluded(key) => (Some(key.into()), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_which_of_its_ends_are_in_it() {
        let message = range_message(KeyRange::prefix("a"));
        assert_eq!((message.start.as_deref(), message.start_excluded), (Some(&b"a"[..]), false));
        assert_eq!((message.end.as_deref(), message.end_excluded), (Some(&b"b"[..]), true));
        let message = range_message(KeyRange::all());
        assert_eq!((message.start, message.end, message.end_excluded), (None, None, false));
    }
}
