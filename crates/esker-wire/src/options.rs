//! What a request may ask for beside its keys, and the headers that go with it.

use std::{fmt, str::FromStr};

/// The header of a write that makes it safe to send again: of the writes with one id, a cluster applies one. Its text
/// is two hexadecimal numbers with a dash between: the client's, drawn at random, and the write's.
pub const REQUEST_ID_HEADER: &str = "esker-request-id";
/// The header of a stale read's answer: what the answering node had applied when it read.
pub const APPLIED_VERSION_HEADER: &str = "esker-applied-version";
/// The header of a read's answer that says when the key expires, in milliseconds since 1970; absent where it does not.
pub const EXPIRES_AT_HEADER: &str = "esker-expires-at";
/// `Retry-After` in milliseconds; that one is in whole seconds, which is long where a leader is found in a fraction of one.
pub const RETRY_AFTER_MS_HEADER: &str = "esker-retry-after-ms";

/// When a write is acknowledged (`?ack=`). On a single node all three are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// Durable on a majority of the voters.
    #[default]
    Majority,
    /// Durable on the leader: lost with it, if it has not replicated the write by then.
    Local,
    /// Durable on every voter: waits for as long as one is down.
    All,
}

/// What a read may see (`?consistency=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Every write acknowledged before the read began.
    #[default]
    Linearizable,
    /// Whatever the answering node has applied.
    Stale,
}

/// Spells the values of an enum for a query, both ways.
macro_rules! spelled {
    ($name:ident { $($value:ident = $text:literal),+ }) => {
        impl $name {
            /// The value as the wire spells it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($text => Ok(Self::$value),)+
                    _ => Err(UnknownWord(&[$($text),+])),
                }
            }
        }
    };
}

spelled!(Ack { Majority = "majority", Local = "local", All = "all" });
spelled!(Consistency { Linearizable = "linearizable", Stale = "stale" });

/// A word that is none of those allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord(&'static [&'static str]);

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "give one of {}", self.0.join(", "))
    }
}

impl std::error::Error for UnknownWord {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for ack in [Ack::Majority, Ack::Local, Ack::All] {
            assert_eq!(ack.to_string().parse(), Ok(ack));
        }
        for consistency in [Consistency::Linearizable, Consistency::Stale] {
            assert_eq!(consistency.to_string().parse(), Ok(consistency));
        }
        let refusal = "most".parse::<Ack>().unwrap_err().to_string();
        assert_eq!(refusal, "give one of majority, local, all");
    }
}
