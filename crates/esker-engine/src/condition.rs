//! What a batch may demand of a key before it is applied.

use crate::Version;

/// What must hold of a key for a batch to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The key is absent (or expired).
    Absent,
    /// The key is present.
    Present,
    /// The key's present value was put by this version.
    Version(Version),
}

impl Condition {
    /// Whether it holds of a key whose present value has this version.
    pub fn holds(self, present: Option<Version>) -> bool {
        match self {
            Self::Absent => present.is_none(),
            Self::Present => present.is_some(),
            Self::Version(wanted) => present == Some(wanted),
        }
    }

    /// The value of its record.
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Self::Absent => vec![1],
            Self::Present => vec![2],
            Self::Version(version) => [&[3][..], &version.to_le_bytes()].concat(),
        }
    }

    /// The opposite of [`Condition::encode`].
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        match value {
            [1] => Some(Self::Absent),
            [2] => Some(Self::Present),
            [3, version @ ..] => Some(Self::Version(u64::from_le_bytes(version.try_into().ok()?))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_survive_encoding() {
        for condition in [Condition::Absent, Condition::Present, Condition::Version(u64::MAX)] {
            assert_eq!(Condition::decode(&condition.encode()), Some(condition));
        }
        for bad in [&[][..], &[0], &[1, 0], &[3, 1, 2], &[4]] {
            assert_eq!(Condition::decode(bad), None);
        }
    }

    #[test]
    fn conditions_hold_of_what_they_say() {
        assert!(Condition::Absent.holds(None) && !Condition::Absent.holds(Some(1)));
        assert!(Condition::Present.holds(Some(1)) && !Condition::Present.holds(None));
        assert!(Condition::Version(2).holds(Some(2)) && !Condition::Version(2).holds(Some(3)));
        assert!(!Condition::Version(2).holds(None));
    }
}
