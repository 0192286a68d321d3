//! What the tests of the store share: a model to compare with, a workload to replay, a simulated machine to run it on.

pub(crate) mod changes;
pub(crate) mod engines;
pub(crate) mod model;
pub(crate) mod replica;
pub(crate) mod rich;
pub(crate) mod survival;
pub(crate) mod workload;

use std::{sync::Arc, time::Duration};

use esker_engine::{Db, Environment, Error, Options, Result, SyncPolicy};
use esker_log::{clock::ManualClock, disk::sim::SimDisk, format::StoreId};

/// Where the stores of the tests live on the simulated disk.
pub(crate) const DIR: &str = "/store";

pub(crate) const STORE_ID: StoreId = [7; 16];

/// A machine with one simulated disk and a clock that stands still.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
}

impl Machine {
    pub(crate) fn new(disk: SimDisk) -> Self {
        Self { disk, clock: Arc::default() }
    }

    pub(crate) fn environment(&self) -> Environment {
        Environment {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::clone(&self.clock) as _,
            store_id: || Ok(STORE_ID),
            threads: false,
        }
    }

    pub(crate) fn open(&self, options: &Options) -> Result<Db> {
        Db::open_in(&self.environment(), DIR, options.clone())
    }
}

/// Small segments and caches and frequent checkpoints, so that a short workload meets every kind of file.
pub(crate) fn small_options(sync: SyncPolicy) -> Options {
    let mut options = Options::default();
    options.sync = sync;
    options.segment_max_bytes = 4096;
    options.checkpoint_ops = 16;
    options.checkpoint_interval = Duration::from_secs(1);
    options.cache_max_bytes = 64 << 10;
    options.open_threads = 1;
    options
}

/// How often a test repeats with other seeds: `ESKER_CRASH_SEEDS`, 1 by default.
pub(crate) fn seed_factor() -> u64 {
    std::env::var("ESKER_CRASH_SEEDS").ok().map_or(1, |text| text.parse().expect("a number of seeds"))
}

/// Whether an error means that the simulated machine went off.
pub(crate) fn is_power_off(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => esker_log::disk::sim::PoweredOff::is(source),
        Error::Poisoned(why) => why.contains("machine is off"),
        _ => false,
    }
}

/// Splitmix64 (Steele, Lea, Flood 2014).
#[derive(Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
