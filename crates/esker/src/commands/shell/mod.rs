//! `esker shell`: commands from a terminal, a pipe or the command line.
//!
//! [`syntax`] makes words of what is typed, [`words`] is the table of commands, [`session`] does them ([`reading`] and [`collect`]
//! are its parts), [`render`] shows what comes of it. [`script`] and [`console`] are the two ways in; [`complete`] and
//! [`history`] serve the latter.

mod collect;
mod complete;
mod console;
mod history;
mod reading;
mod render;
mod script;
mod session;
mod syntax;
mod words;

use std::io::IsTerminal;

use clap::error::ErrorKind;

use crate::{
    cli::{Connection, ShellArgs},
    exit::Failure,
    output,
};
use session::{Next, Session};
use syntax::Word;
use words::Verb;

pub(super) fn run(connection: Connection, args: ShellArgs) -> Result<(), Failure> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    // Its thread drives the connections while the shell waits for a line.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(Failure::doing("starting"))?;
    let session = Session::new(connection, args.json, std::io::stdout().is_terminal())?;
    match terminal && args.commands.is_empty() {
        true => console::run(&runtime, session),
        false => runtime.block_on(script::run(session, &args)),
    }
}

/// What a command's words ask for; `None` if only for help, which is given here.
fn read(words: &[Word]) -> Result<Option<Verb>, Failure> {
    match words::read(words) {
        Ok(verb) => Ok(Some(verb)),
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            output::line(words::tidy(&e.to_string())).map(|()| None)
        }
        Err(e) if e.kind() == ErrorKind::InvalidSubcommand => {
            let word = words.first().map(|word| word.escape_ascii().to_string()).unwrap_or_default();
            Err(words::no_such_command(&word))
        }
        Err(e) => {
            let text = words::tidy(&e.to_string());
            Err(Failure::Usage(text.trim_start_matches("error: ").to_owned()))
        }
    }
}

/// Does a command.
async fn execute(session: &mut Session, words: &[Word]) -> Result<Next, Failure> {
    match read(words)? {
        Some(verb) => session.run(verb).await,
        None => Ok(Next::Go),
    }
}
