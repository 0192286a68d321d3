//! A page of changes in the making: batch after batch, until it is full.

use esker_log::{Result, record::RecordKind};

use super::{Change, ChangeFilter, cursor::Within, window::Payload};
use crate::{Sums, Version};

/// A page is full with so many changes, however small they are.
const PAGE_CHANGES: usize = 4096;
/// A page is given out, however little is on it, when so much of the log was looked through for it.
const LOOKED_BYTES: u64 = 4 << 20;

/// See the module.
pub(crate) struct Page<'a> {
    pub(super) filter: &'a ChangeFilter,
    pub(super) changes: Vec<Change>,
    bytes: usize,
    bytes_max: usize,
    looked: u64,
}

impl<'a> Page<'a> {
    /// An empty page, which is full with so many bytes of changes; one change may go beyond.
    pub(super) fn new(filter: &'a ChangeFilter, bytes_max: usize) -> Self {
        Self { filter, changes: Vec::new(), bytes: 0, bytes_max, looked: 0 }
    }

    /// Takes note of so many bytes of the log that were looked through.
    pub(super) fn look(&mut self, bytes: u64) {
        self.looked += bytes;
    }

    /// Whether no further batch is to be begun.
    pub(super) fn is_done(&self) -> bool {
        self.is_full() || self.looked >= LOOKED_BYTES
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max || self.changes.len() >= PAGE_CHANGES
    }

    /// Adds what a batch changed, from `within` on, as far as there is room; says whether that is all of it. Its adds came to `sums`.
    ///
    /// Where there is no room, another change follows: so what is on the page of this batch is not its last.
    pub(super) fn add(
        &mut self,
        payload: &mut Payload<'_>,
        version: Version,
        sums: &Sums,
        within: &mut Within,
    ) -> Result<bool> {
        let before = self.changes.len();
        while within.at < payload.len() {
            let (record, next) = payload.record(within.at)?;
            let is_add = record.kind == RecordKind::Add;
            let sum = is_add.then(|| *sums.0.get(within.sums).expect("a sum was made for every add"));
            if self.filter.shows(&record) {
                if self.is_full() {
                    return Ok(false);
                }
                let kind = self.filter.change(&record, sum);
                let kind = kind.map_err(|what| payload.bad(within.at, version, &what))?;
                let change = Change { version, is_last: false, kind };
                self.bytes += change.bytes();
                self.changes.push(change);
            }
            within.sums += usize::from(is_add);
            within.at = next;
        }
        if let Some(last) = self.changes[before..].last_mut() {
            last.is_last = true;
        }
        Ok(true)
    }
}
