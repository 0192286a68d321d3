//! The bitcask engine: all keys in memory, in order; values in the log (Sheehy and Smith, "Bitcask", 2010, with an
//! ordered index in place of its hash table).
//!
//! ```text
//! keydir/        key -> segment, offset, length, version; ordered, copy-on-write
//! cache/          values kept in memory
//! held.rs         the snapshots that are held
//! budget.rs       how much memory that and the keydir may take
//! apply.rs        committed batches change it
//! liveness.rs     what of each segment lives
//! ranges.rs       deleted ranges
//! index_file/     hint and checkpoint files: sorted tables of the same
//! index_merge.rs  several of them read together
//! collect.rs      from a stretch of the log to an index file
//! checkpoint.rs   when and how index files are written
//! load.rs         from index files to the keydir
//! merge/          what is dead goes, what lives moves together
//! repair/         from a damaged store to a new one
//! scan.rs         ranges
//! verdicts.rs     what came of judged batches lately, for those who watch
//! ```
//!
//! A read is one lookup and at most one positioned read of exactly one record, verified by its checksum, which is bound
//! to the place and version the keydir names. The engine writes no value a second time.
//!
//! Left out on purpose: values held in memory, but for the sums of adds.

mod apply;
mod budget;
pub(crate) mod cache;
mod checkpoint;
mod collect;
#[cfg(fuzzing)]
pub mod fuzzing;
pub(crate) mod held;
mod index_file;
mod index_merge;
pub mod keydir;
mod liveness;
mod load;
mod merge;
mod prefix;
mod ranges;
pub(crate) mod repair;
mod scan;
mod verdicts;

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use esker_log::{
    Damage, Error, Log, Opening, Position, RecordLocation, Result, SegmentId,
    clock::Clock,
    disk::Disk,
    format::{FRAME_HEADER_LEN, SEGMENT_HEADER_LEN, StoreId},
    record::{PlacedRecords, Record, decode_record},
    segment::Segment,
    segments::Segments,
    signal::Signal,
};
use parking_lot::Mutex;

use self::{
    budget::Budget,
    cache::Cache,
    checkpoint::Checkpoints,
    collect::{Judged, slot_of},
    held::HeldSnapshots,
    index_file::{IndexFile, IndexName},
    keydir::{Builder, Keydir, LANES, Slot, Tree},
    liveness::Liveness,
    merge::beside::Beside,
    scan::{BitcaskScan, BitcaskStoredScan, Snapshot},
    verdicts::Verdicts,
};
use crate::{
    Applied, ColdRead, Committed, Engine, EngineStats, Entry, Judgement, KeyRange, Loaded, Loading, Lookup,
    Merged, Merging, Meta, Options, Saved, Scan, Settled, StoredScan, Value, Version, View,
    judge::{VERIFIED, floor_of},
    merging::MergeCounters,
    stored::Stored,
};

/// A checkpoint is due when so many sealed segments are not covered: until they are, nothing in them can be merged. They come to about
/// what lives.
const SEALED_UNCOVERED_MAX: u32 = 8;

/// Error messages show this much of a key.
const SHOWN_KEY_BYTES_MAX: usize = 64;

/// See the module.
pub struct Bitcask {
    /// Replaced as a whole by `load`, before anything else is called.
    keydir: Keydir,
    /// What lives in each segment, but for what was cut out and not counted yet. Taken before the keydir's lock.
    live: Mutex<Liveness>,
    /// What range deletes cut out of the keydir, to be counted and dropped where nobody waits.
    cut: Mutex<Vec<Tree<Slot>>>,
    /// Held while that is counted. Taken before `live`.
    counting: Mutex<()>,
    /// The latest time that an applied batch said, in milliseconds since 1970: by it merges tell what has expired.
    stamp_ms: AtomicU64,
    /// What came of the judged batches that no index file covers.
    judged: Mutex<Judged>,
    /// The same of the last ones, whether or not index files cover them.
    verdicts: Mutex<Verdicts>,
    /// The segment of the last applied batch.
    segment: AtomicU64,
    /// The first byte behind the last applied batch.
    applied_to: Mutex<Position>,
    /// Its version.
    applied_version: AtomicU64,
    /// A judged batch up to this version cannot be judged again: a merge has left out what was dead by then.
    judged_floor: AtomicU64,
    /// Operations applied since the last checkpoint.
    uncovered_ops: AtomicU64,
    checkpoint_ops: u64,
    open_threads: usize,
    /// Held while index files are read, written or removed: for long. Taken before `checkpoints`.
    files_turn: Mutex<()>,
    /// Why index files could not be joined the last time, if they could not.
    join_error: Mutex<Option<String>>,
    checkpoints: Mutex<Checkpoints>,
    /// Held during a merge: one at a time. Taken before `files_turn`. Holds a merge that has happened and is not finished, for a
    /// read failed: it comes before the next.
    merge_turn: Mutex<Option<merge::Installed>>,
    /// Held while everything is merged. Taken before `merge_turn`.
    compact_turn: Mutex<()>,
    /// What is merged then, and is not to be merged with anything else.
    compacting: Mutex<HashSet<SegmentId>>,
    /// What merged segments hold beside records that live.
    beside: Mutex<Beside>,
    policy: merge::Policy,
    /// So many bytes the next merge may copy: less than the policy says while the disk is full.
    copy_bytes_max: AtomicU64,
    merges: MergeCounters,
    /// A state that is being gathered to take the place of the present one.
    replacement: Mutex<Option<Replacement>>,
    /// Raised when a checkpoint or hint is due.
    maintenance: Arc<Signal>,
    budget: Budget,
    snapshots: Arc<HeldSnapshots>,
    /// Says what has expired.
    clock: Arc<dyn Clock>,
    files_written: AtomicU64,
    file_bytes_written: AtomicU64,
}

impl Bitcask {
    /// An engine that is loaded next. `maintenance` is raised when [`Engine::checkpoint`] has something to do; `clock`
    /// says what has expired.
    pub fn new(options: &Options, clock: Arc<dyn Clock>, maintenance: Arc<Signal>) -> Self {
        Self {
            keydir: Keydir::default(),
            live: Mutex::default(),
            cut: Mutex::default(),
            counting: Mutex::default(),
            stamp_ms: AtomicU64::new(0),
            judged: Mutex::default(),
            verdicts: Mutex::default(),
            segment: AtomicU64::new(0),
            applied_to: Mutex::default(),
            applied_version: AtomicU64::new(0),
            judged_floor: AtomicU64::new(0),
            uncovered_ops: AtomicU64::new(0),
            checkpoint_ops: options.checkpoint_ops,
            open_threads: options.open_threads,
            files_turn: Mutex::default(),
            join_error: Mutex::default(),
            checkpoints: Mutex::default(),
            merge_turn: Mutex::default(),
            compact_turn: Mutex::default(),
            compacting: Mutex::default(),
            beside: Mutex::default(),
            policy: merge::Policy::new(options),
            copy_bytes_max: AtomicU64::new(merge::Policy::new(options).copy_bytes_max),
            merges: MergeCounters::default(),
            replacement: Mutex::default(),
            maintenance,
            budget: Budget::new(options, Arc::clone(&clock)),
            snapshots: Arc::default(),
            clock,
            files_written: AtomicU64::new(0),
            file_bytes_written: AtomicU64::new(0),
        }
    }

    /// The slot of a key that is present.
    fn present(&self, key: &[u8]) -> Option<Slot> {
        // The clock is asked only where it matters.
        self.keydir.get(key).filter(|slot| slot.expiry().is_none() || !slot.is_expired(self.now_ms()))
    }

    /// By what is read is judged whether it has expired: this machine's clock, but not before a merge may have dropped it.
    fn now_ms(&self) -> u64 {
        wall_ms(self.clock.as_ref()).max(floor_of(self.stamp_ms.load(Ordering::Acquire)))
    }

    /// What a key holds, as far as it is in memory.
    ///
    /// Errors: `Damage`.
    fn find(&self, log: &Log, key: &[u8]) -> Result<Found> {
        let mut found = self.present(key);
        while let Some(slot) = found {
            if let Some(sum) = slot.as_sum() {
                return Ok(Found::Entry(sum_entry(sum, slot)));
            }
            if let Some(entry) = self.budget.cache().and_then(|cache| cache.get(slot)) {
                return Ok(Found::Entry(entry));
            }
            match log.segment(slot.segment()) {
                Ok(segment) => return Ok(Found::Record(slot, segment)),
                Err(missing) => {
                    // Retired, if a merge or a snapshot has just moved it: then there is another slot by now.
                    found = self.present(key);
                    if found.is_some_and(|now| now.segment() == slot.segment()) {
                        return Err(name_key(missing, key));
                    }
                }
            }
        }
        Ok(Found::Absent)
    }
}

/// What the keydir says of a key.
enum Found {
    Absent,
    /// The sum of adds, of which there is no record, or what the cache has.
    Entry(Entry),
    /// A record, and its segment, which stays open as long as it is held.
    Record(Slot, Arc<Segment>),
}

/// The time of day in milliseconds since 1970.
pub(crate) fn wall_ms(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.wall().as_millis()).unwrap_or(u64::MAX)
}

fn sum_entry(sum: i64, slot: Slot) -> Entry {
    Entry { value: sum.to_string().into_bytes().into(), version: slot.version(), expiry: slot.expiry() }
}

/// A keydir in the making, from values that come in key order.
#[derive(Default)]
struct Replacement {
    builder: Builder<Slot>,
    live: Liveness,
}

impl Replacement {
    fn extend(&mut self, payload: &[u8], position: Position) -> Result<()> {
        for (at, version, record) in PlacedRecords::new(payload).map(|record| record.expect(VERIFIED)) {
            let offset = position.offset + (FRAME_HEADER_LEN + at) as u32;
            let slot = slot_of(&record, position.segment, offset, version);
            self.builder
                .push(record.key, slot)
                .map_err(|_| Error::InvalidRequest("the snapshot's keys do not ascend".into()))?;
            self.live.add(record.key.len(), slot);
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

/// The verified record in `bytes`, which must be one of `key`.
fn record_of<'a>(segment: &Segment, key: &[u8], at: &RecordLocation, bytes: &'a [u8]) -> Result<Record<'a>> {
    let damage = |what: &str| Error::damage(&segment.path, u64::from(at.offset), what);
    let (record, _) = decode_record(bytes).map_err(damage)?;
    if record.key == key { Ok(record) } else { Err(damage("the record is of another key")) }
}

/// What a verified record of `key` stores, and its value if that had to be decompressed.
fn unpack<'a>(
    segment: &Segment,
    key: &[u8],
    at: &RecordLocation,
    bytes: &'a [u8],
) -> Result<(Stored<'a>, Option<Vec<u8>>)> {
    let record = record_of(segment, key, at, bytes)?;
    let damage = |e: Error| Error::damage(&segment.path, u64::from(at.offset), e.to_string());
    let stored = Stored::new(record.flags, record.value).map_err(damage)?;
    if !stored.is_compressed() {
        return Ok((stored, None));
    }
    let value = stored.value().map_err(damage)?.into_owned();
    Ok((stored, Some(value)))
}

/// The value in a verified record of `key` that is the caller's to keep.
fn entry(segment: &Segment, key: &[u8], at: &RecordLocation, bytes: Vec<u8>) -> Result<Entry> {
    let (stored, value) = unpack(segment, key, at, &bytes)?;
    let (expiry, skipped) = (stored.expiry, bytes.len() - stored.body().len());
    let value = value.map_or_else(|| Value::behind(bytes, skipped), Value::from);
    Ok(Entry { value, version: at.index, expiry })
}

/// The value in a verified record of `key` that was read together with others.
fn entry_in(segment: &Segment, key: &[u8], at: &RecordLocation, bytes: &Bytes) -> Result<Entry> {
    let (stored, value) = unpack(segment, key, at, bytes)?;
    let value = value.map_or_else(|| Value::from(bytes.slice_ref(stored.body())), Value::from);
    Ok(Entry { value, version: at.index, expiry: stored.expiry })
}

fn read(segment: &Segment, key: &[u8], slot: Slot) -> Result<Entry> {
    let at = location(key, slot);
    let record = segment.read_record(&at).and_then(|record| entry(segment, key, &at, record));
    record.map_err(|e| name_key(e, key))
}

fn offer(cache: Option<&Arc<Cache>>, slot: Slot, entry: &Entry) {
    if let Some(cache) = cache {
        cache.offer(slot, entry);
    }
}

/// What is at once to be had of what was found for a key.
///
/// Errors: `Damage`, `Io`.
fn look_up(cache: Option<&Arc<Cache>>, found: Found, key: &[u8]) -> Result<Lookup> {
    let (slot, segment) = match found {
        Found::Absent => return Ok(Lookup::Absent),
        Found::Entry(entry) => return Ok(Lookup::Found(entry)),
        Found::Record(slot, segment) => (slot, segment),
    };
    let at = location(key, slot);
    let found = segment.try_read_record(&at).and_then(|record| match record {
        Some(record) => entry(&segment, key, &at, record).map(Some),
        None => Ok(None),
    });
    if let Some(entry) = found.map_err(|e| name_key(e, key))? {
        offer(cache, slot, &entry);
        return Ok(Lookup::Found(entry));
    }
    let (key, cache) = (key.to_vec(), cache.cloned());
    Ok(Lookup::Cold(ColdRead::new(move || {
        read(&segment, &key, slot).inspect(|entry| offer(cache.as_ref(), slot, entry))
    })))
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
        *self.live.lock() = index.live;
        self.segment.store(u64::from(index.loaded.from.segment), Ordering::Relaxed);
        *self.applied_to.lock() = index.loaded.from;
        self.applied_version.store(index.loaded.last.index, Ordering::Release);
        self.judged_floor.store(opening.manifest().judged, Ordering::Release);
        *self.verdicts.lock() = Verdicts::behind(index.loaded.last.index);
        *self.beside.lock() = index.beside;
        *self.checkpoints.lock() = Checkpoints::new(base, index.loaded, index.rows);
        // More than the bound of in-place operations: the loaded tree is swapped in.
        self.keydir.apply(usize::MAX, |tree| *tree = index.tree);
        self.budget.note_index(self.keydir.memory_bytes() as u64);
        Ok(index.loaded)
    }

    fn apply(
        &self,
        segments: &dyn Segments,
        batches: &[Applied<'_>],
        outcomes: &mut Vec<Committed>,
    ) -> Result<()> {
        self.apply_all(segments, batches, outcomes)
    }

    fn judgement(&self, version: Version) -> Judgement {
        self.verdicts.lock().get(version)
    }

    fn note_stamp(&self, stamp_ms: u64) {
        self.stamp_ms.fetch_max(stamp_ms, Ordering::AcqRel);
    }

    fn prefetch(&self, keys: &[&[u8]]) {
        for keys in keys.chunks(LANES) {
            let slots = self.keydir.get_each(keys);
            if let Some(cache) = self.budget.cache() {
                cache.prefetch(slots.into_iter().flatten().filter(|slot| slot.as_sum().is_none()));
            }
        }
    }

    fn lookup(&self, log: &Arc<Log>, key: &[u8]) -> Result<Lookup> {
        look_up(self.budget.cache(), self.find(log, key)?, key)
    }

    fn get(&self, log: &Arc<Log>, key: &[u8]) -> Result<Option<Entry>> {
        match self.find(log, key)? {
            Found::Absent => Ok(None),
            Found::Entry(entry) => Ok(Some(entry)),
            Found::Record(slot, segment) => {
                let entry = read(&segment, key, slot)?;
                offer(self.budget.cache(), slot, &entry);
                Ok(Some(entry))
            }
        }
    }

    fn meta(&self, key: &[u8]) -> Option<Meta> {
        let slot = self.present(key)?;
        let value_len = match slot.as_sum() {
            Some(sum) => Some(sum.to_string().len() as u64),
            None if slot.is_compressed() => None,
            None => {
                let expiry_len = if slot.expiry().is_some() { 8 } else { 0 };
                Some(u64::from(slot.value_len()).saturating_sub(expiry_len))
            }
        };
        Some(Meta { version: slot.version(), value_len, expiry: slot.expiry() })
    }

    fn scan(&self, log: &Arc<Log>, range: &KeyRange, keys_only: bool) -> Scan {
        self.view(log).scan(range, keys_only)
    }

    fn view(&self, log: &Arc<Log>) -> View {
        // Before the tree: what the tree says must still be there.
        let pin = log.pin();
        let state = Arc::new(Snapshot {
            log: Arc::clone(log),
            tree: self.keydir.snapshot(),
            cache: self.budget.cache().cloned(),
            _held: self.snapshots.hold(self.clock.monotonic(), self.keydir.copied_bytes()),
            now_ms: self.now_ms(),
        });
        let (keys, stored) = (state.tree.len() as u64, (Arc::clone(&state), pin.clone()));
        let (of_keys, of_keys_pin) = (Arc::clone(&state), pin.clone());
        View::new(
            keys,
            move |key| {
                let _pinned = &of_keys_pin;
                look_up(of_keys.cache.as_ref(), of_keys.find(key)?, key)
            },
            move |range, keys_only| {
                Scan::new(BitcaskScan::new(Arc::clone(&state), pin.clone(), range, keys_only))
            },
            move |range, keys_only| {
                let (state, pin) = stored.clone();
                StoredScan::new(BitcaskStoredScan::new(state, pin, range, keys_only))
            },
        )
    }

    fn checkpoint(
        &self,
        log: &Arc<Log>,
        all: bool,
        before: Position,
        settled: Option<&Settled<'_>>,
    ) -> Result<Position> {
        self.count_cut();
        self.write_checkpoints(log, all, before, settled)
    }

    fn saved(&self, log: &Arc<Log>) -> Result<Saved> {
        self.saved_state(log)
    }

    fn is_checkpoint_due(&self) -> bool {
        let has_sealed = || {
            let covered = self.checkpoints.try_lock().map(|checkpoints| checkpoints.covered().segment);
            covered.is_some_and(|covered| covered + SEALED_UNCOVERED_MAX < self.applied_to.lock().segment)
        };
        self.uncovered_ops.load(Ordering::Relaxed) >= self.checkpoint_ops || has_sealed()
    }

    fn merge(&self, log: &Arc<Log>, merging: &mut Merging<'_>) -> Result<Option<Merged>> {
        let _running = self.merges.begin();
        self.merge_some(log, merging)
    }

    fn is_merge_due(&self, log: &Log, before: Position) -> bool {
        self.merge_is_due(log, before)
    }

    fn is_memory_full(&self) -> bool {
        self.budget.is_full()
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
        let Replacement { builder, live } = self.replacement.lock().take().unwrap_or_default();
        let tree = builder.finish();
        let mut checkpoints = self.checkpoints.lock();
        *checkpoints = Checkpoints::replacing(base);
        self.uncovered_ops.store(tree.len() as u64, Ordering::Relaxed);
        let _counting = self.counting.lock();
        self.judged.lock().clear();
        // What was cut out of the old state counts no more.
        self.cut.lock().clear();
        *self.live.lock() = live;
        self.keydir.apply(usize::MAX, |present| *present = tree);
        self.budget.note_index(self.keydir.memory_bytes() as u64);
    }

    fn verify(
        &self,
        log: &Arc<Log>,
        on_read: &mut dyn FnMut(u64) -> Result<()>,
        damage: &mut Vec<Damage>,
    ) -> Result<u64> {
        // No index file is replaced or removed meanwhile. A state may be: consensus does not wait for this.
        let _turn = self.files_turn.lock();
        verify_index_files(log.disk().as_ref(), log.dir(), log.store(), on_read, damage)
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            keys: self.keydir.len() as u64,
            index_bytes: self.keydir.memory_bytes() as u64,
            live_bytes: self.live.lock().total(),
            checkpoints: self.files_written.load(Ordering::Relaxed),
            checkpoint_bytes: self.file_bytes_written.load(Ordering::Relaxed),
            join_error: self.join_error.lock().clone(),
            merges: self.merges.get(),
            cache: self.budget.cache().map(|cache| cache.stats()).unwrap_or_default(),
            memory_full: self.budget.is_full(),
            snapshots: self.snapshots.stats(self.clock.monotonic(), self.keydir.copied_bytes(), 0),
        }
    }
}

/// Whether this is the name of a hint or a checkpoint.
pub(crate) fn is_index_file(name: &str) -> bool {
    IndexName::parse(name).is_some()
}

/// Reads and checks every hint and checkpoint in `dir`; says how many there are.
pub(crate) fn verify_index_files(
    disk: &dyn Disk,
    dir: &Path,
    store: &StoreId,
    on_read: &mut dyn FnMut(u64) -> Result<()>,
    damage: &mut Vec<Damage>,
) -> Result<u64> {
    let names = disk.list(dir).map_err(|e| Error::io(format_args!("listing {}", dir.display()), e))?;
    let mut files = 0;
    for (found, name) in names.iter().filter_map(|found| Some((found, IndexName::parse(&found.name)?))) {
        files += 1;
        match IndexFile::open(disk, &dir.join(&found.name), store).and_then(|file| file.verify_as(&name)) {
            Err(Error::Damage(_)) if IndexFile::is_of_older_format(disk, &dir.join(&found.name))? => {}
            Err(Error::Damage(found)) => damage.push(found),
            other => other?,
        }
        on_read(found.len)?;
    }
    Ok(files)
}
