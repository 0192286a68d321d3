//! Endless overwriting, and then a queue whose keys never repeat, against the real binary: disk use, memory and open files
//! must not grow. Memory is judged by what is allocated; what the allocator has of the system beyond that goes up and down with it. What is compared are the medians of the first and the last quarter of each phase.
//!
//! `bench/endurance.sh` runs it for ten minutes on the release binary, with its defaults. ESKER_ENDURANCE_SECONDS says for
//! how long (14 by default, on a small store), ESKER_ENDURANCE_DIR where the store is, ESKER_ENDURANCE_OUT where the samples
//! go, as lines of JSON.

mod load;
mod sample;
use crate::support;
mod verdict;

use std::{io::Write, path::PathBuf, time::Duration};

use esker_client::Client;
use load::{Load, Phase, Size};
use sample::{Sample, Sampler};
use support::Server;

/// Of a run that is seen in `cargo test`.
const SHORT_S: u64 = 14;
/// From so many seconds on the store is large, and the server's settings are the defaults, but for the cache.
const LONG_S: u64 = 60;
/// Before anything is measured the store has merged so often in this phase: it is in its steady state.
const MERGES_BEFORE: u64 = 3;
/// By then that has happened, or merging does not work.
const WARM_UP_MAX: Duration = Duration::from_secs(600);

struct Plan {
    /// For how long each phase is measured.
    measured: Duration,
    interval: Duration,
    size: Size,
    arguments: &'static [&'static str],
}

impl Plan {
    fn of(seconds: u64) -> Self {
        let measured = Duration::from_secs(seconds) / 2;
        if seconds >= LONG_S {
            let size = Size { connections: 16, small_keys: 100_000, large_keys: 400, queued: 40_000 };
            // But for the cache: it would take all of the time to come to its size, and nothing else is to grow.
            let arguments = &["--cache-max-size", "32MiB"];
            return Self { measured, interval: Duration::from_secs(1), size, arguments };
        }
        let size = Size { connections: 4, small_keys: 2000, large_keys: 8, queued: 1000 };
        let arguments = &[
            "--wal-sync-policy",
            "never",
            "--segment-max-bytes",
            "1MiB",
            "--checkpoint-ops",
            "2000",
            "--cache-max-size",
            "1MiB",
        ];
        Self { measured, interval: Duration::from_millis(100), size, arguments }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_grows_however_long_it_is_written_to() {
    let plan = Plan::of(variable("ESKER_ENDURANCE_SECONDS").map_or(SHORT_S, |text| text.parse().unwrap()));
    let own = tempfile::TempDir::new().unwrap();
    let dir = variable("ESKER_ENDURANCE_DIR").map_or_else(|| own.path().to_owned(), PathBuf::from);
    let server = Server::start(&dir, plan.arguments);
    let client = Client::new(&server.endpoint).unwrap();
    let mut sampler = Sampler::new(server.id(), dir);
    let load = Load::new(&client, plan.size);
    load.fill().await;
    let mut verdicts = Vec::new();
    for phase in [Phase::Overwrite, Phase::Queue] {
        let samples = measure(&plan, &client, &load, phase, &mut sampler).await;
        write_out(phase, &samples);
        verdicts.extend(verdict::judge(phase, &samples));
    }
    print!("{}", verdict::table(&verdicts));
    let status = client.status().await.unwrap();
    println!("write amplification {:.2}", status.storage.write_amplification);
    assert_eq!(status.storage.merge_error, None);
    assert!(status.healthy, "{:?}", status.trouble);
    let grown: Vec<_> = verdicts.iter().filter(|verdict| verdict.has_grown()).collect();
    assert!(grown.is_empty(), "grown: {grown:#?}");
}

async fn merges(client: &Client) -> u64 {
    client.status().await.unwrap().storage.merges
}

/// Brings a phase into its steady state, and takes samples of it.
async fn measure(
    plan: &Plan,
    client: &Client,
    load: &Load,
    phase: Phase,
    sampler: &mut Sampler,
) -> Vec<Sample> {
    let running = load.begin(phase);
    let before = merges(client).await;
    let warm_up = async {
        while merges(client).await < before + MERGES_BEFORE {
            tokio::time::sleep(plan.interval).await;
        }
    };
    tokio::time::timeout(WARM_UP_MAX, warm_up).await.expect("it merges");
    sampler.begin(&running);
    let mut ticks = tokio::time::interval(plan.interval);
    ticks.tick().await;
    let mut samples = Vec::new();
    while sampler.elapsed() < plan.measured {
        ticks.tick().await;
        samples.push(sampler.take(&running, client).await);
    }
    let during = merges(client).await - before - MERGES_BEFORE;
    println!("{}: {during} merges while it was measured", phase.name());
    assert!(during > 0, "nothing merged: the run shows nothing");
    running.end().await;
    samples
}

fn write_out(phase: Phase, samples: &[Sample]) {
    let Some(path) = variable("ESKER_ENDURANCE_OUT") else { return };
    let mut out = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for sample in samples {
        writeln!(out, "{}", sample.to_json(phase.name())).unwrap();
    }
}
