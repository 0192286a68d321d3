//! A way to a server that can be led to another one, and that breaks connections in the middle of answers.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Where it leads, and how many bytes of answers each connection carries; `usize::MAX` for all.
type Way = Arc<Mutex<(String, Box<dyn FnMut() -> usize + Send>)>>;

pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    way: Way,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    /// Leads to `target` (`http://host:port`); `budget` says of each new connection after how many bytes it breaks.
    pub(crate) fn start(target: &str, budget: impl FnMut() -> usize + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let way: Way = Arc::new(Mutex::new((target.to_owned(), Box::new(budget))));
        let cuts = Arc::<AtomicUsize>::default();
        let (shared, counter) = (Arc::clone(&way), Arc::clone(&cuts));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (target, budget) = {
                    let mut way = shared.lock().unwrap();
                    let budget = (way.1)();
                    (way.0.clone(), budget)
                };
                // Who cannot be reached is told by a connection that ends.
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target["http://".len()..]))
                else {
                    continue;
                };
                let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || carry(from_client, to_server, usize::MAX));
                let counter = Arc::clone(&counter);
                thread::spawn(move || {
                    if carry(server, client, budget) {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { endpoint, way, cuts }
    }

    /// Leads to another server from now on.
    pub(crate) fn lead_to(&self, target: &str) {
        self.way.lock().unwrap().0 = target.to_owned();
    }

    /// Connections that were broken.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Carries so many bytes, then breaks the connection on both sides; says whether there were that many.
fn carry(mut from: TcpStream, mut to: TcpStream, mut budget: usize) -> bool {
    let mut bytes = [0; 4096];
    while budget > 0 {
        let most = bytes.len().min(budget);
        let Ok(read @ 1..) = from.read(&mut bytes[..most]) else { break };
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
        budget -= read;
    }
    let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    budget == 0
}
