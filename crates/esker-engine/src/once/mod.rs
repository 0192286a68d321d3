//! Each request once, in a store that commits for itself.
//!
//! A write that carries a request id is looked up before anything is appended: a copy of one that was applied is answered as that
//! one was, and a copy of one that is under way waits for it. So the log holds each request once, and reading it back needs to
//! know nothing of copies. (A [`Replica`](crate::Replica) cannot do so: its log is the cluster's, and holds whatever was agreed on.)
//!
//! ```text
//! write ─▶ begin ─ known ─────▶ answered as the first
//!            │ ─── under way ─▶ waits for the first
//!            └──── first ─────▶ append, apply ─▶ note_applied ─▶ finish: answers those that wait
//! ```
//!
//! The newest [`REQUESTS_MAX`](crate::replica::REQUESTS_MAX) are remembered: in the log, whose records carry the ids, and, as of
//! what will not be replayed, in the file `REQUESTS` ([`file`]).

mod file;

#[cfg(fuzzing)]
pub use file::fuzz as fuzz_requests;

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};

use esker_log::{Error, Log, Opening, Position, Result};
use parking_lot::Mutex;

use crate::{
    Committed, OnCommit, RequestId,
    requests::{RequestList, Requests},
};

/// See the module.
#[derive(Default)]
pub(crate) struct Once {
    state: Mutex<State>,
    /// Held while the file is written: nobody takes it for written before it is.
    saving: Mutex<()>,
}

#[derive(Default)]
struct State {
    applied: Requests,
    /// Appended or about to be; and who waits for the same.
    under_way: HashMap<RequestId, Vec<OnCommit>>,
    /// Whether the file lacks some that were applied.
    is_unsaved: bool,
    /// The file has all that come before.
    saved_to: Position,
}

/// How a request begins.
pub(crate) enum Begun {
    /// Nobody did it yet: the caller does, and says what came of it.
    First(UnderWay),
    /// It was applied.
    Applied(Committed),
    /// The same is under way: its outcome comes to whoever was named.
    Waits,
}

impl Once {
    /// Reads what was remembered when the store was open last. A damaged file is noticed: what it said is forgotten.
    ///
    /// Errors: `Io`, `UnsupportedFormat`.
    pub(crate) fn load(opening: &mut Opening) -> Result<Self> {
        let applied = file::read(opening)?.into_iter().collect();
        Ok(Self { state: Mutex::new(State { applied, ..State::default() }), ..Self::default() })
    }

    /// Begins a request. If the same is under way, what `waiting` makes is called once it is decided.
    pub(crate) fn begin(self: &Arc<Self>, id: RequestId, waiting: impl FnOnce() -> OnCommit) -> Begun {
        let mut state = self.state.lock();
        if let Some(committed) = state.applied.get(&id) {
            return Begun::Applied(committed);
        }
        match state.under_way.entry(id) {
            hash_map::Entry::Occupied(mut entry) => {
                entry.get_mut().push(waiting());
                Begun::Waits
            }
            hash_map::Entry::Vacant(entry) => {
                entry.insert(Vec::new());
                Begun::First(UnderWay { once: Arc::clone(self), id: Some(id) })
            }
        }
    }

    /// Remembers what came of a request: before anybody is told, and before the log counts as applied up to there.
    pub(crate) fn note_applied(&self, id: RequestId, committed: Committed) {
        let mut state = self.state.lock();
        // A replay meets again what the file has.
        if state.applied.get(&id).is_none() {
            state.applied.insert(id, committed);
            state.is_unsaved = true;
        }
    }

    /// Everything before `end`, which is what the log has been read back to, is known.
    pub(crate) fn begin_at(&self, end: Position) {
        let mut state = self.state.lock();
        if !state.is_unsaved {
            state.saved_to = end;
        }
    }

    /// Says up to where index files may reach, `applied_to` being up to where requests were noted: what they cover is not
    /// replayed, so the file must have it. It is written if that is `due`.
    ///
    /// Errors: `Poisoned`, `DiskFull`, `Io`; the old file is then still there.
    pub(crate) fn save(&self, log: &Log, applied_to: Position, due: bool) -> Result<Position> {
        let _turn = self.saving.lock();
        let Some(requests) = self.unsaved(applied_to, due) else { return Ok(self.state.lock().saved_to) };
        // Synced first, or a power loss could take a write, and leave word that it was done.
        let written = log.sync().and_then(|()| file::write(log, &requests));
        let mut state = self.state.lock();
        match written {
            Ok(()) => state.saved_to = state.saved_to.max(applied_to),
            Err(_) => state.is_unsaved = true,
        }
        written.map(|()| state.saved_to)
    }

    /// What is to be written; `None` if nothing is.
    fn unsaved(&self, applied_to: Position, due: bool) -> Option<RequestList> {
        let mut state = self.state.lock();
        if !state.is_unsaved {
            state.saved_to = state.saved_to.max(applied_to);
            return None;
        }
        due.then(|| {
            // Whatever is applied from now on is for the next time.
            state.is_unsaved = false;
            state.applied.to_list()
        })
    }

    fn finish(&self, id: RequestId, result: &Result<Committed>) {
        let waiting = self.state.lock().under_way.remove(&id);
        waiting.into_iter().flatten().for_each(|answer| answer(result.clone()));
    }
}

/// The duty to say what came of a request. Dropping it says that nothing did.
pub(crate) struct UnderWay {
    once: Arc<Once>,
    id: Option<RequestId>,
}

impl UnderWay {
    /// Answers those that wait.
    pub(crate) fn finish(mut self, result: &Result<Committed>) {
        if let Some(id) = self.id.take() {
            self.once.finish(id, result);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.once.finish(id, &Err(Error::Closed));
        }
    }
}
