//! `STORE`: which store it is.

use std::{io, path::Path};

use super::STORE_NAME;
use crate::{
    Error, Result,
    disk::Disk,
    error::invalid_header,
    format::{FORMAT_VERSION, StoreId, decode_store, encode_store},
    small_file::{read_small, write_durably},
};

pub(super) fn read_or_create_store(
    disk: &dyn Disk,
    dir: &Path,
    has_files: bool,
    new_store: impl FnOnce() -> io::Result<StoreId>,
) -> Result<StoreId> {
    let id = match read_versioned_store(disk, dir)? {
        Some((id, FORMAT_VERSION)) if has_files => return Ok(id),
        // Without a segment, the process that wrote it got no further, so its name need never have been synced. With an
        // older version, those who read no newer one must be kept from taking what we write for damage.
        Some((id, _)) => id,
        None if has_files => return Err(Error::damage(dir.join(STORE_NAME), 0, "the file is missing")),
        None => new_store().map_err(|e| Error::io("drawing a store id", e))?,
    };
    write_durably(disk, dir, STORE_NAME, &encode_store(&id))?;
    Ok(id)
}

/// The identity of the store in `dir`, if there is one.
///
/// Errors: `Damage`, `UnsupportedFormat`, `Io`.
pub fn read_store(disk: &dyn Disk, dir: &Path) -> Result<Option<StoreId>> {
    Ok(read_versioned_store(disk, dir)?.map(|(id, _)| id))
}

fn read_versioned_store(disk: &dyn Disk, dir: &Path) -> Result<Option<(StoreId, u32)>> {
    let path = dir.join(STORE_NAME);
    let Some(bytes) = read_small(disk, &path)? else { return Ok(None) };
    decode_store(&bytes).map(Some).map_err(|invalid| invalid_header(&path, invalid))
}
