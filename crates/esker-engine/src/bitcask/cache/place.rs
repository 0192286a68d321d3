//! Where a record lies, as one number.

use super::super::keydir::Slot;

/// A segment and an offset in it: of one record, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    pub(super) fn of(slot: Slot) -> Self {
        Self(u64::from(slot.segment()) << 32 | u64::from(slot.offset()))
    }

    /// Spreads places, which differ in few bits: the finalizer of MurmurHash3 (Appleby, 2011). Nobody chooses them, so there is no
    /// need for a secret, and runs repeat.
    pub(super) fn hash(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}
