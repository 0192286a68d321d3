//! Connections of this front, as the accept loop hands them over.

use std::sync::{Arc, atomic::Ordering};

use esker_cluster::metrics::Counter;
use esker_wire::binary::{Answer, Extras, write_answer};

use super::talk::Talk;
use crate::{
    accept::Serves,
    access::{Door, Entrance},
    homes::Lodging,
    http::Front,
    pipeline,
    stream::Stream,
};

/// Serves connections of this front.
#[derive(Clone)]
pub(crate) struct BinaryService(Arc<Front>);

impl BinaryService {
    pub(crate) fn new(front: Arc<Front>) -> Self {
        Self(front)
    }
}

impl Serves for BinaryService {
    fn front(&self) -> &Arc<Front> {
        &self.0
    }

    fn accepted(&self) -> &Counter {
        &self.0.binary.metrics.connections_accepted
    }

    fn refused(&self) -> &Counter {
        &self.0.binary.metrics.connections_refused
    }

    fn refusal(&self) -> Vec<u8> {
        later()
    }

    fn entrance(&self) -> Entrance {
        Entrance::Binary
    }

    async fn serve(self, stream: Stream, lodging: Option<Arc<Lodging>>) {
        let _open = Open::new(&self.0);
        let arrival = stream.arrival(Entrance::Binary);
        let talk = Talk::new(Door::arrive(self.0, arrival));
        pipeline::serve((stream, lodging), talk, std::future::pending()).await;
    }
}

/// What whoever connects is told that cannot be served now.
pub(crate) fn later() -> Vec<u8> {
    let mut answer = Vec::new();
    write_answer(&mut answer, &Answer::<&[u8]>::TryLater { retry_ms: 1000, extras: Extras::default() });
    answer
}

/// One of the open connections.
struct Open(Arc<Front>);

impl Open {
    fn new(front: &Arc<Front>) -> Self {
        front.binary.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(front))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.binary.open.fetch_sub(1, Ordering::Relaxed);
    }
}
