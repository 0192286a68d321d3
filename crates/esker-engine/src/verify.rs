//! Reading and checking every byte of a store, open or closed. Nothing is changed, created or repaired here.

use std::{path::Path, sync::Arc};

use esker_log::{
    Damage, Error, Log, Result,
    disk::{DirEntry, Disk},
    format::{Invalid, SEGMENT_HEADER_LEN, SegmentHeader, StoreId},
    manifest::{MANIFEST_NAME, Manifest, MergedSegment, is_unfinished_restore, unfinished_restore},
    recovery::{BACKUP_NAME, check_segment_header, open_for_scan, read_store, sealed_end_of_previous},
    scan::{FrameScanner, Step},
    segment::{Segment, is_merged, parse_segment_name, segment_name},
};

use crate::{
    Engine, Progress, VerifyReport, backup, bitcask,
    replica::{LogBounds, STATE_NAME, TOO_SHORT, read_log_bounds},
};

/// Checks an open store up to where its log ends now.
pub(crate) fn verify_open(
    log: &Arc<Log>,
    engine: &dyn Engine,
    progress: Progress<'_>,
) -> Result<VerifyReport> {
    let end = log.appended();
    let total = list(log.disk().as_ref(), log.dir())?.iter().map(|found| found.len).sum();
    let mut report = VerifyReport::default();
    // What is retired meanwhile can be read to the end.
    let _pin = log.pin();
    for segment in log.segments().iter().filter(|segment| segment.id <= end.segment) {
        let len = segment.sealed_end().unwrap_or(end.offset);
        verify_segment(segment, u64::from(len), &mut report, &mut |bytes| progress(bytes, total))?;
    }
    for segment in log.merged() {
        let len = segment.sealed_end().unwrap_or_default();
        verify_segment(&segment, u64::from(len), &mut report, &mut |bytes| progress(bytes, total))?;
    }
    let mut on_read = |bytes| {
        report.bytes += bytes;
        progress(report.bytes, total)
    };
    report.files += engine.verify(log, &mut on_read, &mut report.damage)?;
    progress(total, total)?;
    Ok(report)
}

/// Checks a store that nobody has open, without changing a byte: a snapshot, a read-only mount; or a backup.
///
/// What opening would mend without loss, such as a torn tail, is in the report's notices. `progress` gets (bytes done,
/// bytes in all), and its error ends it.
///
/// Errors: `InvalidRequest` if there is no store in `dir`, or a restore that did not come to its end, `UnsupportedFormat`, `Io`. Damage is in the report.
pub fn verify_dir(disk: &dyn Disk, dir: impl AsRef<Path>, progress: Progress<'_>) -> Result<VerifyReport> {
    let dir = dir.as_ref();
    let names = list(disk, dir)?;
    if names.iter().any(|found| found.name == BACKUP_NAME) {
        return backup::verify(disk, dir, progress);
    }
    if let Ok(true) = is_unfinished_restore(disk, dir) {
        return Err(unfinished_restore(dir));
    }
    let total = names.iter().map(|found| found.len).sum();
    let segments: Vec<_> = names.iter().filter_map(|found| parse_segment_name(&found.name)).collect();
    let mut report = VerifyReport::default();
    let store = match read_store(disk, dir) {
        Ok(Some(store)) => store,
        Ok(None) if segments.is_empty() => {
            return Err(Error::InvalidRequest(format!("there is no Esker store in {}", dir.display())));
        }
        Ok(None) => {
            report.damage.push(damage(dir.join("STORE"), 0, "the file is missing"));
            return Ok(report);
        }
        Err(Error::Damage(found)) => {
            report.damage.push(found);
            return Ok(report);
        }
        Err(other) => return Err(other),
    };
    report.files += 1;
    let bounds = verify_state_file(disk, dir, &names, &mut report)?;
    let first = bounds.as_ref().map_or(1, |bounds| bounds.first);
    let manifest = verify_manifest(disk, dir, &names, (&store, first), &mut report)?;
    let known = Known { disk, dir, store: &store, manifest: manifest.as_ref() };
    let (merged, log): (Vec<_>, Vec<_>) = segments.into_iter().partition(|id| is_merged(*id));
    let segments = match &manifest {
        Some(manifest) => live_segments(dir, log, bounds.as_ref(), manifest, &mut report),
        // Which are missing is not known.
        None => log,
    };
    for (at, &id) in segments.iter().enumerate() {
        let next = segments.get(at + 1).copied();
        known.verify_log_segment(id, next, &mut report, &mut |bytes| progress(bytes, total))?;
    }
    let generation = bounds.as_ref().map_or(0, |bounds| bounds.generation);
    known.verify_merged_segments(&merged, generation, &mut report, &mut |bytes| progress(bytes, total))?;
    let end = segments.last().map(|&id| end_of_file(&names, id));
    if let Some(LogBounds { reach, .. }) = bounds
        && end.is_some_and(|end| end < (reach.segment, u64::from(reach.offset)))
    {
        let path = dir.join(segment_name(reach.segment));
        report.damage.push(damage(path, reach.offset.into(), TOO_SHORT));
    }
    let mut on_read = |bytes| {
        report.bytes += bytes;
        progress(report.bytes, total)
    };
    report.files += bitcask::verify_index_files(disk, dir, &store, &mut on_read, &mut report.damage)?;
    progress(total, total)?;
    Ok(report)
}

/// What a replica's state file says of the log; `None` if there is none, or it is damaged.
fn verify_state_file(
    disk: &dyn Disk,
    dir: &Path,
    names: &[DirEntry],
    report: &mut VerifyReport,
) -> Result<Option<LogBounds>> {
    let Some(found) = names.iter().find(|found| found.name == STATE_NAME) else { return Ok(None) };
    report.files += 1;
    report.bytes += found.len;
    match read_log_bounds(disk, dir) {
        Err(Error::Damage(found)) => {
            report.damage.push(found);
            Ok(None)
        }
        other => other,
    }
}

/// What the manifest says, or what holds as long as there is none; `None` if it is damaged or was lost. `first` is the log's
/// first segment.
fn verify_manifest(
    disk: &dyn Disk,
    dir: &Path,
    names: &[DirEntry],
    (store, first): (&StoreId, u32),
    report: &mut VerifyReport,
) -> Result<Option<Manifest>> {
    if let Some(found) = names.iter().find(|found| found.name == MANIFEST_NAME) {
        report.files += 1;
        report.bytes += found.len;
    }
    let read = match Manifest::read(disk, dir, store) {
        Ok(None) if lacks_manifest(names, first) => {
            Err(Error::damage(dir.join(MANIFEST_NAME), 0, "the file is missing"))
        }
        other => other,
    };
    match read {
        Err(Error::Damage(found)) => {
            report.notices.push(format!(
                "every segment in {} is checked, for only its {MANIFEST_NAME} could say which of them count; whether one is missing is \
                 not known",
                dir.display()
            ));
            report.damage.push(found);
            Ok(None)
        }
        other => Ok(Some(other?.unwrap_or_default())),
    }
}

/// Whether a store must have had a manifest: it has merged segments, and not every log segment from the first to the last. As
/// long as the log is whole, what merges made beside it may never have been installed.
pub(crate) fn lacks_manifest(names: &[DirEntry], first: u32) -> bool {
    let ids = names.iter().filter_map(|found| parse_segment_name(&found.name));
    let (merged, log): (Vec<_>, Vec<_>) = ids.partition(|id| is_merged(*id));
    let row = log.iter().max().map_or(0, |last| (last + 1).saturating_sub(first));
    let there = log.iter().filter(|id| **id >= first).count();
    !merged.is_empty() && there < row as usize
}

/// The segments that are part of the log, as far as none is missing. Without a state file that says which is the first,
/// it is segment 1; if that file is damaged, the first that is there.
fn live_segments(
    dir: &Path,
    found: Vec<u32>,
    bounds: Option<&LogBounds>,
    manifest: &Manifest,
    report: &mut VerifyReport,
) -> Vec<u32> {
    let first = match bounds {
        Some(bounds) => bounds.first,
        None if report.damage.iter().any(|found| found.path.ends_with(STATE_NAME)) => {
            found.first().copied().unwrap_or(1)
        }
        None => 1,
    };
    let (gone, found): (Vec<_>, Vec<_>) = found.into_iter().partition(|id| manifest.is_gone(*id));
    if !gone.is_empty() {
        let dir = dir.display();
        let count = gone.len();
        report
            .notices
            .push(format!("{dir} has {count} segments that were merged, which opening the store removes"));
    }
    let (live, dead): (Vec<_>, Vec<_>) = found.into_iter().partition(|id| *id >= first);
    if !dead.is_empty() {
        let dir = dir.display();
        report.notices.push(format!(
            "{dir} has {} segments that an installed snapshot replaced, which opening the store removes",
            dead.len()
        ));
    }
    let mut due = manifest.next_there(first);
    let follows = |id: &&u32| {
        let is_next = **id == due;
        due = if is_next { manifest.next_there(due + 1) } else { due };
        is_next
    };
    let row = live.iter().take_while(follows).count();
    let promised = manifest.gone.last().map_or(0, |range| range.last).max(first - 1);
    if row < live.len() || promised > live.last().copied().unwrap_or(0) {
        report.damage.push(damage(dir.join(segment_name(due)), 0, "the segment is missing"));
    }
    live[..row].to_vec()
}

/// A segment, and how long its file is.
fn end_of_file(names: &[DirEntry], id: u32) -> (u32, u64) {
    let name = segment_name(id);
    (id, names.iter().find(|found| found.name == name).map_or(0, |found| found.len))
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<DirEntry>> {
    disk.list(dir).map_err(|e| Error::io(format_args!("listing {}", dir.display()), e))
}

fn damage(path: impl Into<std::path::PathBuf>, offset: u64, what: &str) -> Damage {
    Damage { path: path.into(), offset, what: what.into() }
}

/// What is known of a closed store before its segments are looked at.
struct Known<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    store: &'a StoreId,
    /// `None` if it is damaged.
    manifest: Option<&'a Manifest>,
}

impl Known<'_> {
    /// Checks a log segment; `next` is the next one that is there.
    fn verify_log_segment(
        &self,
        id: u32,
        next: Option<u32>,
        report: &mut VerifyReport,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let segment = open_for_scan(self.disk, self.dir, id, self.store)?;
        let file_len = file_len(&segment)?;
        match self.sealed_end(id, next)? {
            Some(end) => verify_sealed(&segment, file_len, end, report, progress),
            None if next.is_none() && is_unfinished(&segment, file_len)? => {
                report.notices.push(unfinished(&segment));
                Ok(())
            }
            None if next.is_some() => verify_to_last_frame(&segment, file_len, report, progress),
            None => {
                let end = end_of_active(&segment, file_len, report)?;
                verify_segment(&segment, end, report, progress)
            }
        }
    }

    /// Where a log segment ends, if it is sealed: its successor says so, or the manifest, if that is gone.
    fn sealed_end(&self, id: u32, next: Option<u32>) -> Result<Option<u32>> {
        let mut gone = self.manifest.iter().flat_map(|manifest| &manifest.gone);
        if let Some(range) = gone.find(|range| range.first == id + 1) {
            return Ok(Some(range.previous_end));
        }
        match next {
            Some(next) if next == id + 1 => {
                sealed_end_of_previous(&open_for_scan(self.disk, self.dir, next, self.store)?)
            }
            _ => Ok(None),
        }
    }

    /// Checks the merged segments that count, or, where nobody knows which do, all that are there.
    fn verify_merged_segments(
        &self,
        found: &[u32],
        generation: u64,
        report: &mut VerifyReport,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let Some(manifest) = self.manifest else {
            return found.iter().try_for_each(|&id| self.verify_unnamed(id, report, progress));
        };
        let live = manifest.merged.iter().filter(|named| named.generation == generation);
        for named in live.clone() {
            self.verify_merged(named, found, report, progress)?;
        }
        let left = found.iter().filter(|id| live.clone().all(|named| named.id != **id)).count();
        if left > 0 {
            report.notices.push(format!(
                "{} has {left} merged segments that do not count, which opening the store removes",
                self.dir.display()
            ));
        }
        Ok(())
    }

    /// Checks a merged segment of which nobody knows whether it counts.
    fn verify_unnamed(
        &self,
        id: u32,
        report: &mut VerifyReport,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let segment = open_for_scan(self.disk, self.dir, id, self.store)?;
        let file_len = file_len(&segment)?;
        if is_unfinished(&segment, file_len)? {
            report.notices.push(unfinished(&segment));
            return Ok(());
        }
        verify_to_last_frame(&segment, file_len, report, progress)
    }

    /// Checks a merged segment that the manifest names; `found` are those that are there.
    fn verify_merged(
        &self,
        named: &MergedSegment,
        found: &[u32],
        report: &mut VerifyReport,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        if !found.contains(&named.id) {
            report.damage.push(damage(self.dir.join(segment_name(named.id)), 0, "the segment is missing"));
            return Ok(());
        }
        let segment = open_for_scan(self.disk, self.dir, named.id, self.store)?;
        verify_sealed(&segment, file_len(&segment)?, named.len, report, progress)
    }
}

fn file_len(segment: &Segment) -> Result<u64> {
    segment.file.len().map_err(|e| Error::io(format_args!("reading {}", segment.path.display()), e))
}

fn verify_sealed(
    segment: &Segment,
    file_len: u64,
    end: u32,
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    if u64::from(end) > file_len {
        report.damage.push(damage(&segment.path, file_len, "the file was cut short"));
    }
    verify_segment(segment, file_len.min(u64::from(end)), report, progress)
}

/// Checks a segment of which nobody knows where it ends, up to its last whole frame.
fn verify_to_last_frame(
    segment: &Segment,
    file_len: u64,
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut scanner = FrameScanner::new(segment, (SEGMENT_HEADER_LEN as u64).min(file_len), file_len);
    while let Step::Frame(_) = scanner.step()? {}
    let mut end = scanner.offset();
    if !scanner.rest_is_zero()? {
        end = end_of_last_frame(segment, end, file_len)?;
        if end < file_len {
            report.notices.push(format!(
                "behind byte {end} of {} is no whole frame: it is damaged, or was never finished",
                segment.path.display()
            ));
        }
    }
    verify_segment(segment, end, report, progress)
}

fn unfinished(segment: &Segment) -> String {
    format!("{} holds no write and was never finished", segment.path.display())
}

/// Whether a segment has neither a header nor a frame: the store stopped while creating it. The header of another segment,
/// or of another store's, is one, and damage.
fn is_unfinished(segment: &Segment, file_len: u64) -> Result<bool> {
    let start = SEGMENT_HEADER_LEN as u64;
    if file_len >= start && has_header(segment)? {
        return Ok(false);
    }
    let mut scanner = FrameScanner::new(segment, start.min(file_len), file_len);
    Ok(!matches!(scanner.step()?, Step::Frame(_)) && !scanner.skip_to_frame()?)
}

/// Whether there is a whole header, whosever it is.
fn has_header(segment: &Segment) -> Result<bool> {
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    let read = segment.file.read_exact_at(&mut bytes, 0);
    read.map_err(|e| Error::io(format_args!("reading {}", segment.path.display()), e))?;
    Ok(!matches!(SegmentHeader::decode(&bytes), Err(Invalid::Bad(_))))
}

/// Where the frames of a segment end that is not sealed. A torn tail, which opening cuts off, is behind it.
fn end_of_active(segment: &Segment, file_len: u64, report: &mut VerifyReport) -> Result<u64> {
    let mut scanner = FrameScanner::new(segment, (SEGMENT_HEADER_LEN as u64).min(file_len), file_len);
    while let Step::Frame(_) = scanner.step()? {}
    let end = scanner.offset();
    if scanner.rest_is_zero()? {
        return Ok(end);
    }
    if u64::from(scanner.durable_mark_behind()?) > end {
        return end_of_last_frame(segment, end, file_len);
    }
    report.notices.push(format!(
        "{} has a torn tail at byte {end}: {} bytes that were never synced, which opening the store cuts off",
        segment.path.display(),
        file_len - end
    ));
    Ok(end)
}

/// Where the last whole frame behind a damaged one ends.
fn end_of_last_frame(segment: &Segment, damaged: u64, file_len: u64) -> Result<u64> {
    let mut scanner = FrameScanner::new(segment, damaged, file_len);
    let mut end = damaged;
    while scanner.skip_to_frame()? {
        while let Step::Frame(frame) = scanner.step()? {
            end = u64::from(frame.end().offset);
        }
    }
    Ok(end)
}

/// Checks every frame of a segment up to `end`, going on behind damage at the next whole frame. `progress` gets the
/// bytes read in all.
fn verify_segment(
    segment: &Segment,
    end: u64,
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    if end < SEGMENT_HEADER_LEN as u64 {
        report.damage.push(damage(&segment.path, end, "the header is cut off"));
        return Ok(());
    }
    report.damage.extend(check_segment_header(segment)?);
    let mut scanner = FrameScanner::new(segment, SEGMENT_HEADER_LEN as u64, end);
    while scanner.offset() < end {
        let offset = scanner.offset();
        let what = match scanner.step()? {
            Step::Frame(frame) => {
                report.records += u64::from(frame.header.records);
                progress(report.bytes + u64::from(frame.end().offset))?;
                continue;
            }
            Step::End => "zeros where a frame was",
            Step::Bad(what) => what,
        };
        report.damage.push(damage(&segment.path, offset, what));
        if !scanner.skip_to_frame()? {
            break;
        }
    }
    report.files += 1;
    report.bytes += end;
    Ok(())
}
