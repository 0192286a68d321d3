//! `esker import`: one thread reads and parses, several connections send atomic batches.
//!
//! ```text
//! file -> records -> lane 0: batch being filled -> queue of 1 -> connection 0
//!                    lane 1: ...
//! ```
//!
//! A key's hash chooses its lane, so that the later of two lines with the same key wins, as if they were sent one
//! by one. Memory is bounded: a lane holds at most three batches (filled, queued, sent).
//!
//! What the server takes is the server's to know: a batch that it refuses is sent again one record at a time, which
//! finds the line that it refuses.

use std::{
    fs::File,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use esker_client::{Batch, Client, Error as ClientError, ErrorCode, Retry, WriteOptions};
use esker_log::clock::{Clock, SystemClock};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
};

use super::{client, progress};
use crate::{
    cli::{Connection, ImportArgs},
    exit::Failure,
    files, output,
    records::{self, Format, Record, Records},
};

const QUEUE: usize = 1;
const BUFFER_BYTES: usize = 1 << 18;

/// What an import did; printed with `--json`.
#[derive(Debug, Serialize)]
struct Summary {
    imported: u64,
    bytes: u64,
    skipped: u64,
    took_ms: u64,
}

/// What the connections have done so far.
#[derive(Debug, Default)]
struct Done {
    operations: AtomicU64,
    bytes: AtomicU64,
    /// Lines that the server refused.
    skipped: AtomicU64,
}

/// A batch, and what it was made of.
#[derive(Debug, Default)]
struct Filled {
    batch: Batch,
    records: Vec<Record>,
}

pub(super) async fn run(connection: &Connection, args: ImportArgs) -> Result<(), Failure> {
    let mut retry = Retry::default();
    retry.within = Duration::from_millis(args.retry_for);
    let client = client(connection, retry)?;
    // Told before the file is read: a wrong address should not look like a slow import.
    client.health().await?;

    let clock = SystemClock::new();
    let (input, bar) = open(&args.file, args.json)?;
    let format = format(&args)?;
    let done = Arc::new(Done::default());
    let name = args.file.display().to_string();
    let lane = Lane {
        client,
        done: Arc::clone(&done),
        name: name.clone().into(),
        skip_bad: args.skip_bad,
        bar: bar.clone(),
    };
    let mut lanes = Lanes::start(&lane, args.connections);
    let queues = std::mem::take(&mut lanes.queues);
    let filler = Filler::new(queues, &args, bar.clone());
    let csv = args.csv.clone();
    let filled = tokio::task::spawn_blocking(move || {
        let records = records::read(format, BufReader::with_capacity(BUFFER_BYTES, input), &csv);
        filler.run(records.map_err(|bad| Failure::Error(format!("{name}: {bad}")))?, &name)
    });
    // A lane's failure explains why the filler stopped, so it is the one to tell.
    let sent = lanes.finish().await;
    let filled = filled.await.map_err(|e| Failure::Error(format!("the reader died: {e}")))?;
    bar.finish_and_clear();

    let imported = done.operations.load(Ordering::Relaxed);
    let outcome = sent.and(filled);
    let skipped = match outcome {
        Ok(skipped) => skipped + done.skipped.load(Ordering::Relaxed),
        Err(failure) => {
            // A batch whose answer did not come may have been, too.
            output::note(format_args!(
                "esker: at least {} imported before this:",
                output::count(imported, "key")
            ));
            return Err(failure);
        }
    };
    let bytes = done.bytes.load(Ordering::Relaxed);
    let took_ms = clock.monotonic().as_millis() as u64;
    report(&Summary { imported, bytes, skipped, took_ms }, args.json)
}

fn report(summary: &Summary, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(summary);
    }
    let Summary { imported, bytes, skipped, took_ms } = summary;
    let rate = imported * 1000 / took_ms.max(&1);
    let size = super::status::size(*bytes);
    let took = output::took(*took_ms);
    let (keys, skipped) = (output::count(*imported, "key"), output::count(*skipped, "line"));
    output::line(format_args!("imported {keys}, {size}, in {took} ({rate} keys/s), {skipped} skipped"))
}

fn format(args: &ImportArgs) -> Result<Format, Failure> {
    args.format
        .or_else(|| Format::of(&args.file))
        .ok_or_else(|| Failure::Usage(format!("{}: say --format jsonl or --format csv", args.file.display())))
}

/// The input, counted by the bar.
enum Input {
    File(File, ProgressBar),
    Stdin(io::Stdin, ProgressBar),
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (read, bar) = match self {
            Self::File(file, bar) => (file.read(buffer)?, bar),
            Self::Stdin(stdin, bar) => (stdin.read(buffer)?, bar),
        };
        bar.inc(read as u64);
        Ok(read)
    }
}

fn open(path: &PathBuf, json: bool) -> Result<(Input, ProgressBar), Failure> {
    if path == Path::new("-") {
        let bar = progress::bar(None, json);
        return Ok((Input::Stdin(io::stdin(), bar.clone()), bar));
    }
    let failed = Failure::doing(format!("reading {}", path.display()));
    let file = files::open(path).map_err(&failed)?;
    let length = file.metadata().map_err(&failed)?.len();
    let bar = progress::bar(Some(length), json);
    Ok((Input::File(file, bar.clone()), bar))
}

/// Reads records and fills the lanes' batches. Runs where blocking is allowed.
struct Filler {
    queues: Vec<mpsc::Sender<Filled>>,
    batches: Vec<Filled>,
    batch_ops: usize,
    batch_bytes: usize,
    skip_bad: bool,
    skipped: u64,
    bar: ProgressBar,
}

impl Filler {
    fn new(queues: Vec<mpsc::Sender<Filled>>, args: &ImportArgs, bar: ProgressBar) -> Self {
        let batches = queues.iter().map(|_| Filled::default()).collect();
        let batch_bytes = usize::try_from(args.batch_bytes).unwrap_or(usize::MAX);
        let (batch_ops, skip_bad) = (args.batch_ops as usize, args.skip_bad);
        Self { queues, batches, batch_ops, batch_bytes, skip_bad, skipped: 0, bar }
    }

    /// Says how many lines were skipped.
    fn run(mut self, records: Records, name: &str) -> Result<u64, Failure> {
        for record in records {
            match record {
                Ok(record) => {
                    if !self.take(record) {
                        // The lane's own failure is told in place of this.
                        return Ok(self.skipped);
                    }
                }
                Err(bad) if self.skip_bad && !bad.fatal => {
                    self.skipped += 1;
                    self.bar.suspend(|| output::note(format_args!("esker: {name}: {bad}: skipped")));
                }
                Err(bad) => {
                    self.flush();
                    return Err(Failure::Error(format!("{name}: {bad}")));
                }
            }
        }
        self.flush();
        Ok(self.skipped)
    }

    /// Whether the lane still takes batches.
    fn take(&mut self, record: Record) -> bool {
        let lane = lane_of(&record.key, self.batches.len());
        let filled = &mut self.batches[lane];
        let bytes = record.key.len() + record.value.len();
        let batch = &filled.batch;
        let full = batch.len() >= self.batch_ops || batch.bytes() + bytes > self.batch_bytes;
        if full && !batch.is_empty() && self.queues[lane].blocking_send(std::mem::take(filled)).is_err() {
            return false;
        }
        let filled = &mut self.batches[lane];
        record.add_to(&mut filled.batch);
        filled.records.push(record);
        true
    }

    fn flush(&mut self) {
        let queues = &self.queues;
        let batches = self.batches.iter_mut().enumerate();
        for (lane, filled) in batches.filter(|(_, filled)| !filled.records.is_empty()) {
            // A closed queue means that its lane failed, which that lane tells itself.
            let _ = queues[lane].blocking_send(std::mem::take(filled));
        }
    }
}

fn lane_of(key: &[u8], lanes: usize) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    (hash % lanes as u64) as usize
}

/// The connections.
struct Lanes {
    queues: Vec<mpsc::Sender<Filled>>,
    tasks: JoinSet<Result<(), Failure>>,
    /// Changes when one has failed.
    stop: watch::Sender<bool>,
}

impl Lanes {
    fn start(lane: &Lane, connections: u16) -> Self {
        let mut tasks = JoinSet::new();
        let mut queues = Vec::new();
        let stop = watch::Sender::new(false);
        for _ in 0..connections {
            let (sender, receiver) = mpsc::channel(QUEUE);
            queues.push(sender);
            tasks.spawn(lane.clone().send_all(receiver, stop.subscribe()));
        }
        Self { queues, tasks, stop }
    }

    /// Waits for all of them. When one fails the others end, behind what they are sending, so that it is counted; then their
    /// queues are closed, and the filler stops.
    async fn finish(mut self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        while let Some(done) = self.tasks.join_next().await {
            let died = |e: JoinError| Err(Failure::Error(format!("a connection's task died: {e}")));
            let done = done.unwrap_or_else(died);
            if done.is_err() {
                self.stop.send_replace(true);
            }
            outcome = outcome.and(done);
        }
        outcome
    }
}

/// One connection.
#[derive(Clone)]
struct Lane {
    client: Client,
    done: Arc<Done>,
    /// The file's.
    name: Arc<str>,
    skip_bad: bool,
    bar: ProgressBar,
}

impl Lane {
    async fn send_all(
        self,
        mut queue: mpsc::Receiver<Filled>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        loop {
            let filled = tokio::select! {
                biased;
                _ = stop.changed() => return Ok(()),
                filled = queue.recv() => filled,
            };
            let Some(Filled { batch, records }) = filled else { return Ok(()) };
            match self.send(batch).await {
                Err(e) if is_about_a_record(&e) => self.send_each(&records).await?,
                sent => sent?,
            }
        }
    }

    async fn send(&self, batch: Batch) -> Result<(), ClientError> {
        let (operations, bytes) = (batch.len() as u64, batch.bytes() as u64);
        self.client.batch(batch, WriteOptions::default()).await?;
        self.done.operations.fetch_add(operations, Ordering::Relaxed);
        self.done.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The records of a batch that was refused, in their order.
    async fn send_each(&self, records: &[Record]) -> Result<(), Failure> {
        for record in records {
            let mut batch = Batch::new();
            record.add_to(&mut batch);
            let Err(e) = self.send(batch).await else { continue };
            if !is_about_a_record(&e) {
                return Err(e.into());
            }
            let bad = format!("{}: line {}: {e}", self.name, record.line);
            if !self.skip_bad {
                return Err(Failure::Error(bad));
            }
            self.done.skipped.fetch_add(1, Ordering::Relaxed);
            self.bar.suspend(|| output::note(format_args!("esker: {bad}: skipped")));
        }
        Ok(())
    }
}

/// Whether the server refused what was sent rather than that anything was.
fn is_about_a_record(e: &ClientError) -> bool {
    matches!(e.code(), Some(ErrorCode::BadRequest | ErrorCode::PayloadTooLarge))
}
