//! Two samples of a server, and the figures that lie between them. Pure.
//!
//! Fronts are found by the names of their metrics, so that a new one shows by itself: the times of `esker_X_request_seconds` or
//! `esker_X_seconds` and the counters `esker_X_requests_total` or `esker_X_commands_total` belong to X, and so do the open
//! connections in `esker_X_connections`. A counter that is less than before began anew with the server: all of it is new.

use std::{collections::BTreeMap, time::Duration};

use esker_client::cluster::{Node, NodesAnswer, StatusAnswer};
use serde::Serialize;

use super::{histogram::Histogram, openmetrics::Metrics};

/// What was read of a server at one moment.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Duration,
    pub(super) endpoint: String,
    pub(super) metrics: Metrics,
    pub(super) status: StatusAnswer,
    pub(super) nodes: NodesAnswer,
}

/// What lies between two samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) endpoint: String,
    /// Seconds between the samples.
    pub(super) seconds: f64,
    /// Requests of all fronts a second.
    pub(super) requests_per_second: f64,
    /// Answers that were errors, of all fronts, a second.
    pub(super) errors_per_second: f64,
    pub(super) operations: Vec<Operation>,
    pub(super) connections: BTreeMap<String, u64>,
    pub(super) store: Store,
    /// The answering node and its cluster.
    pub(super) node: NodeFigures,
    pub(super) nodes: Vec<Node>,
}

/// One operation of one front. Times are in microseconds; null where none was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Operation {
    pub(super) front: String,
    pub(super) operation: String,
    pub(super) per_second: f64,
    pub(super) mean_us: Option<f64>,
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) p999_us: Option<f64>,
}

/// The store of the node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Store {
    pub(super) keys: u64,
    /// In use, as the allocator counts.
    pub(super) allocated_bytes: u64,
    pub(super) resident_bytes: u64,
    pub(super) index_bytes: u64,
    pub(super) cache_bytes: u64,
    /// Of the reads between the samples, in parts of one; null if there were none.
    pub(super) cache_hit_rate: Option<f64>,
    pub(super) cpu_cores: f64,
    pub(super) log_bytes: u64,
    pub(super) dead_bytes: u64,
    pub(super) written_bytes_per_second: f64,
    pub(super) syncs_per_second: f64,
    /// Writes committed by one sync; null if there was none.
    pub(super) batches_per_sync: Option<f64>,
    pub(super) merges: u64,
    pub(super) merged_bytes_per_second: f64,
    pub(super) queued_bytes: u64,
    /// The part of the time in which writers waited for merges.
    pub(super) throttled: f64,
}

/// The node that answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct NodeFigures {
    pub(super) id: u64,
    pub(super) role: String,
    pub(super) mode: String,
    pub(super) leader_id: Option<u64>,
    pub(super) term: u64,
    pub(super) committed: u64,
    /// Writes that are committed and not applied yet.
    pub(super) behind: u64,
    pub(super) uptime_seconds: u64,
    pub(super) version: String,
    pub(super) trouble: Option<String>,
}

/// What a counter grew by.
fn growth(before: f64, now: f64) -> f64 {
    if now < before { now } else { now - before }
}

/// Two samples of one node.
struct Between<'a> {
    before: &'a Sample,
    now: &'a Sample,
    seconds: f64,
}

impl Between<'_> {
    fn grown(&self, name: &str) -> f64 {
        growth(self.before.metrics.number(name), self.now.metrics.number(name))
    }

    fn rate(&self, name: &str) -> f64 {
        self.grown(name) / self.seconds
    }

    /// How a family of counters grew, by one label; others are summed up.
    fn grown_by(
        &self,
        name: &str,
        label: &str,
        wanted: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> BTreeMap<String, f64> {
        let before: BTreeMap<_, _> = self.before.metrics.family(name).collect();
        let mut sums = BTreeMap::new();
        for (labels, now) in self.now.metrics.family(name).filter(|(labels, _)| wanted(labels)) {
            let grown = growth(before.get(labels).copied().unwrap_or(0.0), now);
            *sums.entry(labels.get(label).cloned().unwrap_or_default()).or_insert(0.0) += grown;
        }
        sums
    }
}

/// The figures between two samples; `None` where they are of different nodes, or no time lies between.
pub(super) fn figures(before: &Sample, now: &Sample) -> Option<Figures> {
    let seconds = now.at.saturating_sub(before.at).as_secs_f64();
    if before.status.node_id != now.status.node_id || before.endpoint != now.endpoint || seconds <= 0.0 {
        return None;
    }
    let between = Between { before, now, seconds };
    let operations = operations(&between);
    let outside =
        operations.iter().filter(|operation| operation.front != "store" && operation.operation != "pipeline");
    Some(Figures {
        endpoint: now.endpoint.clone(),
        seconds,
        requests_per_second: outside.map(|operation| operation.per_second).sum(),
        errors_per_second: errors(&between),
        connections: connections(&now.metrics),
        store: store(&between),
        node: node(&now.status),
        nodes: now.nodes.nodes.clone(),
        operations,
    })
}

/// The X of `esker_X…` with this ending.
fn front<'a>(name: &'a str, endings: &[&str]) -> Option<&'a str> {
    let name = name.strip_prefix("esker_")?;
    let front = endings.iter().find_map(|ending| name.strip_suffix(ending))?;
    (!front.contains('_')).then_some(front)
}

/// Those that did something, by front, the busiest first.
fn operations(between: &Between<'_>) -> Vec<Operation> {
    let mut all: BTreeMap<(String, String), Operation> = BTreeMap::new();
    let mut entry = |front: &str, operation: &str, per_second: f64, times: Option<&Histogram>| {
        let micros = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1e6);
        let found = Operation {
            front: front.to_owned(),
            operation: operation.to_owned(),
            per_second,
            mean_us: micros(times.and_then(Histogram::mean)),
            p50_us: micros(times.and_then(|times| times.quantile(0.5))),
            p99_us: micros(times.and_then(|times| times.quantile(0.99))),
            p999_us: micros(times.and_then(|times| times.quantile(0.999))),
        };
        all.entry((front.to_owned(), operation.to_owned())).or_insert(found);
    };
    let metrics = &between.now.metrics;
    for name in metrics.names().filter_map(|name| name.strip_suffix("_bucket")) {
        let Some(front) = front(name, &["_request_seconds", "_seconds"]) else { continue };
        let before = Histogram::family(&between.before.metrics, name);
        for (operation, now) in Histogram::family(metrics, name) {
            let new = before.get(&operation).map_or_else(|| now.clone(), |before| now.since(before));
            entry(front, &operation, new.count() / between.seconds, Some(&new));
        }
    }
    for (name, label) in metrics.names().flat_map(|name| [(name, "operation"), (name, "command")]) {
        let ending = if label == "operation" { "_requests_total" } else { "_commands_total" };
        let Some(front) = front(name, &[ending]) else { continue };
        for (operation, grown) in between.grown_by(name, label, |_| true) {
            entry(front, &operation, grown / between.seconds, None);
        }
    }
    let mut busy: Vec<_> = all.into_values().filter(|operation| operation.per_second > 0.0).collect();
    busy.sort_by(|left, right| {
        left.front.cmp(&right.front).then_with(|| right.per_second.total_cmp(&left.per_second))
    });
    busy
}

fn errors(between: &Between<'_>) -> f64 {
    let failed = |labels: &BTreeMap<String, String>| {
        labels.get("status").is_some_and(|status| status.starts_with('5'))
    };
    let names = between.now.metrics.names();
    let grown: f64 = names
        .map(|name| match front(name, &["_requests_total", "_errors_total"]) {
            Some(_) if name.ends_with("_errors_total") => between.grown(name),
            Some(_) => between.grown_by(name, "status", failed).values().sum(),
            None => 0.0,
        })
        .sum();
    grown / between.seconds
}

fn connections(metrics: &Metrics) -> BTreeMap<String, u64> {
    let open = |name: &str| Some((front(name, &["_connections"])?.to_owned(), metrics.number(name) as u64));
    metrics.names().filter_map(open).collect()
}

fn store(between: &Between<'_>) -> Store {
    let (metrics, status) = (&between.now.metrics, &between.now.status.storage);
    let (hits, misses) =
        (between.grown("esker_engine_cache_hits_total"), between.grown("esker_engine_cache_misses_total"));
    let syncs = between.grown("esker_engine_syncs_total");
    let of = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    Store {
        keys: status.keys,
        allocated_bytes: metrics.number("esker_memory_allocated_bytes") as u64,
        resident_bytes: metrics.number("process_resident_memory_bytes") as u64,
        index_bytes: status.index_bytes,
        cache_bytes: status.cache_bytes,
        cache_hit_rate: of(hits, hits + misses),
        cpu_cores: between.rate("process_cpu_seconds_total"),
        log_bytes: status.log_bytes,
        dead_bytes: status.dead_bytes,
        written_bytes_per_second: between.rate("esker_engine_bytes_written_total"),
        syncs_per_second: syncs / between.seconds,
        batches_per_sync: of(between.grown("esker_engine_batches_total"), syncs),
        merges: status.merges,
        merged_bytes_per_second: between.rate("esker_engine_merge_bytes_copied_total"),
        queued_bytes: status.queued_bytes,
        throttled: between.rate("esker_engine_throttled_seconds_total"),
    }
}

fn node(status: &StatusAnswer) -> NodeFigures {
    NodeFigures {
        id: status.node_id,
        role: status.role.to_string(),
        mode: status.mode.to_string(),
        leader_id: status.leader_id,
        term: status.term,
        committed: status.commit_index,
        behind: status.commit_index.saturating_sub(status.applied_index),
        uptime_seconds: status.uptime_seconds,
        version: status.server_version.clone(),
        trouble: status.trouble.clone(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const STATUS: &str = r#"{"node_id":1,"mode":"single","role":"leader","leader_id":1,"term":0,"commit_index":9,
        "applied_index":7,"healthy":true,"trouble":null,"uptime_seconds":61,"server_version":"0","storage":
        {"keys":3,"segments":1,"log_bytes":100,"live_bytes":50,"index_bytes":7,"queued_bytes":0}}"#;

    pub(in crate::commands::top) fn sample(seconds: u64, metrics: &str) -> Sample {
        Sample {
            at: Duration::from_secs(seconds),
            endpoint: "http://h:1".into(),
            metrics: Metrics::parse(metrics),
            status: serde_json::from_str(STATUS).unwrap(),
            nodes: NodesAnswer { nodes: Vec::new() },
        }
    }

    /// A reading in which these were counted.
    pub(in crate::commands::top) fn text(gets: u64, incrs: u64, failed: u64, hits: u64) -> String {
        format!(
            "esker_http_request_seconds_bucket{{operation=\"get\",le=\"0.001\"}} {gets}
esker_http_request_seconds_bucket{{operation=\"get\",le=\"+Inf\"}} {gets}
esker_http_request_seconds_sum{{operation=\"get\"}} 0
esker_http_requests_total{{operation=\"get\",status=\"2xx\"}} {gets}
esker_http_requests_total{{operation=\"get\",status=\"5xx\"}} {failed}
esker_resp_commands_total{{command=\"incr\",front=\"resp\"}} {incrs}
esker_resp_errors_total 0
esker_resp_seconds_bucket{{operation=\"pipeline\",le=\"+Inf\"}} {incrs}
esker_http_connections 3
esker_http_connections_accepted_total 9
esker_resp_connections 1
esker_engine_cache_hits_total {hits}
esker_engine_cache_misses_total 10
esker_uptime_seconds 5
process_resident_memory_bytes 4096
esker_memory_allocated_bytes 2048
"
        )
    }

    #[test]
    fn rates_lie_between_two_samples() {
        let (before, now) = (sample(10, &text(100, 5, 0, 0)), sample(12, &text(140, 11, 4, 30)));
        let figures = figures(&before, &now).unwrap();
        let names: Vec<_> = figures
            .operations
            .iter()
            .map(|it| (it.front.as_str(), it.operation.as_str(), it.per_second))
            .collect();
        assert_eq!(names, [("http", "get", 20.0), ("resp", "incr", 3.0), ("resp", "pipeline", 3.0)]);
        assert_eq!(figures.operations[0].p50_us, Some(500.0));
        assert_eq!((figures.requests_per_second, figures.errors_per_second), (23.0, 2.0));
        assert_eq!(figures.connections, BTreeMap::from([("http".into(), 3), ("resp".into(), 1)]));
        assert_eq!((figures.store.cache_hit_rate, figures.store.resident_bytes), (Some(1.0), 4096));
        assert_eq!((figures.node.behind, figures.node.committed), (2, 9));
    }

    #[test]
    fn a_server_that_began_anew_counts_from_nothing() {
        let (before, now) = (sample(10, &text(100, 50, 9, 80)), sample(12, &text(40, 4, 0, 8)));
        let figures = figures(&before, &now).unwrap();
        assert_eq!((figures.requests_per_second, figures.errors_per_second), (22.0, 0.0));
        assert_eq!(figures.store.cache_hit_rate, Some(1.0));
        assert_eq!(figures.operations[0].p50_us, Some(500.0));
    }

    #[test]
    fn samples_of_two_nodes_have_nothing_between_them() {
        let (before, mut now) = (sample(10, ""), sample(12, ""));
        assert_eq!(figures(&before, &now).unwrap().requests_per_second, 0.0);
        now.status.node_id = 2;
        assert!(figures(&before, &now).is_none());
        assert!(figures(&before, &before).is_none());
    }
}
