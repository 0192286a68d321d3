//! Merging as a store asks for it: how fast, and what came of it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use esker_log::{Error, Position, Result, signal::Signal};

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

/// As fast as can be.
pub(crate) struct Unpaced;

impl Pace for Unpaced {
    fn copied(&mut self, _bytes: u64) -> Result<()> {
        Ok(())
    }
}

/// Copies so many bytes a second as it is told now and then, and ends when the store is closed.
pub(crate) struct Throttle<'a> {
    bytes_per_second: u64,
    /// Copied since the last pause.
    unpaid: u64,
    is_closing: &'a dyn Fn() -> bool,
    /// Copied since the last look.
    unlooked: u64,
    look: &'a dyn Fn() -> u64,
}

/// During a merge somebody looks this often how things stand.
const LOOK_BYTES: u64 = 1 << 20;

/// A pause is taken when it comes to this: shorter ones cost more than they give.
const PAUSE: Duration = Duration::from_millis(5);

impl<'a> Throttle<'a> {
    /// `look` is called now and then, and says how many bytes a second may be copied.
    pub(crate) fn new(is_closing: &'a dyn Fn() -> bool, look: &'a dyn Fn() -> u64) -> Self {
        Self { bytes_per_second: look(), unpaid: 0, is_closing, unlooked: 0, look }
    }
}

impl Pace for Throttle<'_> {
    fn copied(&mut self, bytes: u64) -> Result<()> {
        self.unlooked += bytes;
        if self.unlooked >= LOOK_BYTES {
            self.unlooked = 0;
            self.bytes_per_second = (self.look)();
        }
        if (self.is_closing)() {
            return Err(Error::Closed);
        }
        self.unpaid += bytes;
        let due = Duration::from_secs_f64(self.unpaid as f64 / self.bytes_per_second.max(1) as f64);
        if due < PAUSE {
            return Ok(());
        }
        self.unpaid = 0;
        // Nobody raises it: a wait that can be had without asking for the time.
        Signal::default().wait(due);
        Ok(())
    }
}

/// After copying so much a merge pauses, as long as it is set to when merging has just become due.
const STEP: f64 = (1 << 20) as f64;
/// When so many times more is dead, it does not pause at all.
const FULL_SPEED: f64 = 1.25;

/// How fast to copy where so much of all is dead, in parts of one, and merging begins at `trigger`.
pub(crate) fn rate(dead_ratio: f64, trigger: f64, pause: Duration) -> u64 {
    if pause.is_zero() {
        return u64::MAX;
    }
    let slowest = STEP / pause.as_secs_f64();
    let to_full_speed = (trigger * (FULL_SPEED - 1.0)).min(1.0 - trigger).max(0.01);
    let urgency = ((dead_ratio - trigger) / to_full_speed).clamp(0.0, 1.0);
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
}

impl MergeCounters {
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
        }
    }
}

#[cfg(test)]
mod tests {
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
        let rates = [0.3, 0.4, 0.425, 0.45, 0.475, 0.5, 0.9].map(|dead| rate(dead, 0.4, pause));
        assert!(rates.is_sorted() && rates[1] == 50 << 20 && rates[4] < u64::MAX, "{rates:?}");
        assert_eq!(rates[5], u64::MAX);
        assert_eq!(rate(0.4, 0.4, Duration::ZERO), u64::MAX);
    }
}
