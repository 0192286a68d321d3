//! Watching changes: a stream that outlives its connections.
//!
//! `sse` makes frames of lines, `event` gives them meaning, `assembly` hands versions over whole; this module opens the
//! connections and decides when to open another. It begins each one behind the last version that came whole, at the
//! node that the client prefers by then, so that no write is repeated or lost.

mod assembly;
mod event;
mod sse;

use std::{io, sync::Arc, time::Duration};

use esker_wire::{API_PREFIX, encode_base64url};
use hyper::Method;
use tokio::time::{Instant, sleep};

use crate::{
    Client, Error, Result,
    body::{Lines, Pieces},
    endpoints::Endpoint,
    random,
    transport::{Call, Transport},
    types::add_parameter,
};

use assembly::{Assembly, Refused};
pub use event::{RangeEnd, WatchEvent};
use sse::Decoder;

/// The content type of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";

/// What is watched, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchOptions {
    /// Only keys that begin with this. Default: all keys.
    pub prefix: Vec<u8>,
    /// Begin with this version, as far as the server still knows; by default with what is written from now on.
    pub from: Option<u64>,
    /// Leave out the values.
    pub keys_only: bool,
    /// After so long a silence the connection is given up for another one. The server says something every 10 s. Default
    /// 30 s.
    pub silence: Duration,
    /// How many bytes the events of one version, which are held until all of them came, may take. A server's largest batch
    /// should fit, with some 100 bytes for each operation. Default 256 MiB.
    pub version_bytes_max: usize,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            prefix: Vec::new(),
            from: None,
            keys_only: false,
            silence: Duration::from_secs(30),
            version_bytes_max: 256 << 20,
        }
    }
}

impl WatchOptions {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// The same, from this version on.
    #[must_use]
    pub fn from(self, version: u64) -> Self {
        Self { from: Some(version), ..self }
    }

    /// The same, without values.
    #[must_use]
    pub fn keys_only(self) -> Self {
        Self { keys_only: true, ..self }
    }

    fn path(&self) -> String {
        let mut path = format!("{API_PREFIX}/watch?encoding=base64");
        if !self.prefix.is_empty() {
            add_parameter(&mut path, "prefix", encode_base64url(&self.prefix));
        }
        if let Some(from) = self.from {
            add_parameter(&mut path, "from", from);
        }
        if self.keys_only {
            add_parameter(&mut path, "keys_only", true);
        }
        path
    }
}

impl Client {
    /// Watches the changes of all keys that begin with a prefix, from a version or from now on. What is written after this
    /// returned is seen.
    ///
    /// Errors: as for [`Client::get`], and `NotSupported` over any protocol but HTTP. The stream says [`Error::Resync`] where the
    /// server no longer knows what happened.
    pub async fn watch(&self, options: WatchOptions) -> Result<WatchStream> {
        // A stream that breaks before it has told anything has to know where it began, too.
        let transport = self.http("a watch")?.transport.clone();
        let behind = match options.from {
            Some(_) => None,
            None => Some(self.status().await?.applied_index),
        };
        let mut stream = WatchStream::new(transport, options, behind);
        stream.connection = Some(stream.open().await?);
        Ok(stream)
    }
}

/// Changes as they come, each version's whole, none twice and none missing.
///
/// It goes on over broken connections, silent servers and nodes that leave. [`WatchStream::next`] may be dropped
/// and called again at any time; nothing is lost by that.
#[derive(Debug)]
pub struct WatchStream {
    transport: Transport,
    options: WatchOptions,
    assembly: Assembly,
    connection: Option<Connection>,
    trouble: Option<Trouble>,
    ended: bool,
}

#[derive(Debug)]
struct Connection {
    endpoint: Endpoint,
    lines: Lines,
    decoder: Decoder,
}

/// Connections that broke before they told anything new.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    times: u32,
}

/// Why a connection is of no more use.
enum Stop {
    /// Another one may do better.
    Broken(Error),
    /// None would.
    Final(Error),
}

impl WatchStream {
    fn new(transport: Transport, options: WatchOptions, behind: Option<u64>) -> Self {
        let assembly = Assembly::behind(behind, options.version_bytes_max);
        Self { transport, options, assembly, connection: None, trouble: None, ended: false }
    }

    /// The last version of which everything was handed over, as all before it: to go on another time, watch
    /// [from](WatchOptions::from) the one after it. `None` before anything came of a watch from a version.
    pub fn up_to(&self) -> Option<u64> {
        self.assembly.handed()
    }

    /// The next event; waits for it. `None` only after an error that ends the stream.
    ///
    /// Errors: [`Error::Resync`] and what the server refuses end the stream. Any other says that no connection
    /// lasted within [`Retry::within`](crate::Retry::within); asked again, the stream tries again, and goes on where it was.
    pub async fn next(&mut self) -> Option<Result<WatchEvent>> {
        if self.ended {
            return None;
        }
        let next = self.advance().await;
        self.ended = next.as_ref().is_err_and(ends);
        Some(next)
    }

    async fn advance(&mut self) -> Result<WatchEvent> {
        loop {
            if let Some(event) = self.assembly.pop() {
                return Ok(event);
            }
            if self.connection.is_none() {
                self.connection = Some(self.open().await?);
            }
            match self.read().await {
                Ok(()) => {}
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::Broken(error)) => self.broke(error).await?,
            }
        }
    }

    async fn open(&self) -> Result<Connection> {
        let call = Call {
            accept: Some(EVENT_STREAM),
            last_event_id: self.assembly.received(),
            ..Call::new(Method::GET, self.options.path())
        };
        let response = self.transport.stream(call).await?;
        let endpoint = self.transport.endpoint();
        let (_, pieces) = Pieces::of(response, self.options.silence)?;
        // A frame is at most a whole version, in base64.
        let frame_max = self.options.version_bytes_max.saturating_mul(2).saturating_add(1 << 16);
        let lines = Lines::bounded(pieces, frame_max);
        Ok(Connection { endpoint, lines, decoder: Decoder::new(frame_max) })
    }

    /// Takes the next line.
    async fn read(&mut self) -> Result<(), Stop> {
        let Some(Connection { lines, decoder, .. }) = &mut self.connection else { return Ok(()) };
        let line = lines.next().await.map_err(|e| broken(e.0))?;
        let line = line.ok_or_else(|| broken("the server ended it".into()))?;
        let frame = decoder.line(&line).map_err(|e| garbage(format!("{e:?}")))?;
        let Some(frame) = frame else { return Ok(()) };
        let signal = event::read(&frame).map_err(|e| garbage(e.0))?;
        if self.assembly.take(signal).map_err(refused)? {
            self.trouble = None;
        }
        Ok(())
    }

    /// Waits until another connection may be tried, if there is time for one.
    async fn broke(&mut self, error: Error) -> Result<()> {
        self.assembly.forget_pending();
        if let Some(connection) = self.connection.take() {
            self.transport.broke(&connection.endpoint);
        }
        let trouble = self.trouble.get_or_insert_with(|| Trouble { since: Instant::now(), times: 0 });
        trouble.times += 1;
        let (elapsed, times) = (trouble.since.elapsed(), trouble.times);
        let retry = &self.transport.settings.retry;
        match retry.pause(&error, false, elapsed, times, random::fraction()) {
            Some(pause) => {
                sleep(pause).await;
                Ok(())
            }
            None => {
                self.trouble = None;
                Err(error)
            }
        }
    }
}

/// Whether there is nothing to go on with.
fn ends(error: &Error) -> bool {
    matches!(error, Error::Resync { .. } | Error::InvalidRequest { .. } | Error::Protocol(_))
}

fn broken(why: String) -> Stop {
    Stop::Broken(Error::Interrupted { source: Arc::new(io::Error::other(why)) })
}

/// What cannot be read may come of a connection that was cut and joined again: another one is tried.
fn garbage(why: String) -> Stop {
    Stop::Broken(Error::Protocol(format!("a watch cannot be read: {why}")))
}

fn refused(refused: Refused) -> Stop {
    match refused {
        Refused::Resync { version, message } => Stop::Final(Error::Resync { version, message }),
        Refused::Failed { code, message } => Stop::Broken(Error::Server { status: 200, code, message }),
        Refused::Disorder(what) => garbage(what),
        Refused::TooLarge => {
            Stop::Final(Error::Protocol("the events of one version are more than version_bytes_max".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_is_watched() {
        assert_eq!(WatchOptions::default().path(), "/api/v1/watch?encoding=base64");
        let options = WatchOptions::prefix(*b"a&b").from(7).keys_only();
        assert_eq!(options.path(), "/api/v1/watch?encoding=base64&prefix=YSZi&from=7&keys_only=true");
    }
}
