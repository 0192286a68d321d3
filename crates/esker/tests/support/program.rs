//! Other people's programs: what they say is read all the time, and they end.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::{JoinHandle, spawn},
    time::{Duration, Instant},
};

use super::pause;

/// No script takes longer, also where the machine is busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// A program that runs; it is killed if the test ends before it.
pub(crate) struct Program {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// Gives what was said on standard error.
    told: Option<JoinHandle<String>>,
    until: Instant,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        spawn(move || {
            let said = BufReader::new(stdout).lines().map_while(Result::ok);
            // Who does not listen any more has failed, and says why.
            said.for_each(|line| drop(sender.send(line)));
        });
        let told = spawn(move || {
            let mut told = Vec::new();
            stderr.read_to_end(&mut told).unwrap();
            String::from_utf8_lossy(&told).into_owned()
        });
        Self { child, stdin, lines, told: Some(told), until: Instant::now() + PATIENCE }
    }

    /// The next line that it says; `None`: it says no more.
    pub(crate) fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(self.until.saturating_duration_since(Instant::now())) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => self.give_up(),
        }
    }

    pub(crate) fn say(&mut self, line: &[u8]) {
        self.stdin.write_all(line).unwrap();
    }

    /// Waits until it has ended, which it has to do with success; the rest of what it said.
    pub(crate) fn succeed(mut self) -> String {
        let said: Vec<_> = std::iter::from_fn(|| self.line()).collect();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() >= self.until {
                self.give_up();
            }
            pause(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}: {}", self.told());
        said.join("\n")
    }

    fn told(&mut self) -> String {
        self.told.take().map(|told| told.join().unwrap()).unwrap_or_default()
    }

    fn give_up(&mut self) -> ! {
        self.child.kill().unwrap();
        panic!("it takes longer than {PATIENCE:?}: {}", self.told());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Ended already, or never to be missed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
