//! Random histories on every engine against a `BTreeMap`, with reopenings, crashes and cold reads; and real threads on
//! the real disk.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use common::{
    DIR, Machine,
    engines::{ENGINES, EngineKind},
    model::{History, Op, batch, compare},
    small_options,
};
use esker_engine::{Condition, Db, KeyRange, Lookup, Options, SyncPolicy};
use esker_log::disk::sim::{CrashMode, SimDisk};
use proptest::prelude::*;

/// One step of a random history.
#[derive(Debug, Clone)]
enum Action {
    Write(Vec<Op>, bool),
    Sync,
    Checkpoint,
    /// Of what is worth it, or of everything.
    Merge(bool),
    Maintain(u16),
    Reopen,
    /// The process is killed.
    Kill,
    PowerLoss(u64),
    Cold(bool),
    Scan(Vec<u8>, Vec<u8>, bool),
}

/// Few keys, alike, so that they meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(prop::sample::select(vec![0, b'a', b'b', 0xff]), 1..4),
        1 => (0..4_u8).prop_map(|last| [b"a common prefix of some length".as_slice(), &[last]].concat()),
        1 => (1..300_usize).prop_map(|len| vec![b'k'; len]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let value = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..1500_usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop_oneof![
        9 => (key(), value.clone()).prop_map(|(key, value)| Op::Put(key, value)),
        1 => (key(), value).prop_map(|(key, value)| Op::PutExpiring(key, value)),
        3 => key().prop_map(Op::Delete),
        2 => (key(), -99..99_i64).prop_map(|(key, by)| Op::Add(key, by)),
    ]
}

/// A batch that may be void, or delete whole ranges.
fn judged() -> impl Strategy<Value = Vec<Op>> {
    let condition = prop_oneof![
        Just(Condition::Absent),
        Just(Condition::Present),
        (1..200_u64).prop_map(Condition::Version),
    ];
    let require = (key(), condition).prop_map(|(key, condition)| Op::Require(key, condition));
    let range = (key(), key()).prop_map(|(a, b)| if a <= b { (a, b) } else { (b, a) });
    let range = range.prop_map(|(start, end)| Op::DeleteRange(start, end));
    // What a batch deletes it may have written itself.
    let before = prop::collection::vec(op(), 0..4);
    let behind = prop::collection::vec(op(), 1..4);
    (prop::option::of(require), before, prop::collection::vec(range, 0..3), behind).prop_map(
        |(require, before, ranges, behind)| {
            require.into_iter().chain(before).chain(ranges).chain(behind).collect()
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => (prop::collection::vec(op(), 1..2), prop::bool::weighted(0.1)).prop_map(|(ops, sync)| Action::Write(ops, sync)),
        6 => (prop::collection::vec(op(), 2..12), prop::bool::weighted(0.1)).prop_map(|(ops, sync)| Action::Write(ops, sync)),
        1 => (prop::collection::vec(op(), 80..100), Just(false)).prop_map(|(ops, sync)| Action::Write(ops, sync)),
        4 => (judged(), prop::bool::weighted(0.1)).prop_map(|(ops, sync)| Action::Write(ops, sync)),
        1 => any::<bool>().prop_map(Action::Merge),
        1 => Just(Action::Sync),
        2 => Just(Action::Checkpoint),
        3 => (0..2000_u16).prop_map(Action::Maintain),
        1 => Just(Action::Reopen),
        1 => Just(Action::Kill),
        2 => any::<u64>().prop_map(Action::PowerLoss),
        1 => any::<bool>().prop_map(Action::Cold),
        4 => (key(), key(), any::<bool>()).prop_map(|(start, end, backwards)| Action::Scan(start, end, backwards)),
    ]
}

/// A store and its model.
struct Pair {
    engine: EngineKind,
    options: Options,
    machine: Machine,
    db: Option<Db>,
    history: History,
    /// How many batches must survive a power loss.
    durable: usize,
}

impl Pair {
    fn new(engine: EngineKind, sync: SyncPolicy) -> Self {
        let machine = Machine::new(SimDisk::new());
        let (options, history) = (small_options(sync), History::default());
        let mut pair = Self { engine, options, machine, db: None, history, durable: 0 };
        pair.open();
        pair
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("the store is open")
    }

    fn open(&mut self) {
        let environment = self.machine.environment();
        let db = self.engine.open(&environment, Path::new(DIR), self.options.clone());
        self.db = Some(db.unwrap_or_else(|error| panic!("opening: {error}")));
    }

    fn crash(&mut self, mode: CrashMode) {
        let disk = self.machine.disk.crash(mode);
        self.db = None;
        self.machine.disk = disk;
        self.open();
        let found = self.db().stats().version as usize;
        let at_least = if mode == CrashMode::ProcessKill { self.history.len() } else { self.durable };
        assert!(
            (at_least..=self.history.len()).contains(&found),
            "{found} batches, at least {at_least} are due"
        );
        self.history.truncate(found);
        // What recovery found it has synced.
        self.durable = found;
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Write(ops, sync) => {
                let expected = self.history.push(ops);
                let committed = self.db().write(batch(ops), sync.then_some(SyncPolicy::Always)).unwrap();
                assert_eq!(committed, expected);
                if *sync || self.options.sync == SyncPolicy::Always {
                    self.durable = self.history.len();
                }
            }
            Action::Sync => {
                self.db().sync().unwrap();
                self.durable = self.history.len();
            }
            Action::Checkpoint => self.db().checkpoint().unwrap(),
            Action::Merge(all) => drop(self.db().merge(*all).unwrap()),
            Action::Maintain(millis) => {
                self.machine.clock.advance(Duration::from_millis(u64::from(*millis)));
                self.db().maintain();
            }
            Action::Reopen => {
                self.db().close().unwrap();
                self.db = None;
                self.open();
            }
            Action::Kill => self.crash(CrashMode::ProcessKill),
            Action::PowerLoss(seed) => self.crash(CrashMode::power_loss(*seed)),
            Action::Cold(cold) => self.machine.disk.set_cold(*cold),
            Action::Scan(start, end, backwards) => self.scan(start, end, *backwards),
        }
    }

    fn scan(&self, start: &[u8], end: &[u8], backwards: bool) {
        let range = KeyRange::inclusive(start, end);
        let scan = self.db().scan(&range, false).map(|item| {
            let item = item.unwrap();
            (item.key, (item.value.unwrap().to_vec(), item.version))
        });
        let mut found: Vec<_> = if backwards { scan.rev().collect() } else { scan.collect() };
        if backwards {
            found.reverse();
        }
        let expected = self.history.last().iter().filter(|(key, _)| range.contains(key));
        assert!(found.iter().map(|(key, entry)| (key, entry)).eq(expected), "{range:?}");
    }

    fn compare(&self, asked: &[Vec<u8>]) {
        compare(self.db(), self.history.last(), asked)
            .unwrap_or_else(|why| panic!("{:?}: {why}", self.engine));
    }
}

fn keys_of(actions: &[Action]) -> Vec<Vec<u8>> {
    let ops = actions.iter().filter_map(|action| match action {
        Action::Write(ops, _) => Some(ops),
        _ => None,
    });
    ops.flatten().map(|op| op.key().clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150 * common::seed_factor() as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// CHECKS 1, 2, 12, 16, and that all engines do the same.
    #[test]
    fn every_engine_behaves_like_a_map(
        actions in prop::collection::vec(action(), 1..120),
        always in any::<bool>(),
    ) {
        let asked = keys_of(&actions);
        for engine in ENGINES {
            let mut pair = Pair::new(engine, if always { SyncPolicy::Always } else { SyncPolicy::Never });
            for action in &actions {
                pair.act(action);
                if matches!(action, Action::Reopen | Action::Kill | Action::PowerLoss(_)) {
                    pair.compare(&asked);
                }
            }
            pair.compare(&asked);
            pair.act(&Action::Reopen);
            pair.compare(&asked);
            let report = pair.db().verify(&mut |_, _| Ok(())).unwrap();
            prop_assert!(report.damage.is_empty(), "{:?}", report.damage);
        }
    }
}

/// A read that must not wait says so, and fetching it gives the value of the moment at which it was asked for.
#[test]
fn cold_reads_give_the_value() {
    let mut pair = Pair::new(EngineKind::Bitcask, SyncPolicy::Always);
    // What is cached is not read.
    pair.options.cache_max_bytes = 0;
    pair.db = None;
    pair.open();
    let write = |value: &[u8]| Action::Write(vec![Op::Put(b"key".to_vec(), value.to_vec())], false);
    pair.act(&write(b"old"));
    pair.machine.disk.set_cold(true);
    let Lookup::Cold(read) = pair.db().try_get(b"key").unwrap() else { panic!("the disk is cold") };
    assert!(matches!(pair.db().try_get(b"absent").unwrap(), Lookup::Absent));
    pair.act(&write(b"new"));
    assert_eq!(*read.fetch().unwrap().value, *b"old");
    pair.machine.disk.set_cold(false);
    for bytes in [1, 12, 17, 18] {
        pair.machine.disk.set_try_read_max(Some(bytes));
        match pair.db().try_get(b"key").unwrap() {
            Lookup::Cold(read) => assert!(bytes < 18 && *read.fetch().unwrap().value == *b"new"),
            Lookup::Found(entry) => assert!(bytes >= 18 && *entry.value == *b"new"),
            Lookup::Absent => panic!("the key is there"),
        }
    }
}

const WRITERS: u64 = 6;
const WRITES: u64 = 400;

/// Writers, readers and scans on the real disk: versions rise, a writer reads what it wrote, and a scan sees all of a
/// batch or nothing of it.
#[test]
fn threads_on_the_real_disk_see_whole_batches_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.sync = SyncPolicy::Every(Duration::from_millis(2));
    options.segment_max_bytes = 64 << 10;
    options.checkpoint_ops = 300;
    options.checkpoint_interval = Duration::from_millis(20);
    let db = Db::open(dir.path(), options.clone()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let db = &db;
                scope.spawn(move || write_pairs(db, writer))
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| watch_pairs(&db, &done));
        }
        let joined: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Release);
        joined.into_iter().for_each(|writer| writer.unwrap());
    });
    assert_eq!(db.stats().version, WRITERS * WRITES);
    let before: Vec<_> = db.scan(&KeyRange::all(), false).map(Result::unwrap).collect();
    db.close().unwrap();
    drop(db);
    let db = Db::open(dir.path(), options).unwrap();
    assert!(db.open_report().notices.is_empty(), "{:?}", db.open_report());
    let after: Vec<_> = db.scan(&KeyRange::all(), false).map(Result::unwrap).collect();
    assert!(before == after && after.len() as u64 == 2 * WRITERS);
    assert!(db.verify(&mut |_, _| Ok(())).unwrap().damage.is_empty());
}

fn pair_keys(writer: u64) -> [Vec<u8>; 2] {
    [format!("left/{writer}").into_bytes(), format!("right/{writer}").into_bytes()]
}

/// Writes the same number under both keys of the writer's pair, again and again.
fn write_pairs(db: &Db, writer: u64) {
    let [left, right] = pair_keys(writer);
    let mut last = 0;
    for n in 0..WRITES {
        let value = [n.to_be_bytes().as_slice(), &vec![writer as u8; (n % 300) as usize]].concat();
        let ops = [Op::Put(left.clone(), value.clone()), Op::Put(right.clone(), value.clone())];
        let sync = (n % 8 == 0).then_some(SyncPolicy::Always);
        let committed = db.write(batch(&ops), sync).unwrap();
        assert!(committed.version > last, "versions rise");
        assert_eq!(committed.existed, if n == 0 { 0 } else { 2 });
        last = committed.version;
        let entry = db.get(&left).unwrap().expect("just written");
        assert!(entry.version == last && *entry.value == value, "a writer reads what it wrote");
    }
}

fn watch_pairs(db: &Db, done: &AtomicBool) {
    let mut newest = 0;
    while !done.load(Ordering::Acquire) {
        let items: Vec<_> = db.scan(&KeyRange::all(), false).map(Result::unwrap).collect();
        let (left, right) = items.split_at(items.len() / 2);
        assert_eq!(left.len(), right.len(), "half of a batch");
        for (left, right) in left.iter().zip(right) {
            assert_eq!((left.version, &left.value), (right.version, &right.value), "half of a batch");
        }
        let seen = items.iter().map(|item| item.version).max().unwrap_or_default();
        assert!(seen >= newest, "a later scan sees an earlier instant");
        newest = seen;
    }
}
