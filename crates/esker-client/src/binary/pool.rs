//! The connections of a client.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync, time::Instant};

use super::{connection::Connection, opening::Opener};
use crate::{Result, endpoints::Endpoint, stream::Stream};

/// Where a connection has so many requests in flight, another one is opened,
const SPREAD_AT: usize = 32;
/// up to so many to one server, for reads and for writes each.
const CONNECTIONS_MAX: usize = 4;
/// So many connections that were used for scans are kept to a server,
const IDLE_MAX: usize = 4;
/// for so long.
const IDLE: Duration = Duration::from_secs(20);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Reads,
    Writes,
}

type Open = Arc<sync::Mutex<Vec<Connection>>>;

#[derive(Debug)]
pub(super) struct Pool {
    opener: Opener,
    patience: Duration,
    lanes: Mutex<HashMap<(Endpoint, Lane), Open>>,
    idle: Mutex<HashMap<Endpoint, Vec<(Stream, Instant)>>>,
}

impl Pool {
    pub(super) fn new(opener: Opener, patience: Duration) -> Self {
        Self { opener, patience, lanes: Mutex::default(), idle: Mutex::default() }
    }

    /// A connection with room for a request. Errors: there is none to be had.
    pub(super) async fn get(&self, endpoint: &Endpoint, lane: Lane) -> Result<Connection> {
        let open = Arc::clone(lock(&self.lanes).entry((endpoint.clone(), lane)).or_default());
        // Held while connecting, so that all who ask at first share what one of them opens.
        let mut open = open.lock().await;
        open.retain(Connection::is_open);
        let least = open.iter().min_by_key(|connection| connection.under_way());
        match least {
            Some(least) if least.under_way() < SPREAD_AT || open.len() >= CONNECTIONS_MAX => {
                Ok(least.clone())
            }
            _ => {
                let connection = Connection::new(self.opener.open(endpoint).await?, self.patience);
                open.push(connection.clone());
                Ok(connection)
            }
        }
    }

    /// A connection for one scan.
    pub(super) async fn take(&self, endpoint: &Endpoint) -> Result<Stream> {
        let kept = lock(&self.idle).get_mut(endpoint).and_then(|kept| {
            kept.retain_mut(|(stream, since)| since.elapsed() < IDLE && stream.is_quiet());
            kept.pop()
        });
        match kept {
            Some((stream, _)) => Ok(stream),
            None => self.opener.open(endpoint).await,
        }
    }

    /// Keeps a connection whose scan is through.
    pub(super) fn keep(&self, endpoint: &Endpoint, stream: Stream) {
        let mut idle = lock(&self.idle);
        let kept = idle.entry(endpoint.clone()).or_default();
        if kept.len() < IDLE_MAX {
            kept.push((stream, Instant::now()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole before anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
