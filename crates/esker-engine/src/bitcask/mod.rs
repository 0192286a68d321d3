//! The bitcask engine: all keys in memory, in order; values in the log (Sheehy and Smith, "Bitcask", 2010, with an
//! ordered index in place of its hash table).
//!
//! ```text
//! keydir/        key -> segment, offset, length, version; ordered, copy-on-write
//! index_file.rs  hint and checkpoint files: sorted tables of the same
//! collect.rs     from a stretch of the log to an index file
//! checkpoint.rs  when and how index files are written
//! load.rs        from index files to the keydir
//! scan.rs        ranges
//! ```
//!
//! A read is one lookup and at most one positioned read of exactly one record, verified by its checksum, which is bound
//! to the place and version the keydir names. The engine writes no value a second time.
//!
//! Left out on purpose: merging (dead records stay) and values held in memory.

mod checkpoint;
mod collect;
#[cfg(fuzzing)]
pub mod fuzzing;
mod index_file;
pub mod keydir;
mod load;
mod scan;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use esker_log::{
    Damage, Error, Log, Opening, Position, RecordLocation, Result,
    disk::Disk,
    format::{FRAME_HEADER_LEN, SEGMENT_HEADER_LEN, StoreId},
    record::{PlacedRecords, RecordKind, Records, record_len},
    segment::Segment,
    signal::Signal,
};
use parking_lot::Mutex;

use self::{
    checkpoint::Checkpoints,
    index_file::{IndexFile, IndexName},
    keydir::{Builder, IN_PLACE_OPERATIONS_MAX, Keydir, Slot, Tree},
    scan::BitcaskScan,
};
use crate::{
    Applied, ColdRead, Committed, Engine, EngineStats, Entry, KeyRange, Loaded, Loading, Lookup, Meta,
    Options, Scan, Settled, Value, View,
};

/// Error messages show this much of a key.
const SHOWN_KEY_BYTES_MAX: usize = 64;

/// See the module.
pub struct Bitcask {
    /// Replaced as a whole by `load`, before anything else is called.
    keydir: Keydir,
    live_bytes: AtomicU64,
    /// The segment of the last applied batch.
    segment: AtomicU64,
    /// Operations applied since the last checkpoint.
    uncovered_ops: AtomicU64,
    checkpoint_ops: u64,
    open_threads: usize,
    /// Held while index files are read, written or removed: for long. Taken before `checkpoints`.
    files_turn: Mutex<()>,
    checkpoints: Mutex<Checkpoints>,
    /// A state that is being gathered to take the place of the present one.
    replacement: Mutex<Option<Replacement>>,
    /// Raised when a checkpoint or hint is due.
    maintenance: Arc<Signal>,
    files_written: AtomicU64,
    file_bytes_written: AtomicU64,
}

impl Bitcask {
    /// An engine that is loaded next. `maintenance` is raised when [`Engine::checkpoint`] has something to do.
    pub fn new(options: &Options, maintenance: Arc<Signal>) -> Self {
        Self {
            keydir: Keydir::default(),
            live_bytes: AtomicU64::new(0),
            segment: AtomicU64::new(0),
            uncovered_ops: AtomicU64::new(0),
            checkpoint_ops: options.checkpoint_ops,
            open_threads: options.open_threads,
            files_turn: Mutex::default(),
            checkpoints: Mutex::default(),
            replacement: Mutex::default(),
            maintenance,
            files_written: AtomicU64::new(0),
            file_bytes_written: AtomicU64::new(0),
        }
    }

    /// Applies batches of few operations in place, all under one lock.
    fn apply_to(&self, tree: &mut Tree<Slot>, batch: &Applied<'_>) -> Committed {
        let payload_offset = batch.position.offset + esker_log::format::FRAME_HEADER_LEN as u32;
        let (mut existed, mut live) = (0, 0_u64);
        for (at, record) in
            Records::new(batch.payload).map(|record| record.expect("the log verified the frame"))
        {
            let offset = payload_offset + at as u32;
            let old = match record.kind {
                RecordKind::Put => {
                    live = live.wrapping_add(record_len(record.key.len(), record.value.len()) as u64);
                    let slot =
                        Slot::new(batch.position.segment, offset, record.value.len() as u32, batch.version);
                    tree.insert(record.key, slot)
                }
                RecordKind::Delete => tree.remove(record.key),
                RecordKind::Request => None,
            };
            if let Some(old) = old {
                existed += 1;
                live = live.wrapping_sub(record_len(record.key.len(), old.value_len() as usize) as u64);
            }
        }
        // Wrapping: a batch that frees more than it adds subtracts.
        self.live_bytes.fetch_add(live, Ordering::Relaxed);
        Committed { version: batch.version, existed }
    }

    /// Where a key's value lies, with its segment, which stays open as long as it is held.
    ///
    /// Errors: `Damage`.
    fn find(&self, log: &Log, key: &[u8]) -> Result<Option<(Slot, Arc<Segment>)>> {
        let mut found = self.keydir.get(key);
        while let Some(slot) = found {
            match log.segment(slot.segment()) {
                Ok(segment) => return Ok(Some((slot, segment))),
                Err(missing) => {
                    // Retired, if a snapshot has just taken the place of all: then there is another slot by now.
                    found = self.keydir.get(key);
                    if found.is_some_and(|now| now.segment() == slot.segment()) {
                        return Err(name_key(missing, key));
                    }
                }
            }
        }
        Ok(None)
    }

    fn note_progress(&self, batches: &[Applied<'_>]) {
        let Some(last) = batches.last() else { return };
        let operations: u64 = batches.iter().map(|batch| u64::from(batch.records)).sum();
        let before = self.uncovered_ops.fetch_add(operations, Ordering::Relaxed);
        let crossed = before < self.checkpoint_ops && before + operations >= self.checkpoint_ops;
        let segment = u64::from(last.position.segment);
        if self.segment.swap(segment, Ordering::Relaxed) != segment || crossed {
            self.maintenance.raise();
        }
    }
}

/// A keydir in the making, from values that come in key order.
#[derive(Default)]
struct Replacement {
    builder: Builder<Slot>,
    live_bytes: u64,
}

impl Replacement {
    fn extend(&mut self, payload: &[u8], position: Position) -> Result<()> {
        for (at, version, record) in
            PlacedRecords::new(payload).map(|record| record.expect("the log verified the frame"))
        {
            let offset = position.offset + (FRAME_HEADER_LEN + at) as u32;
            let slot = Slot::new(position.segment, offset, record.value.len() as u32, version);
            self.builder
                .push(record.key, slot)
                .map_err(|_| Error::InvalidRequest("the snapshot's keys do not ascend".into()))?;
            self.live_bytes += record_len(record.key.len(), record.value.len()) as u64;
        }
        Ok(())
    }
}

fn location(key: &[u8], slot: Slot) -> RecordLocation {
    RecordLocation {
        segment: slot.segment(),
        offset: slot.offset(),
        key_len: key.len() as u16,
        value_len: slot.value_len(),
        index: slot.version(),
    }
}

/// The value in a verified record of `key`.
fn entry(log: &Log, key: &[u8], at: &RecordLocation, record: Vec<u8>) -> Result<Entry> {
    let value_start = at.value_start();
    if &record[value_start - key.len()..value_start] != key {
        let path = log.dir().join(esker_log::segment::segment_name(at.segment));
        return Err(Error::damage(path, u64::from(at.offset), "the record is of another key"));
    }
    let end = record.len();
    Ok(Entry { value: Value::new(record, value_start..end), version: at.index })
}

fn read(log: &Log, segment: &Segment, key: &[u8], slot: Slot) -> Result<Entry> {
    let at = location(key, slot);
    segment.read_record(&at).and_then(|record| entry(log, key, &at, record)).map_err(|e| name_key(e, key))
}

/// Says in an error of damage which key it costs.
fn name_key(error: Error, key: &[u8]) -> Error {
    match error {
        Error::Damage(mut damage) => {
            let shown = key[..key.len().min(SHOWN_KEY_BYTES_MAX)].escape_ascii();
            damage.what = format!("{} (the value of key \"{shown}\")", damage.what);
            Error::Damage(damage)
        }
        other => other,
    }
}

impl Engine for Bitcask {
    fn name(&self) -> &'static str {
        "bitcask"
    }

    fn load(&self, opening: &mut Opening, loading: Loading<'_>) -> Result<Loaded> {
        let index = load::load(opening, loading, self.open_threads)?;
        let base = match loading {
            Loading::Whole => Position { segment: 1, offset: SEGMENT_HEADER_LEN as u32 },
            Loading::Prefix { base, .. } => base,
        };
        self.live_bytes.store(index.live_bytes, Ordering::Relaxed);
        self.segment.store(u64::from(index.loaded.from.segment), Ordering::Relaxed);
        *self.checkpoints.lock() = Checkpoints::new(base, index.loaded);
        // More than the bound of in-place operations: the loaded tree is swapped in.
        self.keydir.apply(usize::MAX, |tree| *tree = index.tree);
        Ok(index.loaded)
    }

    fn apply(&self, batches: &[Applied<'_>], outcomes: &mut Vec<Committed>) {
        let mut rest = batches;
        while !rest.is_empty() {
            // Small batches share one turn of the lock; a large one is applied alone, beside the readers.
            let mut operations = 0;
            let small = rest.iter().take_while(|batch| {
                operations += batch.records as usize;
                operations <= IN_PLACE_OPERATIONS_MAX
            });
            let count = small.count().max(1);
            let (turn, behind) = rest.split_at(count);
            let operations = turn.iter().map(|batch| batch.records as usize).sum();
            self.keydir.apply(operations, |tree| {
                outcomes.extend(turn.iter().map(|batch| self.apply_to(tree, batch)));
            });
            rest = behind;
        }
        self.note_progress(batches);
    }

    fn lookup(&self, log: &Arc<Log>, key: &[u8]) -> Result<Lookup> {
        let Some((slot, segment)) = self.find(log, key)? else { return Ok(Lookup::Absent) };
        let at = location(key, slot);
        let found = segment.try_read_record(&at).and_then(|record| match record {
            Some(record) => entry(log, key, &at, record).map(Some),
            None => Ok(None),
        });
        if let Some(entry) = found.map_err(|e| name_key(e, key))? {
            return Ok(Lookup::Found(entry));
        }
        let (log, key) = (Arc::clone(log), key.to_vec());
        Ok(Lookup::Cold(ColdRead::new(move || read(&log, &segment, &key, slot))))
    }

    fn get(&self, log: &Arc<Log>, key: &[u8]) -> Result<Option<Entry>> {
        let Some((slot, segment)) = self.find(log, key)? else { return Ok(None) };
        read(log, &segment, key, slot).map(Some)
    }

    fn meta(&self, key: &[u8]) -> Option<Meta> {
        self.keydir
            .get(key)
            .map(|slot| Meta { version: slot.version(), value_len: u64::from(slot.value_len()) })
    }

    fn scan(&self, log: &Arc<Log>, range: &KeyRange, keys_only: bool) -> Scan {
        let pin = log.pin();
        Scan::new(BitcaskScan::new(Arc::clone(log), pin, &self.keydir.snapshot(), range, keys_only))
    }

    fn view(&self, log: &Arc<Log>) -> View {
        let pin = log.pin();
        let (log, tree) = (Arc::clone(log), self.keydir.snapshot());
        View::new(tree.len() as u64, move |range, keys_only| {
            Scan::new(BitcaskScan::new(Arc::clone(&log), pin.clone(), &tree, range, keys_only))
        })
    }

    fn checkpoint(&self, log: &Arc<Log>, all: bool, settled: Option<&Settled<'_>>) -> Result<Position> {
        self.write_checkpoints(log, all, settled)
    }

    fn is_checkpoint_due(&self) -> bool {
        self.uncovered_ops.load(Ordering::Relaxed) >= self.checkpoint_ops
    }

    fn begin_replacement(&self) {
        *self.replacement.lock() = Some(Replacement::default());
    }

    fn extend_replacement(&self, payload: &[u8], position: Position) -> Result<()> {
        match self.replacement.lock().as_mut() {
            Some(replacement) => replacement.extend(payload, position),
            None => Ok(()),
        }
    }

    fn finish_replacement(&self, base: Position) {
        let Replacement { builder, live_bytes } = self.replacement.lock().take().unwrap_or_default();
        let tree = builder.finish();
        let mut checkpoints = self.checkpoints.lock();
        *checkpoints = Checkpoints::replacing(base);
        self.uncovered_ops.store(tree.len() as u64, Ordering::Relaxed);
        self.live_bytes.store(live_bytes, Ordering::Relaxed);
        self.keydir.apply(usize::MAX, |present| *present = tree);
    }

    fn verify(&self, log: &Arc<Log>, on_read: &mut dyn FnMut(u64), damage: &mut Vec<Damage>) -> Result<u64> {
        // No index file is replaced or removed meanwhile. A state may be: consensus does not wait for this.
        let _turn = self.files_turn.lock();
        verify_index_files(log.disk().as_ref(), log.dir(), log.store(), on_read, damage)
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            keys: self.keydir.len() as u64,
            index_bytes: self.keydir.memory_bytes() as u64,
            live_bytes: self.live_bytes.load(Ordering::Relaxed),
            checkpoints: self.files_written.load(Ordering::Relaxed),
            checkpoint_bytes: self.file_bytes_written.load(Ordering::Relaxed),
        }
    }
}

/// Reads and checks every hint and checkpoint in `dir`; says how many there are.
pub(crate) fn verify_index_files(
    disk: &dyn Disk,
    dir: &Path,
    store: &StoreId,
    on_read: &mut dyn FnMut(u64),
    damage: &mut Vec<Damage>,
) -> Result<u64> {
    let names = disk.list(dir).map_err(|e| Error::io(format_args!("listing {}", dir.display()), e))?;
    let mut files = 0;
    for found in names.iter().filter(|found| IndexName::parse(&found.name).is_some()) {
        files += 1;
        match IndexFile::open(disk, &dir.join(&found.name), store).and_then(|file| file.verify()) {
            Err(Error::Damage(found)) => damage.push(found),
            other => other?,
        }
        on_read(found.len);
    }
    Ok(files)
}
