//! The shell's commands: the one table that parses them, explains them and completes them.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::syntax::Word;
use crate::{
    cli::{DelArgs, GetArgs, IncrArgs, JsonArgs, PutArgs, ScanArgs, WatchArgs},
    exit::Failure,
};

/// A line of the shell.
#[derive(Debug, Parser)]
#[command(name = "", no_binary_name = true, disable_help_subcommand = true, infer_subcommands = false)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Print a key's value, or those of several keys as they are at one instant
    #[command(visible_alias = "mget")]
    Get(ShellGet),
    /// Set a key to a value, given here or in a file
    Put(PutArgs),
    /// Delete keys, or all keys of a range at once
    Del(DelArgs),
    /// Add to the decimal integer that a key holds (0 if it is absent), and print the sum
    Incr(IncrArgs),
    /// Print the keys and values of a range
    Scan(ScanArgs),
    /// Tell how long a key is to live
    Ttl {
        /// The key
        key: OsString,
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Begin a batch: put, del and incr are collected until commit
    Begin,
    /// Do the writes of the batch, all or none of them
    Commit(JsonArgs),
    /// Forget the batch
    Discard,
    /// Print changes as they happen, until Ctrl-C
    Watch(WatchArgs),
    /// Show how the server and its store are
    #[command(visible_alias = "stats")]
    Status(JsonArgs),
    /// List the members of the cluster
    Nodes(JsonArgs),
    /// Show or change which server is asked
    Use {
        /// The server, or some nodes of a cluster with commas between
        #[arg(value_name = "URL[,URL...]")]
        endpoint: Option<String>,
    },
    /// Show the settings of this shell, or change one
    Set {
        /// Which one
        name: Option<Setting>,
        /// Its new value
        #[arg(requires = "name")]
        value: Option<String>,
    },
    /// Show the commands, or explain one
    Help {
        /// The command
        command: Option<String>,
    },
    /// Leave the shell
    #[command(visible_alias = "exit")]
    Quit,
}

/// A get, as the shell prints it.
#[derive(Debug, Args)]
pub(super) struct ShellGet {
    #[command(flatten)]
    pub(super) get: GetArgs,
    /// Write the value's bytes as they are, all of them
    #[arg(long, conflicts_with_all = ["hex", "output", "json"])]
    pub(super) raw: bool,
}

/// What can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Setting {
    /// When writes are acknowledged: majority, local, all
    Ack,
    /// What reads see: linearizable, stale
    Consistency,
    /// How long to wait for an answer, such as 30s
    Timeout,
    /// How many bytes of a value are shown
    Cut,
    /// Whether answers are JSON: on, off
    Json,
    /// Whether to tell how long a command took: on, off
    Timing,
}

/// The table.
pub(super) fn table() -> Command {
    Line::command()
}

/// Reads a command's words. What is wrong with them, or the help that they ask for, is an error with clap's words.
pub(super) fn read(words: &[Word]) -> Result<Verb, clap::Error> {
    let words = words.iter().map(|word| OsString::from_vec(word.clone()));
    let mut matches = table().try_get_matches_from(words)?;
    Line::from_arg_matches_mut(&mut matches).map(|line| line.verb)
}

/// The first word's place in the table.
pub(super) fn find(table: &Command, word: &[u8]) -> Option<Command> {
    let word = std::ffi::OsStr::from_bytes(word).to_str()?;
    table.find_subcommand(word).cloned()
}

/// The commands in a line each, or all about one.
pub(super) fn help(command: Option<&str>) -> Result<String, Failure> {
    let mut table = table();
    // So that the parts know whose they are.
    table.build();
    match command {
        None => Ok(overview(&table)),
        Some(word) => {
            let found = table.find_subcommand(word).cloned();
            let found = found.ok_or_else(|| no_such_command(word))?;
            let name = found.get_name().to_owned();
            Ok(tidy(&found.bin_name(name).render_long_help().to_string()))
        }
    }
}

/// What is said of a word that begins no command.
pub(super) fn no_such_command(word: &str) -> Failure {
    Failure::Usage(format!("no such command: {word}; try help"))
}

/// clap's words about a command line whose program has no name.
pub(super) fn tidy(text: &str) -> String {
    text.trim_end().replace("Usage:  ", "Usage: ")
}

fn overview(table: &Command) -> String {
    let mut text = String::new();
    for command in table.get_subcommands() {
        let aliases: Vec<_> = command.get_visible_aliases().collect();
        let names = std::iter::once(command.get_name()).chain(aliases).collect::<Vec<_>>().join(", ");
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        text += &format!("{names:13} {about}\n");
    }
    text + "\nhelp COMMAND explains one. Words may be quoted: 'as it is', \"with \\n \\x00 escapes\". ; separates commands, \
            -- ends the options."
}

/// Whether it wants its value from where the shell's commands come from.
pub(super) fn reads_standard_input(put: &PutArgs) -> bool {
    put.value.is_none() && put.file.as_deref().is_none_or(|file| file == Path::new("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verb(words: &[&[u8]]) -> Result<Verb, clap::Error> {
        read(&words.iter().map(|word| word.to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn the_table_is_consistent() {
        table().debug_assert();
    }

    #[test]
    fn any_bytes_are_keys_and_values() {
        let Ok(Verb::Put(put)) = verb(&[b"put", b"\x00\xff", b"--", b"-\xfe"]) else { panic!("a put") };
        assert_eq!(put.value.unwrap().as_bytes(), b"-\xfe");
        assert_eq!(put.key.as_bytes(), b"\x00\xff");
    }

    #[test]
    fn every_command_is_explained() {
        let all = help(None).unwrap_or_else(|failure| panic!("{failure:?}"));
        for command in table().get_subcommands() {
            let name = command.get_name();
            assert!(all.lines().any(|line| line.starts_with(name) && line.len() > 20), "{name}");
            let own = help(Some(name)).unwrap_or_else(|failure| panic!("{failure:?}"));
            assert!(own.contains(&format!("Usage: {name}")), "{own}");
        }
        assert!(help(Some("fly")).is_err());
    }
}
