//! What is backed up: files of one instant, held open, so that they can be read whatever becomes of their names.

use std::{path::PathBuf, sync::Arc};

use esker_log::{
    Error, Log, Result,
    disk::{Disk, File, FileIdentity},
    format::{StoreId, encode_store},
    manifest::MANIFEST_NAME,
    recovery::STORE_NAME,
    segment::{Pin, Segment, segment_name},
};

use crate::{Saved, Version};

/// A file to be backed up.
pub(super) struct SourceFile {
    /// Its name in the store.
    pub(super) name: String,
    pub(super) content: Content,
    /// How many bytes of it count.
    pub(super) len: u64,
}

/// Where a file's bytes come from.
pub(super) enum Content {
    /// From memory: small files that are written anew.
    Bytes(Vec<u8>),
    /// From a file that is open.
    File {
        file: Arc<dyn File>,
        identity: FileIdentity,
        /// The file's name, if nothing is appended to it any more: it can be given a second one.
        link: Option<PathBuf>,
        path: PathBuf,
    },
}

impl SourceFile {
    fn bytes(name: &str, bytes: Vec<u8>) -> Self {
        Self { name: name.to_owned(), len: bytes.len() as u64, content: Content::Bytes(bytes) }
    }

    /// Reads at `offset` of what counts.
    pub(super) fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        match &self.content {
            Content::Bytes(bytes) => {
                let at = offset as usize;
                buf.copy_from_slice(&bytes[at..at + buf.len()]);
                Ok(())
            }
            Content::File { file, path, .. } => file
                .read_exact_at(buf, offset)
                .map_err(|e| Error::io(format_args!("reading {} at {offset}", path.display()), e)),
        }
    }
}

/// Everything that a store of one version consists of.
pub(crate) struct Source {
    pub(super) store: StoreId,
    pub(super) version: Version,
    pub(super) files: Vec<SourceFile>,
    /// Keeps the segments' files where they are.
    _pin: Pin,
}

impl Source {
    /// A state that was saved of the store with this log.
    ///
    /// Errors: `Damage` (a file is missing), `Io`.
    pub(crate) fn of(log: &Arc<Log>, saved: Saved) -> Result<Self> {
        let Saved { end, version, manifest, pin, files: index_files } = saved;
        let mut files = vec![
            SourceFile::bytes(STORE_NAME, encode_store(log.store()).to_vec()),
            SourceFile::bytes(MANIFEST_NAME, manifest.encode(log.store())),
        ];
        for named in &manifest.merged {
            files.push(sealed(log, &*log.segment(named.id)?, u64::from(named.len))?);
        }
        let mut id = manifest.next_there(1);
        while id < end.segment {
            let segment = log.segment(id)?;
            let len = segment.sealed_end().map(u64::from).ok_or(Error::Closed)?;
            files.push(sealed(log, &segment, len)?);
            id = manifest.next_there(id + 1);
        }
        files.push(last(log, &*log.segment(end.segment)?, u64::from(end.offset))?);
        for file in index_files {
            let path = log.dir().join(&file.name);
            let link = Some(path.clone());
            let content = Content::File { file: file.file, identity: file.identity, link, path };
            files.push(SourceFile { name: file.name, len: file.len, content });
        }
        Ok(Self { store: *log.store(), version, files, _pin: pin })
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }
}

fn sealed(log: &Log, segment: &Segment, len: u64) -> Result<SourceFile> {
    of_segment(log, segment, len, Some(segment.path.clone()))
}

/// The segment in which the backup ends: what lies behind does not count.
fn last(log: &Log, segment: &Segment, len: u64) -> Result<SourceFile> {
    of_segment(log, segment, len, segment.sealed_end().map(|_| segment.path.clone()))
}

fn of_segment(log: &Log, segment: &Segment, len: u64, link: Option<PathBuf>) -> Result<SourceFile> {
    let identity = identity(log.disk().as_ref(), &segment.path)?;
    let content =
        Content::File { file: Arc::clone(&segment.file), identity, link, path: segment.path.clone() };
    Ok(SourceFile { name: segment_name(segment.id), len, content })
}

fn identity(disk: &dyn Disk, path: &std::path::Path) -> Result<FileIdentity> {
    disk.identity(path).map_err(|e| Error::io(format_args!("looking at {}", path.display()), e))
}
