//! The settings of a cluster, and how they follow from each other.
//!
//! Which node of `cluster_nodes` this one is decides its number and its ports. That is settled right after the layers are
//! laid over each other ([`place`]), so that `esker config` shows what holds. [`ClusterSettings`] then are plain values for
//! whoever starts the node.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{
    effective::{Effective, Source},
    kind::Value,
    settings::address,
};

/// The first node's port in a list that gives none: the default of `port`.
const HTTP_PORT_BASE: u16 = 8080;
/// The same for `peer_port`.
const PEER_PORT_BASE: u16 = 7070;
/// What `resp_port` counts up from, of the nodes of the list that have one host.
const RESP_PORT_BASE: u16 = 6380;
/// What `binary_port` counts up from, likewise.
const BINARY_PORT_BASE: u16 = 9090;
/// The same of `grpc_port`: not 7070, where the nodes speak with one another.
const GRPC_PORT_BASE: u16 = 7170;
/// Any of these makes the node one of a cluster; which of them is given says how the cluster is found.
const WAYS_IN: [&str; 4] = ["cluster_nodes", "join", "cluster_dns", "gossip_seeds"];
/// What a single node has no use for.
const CLUSTER_ONLY: [&str; 16] = [
    "cluster_nodes",
    "join",
    "cluster_dns",
    "gossip_seeds",
    "cluster_size",
    "cluster_name",
    "data_dir_moved",
    "learner",
    "peer_port",
    "advertise_host",
    "cluster_redirect",
    "raft_heartbeat_interval_ms",
    "raft_election_timeout_ms",
    "peer_tls_ca",
    "peer_tls_certificate",
    "peer_tls_key",
];

/// What bounds a single node's queue; a cluster's is bounded by `write_bytes_under_way`.
const SINGLE_ONLY: [&str; 2] = ["queue_max_bytes", "queue_max_batches"];

/// A node as `cluster_nodes` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedNode {
    /// Its place in the list, from 1.
    pub(crate) id: u64,
    host: String,
    http_port: u16,
    peer_port: u16,
}

impl ListedNode {
    /// Where its HTTP front is, `host:port`.
    pub(crate) fn http_address(&self) -> String {
        joined(&self.host, self.http_port)
    }

    /// Where it listens for the other nodes, `host:port`.
    pub(crate) fn peer_address(&self) -> String {
        joined(&self.host, self.peer_port)
    }
}

/// The files that the nodes prove with who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerTls {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// What a node of a cluster is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterSettings {
    /// What the cluster is called.
    pub(crate) name: String,
    /// This node's number; 0 where the cluster is to give it one.
    pub(crate) node_id: u64,
    /// The nodes that form the cluster, this one among them. Where this, `join` and `dns` are all empty, the node forms a
    /// cluster of its own.
    pub(crate) members: Vec<ListedNode>,
    /// Members of the cluster to join, `host:peer_port` each.
    pub(crate) join: Vec<String>,
    /// A name whose addresses are members of the cluster to join.
    pub(crate) dns: Option<String>,
    /// Nodes to gossip with, `host:peer_port` each.
    pub(crate) gossip_seeds: Vec<String>,
    /// Of how many nodes that find one another a cluster is formed; 0: none is.
    pub(crate) size: usize,
    /// The data directory was moved on purpose.
    pub(crate) data_dir_moved: bool,
    /// Joins without a vote.
    pub(crate) learner: bool,
    /// Where to listen for the other nodes.
    pub(crate) peer_listen: SocketAddr,
    /// The host that others are told.
    pub(crate) advertise_host: String,
    /// What others are told of the HTTP front, `host:port`. Port 0 stands for the one that is taken.
    pub(crate) http_address: String,
    /// What others are told of the peers' front, `host:port`. Port 0 stands for the one that is taken.
    pub(crate) peer_address: String,
    /// How often a leader is heard of.
    pub(crate) heartbeat: Duration,
    /// The least time without a leader after which a node stands for election; the most is twice that.
    pub(crate) election_timeout: Duration,
    /// Whether a node that does not lead redirects, in place of forwarding.
    pub(crate) redirect: bool,
    /// `None` for connections that are not encrypted.
    pub(crate) tls: Option<PeerTls>,
}

/// Settles which node this one is, and with it the ports that are given nowhere; adds to the warnings.
pub(super) fn place(effective: &mut Effective) -> Result<(), String> {
    if effective.count("port") == 0 {
        // Whoever takes any port for one front is likely to start several nodes.
        follow(effective, "resp_port", Value::Port(Some(0)), "port");
        follow(effective, "binary_port", Value::Port(Some(0)), "port");
        follow(effective, "grpc_port", Value::Port(Some(0)), "port");
    }
    if !enabled(effective) {
        warn_of_idle(effective, &CLUSTER_ONLY, "the node is in no cluster (`cluster_enabled`)");
        return Ok(());
    }
    warn_of_idle(effective, &SINGLE_ONLY, "in a cluster `write_bytes_under_way` bounds what waits");
    let Some(own) = own_node(effective)? else {
        follow(effective, "grpc_port", Value::Port(Some(GRPC_PORT_BASE)), "cluster_enabled");
        return Ok(());
    };
    let before_on_host =
        listed(effective)?.iter().filter(|node| node.host == own.host && node.id < own.id).count();
    let place = u16::try_from(before_on_host).ok();
    let counted_up = |base: u16| Value::Port(place.and_then(|place| base.checked_add(place)));
    for (name, value) in [
        ("node_id", Value::Count(own.id)),
        ("port", Value::Count(own.http_port.into())),
        ("peer_port", Value::Count(own.peer_port.into())),
        ("resp_port", counted_up(RESP_PORT_BASE)),
        ("binary_port", counted_up(BINARY_PORT_BASE)),
        ("grpc_port", counted_up(GRPC_PORT_BASE)),
    ] {
        follow(effective, name, value, "cluster_nodes");
    }
    Ok(())
}

/// Settles a setting that is given nowhere by another one.
fn follow(effective: &mut Effective, name: &'static str, value: Value, by: &'static str) {
    let found = effective.outcomes.iter_mut().find(|outcome| outcome.setting.name == name);
    let outcome = found.expect("the table has these settings");
    // A node id of 0 asks for its place to be found, wherever it is given.
    if outcome.source == Source::Default || outcome.value == Value::Count(0) && name == "node_id" {
        (outcome.value, outcome.source) = (value, Source::Follows(by));
    }
}

/// Adds a warning for each of these that is given.
fn warn_of_idle(effective: &mut Effective, names: &[&str], why: &str) {
    let given = names.iter().map(|name| effective.outcome(name));
    let given = given.filter(|outcome| outcome.source != Source::Default && !is_nothing(&outcome.value));
    let warning = |outcome: &super::Outcome| {
        format!("{}: `{}` has no effect: {why}", outcome.source, outcome.setting.name)
    };
    let warnings: Vec<_> = given.map(warning).collect();
    effective.warnings.extend(warnings);
}

fn is_nothing(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text.is_empty()) || *value == Value::Flag(false)
}

fn enabled(effective: &Effective) -> bool {
    match effective.outcome("cluster_enabled").source {
        Source::Default => WAYS_IN.iter().any(|name| !effective.text(name).is_empty()),
        _ => effective.flag("cluster_enabled"),
    }
}

/// Which node of the list this one is; `None` where there is no list.
fn own_node(effective: &Effective) -> Result<Option<ListedNode>, String> {
    let nodes = listed(effective)?;
    if nodes.is_empty() {
        return Ok(None);
    }
    let count = nodes.len();
    let outcome = effective.outcome("node_id");
    match effective.count("node_id") {
        0 => find_own(effective, &nodes).map(|own| Some(own.clone())).ok_or_else(|| {
            format!(
                "`node_id`: which of the {count} nodes of `cluster_nodes` is this one? Give its place in the list, from 1 \
                 to {count}"
            )
        }),
        id => match usize::try_from(id - 1).ok().and_then(|at| nodes.get(at)) {
            Some(own) => Ok(Some(own.clone())),
            None => Err(format!(
                "{}: `node_id`: `cluster_nodes` has {count} nodes: give a whole number from 1 to {count}, not {id}",
                outcome.source
            )),
        },
    }
}

/// The one node of the list with this node's host, and where several have it, with this node's port.
fn find_own<'a>(effective: &Effective, nodes: &'a [ListedNode]) -> Option<&'a ListedNode> {
    let advertised = Some(effective.text("advertise_host")).filter(|host| !host.is_empty());
    let host = bare(advertised.unwrap_or(effective.text("host")));
    let here: Vec<_> = nodes.iter().filter(|node| node.host == host).collect();
    let port = effective.outcome("port");
    match here[..] {
        [own] => Some(own),
        _ if port.source == Source::Default => None,
        _ => here.into_iter().find(|node| port.value == Value::Count(node.http_port.into())),
    }
}

/// `cluster_nodes`, read.
fn listed(effective: &Effective) -> Result<Vec<ListedNode>, String> {
    let outcome = effective.outcome("cluster_nodes");
    let refuse = |why: String| format!("{}: `cluster_nodes`: {why}", outcome.source);
    let mut nodes: Vec<ListedNode> = Vec::new();
    for (at, item) in items(effective.text("cluster_nodes")).enumerate() {
        let node = listed_node(at, item)
            .ok_or_else(|| refuse(format!("`{item}` is no node: give host[:http_port[:peer_port]]")))?;
        let twice = nodes.iter().any(|other| {
            other.http_address() == node.http_address() || other.peer_address() == node.peer_address()
        });
        if twice {
            return Err(refuse(format!("`{item}` is at the address of another node of the list")));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// `host[:http_port[:peer_port]]`; an IPv6 address stands in brackets.
fn listed_node(at: usize, text: &str) -> Option<ListedNode> {
    let (host, ports) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let given = if ports.is_empty() { None } else { Some(ports.strip_prefix(':')?) };
    let mut ports = given.into_iter().flat_map(|given| given.split(':'));
    let place = u16::try_from(at).ok()?;
    let mut port = |base: u16| match ports.next() {
        None => base.checked_add(place),
        Some(port) => port.parse().ok().filter(|port| *port > 0),
    };
    let (http_port, peer_port) = (port(HTTP_PORT_BASE)?, port(PEER_PORT_BASE)?);
    let well_formed = !host.is_empty() && !host.contains(char::is_whitespace) && ports.next().is_none();
    let host = host.to_owned();
    well_formed.then_some(ListedNode { id: u64::from(place) + 1, host, http_port, peer_port })
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// `host:port`, with brackets around an IPv6 address.
fn joined(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

impl ClusterSettings {
    /// The settings of what was given; `None` in mode `single`. An error says what does not go together.
    pub(super) fn new(effective: &Effective) -> Result<Option<Self>, String> {
        if !enabled(effective) {
            return Ok(None);
        }
        one_way_in(effective)?;
        let own = own_node(effective)?;
        let advertise_host = advertise_host(effective, own.as_ref())?;
        let advertised = |name| joined(&advertise_host, effective.port(name));
        let (heartbeat, election_timeout) = times(effective)?;
        let dns = Some(effective.text("cluster_dns").to_owned()).filter(|name| !name.is_empty());
        if effective.port("port") == effective.port("peer_port") && effective.port("port") > 0 {
            return Err(format!("`port` and `peer_port` are both {}: give two", effective.port("port")));
        }
        if let Value::Port(Some(port @ 1..)) = effective.outcome("grpc_port").value
            && port == effective.port("peer_port")
        {
            return Err(format!(
                "`grpc_port` and `peer_port` are both {port}: the other nodes have a port of their own"
            ));
        }
        let tls = tls(effective)?;
        // Whoever reaches the port of the peers writes.
        let protected =
            tls.as_ref().map(|_| ()).ok_or("its cluster has no TLS between the nodes (`peer_tls_ca` ..)");
        Ok(Some(Self {
            name: effective.text("cluster_name").to_owned(),
            node_id: effective.count("node_id"),
            http_address: own.as_ref().map_or_else(|| advertised("port"), ListedNode::http_address),
            peer_address: own.as_ref().map_or_else(|| advertised("peer_port"), ListedNode::peer_address),
            members: listed(effective)?,
            join: addresses(effective, "join")?,
            dns,
            gossip_seeds: addresses(effective, "gossip_seeds")?,
            size: usize::try_from(effective.count("cluster_size")).expect("the table bounds it"),
            data_dir_moved: effective.flag("data_dir_moved"),
            learner: effective.flag("learner"),
            peer_listen: address(effective, effective.port("peer_port"), protected)?,
            advertise_host,
            heartbeat,
            election_timeout,
            redirect: effective.flag("cluster_redirect"),
            tls,
        }))
    }
}

/// Two ways in would leave open which cluster is meant.
fn one_way_in(effective: &Effective) -> Result<(), String> {
    let given: Vec<_> = WAYS_IN.into_iter().filter(|name| !effective.text(name).is_empty()).collect();
    if let [first, second, ..] = given[..] {
        let (a, b) = (&effective.outcome(first).source, &effective.outcome(second).source);
        return Err(format!("`{first}` ({a}) and `{second}` ({b}) are two ways into a cluster: give one"));
    }
    let size = effective.outcome("cluster_size");
    let forms = effective.count("cluster_size") > 0;
    if forms && !matches!(given[..], ["gossip_seeds" | "cluster_dns"]) {
        return Err(format!(
            "{}: `cluster_size` is for nodes that find one another: give `gossip_seeds` or `cluster_dns` with it",
            size.source
        ));
    }
    if effective.flag("learner") && (forms || !matches!(given[..], ["join" | "cluster_dns" | "gossip_seeds"]))
    {
        let source = &effective.outcome("learner").source;
        return Err(format!(
            "{source}: `learner` is for a node that joins: give `join`, `cluster_dns` or `gossip_seeds` with it, and no \
             `cluster_size`"
        ));
    }
    Ok(())
}

/// A list of `host:peer_port`.
fn addresses(effective: &Effective, name: &str) -> Result<Vec<String>, String> {
    let has_port = |item: &&str| {
        let port = item.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    let source = &effective.outcome(name).source;
    items(effective.text(name))
        .map(|item| match has_port(&item) {
            true => Ok(item.to_owned()),
            false => Err(format!("{source}: `{name}`: `{item}` is no address: give host:peer_port")),
        })
        .collect()
}

/// Others cannot reach an address that stands for all of them.
fn advertise_host(effective: &Effective, own: Option<&ListedNode>) -> Result<String, String> {
    let given = Some(effective.text("advertise_host")).filter(|host| !host.is_empty());
    let host = given.or(own.map(|own| own.host.as_str())).unwrap_or(effective.text("host"));
    match bare(host).parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Err(format!(
            "`advertise_host`: other nodes and clients cannot reach {host}: give an address or name of this machine that \
             they can"
        )),
        _ => Ok(bare(host).to_owned()),
    }
}

fn times(effective: &Effective) -> Result<(Duration, Duration), String> {
    let (heartbeat, election) =
        (effective.time("raft_heartbeat_interval_ms"), effective.time("raft_election_timeout_ms"));
    if election < 3 * heartbeat {
        let outcome = effective.outcome("raft_election_timeout_ms");
        let least = 3 * heartbeat.as_millis();
        return Err(format!(
            "`raft_election_timeout_ms` ({}, {}) must be at least three times `raft_heartbeat_interval_ms`: {least}ms or more",
            outcome.value, outcome.source
        ));
    }
    Ok((heartbeat, election))
}

/// All three files or none.
fn tls(effective: &Effective) -> Result<Option<PeerTls>, String> {
    const FILES: [&str; 3] = ["peer_tls_ca", "peer_tls_certificate", "peer_tls_key"];
    let absent: Vec<_> = FILES.into_iter().filter(|name| effective.text(name).is_empty()).collect();
    let path = |name| PathBuf::from(effective.text(name));
    match absent.len() {
        0 => Ok(Some(PeerTls {
            ca: path("peer_tls_ca"),
            certificate: path("peer_tls_certificate"),
            key: path("peer_tls_key"),
        })),
        3 => Ok(None),
        _ => Err(format!("`{}`: give all of {} or none of them", absent[0], FILES.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, effective::Given, layers, table::Setting};

    fn effective(given: &[(&str, &str)]) -> Result<Effective, String> {
        let given = given.iter().map(|(name, text)| Given {
            setting: Setting::find(name).unwrap(),
            text: (*text).to_owned(),
            source: Source::Flag((*name).to_owned()),
        });
        layers::merge(vec![given.collect()], Vec::new())
    }

    fn settings(given: &[(&str, &str)]) -> Result<Option<ClusterSettings>, String> {
        effective(given).and_then(|effective| Settings::new(&effective)).map(|settings| settings.cluster)
    }

    fn cluster(given: &[(&str, &str)]) -> ClusterSettings {
        settings(given).unwrap().unwrap()
    }

    #[test]
    fn lists_are_read_with_the_port_rule() {
        let addresses = |list: &str| -> Option<Vec<(u64, String, String)>> {
            let nodes = items(list).enumerate().map(|(at, item)| listed_node(at, item));
            nodes.map(|n| n.map(|n| (n.id, n.http_address(), n.peer_address()))).collect()
        };
        let text = |id: u64, http: &str, peer: &str| (id, http.to_owned(), peer.to_owned());
        assert_eq!(
            addresses("127.0.0.1,127.0.0.1, n3:9000,n4:9000:9001,[::1],[::1]:1:2").unwrap(),
            [
                text(1, "127.0.0.1:8080", "127.0.0.1:7070"),
                text(2, "127.0.0.1:8081", "127.0.0.1:7071"),
                text(3, "n3:9000", "n3:7072"),
                text(4, "n4:9000", "n4:9001"),
                text(5, "[::1]:8084", "[::1]:7074"),
                text(6, "[::1]:1", "[::1]:2"),
            ]
        );
        for wrong in ["h:", "h:x", "h:0", "h:1:2:3", ":80", "[::1", "[::1]80", "a b", "h:99999"] {
            assert_eq!(addresses(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_node_of_the_list_has_its_ports_and_says_why() {
        let list = ("cluster_nodes", "127.0.0.1,127.0.0.1,127.0.0.1");
        let effective = effective(&[list, ("node_id", "2")]).unwrap();
        for (name, value) in [("port", 8081), ("peer_port", 7071)] {
            assert_eq!(effective.count(name), value);
            assert_eq!(effective.outcome(name).source.to_string(), "follows from cluster_nodes");
        }
        assert_eq!(effective.outcome("resp_port").value, Value::Port(Some(6381)));
        assert_eq!(effective.outcome("binary_port").value, Value::Port(Some(9091)));
        assert_eq!(effective.outcome("grpc_port").value, Value::Port(Some(7171)));
        let apart = self::effective(&[("cluster_nodes", "a,b,127.0.0.1"), ("node_id", "3")]).unwrap();
        assert_eq!(apart.outcome("resp_port").value, Value::Port(Some(6380)));
        assert_eq!(apart.outcome("binary_port").value, Value::Port(Some(9090)));
        assert_eq!(apart.outcome("grpc_port").value, Value::Port(Some(7170)));
        let settings = Settings::new(&effective).unwrap();
        assert_eq!(settings.server.http_address.port(), 8081);
        assert_eq!(settings.store.node_id, 2);
        let cluster = settings.cluster.unwrap();
        assert_eq!((cluster.node_id, cluster.peer_listen.port(), cluster.members.len()), (2, 7071, 3));
        assert_eq!(
            (cluster.http_address.as_str(), cluster.peer_address.as_str()),
            ("127.0.0.1:8081", "127.0.0.1:7071")
        );
        // Within a container the list tells what others see, and the flags what is listened on.
        let mapped = self::cluster(&[list, ("node_id", "3"), ("peer_port", "9"), ("port", "10")]);
        assert_eq!((mapped.peer_listen.port(), mapped.peer_address.as_str()), (9, "127.0.0.1:7072"));
    }

    #[test]
    fn a_node_finds_itself_by_host_and_port() {
        let list = ("cluster_nodes", "a,127.0.0.1:81,127.0.0.1:82");
        assert_eq!(cluster(&[("cluster_nodes", "a,127.0.0.1,c")]).node_id, 2);
        assert_eq!(cluster(&[list, ("port", "82")]).node_id, 3);
        assert_eq!(cluster(&[list, ("advertise_host", "a")]).node_id, 1);
        for more in [&[list][..], &[list, ("port", "83")], &[list, ("node_id", "4")]] {
            let refusal = settings(more).unwrap_err();
            assert!(refusal.contains("`node_id`") && refusal.contains("from 1 to 3"), "{refusal}");
        }
    }

    #[test]
    fn any_way_into_a_cluster_enables_it() {
        assert_eq!(settings(&[]).unwrap(), None);
        assert_eq!(settings(&[("node_id", "7")]).unwrap(), None);
        let alone = cluster(&[("cluster_enabled", "true")]);
        assert_eq!((alone.node_id, alone.members.len(), alone.join.len(), alone.dns), (0, 0, 0, None));
        assert_eq!(cluster(&[("join", "h:7070, [::1]:7071")]).join, ["h:7070", "[::1]:7071"]);
        assert_eq!(cluster(&[("cluster_dns", "nodes")]).dns.as_deref(), Some("nodes"));
        let gossip = cluster(&[("gossip_seeds", "h:7070,i:7070"), ("cluster_size", "3")]);
        assert_eq!((gossip.gossip_seeds, gossip.size), (vec!["h:7070".to_owned(), "i:7070".to_owned()], 3));
        let off = effective(&[("cluster_enabled", "false"), ("join", "h:7070")]).unwrap();
        assert_eq!(Settings::new(&off).unwrap().cluster, None);
        assert!(off.warnings[0].contains("`join` has no effect"), "{:?}", off.warnings);
        let idle = effective(&[("learner", "true"), ("cluster_nodes", "")]).unwrap();
        assert_eq!(idle.warnings.len(), 1, "{:?}", idle.warnings);
        let queue = effective(&[("join", "h:1"), ("queue_max_bytes", "1MiB")]).unwrap();
        assert!(queue.warnings[0].contains("`queue_max_bytes` has no effect"), "{:?}", queue.warnings);
        assert_eq!(effective(&[("queue_max_bytes", "1MiB")]).unwrap().warnings, Vec::<String>::new());
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_its_names() {
        for (given, parts) in [
            (&[("join", "h")][..], &["`join`", "host:peer_port", "--join"][..]),
            (&[("join", "h:1"), ("cluster_nodes", "127.0.0.1")], &["`join`", "`cluster_nodes`", "give one"]),
            (&[("gossip_seeds", "h:1"), ("join", "i:1")], &["`gossip_seeds`", "`join`", "give one"]),
            (&[("gossip_seeds", "h")], &["`gossip_seeds`", "host:peer_port"]),
            (&[("join", "h:1"), ("cluster_size", "3")], &["`cluster_size`", "`gossip_seeds`"]),
            (
                &[("gossip_seeds", "h:1"), ("cluster_size", "3"), ("learner", "true")],
                &["`learner`", "`cluster_size`"],
            ),
            (&[("cluster_nodes", "a:x")], &["`cluster_nodes`", "`a:x`", "peer_port"]),
            (&[("cluster_nodes", "a:1,a:1")], &["`cluster_nodes`", "another node"]),
            (&[("cluster_enabled", "true"), ("learner", "true")], &["`learner`", "`join`"]),
            (
                &[("join", "h:1"), ("raft_heartbeat_interval_ms", "100")],
                &["`raft_election_timeout_ms`", "300ms"],
            ),
            (&[("join", "h:1"), ("peer_tls_ca", "x")], &["`peer_tls_certificate`", "peer_tls_key"]),
            (&[("join", "h:1"), ("host", "0.0.0.0"), ("insecure", "true")], &["`advertise_host`", "0.0.0.0"]),
            (&[("join", "h:1"), ("port", "7070")], &["`port`", "`peer_port`"]),
            (&[("join", "h:1"), ("raft_election_timeout_ms", "1ms")], &["15ms", "60s"]),
        ] {
            let refusal = settings(given).unwrap_err();
            assert!(parts.iter().all(|part| refusal.contains(part)), "{refusal}");
        }
    }

    #[test]
    fn times_and_files_are_taken_over() {
        let tls = ["peer_tls_ca", "peer_tls_certificate", "peer_tls_key"].map(|name| (name, name));
        let times =
            [("raft_heartbeat_interval_ms", "200"), ("raft_election_timeout_ms", "1s"), ("join", "h:1")];
        let given = [&tls[..], &times, &[("advertise_host", "me"), ("cluster_redirect", "true")]].concat();
        let cluster = cluster(&given);
        assert_eq!((cluster.heartbeat.as_millis(), cluster.election_timeout.as_millis()), (200, 1000));
        assert_eq!(cluster.tls.unwrap().key, PathBuf::from("peer_tls_key"));
        assert_eq!((cluster.http_address.as_str(), cluster.peer_address.as_str()), ("me:8080", "me:7070"));
        assert!(cluster.redirect && !cluster.learner && cluster.name == "esker");
        let effective = effective(&given).unwrap();
        let silence = Settings::new(&effective).unwrap().server.timeouts.member_silence;
        assert_eq!(silence, Duration::from_secs(2));
    }
}
