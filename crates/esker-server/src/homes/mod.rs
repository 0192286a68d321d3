//! Threads that each serve connections of their own.
//!
//! A connection of many small requests costs the least where nothing of it changes threads: its bytes, its timer, its waker. So it is
//! at home in a runtime of one thread, the one that has the fewest, and what those of one thread write is committed together ([`Store::home`]).
//! Others share a runtime whose threads take work from each other: what a request costs there varies by much, and few connections may be all there are.
//! There, too, is a connection while a long answer goes to it.
//!
//! ```text
//! accept ─▶ home with the fewest ─▶ ... ─▶ moves, between two requests, when homes were opened, closed or evened out
//!                 ▲   │                       ▲ threads' times, each 200 ms: load ─▶ packing: which of it
//!    little asked │   ▼ a long answer, a handshake of TLS
//!               what others share
//! ```
//!
//! More threads than cores that are free for them only take turns, and pay for each with a switch. So homes are closed while their work
//! fits into fewer and they wait for cores, and opened while they are full and cores idle ([`packing`]). Connections of HTTP and gRPC cannot move:
//! where they have homes, too, all of these are open.
//!
//! [`Store::home`]: esker_cluster::Store::home

mod load;
mod lodging;
mod packing;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    io,
    num::NonZeroUsize,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use esker_log::clock::Clock;
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

pub(crate) use self::lodging::Lodging;
use self::{
    load::{Cores, Times},
    packing::{Change, Packing},
};
use crate::{http::Front, server::BLOCKING_THREADS};

/// How often it is looked how much the homes have to do.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where connections of some fronts are served. Cloning gives another handle.
#[derive(Clone)]
pub(crate) struct Homes(Arc<Inner>);

struct Inner {
    front: Arc<Front>,
    homes: Vec<Home>,
    /// Where connections with long answers are meanwhile, if these may move.
    away: Option<Home>,
    /// The first so many are open.
    open: AtomicUsize,
    /// Counts how often that changed, or homes were to be evened out.
    changes: AtomicUsize,
    /// Of the busiest home, every second connection that asks moves to the idlest one.
    uneven: Mutex<Option<Uneven>>,
}

/// A home that is full beside one that is not.
struct Uneven {
    from: usize,
    to: usize,
    /// How many connections have asked whether to move: those that have something to do.
    asked: usize,
}

struct Home {
    handle: Handle,
    connections: AtomicUsize,
    /// Requests that were served here.
    served: AtomicU64,
    /// What its thread has run and waited for cores, where the system tells.
    times: Arc<OnceLock<Times>>,
}

impl Home {
    fn new(handle: &Handle) -> Self {
        let (connections, served) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { handle: handle.clone(), connections, served, times: Arc::default() }
    }

    fn done(&self) -> load::Done {
        // Its one thread.
        let busy = self.handle.metrics().worker_total_busy_duration(0);
        load::Done::new(self.times.get(), busy, self.served.load(Ordering::Relaxed))
    }
}

/// The threads behind [`Homes`]. They end when this is dropped, with whatever they still serve.
pub(crate) struct HomeThreads(Vec<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Homes {
    /// Starts so many threads; each drops what `leaving` gave it when it ends, also of a panic. `shared` is the runtime where connections
    /// with long answers are meanwhile, if there is one.
    pub(crate) fn start<L: Send + 'static>(
        front: &Arc<Front>,
        count: NonZeroUsize,
        shared: Option<&Handle>,
        leaving: impl Fn() -> L,
    ) -> io::Result<(Self, HomeThreads)> {
        let (mut homes, mut threads) = (Vec::new(), HomeThreads(Vec::new()));
        for number in 0..count.get() {
            let mut builder = Builder::new_current_thread();
            builder.max_blocking_threads(BLOCKING_THREADS).thread_name("esker-blocking").enable_all();
            let runtime = builder.build()?;
            let home = Home::new(runtime.handle());
            let times = Arc::clone(&home.times);
            homes.push(home);
            let (front, leaving) = (Arc::clone(front), leaving());
            let (stop, stopped) = oneshot::channel();
            let thread = std::thread::Builder::new().name(format!("esker-home-{number}"));
            let thread = thread.spawn(move || {
                let _leaving = leaving;
                if let Some(own) = Times::of_this_thread() {
                    times.get_or_init(|| own);
                }
                serve(runtime, front, stopped);
            })?;
            threads.0.push((stop, thread));
        }
        let (front, open) = (Arc::clone(front), homes.len());
        let homes = Inner {
            front,
            homes,
            away: shared.map(Home::new),
            open: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            uneven: Mutex::default(),
        };
        let homes = Self(Arc::new(homes));
        homes.open_so_many(open);
        Ok((homes, threads))
    }

    /// Serves a connection in the home that has the fewest; if it begins with something long, not before that is done.
    pub(crate) fn take_in<F>(
        &self,
        stream: TcpStream,
        begins_long: bool,
        serve: impl FnOnce(TcpStream, Arc<Lodging>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(e) => return tracing::debug!(error = %e, "a connection ended before it was served"),
        };
        let lodging = Arc::new(Lodging::new(self.clone(), begins_long));
        lodging.clone().spawn(Box::pin(async move {
            // It is known to the accepting thread's poll no more, and to this one's from now on.
            match TcpStream::from_std(stream) {
                Ok(stream) => serve(stream, lodging).await,
                Err(e) => tracing::warn!(error = %e, "a connection cannot be served"),
            }
        }));
    }

    /// How many homes are open.
    pub(crate) fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// The number of what is no home, but where a connection may be meanwhile.
    fn away(&self) -> Option<usize> {
        self.0.away.as_ref().map(|_| self.0.homes.len())
    }

    fn home(&self, number: usize) -> &Home {
        let away = || self.0.away.as_ref().expect("who is away has left for somewhere");
        self.0.homes.get(number).unwrap_or_else(away)
    }

    fn changes(&self) -> usize {
        self.0.changes.load(Ordering::Acquire)
    }

    /// The open home that has the fewest connections.
    fn emptiest(&self) -> usize {
        let open = self.0.homes.iter().take(self.open()).enumerate();
        let emptiest = open.min_by_key(|(_, home)| home.connections.load(Ordering::Relaxed));
        emptiest.map_or(0, |(number, _)| number)
    }

    /// Opens and closes homes as they have work, for ever.
    pub(crate) async fn pack(&self, clock: &dyn Clock) -> Infallible {
        let most = self.0.homes.len();
        let moves = matches!(self.0.front.config.runtime, crate::Runtime::Homes(_));
        let Some((times, mut cores)) =
            Times::of_this_thread().zip(Cores::look()).filter(|_| moves && most > 1)
        else {
            return std::future::pending().await;
        };
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        ticks.tick().await;
        if !times.are_kept() {
            return std::future::pending().await;
        }
        self.open_so_many(1);
        let mut packing = Packing::new(most);
        let mut before = self.look(clock);
        cores.idle_since_last();
        loop {
            ticks.tick().await;
            let now = self.look(clock);
            let load = now.since(&before, cores.idle_since_last());
            before = now;
            match packing.decide(&load) {
                Some(Change::Open(open)) => {
                    tracing::debug!(open, ?load, "homes are opened or closed");
                    self.open_so_many(open);
                }
                Some(Change::Even { from, to }) => {
                    tracing::debug!(from, to, ?load, "homes are evened out");
                    self.even_out(from, to);
                }
                None => {}
            }
        }
    }

    /// Connections look for it before they wait for their next request.
    fn open_so_many(&self, open: usize) {
        self.0.open.store(open, Ordering::Relaxed);
        self.0.front.metrics.homes_open.store(open as u64, Ordering::Relaxed);
        *self.0.uneven.lock() = None;
        self.0.changes.fetch_add(1, Ordering::Release);
    }

    /// The same, of the connections in one home.
    fn even_out(&self, from: usize, to: usize) {
        *self.0.uneven.lock() = Some(Uneven { from, to, asked: 0 });
        self.0.changes.fetch_add(1, Ordering::Release);
    }

    fn look(&self, clock: &dyn Clock) -> load::Seen {
        load::Seen { at: clock.monotonic(), homes: self.0.homes.iter().map(Home::done).collect() }
    }
}

fn serve(runtime: Runtime, front: Arc<Front>, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async {
        drop(tokio::spawn(async move { front.guarded.home().await }));
        // Dropped with the guard, which is the sign.
        let _dropped = stopped.await.is_err();
    });
    // Cuts off what the drain has left.
    runtime.shutdown_timeout(Duration::ZERO);
}

impl HomeThreads {
    /// Ends them, and says if one had died of a panic.
    pub(crate) fn join(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        // All of them first: nobody is to serve on while others are waited for.
        let threads: Vec<_> = self.0.drain(..).map(|(stop, thread)| (drop(stop), thread)).collect();
        let joined: Vec<_> = threads.into_iter().map(|((), thread)| thread.join()).collect();
        match joined.iter().all(Result::is_ok) {
            true => Ok(()),
            false => Err(io::Error::other("a thread that serves connections died of a defect")),
        }
    }
}

impl Drop for HomeThreads {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            tracing::error!("{e}");
        }
    }
}
