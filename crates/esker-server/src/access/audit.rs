//! Who was turned away: one line of the log each, as far as there are not too many, and a count.
//!
//! A line never holds a value, a password or a token, and of a key only how it begins.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use esker_cluster::metrics::Counter;

use super::caller::{Arrival, Entrance};

/// So many lines are written in a second; of those beyond there is a count in the next line.
const LINES_PER_SECOND: u32 = 20;
/// So much of a key is told.
const KEY_BYTES_TOLD: usize = 16;

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Showed nothing.
    NoCredentials,
    /// Showed something that is not right.
    BadCredentials,
    /// Tried too often.
    TooManyAttempts,
    /// Is known, and may not.
    NotAllowed,
    /// Spoke no TLS, or had no certificate that counts.
    Tls,
}

impl Reason {
    /// All of them, as they are counted.
    pub(crate) const ALL: [Self; 5] =
        [Self::NoCredentials, Self::BadCredentials, Self::TooManyAttempts, Self::NotAllowed, Self::Tls];

    /// Its name in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::BadCredentials => "bad_credentials",
            Self::TooManyAttempts => "too_many_attempts",
            Self::NotAllowed => "not_allowed",
            Self::Tls => "tls",
        }
    }
}

/// What was not done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// The user, as far as it is one of the list: what others typed may be a password.
    pub(crate) user: Option<&'a str>,
    pub(crate) operation: &'static str,
    /// The key, or how the range begins.
    pub(crate) key: Option<&'a [u8]>,
}

/// Keeps the books of who was turned away.
#[derive(Default)]
pub(crate) struct Audit {
    counts: [[Counter; Reason::ALL.len()]; Entrance::ALL.len()],
    lines: Mutex<Lines>,
}

/// The lines of the present second.
#[derive(Default)]
struct Lines {
    since: Duration,
    written: u32,
    /// Since the last line.
    left_out: u64,
}

impl Lines {
    /// Whether to write another line, and how many were left out before it.
    fn admit(&mut self, now: Duration) -> Option<u64> {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            (self.since, self.written) = (now, 0);
        }
        if self.written >= LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Audit {
    /// Somebody was turned away.
    pub(crate) fn denied(&self, arrival: &Arrival, reason: Reason, attempt: Attempt<'_>, now: Duration) {
        self.counts[arrival.entrance as usize][reason as usize].add_one();
        let admitted = self.lines.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        let Some(left_out) = admitted else { return };
        let ((front, connection, request), reason) = (arrival.named(), reason.as_str());
        let remote = arrival.remote.map_or_else(|| "-".into(), |remote| remote.to_string());
        let (user, operation) = (attempt.user.unwrap_or("-"), attempt.operation);
        let key = key_told(attempt.key);
        tracing::warn!(
            front,
            connection,
            request,
            remote,
            user,
            operation,
            key,
            reason,
            left_out,
            "access denied"
        );
    }

    /// Somebody did not come to speak TLS.
    pub(crate) fn no_tls(&self, arrival: &Arrival, why: &str, now: Duration) {
        self.counts[arrival.entrance as usize][Reason::Tls as usize].add_one();
        let admitted = self.lines.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        let Some(left_out) = admitted else { return };
        let remote = arrival.remote.map_or_else(|| "-".into(), |remote| remote.to_string());
        let (front, reason) = (arrival.entrance.as_str(), Reason::Tls.as_str());
        tracing::warn!(front, remote, reason, why, left_out, "access denied: no TLS connection");
    }

    /// How often it came to pass, by front and reason.
    pub(crate) fn counts(&self) -> impl Iterator<Item = ([(&'static str, &'static str); 2], u64)> {
        Entrance::ALL.into_iter().flat_map(move |entrance| {
            Reason::ALL.into_iter().map(move |reason| {
                let count = self.counts[entrance as usize][reason as usize].get();
                ([("front", entrance.as_str()), ("reason", reason.as_str())], count)
            })
        })
    }
}

/// How a key begins, on one line; `-` for none.
pub(crate) fn key_told(key: Option<&[u8]>) -> String {
    let Some(key) = key else { return "-".into() };
    let begin = &key[..key.len().min(KEY_BYTES_TOLD)];
    let rest = if key.len() > begin.len() { ".." } else { "" };
    format!("{}{rest}", begin.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_in_part_and_on_one_line() {
        let told = |key: &[u8]| key_told(Some(key));
        assert_eq!(told(b"user:1"), "user:1");
        assert_eq!(told(b"a\nb\xff"), "a\\nb\\xff");
        assert_eq!(told(&[b'k'; 40]), format!("{}..", "k".repeat(16)));
        assert_eq!(key_told(None), "-");
    }

    #[test]
    fn lines_are_bounded_and_what_is_left_out_is_told() {
        let mut lines = Lines::default();
        let start = Duration::from_secs(9);
        let written = (0..1000).filter(|_| lines.admit(start).is_some()).count();
        assert_eq!(written, LINES_PER_SECOND as usize);
        assert_eq!(lines.admit(start + Duration::from_secs(1)), Some(1000 - u64::from(LINES_PER_SECOND)));
        assert_eq!(lines.admit(start + Duration::from_secs(1)), Some(0));
    }
}
