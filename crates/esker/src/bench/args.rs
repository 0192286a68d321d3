//! The options of the load generator.

use std::num::NonZeroUsize;

use clap::{Args, builder::RangedU64ValueParser};

use esker_client::Ack;
use esker_engine::SyncPolicy;

use super::{data::Order, distribution::Shape, session::Target, workload::Workload};
use crate::{
    cli::{bytes, millis},
    exit::Failure,
};

fn at_least_one() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..)
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// What to do. YCSB: a (half reads, half updates), b (95% reads), c (reads), d (95% reads of the latest, 5%
    /// inserts), e (95% short scans, 5% inserts), f (half reads, half read-modify-writes)
    #[arg(value_enum, default_value_t = Workload::A)]
    pub(crate) workload: Workload,
    /// What to measure: http://host:port, esker://host:port (the binary protocol) or grpc://host:port, or several with commas
    /// between; redis://host:port; each with an s before the colon for TLS; or dir:PATH for the engine in this process. By
    /// default the endpoints
    #[arg(long, value_name = "URL")]
    pub(crate) target: Option<String>,
    /// Records there are before the run; what fill writes
    #[arg(short = 'r', long, value_name = "N", default_value_t = 100_000, value_parser = at_least_one())]
    pub(crate) records: u64,
    /// Operations to measure
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100_000, value_parser = at_least_one())]
    pub(crate) operations: u64,
    /// Measure for this long instead of a number of operations
    #[arg(short = 'd', long, value_name = "TIME", value_parser = millis, conflicts_with = "operations")]
    pub(crate) duration: Option<u64>,
    /// Run for this long before measuring
    #[arg(long, value_name = "TIME", value_parser = millis, default_value = "0")]
    pub(crate) warmup: u64,
    /// Connections, each with one request at a time; with dir: threads
    #[arg(short = 'c', long, value_name = "N", default_value_t = 16, value_parser = RangedU64ValueParser::<u32>::new().range(1..=100_000))]
    pub(crate) connections: u32,
    /// Threads the connections are spread over; by default as many as cores
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Operations a second over all connections; latency then counts from when an operation should have begun
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    pub(crate) rate: Option<u64>,
    /// The length of keys
    #[arg(long, value_name = "SIZE", default_value = "24B", value_parser = bytes)]
    pub(crate) key_bytes: u64,
    /// The length of values
    #[arg(long, value_name = "SIZE", default_value = "1000B", value_parser = bytes)]
    pub(crate) value_bytes: u64,
    /// How much of a value compresses away, from 0 to 1
    #[arg(long, value_name = "RATIO", default_value_t = 0.5, value_parser = ratio)]
    pub(crate) compressible: f64,
    /// How keys are chosen; by default what the workload says: latest for d, zipfian for the rest of YCSB, uniform
    /// for read and scan
    #[arg(long, value_enum)]
    pub(crate) distribution: Option<Shape>,
    /// How keys follow from the order in which they are inserted
    #[arg(long, value_enum, default_value_t = Order::Random)]
    pub(crate) key_order: Order,
    /// Keys in one write of fill; atomic but on Redis, where it is a pipeline
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<u32>::new().range(1..=100_000))]
    pub(crate) batch: u32,
    /// The longest scan; lengths are uniform from 1
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one())]
    pub(crate) scan_length: u64,
    /// When writes are on the disk: always (before they are acknowledged), every:MS or never. A server takes it as
    /// a wish for more than its own policy, which holds by default; with dir: the default is always
    #[arg(long, value_name = "POLICY", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub(crate) sync: Option<SyncPolicy>,
    /// Whose disks a write is on when it is acknowledged: of a majority of the cluster (majority), of the leader (local)
    /// or of all (all) [default: majority]
    #[arg(long, value_name = "WHO")]
    pub(crate) ack: Option<Ack>,
    /// Reads are content with what the node has that answers
    #[arg(long)]
    pub(crate) stale: bool,
    /// Spread the connections over all nodes that are given, as stale reads always are. By default they go to the one that
    /// leads, as those of the client library do
    #[arg(long, conflicts_with = "stale")]
    pub(crate) spread: bool,
    /// The records are there already, from an earlier run with the same sizes and key order
    #[arg(long)]
    pub(crate) no_load: bool,
    /// What the random numbers begin with: the same seed gives the same operations on each connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl BenchArgs {
    /// Refuses what makes no sense together.
    pub(super) fn check(&self, target: &Target) -> Result<(), Failure> {
        use super::data::KEY_LEN_MIN;
        let refused = if self.key_bytes < KEY_LEN_MIN || self.key_bytes > esker_wire::KEY_LEN_MAX as u64 {
            format!("--key-bytes goes from {KEY_LEN_MIN} to {}", esker_wire::KEY_LEN_MAX)
        } else if self.value_bytes > 1 << 30 {
            "--value-bytes goes to 1GiB".into()
        } else if self.batch > 1 && self.workload != Workload::Fill {
            "--batch is for fill".into()
        } else if self.no_load && self.workload == Workload::Fill {
            "--no-load is not for fill, which loads nothing".into()
        } else if self.warmup > 0 && self.workload == Workload::Fill {
            "--warmup is not for fill, where every record counts".into()
        } else if matches!(target, Target::Redis(_)) && self.workload.scans() {
            "Redis has no ordered scans: workloads e and scan cannot run on it".into()
        } else if matches!(target, Target::Redis(_)) && self.sync.is_some() {
            "--sync cannot be asked for over the Redis protocol: configure that server".into()
        } else if !target.is_esker() && (self.ack.is_some() || self.stale) {
            "--ack and --stale are for a running Esker".into()
        } else if matches!(target, Target::Embedded(_)) && self.threads.is_some() {
            "--threads is for connections; with dir: every connection is a thread".into()
        } else {
            return Ok(());
        };
        Err(Failure::Usage(refused))
    }

    /// Whether what is measured is the engine in this process.
    pub(crate) fn blocks(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.starts_with("dir:"))
    }

    /// Which policy the writes are under, as far as that is known here.
    pub(super) fn sync_name(&self, target: &Target) -> String {
        match (self.sync, target) {
            (Some(policy), _) => policy.to_string(),
            (None, Target::Embedded(_)) => SyncPolicy::default().to_string(),
            (None, _) => "server's".into(),
        }
    }

    pub(super) fn needs_load(&self) -> bool {
        self.workload != Workload::Fill && !self.no_load
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: Option<f64> = text.parse().ok();
    ratio.filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| "give a number from 0 to 1".into())
}
