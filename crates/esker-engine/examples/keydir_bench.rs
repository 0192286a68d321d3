//! Measures the keydir: nanoseconds per operation and memory per key.
//!
//! ```text
//! cargo run --release -p esker-engine --example keydir_bench [keys] [part ...]
//! ```
//! Parts: `random`, `sequential`, `bulk`, `grow`, `copy`, `cut`, `scan`; all if none is named. Each part runs by itself, so
//! run one at a time for figures of memory that nothing before it has touched.

use std::{hint::black_box, ops::Bound, process::ExitCode, time::Instant};

use esker_engine::bitcask::keydir::{Builder, Fill, Slot, Tree};

/// Bytes in every key.
const KEY_BYTES: usize = 16;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let keys = arguments.peek().and_then(|first| first.parse().ok());
    if keys.is_some() {
        arguments.next();
    }
    let keys = keys.unwrap_or(5_000_000);
    let named: Vec<String> = arguments.collect();
    for (name, part) in PARTS {
        if named.is_empty() || named.iter().any(|wanted| wanted == name) {
            println!("{name}, {keys} keys");
            part(keys);
        }
    }
    ExitCode::SUCCESS
}

/// Measures something with so many keys.
type Part = fn(u64);

/// What can be measured.
const PARTS: [(&str, Part); 7] = [
    ("random", random),
    ("sequential", sequential),
    ("bulk", bulk),
    ("grow", grow_after_bulk),
    ("copy", copy_on_write),
    ("cut", cut),
    ("scan", scan),
];

/// Inserts in random order, then reads, walks and removes.
fn random(keys: u64) {
    let before = resident_bytes();
    let mut tree = Tree::new();
    time("insert, all", keys, || insert_random(&mut tree, 0..keys));
    memory(&tree, before);
    let more = keys..keys + keys / 10;
    time("insert, last tenth", keys / 10, || insert_random(&mut tree, more));
    reads(&tree, keys);
    time("replace", keys / 5, || insert_random(&mut tree, 0..keys / 5));
    time("remove half", keys / 2, || {
        for number in 0..keys / 2 {
            black_box(tree.remove(&random_key(number)));
        }
    });
    memory(&tree, before);
    time("drop", keys / 2, || drop(tree));
}

/// Inserts in order.
fn sequential(keys: u64) {
    let before = resident_bytes();
    let mut tree = Tree::new();
    time("insert", keys, || {
        for number in 0..keys {
            tree.insert(&ordered_key(number), slot(number));
        }
    });
    memory(&tree, before);
    time("walk", keys, || assert_eq!(tree.iter().count() as u64, keys));
}

/// Builds from sorted random keys.
fn bulk(keys: u64) {
    let sorted = sorted_keys(keys);
    let before = resident_bytes();
    let mut tree = Tree::new();
    time("build", keys, || tree = build(&sorted, Fill::default()));
    memory(&tree, before);
    reads(&tree, keys);
}

/// Inserts at random after a bulk load, for several fills: which grows most evenly?
fn grow_after_bulk(keys: u64) {
    let sorted = sorted_keys(keys);
    for (percent_min, percent_max) in [(70, 70), (90, 90), (100, 100), (60, 100), (75, 100), (80, 100)] {
        println!("  fill {percent_min} to {percent_max}");
        let mut tree = build(&sorted, Fill { percent_min, percent_max });
        report_fill(&tree);
        for step in 0..6 {
            let from = keys + step * keys / 10;
            time("insert a tenth more", keys / 10, || insert_random(&mut tree, from..from + keys / 10));
            report_fill(&tree);
        }
    }
}

/// Inserts while snapshots come and go.
fn copy_on_write(keys: u64) {
    let mut tree = Tree::new();
    insert_random(&mut tree, 0..keys);
    for batch in [100, 10_000] {
        let count = keys / 50;
        let name = format!("insert, a snapshot every {batch}");
        time(&name, count, || {
            let mut snapshot = tree.clone();
            for number in 0..count {
                if number % batch == 0 {
                    snapshot = tree.clone();
                }
                tree.insert(&random_key(keys * batch + number), slot(number));
            }
            drop(snapshot);
        });
    }
}

/// Walks a tree that has grown at random, for some time.
fn scan(keys: u64) {
    let mut tree = Tree::new();
    insert_random(&mut tree, 0..keys);
    for _ in 0..5 {
        scans(&tree, keys);
    }
}

/// Removes ranges: by their size, and whether snapshots share the tree.
fn cut(keys: u64) {
    let sorted = sorted_keys(keys);
    let whole = build(&sorted, Fill::default());
    for size in [1, 100, 10_000, keys / 10] {
        let count = (keys / 10 / size).min(10_000);
        let mut starts: Vec<_> = (0..count).map(|number| number * keys / count).collect();
        starts.sort_unstable_by_key(|&start| mix(start));
        let mut cut_out = Vec::new();
        let mut tree = build(&sorted, Fill::default());
        time(&format!("cut out {size}"), count, || {
            cut_out.extend(starts.iter().map(|&start| cut_from(&mut tree, &sorted, start, size)));
        });
        time("drop what was cut out, by key", count * size, || drop(cut_out));
        time("the same beside a snapshot", count, || {
            for &start in &starts {
                drop(cut_from(&mut whole.clone(), &sorted, start, size));
            }
        });
    }
}

/// Cuts out `size` keys from key number `start` on.
fn cut_from(tree: &mut Tree<Slot>, sorted: &[[u8; KEY_BYTES]], start: u64, size: u64) -> Tree<Slot> {
    let (first, end) = (start as usize, (start + size) as usize);
    let end = sorted.get(end).map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
    tree.remove_range(Bound::Included(&sorted[first]), end)
}

fn reads(tree: &Tree<Slot>, keys: u64) {
    let count = 2_000_000;
    time("get", count, || {
        for number in 0..count {
            black_box(tree.get(&random_key(mix(number) % keys)).expect("the key was inserted"));
        }
    });
    time("get, absent", count, || {
        for number in 0..count {
            assert!(tree.get(&random_key(u64::MAX - number)).is_none());
        }
    });
    scans(tree, keys);
    let len = tree.len() as u64;
    time("walk", len, || assert_eq!(tree.iter().count() as u64, len));
    time("walk, one buffer", len, || {
        let (mut range, mut key) = (tree.iter(), Vec::new());
        while range.next_into(&mut key).is_some() {}
    });
}

/// Short walks from random keys on.
fn scans(tree: &Tree<Slot>, keys: u64) {
    let count = 2_000_000;
    time("seek and take one", count / 4, || {
        for number in 0..count / 4 {
            let key = random_key(mix(number) % keys);
            black_box(tree.range(Bound::Included(&key), Bound::Unbounded).next());
        }
    });
    time("seek and take 100", count / 10, || {
        let mut buffer = Vec::new();
        for number in 0..count / 10 {
            let key = random_key(mix(number) % keys);
            let mut range = tree.range(Bound::Included(&key), Bound::Unbounded);
            for _ in 0..100 {
                black_box(range.next_into(&mut buffer));
            }
        }
    });
    time("seek and count 100", count / 10, || {
        for number in 0..count / 10 {
            let key = random_key(mix(number) % keys);
            black_box(tree.range(Bound::Included(&key), Bound::Unbounded).take(100).count());
        }
    });
}

fn insert_random(tree: &mut Tree<Slot>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        tree.insert(&random_key(number), slot(number));
    }
}

fn build(sorted: &[[u8; KEY_BYTES]], fill: Fill) -> Tree<Slot> {
    let mut builder = Builder::with_fill(fill);
    for (key, number) in sorted.iter().zip(0..) {
        builder.push(key, slot(number)).expect("the keys are sorted");
    }
    builder.finish()
}

fn sorted_keys(keys: u64) -> Vec<[u8; KEY_BYTES]> {
    let mut sorted: Vec<_> = (0..keys).map(random_key).collect();
    sorted.sort_unstable();
    sorted
}

fn slot(number: u64) -> Slot {
    Slot::new(1, number as u32, 100, number)
}

/// Key `number` of a fixed random sequence: made when needed, so that no list of keys is in memory.
fn random_key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&mix(number).to_be_bytes());
    key[8..].copy_from_slice(&mix(!number).to_be_bytes());
    key
}

fn ordered_key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = *b"user000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Splitmix64's finisher.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Prints what an operation takes, by the clock and of the processor: they differ on a busy machine.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn time(name: &str, operations: u64, work: impl FnOnce()) {
    let (start, busy) = (Instant::now(), processor_nanoseconds());
    work();
    let (elapsed, busy) = (start.elapsed().as_nanos() as u64, processor_nanoseconds() - busy);
    let [elapsed, busy] = [elapsed, busy].map(|nanoseconds| nanoseconds as f64 / operations as f64);
    println!("  {name:30} {elapsed:8.1} ns, of the processor {busy:8.1} ns");
}

/// Time this process has run on a processor.
fn processor_nanoseconds() -> u64 {
    proc_self("schedstat").split(' ').next().and_then(|field| field.parse().ok()).unwrap_or_default()
}

/// Prints memory per key beyond the key, as the process sees it and as the tree does.
fn memory(tree: &Tree<Slot>, before: usize) {
    let keys = tree.len() as f64;
    let resident = resident_bytes().saturating_sub(before) as f64 / keys - KEY_BYTES as f64;
    let counted = tree.memory_bytes() as f64 / keys - KEY_BYTES as f64;
    println!("  memory beyond the key: resident {resident:.1} bytes, counted {counted:.1} bytes");
}

fn report_fill(tree: &Tree<Slot>) {
    let counted = tree.memory_bytes() as f64 / tree.len() as f64 - KEY_BYTES as f64;
    println!("    {} keys, counted beyond the key {counted:.1} bytes", tree.len());
}

/// What the process has in memory.
fn resident_bytes() -> usize {
    const PAGE: usize = 4096;
    proc_self("statm")
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .map_or(0, |pages: usize| pages * PAGE)
}

/// A file the kernel keeps about this process; empty where there is none.
#[expect(clippy::disallowed_methods, reason = "/proc is the process itself, not storage")]
fn proc_self(file: &str) -> String {
    let bytes = std::fs::read(format!("/proc/self/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
