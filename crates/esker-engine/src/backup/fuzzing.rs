//! Entry points for the fuzzers in `fuzz/`: built only for them.

use std::{path::Path, sync::Arc};

use esker_log::disk::{Disk, sim::SimDisk};
use tar::Header;

use super::{
    archive::{BLOCK_BYTES, of_files},
    restore, restore_archive, unpack_archive, verify, verify_archive,
};

/// What a backup may have, and what it may not.
const NAMES: [&str; 8] = [
    "STORE",
    "MANIFEST",
    "0000000001.log",
    "0000000001.hint",
    "0000000002-0000000064.ckpt",
    "0000000001.merged",
    "LOCK",
    "BACKUP",
];

/// Reads `bytes` as an archive or, by its first byte, a whole archive of files as they say, with one byte changed. The checksums of
/// headers are made right. What verifies is what can be restored and unpacked.
pub fn read_archive(bytes: &[u8]) {
    let archive = match bytes.split_first_chunk::<6>() {
        Some(([1, at @ .., change], files)) => {
            let mut archive = of_files(files_in(files));
            let at = u32::from_le_bytes(*at) as usize % archive.len();
            archive[at] ^= change;
            archive
        }
        _ => bytes.to_vec(),
    };
    check(&with_checksums(archive));
}

/// Files: each which name, how long, and its bytes.
fn files_in(mut rest: &[u8]) -> Vec<(&'static str, &[u8])> {
    let mut files = Vec::new();
    while let Some(([name, len], behind)) = rest.split_first_chunk::<2>() {
        let (content, next) = behind.split_at(behind.len().min((*len).into()));
        files.push((NAMES[usize::from(*name) % NAMES.len()], content));
        rest = next;
    }
    files
}

/// Makes the checksums of a tar file's headers right, so that what else they say is looked at.
fn with_checksums(mut archive: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(block) =
        archive.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<{ BLOCK_BYTES as usize }>())
    {
        let mut header = Header::new_old();
        *header.as_mut_bytes() = *block;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            break;
        }
        header.set_cksum();
        *block = *header.as_bytes();
        let len = header.entry_size().ok().and_then(|len| len.checked_next_multiple_of(BLOCK_BYTES));
        let next = len.and_then(|len| usize::try_from(len + BLOCK_BYTES).ok()?.checked_add(at));
        let Some(next) = next else { break };
        at = next;
    }
    archive
}

fn check(archive: &[u8]) {
    let (name, disk): (_, Arc<dyn Disk>) = (Path::new("a.tar"), Arc::new(SimDisk::new()));
    let verified = verify_archive(&mut &*archive, name, &mut |_| Ok(()));
    let is_intact = verified.is_ok_and(|report| report.damage.is_empty());
    let restored = restore_archive(&disk, &mut &*archive, name, "/restored", &mut |_| Ok(()));
    assert_eq!(restored.is_ok(), is_intact, "it is restored if it is intact: {restored:?}");
    let unpacked = unpack_archive(&disk, &mut &*archive, name, "/unpacked", &mut |_| Ok(()));
    assert_eq!(unpacked.is_ok(), is_intact, "it is unpacked if it is intact: {unpacked:?}");
    if is_intact {
        let report = verify(disk.as_ref(), Path::new("/unpacked"), &mut |_, _| Ok(()));
        assert!(report.is_ok_and(|report| report.damage.is_empty()), "what was unpacked is intact");
        let again = restore(&disk, "/unpacked", "/again", &mut |_, _| Ok(()));
        assert_eq!(again.ok(), restored.ok(), "by either way it comes to the same");
    }
}
