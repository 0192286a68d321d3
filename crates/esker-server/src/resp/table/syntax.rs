//! What follows a command's name, as the table writes it, and as clients are told it.
//!
//! ```text
//! key             an argument             NX          the word itself
//! EX seconds      an argument behind a word
//! [NX | XX]       one of these, or none   (ON | OFF)  one of these
//! key...          once or more often      (key value)...
//! ```

/// An argument, or a group of some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    /// The word that stands before it, or that it is.
    pub(crate) token: Option<&'static str>,
    pub(crate) kind: Kind,
    pub(crate) is_optional: bool,
    /// Whether it may be there more than once.
    pub(crate) is_multiple: bool,
}

/// What an argument is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value of this type, as Redis calls it.
    Value(&'static str),
    /// The word alone.
    Word,
    /// One of these.
    OneOf(Vec<Argument>),
    /// All of these, in this order.
    Block(Vec<Argument>),
}

impl Argument {
    fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, token: None, kind, is_optional: false, is_multiple: false }
    }

    fn value(name: &'static str) -> Self {
        Self::new(name, Kind::Value(type_of(name)))
    }

    fn word(token: &'static str) -> Self {
        Self { token: Some(token), ..Self::new(token, Kind::Word) }
    }

    /// How many words it takes at least.
    #[cfg(test)]
    pub(super) fn words_min(&self) -> usize {
        let inner = match &self.kind {
            Kind::Value(_) | Kind::Word => 1,
            Kind::OneOf(all) => all.iter().map(Self::words_min).min().unwrap_or(0),
            Kind::Block(all) => all.iter().map(Self::words_min).sum(),
        };
        let token = usize::from(self.token.is_some() && self.kind != Kind::Word);
        if self.is_optional { 0 } else { inner + token }
    }
}

/// The type of an argument, by its name.
fn type_of(name: &str) -> &'static str {
    match name {
        "key" | "newkey" | "source" | "destination" => "key",
        "pattern" => "pattern",
        "seconds" | "milliseconds" | "count" | "offset" | "index" | "destination-db" | "cursor"
        | "client-id" => "integer",
        "unix-time-seconds" | "unix-time-milliseconds" => "unix-time",
        _ => "string",
    }
}

/// The arguments of a row. The rows are ours, and a test reads all of them: what is malformed is read as far as it makes sense.
pub(super) fn parse(syntax: &'static str) -> Vec<Argument> {
    Parser { rest: syntax.trim_start() }.sequence()
}

struct Parser {
    /// Begins with no space.
    rest: &'static str,
}

impl Parser {
    /// Takes this, and the spaces behind it, if it comes next.
    fn take(&mut self, what: &str) -> bool {
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    /// All that comes before a `|`, a closing bracket or the end.
    fn sequence(&mut self) -> Vec<Argument> {
        std::iter::from_fn(|| self.item()).collect()
    }

    fn item(&mut self) -> Option<Argument> {
        let mut argument = if self.take("[") {
            let group = self.group("]");
            Argument { is_optional: true, ..group }
        } else if self.take("(") {
            self.group(")")
        } else {
            let word = self.word()?;
            let is_token = word.bytes().any(|byte| byte.is_ascii_uppercase());
            match is_token.then(|| self.behind_token()).flatten() {
                Some(argument) => return Some(Argument { token: Some(word), ..argument }),
                None if is_token => Argument::word(word),
                None => Argument::value(word),
            }
        };
        argument.is_multiple |= self.take("...");
        Some(argument)
    }

    /// The argument that a token announces, if one follows.
    fn behind_token(&mut self) -> Option<Argument> {
        let is_argument = self.rest.starts_with(|first: char| first == '(' || first.is_ascii_lowercase());
        if is_argument { self.item() } else { None }
    }

    /// A word up to a space, a bracket or `...`.
    fn word(&mut self) -> Option<&'static str> {
        let end = self.rest.find([' ', '.', '|', '[', ']', '(', ')']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        (!word.is_empty()).then_some(word)
    }

    /// What stands between brackets: a choice, or some arguments.
    fn group(&mut self, end: &str) -> Argument {
        let mut choices = vec![block(self.sequence())];
        while self.take("|") {
            choices.push(block(self.sequence()));
        }
        self.take(end);
        match choices.len() {
            1 => choices.remove(0),
            _ => Argument::new("choice", Kind::OneOf(choices)),
        }
    }
}

/// Some arguments as one.
fn block(mut arguments: Vec<Argument>) -> Argument {
    match arguments.len() {
        1 => arguments.remove(0),
        _ => Argument::new("block", Kind::Block(arguments)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As redis-cli shows it, whose notation differs in what may be repeated.
    fn shown(arguments: &[Argument]) -> String {
        let all: Vec<String> = arguments.iter().map(show).collect();
        all.join(" ")
    }

    fn show(argument: &Argument) -> String {
        let inner = match &argument.kind {
            Kind::Value(_) => argument.name.to_owned(),
            Kind::Word => String::new(),
            Kind::OneOf(all) => all.iter().map(show).collect::<Vec<_>>().join("|"),
            Kind::Block(all) => shown(all),
        };
        let token = argument.token.map_or(String::new(), |token| format!("{token} "));
        let once = format!("{token}{inner}").trim_end().to_owned();
        let all = if argument.is_multiple { format!("{once} [{inner} ...]") } else { once };
        if argument.is_optional { format!("[{all}]") } else { all }
    }

    #[test]
    fn rows_are_understood() {
        for (syntax, expected, words_min) in [
            ("", "", 0),
            ("key value", "key value", 2),
            ("key...", "key [key ...]", 1),
            ("(key value)...", "key value [key value ...]", 2),
            ("key [NX | XX | IFEQ value] [GET]", "key [NX|XX|IFEQ value] [GET]", 1),
            ("[section...]", "[section [section ...]]", 0),
            ("(ON | OFF) [SKIPME (YES | NO)]", "ON|OFF [SKIPME YES|NO]", 1),
            ("[v [AUTH name password] [SETNAME n]]", "[v [AUTH name password] [SETNAME n]]", 0),
            ("(addr | [ID id] [ADDR a])", "addr|[ID id] [ADDR a]", 0),
        ] {
            let arguments = parse(syntax);
            assert_eq!(shown(&arguments), expected, "{syntax}");
            assert_eq!(arguments.iter().map(Argument::words_min).sum::<usize>(), words_min, "{syntax}");
        }
        assert_eq!(parse("key")[0].kind, Kind::Value("key"));
    }
}
