//! The damaged store: which files there are, as far as they say.

use std::{collections::BTreeMap, path::Path};

use esker_log::{
    Damage, Error, Result, SegmentId,
    disk::{DirEntry, Disk, OpenMode},
    format::{SEGMENT_HEADER_LEN, SegmentHeader, StoreId},
    is_merged,
    manifest::{MANIFEST_NAME, Manifest, is_unfinished_restore, unfinished_restore},
    recovery::{STORE_NAME, open_for_scan, read_store},
    segment::{Segment, parse_segment_name, segment_name},
};

use super::{LostPart, RepairReport};
use crate::{
    bitcask::index_file::{IndexFile, IndexName},
    replica::STATE_NAME,
    verify::lacks_manifest,
};

/// A segment, and how far it goes.
pub(super) struct SourceSegment {
    pub(super) segment: Segment,
    /// Where to stop: its end if that is known, else its file's.
    pub(super) end: u64,
    /// The index files of it that are whole, in order.
    pub(super) index: Vec<IndexFile>,
}

/// See the module.
pub(super) struct Source {
    /// Those that count, merged ones last: by number.
    pub(super) segments: BTreeMap<SegmentId, SourceSegment>,
    pub(super) manifest: Manifest,
    /// Index files of segments that are missing: they say what was in them.
    pub(super) orphans: Vec<IndexFile>,
}

impl Source {
    pub(super) fn find(disk: &dyn Disk, dir: &Path, report: &mut RepairReport) -> Result<Self> {
        let names = disk.list(dir).map_err(|e| Error::io(format_args!("listing {}", dir.display()), e))?;
        if names.iter().any(|found| found.name == STATE_NAME) {
            return Err(Error::InvalidRequest(format!(
                "{} belongs to a node of a cluster: wipe it, and it comes back from the others",
                dir.display()
            )));
        }
        if let Ok(true) = is_unfinished_restore(disk, dir) {
            return Err(unfinished_restore(dir));
        }
        let store = identify(disk, dir, &names, report)?;
        let manifest = read_manifest(disk, dir, &store, &names, report)?;
        let mut source = Self {
            segments: BTreeMap::new(),
            manifest: manifest.clone().unwrap_or_default(),
            orphans: Vec::new(),
        };
        let mut previous_ends: BTreeMap<SegmentId, u32> =
            source.manifest.gone.iter().map(|range| (range.first - 1, range.previous_end)).collect();
        for found in &names {
            let Some(named) = parse_segment_name(&found.name) else { continue };
            let header = read_header(disk, &dir.join(&found.name))?.filter(|header| header.store == store);
            let id = header.map_or(named, |header| header.segment);
            let counts = manifest.as_ref().is_none_or(|manifest| match is_merged(id) {
                true => manifest.merged(id).is_some(),
                false => !manifest.is_gone(id),
            });
            if !counts {
                report.notices.push(format!("{} was merged and does not count", found.name));
                continue;
            }
            match header {
                Some(header) => drop((id > 1).then(|| previous_ends.insert(id - 1, header.previous_end))),
                None => report.lost_parts.push(lost(
                    &dir.join(&found.name),
                    0,
                    SEGMENT_HEADER_LEN as u64,
                    "the header",
                )),
            }
            // The file's name is another's only if files were exchanged.
            let mut segment = open_for_scan(disk, dir, named, &store)?;
            if named != id {
                report.notices.push(format!("{} is segment {}", found.name, segment_name(id)));
                segment = segment.as_segment(id, &store);
            }
            source.segments.insert(id, SourceSegment { segment, end: found.len, index: Vec::new() });
        }
        for (id, found) in &mut source.segments {
            let named = source.manifest.merged(*id).map(|named| named.len);
            let Some(end) = named.or_else(|| previous_ends.get(id).copied()).map(u64::from) else { continue };
            if end > found.end {
                report.lost_parts.push(lost(&found.segment.path, found.end, end, "the file was cut short"));
            }
            found.end = end.min(found.end);
        }
        source.find_index_files(disk, dir, &names, &store, report)?;
        if manifest.is_some() {
            source.note_missing(dir, report);
        }
        Ok(source)
    }

    fn note_missing(&self, dir: &Path, report: &mut RepairReport) {
        let mut missing = Vec::new();
        let indexed = self.orphans.iter().map(|file| file.stretch.segment).filter(|id| !is_merged(*id)).max();
        let last = self.segments.range(..1 << 31).next_back().map_or(0, |(id, _)| *id);
        let last = last.max(indexed.map_or(0, |id| id + 1));
        let mut due = self.manifest.next_there(1);
        while due < last {
            missing.push(due);
            due = self.manifest.next_there(due + 1);
        }
        missing.extend(self.manifest.merged.iter().map(|named| named.id));
        for id in missing.into_iter().filter(|id| !self.segments.contains_key(id)) {
            report.lost_parts.push(lost(&dir.join(segment_name(id)), 0, 0, "the segment is missing"));
        }
    }

    fn find_index_files(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        names: &[DirEntry],
        store: &StoreId,
        report: &mut RepairReport,
    ) -> Result<()> {
        for found in names.iter().filter(|found| IndexName::parse(&found.name).is_some()) {
            let path = dir.join(&found.name);
            let file = IndexFile::open(disk, &path, store).and_then(|file| file.verify().map(|()| file));
            match file {
                Ok(file) => {
                    let segment = file.stretch.segment;
                    let counts = match is_merged(segment) {
                        true => self.manifest.merged(segment).is_some(),
                        false => !self.manifest.is_gone(segment),
                    };
                    if let Some(found) = self.segments.get_mut(&segment) {
                        found.index.push(file);
                    } else if counts {
                        self.orphans.push(file);
                    }
                }
                Err(error @ Error::UnsupportedFormat { .. }) => return Err(error),
                Err(error) => report.notices.push(format!("{error}: done without")),
            }
        }
        self.segments.values_mut().for_each(|found| found.index.sort_by_key(|file| file.stretch.from));
        Ok(())
    }
}

pub(super) fn lost(path: &Path, from: u64, to: u64, what: &str) -> LostPart {
    LostPart { path: path.to_owned(), from, to, what: what.into(), saved: 0 }
}

/// Which store it is: every record is bound to that.
fn identify(disk: &dyn Disk, dir: &Path, names: &[DirEntry], report: &mut RepairReport) -> Result<StoreId> {
    let why = match read_store(disk, dir) {
        Ok(Some(store)) => return Ok(store),
        Ok(None) => Error::damage(dir.join(STORE_NAME), 0, "the file is missing"),
        Err(error @ Error::Damage(_)) => error,
        Err(other) => return Err(other),
    };
    let segments = names.iter().filter(|found| parse_segment_name(&found.name).is_some());
    for found in segments {
        if let Some(header) = read_header(disk, &dir.join(&found.name))? {
            report.notices.push(format!("{why}: {} says which store it is", found.name));
            return Ok(header.store);
        }
    }
    match names.iter().any(|found| found.name == STORE_NAME || found.name == MANIFEST_NAME) {
        true => Err(why),
        false => Err(Error::InvalidRequest(format!("there is no Esker store in {}", dir.display()))),
    }
}

/// What the manifest says; `None` if that is lost, which is a loss of its own: it alone knows which segments were to be there.
fn read_manifest(
    disk: &dyn Disk,
    dir: &Path,
    store: &StoreId,
    names: &[DirEntry],
    report: &mut RepairReport,
) -> Result<Option<Manifest>> {
    let damage = match Manifest::read(disk, dir, store) {
        Err(Error::Damage(damage)) => damage,
        Ok(None) if lacks_manifest(names, 1) => {
            Damage { path: dir.join(MANIFEST_NAME), offset: 0, what: "the file is missing".into() }
        }
        other => return other.map(|found| Some(found.unwrap_or_default())),
    };
    report.notices.push(format!(
        "{damage}: every segment that is there is read, and whether one is missing is not known; what was deleted may have come back"
    ));
    let len = names.iter().find(|found| found.name == MANIFEST_NAME).map_or(0, |found| found.len);
    report.lost_parts.push(lost(&damage.path, damage.offset, len, &damage.what));
    Ok(None)
}

/// A segment's header, if it is whole.
fn read_header(disk: &dyn Disk, path: &Path) -> Result<Option<SegmentHeader>> {
    let doing = |e| Error::io(format_args!("reading {}", path.display()), e);
    let file = disk.open(path, OpenMode::Read).map_err(doing)?;
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    Ok(file.read_exact_at(&mut bytes, 0).ok().and_then(|()| SegmentHeader::decode(&bytes).ok()))
}
