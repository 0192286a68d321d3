//! A line of the results file.

use serde::{Deserialize, Serialize};

use crate::workload::{Latency, Sample};

/// One run of one workload on one engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub workload: String,
    /// An engine's name, or fio and how it read.
    pub engine: String,
    pub run: u32,
    pub scale: f64,
    #[serde(flatten)]
    pub outcome: Ending,
}

/// A run may fail, as when a process asks for more memory than its group has: the report says so.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    Done(Box<Figures>),
    Failed(String),
}

/// What was measured. Bytes and processor time go from the start (of an empty store, its creation; of a full one, the end of
/// opening and warming up) to after closing, when nothing is left to be done in the background.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Figures {
    pub operations: u64,
    /// Until the last operation was acknowledged.
    pub seconds: f64,
    pub latency: Latency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<Latency>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<Latency>,
    /// From then until the store was closed with nothing left to do.
    pub settle_seconds: f64,
    pub processor_seconds: f64,
    pub written_bytes: u64,
    pub disk_bytes: u64,
    pub rss_peak_bytes: u64,
    /// The most that the control group had, page cache and all; 0 outside of one.
    #[serde(default)]
    pub group_peak_bytes: u64,
    /// Without mapped files, at the end.
    pub rss_anonymous_bytes: u64,
    /// Keys and values handed to the store while it was measured.
    pub user_bytes: u64,
    /// Keys and values in the store at the end.
    pub live_bytes: u64,
    /// Acknowledged records that were not there after the process was killed.
    pub lost: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
}

impl Figures {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }
}
