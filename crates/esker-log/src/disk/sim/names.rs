//! Directories: which names there are, which of them are durable, and the changes in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::inode::{InodeId, Seq};

/// A change of names that no directory sync has covered yet. It happens as a whole or not at all.
#[derive(Debug, Clone)]
pub(super) struct NameOp {
    pub(super) seq: Seq,
    /// The file whose name comes, moves or goes.
    pub(super) inode: InodeId,
    /// The name it loses.
    pub(super) from: Option<PathBuf>,
    /// The name it gets, taking it from whoever had it.
    pub(super) to: Option<PathBuf>,
}

impl NameOp {
    pub(super) fn apply(&self, table: &mut BTreeMap<PathBuf, InodeId>) {
        if let Some(from) = &self.from {
            table.remove(from);
        }
        if let Some(to) = &self.to {
            table.insert(to.clone(), self.inode);
        }
    }

    fn touches(&self, dirs: &BTreeSet<PathBuf>) -> bool {
        self.dirs().any(|dir| dirs.contains(dir))
    }

    fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.from.iter().chain(&self.to).map(|path| parent(path))
    }
}

/// The names of all files. `durable` followed by all of `pending` equals `current` unless a sync failed.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) current: BTreeMap<PathBuf, InodeId>,
    pub(super) durable: BTreeMap<PathBuf, InodeId>,
    pub(super) pending: Vec<NameOp>,
    /// Directories. They are durable as soon as they exist, since [`Disk::create_dir_all`] syncs them.
    ///
    /// [`Disk::create_dir_all`]: crate::disk::Disk::create_dir_all
    pub(super) dirs: BTreeSet<PathBuf>,
}

impl Default for Names {
    fn default() -> Self {
        let dirs = ["", ".", "/"].into_iter().map(PathBuf::from).collect();
        Self { current: BTreeMap::new(), durable: BTreeMap::new(), pending: Vec::new(), dirs }
    }
}

impl Names {
    /// The names of a disk on which all of `table` is durable.
    pub(super) fn found(table: BTreeMap<PathBuf, InodeId>, dirs: BTreeSet<PathBuf>) -> Self {
        Self { current: table.clone(), durable: table, pending: Vec::new(), dirs }
    }

    /// Makes a change in memory; it stays unsynced.
    pub(super) fn apply(&mut self, op: NameOp) {
        op.apply(&mut self.current);
        self.pending.push(op);
    }

    /// A sync of `dir` that succeeds.
    pub(super) fn sync(&mut self, dir: &Path) {
        for op in self.take_pending(dir) {
            op.apply(&mut self.durable);
        }
    }

    /// A sync of `dir` that fails: its changes are never written, though everybody sees them.
    pub(super) fn fail_sync(&mut self, dir: &Path) {
        self.take_pending(dir);
    }

    /// The unsynced changes that a sync of `dir` writes: its own, and since a rename between two directories is
    /// one change, those of every directory tied to it by such renames.
    fn take_pending(&mut self, dir: &Path) -> Vec<NameOp> {
        let mut tied = BTreeSet::from([dir.to_owned()]);
        loop {
            let touching = self.pending.iter().filter(|op| op.touches(&tied));
            let found: BTreeSet<PathBuf> = touching.flat_map(NameOp::dirs).map(Path::to_owned).collect();
            if found.is_subset(&tied) {
                break;
            }
            tied.extend(found);
        }
        self.pending.extract_if(.., |op| op.touches(&tied)).collect()
    }

    /// The files of a directory, in the order of their names.
    pub(super) fn files_in(&self, dir: &Path) -> impl Iterator<Item = (&PathBuf, InodeId)> {
        self.current.iter().filter(move |(path, _)| parent(path) == dir).map(|(path, id)| (path, *id))
    }

    pub(super) fn has_parent_of(&self, path: &Path) -> bool {
        self.dirs.contains(parent(path))
    }

    /// The files that some name leads to, now or after a crash.
    pub(super) fn reachable(&self) -> BTreeSet<InodeId> {
        let named = self.current.values().chain(self.durable.values()).copied();
        named.chain(self.pending.iter().map(|op| op.inode)).collect()
    }
}

/// The directory that holds the name `path`.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
