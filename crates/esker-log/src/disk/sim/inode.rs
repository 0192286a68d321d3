//! A file without its name: what readers see, what the platter holds, and the operations in between.

use super::{content::Content, extents::Extents, rng::Rng};

/// The unit a device writes whole; a torn write keeps or loses each of them.
pub(super) const SECTOR: u64 = 512;

/// Identifies a file for as long as the simulation runs; never used twice.
pub(super) type InodeId = u64;

/// The place of an unsynced operation in the order of all of them, across files and directories.
pub(super) type Seq = u64;

/// An operation on a file's bytes or length that no sync has covered yet.
#[derive(Debug, Clone)]
pub(super) enum FileOp {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
    Extend(u64),
}

/// What a power loss leaves of a [`FileOp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Whole,
    Gone,
    /// Of a write, its first bytes.
    Bytes(u64),
    /// Of a write, an arbitrary subset of its sectors, drawn from this seed.
    Sectors(u64),
    /// Of a write, the length it gave to the file, with zeros for bytes (delayed allocation).
    LengthOnly,
}

impl FileOp {
    pub(super) fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }

    pub(super) fn write_len(&self) -> u64 {
        if let Self::Write { data, .. } = self { data.len() as u64 } else { 0 }
    }

    /// Does to `content` what `fate` left of this operation.
    pub(super) fn apply(&self, fate: Fate, content: &mut Content) {
        match (self, fate) {
            (_, Fate::Gone) => {}
            (Self::Write { offset, data }, fate) => apply_write(*offset, data, fate, content),
            (Self::SetLen(len), _) => content.set_len(*len),
            (Self::Extend(len), _) => content.extend(*len),
        }
    }
}

fn apply_write(offset: u64, data: &[u8], fate: Fate, content: &mut Content) {
    match fate {
        Fate::Gone => {}
        Fate::Whole => content.write(data, offset),
        Fate::Bytes(n) => content.write(&data[..n as usize], offset),
        Fate::LengthOnly => content.extend(offset + data.len() as u64),
        Fate::Sectors(seed) => apply_sectors(offset, data, seed, content),
    }
}

/// Keeps each sector of the write with probability one half, and with one half the file's full length.
fn apply_sectors(offset: u64, data: &[u8], seed: u64, content: &mut Content) {
    let mut rng = Rng::new(seed);
    if rng.chance(4) {
        content.extend(offset + data.len() as u64);
    }
    let mut done = 0;
    while done < data.len() {
        let at = offset + done as u64;
        let n = ((SECTOR - at % SECTOR) as usize).min(data.len() - done);
        if rng.chance(4) {
            content.write(&data[done..done + n], at);
        }
        done += n;
    }
}

/// A file. `current` is what reads see (the page cache), `durable` what is on the platter.
///
/// Without a failed sync, `durable` followed by all of `pending` equals `current`. A failed sync takes its
/// operations out of `pending`, and from then on `current` shows bytes that no later sync writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) current: Content,
    pub(super) durable: Content,
    pub(super) pending: Vec<(Seq, FileOp)>,
    /// The space the file takes.
    pub(super) extents: Extents,
    /// Open handles: an inode without names lives as long as one is open.
    pub(super) handles: usize,
}

impl Inode {
    /// Does an operation in memory; it stays unsynced.
    pub(super) fn apply(&mut self, seq: Seq, op: FileOp) {
        match &op {
            FileOp::Write { offset, data } => self.extents.insert(*offset, offset + data.len() as u64),
            FileOp::SetLen(len) => self.extents.truncate(*len),
            FileOp::Extend(_) => {}
        }
        op.apply(Fate::Whole, &mut self.current);
        self.pending.push((seq, op));
    }

    /// A sync that succeeds.
    pub(super) fn sync(&mut self) {
        for (_, op) in self.pending.drain(..) {
            op.apply(Fate::Whole, &mut self.durable);
        }
    }

    /// A sync that fails: the kernel marks the pages clean though they never reached the platter.
    pub(super) fn fail_sync(&mut self) {
        self.pending.clear();
    }

    /// The space the file may take after a crash. An unsynced cut can be undone by it, and gave its space back:
    /// then all of the durable file is counted, holes too, rather than too little.
    pub(super) fn extents_at_most(&self) -> Extents {
        let mut extents = self.extents.clone();
        if self.pending.iter().any(|(_, op)| matches!(op, FileOp::SetLen(_))) {
            extents.insert(0, self.durable.len());
        }
        extents
    }

    /// The file as the next start finds it, on a medium that holds exactly `content`.
    pub(super) fn found(content: Content, mut extents: Extents) -> Self {
        extents.truncate(content.len());
        Self { current: content.clone(), durable: content, extents, ..Self::default() }
    }
}
