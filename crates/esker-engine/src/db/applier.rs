//! What becomes of a group that was appended.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use esker_log::{
    Consumer, Draft, Log, Position, Result, format::FRAME_HEADER_LEN, record::RECORD_HEADER_LEN,
};
use parking_lot::Mutex;

use super::OnApplied;
use crate::{Applied, Committed, Engine, once::Once, request::request_of};

/// Applies groups to the engine.
pub(crate) struct Applier {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) version: AtomicU64,
    /// Held while a group is applied.
    pub(super) applying: Mutex<()>,
    /// Behind that version's frame, or farther, as one number. Requests before it are noted in `once`.
    pub(super) end: AtomicU64,
    pub(super) once: Arc<Once>,
    /// Keys and values, as they are stored.
    pub(super) user_bytes: AtomicU64,
    /// Who wants to know of each version that was applied.
    pub(super) told: OnceLock<OnApplied>,
}

impl Consumer for Applier {
    type Outcome = Committed;

    fn consume(&self, log: &Log, drafts: &[Draft], outcomes: &mut Vec<Committed>) -> Result<()> {
        let Some(last) = drafts.last() else { return Ok(()) };
        // Whoever asks how far it went waits for the group that is being applied: a merge has seen the keys of it, maybe.
        let _turn = self.applying.lock();
        let before = outcomes.len();
        if let [draft] = drafts {
            self.engine.apply(log, &[applied(draft)], outcomes)?;
        } else {
            let batches: Vec<_> = drafts.iter().map(applied).collect();
            self.engine.apply(log, &batches, outcomes)?;
        }
        for (draft, committed) in drafts.iter().zip(&outcomes[before..]) {
            if let Some(id) = request_of(&draft.payload) {
                self.once.note_applied(id, *committed);
            }
        }
        // In this order: whoever sees the version sees where it ends.
        self.end.store(end_of(last).pack(), Ordering::Release);
        self.version.store(last.appended_index, Ordering::Release);
        if let Some(told) = self.told.get() {
            told(last.appended_index);
        }
        let bytes = drafts.iter().map(|draft| user_bytes(draft.payload.len(), draft.records)).sum();
        self.user_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// The first byte behind an appended batch.
fn end_of(draft: &Draft) -> Position {
    let Position { segment, offset } = draft.position;
    Position { segment, offset: offset + (FRAME_HEADER_LEN + draft.payload.len()) as u32 }
}

/// The bytes of keys and values in a payload of so many records.
pub(crate) fn user_bytes(payload_len: usize, records: u32) -> u64 {
    payload_len.saturating_sub(RECORD_HEADER_LEN * records as usize) as u64
}

fn applied(draft: &Draft) -> Applied<'_> {
    Applied {
        version: draft.appended_index,
        position: draft.position,
        payload: &draft.payload,
        records: draft.records,
        // Of what was written here, and judged once: a merge keeps what came of it.
        floor_ms: 0,
    }
}
