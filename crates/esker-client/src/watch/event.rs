//! What a watch tells: changes, and how far it is.

use std::borrow::Cow;

use esker_wire::{
    DecodeError, ErrorAnswer, ErrorBody, ErrorCode, decode_text, kv,
    watch::{DeletedRange, Progress, Resync},
};

use super::sse::Frame;

/// A change of the store, or how far the watch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key has a new value.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value; `None` where only keys were asked for.
        value: Option<Vec<u8>>,
        /// The write's version.
        version: u64,
        /// When the key expires, in milliseconds since 1970; `None`: it stays.
        expires_at: Option<u64>,
    },
    /// A key was deleted.
    Delete {
        /// The key.
        key: Vec<u8>,
        /// The write's version.
        version: u64,
    },
    /// All keys of a range were deleted at once.
    DeleteRange {
        /// The first key of the range.
        start: Vec<u8>,
        /// Where the range ends.
        end: RangeEnd,
        /// The write's version.
        version: u64,
    },
    /// Nothing else happened up to this version.
    Progress {
        /// The version.
        version: u64,
    },
}

/// Where a range of keys ends that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeEnd {
    /// With this key, which was deleted, too.
    With(Vec<u8>),
    /// Before this key.
    Before(Vec<u8>),
    /// With the last key there is.
    None,
}

impl RangeEnd {
    /// The key that it names, where it names one.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Self::With(key) | Self::Before(key) => Some(key),
            Self::None => None,
        }
    }
}

impl WatchEvent {
    /// The version of the write, or up to which nothing happened.
    pub fn version(&self) -> u64 {
        match self {
            Self::Put { version, .. }
            | Self::Delete { version, .. }
            | Self::DeleteRange { version, .. }
            | Self::Progress { version } => *version,
        }
    }

    /// About as much memory as it takes.
    pub(super) fn size(&self) -> usize {
        let bytes = match self {
            Self::Put { key, value, .. } => key.len() + value.as_ref().map_or(0, Vec::len),
            Self::Delete { key, .. } => key.len(),
            Self::DeleteRange { start, end, .. } => start.len() + end.key().map_or(0, <[u8]>::len),
            Self::Progress { .. } => 0,
        };
        size_of::<Self>() + bytes
    }
}

/// A frame's meaning.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// A change; `last` says that it is the last one of its version.
    Change { event: WatchEvent, last: bool },
    /// Nothing else up to this version.
    Progress(u64),
    /// The server cannot tell what happened behind this version: look anew.
    Resync { version: u64, message: String },
    /// The server cannot go on now; another, or the same one later, may.
    Failed { code: ErrorCode, message: String },
}

/// A frame that means nothing; in words.
#[derive(Debug)]
pub(super) struct BadFrame(pub(super) String);

impl From<serde_json::Error> for BadFrame {
    fn from(e: serde_json::Error) -> Self {
        Self(e.to_string())
    }
}

impl From<DecodeError> for BadFrame {
    fn from(e: DecodeError) -> Self {
        Self(e.to_string())
    }
}

/// Reads a frame. A kind that is not known is refused: what it tells may be a write.
pub(super) fn read(frame: &Frame) -> Result<Signal, BadFrame> {
    let (version, signal) = match frame.kind.as_str() {
        "put" | "delete" | "delete_range" => {
            let event = change(frame)?;
            (event.version(), Signal::Change { event, last: frame.id.is_some() })
        }
        "progress" => {
            let told: Progress = serde_json::from_slice(&frame.data)?;
            (told.version, Signal::Progress(told.version))
        }
        "resync" => {
            let told: Resync<'_> = serde_json::from_slice(&frame.data)?;
            let message = told.message.into_owned();
            return Ok(Signal::Resync { version: told.version, message });
        }
        "error" => {
            let ErrorBody { code, message, .. } = serde_json::from_slice::<ErrorAnswer>(&frame.data)?.error;
            return Ok(Signal::Failed { code, message });
        }
        other => return Err(BadFrame(format!("an event of an unknown kind, `{other}`"))),
    };
    match &frame.id {
        Some(id) if id.parse() != Ok(version) => {
            Err(BadFrame(format!("an event of version {version} with the id `{id}`")))
        }
        _ => Ok(signal),
    }
}

fn change(frame: &Frame) -> Result<WatchEvent, BadFrame> {
    if frame.kind == "delete_range" {
        let told: DeletedRange<'_> = serde_json::from_slice(&frame.data)?;
        return range(told);
    }
    let item: kv::Item<'_> = serde_json::from_slice(&frame.data)?;
    let (version, expires_at) = (item.version, item.expires_at);
    let (key, value) = item.into_bytes()?;
    Ok(match frame.kind == "put" {
        true => WatchEvent::Put { key, value, version, expires_at },
        false => WatchEvent::Delete { key, version },
    })
}

fn range(told: DeletedRange<'_>) -> Result<WatchEvent, BadFrame> {
    let bytes = |text| decode_text(text, told.encoding).map(Cow::into_owned);
    let end = match (told.end, told.before) {
        (Some(_), Some(_)) => return Err(BadFrame("a range with two ends".into())),
        (Some(end), None) => RangeEnd::With(bytes(end)?),
        (None, Some(before)) => RangeEnd::Before(bytes(before)?),
        (None, None) => RangeEnd::None,
    };
    Ok(WatchEvent::DeleteRange { start: bytes(told.start)?, end, version: told.version })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(kind: &str, data: &str, id: Option<&str>) -> Result<Signal, BadFrame> {
        read(&Frame { kind: kind.into(), data: data.into(), id: id.map(str::to_owned) })
    }

    #[test]
    fn every_kind_is_read() {
        let put = r#"{"key":"aw==","value":"/w==","encoding":"base64","version":7,"expires_at":9}"#;
        let event = WatchEvent::Put {
            key: b"k".into(),
            value: Some(b"\xff".into()),
            version: 7,
            expires_at: Some(9),
        };
        assert_eq!(signal("put", put, Some("7")).unwrap(), Signal::Change { event, last: true });
        let event = WatchEvent::Delete { key: b"k".into(), version: 8 };
        let delete = r#"{"key":"k","version":8}"#;
        assert_eq!(signal("delete", delete, None).unwrap(), Signal::Change { event, last: false });
        for (rest, end) in [
            (r#""end":"Yg==","#, RangeEnd::With(b"b".into())),
            (r#""before":"Yg==","#, RangeEnd::Before(b"b".into())),
            ("", RangeEnd::None),
        ] {
            let event = WatchEvent::DeleteRange { start: b"a".into(), end, version: 9 };
            let range = format!(r#"{{"start":"YQ==",{rest}"encoding":"base64","version":9}}"#);
            assert_eq!(
                signal("delete_range", &range, Some("9")).unwrap(),
                Signal::Change { event, last: true }
            );
        }
        assert_eq!(signal("progress", r#"{"version":3}"#, Some("3")).unwrap(), Signal::Progress(3));
        let resync = signal("resync", r#"{"version":3,"message":"gone"}"#, None).unwrap();
        assert_eq!(resync, Signal::Resync { version: 3, message: "gone".into() });
        let failed = signal("error", r#"{"error":{"code":"draining","message":"going"}}"#, None).unwrap();
        assert_eq!(failed, Signal::Failed { code: ErrorCode::Draining, message: "going".into() });
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (kind, data, id) in [
            ("put", "{", None),
            ("put", r#"{"key":"k","version":1}"#, Some("2")),
            ("put", r#"{"key":"*","encoding":"base64","version":1}"#, None),
            ("delete", r#"{"version":1}"#, None),
            ("delete_range", r#"{"start":"a","end":"b","before":"b","version":1}"#, None),
            ("progress", "{}", None),
            ("merge", r#"{"version":1}"#, None),
            ("", r#"{"version":1}"#, None),
        ] {
            assert!(signal(kind, data, id).is_err(), "{kind} {data}");
        }
    }
}
