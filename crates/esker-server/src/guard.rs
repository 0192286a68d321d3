//! What stands between a socket and hyper, and knows at every moment what the client is expected to do.
//!
//! ```text
//! Fresh --first byte--> Head --request handed to the routes--> Busy --answer flushed--> Idle --first byte--> Head
//! ```
//!
//! Each phase has its time-out, and so has a write that the client does not take; [`Watchdog`] enforces them with
//! one timer a connection that is moved only when it fires or a deadline comes nearer. (hyper's own header
//! time-out allocates a timer a request, cannot tell idle from slow and says nothing to the client.)
//!
//! hyper answers a head that it cannot parse by itself, without a body. Since it writes nothing else outside
//! `Busy`, such an answer is recognised for certain, and is replaced by one with the error body.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use esker_wire::{ErrorAnswer, ErrorCode};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use crate::{
    config::Timeouts,
    connection::{LINGER_BYTES, LINGER_EVERY},
    http::STALL_LOOK_EVERY,
    stream::Stream,
};

/// What the client is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Send the first byte of the first request.
    Fresh,
    /// Send the first byte of the next request.
    Idle,
    /// Send the rest of a request's head.
    Head,
    /// Nothing: a request is being answered. Its body has time-outs of its own.
    Busy,
    /// Read the last answer and close.
    Closing,
}

const PHASES: [Phase; 5] = [Phase::Fresh, Phase::Idle, Phase::Head, Phase::Busy, Phase::Closing];
const NEVER: u64 = u64::MAX;

/// What is known of a connection. All access is from the connection's own task; atomics only make it `Sync`.
pub(crate) struct ConnectionState {
    opened: Instant,
    phase: AtomicU8,
    /// When the phase began, in milliseconds since `opened`.
    since: AtomicU64,
    /// Since when the client has taken nothing of what is to be written, likewise; `NEVER` if nothing waits.
    blocked_since: AtomicU64,
    /// How long the client has kept the present answer waiting before that, in milliseconds.
    blocked_ms: AtomicU64,
    /// What it has taken since it first did.
    taken_bytes: AtomicU64,
    /// Bytes of the answers' budget that lie between the answer's body and the socket, or lay there when it was last empty.
    held: AtomicUsize,
    /// Whether the answer's body is still being produced.
    answering: AtomicBool,
    /// Whether the head's time is over: the next read fails, after telling the client.
    head_expired: AtomicBool,
}

impl ConnectionState {
    pub(crate) fn new() -> Self {
        Self {
            opened: Instant::now(),
            phase: AtomicU8::new(Phase::Fresh as u8),
            since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(NEVER),
            blocked_ms: AtomicU64::new(0),
            taken_bytes: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            answering: AtomicBool::new(false),
            head_expired: AtomicBool::new(false),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Relaxed))]
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.since.store(self.now(), Relaxed);
    }

    fn now(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }

    /// A request is handed to the routes; the returned guard goes with its answer's body.
    pub(crate) fn begin(self: &Arc<Self>) -> Answering {
        self.phase.store(Phase::Busy as u8, Relaxed);
        self.answering.store(true, Relaxed);
        Answering(Arc::clone(self))
    }

    /// Bytes of the answers' budget that the client has not taken, about: what of them it has taken shows when it has taken all.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Makes the next read fail with the answer 408.
    pub(crate) fn expire_head(&self) {
        self.head_expired.store(true, Relaxed);
        self.enter(Phase::Closing);
    }

    /// How long the client may now take nothing: it is to take some of the answer before it has stood still too long,
    /// and all of it at no less than the slowest pace. Only time for which it keeps us waiting counts. `stall` is how long at most.
    fn patience(&self, timeouts: &Timeouts, stall: Duration) -> Duration {
        let pace = timeouts.answer_bytes_per_second.max(1);
        let earned = Duration::from_millis(self.taken_bytes.load(Relaxed).saturating_mul(1000) / pace);
        let spent = Duration::from_millis(self.blocked_ms.load(Relaxed));
        let left = (timeouts.write_stall + earned).saturating_sub(spent);
        left.min(stall)
    }

    /// Whether the client takes nothing of what is to be written.
    fn is_blocked(&self) -> bool {
        self.blocked_since.load(Relaxed) != NEVER
    }

    /// Keeps account of a write.
    fn note_write(&self, written: Option<usize>) {
        let blocked_since = self.blocked_since.load(Relaxed);
        match written {
            None if blocked_since == NEVER => self.blocked_since.store(self.now(), Relaxed),
            None => {}
            Some(bytes) => {
                let mut spent = self.blocked_ms.load(Relaxed);
                if blocked_since != NEVER {
                    // What takes no measurable time counts as a little, or a rapid trickle would be free.
                    spent += (self.now() - blocked_since).max(1);
                    self.blocked_ms.store(spent, Relaxed);
                    self.blocked_since.store(NEVER, Relaxed);
                }
                if spent > 0 {
                    self.taken_bytes.fetch_add(bytes as u64, Relaxed);
                }
            }
        }
    }

    fn deadline(&self, timeouts: &Timeouts, stall: Duration) -> Option<Instant> {
        let limit = match self.phase() {
            Phase::Fresh | Phase::Head => Some(timeouts.header),
            Phase::Idle => Some(timeouts.idle),
            Phase::Closing => Some(timeouts.linger),
            Phase::Busy => None,
        };
        let at = |since: u64, limit: Duration| self.opened + Duration::from_millis(since) + limit;
        let phase = limit.map(|limit| at(self.since.load(Relaxed), limit));
        let blocked_since = self.blocked_since.load(Relaxed);
        let blocked = (blocked_since != NEVER).then(|| at(blocked_since, self.patience(timeouts, stall)));
        phase.into_iter().chain(blocked).min()
    }
}

/// Lives as long as an answer's body.
pub(crate) struct Answering(Arc<ConnectionState>);

impl Answering {
    /// A part of the body was handed over, with so many bytes of the answers' budget.
    pub(crate) fn hands_over(&self, held: usize) {
        self.0.held.fetch_add(held, Relaxed);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.store(false, Relaxed);
    }
}

/// Enforces the time-outs of one connection.
pub(crate) struct Watchdog {
    sleep: Pin<Box<Sleep>>,
    fired: bool,
}

impl Watchdog {
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(timeouts.header)), fired: false }
    }

    /// Ready when the client has let a deadline pass; to be polled whenever the connection's task is. `stall` is how long it may take
    /// nothing of an answer, as of now: that is looked at again and again.
    pub(crate) fn poll_expired(
        &mut self,
        cx: &mut Context<'_>,
        state: &ConnectionState,
        timeouts: &Timeouts,
        stall: Duration,
    ) -> Poll<Phase> {
        while let Some(deadline) = state.deadline(timeouts, stall) {
            let look = match state.is_blocked() {
                true => deadline.min(Instant::now() + STALL_LOOK_EVERY),
                false => deadline,
            };
            if self.fired || look < self.sleep.deadline() {
                self.sleep.as_mut().reset(look);
                self.fired = false;
            }
            ready!(self.sleep.as_mut().poll(cx));
            self.fired = true;
            if Instant::now() >= deadline {
                return Poll::Ready(state.phase());
            }
        }
        Poll::Pending
    }
}

/// The most that is read and thrown away of what a refused client still sends.
const DISCARD_MAX: usize = 32 << 20;

/// A socket that keeps its connection's state.
pub(crate) struct GuardedIo {
    stream: Stream,
    state: Arc<ConnectionState>,
    /// What remains to be written in place of an answer of hyper's own.
    substitute: Vec<u8>,
    /// Whether our side is closed.
    shut: bool,
    discarded: usize,
    /// Whether what is thrown away is read at a pace: where a head was refused, for that of no honest client is long.
    is_paced: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

impl GuardedIo {
    pub(crate) fn new(stream: Stream, state: Arc<ConnectionState>) -> Self {
        Self {
            stream,
            state,
            substitute: Vec::new(),
            shut: false,
            discarded: 0,
            is_paced: false,
            pause: None,
        }
    }

    /// Keeps account of whether the client takes what is written.
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.state.note_write(match &written {
            Poll::Pending => None,
            Poll::Ready(written) => Some(written.as_ref().map_or(0, |bytes| *bytes)),
        });
        written
    }

    /// Takes an answer of hyper's own and remembers ours instead; says whether it did.
    fn substitute(&mut self, head: &[u8]) -> bool {
        if self.state.phase() == Phase::Busy {
            return false;
        }
        let answer = match head.get(..12) {
            Some(b"HTTP/1.1 400" | b"HTTP/1.0 400") => raw_answer(
                ErrorCode::BadRequest,
                "the request is not HTTP/1.1: check the request line and the headers",
            ),
            Some(b"HTTP/1.1 414" | b"HTTP/1.0 414") => raw_answer(
                ErrorCode::UriTooLong,
                "the request's path and query are longer than 65,534 bytes: send long keys in a batch",
            ),
            Some(b"HTTP/1.1 431" | b"HTTP/1.0 431") => raw_answer(
                ErrorCode::HeadersTooLarge,
                "the request's head is larger than the limit: send fewer or shorter headers",
            ),
            _ => return false,
        };
        self.substitute = answer;
        self.is_paced = true;
        self.state.enter(Phase::Closing);
        true
    }

    fn poll_write_substitute(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.substitute.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.substitute);
            let written = ready!(self.note(written))?;
            self.substitute.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets until the client closes, so that the kernel does not reset the connection under an
    /// answer that the client has not read yet.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 8 << 10];
        while self.discarded < DISCARD_MAX {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let mut buf = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                break;
            }
            let before = self.discarded;
            self.discarded += buf.filled().len();
            if self.is_paced && self.discarded / LINGER_BYTES > before / LINGER_BYTES {
                self.pause = Some(Box::pin(tokio::time::sleep(LINGER_EVERY)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for GuardedIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.state.head_expired.load(Relaxed) {
            let answer = raw_answer(
                ErrorCode::RequestTimeout,
                "the request's head did not arrive in time: send it in one piece",
            );
            // A client that does not read either learns nothing, which is its own doing.
            let mut stream = Pin::new(&mut this.stream);
            let _told =
                stream.as_mut().poll_write(cx, &answer).is_ready() && stream.poll_flush(cx).is_ready();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before && matches!(this.state.phase(), Phase::Fresh | Phase::Idle) {
            this.state.enter(Phase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_substitute(cx))?;
        if this.substitute(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_write_substitute(cx))?;
        if let Some(head) = bufs.first().filter(|head| this.substitute(head)) {
            return Poll::Ready(Ok(head.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper flushes when its own buffer is empty: an answer whose body has ended is then all written.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_substitute(cx))?;
        this.state.held.store(0, Relaxed);
        if this.state.phase() == Phase::Busy && !this.state.answering.load(Relaxed) {
            this.state.enter(Phase::Idle);
            this.state.blocked_ms.store(0, Relaxed);
            this.state.taken_bytes.store(0, Relaxed);
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_substitute(cx))?;
        if !this.shut {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.shut = true;
            if this.state.phase() != Phase::Closing {
                this.state.enter(Phase::Closing);
            }
        }
        this.poll_discard(cx)
    }
}

/// A whole answer, for where there is no hyper: it ends the connection.
pub(crate) fn raw_answer(code: ErrorCode, message: &str) -> Vec<u8> {
    let body = ErrorAnswer::new(code, message).to_json();
    let status = http::StatusCode::from_u16(code.status()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let retry = if code.status() == 503 { "retry-after: 1\r\n" } else { "" };
    let reason = status.canonical_reason().unwrap_or_default();
    let length = body.len();
    let mut answer = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n{retry}\r\n",
        status.as_u16()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}
