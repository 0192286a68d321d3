//! CHECKS 14, 1, 20, SPEC 5.3: in the middle of endless overwriting somebody else's file takes the rest of the file system.
//! Writes are refused with 507, reads go on, and what is there verifies; when the file goes, writes resume without a restart.
//! Nothing that was acknowledged is lost and nothing that was refused appears, also after `kill -9`, with the disk full or not.
//!
//! Needs root and loop devices; where they are missing the test says that it was skipped.

use crate::support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use esker_client::{Client, Error, ErrorCode, Retry, Settings};
use support::{Server, image::Image};
use tokio::task::JoinSet;

const WRITERS: u64 = 4;
const KEYS_PER_WRITER: u64 = 16;
/// Room for a dozen times what lives, so that it is merging which keeps the store within it before somebody else comes.
const IMAGE_MIB: u64 = 96;
/// A part of the values is large: this one has no room where a small one may still have some.
const LARGE: usize = 256 << 10;
const SMALL: usize = 1 << 10;

/// What the writers have met since it was last asked.
#[derive(Default)]
struct Met {
    stop: AtomicBool,
    /// The server is being killed: calls may break.
    dying: AtomicBool,
    acknowledged: [AtomicU64; WRITERS as usize],
    refused: [AtomicU64; WRITERS as usize],
}

impl Met {
    /// Whether the server is being killed.
    fn is_dying(&self) -> bool {
        self.dying.load(Ordering::Acquire)
    }

    fn forget(&self) {
        self.acknowledged.iter().chain(&self.refused).for_each(|count| count.store(0, Ordering::Release));
    }
}

/// One writer, and what its keys may hold: what was acknowledged last, and perhaps one more whose end nobody saw.
struct Writer {
    number: u64,
    random: fastrand::Rng,
    sequence: u64,
    keys: BTreeMap<String, Vec<Option<Vec<u8>>>>,
}

impl Writer {
    fn new(number: u64) -> Self {
        Self { number, random: fastrand::Rng::with_seed(number), sequence: 0, keys: BTreeMap::new() }
    }

    fn value(&mut self) -> Vec<u8> {
        self.sequence += 1;
        let len = if self.random.u8(..8) == 0 { LARGE } else { SMALL };
        let mut value = vec![self.sequence as u8; len];
        value[..8].copy_from_slice(&self.sequence.to_be_bytes());
        value
    }

    /// Overwrites until the server is gone, or until it is told to stop.
    async fn write(mut self, client: Client, met: Arc<Met>) -> Self {
        while !met.stop.load(Ordering::Acquire) {
            let key = format!("{}/{:02}", self.number, self.random.u64(..KEYS_PER_WRITER));
            let value = self.value();
            match client.put(key.as_bytes(), value.clone()).await {
                Ok(_) => {
                    self.keys.insert(key, vec![Some(value)]);
                    met.acknowledged[self.number as usize].fetch_add(1, Ordering::AcqRel);
                }
                Err(Error::Server { status: 507, code: ErrorCode::DiskFull, message }) => {
                    assert!(message.contains("disk is full"), "{message}");
                    if !self.reads_what_it_wrote(&client, &key, &met).await {
                        return self;
                    }
                    met.refused[self.number as usize].fetch_add(1, Ordering::AcqRel);
                }
                Err(error) => {
                    assert!(met.is_dying(), "{error:?}");
                    // Nobody knows what became of this one.
                    self.keys.entry(key).or_insert_with(|| vec![None]).push(Some(value));
                    return self;
                }
            }
        }
        self
    }

    /// False: the server was killed meanwhile.
    async fn reads_what_it_wrote(&self, client: &Client, key: &str, met: &Met) -> bool {
        let found = match client.get(key.as_bytes()).await {
            Ok(found) => found.map(|entry| entry.value.to_vec()),
            Err(_) if met.is_dying() => return false,
            Err(error) => panic!("reads go on: {error:?}"),
        };
        assert_eq!(Some(&found), self.keys.get(key).map_or(Some(&None), |known| known.last()), "{key}");
        true
    }

    /// Holds what is there against what may be there, and takes it for known.
    async fn check(&mut self, client: &Client, when: &str) {
        for (key, possible) in &mut self.keys {
            let found = client.get(key.as_bytes()).await.unwrap().map(|entry| entry.value.to_vec());
            let number = |value: &Option<Vec<u8>>| value.as_ref().map(|value| value[..8].to_vec());
            assert!(
                possible.contains(&found),
                "{when}: {key} holds {:?}, not one of {:?}",
                number(&found),
                possible.iter().map(number).collect::<Vec<_>>()
            );
            *possible = vec![found];
        }
    }
}

/// The writers, at work.
struct Work {
    met: Arc<Met>,
    tasks: JoinSet<Writer>,
}

impl Work {
    fn begin(writers: Vec<Writer>, client: &Client) -> Self {
        let met = Arc::<Met>::default();
        let start = |writer: Writer| writer.write(client.clone(), Arc::clone(&met));
        let tasks = writers.into_iter().map(start).collect();
        Self { met, tasks }
    }

    /// Until every writer has met so many more.
    async fn until(&self, count: impl Fn(&Met) -> &[AtomicU64], at_least: u64, meanwhile: impl Fn()) {
        self.met.forget();
        let within = async {
            while count(&self.met).iter().any(|count| count.load(Ordering::Acquire) < at_least) {
                meanwhile();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), within).await.expect("it comes to that");
    }

    /// Kills the server under the writers.
    async fn end_with(self, server: &mut Server) -> Vec<Writer> {
        self.met.dying.store(true, Ordering::Release);
        server.kill();
        self.end().await
    }

    async fn end(mut self) -> Vec<Writer> {
        self.met.stop.store(true, Ordering::Release);
        let mut writers = Vec::new();
        while let Some(writer) = self.tasks.join_next().await {
            writers.push(writer.unwrap());
        }
        writers
    }
}

fn client(server: &Server) -> Client {
    let mut settings = Settings::default();
    settings.retry = Retry::never();
    Client::with_settings(&server.endpoint, settings).unwrap()
}

fn start(data: &Path) -> Server {
    Server::start(
        data,
        &["--wal-sync-policy", "never", "--segment-max-bytes", "4MiB", "--checkpoint-ops", "500"],
    )
}

fn refused(met: &Met) -> &[AtomicU64] {
    &met.refused
}

fn acknowledged(met: &Met) -> &[AtomicU64] {
    &met.acknowledged
}

async fn check_all(writers: &mut [Writer], server: &Server, when: &str) {
    let client = client(server);
    for writer in writers {
        writer.check(&client, when).await;
    }
    assert!(server.ok(&["verify", "--json"]).contains(r#""intact":true"#), "{when}");
}

/// Now and then a small write still fits, and it is no longer full.
async fn health_tells(client: &Client, image: &Image) {
    while client.health().await.unwrap().status != "disk_full" {
        image.fill();
    }
}

/// CHECKS 14, 1, 20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_somebody_else_fills_costs_nothing_acknowledged() {
    let Some(image) = Image::or_skip(IMAGE_MIB, &[]) else { return };
    let mut server = start(&image.data());
    let work = Work::begin((0..WRITERS).map(Writer::new).collect(), &client(&server));
    work.until(acknowledged, 300, || ()).await;
    let merges = client(&server).status().await.unwrap().storage.merges;
    assert!(merges > 0, "it has to merge to stay within {IMAGE_MIB} MiB");

    // Merging finds space again and again: what it finds is taken, too.
    work.until(refused, 20, || image.fill()).await;
    assert!(server.ok(&["verify", "--json"]).contains(r#""intact":true"#));
    health_tells(&client(&server), &image).await;
    image.free();
    work.until(acknowledged, 100, || ()).await;
    let mut writers = work.end_with(&mut server).await;

    server = start(&image.data());
    check_all(&mut writers, &server, "killed after it was full").await;
    let work = Work::begin(writers, &client(&server));
    work.until(refused, 20, || image.fill()).await;
    let mut writers = work.end_with(&mut server).await;

    image.fill();
    server = start(&image.data());
    check_all(&mut writers, &server, "killed and started again while it was full").await;
    image.free();
    let work = Work::begin(writers, &client(&server));
    work.until(acknowledged, 100, || ()).await;
    let mut writers = work.end().await;
    check_all(&mut writers, &server, "after the space came back").await;
    // Before the image is unmounted.
    drop(server);
}
