//! CHECKS 1, 16: `kill -9` at any moment loses nothing that was acknowledged.
//!
//! Writers, each with keys of its own, put, delete and send batches, and note every operation before it is sent and
//! every acknowledgement. The server is killed at a random moment and started again (and sometimes killed during
//! that), and every key must hold what was last acknowledged or something attempted after it; a batch is there as a
//! whole or not at all. ESKER_KILL_ROUNDS sets the number of rounds, ESKER_KILL_SEED what chance begins with.

use crate::support;

use std::{collections::BTreeMap, path::Path, time::Duration};

use esker_client::{Batch, Client, Query, Retry, Settings};
use support::Server;
use tempfile::TempDir;
use tokio::task::JoinSet;

const WRITERS: u64 = 6;
const KEYS_PER_WRITER: u64 = 12;
/// The keys of a writer's batches, which always put all of them.
const BATCH_KEYS: u64 = 4;
const ROUNDS: u64 = 20;
const RUN_MS_MAX: u64 = 60;

/// What a key may hold: `None` is absence. The first is what was last acknowledged, the others were attempted later.
type Possible = Vec<Option<String>>;

/// One writer and what it knows.
struct Writer {
    name: String,
    random: fastrand::Rng,
    sequence: u64,
    keys: BTreeMap<String, Possible>,
    acknowledged: u64,
}

impl Writer {
    fn new(number: u64, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed + number);
        Self { name: format!("w{number}"), random, sequence: 0, keys: BTreeMap::new(), acknowledged: 0 }
    }

    /// Writes until the server is gone.
    async fn write(mut self, client: Client) -> Self {
        while self.operation(&client).await {
            self.acknowledged += 1;
        }
        self
    }

    /// Whether it was acknowledged.
    async fn operation(&mut self, client: &Client) -> bool {
        self.sequence += 1;
        let value = format!("{} {}", self.name, self.sequence) + &"x".repeat(self.random.usize(..2000));
        let key = format!("{}/{:02}", self.name, self.random.u64(..KEYS_PER_WRITER));
        match self.random.u8(..10) {
            0..=1 => self.attempt(std::slice::from_ref(&key), None, client.delete(key.as_bytes())).await,
            2..=4 => {
                let keys: Vec<_> = (0..BATCH_KEYS).map(|at| format!("{}/batch{at}", self.name)).collect();
                let mut batch = Batch::new();
                keys.iter().for_each(|key| batch.put(key.as_bytes(), value.as_bytes()));
                self.attempt(&keys, Some(&value), client.batch(batch, Default::default())).await
            }
            _ => {
                self.attempt(
                    std::slice::from_ref(&key),
                    Some(&value),
                    client.put(key.as_bytes(), value.clone()),
                )
                .await
            }
        }
    }

    async fn attempt<T>(
        &mut self,
        keys: &[String],
        value: Option<&str>,
        work: impl Future<Output = esker_client::Result<T>>,
    ) -> bool {
        let value = value.map(str::to_owned);
        for key in keys {
            self.keys.entry(key.clone()).or_insert_with(|| vec![None]).push(value.clone());
        }
        let acknowledged = work.await.is_ok();
        if acknowledged {
            keys.iter().for_each(|key| {
                self.keys.insert(key.clone(), vec![value.clone()]);
            });
        }
        acknowledged
    }

    /// Holds what is there against what may be there, and takes it for known.
    fn check(&mut self, found: &BTreeMap<String, String>, when: &str) {
        for (key, possible) in &mut self.keys {
            let there = found.get(key).cloned();
            let short =
                |value: &Option<String>| value.as_ref().map(|value| value.trim_end_matches('x').to_owned());
            let expected: Vec<_> = possible.iter().map(short).collect();
            assert!(
                possible.contains(&there),
                "{when}: {key} holds {:?}, not one of {expected:?}",
                short(&there)
            );
            *possible = vec![there];
        }
        let batch: Vec<_> =
            (0..BATCH_KEYS).map(|at| found.get(&format!("{}/batch{at}", self.name))).collect();
        assert!(batch.windows(2).all(|pair| pair[0] == pair[1]), "{when}: half a batch of {}", self.name);
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

/// Starts the server; now and then it is killed while it starts, and started again.
fn start(dir: &Path, policy: &str, random: &mut fastrand::Rng) -> Server {
    let args = ["--wal-sync-policy", policy, "--checkpoint-ops", "400", "--segment-max-bytes", "1MiB"];
    if random.u8(..4) == 0 {
        Server::kill_while_starting(dir, &args, Duration::from_millis(random.u64(..20)));
    }
    Server::start(dir, &args)
}

async fn rounds(policy: &str) {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let seed = number("ESKER_KILL_SEED", fastrand::u64(..1 << 32));
    let rounds = number("ESKER_KILL_ROUNDS", ROUNDS).div_ceil(2);
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = TempDir::new().unwrap();
    let mut writers: Vec<_> = (0..WRITERS).map(|number| Writer::new(number, seed)).collect();
    for round in 0..rounds {
        let mut server = start(dir.path(), policy, &mut random);
        let client = client(&server.endpoint);
        let when = format!("policy {policy}, round {round}, ESKER_KILL_SEED={seed}");
        let found = everything(&client).await;
        writers.iter_mut().for_each(|writer| writer.check(&found, &when));
        let mut tasks: JoinSet<_> = writers.drain(..).map(|writer| writer.write(client.clone())).collect();
        tokio::time::sleep(Duration::from_millis(random.u64(1..RUN_MS_MAX))).await;
        server.kill();
        while let Some(writer) = tasks.join_next().await {
            writers.push(writer.unwrap());
        }
    }
    let server = Server::start(dir.path(), &[]);
    let found = everything(&client(&server.endpoint)).await;
    writers.iter_mut().for_each(|writer| writer.check(&found, "at the end"));
    let acknowledged: u64 = writers.iter().map(|writer| writer.acknowledged).sum();
    assert!(
        acknowledged > rounds,
        "only {acknowledged} operations were acknowledged: the test shows nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_every_write_is_synced() {
    rounds("always").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_no_write_is_synced() {
    rounds("never").await;
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    let Err((code, told)) = Server::try_start(dir.path(), &[]) else {
        panic!("two servers on the same data")
    };
    assert_eq!(code, Some(1));
    assert!(told.contains("locked") && told.contains("--data-dir"), "{told}");
    server.ok(&["put", "k", "the first one lives"]);
}

#[test]
fn data_outlives_an_orderly_restart() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    server.ok(&["put", "k", "v"]);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(Server::start(dir.path(), &[]).ok(&["get", "k"]), "v");
}
