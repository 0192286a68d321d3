//! Clients that write, read and note what they see; the same for simulated clusters and for real ones.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use esker_cluster::Consistency;
use esker_engine::RequestId;
use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    Rng,
    history::{Action, Outcome, Recorder},
};

/// One attempt at an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// What to do; reads say what they may see.
    pub action: Action,
    /// Which node to ask; `None` leaves it to the target.
    pub node: Option<u64>,
    /// The same for all attempts at one write.
    pub request: RequestId,
}

/// What can be asked: a simulated cluster, or a real one.
///
/// Puts, deletes and batches end with `Written`, gets with `Read`, scans with `Scanned`; each of them may also end with
/// `Refused`, if it is certain that nothing was and will be done, and with `Unknown`. Dropping the future gives up.
pub trait Target: Send + Sync + 'static {
    /// Makes one attempt. Who asks retries.
    fn ask(&self, ask: Ask) -> BoxFuture<'static, Outcome>;
}

/// What clients do.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// How many there are. Default 10.
    pub clients: u32,
    /// How many keys they put, delete and get. Default 50.
    pub keys: u32,
    /// How many groups of keys they write as batches and scan. Default 3.
    pub groups: u32,
    /// How many keys a group has. Default 4.
    pub group_keys: u32,
    /// The nodes they ask; none: the target chooses. Default 1 to 3.
    pub nodes: Vec<u64>,
    /// How many of the reads may be stale, from 0 to 1. Default 0.2.
    pub stale: f64,
    /// How long they pause between two operations. Default 0 to 20 ms.
    pub pause: Range<Duration>,
    /// How long they wait for an attempt. Default 1 s.
    pub patience: Duration,
    /// How often they try at most, with one request id. Where the target knows no request ids this must be 1. Default 3.
    pub attempts: u32,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            clients: 10,
            keys: 50,
            groups: 3,
            group_keys: 4,
            nodes: vec![1, 2, 3],
            stale: 0.2,
            pause: Duration::ZERO..Duration::from_millis(20),
            patience: Duration::from_secs(1),
            attempts: 3,
        }
    }
}

/// Clients at work.
#[must_use = "clients go on until they are stopped"]
pub struct Clients {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Lets them begin; what they do is noted by `recorder`.
    pub fn start(workload: &Workload, target: Arc<dyn Target>, recorder: &Recorder, rng: &Rng) -> Self {
        let stop = watch::Sender::new(false);
        let client = |number| Client {
            number,
            sequence: 0,
            identity: rng.next(),
            rng: rng.fork("client"),
            workload: workload.clone(),
            target: Arc::clone(&target),
            recorder: recorder.clone(),
        };
        let tasks = (0..workload.clients).map(|number| tokio::spawn(client(number).work(stop.subscribe())));
        let tasks = tasks.collect();
        Self { stop, tasks }
    }

    /// Lets them end what they are doing, and no more.
    ///
    /// # Panics
    ///
    /// If one of them has.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.expect("clients do not panic");
        }
    }
}

struct Client {
    number: u32,
    sequence: u64,
    /// What its request ids begin with.
    identity: u64,
    rng: Rng,
    workload: Workload,
    target: Arc<dyn Target>,
    recorder: Recorder,
}

impl Client {
    async fn work(mut self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.operation().await;
            // At least for a moment, so that a target that answers at once does not keep the others from their turn.
            sleep(self.rng.duration(self.workload.pause.clone())).await;
            tokio::task::yield_now().await;
        }
    }

    async fn operation(&mut self) {
        self.sequence += 1;
        let ask = Ask {
            action: self.choose_action(),
            node: (!self.workload.nodes.is_empty()).then(|| *self.rng.choose(&self.workload.nodes)),
            request: RequestId { client: self.identity, sequence: self.sequence },
        };
        let operation = self.recorder.begin(self.number, ask.node, ask.action.clone());
        let outcome = self.attempts(ask).await;
        self.recorder.end(operation, outcome);
    }

    /// Tries until it is done. After an attempt whose outcome is unknown a refusal proves nothing: the first one may
    /// still come to pass. Stale reads stay with the node they asked, whose answers must not go back; so do all attempts.
    async fn attempts(&self, ask: Ask) -> Outcome {
        let mut unknown = None;
        let mut last = Outcome::Refused("never tried".into());
        for _ in 0..self.workload.attempts {
            last = match timeout(self.workload.patience, self.target.ask(ask.clone())).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::Unknown(format!("no answer within {:?}", self.workload.patience)),
            };
            match &last {
                Outcome::Unknown(_) => unknown = Some(last.clone()),
                Outcome::Refused(_) => {}
                _ => return last,
            }
            sleep(self.rng.duration(Duration::from_millis(10)..Duration::from_millis(200))).await;
        }
        unknown.unwrap_or(last)
    }

    fn choose_action(&self) -> Action {
        let Self { rng, workload, .. } = self;
        let key = Bytes::from(format!("k/{:02}", rng.below(u64::from(workload.keys))));
        let value = Bytes::from(format!("c{}.{}", self.number, self.sequence));
        let stale = rng.chance(workload.stale);
        let consistency = if stale { Consistency::Stale } else { Consistency::Linearizable };
        let grouped = workload.groups > 0 && workload.group_keys > 0;
        match rng.below(20) {
            0..=7 => Action::Get { key, consistency },
            8..=13 => Action::Put { key, value },
            14..=15 => Action::Delete { key },
            _ if !grouped => Action::Get { key, consistency },
            16..=17 => {
                let group = rng.below(u64::from(workload.groups));
                let keys = (0..workload.group_keys).map(|at| Bytes::from(format!("g/{group}/{at}")));
                Action::Batch { writes: keys.map(|key| (key, Some(value.clone()))).collect() }
            }
            _ => {
                let prefix = Bytes::from(format!("g/{}/", rng.below(u64::from(workload.groups))));
                Action::Scan { prefix, consistency }
            }
        }
    }
}
