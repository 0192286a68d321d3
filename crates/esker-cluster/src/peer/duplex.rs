//! A stream of messages to another node, and the stream of its answers.
//!
//! hyper goes on sending while there is anything to send, whether or not anybody waits for the answers. So who drops the
//! answers ends the messages here. That has no effect while hyper waits for the other node to read what was sent
//! before; if it does not, the connection is broken off, or streams given up would fill its window one by one.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    Stream, StreamExt, TryFutureExt,
    future::BoxFuture,
    stream::{AbortHandle, Abortable, BoxStream, abortable},
};
use tokio::{sync::oneshot, time::timeout};
use tonic::{Extensions, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    PeerError, PeerResult,
    link::{Channel, Link},
    status,
    wire::peer_client::PeerClient,
};

/// Where a stream goes, and how.
pub(super) struct Opening {
    pub(super) link: Arc<Link>,
    pub(super) metadata: MetadataMap,
    /// For the connection and for the stream to be taken up together; and for the other node to read what it was sent
    /// once the stream is given up. How long a message may take is for who sends it to judge.
    pub(super) limit: Duration,
}

impl Opening {
    /// Sends `messages` with `send`, once the answers are asked for.
    pub(super) fn stream<Q, R, F>(
        self,
        messages: BoxStream<'static, Q>,
        send: impl FnOnce(PeerClient<Channel>, Request<Messages<Q>>) -> F + Send + 'static,
    ) -> BoxStream<'static, PeerResult<R>>
    where
        Q: Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<Response<Streaming<R>>, Status>> + Send,
    {
        self.open(messages, send).try_flatten_stream().boxed()
    }

    fn open<Q, R, F>(
        self,
        messages: BoxStream<'static, Q>,
        send: impl FnOnce(PeerClient<Channel>, Request<Messages<Q>>) -> F + Send + 'static,
    ) -> BoxFuture<'static, PeerResult<Answers<R>>>
    where
        Q: Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<Response<Streaming<R>>, Status>> + Send,
    {
        let Self { link, metadata, limit } = self;
        let (messages, abort) = abortable(messages);
        let (dropped, sent) = oneshot::channel();
        let messages = Messages { messages, _dropped: dropped };
        let request = Request::from_parts(metadata, Extensions::default(), messages);
        Box::pin(async move {
            let opened = async {
                let channel = link.channel().await?;
                let reply = send(channel.client(), request).await;
                Ok((channel, reply.map_err(|status| status::error(&status))?.into_inner()))
            };
            let opened = timeout(limit, opened).await;
            let (channel, answers) = opened.unwrap_or(Err(PeerError::TimedOut(limit)))?;
            let (dropped, given_up) = oneshot::channel();
            tokio::spawn(watch(channel, given_up, sent, limit));
            Ok(Answers { answers, messages: abort, _dropped: dropped })
        })
    }
}

/// Breaks the connection off if the messages of a stream are still not sent so long after it was given up. Both
/// receivers only ever tell that their sender was dropped.
async fn watch(
    channel: Channel,
    given_up: oneshot::Receiver<()>,
    sent: oneshot::Receiver<()>,
    limit: Duration,
) {
    _ = given_up.await;
    if timeout(limit, sent).await.is_err() {
        channel.break_off();
    }
}

/// What is sent. A type with a name also because the compiler cannot yet prove calls to be `Send` that hold a
/// `dyn Stream` (rust-lang/rust#102211).
pub(super) struct Messages<Q> {
    messages: Abortable<BoxStream<'static, Q>>,
    _dropped: oneshot::Sender<()>,
}

impl<Q> Stream for Messages<Q> {
    type Item = Q;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Q>> {
        self.messages.poll_next_unpin(cx)
    }
}

/// What is answered. Dropped, it ends the messages.
struct Answers<R> {
    answers: Streaming<R>,
    messages: AbortHandle,
    _dropped: oneshot::Sender<()>,
}

impl<R> Stream for Answers<R> {
    type Item = PeerResult<R>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = self.answers.poll_next_unpin(cx);
        answer.map(|answer| answer.map(|answer| answer.map_err(|status| status::error(&status))))
    }
}

impl<R> Drop for Answers<R> {
    fn drop(&mut self) {
        self.messages.abort();
    }
}
