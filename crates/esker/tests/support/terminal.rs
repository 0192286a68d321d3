//! A terminal with a process on it.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    process::{Child, Command},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::esker;

/// How long anything may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);

type Shown = Arc<(Mutex<Vec<u8>>, Condvar)>;

/// A process on a terminal of its own; killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    shown: Shown,
    /// Reads what is shown, until nobody has the terminal any more.
    reader: Option<JoinHandle<()>>,
    /// How much of it was looked at.
    seen: usize,
}

impl Terminal {
    /// Starts a client command of the binary, whose home is `home`.
    pub(crate) fn start(endpoint: &str, home: &Path, args: &[&str]) -> Self {
        let mut command = esker(args);
        command.env("KV_ENDPOINT", endpoint).env("HOME", home).env_remove("XDG_STATE_HOME");
        Self::with(&command)
    }

    /// Starts a command.
    pub(crate) fn with(command: &Command) -> Self {
        Self::sized(command, 0)
    }

    /// Starts a command on a terminal so many columns wide; 0: it does not say.
    pub(crate) fn sized(command: &Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let size = Winsize { ws_row: columns.min(24), ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        // It becomes the session's terminal, so that Ctrl-C is a signal.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args()).env("TERM", "xterm");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        let child = session
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .spawn()
            .expect("setsid runs");
        let keyboard = File::from(master);
        let shown = Shown::default();
        let (mut screen, sink) = (keyboard.try_clone().unwrap(), Arc::clone(&shown));
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails when nobody has the other end any more.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                sink.0.lock().unwrap().extend_from_slice(&bytes[..read]);
                sink.1.notify_all();
            }
        });
        Self { child, keyboard, shown, reader: Some(reader), seen: 0 }
    }

    pub(crate) fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until a text appears behind what was seen before.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        let (lock, change) = &*self.shown;
        let mut shown = lock.lock().unwrap();
        loop {
            let found = shown[self.seen..].windows(text.len()).position(|bytes| bytes == text.as_bytes());
            if let Some(at) = found {
                self.seen += at + text.len();
                return;
            }
            let (guard, waited) = change.wait_timeout(shown, PATIENCE).unwrap();
            shown = guard;
            let rest = String::from_utf8_lossy(&shown[self.seen..]).into_owned();
            assert!(!waited.timed_out(), "no {text:?} in {rest:?}");
        }
    }

    /// Its end; the exit code and all that was shown.
    pub(crate) fn output(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        self.reader.take().unwrap().join().unwrap();
        let shown = String::from_utf8_lossy(&self.shown.0.lock().unwrap()).replace("\r\n", "\n");
        (code, shown)
    }

    /// Its end; the exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ended already, or never to be missed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
