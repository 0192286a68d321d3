//! A store as small as can be over the log: keys in a map, and merges of what lives.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use esker_log::{
    Draft, Error, GroupEnd, Log, LogOptions, Merge, MergedWriter, Opening, Position, RecordLocation, Result,
    SegmentId, Writer,
    disk::sim::SimDisk,
    format::{FrameKind, SEGMENT_HEADER_LEN},
    record::{PlacedRecords, RecordKind, Records, encode_record},
    recovery::FoundSegment,
    scan::{Frame, FrameScanner, Step},
};

use super::{DIR, options};

pub(crate) type Keydir = BTreeMap<Vec<u8>, RecordLocation>;
pub(crate) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) struct Store {
    pub(crate) log: Arc<Log>,
    pub(crate) notices: Vec<String>,
    writer: Writer,
    pub(crate) keydir: Keydir,
    generation: u64,
}

impl Store {
    pub(crate) fn open(disk: &SimDisk) -> Result<Self> {
        Self::open_with(disk, options())
    }

    pub(crate) fn open_with(disk: &SimDisk, options: LogOptions) -> Result<Self> {
        let generation = options.generation;
        let mut opening = Opening::begin(Arc::new(disk.clone()), Path::new(DIR), options, || Ok([3; 16]))?;
        if opening.has_dead_segments() {
            opening.remove_dead_segments()?;
        }
        let mut keydir = Keydir::new();
        let sealed = opening.segments().iter().filter(|found| found.sealed_end.is_some());
        for found in sealed.chain(opening.merged()) {
            Opening::scan_sealed(found, &mut |frame| {
                index(&mut keydir, &frame);
                Ok(())
            })?;
        }
        let (from, last) = opening.segments().last().map_or(Ok(Default::default()), start_of_active)?;
        let recovered = opening.recover(from, HashMap::from([(0, last)]), &mut |frame| {
            index(&mut keydir, &frame);
            Ok(())
        })?;
        let (writer, notices) = (recovered.writer, recovered.notices);
        Ok(Self { log: Arc::clone(writer.log()), notices, writer, keydir, generation })
    }

    /// Writes one value, durably.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut payload = Vec::new();
        encode_record(&mut payload, RecordKind::Put, key, value)?;
        let mut drafts = [Draft::next(0, payload, 1)];
        self.writer.append(&mut drafts)?;
        self.log.sync()?;
        let [draft] = drafts;
        let at = RecordLocation {
            segment: draft.position.segment,
            offset: draft.position.offset + esker_log::format::FRAME_HEADER_LEN as u32,
            key_len: key.len() as u16,
            value_len: value.len() as u32,
            index: draft.appended_index,
        };
        self.keydir.insert(key.to_vec(), at);
        Ok(())
    }

    pub(crate) fn read(&self, at: &RecordLocation) -> Result<Vec<u8>> {
        Ok(self.log.segment(at.segment)?.read_record(at)?.split_off(at.value_start()))
    }

    /// All that is there.
    pub(crate) fn content(&self) -> Result<Model> {
        self.keydir.iter().map(|(key, at)| Ok((key.clone(), self.read(at)?))).collect()
    }

    /// The segments that can be merged, of both kinds, oldest first.
    pub(crate) fn sealed(&self) -> Vec<SegmentId> {
        let segments = self.log.segments().into_iter().chain(self.log.merged());
        segments.filter(|segment| segment.sealed_end().is_some()).map(|segment| segment.id).collect()
    }

    /// Copies what lives in `inputs`; gives what is to be installed, and the new places.
    pub(crate) fn copy(&self, inputs: &[SegmentId]) -> Result<(Merge, Keydir)> {
        let (mut outputs, mut moved) = (Vec::new(), Keydir::new());
        let mut writer: Option<MergedWriter> = None;
        for (key, at) in self.keydir.iter().filter(|(_, at)| inputs.contains(&at.segment)) {
            let segment = self.log.segment(at.segment)?;
            let record = segment.read_record(at)?;
            if let Some(full) = writer.take_if(|writer| !writer.has_room(record.len())) {
                outputs.push(full.finish()?);
            }
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(MergedWriter::create(&self.log)?),
            };
            let place = writer.copy(&record, at, &segment)?;
            moved.insert(key.clone(), RecordLocation { segment: place.segment, offset: place.offset, ..*at });
        }
        if let Some(writer) = writer {
            outputs.push(writer.finish()?);
        }
        let (inputs, generation) = (inputs.to_vec(), self.generation);
        Ok((Merge { outputs, inputs, generation, judged: 0 }, moved))
    }

    /// Merges `inputs`, from the copy to the retirement.
    pub(crate) fn merge(&mut self, inputs: &[SegmentId]) -> Result<()> {
        let (merge, moved) = self.copy(inputs)?;
        self.log.install(&merge)?;
        self.keydir.extend(moved);
        self.log.retire(inputs)
    }
}

/// Where the replay of the last segment begins, and the entry before.
fn start_of_active(found: &FoundSegment) -> Result<(Position, GroupEnd)> {
    let mut scanner = FrameScanner::new(&found.segment, SEGMENT_HEADER_LEN as u64, found.file_len);
    let first = match scanner.step()? {
        Step::Frame(frame) => frame.header.index,
        _ => 1,
    };
    let start = Position { segment: found.segment.id, offset: SEGMENT_HEADER_LEN as u32 };
    Ok((start, GroupEnd { index: first - 1, term: 0 }))
}

/// Takes in a frame's records: of a key's, the newest counts.
fn index(keydir: &mut Keydir, frame: &Frame<'_>) {
    let mut note = |at: usize, version, key: &[u8], value: &[u8]| {
        let place = RecordLocation {
            segment: frame.position.segment,
            offset: frame.record_offset(at),
            key_len: key.len() as u16,
            value_len: value.len() as u32,
            index: version,
        };
        let newest = keydir.entry(key.to_vec()).or_insert(place);
        if newest.index < version {
            *newest = place;
        }
    };
    if frame.header.kind == FrameKind::Placed {
        assert_eq!(frame.header.index, 0);
        for record in PlacedRecords::new(frame.payload) {
            let (at, version, record) = record.unwrap();
            note(at, version, record.key, record.value);
        }
    } else {
        for record in Records::new(frame.payload) {
            let (at, record) = record.unwrap();
            note(at, frame.header.index, record.key, record.value);
        }
    }
}

/// The error of a machine that is off.
pub(crate) fn is_power_off(error: &Error) -> bool {
    error.to_string().contains("the simulated machine is off")
}
