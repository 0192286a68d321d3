//! The command line's own files: configuration, and what is read from or written to where the user says.
//! The store's files are the engine's; this is the one place where the command line opens any.

#![expect(clippy::disallowed_methods, reason = "the home of the command line's own files")]

use std::{
    fs::{self, File},
    io::{self, Write},
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

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens a file to write at its end; makes it if there is none.
pub(crate) fn append_to(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Whether what is there is a directory, and not a file.
pub(crate) fn is_dir(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.is_dir())
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
