//! Nodes that find one another by gossip: real processes that know one seed.

use crate::support;

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use esker_sim::processes::Ports;
use support::{Server, esker};

/// Longer than anything here may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Ports that are this test's alone, until what is returned with them is dropped.
fn free_ports(count: usize) -> (Vec<String>, Ports) {
    let mut ports = Ports::reserve().unwrap();
    let free = (0..count).map(|_| ports.next_free().unwrap().to_string()).collect();
    (free, ports)
}

#[expect(clippy::disallowed_methods, reason = "a test waits for a condition")]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < WITHIN, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[expect(clippy::disallowed_methods, reason = "only whether somebody listens is asked")]
fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn arguments<'a>(peers: &'a str, seed: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--peer-port", peers, "--gossip-seeds", seed][..], more].concat()
}

/// A node that is not waited for: it may have nobody to form a cluster with.
struct Waiting(std::process::Child);

impl Waiting {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = esker(&["serve", "--port", "0", "--data-dir"]);
        let log = tempfile::tempfile().unwrap();
        Self(command.arg(dir).args(arguments).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Ended already, or never to be missed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What it says of itself once it knows a leader.
fn status(server: &Server) -> serde_json::Value {
    let status = eventually("there is a leader", || {
        let output = server.run(&["cluster", "status", "--json"]);
        output.status.success().then_some(output.stdout)
    });
    serde_json::from_slice(&status).unwrap()
}

fn members(server: &Server) -> Vec<String> {
    let nodes: serde_json::Value = serde_json::from_str(&server.ok(&["cluster", "nodes", "--json"])).unwrap();
    let nodes = nodes["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node["peer_address"].as_str().unwrap().to_owned()).collect()
}

fn start_all(dirs: &[PathBuf], arguments: &[Vec<&str>]) -> Vec<Server> {
    std::thread::scope(|scope| {
        let starting: Vec<_> = dirs
            .iter()
            .zip(arguments)
            .map(|(dir, arguments)| scope.spawn(|| Server::start(dir, arguments)))
            .collect();
        starting.into_iter().map(|starting| starting.join().unwrap()).collect()
    })
}

/// Three know one seed and become one cluster; a fourth joins; one of another name does not; one comes back elsewhere.
#[test]
fn nodes_that_know_one_seed_form_one_cluster_and_others_join_it() {
    let home = tempfile::tempdir().unwrap();
    let (ports, _held) = free_ports(6);
    let dirs: Vec<PathBuf> = (0..6).map(|n| home.path().join(n.to_string())).collect();
    let seed = format!("127.0.0.1:{}", ports[0]);
    let three = ["--cluster-size", "3"];
    let founding: Vec<_> = ports[..3].iter().map(|port| arguments(port, &seed, &three)).collect();
    let mut servers = start_all(&dirs[..3], &founding);
    let clusters: Vec<_> = servers.iter().map(|server| status(server)["cluster_id"].clone()).collect();
    assert!(
        clusters[0].is_string() && clusters.iter().all(|cluster| *cluster == clusters[0]),
        "{clusters:?}"
    );
    assert_eq!(members(&servers[0]).len(), 3);
    servers[1].ok(&["put", "k", "v"]);

    // The fourth knows one that is not the leader's neighbour by name only: it is told of the rest.
    let second = format!("127.0.0.1:{}", ports[1]);
    let fourth = Server::start(&dirs[3], &arguments(&ports[3], &second, &[]));
    assert_eq!(status(&fourth)["cluster_id"], clusters[0]);
    assert_eq!(fourth.ok(&["get", "k"]).trim(), "v");
    assert_eq!(members(&fourth).len(), 4);

    let stranger = arguments(&ports[4], &seed, &["--cluster-name", "other", "--cluster-size", "3"]);
    let _stranger = Waiting::start(&dirs[4], &stranger);
    let port = ports[4].parse().unwrap();
    eventually("the stranger listens", || listens(port).then_some(()));

    // Started again at another address, with the same directory, the third is found there.
    servers.pop().unwrap().kill();
    let moved = Server::start(&dirs[2], &arguments(&ports[5], &seed, &three));
    let (old, new) = (format!("127.0.0.1:{}", ports[2]), format!("127.0.0.1:{}", ports[5]));
    eventually("the list of members has the new address", || {
        let members = members(&servers[0]);
        (members.contains(&new) && !members.contains(&old)).then_some(())
    });
    eventually("it follows there", || moved.run(&["get", "k"]).status.success().then_some(()));

    // All this time the stranger has asked, and was left out.
    let there = members(&servers[0]);
    assert!(there.len() == 4 && !there.contains(&format!("127.0.0.1:{}", ports[4])), "{there:?}");
}

/// Two groups of two that do not know of one another, of a cluster of three: neither forms one, until somebody knows both.
#[test]
fn groups_that_start_apart_form_one_cluster_when_they_meet() {
    let home = tempfile::tempdir().unwrap();
    let (ports, _held) = free_ports(5);
    let dirs: Vec<PathBuf> = (0..5).map(|n| home.path().join(n.to_string())).collect();
    let seeds = [&ports[0], &ports[2]].map(|port| format!("127.0.0.1:{port}"));
    let three = ["--cluster-size", "3"];
    let apart: Vec<Waiting> =
        (0..4).map(|n| Waiting::start(&dirs[n], &arguments(&ports[n], &seeds[n / 2], &three))).collect();
    for port in &ports[..4] {
        let port = port.parse().unwrap();
        eventually("it listens", || listens(port).then_some(()));
    }
    let both = seeds.join(",");
    let last = Server::start(&dirs[4], &arguments(&ports[4], &both, &three));
    eventually("all five are in one cluster", || {
        let output = last.run(&["cluster", "nodes", "--json"]);
        let nodes: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        (nodes["nodes"].as_array()?.len() == 5).then_some(())
    });
    last.ok(&["put", "k", "v"]);
    drop(apart);
}
