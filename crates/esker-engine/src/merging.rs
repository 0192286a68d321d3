//! Merging as a store asks for it: how fast, and what came of it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use esker_log::{Position, Result, signal::Signal};

/// What an engine needs of its store to merge.
pub struct Merging<'a> {
    /// Only log segments before this one's may be merged: what comes behind may still be replayed, or sent to others.
    pub before: Position,
    /// Whether to merge everything that may be, and not only what is worth it.
    pub all: bool,
    /// Told of every piece copied.
    pub pace: &'a mut dyn Pace,
    /// Writes a checkpoint that covers everything applied.
    pub save: &'a mut dyn FnMut() -> Result<()>,
}

/// Slows a merge down, or ends it.
pub trait Pace {
    /// So many bytes were copied. Waits as long as is right.
    ///
    /// Errors end the merge.
    fn copied(&mut self, bytes: u64) -> Result<()>;
}

/// Copies so many bytes a second as it is told now and then, and ends when it is told to.
pub(crate) struct Throttle<'a> {
    bytes_per_second: u64,
    /// Copied in all.
    copied: u64,
    /// Copied and not paid for by a pause yet.
    unpaid: f64,
    go_on: &'a mut dyn FnMut(u64) -> Result<()>,
    /// Copied since the last look.
    unlooked: u64,
    look: &'a dyn Fn() -> u64,
}

/// During a merge somebody looks this often how things stand.
const LOOK_BYTES: u64 = 1 << 20;

/// A pause is taken when it comes to this: shorter ones cost more than they give.
const PAUSE: Duration = Duration::from_millis(5);
/// A longer one is taken in pieces: what it waits for may be over.
const PAUSE_MAX: Duration = Duration::from_millis(100);

impl<'a> Throttle<'a> {
    /// `look` is called now and then, and says how many bytes a second may be copied. `go_on` is told often how many were copied in
    /// all; an error ends the merge.
    pub(crate) fn new(go_on: &'a mut dyn FnMut(u64) -> Result<()>, look: &'a dyn Fn() -> u64) -> Self {
        Self { bytes_per_second: look(), copied: 0, unpaid: 0.0, go_on, unlooked: 0, look }
    }

    fn look(&mut self) {
        self.unlooked = 0;
        self.bytes_per_second = (self.look)();
    }

    /// For how long to pause.
    fn due(&self) -> Duration {
        let seconds = self.unpaid / self.bytes_per_second.max(1) as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(PAUSE_MAX)
    }

    fn pause(&mut self, time: Duration) {
        // Nobody raises it: a wait that can be had without asking for the time.
        Signal::default().wait(time);
        let paid = time.as_secs_f64() * self.bytes_per_second.max(1) as f64;
        self.unpaid = (self.unpaid - paid).max(0.0);
    }
}

impl Pace for Throttle<'_> {
    fn copied(&mut self, bytes: u64) -> Result<()> {
        self.copied += bytes;
        self.unpaid += bytes as f64;
        self.unlooked += bytes;
        if self.unlooked >= LOOK_BYTES {
            self.look();
        }
        (self.go_on)(self.copied)?;
        while self.due() >= PAUSE {
            let due = self.due();
            self.pause(due.min(PAUSE_MAX));
            if due > PAUSE_MAX {
                self.look();
                (self.go_on)(self.copied)?;
            }
        }
        Ok(())
    }
}

/// After copying so much a merge pauses, as long as it is set to when merging has just become due.
const STEP: f64 = (1 << 20) as f64;
/// When so many times more is dead, it does not pause at all.
pub(crate) const FULL_SPEED: f64 = 1.25;

/// What makes merging begin: either of the two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trigger {
    /// So much of all is dead, in parts of one.
    pub(crate) ratio: f64,
    /// So many bytes are.
    pub(crate) bytes: u64,
    /// A store of less counts as one of so much.
    pub(crate) store_bytes_min: u64,
}

impl Trigger {
    /// What counts as living for [`drag`] at least: where merging is at its fastest, there is no drag yet.
    pub(crate) fn live_min(&self) -> u64 {
        (self.ratio * FULL_SPEED / DEBT_MIN * self.store_bytes_min as f64) as u64
    }

    /// How much more is dead: 0 at most where merging just begins, 1 at least where it is to be as fast as it can.
    fn urgency(&self, dead: u64, total: u64) -> f64 {
        let to_full_speed = (self.ratio * (FULL_SPEED - 1.0)).min(1.0 - self.ratio).max(0.01);
        let by_ratio =
            (dead as f64 / total.max(self.store_bytes_min).max(1) as f64 - self.ratio) / to_full_speed;
        let by_bytes = (dead as f64 / self.bytes.max(1) as f64 - 1.0) / (FULL_SPEED - 1.0);
        by_ratio.max(by_bytes)
    }
}

/// How fast to copy where so many bytes of all are dead.
pub(crate) fn rate(dead: u64, total: u64, trigger: Trigger, pause: Duration) -> u64 {
    if pause.is_zero() {
        return u64::MAX;
    }
    let slowest = STEP / pause.as_secs_f64();
    let urgency = trigger.urgency(dead, total).clamp(0.0, 1.0);
    if urgency >= 1.0 { u64::MAX } else { (slowest / (1.0 - urgency)) as u64 }
}

/// Writers are slowed from when so many times more is dead than lives: merging at full speed does not keep up then.
const DEBT_MIN: f64 = 1.5;
/// What writers pay for each KiB when the debt is twice the least: 10 MiB/s.
const PER_KIB: Duration = Duration::from_micros(100);

/// What writers pay for each KiB while merging cannot keep up. It grows with the debt from nothing, so that they come to
/// write as fast as merging copies. What lives counts as `live_min` at least: a small store may have some segments of dead bytes.
pub(crate) fn drag(dead: u64, live: u64, live_min: u64) -> Duration {
    let debt = dead as f64 / live.max(live_min).max(1) as f64;
    PER_KIB.mul_f64(((debt - DEBT_MIN) / DEBT_MIN).max(0.0))
}

/// What a merge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// Segments that went.
    pub inputs: u64,
    /// Segments that took their place.
    pub outputs: u64,
    /// The size of these in bytes.
    pub bytes_copied: u64,
    /// Expired keys that were dropped.
    pub keys_expired: u64,
}

impl Merged {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            inputs: self.inputs + other.inputs,
            outputs: self.outputs + other.outputs,
            bytes_copied: self.bytes_copied + other.bytes_copied,
            keys_expired: self.keys_expired + other.keys_expired,
        }
    }
}

/// What all merges since opening came to.
#[derive(Debug, Default)]
pub(crate) struct MergeCounters {
    merges: AtomicU64,
    inputs: AtomicU64,
    bytes_copied: AtomicU64,
    keys_expired: AtomicU64,
    running: AtomicU64,
}

/// What all merges since opening came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MergeStats {
    /// How many there were.
    pub merges: u64,
    /// Segments that went.
    pub segments_merged: u64,
    /// Bytes written into merged segments.
    pub bytes_copied: u64,
    /// Expired keys that were dropped.
    pub keys_expired: u64,
    /// Whether one is under way.
    pub running: bool,
}

/// A merge under way, until it is dropped.
pub(crate) struct Running<'a>(&'a AtomicU64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl MergeCounters {
    pub(crate) fn begin(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(&self.running)
    }

    pub(crate) fn add(&self, merged: &Merged) {
        self.merges.fetch_add(1, Ordering::Relaxed);
        self.inputs.fetch_add(merged.inputs, Ordering::Relaxed);
        self.bytes_copied.fetch_add(merged.bytes_copied, Ordering::Relaxed);
        self.keys_expired.fetch_add(merged.keys_expired, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> MergeStats {
        MergeStats {
            merges: self.merges.load(Ordering::Relaxed),
            segments_merged: self.inputs.load(Ordering::Relaxed),
            bytes_copied: self.bytes_copied.load(Ordering::Relaxed),
            keys_expired: self.keys_expired.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed) > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use esker_log::Error;

    use super::*;

    #[test]
    fn writers_pay_for_debt_and_for_nothing_else() {
        const MIN: u64 = 64 << 20;
        assert_eq!([0, 50, 96, 150].map(|dead| drag(dead << 20, 100 << 20, MIN)), [Duration::ZERO; 4]);
        assert_eq!(drag(96 << 20, 0, MIN), Duration::ZERO, "a small store");
        let drags = [151, 180, 200, 300, 450].map(|dead| drag(dead << 20, 100 << 20, MIN));
        assert!(drags.is_sorted() && drags[0] > Duration::ZERO && drags[0] <= PER_KIB / 99, "{drags:?}");
        assert_eq!(drags[3], PER_KIB);
    }

    #[test]
    fn the_more_is_dead_the_faster_it_goes() {
        let pause = Duration::from_millis(20);
        let by_ratio = Trigger { ratio: 0.4, bytes: u64::MAX, store_bytes_min: 0 };
        let rates = [300, 400, 425, 450, 475, 500, 900].map(|dead| rate(dead, 1000, by_ratio, pause));
        assert!(rates.is_sorted() && rates[1] == 50 << 20 && rates[4] < u64::MAX, "{rates:?}");
        assert_eq!(rates[5], u64::MAX);
        assert_eq!(rate(400, 1000, by_ratio, Duration::ZERO), u64::MAX);
        // However small a part of all it is.
        let by_bytes = Trigger { bytes: 100, ..by_ratio };
        let rates = [90, 100, 110, 120, 125].map(|dead| rate(dead, 100_000, by_bytes, pause));
        assert!(rates.is_sorted() && rates[1] == 50 << 20 && rates[3] < u64::MAX, "{rates:?}");
        assert_eq!(rates[4], u64::MAX);
    }

    #[test]
    fn a_long_pause_ends_when_it_is_not_needed_any_more() {
        let calls = Cell::new(0);
        let slow_at_first = || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { 1 } else { u64::MAX }
        };
        let mut go_on = |_: u64| Ok(());
        Throttle::new(&mut go_on, &slow_at_first).copied(1 << 19).unwrap();
        assert_eq!(calls.get(), 3, "it would have taken six days");
        let mut told = 0;
        let mut go_on = |copied: u64| {
            told += 1;
            assert_eq!(copied, 1 << 19);
            if told == 2 { Err(Error::Closed) } else { Ok(()) }
        };
        let ended = Throttle::new(&mut go_on, &|| 1).copied(1 << 19);
        assert!(matches!(ended, Err(Error::Closed)) && told == 2, "{ended:?}");
    }
}
