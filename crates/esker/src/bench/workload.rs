//! What share of the operations does what.

use super::{distribution::Shape, random::Random};

/// The workloads: YCSB's core six, and three plain ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Half reads, half updates
    A,
    /// 95% reads, 5% updates
    B,
    /// Reads only
    C,
    /// 95% reads, mostly of the latest, 5% inserts
    D,
    /// 95% short scans, 5% inserts
    E,
    /// Half reads, half read-modify-writes
    F,
    /// Insert the records
    Fill,
    /// Reads, every record alike
    Read,
    /// Scans, from every record alike
    Scan,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Read, Self::Update, Self::Insert, Self::Scan, Self::ReadModifyWrite];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::ReadModifyWrite => "read-modify-write",
        }
    }
}

impl Workload {
    /// The kinds with their shares in percent.
    fn mix(self) -> &'static [(Kind, u64)] {
        match self {
            Self::A => &[(Kind::Read, 50), (Kind::Update, 50)],
            Self::B => &[(Kind::Read, 95), (Kind::Update, 5)],
            Self::C | Self::Read => &[(Kind::Read, 100)],
            Self::D => &[(Kind::Read, 95), (Kind::Insert, 5)],
            Self::E => &[(Kind::Scan, 95), (Kind::Insert, 5)],
            Self::F => &[(Kind::Read, 50), (Kind::ReadModifyWrite, 50)],
            Self::Fill => &[(Kind::Insert, 100)],
            Self::Scan => &[(Kind::Scan, 100)],
        }
    }

    pub(super) fn choose(self, random: &mut Random) -> Kind {
        let mut at = random.below(100);
        for (kind, share) in self.mix() {
            match at.checked_sub(*share) {
                Some(rest) => at = rest,
                None => return *kind,
            }
        }
        unreachable!("the shares make up 100, as a test shows")
    }

    pub(super) fn shape(self) -> Shape {
        match self {
            Self::A | Self::B | Self::C | Self::E | Self::F => Shape::Zipfian,
            Self::D => Shape::Latest,
            Self::Fill | Self::Read | Self::Scan => Shape::Uniform,
        }
    }

    pub(super) fn scans(self) -> bool {
        self.mix().iter().any(|(kind, _)| *kind == Kind::Scan)
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn shares_make_up_a_hundred() {
        for workload in Workload::value_variants() {
            assert_eq!(workload.mix().iter().map(|(_, share)| share).sum::<u64>(), 100, "{workload:?}");
        }
    }

    #[test]
    fn kinds_come_in_their_shares() {
        let mut random = Random::new(1);
        let reads = (0..10_000).filter(|_| Workload::B.choose(&mut random) == Kind::Read).count();
        assert!((9_400..9_600).contains(&reads), "{reads}");
    }
}
