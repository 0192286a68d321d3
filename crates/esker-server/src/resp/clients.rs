//! Who is connected: what CLIENT LIST tells, and how CLIENT KILL ends.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

/// All connections, by number.
#[derive(Default)]
pub(crate) struct Clients {
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
}

/// What others may know of a connection.
pub(crate) struct Client {
    /// Its number; never given twice.
    pub(crate) id: u64,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    opened: Instant,
    told: Mutex<Told>,
    /// Notified when the connection is to end.
    pub(crate) killed: Notify,
}

/// What a connection says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) user: String,
    pub(crate) name: Vec<u8>,
    pub(crate) library: Vec<u8>,
    pub(crate) library_version: Vec<u8>,
    /// The last command, as in the table.
    pub(crate) command: &'static str,
    pub(crate) resp: u8,
    /// Commands that wait for EXEC; `None` outside a transaction.
    pub(crate) queued: Option<usize>,
    pub(crate) watched: usize,
    pub(crate) active: Instant,
}

impl Clients {
    /// A new connection, of the number that its lines in the log have.
    pub(crate) fn enter(&self, id: u64, peer: Option<SocketAddr>, local: Option<SocketAddr>) -> Arc<Client> {
        let now = Instant::now();
        let told = Told {
            user: "default".into(),
            name: Vec::new(),
            library: Vec::new(),
            library_version: Vec::new(),
            command: "NULL",
            resp: 2,
            queued: None,
            watched: 0,
            active: now,
        };
        let killed = Notify::new();
        let client = Arc::new(Client { id, peer, local, opened: now, told: Mutex::new(told), killed });
        lock(&self.all).insert(id, Arc::clone(&client));
        client
    }

    pub(crate) fn leave(&self, id: u64) {
        lock(&self.all).remove(&id);
    }

    /// All of them, by number.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        lock(&self.all).values().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.all).len()
    }
}

impl Client {
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
    }

    /// Its line of CLIENT LIST and CLIENT INFO.
    pub(crate) fn line(&self) -> String {
        let told = self.told().clone();
        let address = |address: Option<SocketAddr>| address.map_or_else(|| "?:0".into(), |it| it.to_string());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let flags = if told.queued.is_some() { "x" } else { "N" };
        let mut line = String::new();
        write!(
            line,
            "id={} addr={} laddr={} name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 multi={} watch={} cmd={} user={} \
             lib-name={} lib-ver={} resp={}",
            self.id,
            address(self.peer),
            address(self.local),
            text(&told.name),
            self.opened.elapsed().as_secs(),
            told.active.elapsed().as_secs(),
            told.queued.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX)),
            told.watched,
            told.command,
            told.user,
            text(&told.library),
            text(&told.library_version),
            told.resp,
        )
        .expect("writing to a string cannot fail");
        line
    }
}

/// Every change is whole before anything can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_connected_is_told() {
        let clients = Clients::default();
        let client = clients.enter(1, "127.0.0.1:7".parse().ok(), None);
        client.told().name = b"worker".to_vec();
        client.told().queued = Some(2);
        let line = clients.all()[0].line();
        assert!(line.starts_with("id=1 addr=127.0.0.1:7 laddr=?:0 name=worker age=0 "), "{line}");
        assert!(line.contains(" flags=x ") && line.contains(" multi=2 "), "{line}");
        assert_eq!(clients.enter(9, None, None).id, 9);
        clients.leave(1);
        assert_eq!(clients.count(), 1);
    }
}
