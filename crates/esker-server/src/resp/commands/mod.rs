//! What the commands do, a file each family. Which there are says the [table](super::table).

pub(super) mod acl;
pub(super) mod connection;
pub(super) mod counters;
pub(super) mod esker;
pub(super) mod expiry;
pub(super) mod introspection;
pub(super) mod keys;
pub(super) mod scan;
pub(super) mod server;
pub(super) mod strings;
pub(super) mod transactions;

/// Whether a word of a command is this one, in whatever case it is written.
fn is(word: &[u8], expected: &str) -> bool {
    word.eq_ignore_ascii_case(expected.as_bytes())
}
