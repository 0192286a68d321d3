//! Reading what no index covers, and making an end of the log that can be appended to.

use std::{collections::HashMap, io, path::Path, sync::Arc};

use super::{FoundSegment, Opening, Recovered};
use crate::{
    Error, GroupId, Result,
    format::{SEGMENT_HEADER_LEN, SegmentHeader},
    log::{Log, LogOptions},
    scan::{Frame, FrameScanner, Step, scan_stretch},
    segment::{Position, Segment},
    writer::{GroupEnd, Writer},
};

/// What an earlier process left unsynced is written again by so many bytes at a time.
const REWRITE_BYTES: u64 = 1 << 20;

impl Opening {
    /// Reads every frame of a sealed segment. A bad one is damage: sealed segments are durable.
    pub fn scan_sealed(
        found: &FoundSegment,
        on_frame: &mut dyn FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<()> {
        let end = found.sealed_end.map_or(found.file_len, u64::from);
        scan_stretch(&found.segment, SEGMENT_HEADER_LEN as u64, end, on_frame)
    }

    /// Replays all frames from `from` on, cuts a torn tail, and hands out the writer. `last` is the group's last frame
    /// before `from`.
    ///
    /// Errors: `Damage`, `Io`, `DiskFull` (a new store), and whatever `on_frame` says.
    pub fn recover(
        mut self,
        from: Position,
        last: HashMap<GroupId, GroupEnd>,
        on_frame: &mut dyn FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<Recovered> {
        let mut groups = last;
        let mut replayed = 0;
        let mut on_frame = |path: &Path, frame: Frame<'_>| {
            check_succession(path, &frame, &mut groups)?;
            replayed += 1;
            on_frame(frame)
        };
        let segments = std::mem::take(&mut self.segments);
        let (mut end, mut file_len) = (SEGMENT_HEADER_LEN as u64, 0);
        for found in segments.iter().filter(|found| found.segment.id >= from.segment) {
            let path = found.segment.path.as_path();
            let is_first = found.segment.id == from.segment;
            let start = if is_first { u64::from(from.offset).max(end) } else { SEGMENT_HEADER_LEN as u64 };
            file_len = found.file_len;
            if let Some(sealed_end) = found.sealed_end {
                scan_stretch(&found.segment, start, u64::from(sealed_end), &mut |frame| {
                    on_frame(path, frame)
                })?;
            } else {
                let mut vouched = start;
                end = recover_active(found, start, &mut self.notices, &mut |frame| {
                    vouched = vouched.max(u64::from(frame.header.durable));
                    on_frame(path, frame)
                })?;
                let whole_len = self.options.segment_max_bytes;
                if found.file_len == end && end > SEGMENT_HEADER_LEN as u64 && end < whole_len {
                    self.notices.push(unreserved(&found.segment, end));
                }
                file_len = settle(&found.segment, vouched, end, &self.options)?;
            }
        }
        let log =
            Log::new(self.disk, self.files, self.dir, self.store, self.options, self.manifest, self.lock);
        for found in segments.iter().chain(&self.merged) {
            log.registry.insert(Arc::clone(&found.segment));
        }
        let log = Arc::new(log);
        let active = match segments.last() {
            Some(found) => Arc::clone(&found.segment),
            None => {
                let (segment, allocated) = create_first(&log)?;
                file_len = allocated;
                segment
            }
        };
        log.advance_durable(Position { segment: active.id, offset: SEGMENT_HEADER_LEN as u32 });
        let writer = Writer::new(Arc::clone(&log), active, end, file_len, groups);
        // What was found may never have been synced: nothing may be acknowledged or indexed on top of it before it is.
        log.sync()?;
        Ok(Recovered { writer, notices: self.notices, replayed })
    }
}

/// Replays the active segment, reports a torn tail, and gives the end.
fn recover_active(
    found: &FoundSegment,
    start: u64,
    notices: &mut Vec<String>,
    on_frame: &mut dyn FnMut(Frame<'_>) -> Result<()>,
) -> Result<u64> {
    let segment = &*found.segment;
    if found.file_len < start {
        let what = format!("the file was cut short: a checkpoint covers it up to {start}");
        return Err(Error::damage(&segment.path, found.file_len, what));
    }
    let mut scanner = FrameScanner::new(segment, start, found.file_len);
    let why = loop {
        match scanner.step()? {
            Step::Frame(frame) => on_frame(frame)?,
            Step::End => break "bytes behind a gap",
            Step::Bad(why) => break why,
        }
    };
    let end = scanner.offset();
    if scanner.rest_is_zero()? {
        return Ok(end);
    }
    if u64::from(scanner.durable_mark_behind()?) > end {
        return Err(Error::damage(&segment.path, end, why));
    }
    notices.push(format!(
        "{} had a torn tail at byte {end} ({why}): {} bytes that were never synced were cut off",
        segment.path.display(),
        found.file_len - end
    ));
    Ok(end)
}

/// What there is to say of an active segment that ends right behind its last frame. Bytes that were cut off with all
/// that would vouch for them leave no other trace.
pub(super) fn unreserved(segment: &Segment, end: u64) -> String {
    format!(
        "{} ends at byte {end} without the space that is reserved behind an end: unless the disk was full, writes behind \
         it were cut off",
        segment.path.display()
    )
}

/// Cuts the active segment at `end`, writes again what is not vouched for, and syncs; gives the file's length.
fn settle(segment: &Segment, vouched: u64, end: u64, options: &LogOptions) -> Result<u64> {
    let doing = |e| Error::io(format_args!("settling the tail of {}", segment.path.display()), e);
    // Also where there seems to be nothing to cut: an earlier cut may have failed to reach the disk.
    segment.file.set_len(end).map_err(doing)?;
    let mut at = vouched;
    let mut chunk = vec![0; end.saturating_sub(at).min(REWRITE_BYTES) as usize];
    while at < end {
        let len = (end - at).min(REWRITE_BYTES) as usize;
        segment.file.read_exact_at(&mut chunk[..len], at).map_err(doing)?;
        segment.file.write_all_at(&chunk[..len], at).map_err(doing)?;
        at += len as u64;
    }
    let reserved = (end + 1).next_multiple_of(options.allocate_bytes.max(1)).min(options.segment_max_bytes);
    let file_len = match segment.file.allocate(end, reserved.saturating_sub(end)) {
        Ok(()) => reserved.max(end),
        // Nothing depends on it: the next append reserves what it needs.
        Err(e) if e.kind() == io::ErrorKind::StorageFull => end,
        Err(e) => return Err(doing(e)),
    };
    segment.file.sync_data().map_err(doing)?;
    Ok(file_len)
}

fn check_succession(path: &Path, frame: &Frame<'_>, groups: &mut HashMap<GroupId, GroupEnd>) -> Result<()> {
    let header = &frame.header;
    let last = groups.entry(header.group).or_default();
    let here = GroupEnd { index: header.index, term: header.term };
    *last = here.behind(*last, header.kind).ok_or_else(|| {
        let what = format!("frame {} of group {} follows frame {}", header.index, header.group, last.index);
        Error::damage(path, u64::from(frame.position.offset), what)
    })?;
    Ok(())
}

/// Creates the first segment of a new store; gives also the file's length.
fn create_first(log: &Log) -> Result<(Arc<Segment>, u64)> {
    let header = SegmentHeader { segment: 1, store: log.store, previous_end: 0 };
    let allocate =
        log.options.allocate_bytes.min(log.options.segment_max_bytes).max(SEGMENT_HEADER_LEN as u64);
    let segment = Arc::new(Segment::create(&log.files, &log.dir, header, allocate)?);
    log.registry.insert(Arc::clone(&segment));
    Ok((segment, allocate))
}
