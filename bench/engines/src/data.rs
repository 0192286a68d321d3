//! The keys and values of a run: the same for every engine, and half-compressible.

use std::sync::LazyLock;

/// Every key is this long.
pub const KEY_LEN: usize = 16;

/// A key.
pub type Key = [u8; KEY_LEN];

/// The key of record `i`: splitmix64 spreads 0, 1, 2 … over all keys.
pub fn key(i: u64) -> Key {
    let mut key = [0; KEY_LEN];
    key[..8].copy_from_slice(&mix(i).to_be_bytes());
    key[8..].copy_from_slice(&mix(!i).to_be_bytes());
    key
}

/// splitmix64's finisher.
pub fn mix(i: u64) -> u64 {
    let mut z = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Makes values: a window of random bytes, and the same once more, so that any compressor halves them, by the value as
/// by the block.
pub struct Values {
    pool: &'static [u8],
    buffer: Vec<u8>,
}

/// Small enough for a core's cache, so that making a value costs the same with every engine.
const POOL_LEN: usize = 256 << 10;

/// Half of the longest value.
const WINDOW_MAX: usize = 8 << 10;

/// One for all threads: it is not the bench whose memory is measured.
static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..((POOL_LEN + WINDOW_MAX) / 8) as u64).flat_map(|i| mix(i ^ 0x5eed).to_le_bytes()).collect()
});

impl Values {
    /// Values of `len` bytes.
    pub fn new(len: usize) -> Self {
        assert!(len <= 2 * WINDOW_MAX, "values of {len} bytes need a larger pool");
        Self { pool: &POOL, buffer: vec![0; len] }
    }

    /// The value of record `i` after its `generation`th overwrite.
    pub fn make(&mut self, i: u64, generation: u64) -> &[u8] {
        let from = mix(i ^ generation.rotate_left(32)) as usize % POOL_LEN;
        let half = self.buffer.len().div_ceil(2);
        let (first, second) = self.buffer.split_at_mut(half);
        first.copy_from_slice(&self.pool[from..from + half]);
        second.copy_from_slice(&first[..second.len()]);
        &self.buffer
    }
}

/// A small, fast generator (xorshift64*): what is drawn must cost little beside what is measured.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From 0 up to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Which records are asked for.
#[derive(Debug, Clone)]
pub enum Chooser {
    Uniform(u64),
    Zipf(Zipf),
}

impl Chooser {
    pub fn choose(&self, random: &mut Random) -> u64 {
        match self {
            Self::Uniform(count) => random.below(*count),
            // Scrambled, as in YCSB: what is asked for often does not lie side by side.
            Self::Zipf(zipf) => mix(zipf.rank(random.unit())) % zipf.count,
        }
    }
}

/// The zipfian distribution of YCSB (after Gray and others, "Quickly generating billion-record synthetic databases").
#[derive(Debug, Clone)]
pub struct Zipf {
    count: u64,
    zeta: f64,
    eta: f64,
}

/// YCSB's constant.
const THETA: f64 = 0.99;

impl Zipf {
    pub fn new(count: u64) -> Self {
        let zeta = (1..=count).map(|i| (i as f64).powf(-THETA)).sum::<f64>();
        let zeta2 = 1.0 + 0.5_f64.powf(THETA);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - zeta2 / zeta);
        Self { count, zeta, eta }
    }

    fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let rank = self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        (rank as u64).min(self.count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_half_repeated_and_differ() {
        let mut values = Values::new(101);
        let first = values.make(1, 0).to_vec();
        assert_eq!(first[..50], first[51..]);
        assert_ne!(first, values.make(2, 0));
        assert_ne!(first, values.make(1, 1));
        assert_eq!(first, values.make(1, 0));
    }

    #[test]
    fn zipf_prefers_few_and_stays_in_range() {
        let (zipf, mut random) = (Zipf::new(1000), Random::new(7));
        let ranks: Vec<_> = (0..100_000).map(|_| zipf.rank(random.unit())).collect();
        let first = ranks.iter().filter(|&&rank| rank == 0).count();
        // 1 / zeta(1000, 0.99) = 12.8%.
        assert!((12_000..14_000).contains(&first), "{first}");
        assert!(ranks.iter().all(|&rank| rank < 1000));
        assert!(ranks.iter().any(|&rank| rank > 900));
    }
}
