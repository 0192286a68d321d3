//! A run: what every connection shares.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    BenchArgs,
    data::Data,
    distribution::Chooser,
    random::{Random, mix},
    workload::{Kind, Workload},
};

/// Keys in one write while loading.
const LOAD_BATCH: u32 = 100;

/// What to do, how much of it and when.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) workload: Workload,
    pub(super) data: Data,
    pub(super) connections: u32,
    pub(super) threads: usize,
    pub(super) batch: u32,
    pub(super) scan_length: u64,
    /// Operations to claim; those of the warm-up are not among them.
    pub(super) operations: u64,
    pub(super) duration: Option<Duration>,
    pub(super) warmup: Duration,
    pub(super) rate: Option<u64>,
    pub(super) seed: u64,
    chooser: Chooser,
    /// No record of this number or above is inserted.
    records_max: u64,
    /// Operations begun.
    claimed: AtomicU64,
    /// The number of the next record to insert.
    next: AtomicU64,
    /// Records that are there: chosen from.
    present: AtomicU64,
}

impl Plan {
    /// The run that is measured.
    pub(super) fn new(args: &BenchArgs) -> Arc<Self> {
        let fills = args.workload == Workload::Fill;
        let present = if fills { 0 } else { args.records };
        // A fill ends when every record was inserted, whatever the time.
        let operations = match (fills, args.duration) {
            (true, _) => args.records.div_ceil(u64::from(args.batch)),
            (false, Some(_)) => u64::MAX,
            (false, None) => args.operations,
        };
        let shape = args.distribution.unwrap_or(args.workload.shape());
        let data = Data::new(
            args.key_bytes as usize,
            args.value_bytes as usize,
            args.key_order,
            args.compressible,
            args.seed,
        );
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            workload: args.workload,
            data,
            connections: args.connections,
            threads: args.threads.map_or(cores, usize::from).min(args.connections as usize),
            batch: args.batch,
            scan_length: args.scan_length,
            operations,
            duration: args.duration.map(Duration::from_millis),
            warmup: Duration::from_millis(args.warmup),
            rate: args.rate,
            seed: args.seed,
            chooser: Chooser::new(shape, args.records),
            records_max: if fills { args.records } else { u64::MAX },
            claimed: AtomicU64::new(0),
            next: AtomicU64::new(present),
            present: AtomicU64::new(present),
        })
    }

    /// The run that makes the records a workload needs, as fast as it goes.
    pub(super) fn load(args: &BenchArgs) -> Arc<Self> {
        // A batch of large values stays far below the server's limit.
        let most = (8 << 20) / args.value_bytes.max(1);
        let batch = LOAD_BATCH.min(u32::try_from(most.max(1)).unwrap_or(LOAD_BATCH));
        let workload = Workload::Fill;
        let args = BenchArgs { workload, batch, duration: None, warmup: 0, rate: None, ..args.clone() };
        Self::new(&args)
    }

    pub(super) fn chooser(&self) -> Chooser {
        self.chooser.clone()
    }

    /// The random numbers of one connection.
    pub(super) fn random(&self, connection: u32) -> Random {
        Random::new(self.seed ^ mix(u64::from(connection) + 1))
    }

    /// Whether another operation is to be begun.
    pub(super) fn claim(&self) -> bool {
        self.claimed.fetch_add(1, Ordering::Relaxed) < self.operations
    }

    /// What the next operation does.
    pub(super) fn kind(&self, random: &mut Random) -> Kind {
        self.workload.choose(random)
    }

    /// The numbers of up to `count` records to insert: the last batch of a fill may be smaller.
    pub(super) fn take_new(&self, count: u32) -> std::ops::Range<u64> {
        let start = self.next.fetch_add(u64::from(count), Ordering::Relaxed);
        start..(start + u64::from(count)).min(self.records_max)
    }

    /// So many records were inserted.
    pub(super) fn inserted(&self, count: u64) {
        self.present.fetch_add(count, Ordering::Relaxed);
    }

    /// How many records there are to choose from.
    pub(super) fn present(&self) -> u64 {
        self.present.load(Ordering::Relaxed).max(1)
    }
}
