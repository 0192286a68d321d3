//! Care of one node: checkpoints, merges, verification, backups.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use esker_wire::{
    API_PREFIX, NDJSON,
    admin::{BackupAnswer, BackupRequest, CheckpointAnswer, CompactAnswer, VerifyAnswer, WorkLine},
};
use hyper::{Method, Response, body::Incoming, header};
use serde::de::DeserializeOwned;
use serde_json::from_slice;

use crate::{
    Client, Error, Result,
    body::{Broken, Lines, Pieces},
    http::{applied_of, found, unexpected},
    transport::Call,
};

impl Client {
    /// Has the server write a checkpoint of its index.
    pub async fn checkpoint(&self) -> Result<CheckpointAnswer> {
        self.maintain("checkpoint").await
    }

    /// Has the server merge everything that may be merged. On a large store give the client a long
    /// [`Settings::request_timeout`](crate::Settings::request_timeout).
    pub async fn compact(&self) -> Result<CompactAnswer> {
        self.maintain("compact").await
    }

    /// Has the server merge what is worth it now.
    pub async fn merge_now(&self) -> Result<CompactAnswer> {
        self.maintain("merge").await
    }

    async fn maintain<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        let wire = self.http("maintenance")?;
        let answer = found(wire.transport.send(admin_call(what)).await?)?;
        from_slice(&answer.body).map_err(unexpected)
    }

    /// Has the server read and check every byte it stores; `progress` gets (bytes done, bytes in all) now and then, where all is
    /// 0 as long as it is not known. It ends when the future is dropped.
    pub async fn verify(&self, progress: impl FnMut(u64, u64)) -> Result<VerifyAnswer> {
        self.work(admin_call("verify"), progress).await
    }

    /// Has the server make a backup in a directory of its own, of this name; `progress` is as for [`Client::verify`]. It ends
    /// when the future is dropped.
    pub async fn backup_in(&self, name: &str, progress: impl FnMut(u64, u64)) -> Result<BackupAnswer> {
        let asked = BackupRequest { name: Some(name.into()) };
        let body = serde_json::to_vec(&asked).expect("strings always serialise");
        self.work(admin_call("backup").with_body(body.into()), progress).await
    }

    /// Has the server send a backup. On a node of a cluster it takes a while until it begins to come: give the client a long
    /// [`Settings::request_timeout`](crate::Settings::request_timeout).
    pub async fn backup(&self) -> Result<BackupStream> {
        let wire = self.http("a backup")?;
        let response = wire.transport.stream(admin_call("backup")).await?;
        BackupStream::new(response, wire.transport.settings.request_timeout)
    }

    async fn work<T: DeserializeOwned>(&self, call: Call, mut progress: impl FnMut(u64, u64)) -> Result<T> {
        let wire = self.http("maintenance")?;
        let response = wire.transport.stream(Call { accept: Some(NDJSON), ..call }).await?;
        let (_, pieces) = Pieces::of(response, wire.transport.settings.request_timeout)?;
        let mut lines = Lines::new(pieces);
        while let Some(line) = lines.next().await.map_err(broken)? {
            match from_slice(&line).map_err(unexpected)? {
                WorkLine::Progress(so_far) => progress(so_far.done, so_far.total),
                WorkLine::Done(done) => return Ok(done),
                WorkLine::Error(error) => {
                    return Err(Error::Server { status: 200, code: error.code, message: error.message });
                }
            }
        }
        Err(broken(Broken("the answer has no last line".into())))
    }
}

/// It takes its time.
fn admin_call(what: &str) -> Call {
    Call { patient: true, ..Call::new(Method::POST, format!("{API_PREFIX}/admin/{what}")) }
}

fn broken(broken: Broken) -> Error {
    Error::Interrupted { source: Arc::new(io::Error::other(broken.0)) }
}

/// A backup as it comes: a tar file, complete if it ends with `BACKUP`.
#[derive(Debug)]
pub struct BackupStream {
    pieces: Pieces,
    version: u64,
    bytes: u64,
}

impl BackupStream {
    fn new(response: Response<Incoming>, idle: Duration) -> Result<Self> {
        let (headers, pieces) = Pieces::of(response, idle)?;
        let missing = |what: &str| Error::Protocol(format!("a backup without its {what}"));
        let version = applied_of(&headers).ok_or_else(|| missing("version"))?;
        let bytes = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Self { pieces, version, bytes: bytes.ok_or_else(|| missing("length"))? })
    }

    /// The last version that it has.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many bytes it has in all.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next bytes; `None` when all came.
    ///
    /// Errors: `Interrupted` if it was cut off.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.pieces.next().await.map_err(broken)
    }
}
