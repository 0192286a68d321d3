//! What requests take and answers hold.

use std::{fmt, time::Duration};

use bytes::Bytes;
use esker_wire::{Ack, Consistency, Ttl, batch::Demand, percent};
use hyper::header::{self, HeaderName, HeaderValue};

use crate::{Error, Result};

/// A value and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// The version of the write that put it.
    pub version: u64,
    /// When the key expires, in milliseconds since 1970; `None`: it stays.
    pub expires_at: Option<u64>,
}

/// What a multi-get found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundAll {
    /// For each key, in order, what it held, all at one instant; `None` where it was absent.
    pub entries: Vec<Option<Entry>>,
    /// What the answering node had applied when it read, where the read was [stale](Consistency::Stale).
    pub applied: Option<u64>,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value; `None` if the key is absent.
    pub entry: Option<Entry>,
    /// What the answering node had applied when it read, where the read was [stale](Consistency::Stale).
    pub applied: Option<u64>,
}

/// What is known of a key without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The version of the write that put the value.
    pub version: u64,
    /// The value's length in bytes.
    pub value_len: u64,
    /// When the key expires, in milliseconds since 1970; `None`: it stays.
    pub expires_at: Option<u64>,
}

/// A put was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The write's version.
    pub version: u64,
}

/// A delete was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// The write's version.
    pub version: u64,
    /// Whether the key was present.
    pub existed: bool,
}

/// An increment was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incremented {
    /// What the key holds now.
    pub value: i64,
    /// The write's version.
    pub version: u64,
}

/// A range was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeDeleted {
    /// The write's version.
    pub version: u64,
    /// How many keys there were; `None` where the range's ends are so long that it had to be deleted by a batch.
    pub deleted: Option<u64>,
}

/// A batch was done, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchDone {
    /// The version of every write in it.
    pub version: u64,
    /// How many operations it held.
    pub operations: u64,
    /// What its last increment came to, if it had one.
    pub sum: Option<i64>,
}

/// One key of a list or a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` where only keys were asked for.
    pub value: Option<Vec<u8>>,
    /// The version of the write that put the value.
    pub version: u64,
    /// When the key expires, in milliseconds since 1970; `None`: it stays.
    pub expires_at: Option<u64>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The items.
    pub items: Vec<Item>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// Which keys to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Range {
    /// Every key.
    #[default]
    All,
    /// Every key that begins with this.
    Prefix(Vec<u8>),
    /// From a key to a key, both of them in the range; `None` leaves that side open.
    Between(Option<Vec<u8>>, Option<Vec<u8>>),
}

/// What to list, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Which keys.
    pub range: Range,
    /// At most so many items.
    pub limit: Option<u64>,
    /// From the end of the range to its start.
    pub reverse: bool,
    /// Without the values.
    pub keys_only: bool,
    /// What the list may see. Default: every write acknowledged before.
    pub consistency: Consistency,
}

impl Query {
    /// The query's parameters, without the question mark.
    pub(crate) fn to_parameters(&self, cursor: Option<&str>) -> String {
        let mut parameters = Vec::new();
        let mut add = |name: &str, value: &[u8]| {
            parameters.push(format!("{name}={}", percent::encode_query(value)));
        };
        match &self.range {
            Range::All => {}
            Range::Prefix(prefix) => add("prefix", prefix),
            Range::Between(start, end) => {
                start.iter().for_each(|start| add("start", start));
                end.iter().for_each(|end| add("end", end));
            }
        }
        if let Some(limit) = self.limit {
            add("limit", limit.to_string().as_bytes());
        }
        for (name, on) in [("reverse", self.reverse), ("keys_only", self.keys_only)] {
            if on {
                add(name, b"true");
            }
        }
        if self.consistency != Consistency::default() {
            add("consistency", self.consistency.as_str().as_bytes());
        }
        if let Some(cursor) = cursor {
            add("cursor", cursor.as_bytes());
        }
        parameters.join("&")
    }
}

/// How a write is committed, where that is to be other than usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// A stronger sync policy than the server's.
    pub sync: Option<Sync>,
    /// When it is acknowledged. Default: when a majority of the cluster has it on its disk.
    pub ack: Ack,
}

impl WriteOptions {
    /// A path, perhaps with parameters, with what these ask for.
    pub(crate) fn on(self, mut path: String) -> String {
        if let Some(sync) = self.sync {
            add_parameter(&mut path, "sync", sync);
        }
        if self.ack != Ack::default() {
            add_parameter(&mut path, "ack", self.ack);
        }
        path
    }
}

/// `value` needs no coding.
pub(crate) fn add_parameter(path: &mut String, name: &str, value: impl fmt::Display) {
    let mark = if path.contains('?') { '&' } else { '?' };
    *path += &format!("{mark}{name}={value}");
}

/// What must hold of a key for a write to be done. Else it is not, and [`crate::Error::ConditionFailed`] tells the present
/// version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The key is absent (or expired).
    Absent,
    /// The key is present.
    Present,
    /// The key's present value was put by this version: compare-and-set.
    Version(u64),
}

impl Condition {
    pub(crate) fn demand(self) -> Demand {
        match self {
            Self::Absent => Demand::Absent,
            Self::Present => Demand::Present,
            Self::Version(version) => Demand::Version(version),
        }
    }

    /// As a header of a request.
    pub(crate) fn header(self) -> (HeaderName, HeaderValue) {
        match self {
            Self::Absent => (header::IF_NONE_MATCH, HeaderValue::from_static("*")),
            Self::Present => (header::IF_MATCH, HeaderValue::from_static("*")),
            Self::Version(version) => {
                let tag = HeaderValue::try_from(format!("\"{version}\""));
                (header::IF_MATCH, tag.expect("digits in quotes make a header"))
            }
        }
    }
}

/// How a put is done, where that is to be other than usual.
///
/// ```
/// use std::time::Duration;
/// use esker_client::PutOptions;
///
/// let options = PutOptions::default().if_absent().ttl(Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PutOptions {
    /// How it is committed.
    pub write: WriteOptions,
    /// How long the key is to live, at least a millisecond. Default: it stays.
    pub ttl: Option<Duration>,
    /// What must hold of the key. Default: nothing.
    pub condition: Option<Condition>,
}

impl PutOptions {
    /// The same, of a key that is to live so long.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// The same, if the key is absent.
    #[must_use]
    pub fn if_absent(self) -> Self {
        Self { condition: Some(Condition::Absent), ..self }
    }

    /// The same, if the key is present.
    #[must_use]
    pub fn if_present(self) -> Self {
        Self { condition: Some(Condition::Present), ..self }
    }

    /// The same, if the key is at this version.
    #[must_use]
    pub fn if_version(self, version: u64) -> Self {
        Self { condition: Some(Condition::Version(version)), ..self }
    }
}

impl From<WriteOptions> for PutOptions {
    fn from(write: WriteOptions) -> Self {
        Self { write, ..Self::default() }
    }
}

/// How a delete or an increment is done, where that is to be other than usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyOptions {
    /// How it is committed.
    pub write: WriteOptions,
    /// What must hold of the key. Default: nothing.
    pub condition: Option<Condition>,
}

impl KeyOptions {
    /// The same, if the key is present.
    #[must_use]
    pub fn if_present(self) -> Self {
        Self { condition: Some(Condition::Present), ..self }
    }

    /// The same, if the key is at this version.
    #[must_use]
    pub fn if_version(self, version: u64) -> Self {
        Self { condition: Some(Condition::Version(version)), ..self }
    }
}

impl From<WriteOptions> for KeyOptions {
    fn from(write: WriteOptions) -> Self {
        Self { write, ..Self::default() }
    }
}

/// A time to live as requests have it. Errors: `InvalidRequest` if it is less than a millisecond, or more than anybody can say.
pub(crate) fn ttl_of(ttl: Duration) -> Result<Ttl> {
    let millis = u64::try_from(ttl.as_millis()).ok();
    millis
        .and_then(Ttl::from_millis)
        .ok_or_else(|| Error::invalid("a time to live is at least a millisecond"))
}

/// How durable a write is when it is acknowledged, where that is to be more than the server's setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// On the disk.
    Always,
    /// On the disk at most this long after.
    Every(Duration),
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Every(period) => write!(f, "every:{}", period.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_coded() {
        let range = Range::Between(Some(b"a&b".to_vec()), Some(b"\xff".to_vec()));
        let query = Query { range, limit: Some(7), reverse: true, ..Query::default() };
        assert_eq!(query.to_parameters(Some("c=")), "start=a%26b&end=%FF&limit=7&reverse=true&cursor=c%3D");
        assert_eq!(Query::default().to_parameters(None), "");
        let prefix = Query { range: Range::Prefix(b"p/".to_vec()), keys_only: true, ..Query::default() };
        assert_eq!(prefix.to_parameters(None), "prefix=p%2F&keys_only=true");
        let stale = Query { consistency: Consistency::Stale, ..Query::default() };
        assert_eq!(stale.to_parameters(None), "consistency=stale");
    }

    #[test]
    fn conditions_are_headers() {
        let header = |condition: Condition| {
            let (name, value) = condition.header();
            format!("{name}: {}", value.to_str().unwrap())
        };
        assert_eq!(header(Condition::Absent), "if-none-match: *");
        assert_eq!(header(Condition::Present), "if-match: *");
        assert_eq!(header(Condition::Version(7)), "if-match: \"7\"");
    }

    #[test]
    fn a_time_to_live_is_at_least_a_millisecond() {
        assert_eq!(ttl_of(Duration::from_secs(90)).unwrap().to_string(), "90s");
        assert!(ttl_of(Duration::from_micros(999)).is_err() && ttl_of(Duration::MAX).is_err());
    }

    #[test]
    fn a_write_asks_only_for_what_is_unusual() {
        let on = |sync, ack| WriteOptions { sync, ack }.on("/p".into());
        assert_eq!(on(None, Ack::Majority), "/p");
        assert_eq!(on(Some(Sync::Always), Ack::Majority), "/p?sync=always");
        assert_eq!(on(None, Ack::All), "/p?ack=all");
        assert_eq!(on(Some(Sync::Every(Duration::from_millis(5))), Ack::Local), "/p?sync=every:5&ack=local");
    }
}
