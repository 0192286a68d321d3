//! Measures the engine through its public face: fills, synced writers, reads, memory, reopening.
//!
//! `cargo run --release -p esker-engine --example engine_bench -- DIR [COUNT]` prints one line per figure. Each
//! figure is one run; run it several times and take medians. `docs/benchmarks.md` has ours.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a measuring program, not the product")]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use esker_engine::{Compression, Db, KeyRange, Options, SyncPolicy, WriteBatch};

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("usage: engine_bench DIR [COUNT] [SECTION]"));
    let count: u64 = args.next().map_or(5_000_000, |count| count.parse().unwrap());
    let section = args.next();
    let wants = |name: &str| section.as_deref().is_none_or(|wanted| wanted == name);
    if wants("fill") {
        fill_one_by_one(&dir, count.min(2_000_000));
        fill_batches(&dir, count);
        fill_in_order(&dir, count);
    }
    if wants("synced") {
        for writers in [1, 8, 64] {
            synced(&dir, writers, Duration::from_secs(3));
        }
    }
    if wants("amplification") {
        amplification(&dir, (count / 10).max(1));
    }
    if wants("keys") {
        memory_reads_and_reopening(&dir, count);
    }
    if section.as_deref() == Some("reads") {
        let db = Db::open(fresh(&dir, "reads"), options()).unwrap();
        fill(&db, count);
        (0..5).for_each(|_| reads(&db, count));
    }
    if section.as_deref() == Some("cache") {
        for (name, value_len, compression) in [
            ("100 B", 100, Compression::None),
            ("1 KiB", 1024, Compression::None),
            ("1 KiB, lz4", 1024, Compression::Lz4),
        ] {
            cached_reads(&dir, count.min(400_000), name, value_len, compression);
        }
    }
    if section.as_deref() == Some("compression") {
        let [none, lz4] = [Compression::None, Compression::Lz4];
        let [fast, usual] = [1, 3].map(Compression::Zstd);
        for compression in [none, lz4, fast, usual, Compression::Gzip(6), none, lz4, none, lz4] {
            compression_of(&dir, compression, count.min(500_000));
        }
    }
    if wants("segments") {
        many_segments(&dir);
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.sync = SyncPolicy::Never;
    options
}

fn fresh(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    match std::fs::remove_dir_all(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{e}"),
        _ => path,
    }
}

/// splitmix64: spreads 0, 1, 2 … over all keys.
fn key(i: u64) -> [u8; 16] {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(i).to_be_bytes());
    key[8..].copy_from_slice(&mix(!i).to_be_bytes());
    key
}

/// Wall time, and processor time of this thread alone: what the figure would be on an idle machine.
struct Stopwatch {
    wall: Instant,
    processor: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        Self { wall: Instant::now(), processor: processor_time() }
    }

    fn report(self, name: &str, count: u64) {
        let (wall, processor) = (self.wall.elapsed(), processor_time() - self.processor);
        println!(
            "{name:<44} {:>12.0} /s   ({count} in {wall:.2?}; {:.0} a processor second)",
            count as f64 / wall.as_secs_f64(),
            count as f64 / processor.as_secs_f64()
        );
    }
}

fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn fill_one_by_one(dir: &Path, count: u64) {
    let path = fresh(dir, "one");
    let db = Db::open(&path, options()).unwrap();
    let began = Stopwatch::start();
    for i in 0..count {
        db.put(&key(i), &[7; 100]).unwrap();
    }
    began.report("fill, no sync, one by one, 100 B", count);
    drop(db);
    fresh(dir, "one");
}

fn fill_batches(dir: &Path, count: u64) {
    let path = fresh(dir, "batches");
    let db = Db::open(&path, options()).unwrap();
    let began = Stopwatch::start();
    fill(&db, count);
    began.report("fill, no sync, batches of 1000, 100 B", count);
    drop(db);
    fresh(dir, "batches");
}

fn fill_in_order(dir: &Path, count: u64) {
    let path = fresh(dir, "ordered");
    let db = Db::open(&path, options()).unwrap();
    let began = Stopwatch::start();
    for i in 0..count {
        db.put(format!("{i:016}").as_bytes(), &[7; 100]).unwrap();
    }
    began.report("fill, no sync, one by one, keys in order", count);
    drop(db);
    let path = fresh(dir, "ordered");
    let db = Db::open(&path, options()).unwrap();
    let began = Stopwatch::start();
    let mut i = 0;
    while i < count {
        let mut batch = WriteBatch::with_capacity(1000 * 128);
        for _ in 0..1000.min(count - i) {
            batch.put(format!("{i:016}").as_bytes(), &[7; 100]).unwrap();
            i += 1;
        }
        db.write(batch, None).unwrap();
    }
    began.report("fill, no sync, batches of 1000, keys in order", count);
    drop(db);
    fresh(dir, "ordered");
}

fn fill(db: &Db, count: u64) {
    let mut i = 0;
    while i < count {
        let mut batch = WriteBatch::with_capacity(1000 * 128);
        for _ in 0..1000.min(count - i) {
            batch.put(&key(i), &[7; 100]).unwrap();
            i += 1;
        }
        db.write(batch, None).unwrap();
    }
}

fn synced(dir: &Path, writers: u64, duration: Duration) {
    let path = fresh(dir, "synced");
    let mut options = options();
    options.sync = SyncPolicy::Always;
    let db = Db::open(&path, options).unwrap();
    let began = Instant::now();
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let db = &db;
                scope.spawn(move || {
                    let mut latencies = Vec::new();
                    let mut i = writer << 32;
                    while began.elapsed() < duration {
                        let start = Instant::now();
                        db.put(&key(i), &[7; 100]).unwrap();
                        latencies.push(start.elapsed());
                        i += 1;
                    }
                    latencies
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let took = began.elapsed();
    latencies.sort_unstable();
    let at = |quantile: f64| latencies[((latencies.len() - 1) as f64 * quantile) as usize];
    let stats = db.stats();
    let seconds = took.as_secs_f64();
    let name = format!("put, synced, {writers} writers, 100 B");
    println!("{name:<44} {:>12.0} /s", latencies.len() as f64 / seconds);
    println!(
        "    {:.0} syncs/s, group {:.1}, p50 {:?} p99 {:?} p99.9 {:?} max {:?}",
        stats.syncs as f64 / seconds,
        stats.batches as f64 / stats.groups as f64,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    drop(db);
    fresh(dir, "synced");
}

fn amplification(dir: &Path, count: u64) {
    let path = fresh(dir, "amplification");
    let db = Db::open(&path, options()).unwrap();
    for i in 0..count {
        db.put(&key(i), &[7; 1024]).unwrap();
    }
    db.checkpoint().unwrap();
    let user = count * (16 + 1024);
    println!(
        "write amplification, 1 KiB one by one          {:.3}   ({} bytes for {user})",
        db.stats().bytes_written as f64 / user as f64,
        db.stats().bytes_written
    );
    drop(db);
    fresh(dir, "amplification");
}

fn memory_reads_and_reopening(dir: &Path, count: u64) {
    let path = fresh(dir, "keys");
    let before = resident_bytes();
    let db = Db::open(&path, options()).unwrap();
    fill(&db, count);
    db.checkpoint().unwrap();
    println!(
        "memory beyond the key, {count} keys of 16 B, filled  {:.1} B/key (index says {:.1})",
        (resident_bytes() as f64 - before as f64) / count as f64 - 16.0,
        db.stats().index_bytes as f64 / count as f64 - 16.0
    );
    reads(&db, count);
    // More behind the checkpoint, then leave without closing.
    for i in count..count + 100_000 {
        db.put(&key(i), &[7; 100]).unwrap();
    }
    std::mem::forget(db);
    reopen_copies(&path, count);
}

/// Leaving without closing is not quite being killed: the lock is still held. So reopening is measured on the files
/// under another name.
fn reopen_copies(path: &Path, count: u64) {
    let copy = path.with_extension("reopened");
    if copy.exists() {
        std::fs::remove_dir_all(&copy).unwrap();
    }
    std::fs::create_dir(&copy).unwrap();
    let mut hint_bytes = 0;
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() == "LOCK" {
            continue;
        }
        if entry.path().extension().is_some_and(|e| e != "log") {
            hint_bytes += entry.metadata().unwrap().len();
        }
        std::fs::hard_link(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let began = Instant::now();
    for entry in std::fs::read_dir(&copy).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e != "log") {
            std::hint::black_box(std::fs::read(path).unwrap());
        }
    }
    let sequential = began.elapsed();
    let before = resident_bytes();
    let began = Instant::now();
    let db = Db::open(&copy, options()).unwrap();
    let took = began.elapsed();
    println!(
        "reopen after a crash, {count} keys             {took:.2?}   (replayed {}; reading the {} MB of index files: {sequential:.2?})",
        db.open_report().replayed,
        hint_bytes / 1_000_000
    );
    println!(
        "memory beyond the key, {count} keys of 16 B, loaded  {:.1} B/key",
        (resident_bytes() as f64 - before as f64) / count as f64 - 16.0
    );
    assert_eq!(db.stats().keys, count + 100_000);
    drop(db);
    std::fs::remove_dir_all(copy).unwrap();
}

fn reads(db: &Db, count: u64) {
    let reads = 2_000_000;
    let mut state = 1_u64;
    let began = Stopwatch::start();
    for _ in 0..reads {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let entry = db.get(&key((state >> 33) % count)).unwrap().unwrap();
        assert_eq!(entry.value.len(), 100);
    }
    began.report("read, uniform, page cache, 1 thread", reads);
    let began = Stopwatch::start();
    let scanned = db.scan(&KeyRange::all(), true).take(2_000_000).count();
    began.report("scan, keys only", scanned as u64);
    let began = Stopwatch::start();
    let scanned = db.scan(&KeyRange::all(), false).take(1_000_000).filter(Result::is_ok).count();
    began.report("scan, with values, random log order", scanned as u64);
}

/// Half of it is noise, the other half one byte: what compression tests call half-compressible.
fn half_compressible(i: u64, value: &mut [u8]) {
    let (noise, rest) = value.split_at_mut(value.len() / 2);
    for (at, piece) in noise.chunks_mut(16).enumerate() {
        piece.copy_from_slice(&key(i.wrapping_mul(977) + at as u64)[..piece.len()]);
    }
    rest.fill(b'a' + (i % 16) as u8);
}

fn compression_of(dir: &Path, compression: Compression, count: u64) {
    let mut options = options();
    options.compression = compression;
    let db = Db::open(fresh(dir, "compression"), options).unwrap();
    let mut value = [0; 1024];
    let began = Stopwatch::start();
    for i in 0..count {
        half_compressible(i, &mut value);
        db.put(&key(i), &value).unwrap();
    }
    began.report(&format!("put, no sync, 1 KiB, {compression:?}"), count);
    let mut state = 1_u64;
    let began = Stopwatch::start();
    for _ in 0..count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let entry = db.get(&key((state >> 33) % count)).unwrap().unwrap();
        assert_eq!(entry.value.len(), 1024);
    }
    began.report(&format!("read, uniform, 1 KiB, {compression:?}"), count);
    println!("    stored: {:.3} of what was given", db.stats().compression.ratio());
    drop(db);
    fresh(dir, "compression");
}

/// Reads of a store that is in the page cache, with caches of several sizes in turn, so that what else the machine does falls
/// on all alike.
fn cached_reads(dir: &Path, count: u64, name: &str, value_len: usize, compression: Compression) {
    const CACHES_MIB: [u64; 3] = [0, 16, 64];
    const TURN: u64 = 20_000;
    let path = fresh(dir, "cache");
    let mut options = options();
    options.compression = compression;
    let db = Db::open(&path, options.clone()).unwrap();
    let mut value = vec![0; value_len];
    for i in 0..count {
        half_compressible(i, &mut value);
        db.put(&key(i), &value).unwrap();
    }
    db.close().unwrap();
    drop(db);
    let dbs = CACHES_MIB.map(|mib| {
        options.cache_max_bytes = mib << 20;
        let copy = fresh(dir, &format!("cache-{mib}"));
        link_copy(&path, &copy);
        Db::open(&copy, options.clone()).unwrap()
    });
    for (kind, draw) in [("uniform", uniform as fn(f64, u64) -> u64), ("zipf", zipf)] {
        let mut took = [Duration::ZERO; 3];
        let mut state = 1_u64;
        for turn in 0..120 {
            for (db, took) in dbs.iter().zip(&mut took) {
                let mut own = state;
                let began = processor_time();
                for _ in 0..TURN {
                    own = own.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let at = draw((own >> 11) as f64 / (1_u64 << 53) as f64, count);
                    assert_eq!(db.get(&key(at)).unwrap().unwrap().value.len(), value_len);
                }
                // The first third fills the caches.
                if turn >= 40 {
                    *took += processor_time() - began;
                }
            }
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
        for ((mib, db), took) in CACHES_MIB.iter().zip(&dbs).zip(took) {
            let nanos = took.as_nanos() as u64 / (80 * TURN);
            let rate = db.stats().cache.hit_rate();
            println!("read, {kind}, {name}, cache of {mib:>2} MiB: {nanos} ns, hit rate so far {rate:.3}");
        }
    }
    drop(dbs);
    CACHES_MIB.iter().for_each(|mib| drop(fresh(dir, &format!("cache-{mib}"))));
    fresh(dir, "cache");
}

/// The files of a closed store under other names.
fn link_copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "LOCK" {
            std::fs::hard_link(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn uniform(at: f64, count: u64) -> u64 {
    (at * count as f64) as u64
}

/// About Zipf's law with an exponent of one, scattered over the keys: rank r comes up with a probability near 1/r.
fn zipf(at: f64, count: u64) -> u64 {
    let rank = (count as f64).powf(at) as u64;
    rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count
}

fn many_segments(dir: &Path) {
    let path = fresh(dir, "segments");
    let mut options = options();
    options.segment_max_bytes = 64 << 10;
    let db = Db::open(&path, options.clone()).unwrap();
    let mut i = 0;
    while db.stats().segments < 50 {
        db.put(&key(i), &[7; 100]).unwrap();
        i += 1;
    }
    db.close().unwrap();
    drop(db);
    let mut times: Vec<_> = (0..11)
        .map(|_| {
            let began = Instant::now();
            let db = Db::open(&path, options.clone()).unwrap();
            let took = began.elapsed();
            assert_eq!(db.stats().keys, i);
            took
        })
        .collect();
    times.sort_unstable();
    println!(
        "open 50 segments of 64 KiB, {i} keys            median {:.2?} (max {:.2?})",
        times[5], times[10]
    );
    fresh(dir, "segments");
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
