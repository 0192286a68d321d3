//! Every engine does what the trait says: otherwise the figures compare different things.

use clap::ValueEnum as _;

use super::*;
use crate::data::key;

fn settings(synced: bool) -> Settings {
    Settings {
        synced,
        compression: Compression::Lz4,
        cache_bytes: 8 << 20,
        memtable_bytes: 8 << 20,
        value_bytes: 100,
        beyond_memory: false,
    }
}

fn value_of(reader: &mut dyn Reader, i: u64) -> Option<Vec<u8>> {
    let mut value = None;
    let found = reader.get(&key(i), &mut |bytes| value = Some(bytes.to_vec())).unwrap();
    assert_eq!(found, value.is_some());
    value
}

#[test]
fn every_store_keeps_what_it_was_given() {
    for &engine in Engine::value_variants() {
        for synced in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let mut store = engine.open(dir.path(), &settings(synced)).unwrap();
            let batch: Vec<_> = (1..100_u64).map(|i| (key(i), i.to_le_bytes().to_vec())).collect();
            store.write(&batch).unwrap();
            let mut reader = store.reader().unwrap();
            store.put(&key(0), b"first").unwrap();
            reader.refresh().unwrap();
            assert_eq!(value_of(reader.as_mut(), 0).unwrap(), b"first", "{engine:?}");
            assert_eq!(value_of(reader.as_mut(), 100), None, "{engine:?}");
            drop(reader);
            store.compact().unwrap();
            store.settle().unwrap();
            store.close().unwrap();

            let store = engine.open(dir.path(), &settings(synced)).unwrap();
            let mut reader = store.reader().unwrap();
            assert_eq!(value_of(reader.as_mut(), 99).unwrap(), 99_u64.to_le_bytes(), "{engine:?}");
            let mut keys: Vec<_> = (0..100).map(key).collect();
            keys.sort_unstable();
            let mut scanned = Vec::new();
            let found = reader.scan(&keys[10], 20, &mut |key, _| scanned.push(key.to_vec())).unwrap();
            assert_eq!(found, 20, "{engine:?}");
            assert_eq!(scanned, keys[10..30], "{engine:?}");
            assert_eq!(reader.scan(&keys[95], 20, &mut |_, _| ()).unwrap(), 5, "{engine:?}");
        }
    }
}
