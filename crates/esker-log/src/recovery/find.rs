//! Finding out which files of a directory count, and that they belong together.

use std::{collections::HashMap, io, sync::Arc};

use super::{
    FoundSegment, Opening,
    header::{check_not_cut, file_len, read_header},
    replay::unreserved,
};
use crate::{
    Error, Result, SegmentId,
    format::{SEGMENT_HEADER_LEN, SegmentHeader},
    manifest::{MANIFEST_NAME, Manifest, MergedSegment},
    scan::{FrameScanner, Step},
    segment::{Segment, segment_name},
    small_file::write_durably,
};

impl Opening {
    /// The log segments that count. None may be missing in between, and none behind those that are gone.
    pub(super) fn sort_out(&mut self, found: Vec<SegmentId>) -> Result<Vec<SegmentId>> {
        let first = self.options.first_segment;
        let mut live = Vec::new();
        let mut due = self.manifest.next_there(first);
        for id in found {
            if id < first {
                self.dead.push(id);
            } else if self.manifest.is_gone(id) {
                self.left_behind.push(id);
            } else if id != due {
                return Err(self.missing(due));
            } else {
                live.push(id);
                due = self.manifest.next_there(id + 1);
            }
        }
        let reached = live.last().copied().unwrap_or(0);
        let promised = self.manifest.gone.last().map_or(0, |range| range.last).max(first.saturating_sub(1));
        if promised > reached { Err(self.missing(due)) } else { Ok(live) }
    }

    fn missing(&self, id: SegmentId) -> Error {
        Error::damage(self.dir.join(segment_name(id)), 0, "the segment is missing")
    }

    /// Finds the merged segments that count; gives the numbers of files that no manifest can have named.
    pub(super) fn find_merged(&mut self, found: Vec<SegmentId>) -> Result<Vec<SegmentId>> {
        let (current, other): (Vec<_>, Vec<_>) =
            self.manifest.merged.iter().partition(|named| named.generation == self.options.generation);
        for named in current {
            let segment = self.open_merged(&named)?;
            self.merged.push(segment);
        }
        let (unfinished, known): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|id| *id >= self.manifest.next_merged);
        for id in known {
            if other.iter().any(|named| named.id == id) {
                self.dead.push(id);
            } else if self.manifest.merged(id).is_none() {
                self.left_behind.push(id);
            }
        }
        Ok(unfinished)
    }

    fn open_merged(&self, named: &MergedSegment) -> Result<FoundSegment> {
        let segment = Segment::lazily(&self.files, &self.dir, named.id, &self.store);
        let file_len = match file_len(&segment) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(self.missing(named.id));
            }
            other => other?,
        };
        let header = read_header(&segment, file_len)?;
        self.check_header(&segment, &header.map_err(|why| Error::damage(&segment.path, 0, why))?)?;
        check_not_cut(&segment, file_len, named.len)?;
        segment.seal(named.len);
        Ok(FoundSegment { segment: Arc::new(segment), file_len, sealed_end: Some(named.len) })
    }

    /// Removes what merges left: outputs that were never installed, and inputs of those that were.
    pub(super) fn tidy_up(&mut self, unfinished: Vec<SegmentId>) -> Result<()> {
        for id in unfinished {
            self.manifest.skip_number(id);
            self.remove_file(id)?;
        }
        if self.left_behind.is_empty() {
            return Ok(());
        }
        // What was read may be in the page cache only, and the disk may still have a manifest that names these files.
        match self.renew_manifest(self.manifest.clone()) {
            Ok(()) => {
                for id in std::mem::take(&mut self.left_behind) {
                    self.remove_file(id)?;
                }
                Ok(())
            }
            Err(Error::DiskFull) => {
                self.notice(format!(
                    "the disk is full: {} segments that were merged could not be removed",
                    self.left_behind.len()
                ));
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    pub(super) fn renew_manifest(&mut self, manifest: Manifest) -> Result<()> {
        let next = Manifest { number: manifest.number + 1, ..manifest };
        write_durably(self.disk.as_ref(), &self.dir, MANIFEST_NAME, &next.encode(&self.store))?;
        self.manifest = next;
        Ok(())
    }

    pub(super) fn remove_file(&self, id: SegmentId) -> Result<()> {
        let path = self.dir.join(segment_name(id));
        self.disk.remove(&path).map_err(|e| Error::io(format_args!("removing {}", path.display()), e))
    }

    pub(super) fn find_segments(&mut self, ids: &[SegmentId]) -> Result<()> {
        let gone = self.manifest.gone.iter().filter(|range| range.first > 1);
        let mut previous_ends: HashMap<_, _> =
            gone.map(|range| (range.first - 1, range.previous_end)).collect();
        for &id in ids {
            let is_last = Some(&id) == ids.last();
            let segment = match is_last {
                true => Segment::open(&self.files, &self.dir, id, &self.store)?,
                false => Segment::lazily(&self.files, &self.dir, id, &self.store),
            };
            let file_len = file_len(&segment)?;
            match read_header(&segment, file_len)? {
                Ok(header) => {
                    self.check_header(&segment, &header)?;
                    previous_ends.insert(id - 1, header.previous_end);
                }
                Err(why) if is_last && !self.manifest.is_gone(id - 1) => {
                    // The header is synced before the first frame is written, so a segment without a header but with a
                    // frame was damaged; one without either was never finished.
                    self.discard_unfinished(&segment, file_len, why)?;
                    // The one before it is the last again, and will be written.
                    if let Some(last) = self.segments.last_mut() {
                        let id = last.segment.id;
                        last.segment = Arc::new(Segment::open(&self.files, &self.dir, id, &self.store)?);
                    }
                    continue;
                }
                Err(why) => return Err(Error::damage(&segment.path, 0, why)),
            }
            let mut found = FoundSegment { segment: Arc::new(segment), file_len, sealed_end: None };
            if is_last
                && FrameScanner::new(&found.segment, SEGMENT_HEADER_LEN as u64, file_len).rest_is_zero()?
            {
                if file_len == SEGMENT_HEADER_LEN as u64 {
                    self.notices.push(unreserved(&found.segment, file_len));
                }
                found = self.renew_empty(&found.segment)?;
            }
            self.segments.push(found);
        }
        for found in &mut self.segments {
            found.sealed_end = previous_ends.get(&found.segment.id).copied();
            let Some(end) = found.sealed_end else { continue };
            found.segment.seal(end);
            check_not_cut(&found.segment, found.file_len, end)?;
        }
        Ok(())
    }

    fn check_header(&self, segment: &Segment, header: &SegmentHeader) -> Result<()> {
        if header.segment != segment.id {
            return Err(Error::damage(&segment.path, 12, format_args!("this is segment {}", header.segment)));
        }
        if header.store != self.store {
            return Err(Error::damage(&segment.path, 16, "the segment belongs to another store"));
        }
        Ok(())
    }

    /// Writes a segment without a frame again: neither its header nor its name need ever have been synced. The hint of
    /// the segment before it may only be written once they are.
    fn renew_empty(&self, segment: &Segment) -> Result<FoundSegment> {
        let doing = |e| Error::io(format_args!("renewing {}", segment.path.display()), e);
        let disk = self.disk.as_ref();
        let mut header = [0; SEGMENT_HEADER_LEN];
        segment.file.read_exact_at(&mut header, 0).map_err(doing)?;
        match write_durably(disk, &self.dir, &segment_name(segment.id), &header) {
            // No room for a second file: short of a new name, this is the best there is.
            Err(Error::DiskFull) => {
                segment.file.write_all_at(&header, 0).map_err(doing)?;
                segment.file.sync_data().map_err(doing)?;
                disk.sync_dir(&self.dir).map_err(doing)?;
            }
            other => other?,
        }
        let segment = Arc::new(Segment::open(&self.files, &self.dir, segment.id, &self.store)?);
        let file_len = file_len(&segment)?;
        Ok(FoundSegment { segment, file_len, sealed_end: None })
    }

    fn discard_unfinished(&mut self, segment: &Segment, file_len: u64, why: &'static str) -> Result<()> {
        let mut scanner = FrameScanner::new(segment, SEGMENT_HEADER_LEN as u64, file_len);
        let has_frame = matches!(scanner.step()?, Step::Frame(_)) || scanner.durable_mark_behind()? > 0;
        if has_frame {
            return Err(Error::damage(&segment.path, 0, why));
        }
        self.notices.push(format!(
            "{} was not finished when the store stopped and held no write: removed",
            segment.path.display()
        ));
        let doing = || format!("removing {}", segment.path.display());
        self.disk.remove(&segment.path).map_err(|e| Error::io(doing(), e))?;
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io(doing(), e))
    }
}
