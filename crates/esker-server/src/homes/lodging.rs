//! A connection's stay in a home, and how it moves to another.
//!
//! The future that serves a connection moves as it is: it says that it wants to ([`Lodging::settle`], [`Lodging::leave`]), waits, and is
//! polled next in the other home. What it has registered with the old one (its socket, its timer) would go on working from there, by a wake
//! across threads each time; so it registers anew.
//!
//! A home is for small requests: who has got the first 64 KiB of a long answer together leaves for the runtime whose threads take work from each other, where nobody has
//! to wait for it, and comes back when it has asked for little for a while.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use super::{Home, Homes};

/// How often a connection that has left reads, and asks for little, before it comes back: moving costs some 10 µs, twice.
const TURNS_AWAY: usize = 16;

/// See the module.
pub(crate) struct Lodging {
    homes: Homes,
    /// The number of the home where it is, or where it moves; one more than there are if it has left.
    at: AtomicUsize,
    /// So many turns more it stays away.
    turns_away: AtomicUsize,
    /// Up to which change of the homes it has looked whether to move.
    seen: AtomicUsize,
    /// Whether it waits to be polled elsewhere.
    moves: AtomicBool,
}

impl Lodging {
    /// In the home that has the fewest connections; or, if it is to begin with something long, away until then.
    pub(super) fn new(homes: Homes, begins_long: bool) -> Self {
        let (seen, away) = (homes.changes(), homes.away());
        let at = away.filter(|_| begins_long).unwrap_or_else(|| homes.emptiest());
        homes.home(at).connections.fetch_add(1, Ordering::Relaxed);
        Self {
            homes,
            at: AtomicUsize::new(at),
            turns_away: AtomicUsize::new(0),
            seen: AtomicUsize::new(seen),
            moves: AtomicBool::new(false),
        }
    }

    fn home(&self) -> &Home {
        self.homes.home(self.at.load(Ordering::Relaxed))
    }

    /// Runs the future where it is at home, and wherever it moves.
    pub(super) fn spawn(self: Arc<Self>, future: Pin<Box<impl Future<Output = ()> + Send + 'static>>) {
        let handle = self.home().handle.clone();
        handle.spawn(Lodger { future: Some(future), lodging: self });
    }

    /// Comes back if it has left and asks for little now, or moves if there is a better home since homes were opened or closed; says whether
    /// it did. To be waited for by the future itself that lodges here, as is [`Lodging::leave`], while no write is under way: a home
    /// may hold it back, and what is written elsewhere would be before it.
    pub(crate) async fn settle(&self) -> bool {
        let has_left = self.homes.away() == Some(self.at.load(Ordering::Relaxed));
        let turns = self.turns_away.load(Ordering::Relaxed);
        if has_left && turns > 0 {
            self.turns_away.store(turns - 1, Ordering::Relaxed);
            return false;
        }
        let changes = self.homes.changes();
        if changes == self.seen.swap(changes, Ordering::Relaxed) && !has_left {
            return false;
        }
        match self.better() {
            Some(to) => self.move_to(to).await,
            None => false,
        }
    }

    /// So many requests were served where it is.
    pub(crate) fn note_served(&self, requests: usize) {
        self.home().served.fetch_add(requests as u64, Ordering::Relaxed);
    }

    /// Has answers wait until the others that are ready at this home have run their requests: then all are written one after the other. A
    /// client of many connections, as most are, is woken by the first answer; on finding nothing behind it, it would go to sleep
    /// again, and be woken by the next, which costs the server more than to write it. (Redis writes what a turn answered at its end,
    /// in `beforeSleep`.)
    pub(crate) async fn stand_back(&self) {
        let at = self.at.load(Ordering::Relaxed);
        if self.homes.away() == Some(at) || self.home().connections.load(Ordering::Relaxed) < 2 {
            return;
        }
        let mut is_behind = false;
        std::future::poll_fn(|cx| match std::mem::replace(&mut is_behind, true) {
            false => {
                // To the end of the home's queue. (`yield_now` would ask the kernel for more before that, even if nobody else is ready.)
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            true => Poll::Ready(()),
        })
        .await;
    }

    /// The beginning of a long answer was made: goes where others need not wait for the rest, and says whether it did.
    pub(crate) async fn leave(&self) -> bool {
        let Some(away) = self.homes.away() else { return false };
        self.turns_away.store(TURNS_AWAY, Ordering::Relaxed);
        self.move_to(away).await
    }

    async fn move_to(&self, to: usize) -> bool {
        // All homes end soon after a drain begins.
        if to == self.at.load(Ordering::Relaxed) || self.homes.0.front.drain.has_begun() {
            return false;
        }
        self.homes.home(to).connections.fetch_add(1, Ordering::Relaxed);
        let from = self.at.swap(to, Ordering::Relaxed);
        self.homes.home(from).connections.fetch_sub(1, Ordering::Relaxed);
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
        if at < self.homes.open()
            && let Some(uneven) = &mut *self.homes.0.uneven.lock()
        {
            uneven.asked += usize::from(uneven.from == at);
            return (uneven.from == at && uneven.asked % 2 == 0).then_some(uneven.to);
        }
        let to = self.homes.emptiest();
        let connections = |home: usize| self.homes.home(home).connections.load(Ordering::Relaxed);
        let is_better = at >= self.homes.open() || connections(at) > connections(to) + 1;
        (at != to && is_better).then_some(to)
    }
}

impl Drop for Lodging {
    fn drop(&mut self) {
        self.home().connections.fetch_sub(1, Ordering::Relaxed);
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
