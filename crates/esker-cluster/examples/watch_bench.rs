//! What watchers cost writers: `cargo run --release -p esker-cluster --example watch_bench [DIR]`.
//!
//! Writers put 100 bytes, unsynced, one after another, while so many watch everything or a prefix that is never written. Each watcher counts
//! what it is told; in the end all must have been told everything.

use std::{
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use esker_cluster::{Batch, Store, StoreConfig, Watch, WatchEvent, WatchOptions, WriteOptions};
use esker_engine::{Db, Options, SyncPolicy};
use esker_log::clock::{Clock, SystemClock};

const RUN: Duration = Duration::from_secs(5);
const WRITERS: u64 = 16;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args_os().nth(1);
    let dir = std::env::temp_dir().join(format!("esker-watch-bench-{}", std::process::id()));
    let dir = given.map_or(dir, Into::into);
    for round in 0..ROUNDS {
        for (watchers, prefix) in [(0, ""), (1, ""), (10, ""), (10, "never/"), (100, "never/")] {
            let at = dir.join(format!("{round}-{watchers}-{}", prefix.len()));
            let (writes, told) = measure(&at, watchers, prefix).await?;
            println!(
                "{watchers:>4} watchers of {prefix:?}: {writes:>9.0} writes/s, {told:>10.0} changes told/s"
            );
        }
    }
    Ok(())
}

/// Writes a second, and changes told a second.
async fn measure(dir: &Path, watchers: usize, prefix: &str) -> Result<(f64, f64), Box<dyn Error>> {
    let mut options = Options::default();
    options.sync = SyncPolicy::Never;
    let clock = Arc::new(SystemClock::new());
    let store = Store::single(Db::open(dir, options)?, StoreConfig::default(), Arc::clone(&clock) as _)?;
    let mut watching = Vec::new();
    for _ in 0..watchers {
        let options = WatchOptions { prefix: prefix.into(), ..WatchOptions::default() };
        watching.push(tokio::spawn(follow(store.watch(options).await?)));
    }
    let (stop, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let start = clock.monotonic();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(store.clone(), writer, Arc::clone(&stop), Arc::clone(&written))))
        .collect();
    tokio::time::sleep(RUN).await;
    stop.store(true, Ordering::Release);
    for writer in writers {
        writer.await??;
    }
    let took = (clock.monotonic() - start).as_secs_f64();
    let written = written.load(Ordering::Acquire);
    let mut last = Batch::new(store.limits());
    last.put(format!("{prefix}end").as_bytes(), b"")?;
    store.write(last, WriteOptions::default()).await?;
    let mut told = 0;
    for watcher in watching {
        let changes = watcher.await??;
        let due = if prefix.is_empty() { written + 1 } else { 1 };
        assert_eq!(changes, due, "everything that was written is told once");
        told += changes;
    }
    store.close().await?;
    esker_log::disk::Disk::list(&esker_log::disk::RealDisk, dir)?.iter().try_for_each(|file| {
        esker_log::disk::Disk::remove(&esker_log::disk::RealDisk, &dir.join(&file.name))
    })?;
    Ok((written as f64 / took, told as f64 / took))
}

async fn write(
    store: Store,
    writer: u64,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> esker_cluster::Result<()> {
    for n in 0_u64.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let mut batch = Batch::new(store.limits());
        batch.put(format!("{writer:02}/{:012}", n % 100_000).as_bytes(), &[b'v'; 100])?;
        store.write(batch, WriteOptions::default()).await?;
        written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Counts changes until it is told the last.
async fn follow(mut watch: Watch) -> esker_cluster::Result<u64> {
    use esker_engine::watch::ChangeKind;
    let mut told = 0;
    while let Some(event) = watch.next().await {
        match event? {
            WatchEvent::Changes(changes) => {
                told += changes.len() as u64;
                let is_end =
                    |kind: &ChangeKind| matches!(kind, ChangeKind::Put { key, .. } if key.ends_with(b"end"));
                if changes.last().is_some_and(|change| is_end(&change.kind)) {
                    break;
                }
            }
            WatchEvent::Progress(_) => {}
            WatchEvent::Resync { from, why } => panic!("resync from {from}: {why}"),
        }
    }
    Ok(told)
}
