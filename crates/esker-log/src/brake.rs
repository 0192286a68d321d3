//! Slows writers down while something behind them cannot keep up, so that they are late by a little each and not stopped all at
//! once.
//!
//! All who write share one instant, until which what was written is paid for (a virtual clock, as in the generic cell rate
//! algorithm, ITU-T I.371): each write moves it on by its cost and waits until it has come. So who writes at once waits one behind
//! the other, and however many they are, bytes are paid for once. Nothing is forgotten: a wait that would be long is taken in part,
//! and the instant stays where it is for those who come next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;

/// A wait is taken when it comes to this: shorter ones cost more than they give.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// Nobody waits for longer at a time than this,
const WAIT_MAX: Duration = Duration::from_millis(25);
/// or than such a part of what is owed: a group of many bytes is not stopped for all of its cost, but the more is owed, the longer
/// everybody waits. Groups that all cost the same come to wait for just that when so many times as much is owed.
const WAIT_PART: u32 = 4;

/// What writers pay for each byte, in time. Off until somebody sets a rate.
pub struct Brake {
    clock: Arc<dyn Clock>,
    /// Nanoseconds for each KiB; 0: off. Changed with `state` locked.
    nanos_per_kib: AtomicU64,
    /// All waits since opening, in nanoseconds.
    waited: AtomicU64,
    state: Mutex<State>,
    /// Signalled when it is let go.
    released: Condvar,
}

#[derive(Default)]
struct State {
    /// In monotonic time: until then, what was written is paid for.
    free_at: Duration,
    /// How often it was let go.
    releases: u64,
    /// Set for good.
    is_off: bool,
}

/// A wait that somebody owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wait {
    time: Duration,
    /// Of how many releases of the brake it knows: another ends it.
    releases: u64,
}

impl Wait {
    /// How long it is; zero where it is not worth a wait yet.
    pub fn time(&self) -> Duration {
        self.time
    }
}

impl Brake {
    /// A brake that is off.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            nanos_per_kib: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            state: Mutex::default(),
            released: Condvar::new(),
        }
    }

    /// From now on each KiB takes so long; zero lets go of who waits, and of what is owed.
    pub fn set(&self, per_kib: Duration) {
        let mut state = self.state.lock();
        let nanos = if state.is_off { 0 } else { nanos(per_kib) };
        if self.nanos_per_kib.swap(nanos, Ordering::Relaxed) > 0 && nanos == 0 {
            state.free_at = Duration::ZERO;
            state.releases += 1;
            self.released.notify_all();
        }
    }

    /// Lets go for good: nobody waits any more, whatever is set.
    pub fn release_for_good(&self) {
        self.state.lock().is_off = true;
        self.set(Duration::ZERO);
    }

    /// How long each KiB takes now.
    pub fn per_kib(&self) -> Duration {
        Duration::from_nanos(self.nanos_per_kib.load(Ordering::Relaxed))
    }

    /// All waits since opening, of all writers together.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// What is to be waited for writing so many bytes. Whoever asks has to wait.
    pub fn owe(&self, bytes: impl FnOnce() -> usize) -> Wait {
        if self.nanos_per_kib.load(Ordering::Relaxed) == 0 {
            return Wait::default();
        }
        let kib = bytes() as f64 / 1024.0;
        let mut state = self.state.lock();
        // It may have been let go since: then this costs nothing.
        let cost = self.nanos_per_kib.load(Ordering::Relaxed) as f64 * kib;
        let now = self.clock.monotonic();
        state.free_at = state.free_at.max(now).saturating_add(Duration::from_nanos(cost as u64));
        let time = wait_for(state.free_at - now);
        self.waited.fetch_add(nanos(time), Ordering::Relaxed);
        Wait { time, releases: state.releases }
    }

    /// Whether a wait has ended before its time: the brake was let go.
    pub fn is_released(&self, wait: &Wait) -> bool {
        self.state.lock().releases != wait.releases
    }

    /// Waits for having written so many bytes.
    pub fn wait(&self, bytes: impl FnOnce() -> usize) {
        let wait = self.owe(bytes);
        if !wait.time.is_zero() {
            let mut state = self.state.lock();
            let goes_on = |state: &mut State| state.releases == wait.releases;
            self.released.wait_while_for(&mut state, goes_on, wait.time);
        }
    }
}

/// How long somebody waits where so much is owed.
fn wait_for(owed: Duration) -> Duration {
    if owed < WAIT_MIN { Duration::ZERO } else { owed.min(WAIT_MAX.max(owed / WAIT_PART)) }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};

    const PER_KIB: Duration = Duration::from_micros(100);

    fn brake() -> (Brake, Arc<ManualClock>) {
        let clock = Arc::<ManualClock>::default();
        let brake = Brake::new(Arc::clone(&clock) as _);
        assert_eq!(brake.owe(|| unreachable!("nobody counts while it is off")), Wait::default());
        brake.set(PER_KIB);
        (brake, clock)
    }

    #[test]
    fn little_is_owed_until_it_is_worth_a_wait() {
        let (brake, clock) = brake();
        let mut write = |kib: usize| {
            let wait = brake.owe(|| kib << 10).time();
            clock.advance(wait);
            wait
        };
        assert_eq!([9, 3, 1].map(&mut write), [0, 1200, 0].map(Duration::from_micros));
        // 51.2 ms and what was owed before, of which the next pays the rest.
        assert_eq!(write(512), WAIT_MAX);
        assert_eq!(write(0), WAIT_MAX);
        assert_eq!([write(1), write(1)], [1400, 0].map(Duration::from_micros));
        clock.advance(Duration::from_secs(1));
        assert_eq!(write(9), Duration::ZERO, "time that nobody wrote in pays");
        assert_eq!(brake.waited(), Duration::from_micros(1200 + 1400) + 2 * WAIT_MAX);
    }

    /// However large the pieces, no more is written than the rate says, but for what a few of them come to.
    #[test]
    fn large_groups_pay_for_every_byte() {
        let (brake, clock) = brake();
        let start = clock.monotonic();
        let cost = PER_KIB * 8192;
        for n in 1..=100_u32 {
            let wait = brake.owe(|| 8 << 20).time();
            assert!(wait <= cost + Duration::from_millis(1), "write {n}: {wait:?}");
            clock.advance(wait);
            let paid = clock.monotonic() - start;
            assert!(paid + 4 * cost >= n * cost, "write {n}: {paid:?} of {:?}", n * cost);
        }
    }

    /// Who writes at the same time waits one behind the other: N do not write N times as fast.
    #[test]
    fn those_who_write_at_once_take_their_turns() {
        let (brake, _) = brake();
        let waits: Vec<_> = (0..8).map(|_| brake.owe(|| 20 << 10).time()).collect();
        let slots: Vec<_> = (1..=8).map(|n| (PER_KIB * 20 * n).min(WAIT_MAX)).collect();
        assert_eq!(waits, slots);
        // And when much is owed, each waits for its part of it.
        let (brake, clock) = self::brake();
        let mut written = 0;
        let mut under_way: Vec<_> = (0..64).map(|_| brake.owe(|| 1 << 20).time()).collect();
        while clock.monotonic() < Duration::from_secs(600) {
            let first = under_way.iter().copied().min().unwrap();
            clock.advance(first);
            for left in &mut under_way {
                *left -= first;
                if left.is_zero() {
                    written += 1;
                    *left = brake.owe(|| 1 << 20).time();
                }
            }
        }
        let paid_for = (clock.monotonic().as_nanos() / (PER_KIB * 1024).as_nanos()) as usize;
        assert!(written <= paid_for + 5 * 64, "{written} written, {paid_for} paid for");
    }

    #[test]
    fn letting_go_ends_the_wait() {
        let brake = Arc::new(Brake::new(Arc::new(SystemClock::new())));
        brake.set(Duration::from_secs(3600));
        let wait = brake.owe(|| 1 << 20);
        assert!(!brake.is_released(&wait) && wait.time() > Duration::from_secs(3600));
        let waiting = std::thread::spawn({
            let brake = Arc::clone(&brake);
            move || brake.wait(|| 1 << 20)
        });
        // So much is waited for once the thread has come to its wait.
        while brake.waited() <= wait.time() {
            std::thread::yield_now();
        }
        brake.set(Duration::ZERO);
        waiting.join().unwrap();
        assert!(brake.is_released(&wait));
        brake.set(PER_KIB);
        assert_eq!(brake.owe(|| 1 << 10), Wait { time: Duration::ZERO, releases: 1 }, "nothing is left");
        brake.release_for_good();
        brake.set(PER_KIB);
        assert_eq!((brake.per_kib(), brake.owe(|| 1 << 20).time()), (Duration::ZERO, Duration::ZERO));
    }
}
