//! `POST /api/v1/admin/backup`: a copy of this node's store at one version, in a directory of the server or sent as an archive.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use esker_cluster::{BackupStream, WorkProgress};
use esker_wire::{
    admin::{BackupAnswer, BackupRequest},
    options::APPLIED_VERSION_HEADER,
};
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body::{Frame, SizeHint};

use super::{
    admin::{Refusals, elapsed_ms, refuse_parameters},
    list::wants_stream,
    work,
};
use crate::access::Door;
use crate::http::{
    answer::{AnswerBody, BodyError, Held, answers_fill_budget},
    budget::Share,
    error::ApiError,
    receive::receive,
};

/// A name and the JSON around it.
const BODY_MAX: usize = 4096;
/// What a stream takes of the answers' budget: the pieces that wait.
const STREAM_BYTES: usize = 768 << 10;
const TAR: HeaderValue = HeaderValue::from_static("application/x-tar");

/// Makes a copy of this node's store at one version, while it is in use. With a name it goes to a directory below the server's
/// `backup_dir`, where only what is new is written; without, the answer is the backup, as a tar file that is complete if it
/// ends with `BACKUP`. It ends when the client goes away.
#[utoipa::path(post, path = "/api/v1/admin/backup", tag = "operations",
    request_body(content = BackupRequest<'static>, description = "Where it goes; may be left out"),
    responses(
        (status = 200, description = "With a name, what was made; with Accept: application/x-ndjson lines before it that say how far it is. Without a name, the backup", content(
            (BackupAnswer = "application/json"), (Vec<u8> = "application/x-tar"))),
        Refusals,
    ))]
pub(super) async fn backup(door: Door, request: Request<Body>) -> Result<Response<AnswerBody>, ApiError> {
    refuse_parameters(&request)?;
    let in_lines = wants_stream(request.headers());
    let received = receive(&door, request.into_body(), BODY_MAX).await?;
    let asked: BackupRequest<'_> = match received.bytes.trim_ascii() {
        b"" => BackupRequest::default(),
        json => serde_json::from_slice(json)
            .map_err(|e| ApiError::bad_request(format!("the body is no request for a backup: {e}")))?,
    };
    match asked.name {
        Some(name) => to_directory(door, name.into_owned(), in_lines).await,
        None => send(door).await,
    }
}

async fn to_directory(door: Door, name: String, in_lines: bool) -> Result<Response<AnswerBody>, ApiError> {
    let progress = WorkProgress::default();
    let told = progress.clone();
    work::answer(in_lines, progress, async move {
        let start = door.clock().monotonic();
        let made = door.backup(&name, &told).await?;
        Ok(BackupAnswer {
            version: made.version,
            files: made.files,
            bytes: made.bytes,
            files_kept: made.files_kept,
            files_linked: made.files_linked,
            bytes_copied: made.bytes_copied,
            took_ms: elapsed_ms(&door, start),
        })
    })
    .await
}

async fn send(door: Door) -> Result<Response<AnswerBody>, ApiError> {
    let mut share = door.answer_budget.share();
    if !share.grow(STREAM_BYTES) {
        return Err(answers_fill_budget(&door));
    }
    let stream = door.backup_stream().await?;
    let (version, left) = (stream.version(), stream.bytes());
    let body = Body::new(Sent { door, stream, left, share });
    let mut answer = Response::new(AnswerBody::Boxed(body));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, TAR);
    headers.insert(header::CONTENT_LENGTH, left.into());
    headers.insert(HeaderName::from_static(APPLIED_VERSION_HEADER), version.into());
    let name = HeaderValue::from_str(&format!("attachment; filename=\"esker-{version}.tar\""));
    headers.insert(header::CONTENT_DISPOSITION, name.expect("a number in quotes is a header"));
    Ok(answer)
}

/// The backup as the body of an answer. If it fails, the connection ends before the announced length is reached.
struct Sent {
    door: Door,
    stream: BackupStream,
    left: u64,
    /// For the pieces that wait; those being sent have shares of their own.
    share: Share,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.stream.poll_next(cx).map(|piece| match piece? {
            Ok(piece) => {
                this.left = this.left.saturating_sub(piece.len() as u64);
                Some(Ok(Frame::data(Held::bytes(piece, this.share.split()))))
            }
            Err(error) => {
                if let esker_cluster::Error::Engine(esker_engine::Error::Damage(damage)) = &error {
                    this.door.damage_found(damage);
                }
                tracing::error!(%error, "a backup was cut off");
                Some(Err(error.into()))
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
