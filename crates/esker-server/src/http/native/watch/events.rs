//! What a watcher is told, as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::ops::Bound;

use esker_engine::{
    KeyRange, Version,
    watch::{Change, ChangeKind},
};
use esker_wire::{
    ErrorAnswer, ErrorBody, kv,
    watch::{Deleted, DeletedRange, Progress, RangeEnd, Resync},
};
use serde::Serialize;

/// Writes events.
pub(super) struct Events {
    base64: bool,
    /// What is to be sent.
    text: Vec<u8>,
}

impl Events {
    /// None yet; with `base64` keys and values are always coded so.
    pub(super) fn new(base64: bool) -> Self {
        Self { base64, text: Vec::new() }
    }

    /// What was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.text
    }

    /// A change. Only the last of its version has an id, so that nobody resumes within a batch.
    pub(super) fn change(&mut self, change: &Change) -> serde_json::Result<()> {
        let (version, base64) = (change.version, self.base64);
        let id = change.is_last.then_some(version);
        match &change.kind {
            ChangeKind::Put { key, value, expiry } => {
                let item = kv::Item::new(key, value.as_deref(), version, base64).expiring(*expiry);
                self.event("put", &item, id)
            }
            ChangeKind::Delete { key } => self.event("delete", &Deleted::new(key, version, base64), id),
            ChangeKind::DeleteRange(range) => self.deleted_range(range, version, id),
        }
    }

    fn deleted_range(
        &mut self,
        range: &KeyRange,
        version: Version,
        id: Option<Version>,
    ) -> serde_json::Result<()> {
        let start = match &range.start {
            Bound::Included(key) => key.clone(),
            // The next key behind one is that with a zero byte more.
            Bound::Excluded(key) => [key.as_slice(), &[0]].concat(),
            Bound::Unbounded => vec![0],
        };
        let end = match &range.end {
            Bound::Included(key) => RangeEnd::With(key),
            Bound::Excluded(key) => RangeEnd::Before(key),
            Bound::Unbounded => RangeEnd::None,
        };
        self.event("delete_range", &DeletedRange::new(&start, end, version, self.base64), id)
    }

    /// Everything up to here was told.
    pub(super) fn progress(&mut self, version: Version) -> serde_json::Result<()> {
        self.event("progress", &Progress { version }, Some(version))
    }

    /// What comes next is not to be had any more.
    pub(super) fn resync(&mut self, from: Version, why: &str) -> serde_json::Result<()> {
        let message = format!(
            "{why}: read the range anew and watch from then on; from version {from} on everything is there"
        );
        self.event("resync", &Resync { version: from, message: message.into() }, None)
    }

    /// It cannot go on.
    pub(super) fn error(&mut self, error: ErrorBody) -> serde_json::Result<()> {
        self.event("error", &ErrorAnswer { error }, None)
    }

    /// JSON has no line breaks, so one line of data is enough.
    fn event(&mut self, name: &str, data: &impl Serialize, id: Option<Version>) -> serde_json::Result<()> {
        self.text.extend_from_slice(b"event: ");
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\ndata: ");
        serde_json::to_writer(&mut self.text, data)?;
        if let Some(id) = id {
            self.text.extend_from_slice(b"\nid: ");
            self.text.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
        }
        self.text.extend_from_slice(b"\n\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Events) -> serde_json::Result<()>) -> String {
        let mut events = Events::new(false);
        write(&mut events).unwrap();
        String::from_utf8(events.into_bytes()).unwrap()
    }

    #[test]
    fn only_the_last_of_a_version_has_an_id() {
        let put = |is_last| Change {
            version: 7,
            is_last,
            kind: ChangeKind::Put {
                key: b"k\n".to_vec(),
                value: Some(b"\r\n".to_vec().into()),
                expiry: Some(9),
            },
        };
        let data = r#"{"key":"k\n","value":"\r\n","version":7,"expires_at":9}"#;
        assert_eq!(text(|events| events.change(&put(false))), format!("event: put\ndata: {data}\n\n"));
        assert_eq!(text(|events| events.change(&put(true))), format!("event: put\ndata: {data}\nid: 7\n\n"));
    }

    #[test]
    fn ranges_and_the_rest() {
        let range = |range| {
            let change = Change { version: 8, is_last: true, kind: ChangeKind::DeleteRange(range) };
            text(|events| events.change(&change))
        };
        let prefix = range(KeyRange::prefix(*b"a/"));
        assert_eq!(
            prefix,
            "event: delete_range\ndata: {\"start\":\"a/\",\"before\":\"a0\",\"version\":8}\nid: 8\n\n"
        );
        let both = range(KeyRange::inclusive(*b"a", *b"b"));
        assert_eq!(
            both,
            "event: delete_range\ndata: {\"start\":\"a\",\"end\":\"b\",\"version\":8}\nid: 8\n\n"
        );
        let progress = text(|events| events.progress(3));
        assert_eq!(progress, "event: progress\ndata: {\"version\":3}\nid: 3\n\n");
        let resync = text(|events| events.resync(4, "it is gone"));
        assert!(
            resync.starts_with("event: resync\ndata: {\"version\":4,\"message\":\"it is gone: ")
                && !resync.contains("\nid")
        );
    }
}
