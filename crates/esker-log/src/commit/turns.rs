//! Taking turns where a turn takes a few microseconds.
//!
//! To wake a thread takes as long as such a turn, and who ends a turn pays for it. Where as many threads contend as there are, each
//! turn ends with a wake. So few contend at a time: one has the turn, one looks out for it without sleeping, and the others
//! *rest*. One of those is woken where nobody looks out, and every [`TURNS_BETWEEN_WAKES`] turns, so that all get on; whoever
//! then finds the place taken rests in turn. (Dice, "Malthusian Locks", EuroSys 2017.)
//!
//! Invariant: as long as somebody rests, somebody is in a turn or on the way to one, who will look for the resting when
//! it ends.

use std::{
    hint,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How often who looks out looks before it sleeps: for somewhat longer than a turn takes.
const LOOKS_MAX: usize = 256;
/// Who rests waits so many turns at most for each that rests with it.
const TURNS_BETWEEN_WAKES: usize = 32;

/// See the module.
#[derive(Default)]
pub(super) struct Turns {
    /// Held by whose turn it is; counts the turns since the last wake.
    current: Mutex<usize>,
    /// How many are on the way to a turn.
    waiting: AtomicUsize,
    /// How many rest, or are about to.
    resting: AtomicUsize,
    /// Taken to rest and to wake.
    door: Mutex<()>,
    woken: Condvar,
}

/// A turn; it ends when this is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    current: Option<MutexGuard<'a, usize>>,
}

impl Turns {
    /// Waits for a turn.
    pub(super) fn take(&self) -> Turn<'_> {
        let current = self.current.try_lock().unwrap_or_else(|| {
            if !self.rest() {
                self.waiting.fetch_add(1, Ordering::SeqCst);
            }
            let current = self.look_out();
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            current
        });
        Turn { turns: self, current: Some(current) }
    }

    /// Rests if somebody else is on the way to a turn. True: it did, and counts as waiting now.
    fn rest(&self) -> bool {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut door = self.door.lock();
        // Said before it is looked, as who ends a turn has ceased to wait before it looks: one of the two sees the other.
        self.resting.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            self.resting.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        self.woken.wait(&mut door);
        true
    }

    fn look_out(&self) -> MutexGuard<'_, usize> {
        for _ in 0..LOOKS_MAX {
            if let Some(current) = self.current.try_lock() {
                return current;
            }
            hint::spin_loop();
        }
        self.current.lock()
    }

    /// Has one of those who rest wait for a turn.
    fn wake(&self) {
        let _door = self.door.lock();
        if self.resting.load(Ordering::SeqCst) > 0 {
            self.resting.fetch_sub(1, Ordering::SeqCst);
            // On behalf of the one that is woken, so that until it runs others rest in its place.
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.woken.notify_one();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(mut current) = self.current.take() else { return };
        *current += 1;
        let is_due = *current >= TURNS_BETWEEN_WAKES;
        if is_due {
            *current = 0;
        }
        drop(current);
        let turns = self.turns;
        if turns.resting.load(Ordering::SeqCst) > 0 && (is_due || turns.waiting.load(Ordering::SeqCst) == 0) {
            turns.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Barrier},
        thread,
    };

    use super::*;

    #[test]
    fn one_at_a_time_and_nobody_is_forgotten() {
        const THREADS: u64 = 12;
        const TURNS_EACH: u64 = 5_000;
        let turns = Arc::new(Turns::default());
        let (counter, start) = (Arc::new(Mutex::new(0)), Arc::new(Barrier::new(THREADS as usize)));
        let run = |turns: Arc<Turns>, counter: Arc<Mutex<u64>>, start: Arc<Barrier>| {
            start.wait();
            for _ in 0..TURNS_EACH {
                let _turn = turns.take();
                *counter.try_lock().expect("nobody else has a turn") += 1;
            }
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|_| (Arc::clone(&turns), Arc::clone(&counter), Arc::clone(&start)))
            .map(|(turns, counter, start)| thread::spawn(move || run(turns, counter, start)))
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*counter.lock(), THREADS * TURNS_EACH);
        let all_gone = [&turns.waiting, &turns.resting].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(all_gone, [0, 0]);
    }

    #[test]
    fn a_turn_that_is_over_wakes_who_rests() {
        let turns = Turns::default();
        let first = turns.take();
        thread::scope(|scope| {
            // One looks out, the others rest; each ends with nobody else about to come.
            let others: Vec<_> = (0..3).map(|_| scope.spawn(|| drop(turns.take()))).collect();
            while turns.waiting.load(Ordering::SeqCst) + turns.resting.load(Ordering::SeqCst) < 3 {
                thread::yield_now();
            }
            drop(first);
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }
}
