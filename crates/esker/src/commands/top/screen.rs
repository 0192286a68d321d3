//! The terminal while the picture is live: a screen of its own, keys as they are pressed, and all as it was afterwards.

use std::io::{self, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use crate::output;

/// Another screen than the one with the scrollback, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Where the terminal does not tell its size.
const SIZE_DEFAULT: (usize, usize) = (80, 24);

pub(super) struct Screen {
    before: Termios,
}

impl Screen {
    /// Takes the terminal; it is given back when this is dropped.
    pub(super) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut now = before.clone();
        // Keys come one by one and are not shown; Ctrl-C stays a signal.
        now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &now)?;
        let screen = Self { before };
        screen.write(ENTER)?;
        Ok(screen)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            Ok(_) | Err(_) => SIZE_DEFAULT,
        }
    }

    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        let mut out = output::stdout();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }

    /// The keys pressed from now on. The thread that reads them ends with the process.
    pub(super) fn keys(&self) -> mpsc::Receiver<u8> {
        let (sender, receiver) = mpsc::channel(16);
        std::thread::spawn(move || {
            let mut key = [0];
            while matches!(io::stdin().lock().read(&mut key), Ok(1)) && sender.blocking_send(key[0]).is_ok() {
            }
        });
        receiver
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = self.write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
