//! What the server counts, and how `/metrics` tells it.
//!
//! Counting is done with the Store's per-thread counters; prometheus-client only writes the text, from figures
//! collected when somebody asks.

mod recent;

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use esker_cluster::{
    ClusterView, Role, Status,
    metrics::{Counter, Histogram, HistogramSnapshot, StoreMetrics},
};
use http::{HeaderValue, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text::encode as encode_text},
    metrics::MetricType,
    registry::Registry,
};

use crate::{access::Door, http::Dialect, process};

use recent::Totals;
pub(crate) use recent::{Lately, Recent};

/// What a request asks for, as far as the metrics tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Put,
    Delete,
    Incr,
    DeleteRange,
    MultiGet,
    List,
    Batch,
    Watch,
    Other,
}

impl Operation {
    const ALL: [Self; 10] = [
        Self::Get,
        Self::Put,
        Self::Delete,
        Self::Incr,
        Self::DeleteRange,
        Self::MultiGet,
        Self::List,
        Self::Batch,
        Self::Watch,
        Self::Other,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Incr => "incr",
            Self::DeleteRange => "delete_range",
            Self::MultiGet => "mget",
            Self::List => "list",
            Self::Batch => "batch",
            Self::Watch => "watch",
            Self::Other => "other",
        }
    }
}

/// Statuses by their first digit.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn class_of(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1
}

/// What the server counts.
#[derive(Default)]
pub(crate) struct ServerMetrics {
    requests: [OperationMetrics; Operation::ALL.len()],
    /// Those of them that came in a dialect.
    dialects: [[Counter; Operation::ALL.len()]; Dialect::ALL.len()],
    pub(crate) connections_accepted: Counter,
    /// Over the cap.
    pub(crate) connections_refused: Counter,
    /// Dropped because the client took nothing of an answer.
    pub(crate) connections_stalled: Counter,
    /// Failures for want of files or memory.
    pub(crate) accept_errors: Counter,
    /// Threads that have connections of their own, and take more.
    pub(crate) homes_open: AtomicU64,
    request_ids: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct OperationMetrics {
    /// To the head of the answer.
    latency: Histogram,
    statuses: [Counter; CLASSES.len()],
}

impl ServerMetrics {
    pub(crate) fn record(&self, operation: Operation, status: StatusCode, took: Duration) {
        let metrics = &self.requests[operation as usize];
        metrics.latency.record(took);
        metrics.statuses[class_of(status)].add_one();
    }

    /// A request came in a dialect.
    pub(crate) fn spoken(&self, dialect: Dialect, operation: Operation) {
        self.dialects[dialect as usize][operation as usize].add_one();
    }

    /// How many came in each dialect, by its name and the operation's.
    fn dialects(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let all = Dialect::ALL.iter().zip(&self.dialects);
        all.flat_map(|(dialect, counts)| {
            let counts = Operation::ALL.iter().zip(counts);
            counts.map(|(operation, count)| (dialect.as_str(), operation.as_str(), count.get()))
        })
    }

    /// How many requests for an operation were answered.
    pub(crate) fn answered(&self, operation: Operation) -> u64 {
        self.requests[operation as usize].statuses.iter().map(Counter::get).sum()
    }

    /// How many requests were answered with a status of 500 or more.
    pub(crate) fn failed(&self) -> u64 {
        self.requests
            .iter()
            .map(|metrics| metrics.statuses[class_of(StatusCode::INTERNAL_SERVER_ERROR)].get())
            .sum()
    }

    /// The requests about keys that were answered until now, and how long all of them took together.
    fn totals(&self) -> Totals {
        let about_keys = Operation::ALL.iter().filter(|operation| **operation != Operation::Other);
        let latencies = about_keys.map(|&operation| self.requests[operation as usize].latency.snapshot());
        latencies.fold(Totals::default(), |totals, latency| Totals {
            requests: totals.requests + latency.count(),
            nanos: totals.nanos + latency.sum_ns,
        })
    }

    /// How busy the server has been lately.
    pub(crate) fn lately(&self, now: Duration) -> Lately {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).lately(now, self.totals())
    }

    /// To be called about every [`Recent::EVERY`].
    pub(crate) fn note_totals(&self, now: Duration) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(now, self.totals());
    }

    /// An id for a request that brought none but is worth finding in the log. Unique within the process.
    pub(crate) fn next_request_id(&self) -> HeaderValue {
        HeaderValue::from(self.request_ids.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// The metrics as OpenMetrics text.
pub(crate) fn encode(door: &Door) -> esker_cluster::Result<Result<String, fmt::Error>> {
    door.store_metrics()?;
    Ok(encode_figures(door))
}

fn encode_figures(door: &Door) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(door.clone())));
    let mut text = String::new();
    encode_text(&mut text, &registry)?;
    Ok(text)
}

struct Figures(Door);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.requests(&mut writer)?;
        self.connections(&mut writer)?;
        self.resp(&mut writer)?;
        self.grpc(&mut writer)?;
        self.binary(&mut writer)?;
        // Whoever may not was refused before.
        let (store, status, view) = self.0.store_metrics().map_err(|_| fmt::Error)?;
        Self::store(&mut writer, store)?;
        let watchers = self.0.watchers().map_err(|_| fmt::Error)?;
        Self::watches(&mut writer, store, watchers as u64)?;
        Self::engine(&mut writer, status)?;
        if let Some(view) = view {
            cluster_figures(&mut writer, &view)?;
        }
        self.access(&mut writer)?;
        self.memory(&mut writer)?;
        process_figures(&mut writer)
    }
}

impl Figures {
    fn requests(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let all = || Operation::ALL.iter().zip(&self.0.metrics.requests);
        let counts = all().flat_map(|(operation, metrics)| {
            let counts = CLASSES.iter().zip(&metrics.statuses);
            counts
                .map(|(class, count)| ([("operation", operation.as_str()), ("status", *class)], count.get()))
        });
        let counts = counts.filter(|(_, count)| *count > 0);
        writer.counters("esker_http_requests", "Requests answered", counts)?;
        let spoken = self.0.metrics.dialects().filter(|(_, _, count)| *count > 0);
        let spoken = spoken
            .map(|(dialect, operation, count)| ([("dialect", dialect), ("operation", operation)], count));
        writer.counters("esker_http_dialect_requests", "Requests in a dialect, of those answered", spoken)?;
        let latencies = all().map(|(operation, metrics)| (operation.as_str(), metrics.latency.snapshot()));
        writer.histograms("esker_http_request_seconds", "Time to the head of the answer", latencies)
    }

    fn connections(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let front = &self.0;
        let all = front.connections.load(Ordering::Relaxed) as u64;
        let others = front.resp.clients.count() as u64
            + front.binary.connections()
            + front.grpc.metrics.connections.load(Ordering::Relaxed) as u64;
        let open = all.saturating_sub(others);
        writer.gauge("esker_http_connections", "Open connections", open)?;
        let homes = front.metrics.homes_open.load(Ordering::Relaxed);
        writer.gauge("esker_homes_open", "Threads that serve connections of their own", homes)?;
        let receiving = front.body_budget.taken() as u64;
        writer.gauge("esker_http_body_bytes", "Bytes of request bodies being received", receiving)?;
        let sending = front.answer_budget.taken() as u64;
        writer.gauge("esker_http_answer_bytes", "Bytes of answers being sent", sending)?;
        let metrics = &front.metrics;
        for (name, help, counter) in [
            ("esker_http_connections_accepted", "Connections accepted", &metrics.connections_accepted),
            ("esker_http_connections_refused", "Connections over the cap", &metrics.connections_refused),
            (
                "esker_http_connections_stalled",
                "Connections dropped while answering",
                &metrics.connections_stalled,
            ),
            ("esker_http_accept_errors", "Failures for want of files or memory", &metrics.accept_errors),
        ] {
            writer.counter(name, help, counter.get())?;
        }
        Ok(())
    }

    fn resp(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let resp = &self.0.resp;
        let commands: Vec<_> = resp.metrics.commands().collect();
        let counts = commands.iter().map(|(name, it)| ([("command", *name), ("front", "resp")], it.count()));
        writer.counters("esker_resp_commands", "Commands of clients of Redis", counts)?;
        let help = "From the arrival of what came together to the answers, by command";
        writer.histograms("esker_resp_request_seconds", help, commands.into_iter())?;
        let help = "From the arrival of what came together to the answers";
        writer.histograms(
            "esker_resp_seconds",
            help,
            std::iter::once(("pipeline", resp.metrics.pipeline())),
        )?;
        let open = resp.clients.count() as u64;
        writer.gauge("esker_resp_connections", "Open connections of clients of Redis", open)?;
        for (name, help, counter) in [
            ("esker_resp_errors", "Answers that were errors", &resp.metrics.errors),
            ("esker_resp_connections_accepted", "Connections accepted", &resp.metrics.connections_accepted),
            ("esker_resp_connections_refused", "Connections over the cap", &resp.metrics.connections_refused),
            (
                "esker_resp_connections_stalled",
                "Connections dropped while answering",
                &resp.metrics.connections_stalled,
            ),
        ] {
            writer.counter(name, help, counter.get())?;
        }
        Ok(())
    }

    fn binary(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let binary = &self.0.binary;
        let counts = binary.metrics.latencies();
        let counts = counts.map(|(verb, it)| ([("request", verb), ("front", "binary")], it.count()));
        writer.counters("esker_binary_requests", "Requests of the binary protocol answered", counts)?;
        let help = "From the arrival of what came together to the answer";
        writer.histograms("esker_binary_request_seconds", help, binary.metrics.latencies())?;
        let help = "Open connections of the binary protocol";
        writer.gauge("esker_binary_connections", help, binary.connections())?;
        let metrics = &binary.metrics;
        for (name, help, counter) in [
            ("esker_binary_errors", "Answers that were errors, or TRY_LATER", &metrics.errors),
            ("esker_binary_connections_accepted", "Connections accepted", &metrics.connections_accepted),
            ("esker_binary_connections_refused", "Connections over the cap", &metrics.connections_refused),
            (
                "esker_binary_connections_stalled",
                "Connections dropped while answering",
                &metrics.connections_stalled,
            ),
        ] {
            writer.counter(name, help, counter.get())?;
        }
        Ok(())
    }

    fn grpc(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let metrics = &self.0.grpc.metrics;
        let calls = metrics.calls().filter(|(_, _, count)| *count > 0);
        let calls = calls.map(|(method, code, count)| ([("method", method), ("code", code)], count));
        writer.counters("esker_grpc_calls", "gRPC calls that ended", calls)?;
        let help = "From a gRPC call's arrival to the head of its answer";
        writer.histograms("esker_grpc_seconds", help, metrics.latencies())?;
        let open = metrics.connections.load(Ordering::Relaxed) as u64;
        writer.gauge("esker_grpc_connections", "Open gRPC connections", open)?;
        for (name, help, counter) in [
            ("esker_grpc_connections_accepted", "Connections accepted", &metrics.connections_accepted),
            ("esker_grpc_connections_refused", "Connections over the cap", &metrics.connections_refused),
            (
                "esker_grpc_connections_stalled",
                "Connections dropped while answering",
                &metrics.connections_stalled,
            ),
            (
                "esker_grpc_connections_abusive",
                "Connections dropped for giving up too many calls",
                &metrics.connections_abusive,
            ),
        ] {
            writer.counter(name, help, counter.get())?;
        }
        Ok(())
    }

    fn access(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let counts = self.0.access.audit.counts().filter(|(_, count)| *count > 0);
        writer.counters("esker_access_denied", "Requests and connections turned away", counts)
    }

    fn memory(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Some(memory) = self.0.config.probe.as_ref().and_then(|probe| probe.memory()) else {
            return Ok(());
        };
        for (name, help, bytes) in [
            ("esker_memory_allocated_bytes", "Memory in use by the program", memory.allocated),
            ("esker_memory_resident_bytes", "Memory that the allocator has of the system", memory.resident),
            ("esker_memory_retained_bytes", "Addresses kept for later, without memory", memory.retained),
            ("esker_memory_metadata_bytes", "Memory for the allocator's own books", memory.metadata),
        ] {
            writer.gauge(name, help, bytes)?;
        }
        Ok(())
    }

    fn store(writer: &mut Writer<'_>, metrics: &StoreMetrics) -> fmt::Result {
        let times = [
            ("write", &metrics.write),
            ("cold_read", &metrics.cold_read),
            ("scan_chunk", &metrics.scan_chunk),
        ];
        let times = times.into_iter().map(|(operation, histogram)| (operation, histogram.snapshot()));
        writer.histograms("esker_store_seconds", "Time in the store, waits included", times)?;
        let refused = metrics.writes_refused.get();
        writer.counter("esker_store_writes_refused", "Writes over the budget of bytes under way", refused)
    }

    fn watches(writer: &mut Writer<'_>, metrics: &StoreMetrics, open: u64) -> fmt::Result {
        writer.gauge("esker_watchers", "Who watches changes", open)?;
        for (name, help, counter) in [
            ("esker_watch_changes", "Changes told to watchers", &metrics.watch_changes),
            ("esker_watch_resyncs", "Watchers told to read anew", &metrics.watch_resyncs),
            ("esker_watches_refused", "Watchers over the limit", &metrics.watches_refused),
        ] {
            writer.counter(name, help, counter.get())?;
        }
        Ok(())
    }

    fn engine(writer: &mut Writer<'_>, status: Status) -> fmt::Result {
        writer.gauge("esker_uptime_seconds", "Since the store was opened", status.uptime.as_secs())?;
        let stats = status.stats;
        let help = "Times that reads, merges and verifications met damaged bytes";
        writer.counter("esker_damage_found", help, stats.damage.times)?;
        for (name, help, figure) in [
            ("esker_engine_keys", "Keys present", stats.keys),
            ("esker_engine_version", "The version of the last committed write", stats.version),
            ("esker_engine_index_bytes", "Memory held by the index", stats.index_bytes),
            ("esker_engine_segments", "Segments of the log", stats.segments),
            ("esker_engine_log_bytes", "Bytes of the log", stats.log_bytes),
            ("esker_engine_live_bytes", "Bytes of live records", stats.live_bytes),
            ("esker_engine_dead_bytes", "Bytes of the log that no live record takes", stats.dead_bytes()),
            ("esker_engine_merged_segments", "Merged segments", stats.merged_segments),
            ("esker_engine_cache_bytes", "Bytes held by the cache of values", stats.cache.bytes),
            ("esker_engine_cache_capacity_bytes", "Bytes that it may hold now", stats.cache.capacity),
            (
                "esker_engine_memory_full",
                "1 if new keys are refused because the index has filled the memory budget",
                u64::from(stats.memory_full),
            ),
            ("esker_engine_snapshots", "Snapshots held", stats.snapshots.held),
            (
                "esker_engine_oldest_snapshot_seconds",
                "For how long the oldest of them is held",
                stats.snapshots.oldest_age.as_secs(),
            ),
            (
                "esker_engine_snapshot_index_bytes",
                "Memory that they hold at most beyond the present index",
                stats.snapshots.index_bytes,
            ),
            (
                "esker_engine_retired_bytes",
                "Bytes of merged segments that are still read from",
                stats.snapshots.retired_bytes,
            ),
            (
                "esker_engine_merge_failed",
                "1 if the last merge failed: it is tried again",
                u64::from(stats.merge_error.is_some()),
            ),
            ("esker_engine_queued_batches", "Batches waiting to be committed", stats.queued_batches),
            ("esker_engine_queued_bytes", "Bytes waiting to be committed", stats.queued_bytes),
            (
                "esker_engine_poisoned",
                "1 if writes are refused for good",
                u64::from(stats.poisoned.is_some()),
            ),
            ("esker_engine_disk_full", "1 if the disk is full", u64::from(stats.disk_full)),
            (
                "esker_engine_checkpoint_failed",
                "1 if the last checkpoint failed: reopening takes longer",
                u64::from(stats.checkpoint_error.is_some()),
            ),
        ] {
            writer.gauge(name, help, figure)?;
        }
        for (name, help, figure) in [
            ("esker_engine_syncs", "Calls of fdatasync on the log", stats.syncs),
            ("esker_engine_groups", "Groups committed", stats.groups),
            ("esker_engine_batches", "Batches committed", stats.batches),
            ("esker_engine_operations", "Operations committed", stats.operations),
            ("esker_engine_bytes_written", "Bytes handed to the disk", stats.bytes_written),
            ("esker_engine_user_bytes", "Bytes of keys and values committed, as stored", stats.user_bytes),
            ("esker_engine_value_bytes_given", "Bytes of values as written", stats.compression.bytes_given),
            (
                "esker_engine_value_bytes_stored",
                "Bytes of values as stored, compressed where it pays",
                stats.compression.bytes_stored,
            ),
            ("esker_engine_cache_hits", "Reads of values that the cache answered", stats.cache.hits),
            ("esker_engine_cache_misses", "Reads of values that it did not answer", stats.cache.misses),
            ("esker_engine_merges", "Merges done", stats.merges.merges),
            ("esker_engine_merge_bytes_copied", "Bytes that merges copied", stats.merges.bytes_copied),
            ("esker_engine_checkpoints", "Checkpoints and hint files written", stats.checkpoints),
        ] {
            writer.counter(name, help, figure)?;
        }
        let throttled = stats.throttled.as_secs_f64();
        writer.counter_f64("esker_engine_throttled_seconds", "Writers waited because of merges", throttled)
    }
}

fn cluster_figures(writer: &mut Writer<'_>, view: &ClusterView) -> fmt::Result {
    for (name, help, figure) in [
        ("esker_raft_is_leader", "1 if this node leads its cluster", u64::from(view.role == Role::Leader)),
        ("esker_raft_term", "The present term", view.term),
        ("esker_raft_committed", "The last write known to be committed", view.committed),
        ("esker_raft_applied", "The last write applied", view.applied),
        ("esker_raft_members", "Members of the cluster", view.members.len() as u64),
    ] {
        writer.gauge(name, help, figure)?;
    }
    let help = "Places of nodes, told by other nodes, that were malformed or too many";
    writer.counter("esker_gossip_ignored", help, view.gossip_ignored)
}

fn process_figures(writer: &mut Writer<'_>) -> fmt::Result {
    let Some(figures) = process::figures() else { return Ok(()) };
    writer.gauge("process_resident_memory_bytes", "Resident memory", figures.resident_bytes)?;
    writer.gauge("process_open_fds", "Open files", figures.open_files)?;
    writer.gauge("process_threads", "Threads", figures.threads)?;
    writer.counter_f64("process_cpu_seconds", "Processor time used", figures.cpu_seconds)
}

/// Writes one metric at a time; prometheus-client appends `_total` to the names of counters.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&(value as f64))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counter_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ([(&'static str, &'l str); 2], u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }

    fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (&'l str, HistogramSnapshot)>,
    ) -> fmt::Result {
        const NANO: f64 = 1e-9;
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (operation, times) in values {
            let bound = |ns| if ns == u64::MAX { f64::INFINITY } else { ns as f64 * NANO };
            let buckets: Vec<_> = times.buckets.iter().map(|&(ns, count)| (bound(ns), count)).collect();
            let (sum, count) = (times.sum_ns as f64 * NANO, times.count());
            let labels = [("operation", operation)];
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}
