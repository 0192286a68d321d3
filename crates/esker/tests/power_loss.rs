//! CHECKS 2: power loss under a real kernel. The server writes with `sync = always` on an ext4 image; the process is
//! killed and the file system shut down at once, so that what was not synced, and names not yet in the journal, are
//! gone. Mounted again, every acknowledged write is there and no batch is partial.
//!
//! Needs root, loop devices and `xfs_io`; where they are missing the test says that it was skipped.
//! ESKER_POWER_ROUNDS sets the number of rounds.

use crate::support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use esker_client::{Batch, Client, Query, Retry, Settings};
use support::{Server, image::Image};
use tokio::task::JoinSet;

const ROUNDS: u64 = 4;
const WRITERS: u64 = 4;
const KEYS_PER_WRITER: u64 = 8;
/// The keys of a writer's batches, which always put all of them.
const BATCH_KEYS: u64 = 3;
const RUN_MS_MAX: u64 = 150;
/// A round has at least so many acknowledged writes, however slow the machine.
const ACKNOWLEDGED_MIN: u64 = 10;

/// What a key may hold: first what was last acknowledged, then what was attempted later.
type Possible = Vec<Option<String>>;

/// One writer and what it knows.
struct Writer {
    name: String,
    random: fastrand::Rng,
    sequence: u64,
    keys: BTreeMap<String, Possible>,
    /// By all writers.
    acknowledged: Arc<AtomicU64>,
}

impl Writer {
    async fn write(mut self, client: Client) -> Self {
        while self.operation(&client).await {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        self
    }

    /// Whether it was acknowledged.
    async fn operation(&mut self, client: &Client) -> bool {
        self.sequence += 1;
        let value = format!("{} {} ", self.name, self.sequence) + &"x".repeat(self.random.usize(..3000));
        let key = format!("{}/{}", self.name, self.random.u64(..KEYS_PER_WRITER));
        let choice = self.random.u8(..10);
        let (keys, value) = match choice {
            0..=1 => (vec![key], None),
            2..=4 => ((0..BATCH_KEYS).map(|at| format!("{}/batch{at}", self.name)).collect(), Some(value)),
            _ => (vec![key], Some(value)),
        };
        for key in &keys {
            self.keys.entry(key.clone()).or_insert_with(|| vec![None]).push(value.clone());
        }
        let mut batch = Batch::new();
        for key in &keys {
            match &value {
                Some(value) => batch.put(key.as_bytes(), value.as_bytes()),
                None => batch.delete(key.as_bytes()),
            }
        }
        let acknowledged = client.batch(batch, Default::default()).await.is_ok();
        if acknowledged {
            self.keys.extend(keys.into_iter().map(|key| (key, vec![value.clone()])));
        }
        acknowledged
    }

    /// Holds what is there against what may be there, and takes it for known.
    fn check(&mut self, found: &BTreeMap<String, String>, round: u64) {
        for (key, possible) in &mut self.keys {
            let there = found.get(key).cloned();
            assert!(
                possible.contains(&there),
                "round {round}: {key} holds {there:.40?}, not {possible:.40?}"
            );
            *possible = vec![there];
        }
        let mut batch = (0..BATCH_KEYS).map(|at| found.get(&format!("{}/batch{at}", self.name)));
        let first = batch.next().unwrap();
        assert!(batch.all(|other| other == first), "round {round}: half a batch of {}", self.name);
    }
}

fn client(endpoint: &str) -> Client {
    let mut settings = Settings::default();
    settings.retry = Retry::never();
    Client::with_settings(endpoint, settings).unwrap()
}

async fn everything(client: &Client) -> BTreeMap<String, String> {
    let mut stream = client.scan(&Query::default()).await.unwrap();
    let mut found = BTreeMap::new();
    while let Some(item) = stream.next().await {
        let item = item.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        found.insert(text(item.key), text(item.value.unwrap()));
    }
    found
}

fn start(dir: &Path) -> Server {
    let args = ["--wal-sync-policy", "always", "--checkpoint-ops", "200", "--segment-max-bytes", "1MiB"];
    Server::start(dir, &args)
}

/// CHECKS 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_loss_on_ext4_loses_nothing_acknowledged() {
    let Some(mut image) = Image::or_skip(256, &["xfs_io"]) else { return };
    let rounds = std::env::var("ESKER_POWER_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(7);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let new = |number: u64| Writer {
        name: format!("w{number}"),
        random: fastrand::Rng::with_seed(number),
        sequence: 0,
        keys: BTreeMap::new(),
        acknowledged: Arc::clone(&acknowledged),
    };
    let mut writers: Vec<_> = (0..WRITERS).map(new).collect();
    let data = image.data();
    for round in 0..rounds {
        let mut server = start(&data);
        let client = client(&server.endpoint);
        let found = everything(&client).await;
        writers.iter_mut().for_each(|writer| writer.check(&found, round));
        let mut tasks: JoinSet<_> = writers.drain(..).map(|writer| writer.write(client.clone())).collect();
        // At any moment, once there is something to lose.
        let enough = acknowledged.load(Ordering::Relaxed) + ACKNOWLEDGED_MIN;
        tokio::time::sleep(Duration::from_millis(random.u64(20..RUN_MS_MAX))).await;
        tokio::time::timeout(Duration::from_secs(60), async {
            while acknowledged.load(Ordering::Relaxed) < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("writes are acknowledged");
        server.kill();
        image.lose_power();
        while let Some(writer) = tasks.join_next().await {
            writers.push(writer.unwrap());
        }
    }
    let server = start(&data);
    let found = everything(&client(&server.endpoint)).await;
    writers.iter_mut().for_each(|writer| writer.check(&found, rounds));
    assert!(server.ok(&["verify", "--json"]).contains(r#""intact":true"#));
    // Before the image is unmounted.
    drop(server);
}
