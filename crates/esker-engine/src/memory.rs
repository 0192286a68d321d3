//! An engine that keeps all values in memory: the model that the others are held against in tests, and a store for
//! data sets that are small and must be read without a disk. The log still makes it durable; opening replays it all.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use esker_log::{
    Damage, Error, Log, Opening, Position, Result,
    clock::Clock,
    record::{PlacedRecords, Record, RecordKind, Records, flags, record_len},
    segments::Segments,
};
use parking_lot::{Mutex, RwLock};

use crate::{
    Applied, Committed, Engine, EngineStats, Entry, Item, Judgement, KeyRange, Loaded, Loading, Lookup,
    Merged, Merging, Meta, Outcome, Saved, Scan, Settled, StoredItem, StoredScan, Version, View,
    bitcask::wall_ms,
    judge::{
        State, Sum, VERIFIED, Verdict, deleted_range, floor_of, is_expired, is_judged, judge, parse_integer,
        stamp_of,
    },
    stored::Stored,
};

/// What is known of a key.
#[derive(Debug, Clone)]
struct Held {
    version: Version,
    expiry: Option<u64>,
    value: Arc<[u8]>,
}

type Map = BTreeMap<Vec<u8>, Held>;

/// See the module.
pub struct MemoryEngine {
    /// Behind an `Arc`, so that a scan can go on over the map as it was: a writer that finds it shared copies it.
    map: RwLock<Arc<Map>>,
    live_bytes: AtomicU64,
    /// A state that is being gathered to take the place of the present one.
    replacement: Mutex<Map>,
    clock: Arc<dyn Clock>,
    /// The latest time that an applied batch said.
    stamp_ms: AtomicU64,
    /// What came of all judged batches since the opening, which applies all there are.
    verdicts: Mutex<BTreeMap<Version, Verdict>>,
}

impl MemoryEngine {
    /// An empty engine; `clock` says what has expired.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            map: RwLock::default(),
            live_bytes: AtomicU64::new(0),
            replacement: Mutex::default(),
            clock,
            stamp_ms: AtomicU64::new(0),
            verdicts: Mutex::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        wall_ms(self.clock.as_ref()).max(floor_of(self.stamp_ms.load(Ordering::Acquire)))
    }

    /// Applies a batch whose adds come to `sums`.
    fn apply_to(&self, map: &mut Map, batch: &Applied<'_>, sums: &[Sum]) -> Committed {
        let mut committed = Committed::applied(batch.version, 0);
        let (mut now, mut sums) = (batch.floor_ms, sums.iter());
        for (_, record) in Records::new(batch.payload).map(|record| record.expect(VERIFIED)) {
            let gone = match record.kind {
                RecordKind::Put => self.put(map, record.key, held(&record, batch.version)),
                RecordKind::Add => {
                    let sum = sums.next().expect("a sum was made for every add");
                    committed.outcome = Outcome::Sum(sum.value);
                    let value = sum.value.to_string().into_bytes().into();
                    self.put(map, record.key, Held { version: batch.version, expiry: sum.expiry, value })
                }
                RecordKind::Delete => map.remove_entry(record.key).into_iter().collect(),
                RecordKind::DeleteRange => {
                    let range = deleted_range(&record);
                    let gone: Vec<_> = map.extract_if(.., |key, _| range.contains(key)).collect();
                    committed.existed +=
                        gone.iter().filter(|(_, held)| !is_expired(held.expiry, now)).count() as u32;
                    self.count_out(&gone);
                    continue;
                }
                RecordKind::Stamp => {
                    now = now.max(stamp_of(&record));
                    self.note_stamp(now);
                    continue;
                }
                RecordKind::Request | RecordKind::Condition => continue,
            };
            committed.existed += gone.iter().filter(|(_, held)| !is_expired(held.expiry, now)).count() as u32;
            self.count_out(&gone);
        }
        committed
    }

    fn put(&self, map: &mut Map, key: &[u8], held: Held) -> Vec<(Vec<u8>, Held)> {
        self.live_bytes.fetch_add(record_len(key.len(), held.value.len()) as u64, Ordering::Relaxed);
        map.insert(key.to_vec(), held).map(|old| (key.to_vec(), old)).into_iter().collect()
    }

    fn count_out(&self, gone: &[(Vec<u8>, Held)]) {
        let bytes = gone.iter().map(|(key, held)| record_len(key.len(), held.value.len()) as u64).sum();
        self.live_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What a put stores, decompressed.
fn held(record: &Record<'_>, version: Version) -> Held {
    let stored = Stored::new(record.flags, record.value).expect("whoever made the batch saw to it");
    let value = stored.value().expect("whoever made the batch saw to it");
    Held { version, expiry: stored.expiry, value: value.as_ref().into() }
}

impl State for Map {
    fn version(&self, key: &[u8]) -> Option<(Version, Option<u64>)> {
        self.get(key).map(|held| (held.version, held.expiry))
    }

    fn integer(&self, key: &[u8]) -> Result<Option<i64>> {
        Ok(self.get(key).map_or(Some(0), |held| parse_integer(&held.value)))
    }
}

impl Engine for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn load(&self, _opening: &mut Opening, loading: Loading<'_>) -> Result<Loaded> {
        Ok(match loading {
            Loading::Whole => Loaded::default(),
            Loading::Prefix { base, .. } => Loaded { from: base, ..Loaded::default() },
        })
    }

    fn apply(
        &self,
        _segments: &dyn Segments,
        batches: &[Applied<'_>],
        outcomes: &mut Vec<Committed>,
    ) -> Result<()> {
        let mut shared = self.map.write();
        let map = Arc::make_mut(&mut shared);
        for batch in batches {
            let verdict = judge(batch.payload, batch.floor_ms, map)?;
            if is_judged(batch.payload) {
                self.verdicts.lock().insert(batch.version, verdict.clone());
            }
            outcomes.push(match verdict {
                Verdict::Applies(sums) => self.apply_to(map, batch, &sums),
                Verdict::Void(refusal) => {
                    Committed { outcome: Outcome::Refused(refusal), ..Committed::applied(batch.version, 0) }
                }
            });
        }
        Ok(())
    }

    fn judgement(&self, version: Version) -> Judgement {
        self.verdicts.lock().get(&version).cloned().map_or(Judgement::Plain, Judgement::from)
    }

    fn note_stamp(&self, stamp_ms: u64) {
        self.stamp_ms.fetch_max(stamp_ms, Ordering::AcqRel);
    }

    fn prefetch(&self, _keys: &[&[u8]]) {}

    fn lookup(&self, log: &Arc<Log>, key: &[u8]) -> Result<Lookup> {
        Ok(self.get(log, key)?.map_or(Lookup::Absent, Lookup::Found))
    }

    fn get(&self, _log: &Arc<Log>, key: &[u8]) -> Result<Option<Entry>> {
        Ok(entry(&self.map.read(), key, self.now_ms()))
    }

    fn meta(&self, key: &[u8]) -> Option<Meta> {
        let map = self.map.read();
        let held = map.get(key).filter(|held| !is_expired(held.expiry, self.now_ms()))?;
        Some(Meta { version: held.version, value_len: Some(held.value.len() as u64), expiry: held.expiry })
    }

    fn scan(&self, log: &Arc<Log>, range: &KeyRange, keys_only: bool) -> Scan {
        self.view(log).scan(range, keys_only)
    }

    fn view(&self, _log: &Arc<Log>) -> View {
        let map = Arc::clone(&self.map.read());
        let (of_keys, stored, now_ms) = (Arc::clone(&map), Arc::clone(&map), self.now_ms());
        View::new(
            map.len() as u64,
            move |key| Ok(entry(&of_keys, key, now_ms).map_or(Lookup::Absent, Lookup::Found)),
            move |range, keys_only| {
                let cursor = Cursor { map: Arc::clone(&map), range: range.clone() };
                let present = cursor.filter(move |(_, held)| !is_expired(held.expiry, now_ms));
                Scan::new(present.map(move |(key, held)| Ok(item(key, &held, keys_only))))
            },
            move |range, keys_only| {
                let cursor = Cursor { map: Arc::clone(&stored), range: range.clone() };
                StoredScan::new(cursor.map(move |(key, held)| Ok(stored_item(key, &held, keys_only))))
            },
        )
    }

    fn checkpoint(
        &self,
        _: &Arc<Log>,
        _all: bool,
        _before: Position,
        _: Option<&Settled<'_>>,
    ) -> Result<Position> {
        Ok(Position::default())
    }

    fn saved(&self, _: &Arc<Log>) -> Result<Saved> {
        Err(Error::InvalidRequest("this engine saves nothing that could be backed up".into()))
    }

    fn is_checkpoint_due(&self) -> bool {
        false
    }

    fn merge(&self, _: &Arc<Log>, _: &mut Merging<'_>) -> Result<Option<Merged>> {
        Ok(None)
    }

    fn is_merge_due(&self, _: &Log, _before: Position) -> bool {
        false
    }

    fn is_memory_full(&self) -> bool {
        false
    }

    fn begin_replacement(&self) {
        *self.replacement.lock() = Map::new();
    }

    fn extend_replacement(&self, payload: &[u8], _position: Position) -> Result<()> {
        let mut map = self.replacement.lock();
        for (_, version, record) in PlacedRecords::new(payload).map(|record| record.expect(VERIFIED)) {
            if map.last_key_value().is_some_and(|(last, _)| last.as_slice() >= record.key) {
                return Err(Error::InvalidRequest("the snapshot's keys do not ascend".into()));
            }
            map.insert(record.key.to_vec(), held(&record, version));
        }
        Ok(())
    }

    fn finish_replacement(&self, _base: Position) {
        let map = std::mem::take(&mut *self.replacement.lock());
        let live = map.iter().map(|(key, held)| record_len(key.len(), held.value.len()) as u64).sum();
        self.live_bytes.store(live, Ordering::Relaxed);
        *self.map.write() = Arc::new(map);
    }

    fn verify(
        &self,
        _log: &Arc<Log>,
        _on_read: &mut dyn FnMut(u64) -> Result<()>,
        _damage: &mut Vec<Damage>,
    ) -> Result<u64> {
        Ok(0)
    }

    fn stats(&self) -> EngineStats {
        let map = self.map.read();
        EngineStats {
            keys: map.len() as u64,
            live_bytes: self.live_bytes.load(Ordering::Relaxed),
            ..EngineStats::default()
        }
    }
}

/// What a key holds, unless it has expired by `now_ms`.
fn entry(map: &Map, key: &[u8], now_ms: u64) -> Option<Entry> {
    let held = map.get(key).filter(|held| !is_expired(held.expiry, now_ms))?;
    Some(Entry { value: held.value.to_vec().into(), version: held.version, expiry: held.expiry })
}

fn item(key: Vec<u8>, held: &Held, keys_only: bool) -> Item {
    let value = (!keys_only).then(|| held.value.to_vec().into());
    Item { key, value, version: held.version, expiry: held.expiry }
}

fn stored_item(key: Vec<u8>, held: &Held, keys_only: bool) -> StoredItem {
    let (version, expiry) = (held.version, held.expiry);
    let (flags, stored) = match expiry {
        _ if keys_only => (0, Vec::new()),
        None => (0, held.value.to_vec()),
        Some(at) => (flags::EXPIRES, [&at.to_le_bytes()[..], &held.value].concat()),
    };
    StoredItem { key, version, expiry, flags, stored: stored.into() }
}

/// Finds its place anew at each step: plain, and quick enough for a model.
struct Cursor {
    map: Arc<Map>,
    range: KeyRange,
}

impl Cursor {
    fn step(&mut self, from_back: bool) -> Option<(Vec<u8>, Held)> {
        if self.range.is_empty() {
            return None;
        }
        let mut rest = self.map.range((self.range.start.clone(), self.range.end.clone()));
        let (key, held) = if from_back { rest.next_back() } else { rest.next() }?;
        let edge = Bound::Excluded(key.clone());
        if from_back {
            self.range.end = edge;
        } else {
            self.range.start = edge;
        }
        Some((key.clone(), held.clone()))
    }
}

impl Iterator for Cursor {
    type Item = (Vec<u8>, Held);

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

impl DoubleEndedIterator for Cursor {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}
