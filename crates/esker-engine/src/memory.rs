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
    record::{PlacedRecords, RecordKind, Records, record_len},
};
use parking_lot::{Mutex, RwLock};

use crate::{
    Applied, Committed, Engine, EngineStats, Entry, Item, KeyRange, Loaded, Loading, Lookup, Meta, Scan,
    Settled, Version, View,
};

type Map = BTreeMap<Vec<u8>, (Arc<[u8]>, Version)>;

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    /// Behind an `Arc`, so that a scan can go on over the map as it was: a writer that finds it shared copies it.
    map: RwLock<Arc<Map>>,
    live_bytes: AtomicU64,
    /// A state that is being gathered to take the place of the present one.
    replacement: Mutex<Map>,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
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

    fn apply(&self, batches: &[Applied<'_>], outcomes: &mut Vec<Committed>) {
        let mut shared = self.map.write();
        let map = Arc::make_mut(&mut shared);
        for batch in batches {
            let mut existed = 0;
            for (_, record) in
                Records::new(batch.payload).map(|record| record.expect("the log verified the frame"))
            {
                let old = match record.kind {
                    RecordKind::Put => {
                        let len = record_len(record.key.len(), record.value.len()) as u64;
                        self.live_bytes.fetch_add(len, Ordering::Relaxed);
                        map.insert(record.key.to_vec(), (record.value.into(), batch.version))
                    }
                    RecordKind::Delete => map.remove(record.key),
                    RecordKind::Request => None,
                };
                if let Some((value, _)) = old {
                    existed += 1;
                    self.live_bytes
                        .fetch_sub(record_len(record.key.len(), value.len()) as u64, Ordering::Relaxed);
                }
            }
            outcomes.push(Committed { version: batch.version, existed });
        }
    }

    fn lookup(&self, log: &Arc<Log>, key: &[u8]) -> Result<Lookup> {
        Ok(self.get(log, key)?.map_or(Lookup::Absent, Lookup::Found))
    }

    fn get(&self, _log: &Arc<Log>, key: &[u8]) -> Result<Option<Entry>> {
        let map = self.map.read();
        Ok(map.get(key).map(|(value, version)| Entry { value: value.to_vec().into(), version: *version }))
    }

    fn meta(&self, key: &[u8]) -> Option<Meta> {
        let map = self.map.read();
        map.get(key).map(|(value, version)| Meta { version: *version, value_len: value.len() as u64 })
    }

    fn scan(&self, _log: &Arc<Log>, range: &KeyRange, keys_only: bool) -> Scan {
        let map = Arc::clone(&self.map.read());
        Scan::new(Cursor { map, range: range.clone(), keys_only })
    }

    fn view(&self, _log: &Arc<Log>) -> View {
        let map = Arc::clone(&self.map.read());
        View::new(map.len() as u64, move |range, keys_only| {
            Scan::new(Cursor { map: Arc::clone(&map), range: range.clone(), keys_only })
        })
    }

    fn checkpoint(&self, _: &Arc<Log>, _all: bool, _: Option<&Settled<'_>>) -> Result<Position> {
        Ok(Position::default())
    }

    fn is_checkpoint_due(&self) -> bool {
        false
    }

    fn begin_replacement(&self) {
        *self.replacement.lock() = Map::new();
    }

    fn extend_replacement(&self, payload: &[u8], _position: Position) -> Result<()> {
        let mut map = self.replacement.lock();
        for (_, version, record) in
            PlacedRecords::new(payload).map(|record| record.expect("the log verified the frame"))
        {
            if map.last_key_value().is_some_and(|(last, _)| last.as_slice() >= record.key) {
                return Err(Error::InvalidRequest("the snapshot's keys do not ascend".into()));
            }
            map.insert(record.key.to_vec(), (record.value.into(), version));
        }
        Ok(())
    }

    fn finish_replacement(&self, _base: Position) {
        let map = std::mem::take(&mut *self.replacement.lock());
        let live = map.iter().map(|(key, (value, _))| record_len(key.len(), value.len()) as u64).sum();
        self.live_bytes.store(live, Ordering::Relaxed);
        *self.map.write() = Arc::new(map);
    }

    fn verify(
        &self,
        _log: &Arc<Log>,
        _on_read: &mut dyn FnMut(u64),
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

/// Finds its place anew at each step: plain, and quick enough for a model.
struct Cursor {
    map: Arc<Map>,
    range: KeyRange,
    keys_only: bool,
}

impl Cursor {
    fn step(&mut self, from_back: bool) -> Option<Result<Item>> {
        if self.range.is_empty() {
            return None;
        }
        let mut rest = self.map.range((self.range.start.clone(), self.range.end.clone()));
        let (key, (value, version)) = if from_back { rest.next_back() } else { rest.next() }?;
        let edge = Bound::Excluded(key.clone());
        if from_back {
            self.range.end = edge;
        } else {
            self.range.start = edge;
        }
        let value = (!self.keys_only).then(|| value.to_vec().into());
        Some(Ok(Item { key: key.clone(), value, version: *version }))
    }
}

impl Iterator for Cursor {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false)
    }
}

impl DoubleEndedIterator for Cursor {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true)
    }
}
