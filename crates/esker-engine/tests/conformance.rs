//! What every engine promises, tested through the store, engine by engine.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::{path::Path, time::Duration};

use common::{
    DIR, Machine,
    engines::{ENGINES, EngineKind},
    small_options,
};
use esker_engine::{Compression, Db, Error, Item, KeyRange, Lookup, Scan, SyncPolicy, WriteBatch};
use esker_log::disk::sim::SimDisk;

/// A store of one engine that can be opened again.
struct Store {
    engine: EngineKind,
    compression: Compression,
    machine: Machine,
    db: Option<Db>,
}

impl Store {
    fn new(engine: EngineKind, compression: Compression) -> Self {
        let mut store = Self { engine, compression, machine: Machine::new(SimDisk::new()), db: None };
        store.reopen();
        store
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("the store is open")
    }

    fn reopen(&mut self) {
        if let Some(db) = self.db.take() {
            db.close().unwrap();
        }
        let mut options = small_options(SyncPolicy::Always);
        options.compression = self.compression;
        self.db = Some(self.engine.open(&self.machine.environment(), Path::new(DIR), options).unwrap());
    }

    fn put_all(&self, keys: &[&[u8]]) {
        for key in keys {
            self.db().put(key, &[b"value of ", *key].concat()).unwrap();
        }
    }

    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let entry = self.db().get(key).unwrap();
        let tried = match self.db().try_get(key).unwrap() {
            Lookup::Absent => None,
            Lookup::Found(entry) => Some(entry),
            Lookup::Cold(read) => Some(read.fetch().unwrap()),
        };
        assert_eq!(entry, tried, "{:?}: the two ways to read differ", self.engine);
        let meta = self.db().meta(key);
        assert_eq!(
            meta.map(|meta| meta.version),
            entry.as_ref().map(|entry| entry.version),
            "{:?}",
            self.engine
        );
        // How long a compressed value is, only reading it tells.
        let len = meta.and_then(|meta| meta.value_len).or_else(|| {
            assert!(meta.is_none() || self.compression != Compression::None, "{:?}", self.engine);
            entry.as_ref().map(|entry| entry.value.len() as u64)
        });
        assert_eq!(len, entry.as_ref().map(|entry| entry.value.len() as u64), "{:?}", self.engine);
        entry.map(|entry| entry.value.into_vec())
    }
}

/// Runs a test on every engine, with values as they are and compressed.
fn each(test: impl Fn(&mut Store)) {
    for engine in ENGINES {
        for compression in [Compression::None, Compression::Lz4] {
            test(&mut Store::new(engine, compression));
        }
    }
}

/// Runs a check on every engine, before and after the store was opened again.
fn each_and_reopened(prepare: impl Fn(&Store), check: impl Fn(&Store)) {
    each(|store| {
        prepare(store);
        check(store);
        store.reopen();
        check(store);
    });
}

fn keys(scan: Scan) -> Vec<Vec<u8>> {
    scan.map(|item| item.unwrap().key).collect()
}

fn batch(fill: impl FnOnce(&mut WriteBatch) -> esker_engine::Result<()>) -> WriteBatch {
    let mut batch = WriteBatch::new();
    fill(&mut batch).unwrap();
    batch
}

#[test]
fn to_look_ahead_changes_nothing() {
    each(|store| {
        let names: Vec<Vec<u8>> = (0..300).map(|n| format!("key {n}").into_bytes()).collect();
        let keys: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        store.put_all(&keys[..200]);
        store.db().add(keys[200], 5).unwrap();
        store.db().delete(keys[7]).unwrap();
        let values = |store: &Store| keys.iter().map(|key| store.value(key)).collect::<Vec<_>>();
        let before = values(store);
        for keys in [&keys[..], &keys[..1], &keys[195..205], &[b"", &[7; 100_000]], &[]] {
            store.db().reader().prefetch(keys);
        }
        assert_eq!(values(store), before);
    });
}

#[test]
fn an_empty_store_is_empty() {
    each_and_reopened(
        |_| {},
        |store| {
            assert_eq!(store.value(b"key"), None);
            assert_eq!(keys(store.db().scan(&KeyRange::all(), false)).len(), 0);
            let stats = store.db().stats();
            assert_eq!((stats.keys, stats.version, stats.live_bytes), (0, 0, 0));
        },
    );
}

#[test]
fn values_of_all_sizes_are_kept() {
    let sizes = [0, 1, 12, 511, 4095, 4096, 70_000, 3 << 20];
    let value = |size: usize| (0..size).map(|at| (at * 7 + size) as u8).collect::<Vec<_>>();
    each_and_reopened(
        |store| {
            for size in sizes {
                store.db().put(format!("{size}").as_bytes(), &value(size)).unwrap();
            }
        },
        |store| {
            for size in sizes {
                assert!(store.value(format!("{size}").as_bytes()).unwrap() == value(size), "{size} bytes");
            }
        },
    );
}

/// CHECKS 36: keys are bytes.
#[test]
fn keys_of_every_length_and_byte_are_kept() {
    let long = vec![0xff; 65_535];
    let long_too = [&long[..65_534], b"\0"].concat();
    let odd: [&[u8]; 10] = [
        b"\0",
        b"\0\0",
        b"\xff",
        b"\xff\xff",
        b"..",
        b"a/../b",
        b"%2f",
        "\u{1f5dd}".as_bytes(),
        &long,
        &long_too,
    ];
    each_and_reopened(
        |store| store.put_all(&odd),
        |store| {
            for key in odd {
                assert_eq!(store.value(key).unwrap(), [b"value of ", key].concat());
            }
            let mut sorted = odd.to_vec();
            sorted.sort_unstable();
            assert_eq!(keys(store.db().scan(&KeyRange::all(), true)), sorted);
        },
    );
    each(|store| {
        for key in [vec![], vec![1; 65_536]] {
            assert!(matches!(store.db().put(&key, b""), Err(Error::InvalidRequest(_))));
            assert!(matches!(store.db().delete(&key), Err(Error::InvalidRequest(_))));
            assert_eq!(store.value(&key), None);
        }
        assert_eq!(store.db().stats().version, 0, "a refused write takes no version");
    });
}

#[test]
fn a_single_byte_key_of_every_value_is_in_bytewise_order() {
    each_and_reopened(
        |store| {
            for n in 0..=255_u8 {
                store.put_all(&[&[n.wrapping_mul(167)]]);
            }
        },
        |store| {
            let expected: Vec<_> = (0..=255).map(|byte| vec![byte]).collect();
            assert_eq!(keys(store.db().scan(&KeyRange::all(), false)), expected);
            let backwards: Vec<_> =
                store.db().scan(&KeyRange::all(), false).rev().map(|item| item.unwrap().key).collect();
            assert!(backwards.iter().rev().eq(&expected));
        },
    );
}

#[test]
fn versions_rise_and_outcomes_say_what_existed() {
    each(|store| {
        let db = store.db();
        assert_eq!(db.put(b"a", b"1").unwrap(), 1);
        assert_eq!(db.put(b"a", b"2").unwrap(), 2);
        let deleted = db.delete(b"a").unwrap();
        assert_eq!((deleted.version, deleted.existed), (3, 1));
        let again = db.delete(b"a").unwrap();
        assert_eq!((again.version, again.existed), (4, 0));
        assert_eq!(store.value(b"a"), None);
        assert!(matches!(db.write(WriteBatch::new(), None), Err(Error::InvalidRequest(_))));
        assert_eq!(db.stats().version, 4);
        store.reopen();
        assert_eq!(store.db().stats().version, 4);
        assert_eq!(store.db().put(b"b", b"").unwrap(), 5);
    });
}

#[test]
fn the_last_operation_of_a_batch_on_a_key_wins() {
    each_and_reopened(
        |store| {
            store.put_all(&[b"old", b"gone"]);
            let writes = batch(|batch| {
                batch.put(b"twice", b"1")?;
                batch.put(b"twice", b"2")?;
                batch.put(b"put and deleted", b"1")?;
                batch.delete(b"put and deleted")?;
                batch.delete(b"old")?;
                batch.put(b"old", b"new")?;
                batch.delete(b"gone")?;
                batch.delete(b"gone")?;
                batch.delete(b"never there")
            });
            let committed = store.db().write(writes, None).unwrap();
            assert_eq!((committed.version, committed.existed), (3, 4), "{:?}", store.engine);
        },
        |store| {
            assert_eq!(store.value(b"twice").unwrap(), b"2");
            assert_eq!(store.value(b"old").unwrap(), b"new");
            let items: Vec<_> = store.db().scan(&KeyRange::all(), false).map(Result::unwrap).collect();
            assert_eq!(
                items.iter().map(|item| item.key.as_slice()).collect::<Vec<_>>(),
                [b"old".as_slice(), b"twice"]
            );
            assert!(items.iter().all(|item| item.version == 3));
            assert_eq!(store.db().stats().keys, 2);
        },
    );
}

/// More operations than are applied in place, and more than a segment holds.
#[test]
fn a_large_batch_is_one_write() {
    each_and_reopened(
        |store| {
            store.put_all(&[b"00000"]);
            let writes = batch(|batch| {
                (0..3000).try_for_each(|n| batch.put(format!("{n:05}").as_bytes(), &[n as u8; 20]))
            });
            assert_eq!(store.db().write(writes, None).unwrap().existed, 1);
        },
        |store| {
            let mut count = 0;
            for (n, item) in store.db().scan(&KeyRange::all(), false).enumerate() {
                let item = item.unwrap();
                assert_eq!((item.key, item.version), (format!("{n:05}").into_bytes(), 2));
                assert_eq!(*item.value.unwrap(), [n as u8; 20]);
                count += 1;
            }
            assert_eq!(count, 3000);
        },
    );
}

#[test]
fn ranges_hold_what_their_bounds_say() {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let all: [&[u8]; 7] = [b"a", b"a\0", b"a\xff", b"a\xff\xff", b"b", b"ba", b"c"];
    let bounds = |bound: usize| {
        let probes: [&[u8]; 5] = [b"", b"a", b"a\xff", b"b\0", b"d"];
        let probe = probes[bound % 5].to_vec();
        [Included(probe.clone()), Excluded(probe), Unbounded][bound / 5].clone()
    };
    each_and_reopened(
        |store| store.put_all(&all),
        |store| {
            let check = |range: &KeyRange| {
                let expected: Vec<_> = all.into_iter().filter(|key| range.contains(key)).collect();
                assert_eq!(keys(store.db().scan(range, true)), expected, "{range:?}");
                let mut backwards: Vec<_> =
                    store.db().scan(range, false).rev().map(|item| item.unwrap().key).collect();
                backwards.reverse();
                assert_eq!(backwards, expected, "{range:?}");
            };
            for start in 0..11 {
                for end in 0..11 {
                    check(&KeyRange { start: bounds(start), end: bounds(end) });
                }
            }
            for prefix in [b"".as_slice(), b"a", b"a\xff", b"\xff", b"b", b"zz"] {
                check(&KeyRange::prefix(prefix));
            }
            check(&KeyRange::inclusive(*b"a\xff", *b"b"));
        },
    );
}

/// One range ends within the other, and nothing was written between the two: what only the longer covers stays away.
#[test]
fn ranges_that_one_batch_deletes_may_overlap() {
    each_and_reopened(
        |store| {
            store.put_all(&[b"b", b"d", b"f"]);
            let mut batch = store.db().batch();
            batch.put(b"e", b"of the batch itself").unwrap();
            batch.delete_range(&KeyRange::inclusive(*b"a", *b"c")).unwrap();
            batch.delete_range(&KeyRange::inclusive(*b"a", *b"e")).unwrap();
            assert_eq!(store.db().write(batch, None).unwrap().existed, 3);
        },
        |store| assert_eq!(keys(store.db().scan(&KeyRange::all(), true)), [b"f"]),
    );
}

#[test]
fn a_scan_is_read_from_both_ends_to_where_they_meet() {
    each(|store| {
        let expected: Vec<_> = (0..300).map(|n| format!("{n:03}").into_bytes()).collect();
        for key in &expected {
            store.db().put(key, b"v").unwrap();
        }
        for stride in 1..6 {
            let mut scan = store.db().scan(&KeyRange::all(), stride % 2 == 0);
            let (mut front, mut back) = (Vec::new(), Vec::new());
            for turn in 0.. {
                let next = if turn % (stride + 1) < stride { scan.next() } else { scan.next_back() };
                let Some(item) = next else { break };
                if turn % (stride + 1) < stride { &mut front } else { &mut back }.push(item.unwrap().key);
            }
            assert!(scan.next().is_none() && scan.next_back().is_none(), "a scan that ended goes on");
            front.extend(back.into_iter().rev());
            assert_eq!(front, expected);
        }
    });
}

#[test]
fn a_scan_sees_the_instant_at_which_it_began() {
    each(|store| {
        let names: Vec<_> = (0..200).map(|n| format!("{n:03}").into_bytes()).collect();
        for key in &names {
            store.db().put(key, b"before").unwrap();
        }
        let mut scan = store.db().scan(&KeyRange::all(), false);
        let mut seen: Vec<Item> = scan.by_ref().take(10).map(Result::unwrap).collect();
        for (n, key) in names.iter().enumerate() {
            match n % 3 {
                0 => drop(store.db().delete(key).unwrap()),
                1 => drop(store.db().put(key, b"after").unwrap()),
                _ => drop(store.db().put(&[key.as_slice(), b"+"].concat(), b"new").unwrap()),
            }
        }
        let late = scan.next_back().unwrap().unwrap();
        seen.extend(scan.map(Result::unwrap));
        seen.push(late);
        assert!(seen.iter().map(|item| &item.key).eq(&names));
        assert!(seen.iter().all(|item| &**item.value.as_ref().unwrap() == b"before"));
    });
}

/// SPEC 1.11: whatever is written meanwhile, expired or deleted by the range, a view's reads see one instant.
#[test]
fn reads_of_a_view_see_one_instant() {
    each(|store| {
        store.put_all(&[b"a", b"b", b"c"]);
        store.db().add(b"n", 5).unwrap();
        let expires = expires_at(store, 10);
        store.db().write(batch(|batch| batch.put_expiring(b"t", b"soon gone", expires)), None).unwrap();
        let view = store.db().reader().view();
        store.db().put(b"a", b"newer").unwrap();
        store.db().add(b"n", 1).unwrap();
        store.db().delete_range(&KeyRange::inclusive(*b"b", *b"c")).unwrap();
        store.put_all(&[b"z"]);
        store.machine.clock.advance(Duration::from_millis(10));
        store.db().checkpoint().unwrap();
        let get = |key: &[u8]| match view.get(key).unwrap() {
            Lookup::Absent => None,
            Lookup::Found(entry) => Some((entry.value.into_vec(), entry.version)),
            Lookup::Cold(read) => {
                read.fetch().map(|entry| Some((entry.value.into_vec(), entry.version))).unwrap()
            }
        };
        store.machine.disk.set_cold(true);
        for (at, key) in [b"a", b"b", b"c"].into_iter().enumerate() {
            assert_eq!(
                get(key),
                Some(([&b"value of "[..], key].concat(), at as u64 + 1)),
                "{:?}",
                store.engine
            );
        }
        assert_eq!(get(b"n"), Some((b"5".to_vec(), 4)));
        assert_eq!(get(b"t"), Some((b"soon gone".to_vec(), 5)));
        assert_eq!((get(b"z"), get(b"absent")), (None, None));
        let now = store.db().reader().view();
        assert!(matches!(now.get(b"t").unwrap(), Lookup::Absent), "it has expired by now");
        assert!(matches!(now.get(b"b").unwrap(), Lookup::Absent));
    });
}

/// What the store's clock will say in so many milliseconds.
fn expires_at(store: &Store, millis: u64) -> u64 {
    use esker_log::clock::Clock;
    store.machine.clock.wall().as_millis() as u64 + millis
}

#[test]
fn keys_only_scans_read_nothing_from_the_disk() {
    each(|store| {
        store.put_all(&[b"a", b"b"]);
        let reads = store.machine.disk.counters().reads;
        for item in store.db().scan(&KeyRange::all(), true) {
            let item = item.unwrap();
            assert!(item.value.is_none() && item.version > 0);
        }
        assert_eq!(store.machine.disk.counters().reads, reads);
    });
}

#[test]
fn stats_count_what_is_there() {
    each_and_reopened(
        |store| {
            store.put_all(&[b"a", b"b", b"c"]);
            store.db().delete(b"b").unwrap();
            store.put_all(&[b"a"]);
        },
        |store| {
            let stats = store.db().stats();
            let record = 12 + 1 + "value of x".len() as u64;
            assert_eq!((stats.keys, stats.version, stats.live_bytes), (2, 5, 2 * record));
            assert!(stats.log_bytes > stats.live_bytes && stats.segments >= 1);
            assert!(stats.poisoned.is_none() && !stats.disk_full && stats.checkpoint_error.is_none());
        },
    );
}

/// Any number of openings and checkpoints changes nothing.
#[test]
fn opening_and_checkpoints_change_nothing() {
    each(|store| {
        for n in 0..200_u32 {
            store.db().put(&(n * 37 % 50).to_be_bytes(), &n.to_le_bytes()).unwrap();
            if n % 7 == 0 {
                store.db().checkpoint().unwrap();
            }
            if n % 40 == 0 {
                store.reopen();
                assert!(store.db().open_report().notices.is_empty(), "{:?}", store.db().open_report());
            }
        }
        for n in 150..200_u32 {
            assert_eq!(store.value(&(n * 37 % 50).to_be_bytes()).unwrap(), n.to_le_bytes());
        }
        assert!(store.db().verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
    });
}

#[test]
fn a_closed_store_takes_no_writes() {
    each(|store| {
        store.put_all(&[b"a"]);
        store.db().close().unwrap();
        assert!(matches!(store.db().put(b"b", b""), Err(Error::Closed)));
        store.db().close().unwrap();
    });
}

/// In 2050, in milliseconds since 1970.
const FAR: u64 = 2_524_608_000_000;

const COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Lz4, Compression::Zstd(3), Compression::Gzip(6)];

#[test]
fn values_are_compressed_where_it_pays_and_read_under_any_setting() {
    let value = |at: usize| format!("value {at} ").repeat(40);
    for engine in ENGINES {
        let mut store = Store::new(engine, Compression::None);
        for (at, compression) in COMPRESSIONS.into_iter().enumerate() {
            store.compression = compression;
            store.reopen();
            store.db().put(format!("put {at}").as_bytes(), value(at).as_bytes()).unwrap();
            let mut batch = store.db().batch();
            batch.put_expiring(format!("expiring {at}").as_bytes(), value(at).as_bytes(), FAR).unwrap();
            batch.put(format!("short {at}").as_bytes(), b"short").unwrap();
            store.db().write(batch, None).unwrap();
            let stats = store.db().stats().compression;
            assert_eq!(stats.bytes_given, 2 * value(at).len() as u64 + 5);
            match compression {
                Compression::None => assert_eq!(stats.ratio(), 1.0),
                _ => assert!(stats.ratio() < 0.5, "{compression:?}: {stats:?}"),
            }
        }
        for at in 0..COMPRESSIONS.len() {
            for key in ["put", "expiring"] {
                let found = store.value(format!("{key} {at}").as_bytes()).unwrap();
                assert_eq!(found, value(at).as_bytes(), "{engine:?} {key} {at}");
            }
            assert_eq!(store.value(format!("short {at}").as_bytes()).unwrap(), b"short");
        }
    }
}

#[test]
fn nothing_is_added_to_a_compressed_value() {
    for engine in ENGINES {
        let store = Store::new(engine, Compression::Lz4);
        store.db().put(b"k", &[b'1'; 100]).unwrap();
        assert!(store.db().add(b"k", 1).is_err(), "{engine:?}");
        let mut batch = store.db().batch();
        batch.put(b"l", &[b'1'; 100]).unwrap();
        batch.add(b"l", 1).unwrap();
        assert!(store.db().write(batch, None).unwrap().refusal().is_some(), "{engine:?}");
        assert_eq!(store.value(b"l"), None, "{engine:?}");
        store.db().put(b"k", b"41").unwrap();
        assert_eq!(store.db().add(b"k", 1).unwrap(), 42, "{engine:?}");
    }
}
