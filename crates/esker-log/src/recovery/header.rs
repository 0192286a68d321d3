//! What the beginning and the length of a segment tell.

use std::path::Path;

use crate::{
    Damage, Error, Result, SegmentId,
    disk::Disk,
    error::invalid_header,
    format::{self, Invalid, SEGMENT_HEADER_LEN, SegmentHeader, StoreId},
    segment::Segment,
};

pub(super) fn file_len(segment: &Segment) -> Result<u64> {
    segment.file.len().map_err(|e| Error::io(format_args!("reading {}", segment.path.display()), e))
}

/// A segment's file must reach as far as its last frame.
pub(super) fn check_not_cut(segment: &Segment, file_len: u64, end: u32) -> Result<()> {
    if file_len >= u64::from(end) {
        return Ok(());
    }
    let what = format!("the file was cut short: it is {file_len} bytes long and ended at {end}");
    Err(Error::damage(&segment.path, file_len, what))
}

/// Opens a segment file for reading, without looking into it, to scan a log that is not open.
pub fn open_for_scan(disk: &dyn Disk, dir: &Path, id: SegmentId, store: &StoreId) -> Result<Segment> {
    Segment::alone(disk, dir, id, store)
}

/// Where a segment's header says that the segment before it ended; `None` if the header is not whole.
pub fn sealed_end_of_previous(segment: &Segment) -> Result<Option<u32>> {
    Ok(read_header(segment, file_len(segment)?)?.ok().map(|header| header.previous_end))
}

/// Checks the header of an open segment.
pub fn check_segment_header(segment: &Segment) -> Result<Option<Damage>> {
    let damage = |what: &str| Some(Damage { path: segment.path.clone(), offset: 0, what: what.into() });
    Ok(match read_header(segment, SEGMENT_HEADER_LEN as u64)? {
        Err(why) => damage(why),
        Ok(header)
            if header.segment != segment.id
                || format::salt(&header.store, header.segment) != segment.salt =>
        {
            damage("the header is of another segment")
        }
        Ok(_) => None,
    })
}

/// The segment's header, or why there is none; a newer format is an error of its own.
pub(super) fn read_header(segment: &Segment, file_len: u64) -> Result<Result<SegmentHeader, &'static str>> {
    if file_len < SEGMENT_HEADER_LEN as u64 {
        return Ok(Err("the header is cut off"));
    }
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    segment
        .file
        .read_exact_at(&mut bytes, 0)
        .map_err(|e| Error::io(format_args!("reading {}", segment.path.display()), e))?;
    match SegmentHeader::decode(&bytes) {
        Ok(header) => Ok(Ok(header)),
        Err(Invalid::Bad(why)) => Ok(Err(why)),
        Err(newer @ Invalid::Newer(_)) => Err(invalid_header(&segment.path, newer)),
    }
}
