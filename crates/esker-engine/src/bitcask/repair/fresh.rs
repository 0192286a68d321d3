//! A new store, filled in key order.
//!
//! It has merged segments only, and a log whose one frame says at which version it goes on. As long as it is not finished it has
//! no `STORE`, and cannot be opened.

use std::{io, path::Path, sync::Arc};

use esker_log::{
    Draft, Error, GroupEnd, LockedDir, Log, LogOptions, Merge, MergedWriter, Opening, Position,
    RecordLocation, Result, Writer,
    disk::Disk,
    format::{FrameKind, SEGMENT_HEADER_LEN, StoreId, encode_store},
    record::{Record, RecordKind, encode_record_of, record_len},
    recovery::STORE_NAME,
    segment::Segment,
    small_file::write_durably,
};

use crate::{
    GROUP, Saved, Version,
    bitcask::{
        checkpoint::saved_file,
        collect::slot_of,
        index_file::{IndexName, IndexWriter, Place, Stretch},
        keydir::Slot,
    },
};

/// See the module.
pub(crate) struct FreshStore {
    writer: Writer,
    filling: Option<Filling>,
    outputs: Vec<Arc<Segment>>,
    /// The version at which the store will be.
    version: Version,
}

struct Filling {
    merged: MergedWriter,
    index: IndexWriter,
}

impl FreshStore {
    /// Errors: `InvalidRequest` if `dir` is not empty, `Locked`, `DiskFull`, `Io`.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        segment_max_bytes: u64,
        new_store: impl FnOnce() -> io::Result<StoreId>,
    ) -> Result<Self> {
        Self::create_in(LockedDir::new(Arc::clone(disk), dir)?, segment_max_bytes, new_store)
    }

    /// The same in a directory that is locked already, so that it could be emptied first.
    pub(crate) fn create_in(
        locked: LockedDir,
        segment_max_bytes: u64,
        new_store: impl FnOnce() -> io::Result<StoreId>,
    ) -> Result<Self> {
        let (disk, dir) = (Arc::clone(locked.disk()), locked.dir().to_owned());
        let doing = |e| Error::io(format_args!("preparing {}", dir.display()), e);
        if disk.list(&dir).map_err(doing)?.iter().any(|found| found.name != "LOCK") {
            let why = format!("{} is not empty: the new store wants a directory of its own", dir.display());
            return Err(Error::InvalidRequest(why));
        }
        let options = LogOptions { segment_max_bytes, ..LogOptions::default() };
        let opening = Opening::begin_in(locked, options, new_store)?;
        let writer = opening.recover(Position::default(), Default::default(), &mut |_| Ok(()))?.writer;
        disk.remove(&dir.join(STORE_NAME)).map_err(doing)?;
        disk.sync_dir(&dir).map_err(doing)?;
        Ok(Self { writer, filling: None, outputs: Vec::new(), version: 0 })
    }

    /// Says at which version the store will be: no lower than any that comes.
    pub(crate) fn at_version(&mut self, version: Version) {
        self.version = version;
    }

    fn log(&self) -> &Arc<Log> {
        self.writer.log()
    }

    /// Adds a record as it was read from its place. Keys ascend.
    pub(crate) fn copy(
        &mut self,
        key: &[u8],
        slot: Slot,
        at: &RecordLocation,
        bytes: &[u8],
        from: &Segment,
    ) -> Result<()> {
        let filling = self.filling(bytes.len())?;
        let to = filling.merged.copy(bytes, at, from)?;
        let place = Slot::new(to.segment, to.offset, slot.value_len(), slot.version());
        let place = place.compressed(slot.is_compressed()).expiring(slot.expiry());
        filling.index.push(key, Place::of(place));
        Ok(())
    }

    /// Adds a value as it is stored. Keys ascend.
    pub(crate) fn put(&mut self, key: &[u8], version: Version, flags: u8, stored: &[u8]) -> Result<()> {
        let filling = self.filling(record_len(key.len(), stored.len()))?;
        let encode = |buf: &mut Vec<u8>| encode_record_of(buf, RecordKind::Put, flags, key, &[stored]);
        let to = filling.merged.push(version, encode)?;
        let record = Record { kind: RecordKind::Put, flags, key, value: stored };
        filling.index.push(key, Place::of(slot_of(&record, to.segment, to.offset, version)));
        Ok(())
    }

    /// The segment that takes a record of this length.
    fn filling(&mut self, len: usize) -> Result<&mut Filling> {
        if self.filling.as_ref().is_some_and(|filling| !filling.merged.has_room(len)) {
            self.finish_segment()?;
        }
        if self.filling.is_none() {
            let merged = MergedWriter::create(self.log())?;
            let stretch = Stretch {
                segment: merged.id(),
                group: GROUP,
                from: SEGMENT_HEADER_LEN as u32,
                // Not known yet.
                to: 0,
                last: GroupEnd { index: self.version, term: 0 },
            };
            let index = IndexWriter::new(self.log().store(), stretch);
            self.filling = Some(Filling { merged, index });
        }
        Ok(self.filling.as_mut().expect("it was just put there"))
    }

    fn finish_segment(&mut self) -> Result<()> {
        let Some(Filling { merged, index }) = self.filling.take() else { return Ok(()) };
        let segment = merged.finish()?;
        let (log, name) = (self.log(), IndexName::Hint(segment.id));
        let index = index.up_to(segment.sealed_end().unwrap_or_default());
        index.finish(log.disk().as_ref(), log.dir(), log.store(), &name)?;
        self.outputs.push(segment);
        Ok(())
    }

    /// Makes a store of it; gives what it consists of.
    pub(crate) fn finish(mut self) -> Result<(Arc<Log>, Saved)> {
        self.finish_segment()?;
        let outputs = std::mem::take(&mut self.outputs);
        let index_names: Vec<_> = outputs.iter().map(|segment| IndexName::Hint(segment.id)).collect();
        self.log().install(&Merge { outputs, inputs: Vec::new(), generation: 0, judged: self.version })?;
        if self.version > 0 {
            let end = GroupEnd { index: self.version, term: 0 };
            self.writer.append(&mut [Draft::new(FrameKind::Base, GROUP, end, Vec::new(), 0)])?;
        }
        let log = self.log();
        log.sync()?;
        write_durably(log.disk().as_ref(), log.dir(), STORE_NAME, &encode_store(log.store()))?;
        let files = index_names.iter().map(|name| saved_file(log, name)).collect::<Result<_>>()?;
        let (end, version) = (log.appended(), self.version);
        let saved = Saved { end, version, manifest: log.manifest(), pin: log.pin(), files };
        Ok((Arc::clone(log), saved))
    }
}
