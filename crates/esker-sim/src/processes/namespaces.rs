//! A network namespace for each node, joined by a bridge; nft in each of them drops what it shall not hear.
//!
//! Needs root, `ip` (iproute2) and `nft` (nftables).

use std::{
    io::{self, Write},
    process::{Command, Stdio, id},
    sync::atomic::{AtomicU8, Ordering},
};

/// Tells the clusters of one test process apart.
static COUNT: AtomicU8 = AtomicU8::new(0);

/// The namespaces of a cluster; removed when dropped.
pub(super) struct Namespaces {
    /// Begins all names; those of devices are 15 bytes at most.
    prefix: String,
    /// Their third byte: `10.77.net.node`.
    net: u8,
    nodes: u64,
}

impl Namespaces {
    /// An error where this machine cannot do it, or may not.
    pub(super) fn new(nodes: u64) -> io::Result<Self> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // By process and count, so that tests that run at once do not meet; two processes rarely share the byte.
        let net = (id().wrapping_mul(13) as u8).wrapping_add(count);
        let namespaces = Self { prefix: format!("es{:x}x{count:x}", id()), net, nodes };
        namespaces.make_bridge()?;
        (1..=nodes).try_for_each(|node| namespaces.make_node(node))?;
        Ok(namespaces)
    }

    fn make_bridge(&self) -> io::Result<()> {
        let bridge = self.bridge();
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add 10.77.{}.254/24 dev {bridge}", self.net))?;
        ip(&format!("link set {bridge} up"))
    }

    fn make_node(&self, node: u64) -> io::Result<()> {
        let (name, device, bridge) = (self.name(node), self.device(node), self.bridge());
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {device} type veth peer name eth0 netns {name}"))?;
        ip(&format!("link set {device} master {bridge} up"))?;
        ip(&format!("-n {name} addr add {}/24 dev eth0", self.host(node)))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        // A table to begin with also tells early whether nft works here.
        self.nft(node, "add table inet esker")
    }

    fn bridge(&self) -> String {
        format!("{}b", self.prefix)
    }

    fn name(&self, node: u64) -> String {
        format!("{}n{node}", self.prefix)
    }

    fn device(&self, node: u64) -> String {
        format!("{}v{node}", self.prefix)
    }

    /// A node's address.
    pub(super) fn host(&self, node: u64) -> String {
        format!("10.77.{}.{node}", self.net)
    }

    /// What runs a program in a node's namespace.
    pub(super) fn run_in(&self, node: u64) -> Vec<String> {
        ["ip", "netns", "exec"].map(str::to_owned).into_iter().chain([self.name(node)]).collect()
    }

    /// The node hears nothing from these others any more; whom it did not hear before, it still does not.
    pub(super) fn deafen(&self, node: u64, to: &[u64]) -> io::Result<()> {
        let hosts: Vec<String> = to.iter().map(|other| self.host(*other)).collect();
        let rules = format!(
            "add chain inet esker deaf {{ type filter hook input priority 0; }}\nadd rule inet esker deaf ip saddr {{ {} }} drop",
            hosts.join(", ")
        );
        self.nft(node, &rules)
    }

    /// Everybody hears everybody.
    pub(super) fn heal(&self) -> io::Result<()> {
        (1..=self.nodes).try_for_each(|node| self.nft(node, "flush table inet esker"))
    }

    fn nft(&self, node: u64, rules: &str) -> io::Result<()> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(node), "nft", "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(rules.as_bytes())?;
        drop(input);
        succeeded("nft", &child.wait_with_output()?)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What was never made cannot be removed, and nobody is left to tell. Devices go first: a namespace may be kept
        // for a while by what still runs in it.
        for node in 1..=self.nodes {
            let _made = ip(&format!("link del {}", self.device(node)));
            let _made = ip(&format!("netns del {}", self.name(node)));
        }
        let _made = ip(&format!("link del {}", self.bridge()));
    }
}

fn ip(arguments: &str) -> io::Result<()> {
    succeeded(arguments, &Command::new("ip").args(arguments.split(' ')).output()?)
}

fn succeeded(what: &str, output: &std::process::Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
