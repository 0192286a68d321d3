//! Collecting the entries of an index file from a stretch of the log.
//!
//! An index file is a pure function of the log's bytes: checkpoints, hints and the rebuilding of lost or damaged ones
//! all go through here. So writers carry no bookkeeping for it; the background thread reads back
//! what was just written, from the page cache.

use esker_log::{
    GroupEnd, Result,
    format::StoreId,
    record::{RecordKind, Records},
    scan::Frame,
};

use super::index_file::{IndexWriter, Place, Stretch};

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
    /// Takes in a frame. Frames come in log order.
    pub(crate) fn add(&mut self, frame: &Frame<'_>) {
        for (at, record) in
            Records::new(frame.payload).map(|record| record.expect("the scanner verified the frame"))
        {
            let key_at = self.keys.len();
            self.keys.extend_from_slice(record.key);
            let value_len = match record.kind {
                RecordKind::Put => Some(record.value.len() as u32),
                RecordKind::Delete => None,
            };
            let place = Place { offset: frame.record_offset(at), value_len, version: frame.header.index };
            self.entries.push(Entry {
                head: head(record.key),
                key_at,
                key_len: record.key.len() as u16,
                place,
            });
        }
        self.last = GroupEnd { index: frame.header.index, term: frame.header.term };
    }

    /// The last frame taken in.
    pub(crate) fn last(&self) -> GroupEnd {
        self.last
    }

    /// The index file's content: keys ascending, of each only the last entry.
    pub(crate) fn into_index(self, store: &StoreId, stretch: Stretch) -> IndexWriter {
        let Self { keys, mut entries, .. } = self;
        let key = |entry: &Entry| &keys[entry.key_at..entry.key_at + usize::from(entry.key_len)];
        // Keys were gathered in log order, so `key_at` orders the entries of one key from old to new.
        entries.sort_unstable_by(|a, b| {
            a.head.cmp(&b.head).then_with(|| key(a).cmp(key(b))).then_with(|| a.key_at.cmp(&b.key_at))
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

/// Reads `stretch` of the log's bytes into a collector; `scan` yields its frames.
pub(crate) fn collect(
    scan: impl FnOnce(&mut dyn FnMut(Frame<'_>) -> Result<()>) -> Result<()>,
) -> Result<Collector> {
    let mut collector = Collector::default();
    scan(&mut |frame| {
        collector.add(&frame);
        Ok(())
    })?;
    Ok(collector)
}
