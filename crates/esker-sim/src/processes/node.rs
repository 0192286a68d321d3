//! One `esker serve` process, across its restarts.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::wait_for;

/// How to start a node, and the process if it runs. Killed when dropped.
pub(super) struct Node {
    /// The program and its arguments, with what it takes to run them elsewhere before them.
    command: Vec<String>,
    /// Where its log and its ready file are.
    dir: PathBuf,
    data_dir: PathBuf,
    process: Option<Child>,
}

impl Node {
    pub(super) fn new(command: Vec<String>, dir: PathBuf, data_dir: PathBuf) -> Self {
        Self { command, dir, data_dir, process: None }
    }

    pub(super) fn ready_file(dir: &Path) -> PathBuf {
        dir.join("ready")
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Starts the process, which must not run, and waits until it says that it is ready.
    pub(super) async fn start(&mut self, within: Duration) -> io::Result<()> {
        self.spawn()?;
        let ready = Self::ready_file(&self.dir);
        let what = format!("{} becomes ready", self.dir.display());
        wait_for(&what, within, async || {
            if let Some(status) = self.ended()? {
                return Err(io::Error::other(format!("it ended with {status}: {}", self.log_tail())));
            }
            Ok(ready.exists().then_some(()))
        })
        .await
    }

    #[expect(clippy::disallowed_methods, reason = "the files of a harness, not of the store")]
    fn spawn(&mut self) -> io::Result<()> {
        assert!(self.process.is_none(), "it is running");
        match std::fs::remove_file(Self::ready_file(&self.dir)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log"))?;
        let (program, arguments) = self.command.split_first().expect("a program was named");
        let mut command = Command::new(program);
        // None of the caller's settings.
        let settings = std::env::vars_os().map(|(name, _)| name);
        settings.filter(|name| name.to_string_lossy().starts_with("KV_")).for_each(|name| {
            command.env_remove(name);
        });
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn()?);
        Ok(())
    }

    /// Waits for its end, which comes without being asked for.
    pub(super) async fn wait(&mut self, within: Duration) -> io::Result<ExitStatus> {
        wait_for("the node ends by itself", within, async || self.ended()).await
    }

    /// How it ended, if it did.
    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    #[expect(clippy::disallowed_methods, reason = "the files of a harness, not of the store")]
    pub(super) fn log_tail(&self) -> String {
        let log = std::fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2000)..]).into_owned()
    }

    /// Sends a signal to the process, which must run.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let process = self.process.as_ref().ok_or_else(|| io::Error::other("the node is not running"))?;
        kill_process(Pid::from_child(process), signal).map_err(io::Error::from)
    }

    /// SIGKILL; gone when this returns.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// SIGTERM; how it ended.
    pub(super) async fn terminate(&mut self, within: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        wait_for("the node ends after SIGTERM", within, async || self.ended()).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nothing can be done about one that cannot be killed.
        let _killed = self.kill();
    }
}
