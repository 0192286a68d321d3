//! Who writes and reads, and what.

use std::{
    mem::replace,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use esker_client::Client;
use esker_log::clock::{Clock, SystemClock};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::task::JoinSet;

const SMALL: usize = 1 << 10;
const LARGE: usize = 256 << 10;
/// One of so many values is large: more than half of the bytes.
const LARGE_ONE_OF: u64 = 128;
/// One of so many operations is a read.
const READ_ONE_OF: u64 = 3;

/// How large everything is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Each has one request at a time, and a part of the keys.
    pub(crate) connections: u64,
    /// Keys that stay, with small values.
    pub(crate) small_keys: u64,
    /// Keys that stay, with large ones.
    pub(crate) large_keys: u64,
    /// Keys of the queue that are there at a time.
    pub(crate) queued: u64,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Puts over keys that stay.
    Overwrite,
    /// Puts of keys that never come again, and deletes of the oldest.
    Queue,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overwrite => "overwrite",
            Self::Queue => "queue",
        }
    }
}

/// What was done since it was last taken; latencies in nanoseconds.
pub(crate) struct Done {
    pub(crate) operations: u64,
    pub(crate) puts: Histogram<u64>,
    pub(crate) gets: Histogram<u64>,
}

impl Done {
    fn nothing() -> Self {
        let histogram = || Histogram::new(2).expect("two digits are allowed");
        Self { operations: 0, puts: histogram(), gets: histogram() }
    }
}

/// A load to be put on a server.
pub(crate) struct Load {
    client: Client,
    size: Size,
}

/// A load that is on.
pub(crate) struct Running {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
}

struct Shared {
    clock: SystemClock,
    stop: AtomicBool,
    done: Mutex<Done>,
}

impl Load {
    pub(crate) fn new(client: &Client, size: Size) -> Self {
        Self { client: client.clone(), size }
    }

    /// Puts all keys that stay.
    pub(crate) async fn fill(&self) {
        let mut workers = JoinSet::new();
        for number in 0..self.size.connections {
            let worker = self.worker(number, &Shared::new());
            workers.spawn(async move {
                for n in 0..worker.keys() {
                    worker.put(&worker.key(n), worker.len(n)).await;
                }
            });
        }
        workers.join_all().await;
    }

    /// Begins a phase.
    pub(crate) fn begin(&self, phase: Phase) -> Running {
        let shared = Shared::new();
        let mut workers = JoinSet::new();
        for number in 0..self.size.connections {
            let worker = self.worker(number, &shared);
            match phase {
                Phase::Overwrite => workers.spawn(worker.overwrite()),
                Phase::Queue => workers.spawn(worker.queue()),
            };
        }
        Running { shared, workers }
    }

    fn worker(&self, number: u64, shared: &Arc<Shared>) -> Worker {
        let random = fastrand::Rng::with_seed(number);
        let (client, size, shared) = (self.client.clone(), self.size, Arc::clone(shared));
        let mut pool = vec![0; LARGE];
        random.clone().fill(&mut pool);
        Worker { client, size, number, random, pool: pool.into(), shared }
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        let (stop, done) = (AtomicBool::new(false), Mutex::new(Done::nothing()));
        Arc::new(Self { clock: SystemClock::new(), stop, done })
    }
}

impl Running {
    /// What was done since this was last asked.
    pub(crate) fn take(&self) -> Done {
        replace(&mut *self.shared.done.lock(), Done::nothing())
    }

    /// Ends it. Panics if a request failed.
    pub(crate) async fn end(self) {
        self.shared.stop.store(true, Ordering::Release);
        self.workers.join_all().await;
    }
}

/// One connection. Whatever does not succeed is the end of the test.
struct Worker {
    client: Client,
    size: Size,
    number: u64,
    random: fastrand::Rng,
    /// What values are cut from: noise.
    pool: bytes::Bytes,
    shared: Arc<Shared>,
}

impl Worker {
    fn large_keys(&self) -> u64 {
        self.size.large_keys / self.size.connections
    }

    fn keys(&self) -> u64 {
        self.large_keys() + self.size.small_keys / self.size.connections
    }

    /// The large ones come first.
    fn len(&self, n: u64) -> usize {
        if n < self.large_keys() { LARGE } else { SMALL }
    }

    fn key(&self, n: u64) -> Vec<u8> {
        format!("stays/{:03}/{n:09}", self.number).into_bytes()
    }

    fn queue_key(&self, n: u64) -> Vec<u8> {
        format!("queue/{:03}/{n:012}", self.number).into_bytes()
    }

    fn goes_on(&self) -> bool {
        !self.shared.stop.load(Ordering::Acquire)
    }

    fn is_large(&mut self) -> bool {
        self.random.u64(..LARGE_ONE_OF) == 0
    }

    async fn overwrite(mut self) {
        while self.goes_on() {
            let large = self.is_large();
            let n = if large {
                self.random.u64(..self.large_keys())
            } else {
                self.random.u64(self.large_keys()..self.keys())
            };
            if self.random.u64(..READ_ONE_OF) == 0 {
                self.get(&self.key(n), Some(self.len(n))).await;
            } else {
                self.put(&self.key(n), self.len(n)).await;
            }
        }
    }

    async fn queue(mut self) {
        let queued = self.size.queued / self.size.connections;
        let (mut oldest, mut next) = (0, 0);
        while self.goes_on() {
            let len = if self.is_large() { LARGE } else { SMALL };
            self.put(&self.queue_key(next), len).await;
            next += 1;
            if self.random.u64(..READ_ONE_OF) == 0 {
                let n = self.random.u64(oldest..next);
                self.get(&self.queue_key(n), None).await;
            }
            if next - oldest > queued {
                let deleted = self.client.delete(&self.queue_key(oldest)).await.unwrap();
                assert!(deleted.existed, "{oldest} is gone already");
                oldest += 1;
                self.shared.done.lock().operations += 1;
            }
        }
    }

    async fn put(&self, key: &[u8], len: usize) {
        let value = self.pool.slice(..len);
        let began = self.shared.clock.monotonic();
        self.client.put(key, value).await.unwrap();
        let took = self.shared.clock.monotonic() - began;
        let mut done = self.shared.done.lock();
        done.operations += 1;
        done.puts.record(took.as_nanos() as u64).unwrap();
    }

    async fn get(&self, key: &[u8], len: Option<usize>) {
        let began = self.shared.clock.monotonic();
        let entry = self.client.get(key).await.unwrap().expect("it was put");
        let took = self.shared.clock.monotonic() - began;
        assert!(len.is_none_or(|len| entry.value.len() == len), "{} bytes", entry.value.len());
        let mut done = self.shared.done.lock();
        done.operations += 1;
        done.gets.record(took.as_nanos() as u64).unwrap();
    }
}
