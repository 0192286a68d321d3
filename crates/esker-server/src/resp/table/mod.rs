//! The one table of commands, a file for each family.

mod connection;
mod generic;
mod missing;
mod rows;
mod server;
mod string;
mod syntax;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use self::missing::{unknown, unknown_subcommand};
pub(crate) use self::syntax::{Argument, Kind};
use super::{
    Args, Reply, Walking,
    keyspace::{Keyspace, Need},
    refusal::{Done, Refusal},
    session::Session,
    writes::Write,
};
use crate::access::Door;

/// Every command there is.
pub(crate) static TABLE: LazyLock<Vec<&'static Spec>> = LazyLock::new(|| {
    let families = [
        string::ROWS,
        generic::ROWS,
        generic::ESKER,
        connection::TRANSACTIONS,
        connection::ROWS,
        server::ROWS,
    ];
    families.into_iter().flatten().collect()
});

/// A command, or a subcommand of one.
pub(crate) struct Spec {
    /// In lower case; a subcommand's is `command|subcommand`.
    pub(crate) name: &'static str,
    /// How many arguments it has, the name among them; at least so many, if negative.
    pub(crate) arity: i32,
    pub(crate) flags: &'static [&'static str],
    pub(crate) keys: Keys,
    pub(crate) family: Family,
    pub(crate) summary: &'static str,
    /// What follows the name, in the notation of [`syntax`].
    pub(crate) syntax: &'static str,
    /// The Redis that had it first, or the Esker.
    pub(crate) since: &'static str,
    pub(crate) run: Run,
    /// What it writes, where that does not depend on what it reads.
    pub(crate) plain: Option<Plain>,
    /// What it answers, where that is a matter of its key's value alone; `run` does the same within a transaction.
    pub(crate) look: Option<Look>,
}

/// Which arguments are keys: from the first to the last, counted from the end if negative, every so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) first: i32,
    pub(crate) last: i32,
    pub(crate) step: i32,
}

/// Groups of commands, as Redis names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    String,
    Generic,
    Connection,
    Server,
    Transactions,
    Esker,
}

/// What a command over keys does.
pub(crate) type OverKeys = fn(&mut Keyspace, Args<'_>, &mut Reply<'_>) -> Done;
/// Says what a command writes; the time is in milliseconds since 1970.
pub(crate) type Plain = for<'a> fn(Args<'a>, u64) -> Done<Option<Write<'a>>>;

/// Answers with what a key holds.
pub(crate) type Look = fn(Option<&[u8]>, &mut Reply<'_>);

/// How a command is run.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// In memory, over keys that were read before.
    Keys(Needs, OverKeys),
    /// Over what is known of the connection and the server.
    Session(fn(&mut Session, Args<'_>, &mut Reply<'_>) -> Done),
    /// Over many keys of the store; not within a transaction.
    Walk(for<'a> fn(&'a Door, Args<'a>, &'a mut Reply<'_>) -> Walking<'a>),
    /// At once, also within a transaction.
    Control(Control),
    /// One of these.
    Parent(&'static [Spec]),
}

/// Commands that are never queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Multi,
    Exec,
    Discard,
    Watch,
    Auth,
    Reset,
    Quit,
}

/// What a command reads of its keys.
#[derive(Clone, Copy)]
pub(crate) enum Needs {
    Always(Need),
    /// It depends on its options.
    AsAsked(fn(Args<'_>) -> Need),
    /// It has no keys, and asks how many there are.
    Count,
}

/// How many slots there are to find a command by its hash; more than twice as many as commands.
const SLOTS: usize = 256;

/// Finds a command and its place in the table; of a command with subcommands, the subcommand.
///
/// Errors: there is none of this name, or it does not take so many arguments.
pub(crate) fn find(args: Args<'_>) -> Done<(usize, &'static Spec)> {
    let place = place_of(args.name()).ok_or_else(|| unknown(args))?;
    let spec = TABLE[place];
    let found = match spec.run {
        // COMMAND alone is COMMAND INFO for all; no other may stand alone.
        Run::Parent(all) if args.len() == 1 && spec.takes(1) => {
            return Ok((place, all.iter().find(|spec| spec.name == "command|info").unwrap_or(spec)));
        }
        Run::Parent(_) if args.len() == 1 => return Err(Refusal::arity(spec.name)),
        Run::Parent(all) => subcommand(spec, all, args.get(1))?,
        _ => spec,
    };
    match found.takes(args.len()) {
        true => Ok((place, found)),
        false => Err(Refusal::arity(found.name)),
    }
}

/// The place of a command in the table.
pub(crate) fn place_of(name: &[u8]) -> Option<usize> {
    static PLACES: LazyLock<[Vec<u16>; SLOTS]> = LazyLock::new(|| {
        let mut places = [const { Vec::new() }; SLOTS];
        for (place, spec) in TABLE.iter().enumerate() {
            places[hash(spec.name.as_bytes())].push(place as u16);
        }
        places
    });
    let mut candidates = PLACES[hash(name)].iter().map(|place| usize::from(*place));
    candidates.find(|place| TABLE[*place].name.as_bytes().eq_ignore_ascii_case(name))
}

/// Spreads names by their length and three of their letters, in whatever case.
fn hash(name: &[u8]) -> usize {
    let letter = |at: usize| name.get(at).map_or(0, |byte| usize::from(byte | 0x20));
    let last = name.len().wrapping_sub(1);
    (name.len() * 31 + letter(0) * 7 + letter(1) * 13 + letter(last) * 3) % SLOTS
}

fn subcommand(parent: &'static Spec, all: &'static [Spec], word: &[u8]) -> Done<&'static Spec> {
    let found = all.iter().find(|spec| spec.last_word().as_bytes().eq_ignore_ascii_case(word));
    found.ok_or_else(|| unknown_subcommand(parent, word))
}

impl Spec {
    /// Whether it takes so many arguments, its name among them.
    pub(crate) fn takes(&self, len: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { len >= arity } else { len == arity }
    }

    /// The name, or a subcommand's own part of it.
    pub(crate) fn last_word(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, last)| last)
    }

    /// What follows the name.
    pub(crate) fn arguments(&self) -> Vec<Argument> {
        syntax::parse(self.syntax)
    }

    /// Its subcommands, if it has any.
    pub(crate) fn subcommands(&self) -> &'static [Self] {
        if let Run::Parent(all) = self.run { all } else { &[] }
    }

    /// Whether it is run also between MULTI and EXEC.
    pub(crate) fn runs_at_once(&self) -> bool {
        matches!(self.run, Run::Control(_))
    }

    /// Whether it changes no key.
    pub(crate) fn only_reads(&self) -> bool {
        self.flags.contains(&"readonly")
    }

    /// What it reads of its keys.
    pub(crate) fn needs(&self, args: Args<'_>) -> Need {
        match self.run {
            Run::Keys(Needs::Always(need), _) => need,
            Run::Keys(Needs::AsAsked(needs), _) => needs(args),
            _ => Need::Nothing,
        }
    }
}

impl Keys {
    /// The keys of a command whose number of arguments is right.
    pub(crate) fn of<'a>(self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let last = match self.last {
            ..0 => args.len().saturating_sub(self.last.unsigned_abs() as usize),
            last => (last as usize).min(args.len() - 1),
        };
        let first = self.first.max(0) as usize;
        let count = if first == 0 { 0 } else { (last + 1).saturating_sub(first) };
        args.from(first).take(count).step_by(self.step.max(1) as usize)
    }
}

impl Family {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] =
        [Self::String, Self::Generic, Self::Transactions, Self::Connection, Self::Server, Self::Esker];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Generic => "generic",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Transactions => "transactions",
            Self::Esker => "esker",
        }
    }
}
