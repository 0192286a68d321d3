//! A watch as the body of an answer.
//!
//! hyper asks for more when the client has taken what it got: so a slow client is not read for. What is on its way has room in the
//! answers' budget, which is taken as soon as it is in memory.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use esker_cluster::WatchEvent;

use super::events::Events;
use crate::{
    access::GuardedWatch,
    http::{
        Front,
        answer::{Held, unwritable},
        drain::DrainWatch,
        error::ApiError,
        stream::{admit, share_of},
    },
};

/// See the module.
pub(super) struct EventStream {
    front: Arc<Front>,
    watch: GuardedWatch,
    drain: DrainWatch,
    base64: bool,
    /// Whether the last event was given out.
    is_over: bool,
}

impl EventStream {
    pub(super) fn new(front: &Arc<Front>, watch: GuardedWatch, base64: bool) -> Self {
        let watch = watch.admitting(admit(&front.answer_budget));
        Self { front: Arc::clone(front), watch, drain: front.drain.subscribe(), base64, is_over: false }
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_stream(futures_util::stream::unfold(self, async |mut stream| {
            let bytes = stream.next().await?;
            Some((Ok::<_, std::convert::Infallible>(bytes), stream))
        }))
    }

    /// What is sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let event = tokio::select! {
            // The client goes on elsewhere behind the last id.
            () = self.drain.begun() => return None,
            event = self.watch.next() => event?,
        };
        let mut events = Events::new(self.base64);
        let written = match event.map_err(|error| self.note(error)) {
            Ok(event) => self.write(&mut events, event).map_err(unwritable),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            self.is_over = true;
            events = Events::new(self.base64);
            // What the error says is text, and text is JSON.
            events.error(error.into_body()).ok()?;
        }
        let share = share_of(self.watch.take_room(), &self.front.answer_budget);
        Some(Held::bytes(events.into_bytes(), share))
    }

    fn write(&mut self, events: &mut Events, event: WatchEvent) -> serde_json::Result<()> {
        match event {
            WatchEvent::Changes(changes) => changes.iter().try_for_each(|change| events.change(change)),
            WatchEvent::Progress(version) => events.progress(version),
            WatchEvent::Resync { from, why } => {
                self.is_over = true;
                events.resync(from, why)
            }
        }
    }

    /// Damage is told to the operator, too.
    fn note(&self, error: esker_cluster::Error) -> ApiError {
        if let esker_cluster::Error::Engine(esker_engine::Error::Damage(damage)) = &error {
            self.front.damage_found(damage);
        }
        ApiError::from(error)
    }
}
