//! Care of the node: checkpoints, merges, verification, backups. One at a time, each on a thread of its own, so that it takes
//! none from the readers.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use esker_engine::{BackupReport, VerifyReport, Version};
use tokio::sync::{mpsc, oneshot};

use super::{Compacted, Inner, Store, on_own_thread, start_thread};
use crate::{Error, Result};

/// What nobody can have done while it is done for somebody else.
const ONE_AT_A_TIME: &str = "a merge, checkpoint, backup or verification";
/// A stream is handed on in pieces of so many bytes.
const PIECE_BYTES: usize = 256 << 10;
/// So many pieces wait for whoever takes the stream.
const PIECES_WAITING: usize = 2;

/// How far work has come that takes its time. Cloning gives another handle: one for who does it, one for who waits.
#[derive(Debug, Clone, Default)]
pub struct WorkProgress(Arc<(AtomicU64, AtomicU64)>);

impl WorkProgress {
    /// How much is done, and how much is to be done in all, which is 0 as long as it is not known.
    pub fn get(&self) -> (u64, u64) {
        (self.0.0.load(Ordering::Relaxed), self.0.1.load(Ordering::Relaxed))
    }

    fn set(&self, done: u64, total: u64) {
        self.0.0.store(done, Ordering::Relaxed);
        self.0.1.store(total, Ordering::Relaxed);
    }
}

impl Store {
    /// Writes a checkpoint; answers with a version that is in it.
    pub async fn checkpoint(&self) -> Result<Version> {
        let inner = Arc::clone(&self.inner);
        self.maintain(move || inner.committer.checkpoint()).await
    }

    /// Merges this node's segments: what is worth it, or with `all` everything that may be; says what was done. Ends when nobody
    /// waits for it any more.
    pub async fn merge(&self, all: bool) -> Result<Compacted> {
        let inner = Arc::clone(&self.inner);
        self.work(&WorkProgress::default(), move |go_on| {
            let before = inner.committer.stats().log_bytes;
            let merged = inner.committer.merge(all, go_on)?;
            Ok(Compacted { merged, before, after: inner.committer.stats().log_bytes })
        })
        .await
    }

    /// Reads and checks every byte of the store. Ends when nobody waits for it any more.
    pub async fn verify(&self, progress: &WorkProgress) -> Result<VerifyReport> {
        let reader = self.inner.reader.clone();
        self.work(progress, move |go_on| reader.verify(go_on).map_err(Error::from)).await
    }

    /// Makes a backup in the directory of this name below [`StoreConfig::backup_dir`](crate::StoreConfig::backup_dir), or
    /// brings the one up to date that is there. Ends when nobody waits for it any more.
    ///
    /// Errors: `InvalidRequest` if the name leads elsewhere or there is no such setting, and those of
    /// [`Db::backup`](esker_engine::Db::backup).
    pub async fn backup(&self, name: &str, progress: &WorkProgress) -> Result<BackupReport> {
        let dir = self.backup_place(name)?;
        let inner = Arc::clone(&self.inner);
        self.work(progress, move |go_on| inner.committer.backup(&dir, go_on)).await
    }

    fn backup_place(&self, name: &str) -> Result<PathBuf> {
        let refused = |why: String| Error::Engine(esker_engine::Error::InvalidRequest(why));
        let Some(root) = &self.inner.config.backup_dir else {
            let why = "the server has no `backup_dir` to make backups in: set it, or have the backup sent";
            return Err(refused(why.into()));
        };
        match is_backup_name(name) {
            true => Ok(root.join(name)),
            false => Err(refused(format!(
                "`{}` is no name for a backup: 1 to 255 bytes, without / and not beginning with a point",
                name.escape_debug()
            ))),
        }
    }

    /// Makes a backup as one stream of bytes. Ends when the stream is dropped.
    pub async fn backup_stream(&self) -> Result<BackupStream> {
        let running = self.begin()?;
        let (answer, answered) = oneshot::channel();
        let (sender, pieces) = mpsc::channel(PIECES_WAITING);
        let store = Arc::clone(&self.inner);
        start_thread("esker-backup", move || {
            let _running = running;
            send_backup(&store, answer, &sender);
        })?;
        let (version, bytes) = answered.await.map_err(|_| Error::WorkerDied)??;
        Ok(BackupStream { version, bytes, left: bytes, pieces })
    }

    /// Does work that says how far it is and ends when nobody waits for it any more.
    async fn work<T: Send + 'static>(
        &self,
        progress: &WorkProgress,
        work: impl FnOnce(esker_engine::Progress<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let wanted = Arc::new(());
        let (is_wanted, progress) = (Arc::downgrade(&wanted), progress.clone());
        let worked = self.maintain(move || {
            work(&mut |done, total| {
                progress.set(done, total);
                match is_wanted.strong_count() {
                    0 => Err(esker_engine::Error::Cancelled),
                    _ => Ok(()),
                }
            })
        });
        let outcome = worked.await;
        drop(wanted);
        outcome
    }

    /// Runs long work on a thread of its own.
    async fn maintain<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let running = self.begin()?;
        on_own_thread("esker-maintain", move || {
            let _running = running;
            work()
        })
        .await
    }

    fn begin(&self) -> Result<Running> {
        match self.inner.maintenance.swap(true, Ordering::AcqRel) {
            true => Err(Error::AlreadyRunning(ONE_AT_A_TIME)),
            false => Ok(Running(Arc::clone(&self.inner))),
        }
    }
}

/// Lets the next maintenance begin when dropped, also by a panic.
struct Running(Arc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.maintenance.store(false, Ordering::Release);
    }
}

/// Whether a backup can have this name: it names something in a directory, and nothing outside of it. Names that begin with a
/// point are hidden, or the directory itself, or the one above.
pub fn is_backup_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// A backup on its way, made as it is taken: whoever takes nothing has it wait, in the memory of a few pieces.
pub struct BackupStream {
    version: Version,
    bytes: u64,
    left: u64,
    pieces: mpsc::Receiver<Result<Vec<u8>>>,
}

impl BackupStream {
    /// The last version that it has.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many bytes it has in all.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next bytes of it; `None` at its end. After an error there is no more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>>>> {
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(Ok(piece)) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Some(Ok(piece))
            }
            Some(Err(error)) => {
                self.left = 0;
                Some(Err(error))
            }
            None if self.left > 0 => {
                self.left = 0;
                Some(Err(Error::WorkerDied))
            }
            None => None,
        })
    }
}

/// What a stream begins with: its version and its length.
type Begun = oneshot::Sender<Result<(Version, u64)>>;

fn send_backup(store: &Inner, answer: Begun, pieces: &mpsc::Sender<Result<Vec<u8>>>) {
    let made = store.committer.backup_archive(&mut |_, _| match answer.is_closed() {
        true => Err(esker_engine::Error::Cancelled),
        false => Ok(()),
    });
    let begun = made.as_ref().map(|archive| (archive.version(), archive.bytes())).map_err(Clone::clone);
    let is_gone = answer.send(begun).is_err();
    let Ok(archive) = made else { return };
    if is_gone {
        return;
    }
    let mut out = Pieces { pieces, piece: Vec::with_capacity(PIECE_BYTES) };
    if let Err(error) = archive.write_to(&mut out, &mut |_, _| Ok(())) {
        // Whoever took it may be the one who went away.
        let _gone = pieces.blocking_send(Err(error.into())).is_err();
    }
}

/// Hands on what is written, piece by piece.
struct Pieces<'a> {
    pieces: &'a mpsc::Sender<Result<Vec<u8>>>,
    piece: Vec<u8>,
}

impl io::Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["today", "2026-11-21", "a b", "x..", "\u{fc}", &"n".repeat(255)] {
            assert!(is_backup_name(good), "{good:?}");
        }
        for bad in ["", ".", "..", ".hidden", "../x", "a/b", "/etc", "a\0b", "a/", &"n".repeat(256)] {
            assert!(!is_backup_name(bad), "{bad:?}");
        }
    }
}
