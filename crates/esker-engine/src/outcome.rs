//! What came of a batch.

use std::fmt;

use crate::Version;

/// What came of a committed batch: the same on every replica, and for every retry of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The version of every write in the batch. A void batch has used it up.
    pub version: Version,
    /// How many of the batch's operations met a key that was present just before them; of a range delete, how many keys.
    pub existed: u32,
    /// Whether it was applied.
    pub outcome: Outcome,
}

/// Whether a batch was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// It was.
    #[default]
    Applied,
    /// It was; what the last of its adds came to.
    Sum(i64),
    /// It is void: nothing of it was applied.
    Refused(Refusal),
}

/// Why a batch is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A condition did not hold; the version that its key was at, `None` if it was absent.
    Condition(Option<Version>),
    /// An add met a value that is no integer as `i64` prints it.
    NotAnInteger,
    /// A sum does not fit into 64 bits.
    Overflow,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition(None) => f.write_str("the condition does not hold: the key is absent"),
            Self::Condition(Some(version)) => {
                write!(f, "the condition does not hold: the key is at version {version}")
            }
            Self::NotAnInteger => f.write_str("the value is not an integer"),
            Self::Overflow => f.write_str("the sum does not fit into a signed 64-bit integer"),
        }
    }
}

impl Committed {
    /// A batch that was applied.
    pub fn applied(version: Version, existed: u32) -> Self {
        Self { version, existed, outcome: Outcome::Applied }
    }

    /// Whether nothing of it was applied.
    pub fn is_void(&self) -> bool {
        self.refusal().is_some()
    }

    /// Why nothing of it was applied, if so.
    pub fn refusal(&self) -> Option<Refusal> {
        match self.outcome {
            Outcome::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// What the last of its adds came to.
    pub fn sum(&self) -> Option<i64> {
        match self.outcome {
            Outcome::Sum(sum) => Some(sum),
            _ => None,
        }
    }
}

impl Outcome {
    /// As two numbers, for files and peers.
    pub fn to_parts(self) -> (u8, u64) {
        match self {
            Self::Applied => (0, 0),
            Self::Sum(sum) => (1, sum.cast_unsigned()),
            Self::Refused(Refusal::Condition(present)) => (2, present.unwrap_or(0)),
            Self::Refused(Refusal::NotAnInteger) => (3, 0),
            Self::Refused(Refusal::Overflow) => (4, 0),
        }
    }

    /// The opposite of [`Outcome::to_parts`]; `None` for numbers that it never gives.
    pub fn from_parts(kind: u8, detail: u64) -> Option<Self> {
        Some(match kind {
            0 | 3 | 4 if detail != 0 => return None,
            0 => Self::Applied,
            1 => Self::Sum(detail.cast_signed()),
            // Versions begin at 1.
            2 => Self::Refused(Refusal::Condition((detail > 0).then_some(detail))),
            3 => Self::Refused(Refusal::NotAnInteger),
            4 => Self::Refused(Refusal::Overflow),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_survive_the_way_to_two_numbers_and_back() {
        let refused =
            [Refusal::Condition(None), Refusal::Condition(Some(7)), Refusal::NotAnInteger, Refusal::Overflow];
        let all = [Outcome::Applied, Outcome::Sum(i64::MIN), Outcome::Sum(-1), Outcome::Sum(0)];
        for outcome in all.into_iter().chain(refused.map(Outcome::Refused)) {
            let (kind, detail) = outcome.to_parts();
            assert_eq!(Outcome::from_parts(kind, detail), Some(outcome));
        }
        for (kind, detail) in [(5, 0), (0, 1), (3, 1), (4, u64::MAX)] {
            assert_eq!(Outcome::from_parts(kind, detail), None, "one outcome has one form");
        }
    }
}
