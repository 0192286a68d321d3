//! The command line's own files: configuration, and what is read from or written to where the user says.
//! The store's files are the engine's; this is the one place where the command line opens any.

#![expect(clippy::disallowed_methods, reason = "the home of the command line's own files")]

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Reads a whole text file.
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path)
}

/// Reads a text file with secrets in it.
///
/// Errors: others than its owner may read or write it.
pub(crate) fn read_private(path: &Path) -> io::Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let mut file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        let why = format!("others may read or change it (mode {:03o}): chmod 600", mode & 0o777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let mut text = String::new();
    io::Read::read_to_string(&mut file, &mut text)?;
    Ok(text)
}

/// Writes a file that only its owner may read, in place of one that may be there.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut file = Whole::create(path)?;
    // Before there is a secret in it.
    file.file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.finish()
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens a file to write at its end; makes it if there is none.
pub(crate) fn append_to(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Whether there is anything.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Asks on the terminal, and reads a line that is not shown as it is typed.
///
/// Errors: there is no terminal.
pub(crate) fn read_unseen(question: &str) -> io::Result<String> {
    use io::BufRead;
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(question.as_bytes())?;
    let shown = tcgetattr(&terminal)?;
    let mut unseen = shown.clone();
    unseen.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &unseen)?;
    let mut line = String::new();
    let read = io::BufReader::new(&terminal).read_line(&mut line);
    tcsetattr(&terminal, OptionalActions::Flush, &shown)?;
    terminal.write_all(b"\n")?;
    read.map(|_| line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Whether what is there is a directory, and not a file.
pub(crate) fn is_dir(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.is_dir())
}

/// Makes a directory that only its owner may look into, with those above it, if there is none.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes an empty file that only its owner may read, if there is none; takes the others' rights to one that is there.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let file = File::options().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

/// Makes a directory, with those above it, if there is none; says whether it is empty.
pub(crate) fn make_dir(path: &Path) -> io::Result<bool> {
    fs::create_dir_all(path)?;
    Ok(fs::read_dir(path)?.next().is_none())
}

/// Removes a file, if there is one.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A file that appears under its name only when it is complete: written beside it, synced, then renamed.
/// Dropped before [`Whole::finish`], it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Whole {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl Whole {
    /// Begins the file that is to be at `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary)?;
        // What replaces a file is as open to others as that was; a new one is as the umask says.
        if let Ok(replaced) = fs::metadata(path)
            && let Err(e) = file.set_permissions(replaced.permissions())
        {
            drop(file);
            let _ = fs::remove_file(&temporary);
            return Err(e);
        }
        Ok(Self { file, temporary, path: path.to_owned(), finished: false })
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        self.finished = true;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody is left to tell, and a temporary file left behind harms nothing but the eye.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
