//! A toy cluster that answers clients directly: correct, or with one defect.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use esker_cluster::Consistency;
use esker_engine::RequestId;
use esker_sim::{
    Rng,
    checker::State,
    clients::{Ask, Target},
    history::{Action, Outcome, Versioned},
};
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::time::sleep;

/// What is wrong with a toy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    /// Linearizable reads are answered by a replica that lags.
    ReadsLag,
    /// Some refused writes are done all the same.
    RefusedAreDone,
    /// Some acknowledged writes are not done.
    AcknowledgedAreLost,
    /// A retried write is done again.
    RetriesAreDoneAgain,
    /// A scan does not wait for the second half of a batch.
    BatchesAreTorn,
    /// Stale reads are answered by any replica.
    StaleReadsGoBack,
    /// The version that is answered is not that of the write.
    VersionsAreOff,
    /// Some puts are done though their condition does not hold.
    ConditionsAreIgnored,
    /// Some increments are answered and not kept.
    IncrementsAreLost,
}

#[derive(Default)]
struct Store {
    version: u64,
    state: State,
    /// The state after each version.
    past: Vec<State>,
    done: BTreeMap<RequestId, Outcome>,
    /// How far each node has applied.
    applied: BTreeMap<u64, usize>,
    torn: BTreeSet<Bytes>,
}

pub(crate) struct Toy {
    defect: Defect,
    rng: Rng,
    store: Arc<Mutex<Store>>,
}

impl Toy {
    pub(crate) fn new(defect: Defect, rng: Rng) -> Self {
        let store = Store { past: vec![State::new()], ..Store::default() };
        Self { defect, rng, store: Arc::new(Mutex::new(store)) }
    }

    pub(crate) fn end_state(&self) -> State {
        self.store.lock().state.clone()
    }

    fn take_effect(&self, ask: &Ask) -> Outcome {
        let mut store = self.store.lock();
        match ask.action.consistency() {
            None => self.write(&mut store, ask),
            Some(consistency) => {
                let at = self.read_point(&mut store, ask.node.unwrap_or(1), consistency);
                read(&store.past[at], &ask.action, at as u64, &store.torn)
            }
        }
    }

    fn write(&self, store: &mut Store, ask: &Ask) -> Outcome {
        if let Some(outcome) = store.done.get(&ask.request)
            && self.defect != Defect::RetriesAreDoneAgain
        {
            return outcome.clone();
        }
        let refused = self.rng.chance(0.05);
        if refused && self.defect != Defect::RefusedAreDone {
            return Outcome::Refused("busy".into());
        }
        store.version += 1;
        let version = store.version;
        let lost = self.defect == Defect::AcknowledgedAreLost && self.rng.chance(0.05);
        if let Some(outcome) = judged(store, &ask.action, version, self.defect) {
            let state = store.state.clone();
            store.past.push(state);
            let outcome = if refused { Outcome::Refused("busy".into()) } else { outcome };
            store.done.insert(ask.request, outcome.clone());
            return outcome;
        }
        let writes = ask.action.writes();
        if self.defect == Defect::BatchesAreTorn && writes.len() > 1 && self.rng.chance(0.3) {
            store.torn.insert(writes[0].0.clone());
        }
        for (key, value) in writes.into_iter().filter(|_| !lost) {
            match value {
                Some(value) => store.state.insert(key.clone(), Versioned { value: value.clone(), version }),
                None => store.state.remove(key),
            };
        }
        let state = store.state.clone();
        store.past.push(state);
        let off = u64::from(self.defect == Defect::VersionsAreOff && self.rng.chance(0.1));
        let outcome = match refused {
            true => Outcome::Refused("busy".into()),
            false => Outcome::Written { version: Some(version - off) },
        };
        store.done.insert(ask.request, outcome.clone());
        outcome
    }

    fn read_point(&self, store: &mut Store, node: u64, consistency: Consistency) -> usize {
        let newest = store.past.len() - 1;
        if consistency == Consistency::Linearizable && self.defect != Defect::ReadsLag {
            return newest;
        }
        let before = store.applied.get(&node).copied().unwrap_or(0);
        let from = if self.defect == Defect::StaleReadsGoBack { newest.saturating_sub(30) } else { before };
        let at = from + self.rng.index(newest - from + 1);
        store.applied.insert(node, at);
        at
    }
}

/// What comes of an increment, or of a put whose condition does not hold.
fn judged(store: &mut Store, action: &Action, version: u64, defect: Defect) -> Option<Outcome> {
    match action {
        Action::Incr { key } => {
            let before: u32 = store
                .state
                .get(key)
                .map_or(0, |held| std::str::from_utf8(&held.value).unwrap().parse().unwrap());
            let value = before + 1;
            let held = Versioned { value: Bytes::from(value.to_string()), version };
            // Now and then it is not kept.
            if defect != Defect::IncrementsAreLost || !value.is_multiple_of(7) {
                store.state.insert(key.clone(), held);
            }
            Some(Outcome::Sum { value, version: Some(version) })
        }
        Action::PutIf { key, expected, .. } => {
            let present = store.state.get(key).map(|held| held.version);
            let ignored = defect == Defect::ConditionsAreIgnored && version.is_multiple_of(3);
            (present != *expected && !ignored).then_some(Outcome::Failed { present })
        }
        _ => None,
    }
}

fn read(state: &State, action: &Action, applied: u64, torn: &BTreeSet<Bytes>) -> Outcome {
    let applied = Some(applied);
    match action {
        Action::Get { key, .. } => Outcome::Read { found: state.get(key).cloned(), applied },
        Action::Scan { prefix, .. } => {
            let found = state.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(prefix));
            let found = found.filter(|(key, _)| !torn.contains(*key));
            Outcome::Scanned {
                found: found.map(|(key, found)| (key.clone(), found.clone())).collect(),
                applied,
            }
        }
        write => unreachable!("{write} reads nothing"),
    }
}

impl Target for Toy {
    fn ask(&self, ask: Ask) -> BoxFuture<'static, Outcome> {
        let toy = Self { defect: self.defect, rng: self.rng.clone(), store: Arc::clone(&self.store) };
        let way = move |rng: &Rng| sleep(rng.duration(Duration::from_millis(1)..Duration::from_millis(10)));
        async move {
            way(&toy.rng).await;
            if toy.rng.chance(0.03) {
                return Outcome::Unknown("the request was lost".into());
            }
            let outcome = toy.take_effect(&ask);
            way(&toy.rng).await;
            if toy.rng.chance(0.03) { Outcome::Unknown("the answer was lost".into()) } else { outcome }
        }
        .boxed()
    }
}
