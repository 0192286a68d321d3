//! Connections of this front, as the accept loop hands them over.

use std::sync::Arc;

use esker_cluster::metrics::Counter;

use super::talk::{Entered, Talk};
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
pub(crate) struct RespService(Arc<Front>);

impl RespService {
    pub(crate) fn new(front: Arc<Front>) -> Self {
        Self(front)
    }
}

impl Serves for RespService {
    fn front(&self) -> &Arc<Front> {
        &self.0
    }

    fn entrance(&self) -> Entrance {
        Entrance::Resp
    }

    fn accepted(&self) -> &Counter {
        &self.0.resp.metrics.connections_accepted
    }

    fn refused(&self) -> &Counter {
        &self.0.resp.metrics.connections_refused
    }

    fn refusal(&self) -> Vec<u8> {
        b"-ERR max number of clients reached\r\n".to_vec()
    }

    async fn serve(self, stream: Stream, lodging: Option<Arc<Lodging>>) {
        let front = self.0;
        let arrival = stream.arrival(Entrance::Resp);
        let client =
            front.resp.clients.enter(arrival.trail.connection(), stream.peer_addr(), stream.local_addr());
        let entered = Entered::new(Arc::clone(&front), Arc::clone(&client));
        let talk = Talk::new(Door::arrive(front, arrival), client);
        pipeline::serve((stream, lodging), talk, entered.client.killed.notified()).await;
    }
}

/// What whoever connects is told until the server can serve; clients come back by themselves after it.
pub(crate) fn loading(why: &str) -> Vec<u8> {
    format!("-LOADING {why}\r\n").into_bytes()
}
