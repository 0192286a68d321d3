//! SPEC 1.9: watchers of random histories are told exactly what was committed, whatever happens meanwhile, or that they have to
//! begin anew.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::common;

use std::{path::Path, time::Duration};

use common::{
    DIR, Machine, Rng,
    changes::{Looked, Teller, Told, Watcher},
    engines::{ENGINES, EngineKind},
    model::{Op, batch},
    small_options,
};
use esker_engine::{
    Condition, Db, Error, KeyRange, SyncPolicy, Version, WriteBatch,
    watch::{ChangeCursor, ChangeFilter, ChangeKind, Changes, ChangesRead},
};
use esker_log::disk::sim::{CrashMode, SimDisk};
use proptest::prelude::*;

/// One step of a random history.
#[derive(Debug, Clone)]
enum Action {
    Write(Vec<Op>),
    /// A watcher reads so many pages.
    Look(usize, u8),
    /// It connects again.
    Resume(usize),
    Checkpoint,
    Merge(bool),
    Maintain(u16),
    Reopen,
    Kill,
    PowerLoss(u64),
    Cold(bool),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(prop::sample::select(vec![0, b'a', b'b', 0xff]), 1..4),
        1 => (1..300_usize).prop_map(|len| vec![b'a'; len]),
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
        1 => (key(), key()).prop_map(|(a, b)| if a <= b { Op::DeleteRange(a, b) } else { Op::DeleteRange(b, a) }),
    ]
}

fn batch_of_ops() -> impl Strategy<Value = Vec<Op>> {
    let condition = prop_oneof![
        Just(Condition::Absent),
        Just(Condition::Present),
        (1..100_u64).prop_map(Condition::Version),
    ];
    let require = (key(), condition).prop_map(|(key, condition)| Op::Require(key, condition));
    (prop::option::weighted(0.2, require), prop::collection::vec(op(), 1..8))
        .prop_map(|(require, ops)| require.into_iter().chain(ops).collect())
}

const WATCHERS: usize = 3;

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => batch_of_ops().prop_map(Action::Write),
        20 => (0..WATCHERS, 1..4_u8).prop_map(|(who, pages)| Action::Look(who, pages)),
        2 => (0..WATCHERS).prop_map(Action::Resume),
        2 => Just(Action::Checkpoint),
        1 => any::<bool>().prop_map(Action::Merge),
        2 => (0..2000_u16).prop_map(Action::Maintain),
        1 => Just(Action::Reopen),
        1 => Just(Action::Kill),
        1 => any::<u64>().prop_map(Action::PowerLoss),
        1 => any::<bool>().prop_map(Action::Cold),
    ]
}

/// A store, what its batches made, and who watches.
struct Watched {
    engine: EngineKind,
    sync: SyncPolicy,
    machine: Machine,
    db: Option<Db>,
    changes: Option<Changes>,
    tellers: Vec<Teller>,
    batches: Vec<Vec<Told>>,
    watchers: Vec<Watcher>,
    rng: Rng,
    /// Whether anything has happened that takes history away.
    has_lost: bool,
}

impl Watched {
    fn new(engine: EngineKind, sync: SyncPolicy) -> Self {
        let watchers = [&b""[..], b"a", b"\xff"].map(|prefix| Watcher::new(prefix, 1)).into();
        let mut watched = Self {
            engine,
            sync,
            machine: Machine::new(SimDisk::new()),
            db: None,
            changes: None,
            tellers: vec![Teller::default()],
            batches: Vec::new(),
            watchers,
            rng: Rng::new(7),
            has_lost: false,
        };
        watched.open();
        watched
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("the store is open")
    }

    fn open(&mut self) {
        let db =
            self.engine.open(&self.machine.environment(), Path::new(DIR), small_options(self.sync)).unwrap();
        self.changes = Some(db.changes());
        self.db = Some(db);
        self.watchers.iter_mut().for_each(Watcher::resume);
    }

    fn reopen_as(&mut self, crash: Option<CrashMode>) {
        match crash {
            Some(mode) => {
                let disk = self.machine.disk.crash(mode);
                (self.db, self.changes) = (None, None);
                self.machine.disk = disk;
            }
            None => {
                self.db().close().unwrap();
                (self.db, self.changes) = (None, None);
            }
        }
        self.has_lost = true;
        self.open();
        let found = self.db().version() as usize;
        self.batches.truncate(found);
        self.tellers.truncate(found + 1);
        // Whoever was told what is lost has to begin anew; the face of the store says so.
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.next() > found as u64 + 1) {
            watcher.begin(found as u64 + 1);
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Write(ops) => self.write(ops),
            Action::Look(who, pages) => (0..*pages).for_each(|_| {
                self.look(*who);
            }),
            Action::Resume(who) => self.watchers[*who].resume(),
            Action::Checkpoint => self.db().checkpoint().unwrap(),
            Action::Merge(all) => {
                self.has_lost |= self.db().merge(*all).unwrap().inputs > 0;
            }
            Action::Maintain(millis) => {
                self.machine.clock.advance(Duration::from_millis(u64::from(*millis)));
                let merges = || self.db().stats().merges.merges;
                let before = merges();
                self.db().maintain();
                self.has_lost |= merges() > before;
            }
            Action::Reopen => self.reopen_as(None),
            Action::Kill => self.reopen_as(Some(CrashMode::ProcessKill)),
            Action::PowerLoss(seed) => self.reopen_as(Some(CrashMode::power_loss(*seed))),
            Action::Cold(cold) => self.machine.disk.set_cold(*cold),
        }
    }

    fn write(&mut self, ops: &[Op]) {
        let version = self.db().write(batch(ops), None).unwrap().version;
        let mut teller = self.tellers.last().unwrap().clone();
        self.batches.push(teller.tell(ops, version));
        self.tellers.push(teller);
        assert_eq!(version, self.batches.len() as u64);
    }

    fn look(&mut self, who: usize) -> Looked {
        let watcher = &mut self.watchers[who];
        let looked = watcher.look(self.changes.as_ref().unwrap(), &mut self.rng).unwrap();
        assert!(looked != Looked::Gone || self.has_lost, "nothing took history away");
        assert!(looked != Looked::CaughtUp || watcher.next() == self.batches.len() as u64 + 1);
        watcher.check(&self.batches).unwrap_or_else(|why| panic!("{:?}: {why}", self.engine));
        looked
    }

    fn catch_up(&mut self, who: usize) {
        while self.look(who) != Looked::CaughtUp {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150 * common::seed_factor() as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// In order, each once, whole batches, what was refused never; from any version on; or else it is said that it is gone.
    #[test]
    fn watchers_are_told_what_was_committed(
        actions in prop::collection::vec(action(), 1..120),
        always in any::<bool>(),
    ) {
        for engine in ENGINES {
            let mut watched = Watched::new(engine, if always { SyncPolicy::Always } else { SyncPolicy::Never });
            for action in &actions {
                watched.act(action);
            }
            (0..WATCHERS).for_each(|who| watched.catch_up(who));
        }
    }
}

/// All that a watcher is told from a version on, until it has caught up or what it wants is gone.
fn read_all(
    changes: &Changes,
    prefix: &[u8],
    from: Version,
    bytes: usize,
) -> (Vec<(Version, bool)>, ChangesRead) {
    let (mut cursor, filter) = (ChangeCursor::at(from), ChangeFilter::new(prefix, false));
    let mut told = Vec::new();
    loop {
        match changes.read(&mut cursor, &filter, bytes).unwrap() {
            ChangesRead::Page(page) => {
                assert!(page.iter().rev().skip(1).map(|change| change.bytes()).sum::<usize>() < bytes);
                told.extend(page.iter().map(|change| (change.version, change.is_last)));
            }
            end => return (told, end),
        }
    }
}

fn gone_from(end: &ChangesRead) -> Option<Version> {
    match end {
        ChangesRead::Gone { from, .. } => Some(*from),
        _ => None,
    }
}

fn open(machine: &Machine) -> Db {
    machine.open(&small_options(SyncPolicy::Always)).unwrap()
}

/// A frame that is longer than what is read at a time is looked through in pieces, each record checked before it is shown.
#[test]
fn a_large_batch_comes_in_pieces_and_its_last_change_is_marked() {
    let machine = Machine::new(SimDisk::new());
    let mut options = small_options(SyncPolicy::Always);
    options.segment_max_bytes = 64 << 20;
    options.compression = esker_engine::Compression::Lz4;
    let db = machine.open(&options).unwrap();
    let mut rng = Rng::new(3);
    let mut value = |n: u64| -> Vec<u8> { (0..1000).map(|_| (rng.next() % (2 + n % 200)) as u8).collect() };
    let values: Vec<_> = (0..3000).map(&mut value).collect();
    let mut batch = db.batch();
    for (n, value) in values.iter().enumerate() {
        batch.put(format!("{}/{n:05}", ["a", "b"][n % 2]).as_bytes(), value).unwrap();
    }
    batch.delete(b"c").unwrap();
    assert!(batch.encoded_len() > 1 << 20);
    let version = db.write(batch, None).unwrap().version;
    db.put(b"a", b"behind").unwrap();
    let (mut cursor, filter) = (ChangeCursor::at(version), ChangeFilter::new(*b"a", false));
    let mut told = Vec::new();
    while let ChangesRead::Page(page) = db.changes().read(&mut cursor, &filter, 50_000).unwrap() {
        assert!(!page.is_empty() && page.len() < 60);
        told.extend(page);
    }
    assert_eq!(told.len(), 1501);
    for (n, change) in told[..1500].iter().enumerate() {
        assert_eq!((change.version, change.is_last), (version, n == 1499));
        let ChangeKind::Put { key, value: Some(value), .. } = &change.kind else { panic!("{change:?}") };
        assert_eq!(*key, format!("a/{:05}", 2 * n).into_bytes());
        assert!(**value == *values[2 * n], "{n}");
    }
    // Whoever watches what is not in it passes it with one look.
    let (told, end) = read_all(&db.changes(), b"c", version, 1);
    assert!(told == [(version, true)] && matches!(end, ChangesRead::CaughtUp));
}

#[test]
fn damage_is_an_error_with_its_place_and_never_shown() {
    let machine = Machine::new(SimDisk::new());
    let mut options = small_options(SyncPolicy::Always);
    options.segment_max_bytes = 64 << 20;
    let db = machine.open(&options).unwrap();
    db.put(b"k", b"first").unwrap();
    let mut batch = WriteBatch::new();
    (0..2000_u32).for_each(|n| batch.put(&n.to_be_bytes(), &[7; 1000]).unwrap());
    db.write(batch, None).unwrap();
    let segment = format!("{DIR}/0000000001.log");
    // In a short frame, in a record of a long one, in its header, and in the index that its records are bound to.
    let second = 64 + 44 + 12 + 6;
    for (offset, told_before) in
        [(64 + 44 + 13, 0), (second + 44 + 1016 * 1500 + 100, 1501), (second + 1, 1), (second + 17, 1)]
    {
        machine.disk.flip_bit(&segment, offset, 3).unwrap();
        let (mut cursor, filter) = (ChangeCursor::at(1), ChangeFilter::new(*b"", false));
        let mut told = 0;
        let error = loop {
            match db.changes().read(&mut cursor, &filter, 100) {
                Ok(ChangesRead::Page(page)) => told += page.len(),
                Ok(end) => panic!("{end:?} behind {told}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Damage(_)) && told <= told_before, "{offset}: {error} behind {told}");
        machine.disk.flip_bit(&segment, offset, 3).unwrap();
    }
    let (told, end) = read_all(&db.changes(), b"", 1, 1000);
    assert!(told.len() == 2001 && matches!(end, ChangesRead::CaughtUp));
}

#[test]
fn history_begins_wherever_one_likes_and_goes_with_merged_segments() {
    let machine = Machine::new(SimDisk::new());
    let db = open(&machine);
    // The first halves of the segments are dead, so that merging takes the first of them.
    for n in 0..200_u64 {
        db.put(&[(n % 40) as u8], &[n as u8; 300]).unwrap();
    }
    assert!(db.stats().segments > 10);
    let changes = db.changes();
    for from in 1..=201 {
        let (told, end) = read_all(&changes, b"", from, 1000);
        assert!(told.iter().copied().eq((from..=200).map(|version| (version, true))), "{from}");
        assert!(matches!(end, ChangesRead::CaughtUp));
    }
    let mut waiting = ChangeCursor::at(1);
    let filter = ChangeFilter::new(*b"", false);
    assert!(matches!(changes.read(&mut waiting, &filter, 100).unwrap(), ChangesRead::Page(_)));
    db.checkpoint().unwrap();
    db.merge(true).unwrap();
    let (told, end) = read_all(&changes, b"", 1, 1000);
    let from = gone_from(&end).unwrap();
    assert!(told.is_empty() && (2..=201).contains(&from), "{from}");
    let ChangesRead::Gone { from: again, .. } = changes.read(&mut waiting, &filter, 100).unwrap() else {
        panic!("its segment was merged")
    };
    assert_eq!(again, from);
    let (told, end) = read_all(&changes, b"", from, 1000);
    assert!(told.len() as u64 == 201 - from && matches!(end, ChangesRead::CaughtUp));
    // What is written now is told.
    db.put(b"new", b"").unwrap();
    assert_eq!(read_all(&changes, b"", 201, 1000).0, [(201, true)]);
}

/// Of what was judged before the last checkpoint before an opening it is known what it came to as long as its keys say so. Where
/// they do not, it concerns only who watches them.
#[test]
fn what_came_of_judged_batches_is_forgotten_with_the_process() {
    let machine = Machine::new(SimDisk::new());
    let db = open(&machine);
    let require_absent = |key: &[u8]| {
        let mut batch = WriteBatch::new();
        batch.require(key, Condition::Absent).unwrap();
        batch.put(b"once/a", b"").unwrap();
        batch
    };
    db.add(b"count/a", 5).unwrap();
    db.put(b"plain", b"").unwrap();
    assert!(db.write(require_absent(b"plain"), None).unwrap().is_void());
    db.delete_range(&KeyRange::prefix(*b"x")).unwrap();
    assert!(!db.write(require_absent(b"once/a"), None).unwrap().is_void());
    db.checkpoint().unwrap();
    assert_eq!(read_all(&db.changes(), b"", 1, 1000).0, [1, 2, 4, 5].map(|version| (version, true)));
    db.close().unwrap();
    drop(db);
    let db = open(&machine);
    // The counter and the key that was made say what they came to; the refused batch might have been applied and written over.
    let (told, end) = read_all(&db.changes(), b"", 1, 1000);
    assert_eq!((told, gone_from(&end)), (vec![(1, true), (2, true)], Some(4)));
    let mut counter = ChangeCursor::at(1);
    let page = db.changes().read(&mut counter, &ChangeFilter::new(*b"count/a", false), 1000).unwrap();
    let ChangesRead::Page(page) = page else { panic!("{page:?}") };
    let ChangeKind::Put { value: Some(value), .. } = &page[0].kind else { panic!("{page:?}") };
    assert!(**value == *b"5" && page.len() == 1);
    db.add(b"count/a", 1).unwrap();
    let (told, end) = read_all(&db.changes(), b"", 1, 1000);
    assert_eq!((told, gone_from(&end)), (vec![], Some(2)));
    assert_eq!(read_all(&db.changes(), b"", 4, 1000).0, [4, 5, 6].map(|version| (version, true)));
    assert_eq!(read_all(&db.changes(), b"pl", 1, 1000).0, [(2, true)]);
    // What was judged behind the last checkpoint was judged again by the opening.
    let machine = Machine::new(machine.disk.crash(CrashMode::ProcessKill));
    let db = open(&machine);
    assert_eq!(read_all(&db.changes(), b"count", 6, 1000).0, [(6, true)]);
}

#[test]
fn nothing_is_told_by_a_closed_store() {
    let machine = Machine::new(SimDisk::new());
    let db = open(&machine);
    db.put(b"k", b"v").unwrap();
    let changes = db.changes();
    assert_eq!(changes.applied(), 1);
    db.close().unwrap();
    let closed = changes.read(&mut ChangeCursor::at(1), &ChangeFilter::new(*b"", false), 100);
    assert!(matches!(closed, Err(Error::Closed)));
}
