//! Room for the values of one answer that has many.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use esker_cluster::Room as Taken;

use super::{
    Front,
    answer::{answers_fill_budget, item_bytes},
    budget::Share,
    error::ApiError,
};
use crate::access::GuardedScan;

/// Room for the values of one answer, taken as they are read, by whichever thread reads them.
pub(crate) struct Room(Mutex<Values>);

struct Values {
    /// What the request may still read.
    left: usize,
    /// What it has of what all answers may hold together.
    share: Share,
    refusal: Option<NoRoom>,
}

/// Why a value was not read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NoRoom {
    /// The request reads more than one may.
    Request,
    /// All answers together hold as much as they may.
    Server,
}

impl NoRoom {
    /// As the client is told.
    pub(crate) fn told(self, front: &Front) -> ApiError {
        match self {
            Self::Request => ApiError::too_large(
                "the values have more bytes together than one answer may have: ask for fewer keys",
                front.limits().batch_bytes,
            ),
            Self::Server => answers_fill_budget(front),
        }
    }
}

impl Room {
    /// Room for at most so many bytes.
    pub(crate) fn new(front: &Front, bytes: usize) -> Self {
        Self(Mutex::new(Values { left: bytes, share: front.answer_budget.share(), refusal: None }))
    }

    /// The same scan, whose chunks are read into this room; what does not fit ends it.
    pub(crate) fn admit(self: &Arc<Self>, scan: GuardedScan) -> GuardedScan {
        let room = Arc::clone(self);
        // What is made of them is text: so they count by what they have, and not by what they take for a moment.
        let scan = scan.shaped(|chunk| {
            let bytes = chunk.iter().map(item_bytes).sum();
            (chunk, bytes)
        });
        // Each holds what others may wait for: so it waits for nobody.
        scan.admitting(Arc::new(move |bytes| room.take(bytes).then(|| Box::new(()) as Taken)), Duration::ZERO)
    }

    /// Why a scan into this room ended.
    pub(crate) fn ended(&self, error: esker_cluster::Error, front: &Front) -> ApiError {
        match (error, self.values().refusal) {
            (esker_cluster::Error::NoRoom { .. }, Some(refusal)) => refusal.told(front),
            (error, _) => error.into(),
        }
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        // Every change is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes some of it, if it is there.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let mut values = self.values();
        let refusal = match values.left.checked_sub(bytes) {
            None => Some(NoRoom::Request),
            Some(_) if !values.share.grow(bytes) => Some(NoRoom::Server),
            Some(left) => {
                values.left = left;
                None
            }
        };
        values.refusal = values.refusal.or(refusal);
        refusal.is_none()
    }

    /// What was taken, and why there was no more; nothing is to be had from now on.
    pub(crate) fn close(&self) -> (Share, Option<NoRoom>) {
        let mut values = self.values();
        values.left = 0;
        let nothing = values.share.split();
        (std::mem::replace(&mut values.share, nothing), values.refusal)
    }
}
