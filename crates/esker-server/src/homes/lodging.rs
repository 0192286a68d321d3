//! A connection's stay in a home, and how it moves to another.
//!
//! The future that serves a connection moves as it is: it says that it wants to ([`Lodging::settle`]), waits, and is polled next in the
//! other home. What it has registered with the old one (its socket, its timer) would go on working from there, by a wake across threads
//! each time; so it registers anew.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use super::Homes;

/// See the module.
pub(crate) struct Lodging {
    homes: Homes,
    /// The number of the home where it is, or where it moves.
    at: AtomicUsize,
    /// Up to which change of the homes it has looked whether to move.
    seen: AtomicUsize,
    /// Whether it waits to be polled elsewhere.
    moves: AtomicBool,
}

impl Lodging {
    pub(super) fn new(homes: Homes) -> Self {
        let (seen, at) = (homes.changes(), homes.emptiest());
        homes.0.homes[at].connections.fetch_add(1, Ordering::Relaxed);
        Self { homes, at: AtomicUsize::new(at), seen: AtomicUsize::new(seen), moves: AtomicBool::new(false) }
    }

    /// Runs the future where it is at home, and wherever it moves.
    pub(super) fn spawn(self: Arc<Self>, future: Pin<Box<impl Future<Output = ()> + Send + 'static>>) {
        let handle = self.homes.0.homes[self.at.load(Ordering::Relaxed)].handle.clone();
        handle.spawn(Lodger { future: Some(future), lodging: self });
    }

    /// Moves if there is a better home since homes were opened or closed; says whether it did. To be waited for by the future itself
    /// that lodges here, while nothing is under way.
    pub(crate) async fn settle(&self) -> bool {
        let changes = self.homes.changes();
        if changes == self.seen.load(Ordering::Relaxed) {
            return false;
        }
        self.seen.store(changes, Ordering::Relaxed);
        if self.homes.0.front.drain.has_begun() {
            // All homes end soon.
            return false;
        }
        let Some(to) = self.better() else { return false };
        let homes = &self.homes.0.homes;
        homes[to].connections.fetch_add(1, Ordering::Relaxed);
        homes[self.at.swap(to, Ordering::Relaxed)].connections.fetch_sub(1, Ordering::Relaxed);
        self.moves.store(true, Ordering::Relaxed);
        let mut is_there = false;
        std::future::poll_fn(|_| match std::mem::replace(&mut is_there, true) {
            // Nobody wakes it: it is polled next because it was moved.
            false => Poll::Pending,
            true => Poll::Ready(true),
        })
        .await
    }

    /// Another home if this one is closed, has more than one connection more, or is busier: then for every second that asks, so that one
    /// alone stays.
    fn better(&self) -> Option<usize> {
        let at = self.at.load(Ordering::Relaxed);
        if let Some(uneven) = &mut *self.homes.0.uneven.lock() {
            uneven.asked += usize::from(uneven.from == at);
            return (uneven.from == at && uneven.asked % 2 == 0).then_some(uneven.to);
        }
        let to = self.homes.emptiest();
        let connections = |home: usize| self.homes.0.homes[home].connections.load(Ordering::Relaxed);
        let is_better = at >= self.homes.open() || connections(at) > connections(to) + 1;
        (at != to && is_better).then_some(to)
    }
}

impl Drop for Lodging {
    fn drop(&mut self) {
        let at = self.at.load(Ordering::Relaxed);
        self.homes.0.homes[at].connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Polls the future of a connection, and hands it on when it moves.
struct Lodger<F> {
    /// `None` once it was handed on.
    future: Option<Pin<Box<F>>>,
    lodging: Arc<Lodging>,
}

impl<F: Future<Output = ()> + Send + 'static> Future for Lodger<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(future) = &mut this.future else { return Poll::Ready(()) };
        if future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !this.lodging.moves.swap(false, Ordering::Relaxed) {
            return Poll::Pending;
        }
        if let Some(future) = this.future.take() {
            Arc::clone(&this.lodging).spawn(future);
        }
        Poll::Ready(())
    }
}
