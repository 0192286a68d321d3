//! Whether a backup is what its list says.

use std::path::Path;

use esker_log::{
    Damage, Error, Result,
    disk::{Disk, OpenMode},
    recovery::BACKUP_NAME,
};

use super::{
    Progress, READ_BYTES,
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
    if list.find(esker_log::recovery::STORE_NAME).is_none() {
        let what = "it lists no store".into();
        report.damage.push(Damage { path: dir.join(BACKUP_NAME), offset: 0, what });
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
