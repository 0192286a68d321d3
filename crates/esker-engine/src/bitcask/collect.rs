//! Collecting the entries of an index file from a stretch of the log.
//!
//! An index file is a function of the log's bytes, and of which frames count: checkpoints, hints and the rebuilding of
//! lost or damaged ones all go through here. So writers carry no bookkeeping for it; the background thread reads back
//! what was just written, from the page cache.

use esker_log::{
    GroupEnd, Result,
    format::{FrameKind, StoreId},
    record::{PlacedRecords, Record, RecordKind, Records},
    scan::Frame,
};

use super::index_file::{IndexWriter, Place, Stretch};
use crate::Version;

/// What the scanner has seen to.
const VERIFIED: &str = "the scanner verified the frame";

/// Gathers the newest place of each key in a stretch.
#[derive(Default)]
pub(crate) struct Collector {
    keys: Vec<u8>,
    entries: Vec<Entry>,
    last: GroupEnd,
}

struct Entry {
    /// The key's first eight bytes, big-endian, zero-padded: decides most comparisons without touching the key.
    head: u64,
    key_at: usize,
    key_len: u16,
    place: Place,
}

impl Collector {
    /// A collector for a stretch before which the group ended at `last`.
    pub(crate) fn behind(last: GroupEnd) -> Self {
        Self { last, ..Self::default() }
    }

    /// Takes in a frame. Frames come in log order. What `counts` says no to moves the group's end all the same.
    pub(crate) fn add(&mut self, frame: &Frame<'_>, counts: bool) {
        let header = &frame.header;
        let end = GroupEnd { index: header.index, term: header.term };
        self.last = end.behind(self.last, header.kind).unwrap_or(end);
        if counts && header.kind == FrameKind::Placed {
            for (at, version, record) in PlacedRecords::new(frame.payload).map(|it| it.expect(VERIFIED)) {
                self.add_record(&record, frame.record_offset(at), version);
            }
        } else if counts {
            for (at, record) in Records::new(frame.payload).map(|it| it.expect(VERIFIED)) {
                self.add_record(&record, frame.record_offset(at), header.index);
            }
        }
    }

    fn add_record(&mut self, record: &Record<'_>, offset: u32, version: Version) {
        let value_len = match record.kind {
            RecordKind::Put => Some(record.value.len() as u32),
            RecordKind::Delete => None,
            RecordKind::Request => return,
        };
        let key_at = self.keys.len();
        self.keys.extend_from_slice(record.key);
        self.entries.push(Entry {
            head: head(record.key),
            key_at,
            key_len: record.key.len() as u16,
            place: Place { offset, value_len, version },
        });
    }

    /// The last frame taken in.
    pub(crate) fn last(&self) -> GroupEnd {
        self.last
    }

    /// The index file's content: keys ascending, of each only the last entry.
    pub(crate) fn into_index(self, store: &StoreId, mut stretch: Stretch) -> IndexWriter {
        let Self { keys, mut entries, .. } = self;
        // A snapshot's values may come before anything that says how far its versions go.
        let newest = entries.iter().map(|entry| entry.place.version).max();
        stretch.last.index = stretch.last.index.max(newest.unwrap_or(0));
        let key = |entry: &Entry| &keys[entry.key_at..entry.key_at + usize::from(entry.key_len)];
        // Keys were gathered in log order, so `key_at` orders the entries of one key and version from old to new.
        let age = |entry: &Entry| (entry.place.version, entry.key_at);
        entries.sort_unstable_by(|a, b| {
            a.head.cmp(&b.head).then_with(|| key(a).cmp(key(b))).then_with(|| age(a).cmp(&age(b)))
        });
        let mut writer = IndexWriter::new(store, stretch);
        for (i, entry) in entries.iter().enumerate() {
            let superseded =
                entries.get(i + 1).is_some_and(|next| next.head == entry.head && key(next) == key(entry));
            if !superseded {
                writer.push(key(entry), entry.place);
            }
        }
        writer
    }
}

fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = key.len().min(8);
    head[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(head)
}

/// Reads a stretch of the log's bytes into a collector; `scan` yields its frames, `last` is the group's end before it.
pub(crate) fn collect(
    last: GroupEnd,
    counts: &dyn Fn(&Frame<'_>) -> bool,
    scan: impl FnOnce(&mut dyn FnMut(Frame<'_>) -> Result<()>) -> Result<()>,
) -> Result<Collector> {
    let mut collector = Collector::behind(last);
    scan(&mut |frame| {
        collector.add(&frame, counts(&frame));
        Ok(())
    })?;
    Ok(collector)
}

/// Where every entry of the log counts: those with records.
pub(crate) fn every_entry(frame: &Frame<'_>) -> bool {
    frame.header.kind == FrameKind::Records
}
