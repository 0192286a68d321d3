//! A range as it comes.

use std::{collections::VecDeque, time::Duration};

use esker_proto::v1::{Item as ItemMessage, ScanResponse};
use tokio::time::timeout;
use tonic::Streaming;

use super::{failure::error_of, messages::item};
use crate::{Error, Item, Result, endpoints::Endpoint};

/// The items of a range.
#[derive(Debug)]
pub(crate) struct Chunks {
    stream: Streaming<ScanResponse>,
    /// What came and was not handed out.
    ahead: VecDeque<ItemMessage>,
    applied: Option<u64>,
    /// Whether values were asked for.
    has_values: bool,
    idle: Duration,
    endpoint: Endpoint,
}

impl Chunks {
    /// Waits for the first items, which tell how far the node was.
    pub(super) async fn open(
        stream: Streaming<ScanResponse>,
        has_values: bool,
        idle: Duration,
        endpoint: Endpoint,
    ) -> Result<Self> {
        let ahead = VecDeque::new();
        let mut chunks = Self { stream, ahead, applied: None, has_values, idle, endpoint };
        chunks.receive(0).await?;
        Ok(chunks)
    }

    /// What the answering node had applied, where the scan was to be content with that.
    pub(crate) fn applied(&self) -> Option<u64> {
        self.applied
    }

    /// The next item, behind so many; `None` at the end.
    pub(crate) async fn next(&mut self, items: u64) -> Result<Option<Item>> {
        if self.ahead.is_empty() {
            self.receive(items).await?;
        }
        Ok(self.ahead.pop_front().map(|message| item(message, self.has_values)))
    }

    /// Receives more, behind so many; nothing at the end.
    async fn receive(&mut self, items: u64) -> Result<()> {
        let truncated = |why: String| Error::Truncated { items, why };
        let message = timeout(self.idle, self.stream.message()).await;
        let message = message.map_err(|_| truncated("no more came in time".into()))?;
        let message = message.map_err(|status| match error_of(&status, &self.endpoint) {
            Error::Server { code, message, .. } if items > 0 => {
                let message = format!("{message}; the stream broke after {items} items");
                Error::Server { status: 200, code, message }
            }
            error if items > 0 => truncated(error.to_string()),
            error => error,
        })?;
        if let Some(ScanResponse { items, applied_version, .. }) = message {
            self.applied = applied_version;
            self.ahead = items.into();
        }
        Ok(())
    }
}
