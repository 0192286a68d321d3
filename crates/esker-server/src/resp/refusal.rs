//! Errors as clients of Redis know them: a code in capitals, which programs act on, and what is wrong.

use std::borrow::Cow;

use esker_cluster::Error;
use esker_engine::{Damage, Error as EngineError, Refusal as Void};

/// What a command is answered that is not done.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    text: Cow<'static, str>,
    damage: Option<Box<Damage>>,
}

/// What comes of a command.
pub(crate) type Done<T = ()> = Result<T, Refusal>;

/// Nobody knows who it is.
pub(crate) const NOAUTH: Refusal = Refusal::new("NOAUTH Authentication required.");
/// A right to a key is lacking, in Redis's words.
pub(crate) const NOPERM: Refusal = Refusal::new("NOPERM No permissions to access a key");
pub(crate) const SYNTAX: Refusal = Refusal::new("ERR syntax error");
pub(crate) const NOT_AN_INTEGER: Refusal = Refusal::new("ERR value is not an integer or out of range");
pub(crate) const NOT_A_FLOAT: Refusal = Refusal::new("ERR value is not a valid float");
pub(crate) const OVERFLOW: Refusal = Refusal::new("ERR increment or decrement would overflow");
pub(crate) const NO_SUCH_KEY: Refusal = Refusal::new("ERR no such key");
pub(crate) const TOO_LONG: Refusal =
    Refusal::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub(crate) const ANSWER_TOO_LARGE: Refusal = Refusal::new(
    "ERR the answer would have more bytes than one may have: ask for fewer keys, or use SCAN or a LIMIT",
);
pub(crate) const ANSWERS_FILL_BUDGET: Refusal = Refusal::new(
    "TRYAGAIN the answers that clients have not taken yet fill the memory for them: retry later",
);
/// Others wrote the same keys each time.
pub(crate) const CONTENDED: Refusal =
    Refusal::new("TRYAGAIN the keys were written by others at each of many attempts: retry");
/// A command's row in the table does not say what it reads.
pub(crate) const DEFECT: Refusal =
    Refusal::new("ERR the command read a key that it had not asked for: report this defect");

impl Refusal {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), damage: None }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What was found damaged, if that is why.
    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.damage.as_deref()
    }

    /// A time to live that is no time, or none that a key can have.
    pub(crate) fn expire_time(command: &[u8]) -> Self {
        format!("ERR invalid expire time in '{}' command", lower(command)).into()
    }

    /// `command` is the name, or `name|subcommand`.
    pub(crate) fn arity(command: &str) -> Self {
        format!("ERR wrong number of arguments for '{command}' command").into()
    }
}

/// A name as errors tell it.
pub(crate) fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self { text: Cow::Owned(text), damage: None }
    }
}

/// Where a code of Redis says what a client should do, it is used; clients come back by themselves after some of them.
impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        match e {
            Error::Engine(e) => e.into(),
            Error::TooLarge(why) => format!("ERR {why}").into(),
            Error::NoLeader { .. } => format!("CLUSTERDOWN {e}").into(),
            Error::Unauthenticated => NOAUTH,
            Error::Denied(_) => NOPERM,
            Error::Removed => format!("CLUSTERDOWN {e}").into(),
            Error::NoRoom { .. } => ANSWERS_FILL_BUDGET,
            // There is no address of the leader's front here to send the client to.
            Error::NotLeader { .. } => format!("TRYAGAIN {e}").into(),
            other => format!("ERR {other}").into(),
        }
    }
}

impl From<EngineError> for Refusal {
    fn from(e: EngineError) -> Self {
        let text = match &e {
            EngineError::Busy { .. } => format!("TRYAGAIN {e}"),
            EngineError::MemoryFull => {
                format!("OOM command not allowed when used memory > 'maxmemory'. In Esker's words: {e}")
            }
            EngineError::DiskFull | EngineError::Poisoned(_) => format!("MISCONF {e}"),
            EngineError::Closed => "LOADING the server is shutting down: retry on another connection".into(),
            _ => format!("ERR {e}"),
        };
        let damage = match e {
            EngineError::Damage(damage) => Some(Box::new(damage)),
            _ => None,
        };
        Self { text: text.into(), damage }
    }
}

/// Why an increment was not made. Conditions are the caller's, who knows what they stand for.
impl From<Void> for Refusal {
    fn from(void: Void) -> Self {
        match void {
            Void::NotAnInteger => NOT_AN_INTEGER,
            Void::Overflow => OVERFLOW,
            other => format!("ERR {other}").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_the_store_refuses_has_a_code_that_clients_know() {
        let retry_after = Duration::from_millis(5);
        let damage = Damage { path: "f".into(), offset: 7, what: "a checksum".into() };
        for (error, code) in [
            (Error::NoLeader { retry_after }, "CLUSTERDOWN "),
            (Error::Removed, "CLUSTERDOWN "),
            (Error::NotLeader { leader: 2, http_address: "h:1".into() }, "TRYAGAIN "),
            (Error::OutcomeUnknown("why".into()), "ERR "),
            (Error::TooLarge("why".into()), "ERR "),
            (EngineError::Busy { retry_after }.into(), "TRYAGAIN "),
            (EngineError::MemoryFull.into(), "OOM "),
            (EngineError::DiskFull.into(), "MISCONF "),
            (EngineError::Poisoned("why".into()).into(), "MISCONF "),
            (EngineError::Closed.into(), "LOADING "),
            (EngineError::Damage(damage).into(), "ERR "),
        ] {
            let is_damage = matches!(error, Error::Engine(EngineError::Damage(_)));
            let refusal = Refusal::from(error);
            assert!(refusal.text().starts_with(code), "{}", refusal.text());
            assert_eq!(refusal.damage().is_some(), is_damage);
        }
    }
}
