//! What a crash leaves: the choice, for each unsynced operation, of its fate.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    content::Content,
    inode::{Fate, Inode, InodeId, Seq},
    names::{NameOp, Names},
    rng::Rng,
};

/// How a machine or process went down. See the [module](super) for what each mode stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashMode {
    /// The process died, the kernel lives: all that was written is there, synced or not.
    ProcessKill,
    /// The power failed before anything unsynced reached the platter.
    DropUnsynced,
    /// The power failed after everything unsynced had reached the platter.
    KeepUnsynced,
    /// The power failed while a disk that keeps the order was writing: the unsynced operations of all files and
    /// directories survive up to one of them, which is torn at any byte if it is a write.
    Prefix {
        /// Chooses the operation and the byte.
        seed: u64,
    },
    /// The power failed while a disk that does not keep the order was writing: each unsynced write is kept,
    /// lost or torn by itself; changes of names survive as a prefix or each by itself.
    Reorder {
        /// Chooses the fates.
        seed: u64,
    },
}

impl CrashMode {
    /// One of the power losses, chosen by `seed`; mostly the two that tear.
    pub fn power_loss(seed: u64) -> Self {
        match Rng::new(seed).below(8) {
            0 => Self::DropUnsynced,
            1 => Self::KeepUnsynced,
            2..=4 => Self::Prefix { seed },
            _ => Self::Reorder { seed },
        }
    }
}

/// The files and names found after `mode`.
pub(super) fn survivors(
    inodes: &BTreeMap<InodeId, Inode>,
    names: &Names,
    mode: CrashMode,
) -> (BTreeMap<InodeId, Inode>, Names) {
    let mut fates = Fates::new(inodes, names, mode);
    let files = inodes.iter().map(|(id, inode)| (*id, fates.of_file(inode))).collect();
    let mut table = names.durable.clone();
    for op in fates.of_names(&names.pending) {
        op.apply(&mut table);
    }
    (files, Names::found(table, names.dirs.clone()))
}

/// Deals out fates.
enum Fates {
    All(Fate),
    /// Operations before the cut are whole, the one at the cut is torn, the others are gone.
    UpTo {
        cut: Seq,
        rng: Rng,
    },
    /// Each operation by itself; `keep` of eight survive whole.
    Independent {
        keep: u64,
        rng: Rng,
    },
}

impl Fates {
    fn new(inodes: &BTreeMap<InodeId, Inode>, names: &Names, mode: CrashMode) -> Self {
        match mode {
            CrashMode::ProcessKill | CrashMode::KeepUnsynced => Self::All(Fate::Whole),
            CrashMode::DropUnsynced => Self::All(Fate::Gone),
            CrashMode::Prefix { seed } => {
                let mut rng = Rng::new(seed);
                let all = unsynced(inodes, names);
                let cut = all.get(rng.below(all.len() as u64 + 1) as usize).copied();
                Self::UpTo { cut: cut.unwrap_or(Seq::MAX), rng }
            }
            CrashMode::Reorder { seed } => {
                let mut rng = Rng::new(seed);
                Self::Independent { keep: [1, 4, 7][rng.below(3) as usize], rng }
            }
        }
    }

    /// The file as found afterwards.
    fn of_file(&mut self, inode: &Inode) -> Inode {
        let mut content: Content = inode.durable.clone();
        let mut length_lost = false;
        for (seq, op) in &inode.pending {
            let fate = match self {
                _ if length_lost && !op.is_write() => Fate::Gone,
                Self::All(fate) => *fate,
                Self::UpTo { cut, rng } if seq == cut => Fate::Bytes(rng.below(op.write_len())),
                Self::UpTo { cut, .. } => whole_if(*seq < *cut),
                Self::Independent { keep, rng } => any_fate(rng, *keep, op.write_len()),
            };
            // A journal keeps the order of changes to a file's length: once one is lost, so are the later ones.
            let fate = if op.is_write() { fate } else { whole_if(fate == Fate::Whole) };
            length_lost |= !op.is_write() && fate == Fate::Gone;
            op.apply(fate, &mut content);
        }
        Inode::found(content, inode.extents_at_most())
    }

    /// The changes of names that survive, in their order.
    fn of_names<'a>(&mut self, pending: &'a [NameOp]) -> Vec<&'a NameOp> {
        match self {
            Self::All(Fate::Whole) => pending.iter().collect(),
            Self::All(_) => Vec::new(),
            Self::UpTo { cut, .. } => pending.iter().filter(|op| op.seq < *cut).collect(),
            Self::Independent { keep, rng } => independent_names(rng, *keep, pending),
        }
    }
}

/// In half of the cases a prefix; otherwise each change by itself, except that those of one file keep their order: without the creation there is nothing
/// to rename, and a file must not be found under two names.
fn independent_names<'a>(rng: &mut Rng, keep: u64, pending: &'a [NameOp]) -> Vec<&'a NameOp> {
    if rng.chance(4) {
        let kept = rng.below(pending.len() as u64 + 1) as usize;
        return pending[..kept].iter().collect();
    }
    let mut lost = BTreeSet::new();
    let mut kept = Vec::new();
    for op in pending {
        if rng.chance(keep) && !lost.contains(&op.inode) {
            kept.push(op);
        } else {
            lost.insert(op.inode);
        }
    }
    kept
}

fn any_fate(rng: &mut Rng, keep: u64, write_len: u64) -> Fate {
    if rng.chance(keep) {
        return Fate::Whole;
    }
    match rng.below(4) {
        0 => Fate::Gone,
        1 => Fate::Bytes(rng.below(write_len)),
        2 => Fate::Sectors(rng.next()),
        _ => Fate::LengthOnly,
    }
}

fn whole_if(kept: bool) -> Fate {
    if kept { Fate::Whole } else { Fate::Gone }
}

/// The numbers of all unsynced operations, in order.
fn unsynced(inodes: &BTreeMap<InodeId, Inode>, names: &Names) -> Vec<Seq> {
    let files = inodes.values().flat_map(|inode| inode.pending.iter().map(|(seq, _)| *seq));
    let mut all: Vec<Seq> = files.chain(names.pending.iter().map(|op| op.seq)).collect();
    all.sort_unstable();
    all
}
