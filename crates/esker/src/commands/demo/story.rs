//! What a demonstration tells: a line a step for people, a JSON object a step for scripts.

use std::{fmt, path::Path, time::Duration};

use esker_client::cluster::Node;
use serde::Serialize;

use super::nodes::Address;
use crate::{exit::Failure, output};

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(super) enum Step<'a> {
    Started { dir: &'a Path, nodes: Vec<Address> },
    Elected { leader: u64, term: u64, took_ms: f64 },
    Members { members: &'a [Node] },
    Writing { clients: usize, acknowledged: u64 },
    Killed { round: u32, node: u64 },
    FailedOver { round: u32, leader: u64, term: u64, gap_ms: f64 },
    Checked { round: u32, acknowledged: u64, lost: u64 },
    CameBack { round: u32, node: u64, took_ms: f64, missed: u64, version: u64 },
    Stopped { round: u32, node: u64 },
    HandedOver { round: u32, leader: u64, term: u64, gap_ms: f64 },
    Equal { nodes: u64, keys: usize, version: u64 },
    Done { rounds: u32, acknowledged: u64, lost: u64, longest_failover_ms: f64, longest_handover_ms: f64 },
    Kept { dir: &'a Path },
}

/// Tells what happened.
pub(super) struct Story {
    json: bool,
}

impl Story {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn tell(&self, step: &Step<'_>) -> Result<(), Failure> {
        match self.json {
            true => output::json(step),
            false => output::line(step),
        }
    }
}

/// Milliseconds, with tenths.
pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { dir, nodes } => {
                write!(f, "start      {} nodes, with their data in {}", nodes.len(), dir.display())?;
                for Address { node, http, peers, process } in nodes {
                    let process = process.unwrap_or_default();
                    write!(f, "\n             node {node}: {http}, peers at {peers}, process {process}")?;
                }
                Ok(())
            }
            Self::Elected { leader, term, took_ms } => {
                write!(f, "election   node {leader} leads in term {term}, {took_ms} ms after the start")
            }
            Self::Members { members } => {
                f.write_str("members  ")?;
                let mut separator = "  ";
                for Node { id, role, voter, .. } in *members {
                    let vote = if *voter { "" } else { ", without a vote" };
                    write!(f, "{separator}node {id}: {role}{vote}")?;
                    separator = "; ";
                }
                Ok(())
            }
            Self::Writing { clients, acknowledged } => {
                write!(
                    f,
                    "write      {clients} clients write all the time; {acknowledged} writes acknowledged so far"
                )
            }
            Self::Killed { node, .. } => write!(f, "kill       node {node}, the leader, with SIGKILL"),
            Self::FailedOver { leader, term, gap_ms, .. } => {
                write!(f, "failover   no write succeeded for {gap_ms} ms; node {leader} leads in term {term}")
            }
            Self::Checked { acknowledged, .. } => {
                write!(f, "check      all {acknowledged} acknowledged writes are there")
            }
            Self::CameBack { node, took_ms, missed, version, .. } => write!(
                f,
                "return     node {node} was started again and, after {took_ms} ms, had the {missed} entries that it lacked, \
                 up to version {version}"
            ),
            Self::Stopped { node, .. } => {
                write!(
                    f,
                    "stop       node {node}, the leader, with SIGTERM: it hands the leadership on first"
                )
            }
            Self::HandedOver { leader, term, gap_ms, .. } => {
                write!(f, "handover   no write succeeded for {gap_ms} ms; node {leader} leads in term {term}")
            }
            Self::Equal { nodes, keys, version } => {
                write!(f, "compare    all {nodes} nodes hold the same {keys} keys, at version {version}")
            }
            Self::Done { rounds, acknowledged, longest_failover_ms, longest_handover_ms, .. } => write!(
                f,
                "done       {}: {acknowledged} writes acknowledged, none lost; writes stood still for at most {longest_failover_ms} ms \
                 after a kill, {longest_handover_ms} ms after a stop",
                output::count(u64::from(*rounds), "round")
            ),
            Self::Kept { dir } => write!(f, "kept       data and logs of the nodes are in {}", dir.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_line_and_an_object() {
        let step =
            Step::FailedOver { round: 1, leader: 3, term: 2, gap_ms: millis(Duration::from_micros(312_345)) };
        assert_eq!(step.to_string(), "failover   no write succeeded for 312.3 ms; node 3 leads in term 2");
        let json = serde_json::to_string(&step).unwrap();
        assert_eq!(json, r#"{"step":"failed_over","round":1,"leader":3,"term":2,"gap_ms":312.3}"#);
    }
}
