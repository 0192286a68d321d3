//! One connection with many requests in flight.
//!
//! A task of its own writes what is sent, reads answers and hands them out in their order. It ends when the server closes,
//! when nothing was asked for a while, or when nobody has the connection any more and all is answered.

use std::{
    collections::VecDeque,
    future::{pending, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use esker_wire::binary::{Answer, AnswerParser, Verb};
use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::failure::{closes, refusal};
use crate::{Error, error::OTHER_PORT, stream::Stream};

/// So many requests wait for their answers on a connection; more wait for it.
const IN_FLIGHT_MAX: usize = 256;
/// So many bytes wait to be written before no more requests are taken on.
const OUT_BYTES_MAX: usize = 1 << 20;
/// Values from this on are written from where they are.
const APART_MIN: usize = 16 << 10;
/// So much is read at a time.
const READ_BYTES: usize = 64 << 10;
/// Connections idle for this long are closed, before most servers close them under our feet.
const IDLE: Duration = Duration::from_secs(20);

/// What a request is answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(super) first: Answer,
    /// The values behind it, in the answer to `MGET`.
    pub(super) rest: Vec<Answer>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The server never looked at it.
    Unsent(Error),
    /// It may or may not have been done.
    Sent(Error),
}

type Outcome = Result<Reply, Lost>;

/// A request on its way.
pub(super) struct Sent {
    head: Vec<u8>,
    value: Bytes,
    reply: oneshot::Sender<Outcome>,
    is_many: bool,
}

impl Sent {
    pub(super) fn new(head: Vec<u8>, value: Bytes, verb: Verb) -> (Self, oneshot::Receiver<Outcome>) {
        let (reply, replied) = oneshot::channel();
        (Self { head, value, reply, is_many: verb == Verb::Mget }, replied)
    }
}

/// A handle to a connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    requests: mpsc::Sender<Sent>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests that are not answered, those that wait to be sent among them.
    under_way: AtomicUsize,
    /// Whether no more are to be sent on it.
    retired: AtomicBool,
}

/// One of the requests under way.
struct UnderWay<'a>(&'a State);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Retires the connection unless the answer came: who is silent for one is likely to be for others.
struct Retiring<'a>(Option<&'a State>);

impl Drop for Retiring<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.0 {
            state.retired.store(true, Ordering::Relaxed);
        }
    }
}

impl Connection {
    /// A connection over `stream`; who is silent for longer than `patience` with nobody left to wait is given up.
    pub(super) fn new(stream: Stream, patience: Duration) -> Self {
        let (requests, arriving) = mpsc::channel(IN_FLIGHT_MAX);
        let state = Arc::<State>::default();
        tokio::spawn(Driver::new(stream, Arc::clone(&state), patience).run(arriving));
        Self { requests, state }
    }

    /// Whether requests may be sent on it.
    pub(super) fn is_open(&self) -> bool {
        !self.state.retired.load(Ordering::Relaxed) && !self.requests.is_closed()
    }

    pub(super) fn under_way(&self) -> usize {
        self.state.under_way.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn exchange(&self, sent: Sent, replied: oneshot::Receiver<Outcome>) -> Outcome {
        self.state.under_way.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay(&self.state);
        if self.requests.send(sent).await.is_err() {
            return Err(Lost::Unsent(closed()));
        }
        let mut retiring = Retiring(Some(&self.state));
        let outcome = replied.await;
        retiring.0 = None;
        // The task goes only with its runtime.
        outcome.unwrap_or(Err(Lost::Sent(closed())))
    }
}

fn closed() -> Error {
    broken(io::Error::new(io::ErrorKind::ConnectionReset, "the server closed the connection"))
}

fn broken(e: io::Error) -> Error {
    Error::Interrupted { source: Arc::new(e) }
}

/// Who waits for an answer.
struct Waiting {
    reply: oneshot::Sender<Outcome>,
    is_many: bool,
    /// The first part of an answer of many, and how many are still to come.
    begun: Option<(Reply, u64)>,
}

/// The task of a connection.
struct Driver {
    stream: Stream,
    state: Arc<State>,
    patience: Duration,
    parser: AnswerParser,
    input: BytesMut,
    /// Bytes to be written: whole pieces, then small ones together.
    out: VecDeque<Bytes>,
    tail: BytesMut,
    out_bytes: usize,
    /// Whether the stream may hold back something of what was written.
    is_held: bool,
    waiting: VecDeque<Waiting>,
    /// Whether what is still waiting was not looked at by the server.
    is_refused: bool,
    /// Whether the server takes no more: what it has said by then is still to be read.
    is_shut: bool,
    active: Instant,
}

impl Driver {
    fn new(stream: Stream, state: Arc<State>, patience: Duration) -> Self {
        Self {
            stream,
            state,
            patience,
            parser: AnswerParser::default(),
            input: BytesMut::new(),
            out: VecDeque::new(),
            tail: BytesMut::new(),
            out_bytes: 0,
            is_held: false,
            waiting: VecDeque::new(),
            is_refused: false,
            is_shut: false,
            active: Instant::now(),
        }
    }

    async fn run(mut self, mut arriving: mpsc::Receiver<Sent>) {
        let error = self.serve(&mut arriving).await;
        self.state.retired.store(true, Ordering::Relaxed);
        arriving.close();
        for waiting in self.waiting.drain(..) {
            let error = error.clone();
            let lost = if self.is_refused { Lost::Unsent(error) } else { Lost::Sent(error) };
            let _gone = waiting.reply.send(Err(lost)).is_err();
        }
        while let Some(sent) = arriving.recv().await {
            let _gone = sent.reply.send(Err(Lost::Unsent(error.clone()))).is_err();
        }
    }

    /// Works until the connection ends; says why.
    async fn serve(&mut self, arriving: &mut mpsc::Receiver<Sent>) -> Error {
        let mut is_wanted = true;
        loop {
            is_wanted = is_wanted && !self.is_shut;
            let takes_more =
                is_wanted && self.waiting.len() < IN_FLIGHT_MAX && self.out_bytes < OUT_BYTES_MAX;
            let limit = match (self.waiting.is_empty(), is_wanted) {
                (true, false) => return closed(),
                (true, true) => Some(self.active + IDLE),
                (false, false) => Some(self.active + self.patience),
                // Whoever waits has a limit of its own.
                (false, true) => None,
            };
            let at_limit = async {
                match limit {
                    Some(limit) => sleep_until(limit).await,
                    None => pending().await,
                }
            };
            let done = tokio::select! {
                sent = arriving.recv(), if takes_more => {
                    match sent {
                        Some(sent) => self.take(sent, arriving),
                        None => is_wanted = false,
                    }
                    Ok(())
                }
                carried = self.carry() => carried,
                () = at_limit => return closed(),
            };
            if let Err(e) = done {
                return broken(e);
            }
            if let Err(e) = self.hand_out() {
                return e;
            }
        }
    }

    /// Takes requests on, all that are there: they are then written at once.
    fn take(&mut self, first: Sent, arriving: &mut mpsc::Receiver<Sent>) {
        self.active = Instant::now();
        let mut next = Some(first);
        while let Some(Sent { head, value, reply, is_many }) = next.take() {
            self.out_bytes += head.len() + value.len();
            self.tail.extend_from_slice(&head);
            if value.len() >= APART_MIN {
                self.out.push_back(self.tail.split().freeze());
                self.out.push_back(value);
            } else {
                self.tail.extend_from_slice(&value);
            }
            self.waiting.push_back(Waiting { reply, is_many, begun: None });
            if self.waiting.len() < IN_FLIGHT_MAX && self.out_bytes < OUT_BYTES_MAX {
                next = arriving.try_recv().ok();
            }
        }
    }

    /// Writes as much as the server takes and reads what is there, until either goes on. Errors: the server has closed.
    async fn carry(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            let waits = self.out_bytes;
            self.poll_write(cx);
            match self.poll_read(cx) {
                // There may be room for more requests.
                Poll::Pending if self.out_bytes < waits => Poll::Ready(Ok(())),
                read => read,
            }
        })
        .await
    }

    /// Writes as much as the server takes now. One that closes has perhaps said why.
    fn poll_write(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(_)) = self.poll_out(cx) {
            self.state.retired.store(true, Ordering::Relaxed);
            self.is_shut = true;
            (self.out, self.tail, self.out_bytes, self.is_held) = Default::default();
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out_bytes > 0 {
            if self.out.is_empty() {
                self.out.push_back(self.tail.split().freeze());
            }
            let Some(piece) = self.out.front_mut() else { break };
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, piece))?;
            self.is_held = true;
            self.out_bytes -= written;
            piece.advance(written);
            if piece.is_empty() {
                self.out.pop_front();
            }
        }
        if self.is_held {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_held = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is there. Errors: the server has closed.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // As much again as has come, so that what was announced and does not come takes nothing.
        let missing = self.parser.missing();
        self.input.reserve(missing.min(self.input.len()).max(READ_BYTES));
        match ready!(pin!(self.stream.read_buf(&mut self.input)).poll(cx))? {
            0 => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the server closed the connection",
            ))),
            _ => {
                self.active = Instant::now();
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Hands the answers that are there to those who wait for them. Errors: the connection is of no more use.
    fn hand_out(&mut self) -> Result<(), Error> {
        while let Some(answer) = self.next_answer()? {
            if matches!(&answer, Answer::TryLater { extras, .. } if extras.code == Some(esker_wire::ErrorCode::Draining))
            {
                self.state.retired.store(true, Ordering::Relaxed);
            }
            let is_last = closes(&answer);
            let Some(waiting) = self.waiting.pop_front() else {
                // The server turns the connection away before anything was asked.
                self.is_refused = true;
                let e = refusal(answer).err();
                return Err(e.unwrap_or_else(|| Error::Protocol("an answer to no request".into())));
            };
            if let Some(waiting) = deliver(waiting, answer) {
                self.waiting.push_front(waiting);
            }
            if is_last {
                self.is_refused = true;
                return Err(closed());
            }
        }
        Ok(())
    }

    fn next_answer(&mut self) -> Result<Option<Answer>, Error> {
        let next = self.parser.next(&mut self.input);
        next.map_err(|e| Error::Protocol(format!("{e}; {OTHER_PORT}")))
    }
}

/// Gives an answer, or a part of one, to who waits for it; gives back who waits for more.
fn deliver(mut waiting: Waiting, answer: Answer) -> Option<Waiting> {
    let (reply, left) = match (waiting.begun.take(), answer) {
        (Some((mut reply, left)), answer) => {
            reply.rest.push(answer);
            (reply, left - 1)
        }
        (None, first) => {
            let count = match &first {
                Answer::Values { count, .. } if waiting.is_many => *count,
                _ => 0,
            };
            (Reply { first, rest: Vec::new() }, count)
        }
    };
    if left > 0 {
        waiting.begun = Some((reply, left));
        return Some(waiting);
    }
    // Whoever asked may have given up meanwhile.
    let _gone = waiting.reply.send(Ok(reply)).is_err();
    None
}
