//! The figures as text: for a terminal of so many rows and columns, or a line after another.

use esker_client::cluster::Node;

use super::model::{Figures, Operation};
use crate::{
    commands::status::{duration, size},
    output::printable,
};

/// All of it, a line each; the caller cuts what does not fit.
pub(super) fn lines(figures: &Figures) -> Vec<String> {
    let mut lines = head(figures);
    lines.push(String::new());
    lines.push(format!(
        "{:8}  {:14}  {:>12}  {:>9}  {:>9}  {:>9}  {:>9}",
        "front", "operation", "per second", "mean", "p50", "p99", "p99.9"
    ));
    lines.extend(figures.operations.iter().map(operation));
    if figures.nodes.len() > 1 {
        lines.push(String::new());
        lines.push(format!(
            "{:>5}  {:9}  {:24}  {:>9}  {:>9}  healthy",
            "node", "role", "http", "lag", "silent"
        ));
        lines.extend(figures.nodes.iter().map(node));
    }
    lines
}

fn head(figures: &Figures) -> Vec<String> {
    let (node, store) = (&figures.node, &figures.store);
    let open: Vec<_> = figures.connections.iter().map(|(front, open)| format!("{front} {open}")).collect();
    let leader = node.leader_id.map_or_else(|| "nobody".to_owned(), |leader| format!("node {leader}"));
    let rate = |bytes: f64| format!("{}/s", size(bytes as u64));
    let percent =
        |part: Option<f64>| part.map_or_else(|| "-".to_owned(), |part| format!("{:.1}%", 100.0 * part));
    let per_sync = store.batches_per_sync.map_or_else(|| "-".to_owned(), |batches| format!("{batches:.1}"));
    let mut lines = vec![
        format!(
            "Esker {}  {}  node {}, {} ({})  up {}",
            node.version,
            figures.endpoint,
            node.id,
            node.role,
            node.mode,
            duration(node.uptime_seconds)
        ),
        format!(
            "requests  {:.1}/s, {:.1} errors/s   connections  {}",
            figures.requests_per_second,
            figures.errors_per_second,
            open.join(", ")
        ),
        format!(
            "memory    {} allocated, {} resident, {} index, {} cache ({} of reads hit)   cpu  {:.2} cores",
            size(store.allocated_bytes),
            size(store.resident_bytes),
            size(store.index_bytes),
            size(store.cache_bytes),
            percent(store.cache_hit_rate),
            store.cpu_cores
        ),
        format!(
            "disk      {} log, {} dead, {} written, {:.1} syncs/s, {per_sync} writes a sync",
            size(store.log_bytes),
            size(store.dead_bytes),
            rate(store.written_bytes_per_second),
            store.syncs_per_second
        ),
        format!(
            "merging   {} done, {} copied, writers slowed {:.1}% of the time, {} waiting",
            store.merges,
            rate(store.merged_bytes_per_second),
            100.0 * store.throttled,
            size(store.queued_bytes)
        ),
        format!(
            "cluster   led by {leader}, term {}, version {}, {} behind   keys  {}",
            node.term, node.committed, node.behind, store.keys
        ),
    ];
    if let Some(trouble) = &node.trouble {
        lines.push(format!("trouble   {}", printable(trouble.as_bytes())));
    }
    lines
}

fn operation(operation: &Operation) -> String {
    format!(
        "{:8}  {:14}  {:>12.1}  {:>9}  {:>9}  {:>9}  {:>9}",
        operation.front,
        operation.operation,
        operation.per_second,
        time(operation.mean_us),
        time(operation.p50_us),
        time(operation.p99_us),
        time(operation.p999_us)
    )
}

/// A time for people, three digits of it.
fn time(micros: Option<f64>) -> String {
    match micros {
        None => "-".into(),
        Some(micros) if micros < 1e3 => format!("{micros:.0}us"),
        Some(micros) if micros < 1e6 => format!("{:.2}ms", micros / 1e3),
        Some(micros) => format!("{:.2}s", micros / 1e6),
    }
}

fn node(node: &Node) -> String {
    let known = |text: Option<String>| text.unwrap_or_else(|| "?".into());
    format!(
        "{:>5}  {:9}  {:24}  {:>9}  {:>9}  {}",
        node.id,
        node.role,
        node.http_address,
        known(node.lag.map(|lag| lag.to_string())),
        known(node.silent_ms.map(|millis| format!("{millis}ms"))),
        known(node.healthy.map(|healthy| if healthy { "yes".into() } else { "no".into() }))
    )
    .trim_end()
    .to_owned()
}

/// A picture of so many columns and rows: every line cut, none left over from the picture before.
pub(super) fn picture(lines: &[String], columns: usize, rows: usize) -> String {
    const HOME: &str = "\x1b[H";
    const REST_OF_LINE: &str = "\x1b[K";
    const REST_OF_SCREEN: &str = "\x1b[J";
    let shown: Vec<String> =
        lines.iter().take(rows).map(|line| line.chars().take(columns).collect()).collect();
    format!("{HOME}{}{REST_OF_LINE}{REST_OF_SCREEN}", shown.join(&format!("{REST_OF_LINE}\r\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::top::model::{figures, tests};

    #[test]
    fn everything_is_told_in_columns() {
        let (before, now) =
            (tests::sample(10, &tests::text(0, 0, 0, 0)), tests::sample(12, &tests::text(40, 2, 2, 30)));
        let lines = lines(&figures(&before, &now).unwrap());
        let text = lines.join("\n");
        for part in [
            "node 1, leader (single)  up 1m 1s",
            "requests  21.0/s, 1.0 errors/s   connections  http 3, resp 1",
            "2.00 KiB allocated, 4.00 KiB resident",
            "(100.0% of reads hit)",
            "version 9, 2 behind",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let gets = lines.iter().find(|line| line.contains("get ")).unwrap();
        let words: Vec<_> = gets.split_whitespace().collect();
        assert_eq!(words, ["http", "get", "20.0", "0us", "500us", "990us", "999us"]);
    }

    #[test]
    fn the_nodes_of_a_cluster_are_listed() {
        let (before, mut now) = (tests::sample(1, ""), tests::sample(2, ""));
        let nodes = serde_json::json!({ "nodes": [
            { "id": 1, "http_address": "h:1", "role": "leader", "voter": true, "lag": 0, "healthy": true },
            { "id": 2, "http_address": "h:2", "role": "learner", "voter": false, "lag": 7, "silent_ms": 5, "healthy": null },
        ] });
        now.nodes = serde_json::from_value(nodes).unwrap();
        let lines = lines(&figures(&before, &now).unwrap());
        let last: Vec<_> = lines.last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["2", "learner", "h:2", "7", "5ms", "?"]);
    }

    #[test]
    fn a_picture_fits() {
        let lines = ["abcdef".to_owned(), "x".into(), "y".into()];
        assert_eq!(picture(&lines, 3, 2), "\x1b[Habc\x1b[K\r\nx\x1b[K\x1b[J");
    }

    #[test]
    fn times_have_units() {
        let told = [None, Some(12.4), Some(1500.0), Some(2_500_000.0)].map(time);
        assert_eq!(told, ["-", "12us", "1.50ms", "2.50s"]);
    }
}
