//! Commands from a pipe, a file or the command line. Every one is done, also behind one that failed, unless asked to stop there;
//! the last failure is what the process ends with.

use std::io::{self, Read};

use super::{
    execute,
    session::{Next, Session},
    syntax::Parser,
};
use crate::{cli::ShellArgs, exit::Failure};

/// Read at once.
const CHUNK: usize = 64 << 10;

pub(super) async fn run(session: Session, args: &ShellArgs) -> Result<(), Failure> {
    let mut script = Script {
        session,
        parser: Parser::default(),
        stop_on_error: args.stop_on_error,
        last: None,
        ended: false,
    };
    match args.commands.is_empty() {
        true => script.standard_input().await?,
        false => {
            for commands in &args.commands {
                script.take(commands.as_bytes()).await;
                script.end().await;
            }
        }
    }
    if let Err(failure) = script.session.end() {
        script.failed(&failure);
    }
    script.last.map_or(Ok(()), |code| Err(Failure::Told(code)))
}

struct Script {
    session: Session,
    parser: Parser,
    stop_on_error: bool,
    /// The exit code of the last failure.
    last: Option<u8>,
    ended: bool,
}

impl Script {
    async fn standard_input(&mut self) -> Result<(), Failure> {
        let mut chunk = vec![0; CHUNK];
        while !self.ended {
            let read = match io::stdin().lock().read(&mut chunk) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(Failure::doing("reading standard input"))?,
            };
            match read {
                0 => {
                    self.end().await;
                    break;
                }
                read => self.take(&chunk[..read]).await,
            }
        }
        Ok(())
    }

    /// Takes text, and does what is whole of it, line by line: after a mistake the next line begins anew.
    async fn take(&mut self, text: &[u8]) {
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let fed = self.parser.feed(line);
            self.drain().await;
            if let Err(e) = fed {
                self.failed(&Failure::Usage(e.to_string()));
            }
        }
    }

    /// There is no more text.
    async fn end(&mut self) {
        let finished = self.parser.finish();
        self.drain().await;
        if let Err(e) = finished {
            self.parser = Parser::default();
            self.failed(&Failure::Usage(e.to_string()));
        }
    }

    async fn drain(&mut self) {
        while let Some(words) = self.parser.take() {
            if self.ended {
                continue;
            }
            match execute(&mut self.session, &words).await {
                Ok(Next::Go) => {}
                Ok(Next::Quit) => self.ended = true,
                Err(failure) => self.failed(&failure),
            }
        }
    }

    fn failed(&mut self, failure: &Failure) {
        if self.ended {
            return;
        }
        // Nobody reads any more: the rest would be done unseen.
        self.ended = self.stop_on_error || matches!(failure, Failure::OutputClosed);
        match failure.tell() {
            0 => {}
            code => self.last = Some(code),
        }
    }
}
