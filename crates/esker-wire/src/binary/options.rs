//! The extra words of a header: what a request asks for beside its keys.

use std::fmt::Write;

use super::{header::Verb, text};
use crate::{
    Ack, Ttl,
    batch::{Demand, Expiry},
};

/// How durable a write is to be when it is acknowledged, where that is to be more than the server's setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncWish {
    /// On the disk.
    Always,
    /// On the disk at most so many milliseconds after.
    Every(u64),
    /// When the operating system likes.
    Never,
}

/// What a request asks for beside its keys; by default nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// When what is put expires.
    pub expiry: Option<Expiry>,
    /// What must hold of the key.
    pub condition: Option<Demand>,
    /// How durable the write is to be.
    pub sync: Option<SyncWish>,
    /// When it is acknowledged.
    pub ack: Option<Ack>,
    /// The write's client and number.
    pub id: Option<(u64, u64)>,
    /// Whether a write may be done in any order with those of the connection that are under way.
    pub unordered: bool,
    /// Whether a read is content with what the node has.
    pub stale: bool,
    /// Whether the range is all that begins with its start.
    pub prefix: bool,
    /// Whether the start is not in the range.
    pub after: bool,
    /// Whether the end is not in the range.
    pub before: bool,
    /// Whether it runs from its end to its start.
    pub reverse: bool,
    /// Whether no values are wanted.
    pub keys: bool,
    /// After about how many bytes the answer is to end.
    pub page: Option<u64>,
    /// Whether answers may have extra words.
    pub more: bool,
}

/// The kinds of words, as the verbs that take them see it.
const PUT: u8 = 1;
const CONDITION: u8 = 2;
const WRITE: u8 = 4;
const READ: u8 = 8;
const PREFIX: u8 = 16;
const SCAN: u8 = 32;
const ANY: u8 = 64;

/// Which words a verb takes; within a batch only what is the operation's own.
fn kinds_of(verb: Verb) -> u8 {
    match verb {
        Verb::Put => PUT | CONDITION | WRITE | ANY,
        Verb::Del | Verb::Incr => CONDITION | WRITE | ANY,
        Verb::Bput | Verb::Batch => WRITE | ANY,
        Verb::DelRange => PREFIX | WRITE | ANY,
        Verb::Get | Verb::Head | Verb::Mget => READ | ANY,
        Verb::Range => READ | PREFIX | SCAN | ANY,
        Verb::Status | Verb::Nodes | Verb::Ping | Verb::Auth => ANY,
    }
}

/// The words of an operation within a batch: how it is committed says the batch.
const WITHIN_BATCH: u8 = PUT | PREFIX;

impl Options {
    /// Takes a word that a request may have. Errors: it has none such, has it twice, or the word says nothing.
    pub(super) fn take(&mut self, word: &[u8], verb: Verb, within_batch: bool) -> Result<(), ()> {
        let kinds = if within_batch { kinds_of(verb) & WITHIN_BATCH } else { kinds_of(verb) };
        let (name, value) = match word.iter().position(|&byte| byte == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        let kind = match name {
            b"ttl" | b"expires" => PUT,
            b"if" => CONDITION,
            b"sync" | b"ack" | b"id" | b"unordered" => WRITE,
            b"stale" => READ,
            b"prefix" => PREFIX,
            b"after" | b"before" | b"reverse" | b"keys" | b"page" => SCAN,
            b"more" => ANY,
            _ => return Err(()),
        };
        if kinds & kind == 0 {
            return Err(());
        }
        match value {
            Some(value) => self.set(name, value),
            None => self.raise(name),
        }
    }

    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), ()> {
        match name {
            b"ttl" => {
                once(&mut self.expiry, text::number(value).and_then(Ttl::from_millis).map(Expiry::After))
            }
            b"expires" => once(&mut self.expiry, text::number(value).map(Expiry::At)),
            b"if" => once(&mut self.condition, demand(value)),
            b"sync" => once(&mut self.sync, sync(value)),
            b"ack" => once(&mut self.ack, std::str::from_utf8(value).ok().and_then(|word| word.parse().ok())),
            b"id" => once(&mut self.id, text::request_id(value)),
            b"page" => once(&mut self.page, text::number(value)),
            _ => Err(()),
        }
    }

    fn raise(&mut self, name: &[u8]) -> Result<(), ()> {
        let flag = match name {
            b"unordered" => &mut self.unordered,
            b"stale" => &mut self.stale,
            b"prefix" => &mut self.prefix,
            b"after" => &mut self.after,
            b"before" => &mut self.before,
            b"reverse" => &mut self.reverse,
            b"keys" => &mut self.keys,
            b"more" => &mut self.more,
            _ => return Err(()),
        };
        if std::mem::replace(flag, true) { Err(()) } else { Ok(()) }
    }

    /// Writes the words, each behind a space.
    pub(super) fn write(&self, line: &mut String) {
        let said = "writing to a string cannot fail";
        match self.expiry {
            Some(Expiry::After(ttl)) => write!(line, " ttl={}", ttl.as_millis()).expect(said),
            Some(Expiry::At(at)) => write!(line, " expires={at}").expect(said),
            None => {}
        }
        if let Some(condition) = self.condition {
            line.push_str(" if=");
            write_demand(line, condition);
        }
        match self.sync {
            Some(SyncWish::Always) => line.push_str(" sync=always"),
            Some(SyncWish::Every(millis)) => write!(line, " sync=every:{millis}").expect(said),
            Some(SyncWish::Never) => line.push_str(" sync=never"),
            None => {}
        }
        if let Some(ack) = self.ack {
            write!(line, " ack={ack}").expect(said);
        }
        if let Some((client, sequence)) = self.id {
            write!(line, " id={client:x}-{sequence:x}").expect(said);
        }
        if let Some(page) = self.page {
            write!(line, " page={page}").expect(said);
        }
        let flags = [
            (self.unordered, " unordered"),
            (self.stale, " stale"),
            (self.prefix, " prefix"),
            (self.after, " after"),
            (self.before, " before"),
            (self.reverse, " reverse"),
            (self.keys, " keys"),
            (self.more, " more"),
        ];
        flags.into_iter().filter(|(is_raised, _)| *is_raised).for_each(|(_, word)| line.push_str(word));
    }
}

/// Sets what is not set yet. Errors: it is, or the value is none.
fn once<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), ()> {
    match (&place, value) {
        (None, Some(value)) => {
            *place = Some(value);
            Ok(())
        }
        _ => Err(()),
    }
}

/// `absent`, `present` or a version.
pub(super) fn demand(word: &[u8]) -> Option<Demand> {
    match word {
        b"absent" => Some(Demand::Absent),
        b"present" => Some(Demand::Present),
        version => text::number(version).map(Demand::Version),
    }
}

pub(super) fn write_demand(line: &mut String, demand: Demand) {
    match demand {
        Demand::Absent => line.push_str("absent"),
        Demand::Present => line.push_str("present"),
        Demand::Version(version) => write!(line, "{version}").expect("writing to a string cannot fail"),
    }
}

fn sync(word: &[u8]) -> Option<SyncWish> {
    match word {
        b"always" => Some(SyncWish::Always),
        b"never" => Some(SyncWish::Never),
        other => text::number(other.strip_prefix(b"every:")?).map(SyncWish::Every),
    }
}
