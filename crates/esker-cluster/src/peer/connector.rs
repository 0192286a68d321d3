//! Connections to other nodes over the real network.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{
    Caller, Connector, PeerApi, PeerOptions, PeerTls,
    connection::{Connection, Links},
    link::Target,
};

/// A source of numbers uniform in 0..1.
pub type Jitter = dyn Fn() -> f64 + Send + Sync;

/// Connects to nodes over TCP or TLS. Connections to one address share their links, and so what is known of the
/// node's being reachable. The calls, not [`connect`](Connector::connect), must be made within a tokio runtime.
pub struct TonicConnector {
    options: Arc<PeerOptions>,
    tls: Option<PeerTls>,
    jitter: Arc<Jitter>,
    /// By address. As many as are in use: who uses them holds them.
    links: Mutex<HashMap<String, Weak<Links>>>,
}

impl TonicConnector {
    /// With `tls`, only nodes are talked to that show a certificate of its authority. `jitter` is the randomness of
    /// the back-off.
    pub fn new(options: PeerOptions, tls: Option<PeerTls>, jitter: Arc<Jitter>) -> Self {
        Self { options: Arc::new(options), tls, jitter, links: Mutex::default() }
    }

    fn links(&self, address: &str) -> Arc<Links> {
        let mut all = self.links.lock();
        if let Some(links) = all.get(address).and_then(Weak::upgrade) {
            return links;
        }
        all.retain(|_, links| links.strong_count() > 0);
        let links = Arc::new(Links::new(Target {
            address: address.to_owned(),
            options: self.options.clone(),
            tls: self.tls.clone(),
            jitter: self.jitter.clone(),
        }));
        all.insert(address.to_owned(), Arc::downgrade(&links));
        links
    }
}

impl Connector for TonicConnector {
    fn connect(&self, address: &str, caller: Caller) -> Arc<dyn PeerApi> {
        Arc::new(Connection::new(self.links(address), &caller))
    }
}

impl fmt::Debug for TonicConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TonicConnector")
            .field("options", &self.options)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
