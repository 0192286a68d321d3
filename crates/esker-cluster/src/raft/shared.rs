//! What the parts of a node share: who it is, who the others are, and the ways to them.

use std::{collections::BTreeMap, sync::Arc};

use esker_engine::Replica;
use parking_lot::Mutex;

use super::{
    acknowledged::Acknowledged, config::RaftConfig, contact::Contact, gossip::AddressBook,
    log_store::Progress, snapshot::Outgoing, types::Node,
};
use crate::peer::{Caller, Connector, Id, Identity, PeerApi, PeerError, PeerResult, wire};

/// See the module.
pub(crate) struct Shared {
    pub(crate) config: RaftConfig,
    pub(crate) cluster: Id,
    pub(crate) me: Identity,
    pub(crate) replica: Replica,
    pub(crate) progress: Arc<Progress>,
    /// The snapshot that is being sent.
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) blocking_threads: bool,
    /// How far the peers have acknowledged entries.
    pub(crate) acknowledged: Acknowledged,
    /// Where nodes were heard of.
    pub(crate) book: Arc<AddressBook>,
    connector: Arc<dyn Connector>,
    peers: Mutex<BTreeMap<u64, Peer>>,
}

struct Peer {
    node: Node,
    api: Arc<dyn PeerApi>,
    contact: Arc<Contact>,
}

impl Shared {
    pub(crate) fn new(
        config: RaftConfig,
        cluster: Id,
        me: Identity,
        (replica, progress): (Replica, Arc<Progress>),
        connector: Arc<dyn Connector>,
        book: Arc<AddressBook>,
    ) -> Self {
        let blocking_threads = config.blocking_threads;
        Self {
            config,
            cluster,
            me,
            replica,
            progress,
            outgoing: Arc::default(),
            blocking_threads,
            acknowledged: Acknowledged::default(),
            book,
            connector,
            peers: Mutex::default(),
        }
    }

    /// This node, as it tells others.
    pub(crate) fn member(&self) -> wire::Member {
        wire::Member {
            node: self.me.node,
            instance: self.me.instance.to_vec().into(),
            peer_address: self.config.peer_address.clone(),
            http_address: self.config.http_address.clone(),
            voter: self.config.voter,
            ..wire::Member::default()
        }
    }

    /// Does what may wait for the disk: on a thread of its own, unless there is only one.
    ///
    /// Errors: it panicked.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> PeerResult<T> {
        if !self.blocking_threads {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await.map_err(|e| PeerError::Failed(e.to_string()))
    }

    pub(crate) fn node_id(&self) -> u64 {
        self.me.node
    }

    /// The connection to a peer; the same as before as long as the peer is the same instance at the same place.
    pub(crate) fn connect(&self, target: u64, node: &Node) -> Arc<dyn PeerApi> {
        let mut peers = self.peers.lock();
        let node = Node { peer_address: self.address_of(node), ..node.clone() };
        if let Some(peer) = peers.get(&target).filter(|peer| same_place(&peer.node, &node)) {
            return Arc::clone(&peer.api);
        }
        let to = Identity { node: target, instance: node.instance };
        let api = self.connector.connect(&node.peer_address, self.caller_to(to));
        let contact = Arc::default();
        peers.insert(target, Peer { node, api: Arc::clone(&api), contact });
        api
    }

    /// Where a member is: where it was met lately, else where the list of members has it.
    pub(crate) fn address_of(&self, node: &Node) -> String {
        self.book.met_at(&node.instance).unwrap_or_else(|| node.peer_address.clone())
    }

    /// Whether a peer that was connected before can be reached.
    pub(crate) fn contact(&self, target: u64) -> Arc<Contact> {
        self.peers.lock().get(&target).map(|peer| Arc::clone(&peer.contact)).unwrap_or_default()
    }

    /// A peer has called: it is there.
    pub(crate) fn heard_of(&self, caller: &Identity) {
        let peers = self.peers.lock();
        if let Some(peer) = peers.get(&caller.node).filter(|peer| peer.node.instance == caller.instance) {
            peer.api.called();
            peer.contact.heard();
        }
    }

    /// This node, calling a peer that was connected before.
    pub(crate) fn caller(&self, target: u64) -> Caller {
        let instance = self.peers.lock().get(&target).map_or([0; 16], |peer| peer.node.instance);
        self.caller_to(Identity { node: target, instance })
    }

    fn caller_to(&self, to: Identity) -> Caller {
        Caller { cluster: self.cluster, from: self.me, to }
    }

    /// A way to whoever listens at an address.
    pub(crate) fn stranger(&self, address: &str) -> Arc<dyn PeerApi> {
        super::formation::stranger(&self.connector, address, self.me)
    }

    pub(crate) fn snapshot_bytes_per_second(&self) -> u64 {
        self.config.snapshot_bytes_per_second.max(1)
    }
}

fn same_place(a: &Node, b: &Node) -> bool {
    a.instance == b.instance && a.peer_address == b.peer_address
}
