//! `esker admin backup`: of a server, which sends it or keeps it, or of a data directory that none is using.

use std::{
    io::{self, Read, Write},
    path::Path,
    sync::{Arc, OnceLock},
};

use bytes::{Buf, Bytes};
use esker_client::{BackupStream, Client, Error as ClientError, Retry};
use esker_cluster::is_backup_name;
use esker_engine::{Db, Options, unpack_archive, verify_archive};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    block_on,
    care::{disk, require_dir, show},
    client, patient, progress,
    status::size,
};
use crate::{
    cli::{BackupArgs, Connection},
    exit::Failure,
    files::Whole,
    output,
};

/// So many pieces wait for the disk.
const PIECES_WAITING: usize = 4;

/// What was backed up.
#[derive(Debug, Serialize)]
struct Summary {
    version: u64,
    files: u64,
    bytes: u64,
    files_kept: u64,
    files_linked: u64,
    bytes_copied: u64,
}

pub(super) fn run(connection: &Connection, args: &BackupArgs) -> Result<(), Failure> {
    if let (Some(data_dir), Some(to)) = (&args.data_dir, &args.to) {
        return offline(data_dir, to, args.json);
    }
    if let Some(name) = args.name.as_deref().filter(|name| !is_backup_name(name)) {
        return Err(Failure::Usage(format!(
            "`{}` is no name for a backup: 1 to 255 bytes, without / and not beginning with a point",
            name.escape_debug()
        )));
    }
    // Who asks twice would have it done twice.
    let client = client(&patient(connection), Retry::never())?;
    match (&args.output, &args.name) {
        (Some(output), _) => block_on(fetch(&client, output, args.json)),
        (None, Some(name)) => block_on(keep(&client, name, args.json)),
        (None, None) => unreachable!("one of them has to be given"),
    }
}

fn report(done: &Summary, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(done);
    }
    let (files, copied) = (output::count(done.files, "file"), size(done.bytes_copied));
    let (version, bytes) = (done.version, size(done.bytes));
    output::line(format_args!(
        "backed up version {version}: {bytes} in {files}, of which {copied} were copied"
    ))
}

fn offline(data_dir: &Path, to: &Path, json: bool) -> Result<(), Failure> {
    require_dir(data_dir)?;
    let bar = progress::bar(Some(0), json);
    let db = Db::open(data_dir, Options::default())?;
    let made = db.backup(to, &mut show(&bar))?;
    db.close()?;
    bar.finish_and_clear();
    let done = Summary {
        version: made.version,
        files: made.files,
        bytes: made.bytes,
        files_kept: made.files_kept,
        files_linked: made.files_linked,
        bytes_copied: made.bytes_copied,
    };
    report(&done, json)
}

/// The server keeps it.
async fn keep(client: &Client, name: &str, json: bool) -> Result<(), Failure> {
    let bar = progress::bar(Some(0), json);
    let made = client.backup_in(name, |done, total| progress::show(&bar, done, total)).await;
    bar.finish_and_clear();
    let made = made?;
    let done = Summary {
        version: made.version,
        files: made.files,
        bytes: made.bytes,
        files_kept: made.files_kept,
        files_linked: made.files_linked,
        bytes_copied: made.bytes_copied,
    };
    report(&done, json)
}

/// The server sends it. It is checked as it comes: what is there in the end is whole.
async fn fetch(client: &Client, to: &Path, json: bool) -> Result<(), Failure> {
    let waiting = progress::Waiting::new(json);
    let stream = client.backup().await?;
    drop(waiting);
    let version = stream.version();
    let bar = progress::bar(Some(stream.bytes()), json);
    let (queue, pieces) = mpsc::channel(PIECES_WAITING);
    let cut_off = Arc::new(OnceLock::new());
    let mut received =
        Received { pieces, piece: Bytes::new(), cut_off: Arc::clone(&cut_off), bar: bar.clone() };
    let place = to.to_owned();
    let storing = tokio::task::spawn_blocking(move || store(&mut received, &place));
    hand_on(stream, queue).await;
    let stored = storing.await.map_err(|e| Failure::Error(format!("storing the backup died: {e}")))?;
    bar.finish_and_clear();
    // That it was cut off explains why what came was not whole.
    if let Some(error) = cut_off.get() {
        return Err(ClientError::clone(error).into());
    }
    let Stored { files, bytes } = stored?;
    if to == Path::new("-") {
        return Ok(());
    }
    report(&Summary { version, files, bytes, files_kept: 0, files_linked: 0, bytes_copied: bytes }, json)
}

/// Hands on what comes, until it ends or nobody takes it.
async fn hand_on(mut stream: BackupStream, queue: mpsc::Sender<Result<Bytes, ClientError>>) {
    loop {
        let piece = stream.next().await.transpose();
        let Some(piece) = piece else { return };
        let is_last = piece.is_err();
        if queue.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

/// What has come of a backup, for who can wait for more.
struct Received {
    pieces: mpsc::Receiver<Result<Bytes, ClientError>>,
    piece: Bytes,
    /// Why no more came.
    cut_off: Arc<OnceLock<ClientError>>,
    bar: indicatif::ProgressBar,
}

impl Read for Received {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    let error = self.cut_off.get_or_init(|| error);
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error.to_string()));
                }
            }
        }
        let len = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..len]);
        self.bar.inc(len as u64);
        Ok(len)
    }
}

/// What was stored.
struct Stored {
    files: u64,
    bytes: u64,
}

fn store(received: &mut Received, to: &Path) -> Result<Stored, Failure> {
    let is_dir = to.is_dir() || to.as_os_str().as_encoded_bytes().ends_with(b"/");
    if is_dir {
        let made = unpack_archive(&disk(), received, Path::new("the backup"), to, &mut |_| Ok(()))?;
        return Ok(Stored { files: made.files, bytes: made.bytes });
    }
    if to == Path::new("-") {
        return copy(received, &mut io::stdout().lock());
    }
    let failed = Failure::doing(format!("writing {}", to.display()));
    let mut file = Whole::create(to).map_err(&failed)?;
    let stored = copy(received, &mut file)?;
    file.finish().map_err(&failed)?;
    Ok(stored)
}

/// Writes the archive as it comes, and checks it.
fn copy(received: &mut Received, out: &mut dyn Write) -> Result<Stored, Failure> {
    let mut copied = Copied { from: received, to: out, failed: None };
    let found = verify_archive(&mut copied, Path::new("the backup"), &mut |_| Ok(()));
    if let Some(error) = copied.failed {
        return Err(crate::exit::output(error));
    }
    let found = found?;
    match found.damage.first() {
        Some(damage) => Err(Failure::Damage(format!("{}: nothing was kept of it", damage.what))),
        // BACKUP is a file of it, too.
        None => Ok(Stored { files: found.files - 1, bytes: found.bytes }),
    }
}

/// Writes what is read.
struct Copied<'a> {
    from: &'a mut Received,
    to: &'a mut dyn Write,
    /// Why nothing more could be written.
    failed: Option<io::Error>,
}

impl Read for Copied<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.from.read(into)?;
        if let Err(error) = self.to.write_all(&into[..len]) {
            self.failed = Some(error);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(len)
    }
}
