//! The machine that a task runs on, where a simulation has many of them in one thread: it can stand still, as a process that
//! was stopped or a virtual machine that is moved, and its clock can run too slowly or too fast. A server has none:
//! tasks and time are tokio's.

use std::{
    ops::{Add, AddAssign, Sub, SubAssign},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    task::{JoinHandle, futures::TaskLocalFuture},
    time,
};

tokio::task_local! {
    static HERE: Host;
}

/// A simulated machine, as far as tasks and the time-outs of the consensus go; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Host {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    stands_still: bool,
    /// Whose turn it is once the machine goes on.
    waiting: Vec<Waker>,
    clock: Clock,
}

/// `shown` was the time at `since`; it has gone on at `rate` from there.
#[derive(Debug, Clone, Copy)]
struct Clock {
    since: time::Instant,
    shown: time::Instant,
    rate: f64,
}

impl Clock {
    fn shows(&self, at: time::Instant) -> time::Instant {
        self.shown + at.saturating_duration_since(self.since).mul_f64(self.rate)
    }

    /// When it shows a time.
    fn when(&self, shown: time::Instant) -> time::Instant {
        self.since + shown.saturating_duration_since(self.shown).div_f64(self.rate)
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A machine that goes on, with a clock that is right.
    pub fn new() -> Self {
        let now = time::Instant::now();
        let clock = Clock { since: now, shown: now, rate: 1.0 };
        let state = State { stands_still: false, waiting: Vec::new(), clock };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// No task of this machine does anything from now on. Time passes.
    pub fn stand_still(&self) {
        self.state.lock().stands_still = true;
    }

    /// The tasks go on.
    pub fn go_on(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.stands_still = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// In a second, the clock goes on by so many of its own, which must be more than 0.
    pub fn set_rate(&self, rate: f64) {
        let now = time::Instant::now();
        let clock = &mut self.state.lock().clock;
        *clock = Clock { since: now, shown: clock.shows(now), rate };
    }

    /// Runs `work` here, and all that the consensus spawns in it.
    pub fn run<F: Future>(&self, work: F) -> OnHost<F> {
        OnHost { host: self.clone(), work: Box::pin(HERE.scope(self.clone(), work)) }
    }

    /// What `look` finds, by this machine's clock.
    pub fn enter<T>(&self, look: impl FnOnce() -> T) -> T {
        HERE.sync_scope(self.clone(), look)
    }

    fn clock(&self) -> Clock {
        self.state.lock().clock
    }
}

/// Work on a [`Host`].
#[must_use = "futures do nothing unless polled"]
pub struct OnHost<F> {
    host: Host,
    work: Pin<Box<TaskLocalFuture<Host, F>>>,
}

impl<F: Future> Future for OnHost<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = self.host.state.lock();
            if state.stands_still {
                if !state.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
                    state.waiting.push(cx.waker().clone());
                }
                return Poll::Pending;
            }
        }
        self.work.as_mut().poll(cx)
    }
}

/// Spawns a task on the machine that the present one runs on.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match HERE.try_with(Host::clone) {
        Ok(host) => tokio::spawn(host.run(work)),
        Err(_) => tokio::spawn(work),
    }
}

fn clock_here() -> Option<Clock> {
    HERE.try_with(Host::clock).ok()
}

/// How long `duration`, by the clock here, takes.
pub(super) fn really(duration: Duration) -> Duration {
    clock_here().map_or(duration, |clock| duration.div_f64(clock.rate))
}

/// A time by the clock of the machine that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(time::Instant);

impl Instant {
    /// When the clock here shows it.
    pub(super) fn really(self) -> time::Instant {
        let Self(shown) = self;
        clock_here().map_or(shown, |clock| clock.when(shown))
    }
}

impl openraft::Instant for Instant {
    fn now() -> Self {
        let now = time::Instant::now();
        Self(clock_here().map_or(now, |clock| clock.shows(now)))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use openraft::Instant as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn tasks_of_a_machine_that_stands_still_do_nothing_until_it_goes_on() {
        let host = Host::new();
        let start = time::Instant::now();
        let spawned = host.enter(|| spawn(time::sleep(SECOND)));
        host.stand_still();
        time::sleep(SECOND * 10).await;
        assert!(!spawned.is_finished());
        host.go_on();
        spawned.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 10, "its time was up long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_runs_at_its_rate_and_never_goes_back() {
        let host = Host::new();
        let shown = |since: Instant| host.enter(|| since.elapsed());
        let start = host.enter(Instant::now);
        time::sleep(SECOND).await;
        host.set_rate(0.5);
        assert_eq!(shown(start), SECOND);
        time::sleep(SECOND * 2).await;
        assert_eq!(shown(start), SECOND * 2);
        assert_eq!(host.enter(|| (start + SECOND * 3).really()), time::Instant::now() + SECOND * 2);
        assert_eq!(host.enter(|| really(SECOND)), SECOND * 2);
        host.set_rate(1.0);
        assert_eq!(shown(start), SECOND * 2);
    }
}
