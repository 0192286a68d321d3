//! The nodes of a demonstration: `esker serve` processes of this very binary. Whatever way it ends, they end with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use esker_cluster::raft::random_fraction;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::time::{interval, timeout};

use super::LOOK_AGAIN;
use crate::{exit::Failure, files};

/// How many there are.
pub(super) const NODES: u64 = 3;
/// Ports are drawn from here: below those that the kernel gives to outgoing connections (from 32,768 on unless somebody
/// changed that), so that a node finds its ports free when it is started again.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// So many ports are tried before there seem to be none.
const PORT_TRIES: u32 = 1000;
/// As much of a dead node's log is shown.
const LOG_TAIL_BYTES: usize = 2000;

/// Where a node is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Address {
    pub(super) node: u64,
    pub(super) http: String,
    pub(super) peers: String,
    pub(super) process: Option<u32>,
}

struct Node {
    http_port: u16,
    peer_port: u16,
    home: PathBuf,
    process: Option<Child>,
}

/// See the module.
pub(super) struct Nodes {
    program: PathBuf,
    nodes: BTreeMap<u64, Node>,
}

impl Nodes {
    /// Chooses ports, makes a directory for each node. None runs yet.
    pub(super) fn new(home: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::doing("finding this program"))?;
        let mut ports = free_ports(NODES * 2)?.into_iter();
        let mut nodes = BTreeMap::new();
        for node in 1..=NODES {
            let home = home.join(format!("node{node}"));
            files::make_dir(&home).map_err(Failure::doing(format!("making {}", home.display())))?;
            let mut port = || ports.next().expect("as many as were asked for");
            let node_here = Node { http_port: port(), peer_port: port(), home, process: None };
            nodes.insert(node, node_here);
        }
        Ok(Self { program, nodes })
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        1..=NODES
    }

    /// The nodes that were started and not ended.
    pub(super) fn running(&self) -> impl Iterator<Item = u64> {
        self.nodes.iter().filter(|(_, node)| node.process.is_some()).map(|(number, _)| *number)
    }

    pub(super) fn addresses(&self) -> Vec<Address> {
        let address = |(number, node): (&u64, &Node)| Address {
            node: *number,
            http: self.endpoint(*number),
            peers: format!("127.0.0.1:{}", node.peer_port),
            process: node.process.as_ref().map(Child::id),
        };
        self.nodes.iter().map(address).collect()
    }

    pub(super) fn endpoint(&self, node: u64) -> String {
        format!("http://127.0.0.1:{}", self.nodes[&node].http_port)
    }

    /// All of them, as `--endpoint` takes them.
    pub(super) fn endpoints(&self) -> String {
        self.numbers().map(|node| self.endpoint(node)).collect::<Vec<_>>().join(",")
    }

    /// Starts a node that does not run.
    pub(super) fn start(&mut self, number: u64) -> Result<(), Failure> {
        let arguments = self.arguments(number);
        let program = self.program.clone();
        let node = self.node(number);
        assert!(node.process.is_none(), "node {number} runs");
        let log_path = node.home.join("log");
        let log = files::append_to(&log_path);
        let log = log.map_err(Failure::doing(format!("opening {}", log_path.display())))?;
        let mut command = Command::new(program);
        // None of the caller's settings.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KV_")) {
            command.env_remove(name);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Of its own group: the terminal's Ctrl-C is for the demonstration, which then ends the nodes.
        let started = command.process_group(0).spawn();
        node.process = Some(started.map_err(Failure::doing(format!("starting node {number}")))?);
        Ok(())
    }

    fn arguments(&self, number: u64) -> Vec<OsString> {
        let node = &self.nodes[&number];
        let place = |node: &Node| format!("127.0.0.1:{}:{}", node.http_port, node.peer_port);
        let list = self.nodes.values().map(place).collect::<Vec<_>>().join(",");
        let mut arguments: Vec<OsString> = vec!["serve".into(), "--data-dir".into()];
        arguments.push(node.home.join("data").into());
        let off = || "off".to_owned();
        for (flag, value) in [
            ("--cluster-nodes", list),
            ("--node-id", number.to_string()),
            ("--resp-port", off()),
            ("--binary-port", off()),
            ("--grpc-port", off()),
        ] {
            arguments.extend([flag.into(), value.into()]);
        }
        arguments
    }

    fn node(&mut self, number: u64) -> &mut Node {
        self.nodes.get_mut(&number).expect("there is such a node")
    }

    /// SIGKILL; gone when this returns.
    pub(super) fn kill(&mut self, number: u64) -> Result<(), Failure> {
        self.node(number).kill().map_err(Failure::doing(format!("killing node {number}")))
    }

    /// SIGTERM.
    pub(super) fn terminate(&mut self, number: u64) -> Result<(), Failure> {
        let Some(process) = &self.node(number).process else { return Ok(()) };
        kill_process(Pid::from_child(process), Signal::TERM)
            .map_err(|e| Failure::doing(format!("stopping node {number}"))(e.into()))
    }

    /// Waits until a node that was told to stop has done so, which must be with exit code 0.
    pub(super) async fn forget_stopped(&mut self, number: u64, patience: Duration) -> Result<(), Failure> {
        let mut looks = interval(LOOK_AGAIN);
        let ended = async {
            loop {
                looks.tick().await;
                if let Some(status) = self.node(number).ended(number)? {
                    return Ok(status);
                }
            }
        };
        let late = || Failure::Error(format!("node {number} did not stop within {patience:?}"));
        let status = timeout(patience, ended).await.unwrap_or_else(|_| Err(late()))?;
        if status.success() { Ok(()) } else { Err(self.node(number).died(number, status)) }
    }

    /// An error if a node has ended by itself.
    pub(super) fn check_alive(&mut self) -> Result<(), Failure> {
        for (number, node) in &mut self.nodes {
            if let Some(status) = node.ended(*number)? {
                return Err(node.died(*number, status));
            }
        }
        Ok(())
    }
}

impl Node {
    fn kill(&mut self) -> std::io::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.kill()?;
        process.wait().map(|_| ())
    }

    /// How it ended, if it did just now.
    fn ended(&mut self, number: u64) -> Result<Option<ExitStatus>, Failure> {
        let status = self.process.as_mut().map(Child::try_wait).transpose();
        let status = status.map_err(Failure::doing(format!("waiting for node {number}")))?.flatten();
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    fn died(&self, number: u64, status: ExitStatus) -> Failure {
        // If the log cannot be read, its end is not the story.
        let log = files::read(&self.home.join("log")).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned();
        Failure::Error(format!("node {number} ended with {status}; the end of its log:\n{tail}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nothing can be done about one that cannot be killed.
        let _killed = self.kill();
    }
}

/// Ports that nobody uses now. All are held until all are found, so that they differ.
fn free_ports(count: u64) -> Result<BTreeSet<u16>, Failure> {
    let mut held: Vec<TcpListener> = Vec::new();
    let mut ports = BTreeSet::new();
    for _ in 0..PORT_TRIES {
        let port = PORTS.start + (f64::from(PORTS.end - PORTS.start) * random_fraction()) as u16;
        if let Ok(listener) = esker_server::listen_for_peers((Ipv4Addr::LOCALHOST, port).into()) {
            held.push(listener);
            ports.insert(port);
        }
        if ports.len() as u64 == count {
            return Ok(ports);
        }
    }
    Err(Failure::Error(format!("there are no {count} free ports on 127.0.0.1 from {} on", PORTS.start)))
}
