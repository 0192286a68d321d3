//! What is measured: one table, and how large each part is at scale 1.

use serde::{Deserialize, Serialize};

mod drive;
mod perform;
mod sample;

pub use drive::Latency;
pub use perform::{Task, fill_and_stay, perform, prepare};
pub use sample::Sample;

/// A line of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Workload {
    pub name: String,
    pub start: Start,
    pub action: Action,
    pub threads: usize,
    /// Whether an acknowledged write survives a power failure.
    pub synced: bool,
    pub value_bytes: usize,
    /// Operations at scale 1, if it is not time alone that ends it.
    pub operations: Option<u64>,
    /// Seconds at scale 1 after which it ends whatever was done.
    pub seconds: f64,
    /// Whether figures over time are kept for a plot.
    pub sampled: bool,
}

/// What the store holds at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    Empty,
    /// The data is only read, so all workloads use the same store.
    Shared(Dataset),
    /// Of its own, for it is changed.
    Copied(Dataset),
    /// Of its own, and the process that wrote to it last was killed.
    Killed(Dataset),
}

impl Start {
    pub fn dataset(self) -> Option<Dataset> {
        match self {
            Self::Empty => None,
            Self::Shared(dataset) | Self::Copied(dataset) | Self::Killed(dataset) => Some(dataset),
        }
    }
}

/// Records written in random order, in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dataset {
    /// Many keys, small values.
    Small,
    /// YCSB's record size.
    Medium,
    /// The same after a major compaction or merge.
    MediumMerged,
    /// Eight times the memory of the control group in which it is used.
    BeyondMemory,
}

impl Dataset {
    pub fn value_bytes(self) -> usize {
        if self == Self::Small { 100 } else { 1024 }
    }

    pub fn records(self, scale: &Scale) -> u64 {
        match self {
            Self::Small => scale.count(5_000_000),
            Self::Medium | Self::MediumMerged => scale.count(1_000_000),
            Self::BeyondMemory => 8 * scale.memory_limit() / 1024,
        }
    }
}

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Puts of new keys.
    Fill,
    /// Batches of so many new keys.
    FillBatches(u64),
    /// Gets.
    Read(Wanted),
    /// Scans of so many records from a random key on.
    Scan(usize),
    /// A mix, in per cent.
    Ycsb(Mix),
    /// Puts over the keys that are there.
    Overwrite,
    /// Opening and the first read.
    Open,
}

/// Which keys are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    Uniform,
    Zipf,
    Absent,
}

/// The mixes of YCSB; keys are zipfian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    pub read: u64,
    pub update: u64,
    pub insert: u64,
    /// Of 1 to 100 records.
    pub scan: u64,
    /// A read and a write of what was read, changed.
    pub read_modify_write: u64,
}

const NOTHING: Mix = Mix { read: 0, update: 0, insert: 0, scan: 0, read_modify_write: 0 };
const YCSB_A: Mix = Mix { read: 50, update: 50, ..NOTHING };
const YCSB_B: Mix = Mix { read: 95, update: 5, ..NOTHING };
const YCSB_E: Mix = Mix { scan: 95, insert: 5, ..NOTHING };
const YCSB_F: Mix = Mix { read: 50, read_modify_write: 50, ..NOTHING };

/// How deep reads of data beyond memory are queued, of engines as of fio.
const DEPTH_BEYOND_MEMORY: usize = 16;

/// All workloads, in the order of the report.
pub fn all() -> Vec<Workload> {
    let mut all = Vec::new();
    for (size, value_bytes, operations) in
        [("100B", 100, 5_000_000), ("1K", 1024, 2_000_000), ("16K", 16 << 10, 200_000)]
    {
        for threads in [1, 4] {
            let name = format!("fill-{size}-t{threads}");
            all.push(
                workload(name, Start::Empty, Action::Fill, threads)
                    .values(value_bytes)
                    .operations(operations),
            );
        }
    }
    for threads in [1, 8, 64] {
        let name = format!("fill-synced-t{threads}");
        all.push(workload(name, Start::Empty, Action::Fill, threads).synced());
    }
    all.push(workload("batches-synced".into(), Start::Empty, Action::FillBatches(1000), 1).synced());
    for (dataset, size) in [(Dataset::Small, "100B"), (Dataset::Medium, "1K")] {
        for (wanted, how) in
            [(Wanted::Uniform, "uniform"), (Wanted::Zipf, "zipf"), (Wanted::Absent, "absent")]
        {
            for threads in [1, 4] {
                let name = format!("read-{how}-{size}-t{threads}");
                all.push(workload(name, Start::Shared(dataset), Action::Read(wanted), threads));
            }
        }
    }
    all.push(workload("scan-100".into(), Start::Shared(Dataset::Medium), Action::Scan(100), 1));
    all.push(workload("scan-100-merged".into(), Start::Shared(Dataset::MediumMerged), Action::Scan(100), 1));
    for (name, mix) in [("ycsb-a", YCSB_A), ("ycsb-b", YCSB_B), ("ycsb-e", YCSB_E), ("ycsb-f", YCSB_F)] {
        all.push(workload(name.into(), Start::Copied(Dataset::Medium), Action::Ycsb(mix), 4).seconds(20.0));
    }
    all.push(
        workload("overwrite".into(), Start::Copied(Dataset::Medium), Action::Overwrite, 1)
            .operations(10_000_000)
            .seconds(300.0)
            .sampled(),
    );
    all.push(workload("open-clean".into(), Start::Shared(Dataset::Small), Action::Open, 1).operations(1));
    all.push(workload("open-killed".into(), Start::Killed(Dataset::Small), Action::Open, 1).operations(1));
    let beyond = Dataset::BeyondMemory;
    all.push(
        workload(
            "beyond-read".into(),
            Start::Shared(beyond),
            Action::Read(Wanted::Uniform),
            DEPTH_BEYOND_MEMORY,
        )
        .seconds(20.0),
    );
    all.push(
        workload("beyond-ycsb-a".into(), Start::Copied(beyond), Action::Ycsb(YCSB_A), 4)
            .seconds(60.0)
            .sampled(),
    );
    all
}

fn workload(name: String, start: Start, action: Action, threads: usize) -> Workload {
    Workload {
        name,
        start,
        action,
        threads,
        synced: false,
        value_bytes: start.dataset().map_or(100, Dataset::value_bytes),
        operations: None,
        seconds: 10.0,
        sampled: false,
    }
}

impl Workload {
    fn values(mut self, bytes: usize) -> Self {
        self.value_bytes = bytes;
        self
    }

    fn operations(mut self, operations: u64) -> Self {
        self.operations = Some(operations);
        self.seconds(120.0)
    }

    fn seconds(mut self, seconds: f64) -> Self {
        self.seconds = seconds;
        self
    }

    fn synced(mut self) -> Self {
        self.synced = true;
        self
    }

    fn sampled(mut self) -> Self {
        self.sampled = true;
        self
    }

    /// Whether it has to run under the memory limit.
    pub fn beyond_memory(&self) -> bool {
        self.start.dataset() == Some(Dataset::BeyondMemory)
    }

    /// Whether somebody writes while others read, so that readers must be refreshed.
    pub fn writes(&self) -> bool {
        !matches!(self.action, Action::Read(_) | Action::Scan(_) | Action::Open)
    }
}

/// How large everything is, 1 being what `docs/benchmarks.md` shows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Scale(pub f64);

impl Scale {
    pub fn count(&self, at_one: u64) -> u64 {
        ((at_one as f64 * self.0) as u64).max(1)
    }

    /// Bytes of memory for a cache or buffer that has `at_one` at scale 1, but `least` at least.
    pub fn bytes(&self, at_one: u64, least: u64) -> u64 {
        self.count(at_one).max(least)
    }

    /// A time limit: not below what says anything.
    pub fn seconds(&self, at_one: f64) -> f64 {
        (at_one * self.0).max(0.5)
    }

    /// Of the control group for data beyond memory. Below the least, the engines' fixed needs would be most of it.
    pub fn memory_limit(&self) -> u64 {
        self.bytes(512 << 20, 64 << 20)
    }
}
