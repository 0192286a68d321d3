//! Which values are worth trying to compress, and what compression came to.
//!
//! Values that do not compress cost the trial all the same. Neighbours in time are alike, so after some that did not pay, a few
//! are stored as they are, and after each further failure twice as many; one that pays starts anew. Nobody is
//! bound to the guess: what a record holds, its flags say.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Compression;

/// So many trials in a row fail before values are stored untried.
const FAILURES_MIN: u8 = 8;
/// At most 2 to this many values are stored untried between two trials.
const UNTRIED_LOG2_MAX: u8 = 8;

/// How the next values are compressed: what a batch is given, and gives back when it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compressor {
    compression: Compression,
    trial: Trial,
}

/// What is known of the values lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Trial {
    /// Trials in a row that did not pay.
    failures: u8,
    /// So many values are stored untried before the next trial.
    untried: u16,
}

impl From<Compression> for Compressor {
    fn from(compression: Compression) -> Self {
        Self { compression, trial: Trial::default() }
    }
}

impl Compressor {
    /// Hands the value's compressed body and the method for the flags to `take`; `None` where it does not pay, or likely not.
    pub(crate) fn compress<R>(&mut self, value: &[u8], take: impl FnOnce(u8, &[u8]) -> R) -> Option<R> {
        if !self.compression.may_compress(value.len()) || !self.trial.is_next() {
            return None;
        }
        let taken = self.compression.compress(value, take);
        self.trial.note(taken.is_some());
        taken
    }
}

impl Trial {
    /// Whether the next value is tried.
    fn is_next(&mut self) -> bool {
        if self.untried == 0 {
            return true;
        }
        self.untried -= 1;
        false
    }

    fn note(&mut self, paid: bool) {
        if paid {
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1).min(FAILURES_MIN + UNTRIED_LOG2_MAX);
        self.untried = match self.failures.checked_sub(FAILURES_MIN) {
            None => 0,
            Some(beyond) => 1 << beyond.min(UNTRIED_LOG2_MAX),
        };
    }

    fn pack(self) -> u64 {
        u64::from(self.failures) << 16 | u64::from(self.untried)
    }

    fn unpack(packed: u64) -> Self {
        Self { failures: (packed >> 16) as u8, untried: packed as u16 }
    }
}

/// Bytes of values before compression and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompressionStats {
    /// As they were given.
    pub bytes_given: u64,
    /// As they were stored; those that it did not pay to compress count as they were.
    pub bytes_stored: u64,
}

impl CompressionStats {
    /// What is stored in parts of what was given; 1 if there was nothing.
    pub fn ratio(&self) -> f64 {
        if self.bytes_given == 0 { 1.0 } else { self.bytes_stored as f64 / self.bytes_given as f64 }
    }

    pub(crate) fn add(&mut self, given: usize, stored: usize) {
        self.bytes_given += given as u64;
        self.bytes_stored += stored as u64;
    }
}

/// What a store has learnt from the batches that were committed.
#[derive(Debug, Default)]
pub(crate) struct SharedCompressor {
    compression: Compression,
    /// The [`Trial`] of the last batch: writers at the same time overwrite one another's, which costs a wrong guess at most.
    trial: AtomicU64,
    bytes_given: AtomicU64,
    bytes_stored: AtomicU64,
}

impl SharedCompressor {
    pub(crate) fn new(compression: Compression) -> Self {
        Self { compression, ..Self::default() }
    }

    /// What the next batch compresses with.
    pub(crate) fn get(&self) -> Compressor {
        let trial = Trial::unpack(self.trial.load(Ordering::Relaxed));
        Compressor { compression: self.compression, trial }
    }

    /// Learns from a batch.
    pub(crate) fn learn(&self, compressor: Compressor, stats: CompressionStats) {
        if stats.bytes_given == 0 {
            return;
        }
        self.bytes_given.fetch_add(stats.bytes_given, Ordering::Relaxed);
        self.bytes_stored.fetch_add(stats.bytes_stored, Ordering::Relaxed);
        let trial = compressor.trial.pack();
        // A batch made otherwise knows nothing. And the line is shared by all writers: it is written only if it changes.
        if compressor.compression == self.compression && self.trial.load(Ordering::Relaxed) != trial {
            self.trial.store(trial, Ordering::Relaxed);
        }
    }

    pub(crate) fn stats(&self) -> CompressionStats {
        CompressionStats {
            bytes_given: self.bytes_given.load(Ordering::Relaxed),
            bytes_stored: self.bytes_stored.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: [u8; 64] = {
        let (mut noise, mut at, mut state) = ([0; 64], 0, 1_u32);
        while at < 64 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise[at] = (state >> 24) as u8;
            at += 1;
        }
        noise
    };

    /// How many of so many values are tried.
    fn trials(compressor: &mut Compressor, values: usize, value: &[u8]) -> usize {
        let tried = (0..values).filter(|_| {
            let is_tried = compressor.trial.untried == 0;
            compressor.compress(value, |_, _| ());
            is_tried
        });
        tried.count()
    }

    #[test]
    fn what_does_not_pay_is_tried_less_and_less() {
        let mut compressor = Compressor::from(Compression::Lz4);
        assert_eq!(trials(&mut compressor, 8, &NOISE), 8);
        let few = trials(&mut compressor, 10_000, &NOISE);
        assert!((30..60).contains(&few), "{few}");
        // What pays again is seen before long, and from then on all is compressed.
        let until = (0..300).position(|_| compressor.compress(&[b'a'; 64], |_, _| ()).is_some());
        assert!(until.is_some());
        assert_eq!(trials(&mut compressor, 100, &[b'a'; 64]), 100);
    }

    #[test]
    fn short_values_say_nothing_of_others() {
        let mut compressor = Compressor::from(Compression::Lz4);
        assert_eq!(trials(&mut compressor, 100, b"short"), 100);
        assert_eq!(compressor, Compressor::from(Compression::Lz4));
    }

    #[test]
    fn what_one_batch_learnt_the_next_one_knows() {
        let shared = SharedCompressor::new(Compression::Lz4);
        for _ in 0..8 {
            let mut compressor = shared.get();
            compressor.compress(&NOISE, |_, _| ());
            shared.learn(compressor, CompressionStats { bytes_given: 64, bytes_stored: 64 });
        }
        assert_eq!(trials(&mut shared.get(), 1, &NOISE), 0);
        shared.learn(Compressor::default(), CompressionStats { bytes_given: 100, bytes_stored: 100 });
        assert_eq!(trials(&mut shared.get(), 1, &NOISE), 0, "learnt from a batch that was not compressing");
        assert_eq!(shared.stats().bytes_given, 8 * 64 + 100);
    }

    #[test]
    fn what_is_known_is_packed_and_unpacked() {
        let trial = Trial { failures: 16, untried: 256 };
        assert_eq!(Trial::unpack(trial.pack()), trial);
    }
}
