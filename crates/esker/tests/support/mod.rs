//! Running the real binary: servers on free ports, commands with their output.

pub(crate) mod image;
#[expect(clippy::disallowed_methods, reason = "plays a user, or a network")]
pub(crate) mod program;
#[expect(clippy::disallowed_methods, reason = "plays a user, or a network")]
pub(crate) mod proxy;
#[expect(clippy::disallowed_methods, reason = "plays a user, or a network")]
pub(crate) mod terminal;

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

/// Held by whoever runs a cluster on which times are taken: another one beside it would take them, too.
pub(crate) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A command line of the binary, with none of the caller's settings. `ESKER_TEST_BINARY` names another one than the present.
pub(crate) fn esker(args: &[&str]) -> Command {
    let binary = std::env::var_os("ESKER_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_esker").into());
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KV_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Lets time pass: where what is waited for cannot be asked for, or not all the time.
pub(crate) fn pause(time: Duration) {
    // Nobody ever sends.
    let (_sender, receiver) = mpsc::channel::<()>();
    assert!(receiver.recv_timeout(time).is_err());
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    esker(args).output().expect("the binary runs")
}

/// The `host:port` of a URL.
fn address(url: &str) -> String {
    url.trim().split("://").last().unwrap_or_default().to_owned()
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) endpoint: String,
    /// Where clients of Redis connect, `host:port`; empty if nowhere.
    pub(crate) resp: String,
    /// Where the binary protocol is spoken, `esker://host:port`; empty if nowhere.
    pub(crate) binary: String,
    /// Where clients of gRPC connect, `host:port`; empty if nowhere.
    pub(crate) grpc: String,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

impl Server {
    /// Starts a server and waits until it says where it listens.
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Self {
        Self::try_start(dir, more).unwrap_or_else(|(code, told)| panic!("ended with {code:?}: {told}"))
    }

    /// The same; an error is the exit code and what was told on standard error.
    pub(crate) fn try_start(dir: &Path, more: &[&str]) -> Result<Self, (Option<i32>, String)> {
        Self::try_start_with(dir, more, &[])
    }

    /// The same, with variables in its environment.
    pub(crate) fn try_start_with(
        dir: &Path,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self, (Option<i32>, String)> {
        let mut command = esker(&["serve", "--port", "0", "--data-dir"]);
        let mut child = command
            .env("KV_LOG_LEVEL", "error")
            .envs(environment.iter().copied())
            .arg(dir)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (mut endpoint, mut resp) = (None, String::new());
        let (mut binary, mut grpc) = (String::new(), String::new());
        let mut line = String::new();
        while stdout.read_line(&mut line).expect("it is text") > 0 {
            if let Some(rest) = line.trim().strip_prefix("listening") {
                endpoint = Some(rest.trim().to_owned());
            }
            if let Some(rest) = line.trim().strip_prefix("redis ") {
                resp = address(rest);
            }
            if let Some(rest) = line.trim().strip_prefix("binary ") {
                binary = rest.trim().to_owned();
            }
            if let Some(rest) = line.trim().strip_prefix("grpc ") {
                grpc = address(rest);
            }
            if line.trim() == "Try:" {
                break;
            }
            line.clear();
        }
        match endpoint {
            Some(endpoint) => {
                let stderr = child.stderr.take().expect("it is piped");
                Ok(Self { child, endpoint, resp, binary, grpc, stdout, stderr })
            }
            None => {
                let output = child.wait_with_output().expect("it ends");
                Err((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
            }
        }
    }

    /// What it says to try, so many lines of it.
    pub(crate) fn invitation(&mut self, lines: usize) -> Vec<String> {
        let read = |_| {
            let mut line = String::new();
            self.stdout.read_line(&mut line).expect("it is text");
            line.trim().to_owned()
        };
        (0..lines).map(read).collect()
    }

    /// Starts a server and kills it after a while, wherever it is by then.
    pub(crate) fn kill_while_starting(dir: &Path, more: &[&str], after: Duration) {
        let mut command = esker(&["serve", "--port", "0", "--log-level", "error", "--data-dir"]);
        let mut child = command
            .arg(dir)
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        pause(after);
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }

    /// Runs a client command against it.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        esker(args).env("KV_ENDPOINT", &self.endpoint).output().expect("the binary runs")
    }

    /// Runs a client command that has to succeed; what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("it is text")
    }

    /// Runs a client command with standard input.
    pub(crate) fn with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = esker(args);
        command.env("KV_ENDPOINT", &self.endpoint);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        child.stdin.take().expect("it is piped").write_all(input).expect("it reads");
        child.wait_with_output().expect("it ends")
    }

    /// Kills it on the spot (SIGKILL) and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// Its process id.
    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Ends it in order; the exit code, and what it logged.
    pub(crate) fn finish(&mut self) -> (Option<i32>, String) {
        self.signal("TERM");
        let mut log = String::new();
        self.stderr.read_to_string(&mut log).expect("it is text");
        (self.child.wait().expect("it is ours").code(), log)
    }

    /// Waits for its end; the exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().expect("it is ours").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, or never to be missed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
