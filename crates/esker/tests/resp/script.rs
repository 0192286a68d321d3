//! Scripts of commands and the answers that they get.
//!
//! ```text
//! # what follows is for people
//! > SET k v            a command, as one types it
//! OK                   its answer
//! esker> ERANGE a b    one that Redis does not have, or answers otherwise
//! [..]
//! ```
//!
//! `(integer) 5..9` stands for any number from 5 to 9, and `...` at the end of an answer for whatever follows.

use esker_wire::resp::{Commands, Parser, ParserLimits};

use super::client::{Answer, Client, encode};

/// How the commands of a script are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// As lines.
    Inline,
    /// As arrays, after HELLO 3.
    Resp3,
}

pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) command: String,
    pub(crate) expected: String,
    pub(crate) only_esker: bool,
}

pub(crate) fn steps(script: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (at, line) in script.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end())) {
        let command = line.strip_prefix("> ").map(|command| (command, false));
        let command = command.or_else(|| line.strip_prefix("esker> ").map(|command| (command, true)));
        match command {
            _ if line.is_empty() || line.starts_with('#') => {}
            Some((command, only_esker)) => {
                let (command, expected) = (command.to_owned(), String::new());
                steps.push(Step { line: at, command, expected, only_esker });
            }
            None => {
                let step = steps.last_mut().expect("an answer follows a command");
                assert!(step.expected.is_empty(), "line {at}: an answer is one line");
                step.expected = line.to_owned();
            }
        }
    }
    steps.iter().for_each(|step| assert!(!step.expected.is_empty(), "line {}: no answer", step.line));
    steps
}

/// Runs a script; what was answered otherwise than it says.
pub(crate) fn differences(name: &str, script: &str, address: &str, way: Way, is_esker: bool) -> Vec<String> {
    let mut client = Client::connect(address);
    client.ask("FLUSHALL");
    if way == Way::Resp3 {
        client.ask("HELLO 3");
    }
    let mut differences = Vec::new();
    for step in steps(script).iter().filter(|step| is_esker || !step.only_esker) {
        match way {
            Way::Inline => client.send(format!("{}\r\n", step.command).as_bytes()),
            Way::Resp3 => client.send(&as_array(&step.command)),
        }
        let answer = client.answer();
        if !fits(&answer, &step.expected) {
            let Step { line, command, expected, .. } = step;
            differences.push(format!(
                "{name}:{line} ({way:?}): {command}\n  expected {expected}\n  got      {answer}"
            ));
        }
    }
    differences
}

fn as_array(line: &str) -> Vec<u8> {
    let (mut commands, line) = (Commands::default(), format!("{line}\r\n").into_bytes());
    assert_eq!(Parser::new(ParserLimits::default()).parse(&line, &mut commands), Ok(true));
    let words: Vec<&[u8]> = commands.get(0, &line).from(0).collect();
    encode(&words)
}

fn fits(answer: &Answer, expected: &str) -> bool {
    let text = answer.to_string();
    if let Some(beginning) = expected.strip_suffix("...") {
        return text.starts_with(beginning);
    }
    let range = expected.strip_prefix("(integer) ").and_then(|range| range.split_once(".."));
    match (range, answer) {
        (Some((from, to)), Answer::Integer(number)) => {
            (from.parse::<i64>().unwrap()..=to.parse().unwrap()).contains(number)
        }
        // Some errors end with a space, which a file had better not.
        _ => text.trim_end() == expected,
    }
}
