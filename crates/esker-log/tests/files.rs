//! Bounded open files (CHECKS 34): a log of many segments is opened, read, appended to and merged with few of them open.

#![expect(clippy::unwrap_used, reason = "a test")]

use crate::support;

use esker_log::{
    Error, LogOptions,
    disk::sim::{CrashMode, Fault, FaultPlan, OpKind, Ops, SimDisk},
};
use support::{
    merging::{Model, Store},
    options,
};

const MAX: usize = 5;

fn open(disk: &SimDisk) -> Store {
    Store::open_with(disk, LogOptions { max_files: MAX, ..options() }).unwrap()
}

fn fill(store: &mut Store, disk: &SimDisk) -> Model {
    let mut model = Model::new();
    for n in 0..100_u8 {
        store.put(&[n], &[n; 300]).unwrap();
        model.insert(vec![n], vec![n; 300]);
        assert!(disk.open_handles() <= MAX + 1, "{}", disk.open_handles());
    }
    model
}

#[test]
fn a_log_works_with_few_open_files() {
    let disk = SimDisk::new();
    let mut store = open(&disk);
    let model = fill(&mut store, &disk);
    assert!(store.log.segments().len() > 15);
    for at in store.keydir.values().rev() {
        store.read(at).unwrap();
        assert!(disk.open_handles() <= MAX + 1 && store.log.open_files() <= MAX);
    }
    let sealed = store.sealed();
    let pin = store.log.pin();
    let before = store.keydir.clone();
    store.merge(&sealed[2..]).unwrap();
    // What is retired can be opened again as long as it is pinned.
    for at in before.values() {
        store.read(at).unwrap();
    }
    assert!(disk.open_handles() <= MAX + 1);
    drop(pin);
    assert_eq!(store.content().unwrap(), model);
    drop(store);
    let disk = disk.crash(CrashMode::DropUnsynced);
    let store = open(&disk);
    assert_eq!(store.content().unwrap(), model);
    assert!(disk.open_handles() <= MAX + 1);
    drop(store);
    assert_eq!(disk.open_handles(), 0);
}

/// Reads fail with a clear error, and nothing is poisoned.
#[test]
fn running_out_of_files_is_told_to_readers() {
    let disk = SimDisk::new();
    let mut store = open(&disk);
    fill(&mut store, &disk);
    disk.inject(FaultPlan::from_nth(Ops::Only(OpKind::Open), 1, Fault::OutOfFiles));
    let errors: Vec<_> = store.keydir.values().filter_map(|at| store.read(at).err()).collect();
    assert!(errors.len() > 50 && errors.iter().all(|error| matches!(error, Error::OutOfFiles)), "{errors:?}");
    assert!(store.log.poison().is_none());
    store.put(b"key", b"value").unwrap();
    assert_eq!(store.read(&store.keydir[&b"key"[..]]).unwrap(), b"value");
    disk.clear_faults();
    store.content().unwrap();
}
