//! Clients that write, read and note what they see; the same for simulated clusters and for real ones.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

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
    history::{Action, Key, Outcome, Recorder},
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
/// Puts, deletes and batches end with `Written`, puts on a condition also with `Failed`, increments with `Sum`, gets with `Read`,
/// scans with `Scanned`; each of them may also end with `Refused`, if it is certain that nothing was and will be done, and with `Unknown`. Dropping the future gives up.
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
    /// How many counters they add to. Default 4.
    pub counters: u32,
    /// How many keys they put that expire. Default 4.
    pub expiring: u32,
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
            counters: 4,
            expiring: 4,
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
            seen: BTreeMap::new(),
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
    /// At which version it saw keys last; `None`: absent.
    seen: BTreeMap<Key, Option<u64>>,
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
        let action = ask.action.clone();
        let outcome = self.attempts(ask).await;
        self.learn(&action, &outcome);
        self.recorder.end(operation, outcome);
    }

    /// Remembers at which version a key is, for a condition later on: by then it may be at another.
    fn learn(&mut self, action: &Action, outcome: &Outcome) {
        let version = match (action, outcome) {
            (Action::Put { .. } | Action::PutIf { .. }, Outcome::Written { version: Some(version) }) => {
                Some(*version)
            }
            (Action::Delete { .. }, Outcome::Written { .. }) => None,
            (Action::PutIf { .. }, Outcome::Failed { present }) => *present,
            (Action::Get { .. }, Outcome::Read { found, .. }) => found.as_ref().map(|found| found.version),
            _ => return,
        };
        if let Action::Put { key, .. }
        | Action::PutIf { key, .. }
        | Action::Delete { key }
        | Action::Get { key, .. } = action
        {
            self.seen.insert(key.clone(), version);
        }
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
        match rng.below(28) {
            0..=6 => Action::Get { key, consistency },
            7..=11 => Action::Put { key, value },
            12..=13 => Action::Delete { key },
            14..=16 => {
                let expected = self.seen.get(&key).copied().flatten();
                Action::PutIf { key, value, expected }
            }
            17..=19 => self.count(consistency).unwrap_or(Action::Get { key, consistency }),
            20..=21 => self.expire(value, consistency).unwrap_or(Action::Get { key, consistency }),
            _ => self.group(value, consistency).unwrap_or(Action::Get { key, consistency }),
        }
    }

    /// Counters are added to and read.
    fn count(&self, consistency: Consistency) -> Option<Action> {
        let key = self.numbered("n", self.workload.counters)?;
        Some(match self.rng.below(4) {
            0 => Action::Get { key, consistency },
            _ => Action::Incr { key },
        })
    }

    /// What expires, soon or long after the run, is put and read.
    fn expire(&self, value: Bytes, consistency: Consistency) -> Option<Action> {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        let key = self.numbered("t", self.workload.expiring)?;
        let soon = self.rng.duration(Duration::from_millis(1)..Duration::from_secs(3));
        Some(match self.rng.below(3) {
            0 => Action::Get { key, consistency },
            1 => Action::PutExpiring { key, value, ttl: soon },
            _ => Action::PutExpiring { key, value, ttl: YEAR },
        })
    }

    /// Groups are written, deleted and read as a whole.
    fn group(&self, value: Bytes, consistency: Consistency) -> Option<Action> {
        let prefix = self.numbered("g", self.workload.groups).filter(|_| self.workload.group_keys > 0)?;
        let prefix = [&prefix[..], b"/"].concat();
        let key = |at: u32| Bytes::from([&prefix[..], at.to_string().as_bytes()].concat());
        let keys = (0..self.workload.group_keys).map(key);
        let all = Bytes::from(prefix.clone());
        Some(match self.rng.below(6) {
            0..=1 => Action::Batch { writes: keys.map(|key| (key, Some(value.clone()))).collect() },
            2 => Action::DeleteRange { prefix: all, keys: keys.collect() },
            _ => Action::Scan { prefix: all, consistency },
        })
    }

    fn numbered(&self, name: &str, count: u32) -> Option<Bytes> {
        (count > 0).then(|| Bytes::from(format!("{name}/{}", self.rng.below(u64::from(count)))))
    }
}
