//! Readers beside a writer.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::super::{IN_PLACE_OPERATIONS_MAX, Keydir, Slot, Tree};

/// Keys that every batch writes, all with one version.
fn keys(count: usize) -> Vec<Vec<u8>> {
    (0..count as u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes().to_vec()).collect()
}

fn write_all(tree: &mut Tree<Slot>, keys: &[Vec<u8>], version: u64) {
    for key in keys {
        tree.insert(key, Slot::new(1, 0, 0, version));
    }
}

/// Asserts that a snapshot has all of one batch.
fn check_whole(tree: &Tree<Slot>, count: usize) -> u64 {
    let versions: Vec<_> = tree.iter().map(|(_, slot)| slot.version()).collect();
    assert_eq!(versions.len(), count);
    assert!(versions.iter().all(|version| *version == versions[0]), "part of a batch");
    versions[0]
}

/// One writer applies batches over all keys, while readers look.
fn check_batches(count: usize, batches: u64) {
    let keydir = Keydir::default();
    let keys = keys(count);
    keydir.apply(count, |tree| write_all(tree, &keys, 0));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut newest = 0;
                while !done.load(Ordering::Relaxed) {
                    let version = check_whole(&keydir.snapshot(), count);
                    assert!(newest <= version, "went back in time");
                    // Every key, one by one, is at least as new as the snapshot before.
                    assert!(
                        keys.iter().all(|key| keydir.get(key).is_some_and(|slot| slot.version() >= version))
                    );
                    newest = version;
                }
            });
        }
        for version in 1..=batches {
            keydir.apply(count, |tree| write_all(tree, &keys, version));
        }
        done.store(true, Ordering::Relaxed);
    });
    keydir.snapshot().check();
}

#[test]
fn batches_in_place_are_seen_whole() {
    check_batches(IN_PLACE_OPERATIONS_MAX, 20_000);
}

#[test]
fn batches_made_aside_are_seen_whole() {
    check_batches(40 * IN_PLACE_OPERATIONS_MAX, 300);
}

/// Inside the change of a large batch, a reader still gets at the version before: no lock is held.
#[test]
fn readers_do_not_wait_for_a_long_batch() {
    let keydir = Keydir::default();
    keydir.apply(1, |tree| tree.insert(b"key", Slot::new(1, 0, 0, 1)));
    keydir.apply(IN_PLACE_OPERATIONS_MAX + 1, |tree| {
        tree.insert(b"key", Slot::new(1, 0, 0, 2));
        assert_eq!(keydir.get(b"key").map(Slot::version), Some(1));
    });
    assert_eq!(keydir.get(b"key").map(Slot::version), Some(2));
    assert_eq!((keydir.len(), keydir.is_empty()), (1, false));
    assert!(keydir.memory_bytes() > 0);
}

/// Writers on several threads lose nothing, whichever way their changes are made.
#[test]
fn changes_of_several_writers_all_stay() {
    let keydir = Keydir::default();
    thread::scope(|scope| {
        for writer in 0..4_u32 {
            let keydir = &keydir;
            scope.spawn(move || {
                for number in 0..500_u32 {
                    let operations = if number.is_multiple_of(2) { 1 } else { IN_PLACE_OPERATIONS_MAX + 1 };
                    let key = [number.to_be_bytes(), writer.to_be_bytes()].concat();
                    keydir.apply(operations, |tree| {
                        thread::yield_now(); // gives another writer the chance to come between
                        tree.insert(&key, Slot::new(1, 0, 0, 1))
                    });
                }
            });
        }
    });
    assert_eq!(keydir.len(), 2_000);
    keydir.snapshot().check();
}
