//! When an acknowledged write is on the disk.

use std::{fmt, str::FromStr, time::Duration};

/// When the log calls `fdatasync`. A killed process loses no acknowledged write under any policy (the bytes
/// are with the operating system before the acknowledgement); the policies differ in what a power loss costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// An acknowledgement means that fdatasync returned; concurrent writers share one. Power loss: nothing lost.
    #[default]
    Always,
    /// Synced at most this long after the acknowledgement. Power loss: at most that much time is lost.
    Every(Duration),
    /// Synced when the operating system likes, and when a segment is sealed.
    Never,
}

impl SyncPolicy {
    /// The stronger of two policies: a write may ask for more than the configured one, never for less.
    pub fn stronger(self, other: Self) -> Self {
        match (self, other) {
            (Self::Always, _) | (_, Self::Always) => Self::Always,
            (Self::Every(a), Self::Every(b)) => Self::Every(a.min(b)),
            (Self::Every(a), Self::Never) | (Self::Never, Self::Every(a)) => Self::Every(a),
            (Self::Never, Self::Never) => Self::Never,
        }
    }
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Every(period) => write!(f, "every:{}", period.as_millis()),
            Self::Never => f.write_str("never"),
        }
    }
}

impl FromStr for SyncPolicy {
    type Err = String;

    /// `always`, `never`, `every:<ms>` with 1 to 3,600,000 ms; `true` and `false` mean always and never.
    fn from_str(text: &str) -> Result<Self, String> {
        const MAX_PERIOD_MS: u64 = 3_600_000;
        match text {
            "always" | "true" => Ok(Self::Always),
            "never" | "false" => Ok(Self::Never),
            _ => text
                .strip_prefix("every:")
                .and_then(|ms| ms.strip_suffix("ms").unwrap_or(ms).parse().ok())
                .filter(|ms| (1..=MAX_PERIOD_MS).contains(ms))
                .map(|ms| Self::Every(Duration::from_millis(ms)))
                .ok_or_else(|| {
                    format!(
                        "`{text}` is no sync policy: use always, never or every:<ms> (1 to {MAX_PERIOD_MS})"
                    )
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints_and_refuses_the_rest() {
        for text in ["always", "never", "every:1", "every:3600000"] {
            assert_eq!(text.parse::<SyncPolicy>().unwrap().to_string(), text);
        }
        for text in ["", "every:", "every:0", "every:-1", "every:3600001", "Always", "sometimes"] {
            assert!(text.parse::<SyncPolicy>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_stronger_one_wins() {
        let every = |ms| SyncPolicy::Every(Duration::from_millis(ms));
        assert_eq!(SyncPolicy::Never.stronger(every(5)), every(5));
        assert_eq!(every(9).stronger(every(5)), every(5));
        assert_eq!(every(5).stronger(SyncPolicy::Always), SyncPolicy::Always);
        assert_eq!(SyncPolicy::Never.stronger(SyncPolicy::Never), SyncPolicy::Never);
    }
}
