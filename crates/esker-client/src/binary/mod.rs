//! The binary protocol: requests in flight side by side on few connections.
//!
//! ```text
//! api: one method a request -> Binary::send: attempts, as over HTTP -> pool -> connection: a task that writes what comes and
//!                                                                              hands out the answers in their order
//! scans: a connection each, for as long as they last
//! ```
//!
//! Reads and writes go over connections of their own: answers come in the order of the requests, and a read is not to wait for
//! the disk of a write before it. The writes are of different callers, so the server need not keep their order.

mod api;
mod connection;
mod failure;
mod opening;
mod pairs;
mod pool;

use std::sync::Arc;

use bytes::Bytes;
use esker_wire::binary::Header;
use tokio::time::{Duration, timeout};

pub(crate) use self::pairs::Pairs;
use self::{
    connection::{Lost, Reply, Sent},
    failure::refusal,
    opening::Opener,
    pool::{Lane, Pool},
};
use crate::{
    Error, Result, Settings,
    attempts::{Attempts, Manner},
    endpoints::{Endpoint, Endpoints},
    request_id::RequestIds,
};

/// So many connections that turn out to be closed are passed over in one attempt.
const CLOSED_MAX: usize = 16;

/// A request that can be sent again.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) header: Header,
    /// What follows it, but for a value.
    pub(super) body: Vec<u8>,
    pub(super) value: Bytes,
    pub(super) manner: Manner,
}

impl Call {
    /// A request that reads.
    pub(super) fn read(header: Header, body: Vec<u8>) -> Self {
        Self { header, body, value: Bytes::new(), manner: Manner::default() }
    }

    fn lane(&self) -> Lane {
        if self.manner.is_write { Lane::Writes } else { Lane::Reads }
    }

    /// The header and what follows it, but for the value.
    fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(64 + self.body.len());
        self.header.write(&mut head);
        head.extend_from_slice(&self.body);
        head
    }
}

/// A client's requests over the binary protocol.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    shared: Arc<Shared>,
    settings: Settings,
}

/// What all handles to one client have in common.
#[derive(Debug)]
struct Shared {
    endpoints: Endpoints,
    request_ids: RequestIds,
    pool: Pool,
}

impl Binary {
    pub(crate) fn new(endpoints: Endpoints, settings: Settings) -> Result<Self> {
        let opener = Opener::new(&settings, endpoints.uses_tls())?;
        let pool = Pool::new(opener, settings.request_timeout);
        let request_ids = RequestIds::new();
        Ok(Self { shared: Arc::new(Shared { endpoints, request_ids, pool }), settings })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.shared.endpoints.preferred()
    }

    /// Sends a request, again where that is safe. Errors are those of the answer, too.
    async fn send(&self, call: Call) -> Result<Reply> {
        let mut attempts = Attempts::new(&self.settings, &self.shared.endpoints, call.manner);
        loop {
            let outcome = self.attempt(attempts.endpoint(), &call, attempts.limit()).await;
            if let Some(reply) = attempts.settle(outcome).await? {
                return Ok(reply);
            }
        }
    }

    /// Begins a scan, again where that is safe.
    async fn open(&self, call: Call) -> Result<Pairs> {
        let mut attempts = Attempts::new(&self.settings, &self.shared.endpoints, call.manner);
        loop {
            let limit = attempts.limit();
            let opening =
                Pairs::open(&self.shared, attempts.endpoint(), &call, self.settings.request_timeout);
            let outcome = timeout(limit, opening).await.unwrap_or(Err(Error::TimedOut { after: limit }));
            if let Some(pairs) = attempts.settle(outcome).await? {
                return Ok(pairs);
            }
        }
    }

    async fn attempt(&self, endpoint: &Endpoint, call: &Call, limit: Duration) -> Result<Reply> {
        let exchanged = timeout(limit, self.exchange(endpoint, call)).await;
        let reply = exchanged.unwrap_or(Err(Error::TimedOut { after: limit }))?;
        match refusal(reply.first) {
            Ok(first) => Ok(Reply { first, ..reply }),
            Err(e) => Err(e),
        }
    }

    async fn exchange(&self, endpoint: &Endpoint, call: &Call) -> Result<Reply> {
        let mut closed = 0;
        loop {
            let connection = self.shared.pool.get(endpoint, call.lane()).await?;
            let (sent, reply) = Sent::new(call.head(), call.value.clone(), call.header.verb);
            match connection.exchange(sent, reply).await {
                Ok(reply) => return Ok(reply),
                // It was closed under our feet, before this request was on it.
                Err(Lost::Unsent(_)) if closed < CLOSED_MAX => closed += 1,
                Err(Lost::Unsent(e) | Lost::Sent(e)) => return Err(e),
            }
        }
    }
}
