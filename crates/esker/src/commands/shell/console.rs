//! Commands from a terminal: a line editor around the session.

use std::{path::PathBuf, rc::Rc, time::Duration};

use esker_client::{Client, Query, Range};
use rustyline::{
    CompletionType, Config, Context, Editor, Helper,
    completion::{Completer, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::FileHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};
use tokio::{
    runtime::{Handle, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use super::{
    complete::{Completion, Wanted, complete},
    execute, history,
    session::{Next, Session},
    syntax::{Parser, quote},
    words,
};
use crate::{exit::Failure, output};

/// How many keys are offered.
const KEYS_OFFERED: u64 = 32;
/// How long the person at the keyboard waits for them.
const KEYS_WITHIN: Duration = Duration::from_millis(400);

pub(super) fn run(runtime: &Runtime, mut session: Session) -> Result<(), Failure> {
    {
        let _within = runtime.enter();
        drop(interrupts()?);
    }
    let mut console = Console::open(runtime, &session)?;
    output::line(format_args!(
        "Esker {} at {}. help shows the commands, Tab completes them and keys, Ctrl-D leaves.",
        env!("CARGO_PKG_VERSION"),
        session.client().endpoint()
    ))?;
    while let Some(text) = console.line(&session)? {
        if !console.perform(&mut session, &text)? {
            break;
        }
    }
    Ok(())
}

struct Console<'a> {
    runtime: &'a Runtime,
    editor: Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
}

impl<'a> Console<'a> {
    fn open(runtime: &'a Runtime, session: &Session) -> Result<Self, Failure> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(history::LINES_MAX)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(terminal)?
            .build();
        let mut editor = Editor::with_config(config).map_err(terminal)?;
        editor.set_helper(Some(Assistant::new(runtime.handle().clone(), session.client().clone())));
        // A shell without a history is one all the same.
        let history = history::file().unwrap_or_else(|e| {
            output::note(format_args!("esker: lines are not kept: {e}"));
            None
        });
        if let Some(file) = &history
            && let Err(e) = editor.load_history(file)
        {
            output::note(format_args!("esker: {}: {e}", file.display()));
        }
        Ok(Self { runtime, editor, history })
    }

    /// The next lines that make something whole; `None` at the end.
    fn line(&mut self, session: &Session) -> Result<Option<String>, Failure> {
        if let Some(assistant) = self.editor.helper_mut() {
            assistant.client = session.client().clone();
        }
        loop {
            match self.editor.readline(&session.prompt()) {
                Ok(line) => return Ok(Some(line)),
                // Ctrl-C drops what was typed; a signal, such as a resized window, nothing.
                Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {}
                Err(ReadlineError::Eof) => return Ok(None),
                Err(e) => return Err(terminal(e)),
            }
        }
    }

    /// Does what was typed; false if the shell is to end.
    fn perform(&mut self, session: &mut Session, text: &str) -> Result<bool, Failure> {
        self.keep(text)?;
        let mut parser = Parser::default();
        let read = parser.feed(text.as_bytes()).and_then(|()| parser.finish());
        while let Some(words) = parser.take() {
            let start = Instant::now();
            let outcome = self.runtime.block_on(interruptible(execute(session, &words)));
            match outcome {
                Ok(Next::Go) => {}
                Ok(Next::Quit) => return Ok(false),
                Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
                Err(failure) => {
                    failure.tell();
                }
            }
            if session.preferences.timing {
                output::line(format_args!("({:.1} ms)", start.elapsed().as_secs_f64() * 1e3))?;
            }
        }
        if let Err(e) = read {
            Failure::Usage(e.to_string()).tell();
        }
        Ok(true)
    }

    /// Keeps a line at once, so that a shell that is killed has kept it, too.
    fn keep(&mut self, text: &str) -> Result<(), Failure> {
        if !history::keeps(text) || !self.editor.add_history_entry(text).map_err(terminal)? {
            return Ok(());
        }
        if let Some(file) = &self.history
            && let Err(e) = self.editor.append_history(file)
        {
            output::note(format_args!("esker: lines are not kept any more: {}: {e}", file.display()));
            self.history = None;
        }
        Ok(())
    }
}

/// Ends with Ctrl-C; what had been sent to the server may be done.
async fn interruptible(work: impl Future<Output = Result<Next, Failure>>) -> Result<Next, Failure> {
    // Before the work begins, so that no Ctrl-C is missed; after all the earlier ones, which were meant for other work.
    let mut interrupt = interrupts()?;
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => {
            Err(Failure::Error("interrupted; a write that was under way may have been done".into()))
        }
    }
}

/// Every Ctrl-C from now on. From the first call on, none ends the process.
fn interrupts() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt()).map_err(Failure::doing("waiting for Ctrl-C"))
}

fn terminal(e: ReadlineError) -> Failure {
    Failure::Error(format!("the terminal: {e}"))
}

/// What the line editor asks while a line is typed.
struct Assistant {
    table: Rc<clap::Command>,
    handle: Handle,
    client: Client,
}

impl Assistant {
    fn new(handle: Handle, client: Client) -> Self {
        let mut table = words::table();
        // So that every option is there, those that clap adds, too.
        table.build();
        Self { table: Rc::new(table), handle, client }
    }

    /// Some keys that begin so. Without an answer in time there is nothing to offer: no error belongs into a half-typed line.
    fn keys(&self, prefix: Vec<u8>) -> Vec<Vec<u8>> {
        let query = Query {
            range: Range::Prefix(prefix),
            limit: Some(KEYS_OFFERED),
            keys_only: true,
            ..Query::default()
        };
        let asked = async { tokio::time::timeout(KEYS_WITHIN, self.client.list(&query, None)).await };
        match self.handle.block_on(asked) {
            Ok(Ok(page)) => page.items.into_iter().map(|item| item.key).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Completion { start, wanted } = complete(&self.table, &line[..at]);
        let pairs = match wanted {
            Wanted::Words(words) => {
                let pair = |word: String| Pair { replacement: format!("{word} "), display: word };
                words.into_iter().map(pair).collect()
            }
            Wanted::Key(prefix) => {
                let pair = |key: Vec<u8>| Pair { display: output::printable(&key), replacement: quote(&key) };
                self.keys(prefix).into_iter().map(pair).collect()
            }
        };
        Ok((start, pairs))
    }
}

impl Validator for Assistant {
    /// A quote that is open goes on in the next line.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let mut parser = Parser::default();
        let open = parser.feed(context.input().as_bytes()).is_ok() && !parser.is_whole();
        Ok(if open { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Helper for Assistant {}
