//! A network between simulated nodes that delays, loses, repeats, reorders and breaks.
//!
//! ```text
//! SimHost (a Connector) -> SimPeer (a PeerApi) -- link one way --> the node that listens at the address (a PeerApi)
//!                                              <- link back ------
//! ```
//!
//! Unary calls are messages of their own: they overtake one another, are lost (the caller then waits until its patience
//! ends), arrive twice, or are answered in vain. What is under way arrives even if the caller gave up. Streams are
//! as TCP has them: in order and without gaps until they break, which loses what is under way in both directions. While a
//! link is blocked, streams stand still, and break if it takes longer than the patience.
//!
//! Left out: bandwidth, and the back-off of the real transport (a call to a node that is down fails after a message's
//! delay each time). Identities are not checked here; the caller's goes through to the node, which does that.

mod call;
mod link;
mod peer;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Weak},
    time::Duration,
};

use esker_cluster::peer::{Caller, Connector, PeerApi, PeerError};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use self::{peer::SimPeer, stream::Connection};
use crate::{Rng, sim::Sim, trace::Trace};

pub use link::LinkProfile;

/// What a caller meets where nobody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Down {
    /// The host lives, the process does not: refused at once.
    #[default]
    Refuses,
    /// The host is off: silence.
    Silent,
}

/// A network; clones are handles to the same one.
#[derive(Clone)]
pub struct SimNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    rng: Rng,
    trace: Trace,
    /// How long callers wait for an answer, and streams for a blocked link.
    patience: Duration,
    state: Mutex<State>,
    /// Counts changes of what is blocked, for those who wait for them.
    changes: watch::Sender<u64>,
}

/// One way: from an address to an address.
type Way = (String, String);

#[derive(Default)]
struct State {
    hosts: BTreeMap<String, Host>,
    /// How often the process at an address was stopped: what an earlier one still says is not heard.
    stops: BTreeMap<String, u64>,
    /// The manners of every link that has none of its own.
    profile: LinkProfile,
    profiles: BTreeMap<Way, LinkProfile>,
    blocked: BTreeSet<Way>,
    clogged: BTreeMap<Way, Range<Duration>>,
    connections: Vec<(Way, Weak<Connection>)>,
}

#[derive(Clone)]
enum Host {
    Up(Process),
    Down(Down),
}

/// A node as long as it runs.
#[derive(Clone)]
struct Process {
    api: Arc<dyn PeerApi>,
    alive: watch::Sender<bool>,
}

impl Process {
    /// The outcome of `work`, or `None` if the process ended first.
    async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut alive = self.alive.subscribe();
        tokio::select! {
            biased;
            _ = alive.wait_for(|alive| !alive) => None,
            done = work => Some(done),
        }
    }
}

impl SimNetwork {
    /// A calm network without hosts.
    pub fn new(sim: &Sim, patience: Duration) -> Self {
        let shared = Shared {
            rng: sim.rng.fork("network"),
            trace: sim.trace.clone(),
            patience,
            state: Mutex::default(),
            changes: watch::Sender::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The connector of the process that runs at `address` until [`SimNetwork::stop`]: take it anew for each start.
    pub fn host(&self, address: &str) -> SimHost {
        let run = self.run_of(address);
        SimHost { network: self.clone(), origin: Origin { address: address.to_owned(), run } }
    }

    fn run_of(&self, address: &str) -> u64 {
        self.shared.state.lock().stops.get(address).copied().unwrap_or(0)
    }

    /// A node answers at `address` from now on. One that did so before counts as killed.
    pub fn listen(&self, address: &str, api: Arc<dyn PeerApi>) {
        self.take_down(address, Down::Refuses);
        let process = Process { api, alive: watch::Sender::new(true) };
        self.shared.state.lock().hosts.insert(address.to_owned(), Host::Up(process));
    }

    /// The node at `address` is gone: what it was doing for others ends, its connections break, and its [`SimHost`] makes
    /// no more.
    pub fn stop(&self, address: &str, down: Down) {
        *self.shared.state.lock().stops.entry(address.to_owned()).or_default() += 1;
        self.take_down(address, down);
    }

    fn take_down(&self, address: &str, down: Down) {
        let before = self.shared.state.lock().hosts.insert(address.to_owned(), Host::Down(down));
        if let Some(Host::Up(process)) = before {
            process.alive.send_replace(false);
        }
        self.reset_where(|(from, to)| from == address || to == address);
    }

    /// Sets the manners of all links, and forgets those of single ones.
    pub fn set_profile(&self, profile: LinkProfile) {
        let mut state = self.shared.state.lock();
        state.profile = profile;
        state.profiles.clear();
    }

    /// Sets the manners of one link, one way.
    pub fn set_link(&self, from: &str, to: &str, profile: LinkProfile) {
        self.shared.state.lock().profiles.insert(way(from, to), profile);
    }

    /// Nothing comes through from `from` to `to`; the other way is left as it is.
    pub fn block(&self, from: &str, to: &str) {
        self.change(|state| {
            state.blocked.insert(way(from, to));
        });
    }

    /// Opens a blocked way.
    pub fn unblock(&self, from: &str, to: &str) {
        self.change(|state| {
            state.blocked.remove(&way(from, to));
        });
    }

    /// Nothing comes through between hosts of different groups, in either direction.
    pub fn partition(&self, groups: &[Vec<String>]) {
        self.change(|state| {
            for (at, group) in groups.iter().enumerate() {
                for other in groups.iter().skip(at + 1) {
                    for (one, two) in group.iter().flat_map(|one| other.iter().map(move |two| (one, two))) {
                        state.blocked.extend([way(one, two), way(two, one)]);
                    }
                }
            }
        });
    }

    /// Every message from `from` to `to` takes this much longer.
    pub fn clog(&self, from: &str, to: &str, by: Range<Duration>) {
        self.shared.state.lock().clogged.insert(way(from, to), by);
    }

    /// Breaks the streams from `from` to `to` that are open.
    pub fn reset(&self, from: &str, to: &str) {
        self.reset_where(|between| *between == way(from, to));
    }

    /// All ways open, nothing clogged, all links calm. Who is down stays down.
    pub fn heal(&self) {
        self.set_profile(LinkProfile::calm());
        self.change(|state| {
            state.blocked.clear();
            state.clogged.clear();
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock());
        self.shared.changes.send_modify(|count| *count += 1);
    }

    fn reset_where(&self, chosen: impl Fn(&Way) -> bool) {
        let connections: Vec<Arc<Connection>> = {
            let state = self.shared.state.lock();
            let chosen = state.connections.iter().filter(|(between, _)| chosen(between));
            chosen.filter_map(|(_, connection)| connection.upgrade()).collect()
        };
        for connection in connections {
            connection.break_off(PeerError::Unreachable("the connection was reset".into()));
        }
    }
}

/// What calls and streams ask of the network.
impl SimNetwork {
    fn host_at(&self, address: &str) -> Host {
        let state = self.shared.state.lock();
        state.hosts.get(address).cloned().unwrap_or(Host::Down(Down::default()))
    }

    /// How long the next message takes.
    fn draw_delay(&self, between: &Way) -> Duration {
        let clog = self.shared.state.lock().clogged.get(between).cloned().unwrap_or_default();
        self.profile(between).draw_delay(&self.shared.rng) + self.shared.rng.duration(clog)
    }

    fn profile(&self, between: &Way) -> LinkProfile {
        let state = self.shared.state.lock();
        state.profiles.get(between).unwrap_or(&state.profile).clone()
    }

    fn is_blocked(&self, between: &Way) -> bool {
        self.shared.state.lock().blocked.contains(between)
    }

    /// Waits for an open way; false if that takes longer than the patience.
    async fn wait_until_open(&self, between: &Way) -> bool {
        let mut changes = self.shared.changes.subscribe();
        let open = changes.wait_for(|_| !self.is_blocked(between));
        timeout(self.shared.patience, open).await.is_ok()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.shared.patience
    }

    fn remember(&self, between: Way, connection: &Arc<Connection>) {
        let mut state = self.shared.state.lock();
        state.connections.retain(|(_, connection)| connection.strong_count() > 0);
        state.connections.push((between, Arc::downgrade(connection)));
    }

    fn note(&self, between: &Way, what: &str) {
        self.shared.trace.note(format_args!("net {} > {}: {what}", between.0, between.1));
    }
}

fn way(from: &str, to: &str) -> Way {
    (from.to_owned(), to.to_owned())
}

fn back((from, to): &Way) -> Way {
    (to.clone(), from.clone())
}

/// A host on the network: where a node's connections come from.
#[derive(Clone)]
pub struct SimHost {
    network: SimNetwork,
    origin: Origin,
}

impl SimHost {
    /// The host is off, at once: nobody hears of what its process still does.
    pub fn go_off(&self) {
        if self.origin.is_alive(&self.network) {
            self.network.stop(&self.origin.address, Down::Silent);
        }
    }
}

/// A process as the sender of messages.
#[derive(Clone)]
struct Origin {
    address: String,
    run: u64,
}

impl Origin {
    /// Whether the process still runs.
    fn is_alive(&self, network: &SimNetwork) -> bool {
        network.run_of(&self.address) == self.run
    }
}

impl Connector for SimHost {
    fn connect(&self, address: &str, caller: Caller) -> Arc<dyn PeerApi> {
        let between = way(&self.origin.address, address);
        Arc::new(SimPeer { network: self.network.clone(), origin: self.origin.clone(), between, caller })
    }
}
