//! Whether a backup is what its list says.

use std::{io::Read, path::Path};

use esker_log::{
    Error, Result,
    disk::{Disk, OpenMode},
    recovery::BACKUP_NAME,
};

use super::{
    Progress, READ_BYTES,
    archive::{self, Sink},
    list::{FileChecksum, List, Listed},
    restore::{mismatch, read_listed},
};
use crate::VerifyReport;

/// Checks every byte of a backup.
///
/// Errors: `UnsupportedFormat`, `Io`, and what `progress` says. Damage is in the report.
pub(crate) fn verify(disk: &dyn Disk, dir: &Path, progress: Progress<'_>) -> Result<VerifyReport> {
    let mut report = VerifyReport { files: 1, ..VerifyReport::default() };
    let list = match List::require(disk, dir) {
        Err(Error::Damage(found)) => {
            report.damage.push(found);
            return Ok(report);
        }
        other => other?,
    };
    if let Err(Error::Damage(found)) = list.check(&dir.join(BACKUP_NAME)) {
        report.damage.push(found);
    }
    for listed in &list.files {
        let path = dir.join(listed.stored_name());
        let done = report.bytes;
        match check(disk, &path, listed, &mut |bytes| progress(done + bytes, list.bytes())) {
            Err(Error::Damage(found)) => report.damage.push(found),
            other => other?,
        }
        report.files += 1;
        report.bytes += listed.len;
    }
    Ok(report)
}

fn check(
    disk: &dyn Disk,
    path: &Path,
    listed: &Listed,
    on_read: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let file = match disk.open(path, OpenMode::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::damage(path, 0, "the file is missing"));
        }
        other => other.map_err(|e| Error::io(format_args!("opening {}", path.display()), e))?,
    };
    let mut chunk = vec![0; listed.len.min(READ_BYTES) as usize];
    let (mut at, mut checksum) = (0, FileChecksum::default());
    while at < listed.len {
        let piece = &mut chunk[..(listed.len - at).min(READ_BYTES) as usize];
        read_listed(&*file, path, piece, at)?;
        checksum.update(piece);
        at += piece.len() as u64;
        on_read(at)?;
    }
    if checksum.finish() == listed.checksum { Ok(()) } else { Err(mismatch(path)) }
}

/// Checks every byte of an archive, which `path` names in errors; `progress` gets the bytes of files done.
///
/// Errors: `InvalidRequest` if it is no backup's archive, `UnsupportedFormat`, `Io`, and what `progress` says. Damage is in the
/// report; behind the first nothing is looked at.
pub fn verify_archive(
    input: &mut dyn Read,
    path: &Path,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    match archive::read(input, path, &mut Nowhere, progress) {
        Err(Error::Damage(found)) => report.damage.push(found),
        other => {
            let list = other?;
            report.files = list.files.len() as u64 + 1;
            report.bytes = list.bytes();
        }
    }
    Ok(report)
}

/// For what is only looked at.
struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}
