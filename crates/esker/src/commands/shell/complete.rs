//! What the word at the cursor may become. Pure: which keys there are is asked for elsewhere.

use clap::{Arg, Command};

use super::{
    syntax::{Parser, Word},
    words,
};

/// What is to stand at the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// Where the word begins that is replaced.
    pub(super) start: usize,
    /// What may take its place.
    pub(super) wanted: Wanted,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One of these.
    Words(Vec<String>),
    /// A key that begins so.
    Key(Vec<u8>),
}

/// Looks at a line up to the cursor.
pub(super) fn complete(table: &Command, line: &str) -> Completion {
    let mut parser = Parser::default();
    if parser.feed(line.as_bytes()).is_err() || parser.in_comment() {
        return Completion { start: line.len(), wanted: Wanted::Words(Vec::new()) };
    }
    let (start, word) = parser.word();
    let wanted = match parser.words() {
        [] => choose(&names(table), word),
        [verb, rest @ ..] => match words::find(table, verb) {
            Some(command) => argument(table, &command, rest, word),
            None => Wanted::Words(Vec::new()),
        },
    };
    Completion { start, wanted }
}

/// The commands' names, but not their aliases: they would only stand twice.
fn names(table: &Command) -> Vec<String> {
    table.get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

fn choose(of: &[String], word: &[u8]) -> Wanted {
    Wanted::Words(of.iter().filter(|name| name.as_bytes().starts_with(word)).cloned().collect())
}

/// A word behind a command and these words.
fn argument(table: &Command, command: &Command, before: &[Word], word: &[u8]) -> Wanted {
    let only_words = before.iter().any(|word| word == b"--");
    if !only_words && let Some(option) = before.last().and_then(|last| awaiting(command, last)) {
        return match is_key(option) {
            true => Wanted::Key(word.into()),
            false => choose(&values(option), word),
        };
    }
    if !only_words && word.starts_with(b"-") {
        return choose(&options(command), word);
    }
    match command.get_name() {
        "help" if before.is_empty() => choose(&names(table), word),
        _ => positional(command, before, word),
    }
}

/// What stands on its own: a key, or one of a few words.
fn positional(command: &Command, before: &[Word], word: &[u8]) -> Wanted {
    let nothing = || Wanted::Words(Vec::new());
    let mut nth = 0;
    let mut last: Option<&Word> = None;
    for word in before {
        let is_value = last.is_some_and(|last| awaiting(command, last).is_some());
        nth += usize::from(!is_value && !word.starts_with(b"--"));
        last = Some(word);
    }
    let mut positionals = command.get_positionals();
    let found =
        positionals.nth(nth).or_else(|| command.get_positionals().last().filter(|last| takes_many(last)));
    match found {
        Some(found) if is_key(found) => Wanted::Key(word.into()),
        Some(found) => choose(&values(found), word),
        None => nothing(),
    }
}

fn takes_many(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|count| count.max_values() > 1)
        || matches!(argument.get_action(), clap::ArgAction::Append)
}

/// The option that this word is, if its value follows.
fn awaiting<'a>(command: &'a Command, word: &[u8]) -> Option<&'a Arg> {
    let name = std::str::from_utf8(word).ok()?.strip_prefix("--")?;
    let option = command.get_opts().find(|option| option.get_long() == Some(name))?;
    option.get_action().takes_values().then_some(option)
}

fn options(command: &Command) -> Vec<String> {
    let long = |option: &Arg| option.get_long().map(|name| format!("--{name}"));
    command.get_arguments().filter_map(long).collect()
}

fn values(argument: &Arg) -> Vec<String> {
    argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
}

/// Whether what is to stand here is a key, or the beginning of one.
fn is_key(argument: &Arg) -> bool {
    matches!(argument.get_id().as_str(), "key" | "keys" | "prefix" | "start" | "end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> (usize, Vec<String>) {
        match complete(&words::table(), line) {
            Completion { start, wanted: Wanted::Words(words) } => (start, words),
            Completion { start, wanted: Wanted::Key(key) } => {
                (start, vec![format!("key {}", key.escape_ascii())])
            }
        }
    }

    #[test]
    fn commands_options_and_their_values() {
        assert_eq!(at("sc"), (0, vec!["scan".into()]));
        assert_eq!(at("get a; comm"), (7, vec!["commit".into()]));
        assert_eq!(at("scan --re"), (5, vec!["--reverse".into()]));
        assert_eq!(at("help pu"), (5, vec!["put".into()]));
        assert_eq!(at("set con"), (4, vec!["consistency".into()]));
        assert!(at("put k v --").1.contains(&"--if-absent".to_owned()));
        for line in ["fly a", "status x", "get a # g", "get \\q", "put k v", "quit "] {
            assert_eq!(at(line).1, Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn keys() {
        for (line, start, key) in [
            ("get ", 4, "key "),
            ("get a b/", 6, "key b/"),
            ("mget a b", 7, "key b"),
            ("put 'a b", 4, "key a b"),
            ("put --ttl 30s k", 14, "key k"),
            ("scan --prefix col", 14, "key col"),
            ("del --json \"x\\x00", 11, "key x\\x00"),
            ("del -- -", 7, "key -"),
        ] {
            assert_eq!(at(line), (start, vec![key.to_owned()]), "{line}");
        }
    }
}
