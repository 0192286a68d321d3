//! `GET /status`: how the node fares. Every figure is measured.

use std::time::Duration;

use esker_cluster::{ClusterView, Status};
use esker_engine::CacheStats;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Answer,
    shapes::{Envelope, success},
};
use crate::{access::Door, http::answer::AnswerRoom, metrics::Lately};

/// How the node fares.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusData {
    system: SystemStatus,
    storage: Storage,
    cache: CacheStatus,
    cluster: ClusterStatus,
    performance: Performance,
}

/// What the node is.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct SystemStatus {
    /// Since the store was opened, as in `2h 15m 30s`.
    uptime: String,
    version: &'static str,
    node_id: u64,
}

/// What is on its disk.
#[derive(Debug, Serialize, ToSchema)]
struct Storage {
    /// Segments of the log and merged ones.
    total_segments: u64,
    /// The number of the segment that is written to.
    active_segment: u32,
    total_keys: u64,
    /// Bytes of all segments.
    total_size_bytes: u64,
    /// The bytes of values as stored, in parts of what was written since the store was opened; 1 where nothing was compressed.
    compression_ratio: f64,
}

/// The values in memory.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct CacheStatus {
    entries: u64,
    /// How many would fit, if they were as large as those that are there; 0 while none is: the cache is bounded by its bytes.
    max_entries: u64,
    /// Reads that it answered, in parts of all.
    hit_rate: f64,
    memory_usage_bytes: u64,
}

/// What it knows of its cluster.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct ClusterStatus {
    enabled: bool,
    node_count: u64,
    /// Null while it knows of none.
    leader_id: Option<u64>,
    current_term: u64,
    commit_index: u64,
}

/// How busy it is.
#[derive(Debug, Serialize, ToSchema)]
struct Performance {
    /// Requests about keys in the last 10 seconds, for each of them, over all HTTP APIs.
    operations_per_second: f64,
    /// To the head of their answers; 0 if there were none.
    average_latency_ms: f64,
    /// Whether segments are being merged now.
    compaction_running: bool,
}

/// How the node fares.
#[utoipa::path(get, path = "/status", tag = "envelope dialect", responses(
    (status = 200, description = "This node's figures", body = Envelope<StatusData>),
))]
pub(super) fn status(door: &Door) -> Answer {
    let lately = door.metrics.lately(door.clock().monotonic());
    let data = StatusData::new(&door.status()?, door.cluster()?.as_ref(), lately);
    Ok(success(door, data, AnswerRoom::none()))
}

impl StatusData {
    fn new(status: &Status, cluster: Option<&ClusterView>, lately: Lately) -> Self {
        let stats = &status.stats;
        Self {
            system: SystemStatus {
                uptime: uptime(status.uptime),
                version: env!("CARGO_PKG_VERSION"),
                node_id: status.node_id,
            },
            storage: Storage {
                total_segments: stats.segments + stats.merged_segments,
                active_segment: stats.active_segment,
                total_keys: stats.keys,
                total_size_bytes: stats.log_bytes,
                compression_ratio: stats.compression.ratio(),
            },
            cache: CacheStatus::of(&stats.cache),
            cluster: ClusterStatus {
                enabled: cluster.is_some(),
                node_count: cluster.map_or(1, |view| view.members.len() as u64),
                leader_id: status.leader_id,
                current_term: status.term,
                commit_index: status.commit_index,
            },
            performance: Performance {
                operations_per_second: lately.requests_per_second,
                average_latency_ms: lately.mean_latency.as_secs_f64() * 1e3,
                compaction_running: stats.merges.running,
            },
        }
    }
}

impl CacheStatus {
    fn of(cache: &CacheStats) -> Self {
        let fit = u128::from(cache.capacity) * u128::from(cache.values) / u128::from(cache.bytes.max(1));
        Self {
            entries: cache.values,
            max_entries: u64::try_from(fit).unwrap_or(u64::MAX),
            hit_rate: cache.hit_rate(),
            memory_usage_bytes: cache.bytes,
        }
    }
}

/// As in `2h 15m 30s`; the hours go on counting.
fn uptime(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}h {}m {}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_in_hours_minutes_and_seconds() {
        assert_eq!(uptime(Duration::from_secs(8130)), "2h 15m 30s");
        assert_eq!(uptime(Duration::from_millis(999)), "0h 0m 0s");
        assert_eq!(uptime(Duration::from_secs(100 * 3600)), "100h 0m 0s");
    }

    #[test]
    fn as_many_fit_as_are_of_the_size_of_those_that_are_there() {
        let cache = CacheStats { capacity: 1000, bytes: 30, values: 3, hits: 1, misses: 3 };
        let of = CacheStatus::of(&cache);
        assert_eq!((of.entries, of.max_entries, of.hit_rate, of.memory_usage_bytes), (3, 100, 0.25, 30));
        assert_eq!(CacheStatus::of(&CacheStats::default()).max_entries, 0);
    }
}
