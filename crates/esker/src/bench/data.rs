//! Keys and values.

use super::random::{Random, mix};

/// How the n-th record's key follows from n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// Ascending
    Sequential,
    /// All over the key space
    Random,
}

/// Sixteen hexadecimal digits make any record's key its own.
pub(super) const KEY_LEN_MIN: u64 = 16;
const DIGITS: usize = 16;
/// Values are windows into this many bytes, so that making one costs nothing and no two are alike for long.
const POOL_BYTES: usize = 1 << 20;
/// A stretch of bytes of which the compressible part repeats the one before it.
const STRETCH: usize = 128;

/// Makes keys and values.
#[derive(Debug)]
pub(super) struct Data {
    key_bytes: usize,
    value_bytes: usize,
    order: Order,
    pool: Vec<u8>,
}

impl Data {
    pub(super) fn new(
        key_bytes: usize,
        value_bytes: usize,
        order: Order,
        compressible: f64,
        seed: u64,
    ) -> Self {
        let mut pool = vec![0; value_bytes + POOL_BYTES];
        let mut random = Random::new(seed ^ 0xda7a);
        let noise = ((1.0 - compressible) * STRETCH as f64).round() as usize;
        pool.chunks_mut(STRETCH).for_each(|stretch| {
            let noise = noise.min(stretch.len());
            random.fill(&mut stretch[..noise]);
        });
        Self { key_bytes, value_bytes, order, pool }
    }

    /// The key of record `number`.
    pub(super) fn key(&self, number: u64) -> Vec<u8> {
        let digits = match self.order {
            Order::Sequential => number,
            Order::Random => mix(number),
        };
        let padding = self.key_bytes - DIGITS;
        let mut key = Vec::with_capacity(self.key_bytes);
        key.extend(b"user".iter().chain(std::iter::repeat(&b'0')).take(padding));
        key.extend_from_slice(format!("{digits:016x}").as_bytes());
        key
    }

    /// Some value.
    pub(super) fn value(&self, random: &mut Random) -> &[u8] {
        let start = random.below(POOL_BYTES as u64) as usize;
        &self.pool[start..start + self.value_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_length_and_order() {
        for (order, ascending) in [(Order::Sequential, true), (Order::Random, false)] {
            for key_bytes in [16, 18, 20, 100] {
                let data = Data::new(key_bytes, 1, order, 0.5, 1);
                let keys: Vec<_> = (0..100).map(|number| data.key(number)).collect();
                assert!(keys.iter().all(|key| key.len() == key_bytes));
                assert_eq!(keys.is_sorted(), ascending);
            }
        }
    }

    #[test]
    fn values_are_as_noisy_as_asked() {
        for (compressible, zeros) in [(0.0, 0.0..0.02), (0.5, 0.45..0.55), (1.0, 1.0..1.01)] {
            let data = Data::new(16, 100_000, Order::Random, compressible, 1);
            let value = data.value(&mut Random::new(2));
            let found = value.iter().filter(|byte| **byte == 0).count() as f64 / value.len() as f64;
            assert!(zeros.contains(&found), "{compressible}: {found}");
        }
    }
}
