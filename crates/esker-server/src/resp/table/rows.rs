//! What rows are made of: short words for what many of them say.

use super::{Family, Keys, Look, Needs, OverKeys, Plain, Run, Spec};
use crate::resp::keyspace::Need;

pub(super) const WRITE: &[&str] = &["write", "denyoom"];
pub(super) const WRITE_FAST: &[&str] = &["write", "denyoom", "fast"];
pub(super) const DELETE: &[&str] = &["write"];
pub(super) const DELETE_FAST: &[&str] = &["write", "fast"];
pub(super) const READ: &[&str] = &["readonly"];
pub(super) const READ_FAST: &[&str] = &["readonly", "fast"];
pub(super) const WALK: &[&str] = &["readonly", "no_multi"];
pub(super) const SESSION: &[&str] = &["noscript", "loading", "stale", "fast"];
pub(super) const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];

pub(super) const NONE: Keys = Keys { first: 0, last: 0, step: 0 };
pub(super) const FIRST: Keys = Keys { first: 1, last: 1, step: 1 };
pub(super) const SECOND: Keys = Keys { first: 2, last: 2, step: 1 };
pub(super) const FIRST_TWO: Keys = Keys { first: 1, last: 2, step: 1 };
pub(super) const ALL: Keys = Keys { first: 1, last: -1, step: 1 };
pub(super) const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };

pub(super) const VALUES: Needs = Needs::Always(Need::Values);
pub(super) const PRESENCE: Needs = Needs::Always(Need::Presence);
pub(super) const NOTHING: Needs = Needs::Always(Need::Nothing);

/// Since when there is a command, what follows its name, and what it does.
type Words = (&'static str, &'static str, &'static str);

pub(super) const fn over_keys(
    name: &'static str,
    arity: i32,
    flags: &'static [&'static str],
    keys: Keys,
    (family, needs): (Family, Needs),
    run: OverKeys,
    (since, syntax, summary): Words,
) -> Spec {
    Spec {
        name,
        arity,
        flags,
        keys,
        family,
        summary,
        syntax,
        since,
        run: Run::Keys(needs, run),
        plain: None,
        look: None,
    }
}

pub(super) const fn other(
    name: &'static str,
    arity: i32,
    flags: &'static [&'static str],
    family: Family,
    run: Run,
    (since, syntax, summary): Words,
) -> Spec {
    Spec { name, arity, flags, keys: NONE, family, summary, syntax, since, run, plain: None, look: None }
}

impl Spec {
    pub(super) const fn looking(self, look: Look) -> Self {
        Self { look: Some(look), ..self }
    }

    pub(super) const fn plainly(self, plain: Plain) -> Self {
        Self { plain: Some(plain), ..self }
    }
}

pub(super) const NEW: &str = "Esker 0.1.0";
