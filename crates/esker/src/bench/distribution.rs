//! Which of the records an operation is about.
//!
//! The zipfian distribution is YCSB's (Gray et al., "Quickly Generating Billion-Record Synthetic Databases", 1994)
//! with theta 0.99, scrambled so that the popular records lie all over the keys.

use super::random::{Random, mix};

/// The shapes to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// Every record alike
    Uniform,
    /// A few records most of the time, spread over the keys
    Zipfian,
    /// The later inserted, the more often
    Latest,
}

const THETA: f64 = 0.99;

/// Chooses records.
#[derive(Debug, Clone)]
pub(super) struct Chooser {
    shape: Shape,
    zipf: Zipf,
}

impl Chooser {
    /// Over `records` records. Costs time in proportion to them, so make one and clone it.
    pub(super) fn new(shape: Shape, records: u64) -> Self {
        let zipf = Zipf::new(if shape == Shape::Uniform { 1 } else { records });
        Self { shape, zipf }
    }

    /// One of the records `0..records`; there may be more of them than at the last call.
    pub(super) fn choose(&mut self, random: &mut Random, records: u64) -> u64 {
        match self.shape {
            Shape::Uniform => random.below(records),
            // YCSB scrambles over the records of the beginning: what is popular stays so while others are added.
            Shape::Zipfian => mix(!self.zipf.next(random)) % self.zipf.n,
            Shape::Latest => {
                self.zipf.grow(records);
                records - 1 - self.zipf.next(random)
            }
        }
    }
}

/// Rank r with a probability in proportion to 1 / (r + 1)^theta.
#[derive(Debug, Clone)]
struct Zipf {
    n: u64,
    zeta_n: f64,
    eta: f64,
}

impl Zipf {
    fn new(n: u64) -> Self {
        let mut zipf = Self { n: 0, zeta_n: 0.0, eta: 0.0 };
        zipf.grow(n);
        zipf
    }

    fn grow(&mut self, n: u64) {
        if n <= self.n {
            return;
        }
        self.zeta_n += (self.n + 1..=n).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
        self.n = n;
        let zeta_2 = 1.0 + 0.5f64.powf(THETA);
        self.eta = (1.0 - (2.0 / n as f64).powf(1.0 - THETA)) / (1.0 - zeta_2 / self.zeta_n);
    }

    fn next(&mut self, random: &mut Random) -> u64 {
        let unit = random.unit();
        let scaled = unit * self.zeta_n;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) {
            return 1.min(self.n - 1);
        }
        let rank = self.n as f64 * (self.eta * unit - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        (rank as u64).min(self.n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 200_000;

    fn counts(shape: Shape, records: u64) -> Vec<u32> {
        let mut counts = vec![0; records as usize];
        let (mut chooser, mut random) = (Chooser::new(shape, records), Random::new(3));
        (0..DRAWS).for_each(|_| counts[chooser.choose(&mut random, records) as usize] += 1);
        counts
    }

    #[test]
    fn zipfian_ranks_have_their_shares() {
        let n = 1000;
        let mut zipf = Zipf::new(n);
        let mut random = Random::new(5);
        let mut counts = vec![0u32; n as usize];
        (0..DRAWS).for_each(|_| counts[zipf.next(&mut random) as usize] += 1);
        let share = |rank: f64| rank.powf(-THETA) / zipf.zeta_n;
        for rank in [1, 2] {
            let (found, expected) = (f64::from(counts[rank - 1]) / f64::from(DRAWS), share(rank as f64));
            assert!((found / expected - 1.0).abs() < 0.03, "rank {rank}: {found} instead of {expected}");
        }
        // Beyond the first two the method approximates, so compare the weight of a whole stretch.
        let found = f64::from(counts[..100].iter().sum::<u32>()) / f64::from(DRAWS);
        let expected: f64 = (1..=100).map(|rank| share(f64::from(rank))).sum();
        assert!((found / expected - 1.0).abs() < 0.05, "{found} instead of {expected}");
    }

    #[test]
    fn growing_is_the_same_as_starting_large() {
        let mut grown = Zipf::new(10);
        grown.grow(500);
        let fresh = Zipf::new(500);
        assert!((grown.zeta_n - fresh.zeta_n).abs() < 1e-9 && (grown.eta - fresh.eta).abs() < 1e-9);
    }

    #[test]
    fn shapes_are_what_they_say() {
        let uniform = counts(Shape::Uniform, 100);
        assert!(uniform.iter().all(|count| (1_700..2_300).contains(count)), "{uniform:?}");
        let latest = counts(Shape::Latest, 100);
        assert!(latest[99] > latest[98] && latest[98] > latest[50] && latest[99] > DRAWS / 10, "{latest:?}");
        let zipfian = counts(Shape::Zipfian, 1000);
        let hottest = zipfian.iter().max().unwrap();
        assert!(*hottest > DRAWS / 10 && zipfian[0] < *hottest, "the hot one is not the first: {hottest}");
    }

    #[test]
    fn one_record_is_enough() {
        for shape in [Shape::Uniform, Shape::Zipfian, Shape::Latest] {
            assert_eq!(counts(shape, 1), [DRAWS]);
        }
    }
}
