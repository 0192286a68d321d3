//! One connection: reads what is there, runs all whole requests, writes their answers at once, and keeps time.
//!
//! While a client does not take its answers, nothing is read from it. What it holds is bounded: a request that is not there as
//! a whole, the answers to [`OUT_BYTES`] and one more, the writes under way.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::io::poll_read_buf;
use zeroize::{Zeroize, Zeroizing};

use super::{
    ANSWER_BYTES_FREE, Ended, Speaks, Step, Told,
    timer::{Rang, Timer},
    write::write_all,
};
use crate::{
    RequestSpan,
    access::key_told,
    connection::linger,
    homes::Lodging,
    http::{Front, Share},
    stream::Stream,
};

/// After so many at a time the other connections of the thread have their turn.
const REQUESTS_BEFORE_OTHERS: usize = 256;
/// Answers are written when there are so many bytes of them.
const OUT_BYTES: usize = 64 << 10;
/// Who asks for more at a time does not let its answers wait for those of others: they would wait for it as well.
const REQUESTS_STOOD_BACK: usize = 64;
/// The least space that is read into.
const READ_MIN: usize = 4 << 10;
/// Received bytes up to this are not counted: more connections than there may be would hold little.
const INPUT_BYTES_FREE: usize = 16 << 10;
/// A request of whoever has not said who it is, where that has to be said.
const STRANGERS_BYTES_MAX: usize = 16 << 10;
/// Buffers up to this are kept from request to request, and given back when the client has been silent for a while.
const KEPT: usize = 64 << 10;

/// Serves a connection to its end; `killed` is one reason.
pub(crate) async fn serve(
    (stream, lodging): (Stream, Option<Arc<Lodging>>),
    speaker: impl Speaks,
    killed: impl Future<Output = ()> + Send,
) {
    stream.set_nodelay();
    let front = Arc::clone(speaker.front());
    let mut drain = front.drain.subscribe();
    let drain_idle = front.config.timeouts.drain_idle;
    let last_call = async {
        drain.begun().await;
        // A request may be on its way.
        tokio::time::sleep(drain_idle).await;
    };
    let over = pin!(async {
        tokio::select! {
            () = last_call => {}
            () = killed => {}
        }
    });
    let mut connection = Connection::new((stream, lodging), &front, speaker);
    let ended = connection.run(over).await;
    let (name, number, request) = connection.speaker.arrival().named();
    match ended {
        Ended::Told => linger(connection.stream, front.config.timeouts.linger).await,
        Ended::Stalled => {
            connection.speaker.stalled().add_one();
            tracing::debug!(
                front = name,
                connection = number,
                request,
                "a client took nothing of its answers"
            );
        }
        Ended::Stranger => {
            let what = "a request of HTTP came to the port of another protocol: closed";
            tracing::warn!(front = name, connection = number, request, "{what}");
        }
        Ended::Silent => {
            tracing::debug!(front = name, connection = number, request, "a connection timed out");
        }
        Ended::Closed => {}
        Ended::Broken(e) => {
            tracing::debug!(front = name, connection = number, request, error = %e, "a connection ended early");
        }
    }
}

struct Connection<S> {
    stream: Stream,
    /// Where it is at home, if it is.
    lodging: Option<Arc<Lodging>>,
    front: Arc<Front>,
    speaker: S,
    /// What was received and is not done with. Wiped at the end, whole: it may hold half a password, before anybody could tell.
    input: Zeroizing<Vec<u8>>,
    /// How much is asked for at a time: more from those who send much.
    read_bytes: usize,
    /// What the above take of what all that is being received may take.
    share: Share,
    timer: Timer,
}

impl<S: Speaks> Connection<S> {
    fn new((stream, lodging): (Stream, Option<Arc<Lodging>>), front: &Arc<Front>, speaker: S) -> Self {
        Self {
            input: Zeroizing::default(),
            read_bytes: READ_MIN,
            share: front.body_budget.share(),
            timer: Timer::new(&front.config.timeouts, speaker.idle_limit()),
            stream,
            lodging,
            front: Arc::clone(front),
            speaker,
        }
    }

    /// Serves until there is a reason to end; `over` is one.
    async fn run(&mut self, mut over: Pin<&mut impl Future<Output = ()>>) -> Ended {
        loop {
            match self.turn(over.as_mut()).await {
                Ok(()) => {}
                Err(ended) => return ended,
            }
        }
    }

    /// Runs the requests that are there, or reads if there is none.
    async fn turn(&mut self, mut over: Pin<&mut impl Future<Output = ()>>) -> Result<(), Ended> {
        let taken = self.speaker.parse(&self.input);
        if taken > 0 {
            self.speaker.arrival().trail.add(taken as u64);
            self.execute(taken).await?;
            if let Some(lodging) = &self.lodging {
                lodging.note_served(taken);
            }
            self.timer.commanded();
            // Who never stops asking is never waited for, where this is noticed otherwise.
            if self.front.drain.has_begun()
                && poll_fn(|cx| Poll::Ready(over.as_mut().poll(cx).is_ready())).await
            {
                return Err(Ended::Told);
            }
        }
        if self.speaker.refuse_malformed() {
            return Err(self.tell().await);
        }
        let took_any = self.speaker.start() > 0;
        self.forget();
        if took_any {
            // There may be more than was taken at a time.
            return Ok(());
        }
        // What of it has come, and how much is announced.
        let announced = self.input.len().saturating_add(self.speaker.missing(&self.input));
        if announced > STRANGERS_BYTES_MAX && self.speaker.refuse_stranger() {
            return Err(self.tell().await);
        }
        if !self.account() {
            self.speaker.refuse_received();
            return Err(self.tell().await);
        }
        self.settle().await;
        self.read(over).await
    }

    /// Moves to another home, if there is a better one.
    async fn settle(&mut self) {
        if let Some(lodging) = &self.lodging
            && lodging.settle().await
        {
            self.moved();
        }
    }

    /// Goes where nobody has to wait for its long answer, if there is such a place.
    async fn leave(&mut self) {
        if let Some(lodging) = &self.lodging
            && lodging.leave().await
        {
            self.moved();
        }
    }

    /// Has short answers wait for those of others; not where these may have to wait for a disk.
    async fn stand_back(&mut self) {
        let is_short = self.speaker.out().bytes.len() <= ANSWER_BYTES_FREE;
        if let Some(lodging) = &self.lodging
            && is_short
            && !self.front.guarded.has_gathered_writes()
        {
            lodging.stand_back().await;
        }
    }

    fn moved(&mut self) {
        self.timer.moved();
        if let Err(e) = self.stream.register_here() {
            // The thread it came from wakes it as before.
            tracing::debug!(error = %e, "a connection is watched from another thread");
        }
    }

    async fn execute(&mut self, taken: usize) -> Result<(), Ended> {
        let clock = Arc::clone(self.front.clock());
        let start = clock.monotonic();
        let mut has_waited = false;
        let ran = {
            let mut running = pin!(self.run_taken());
            let noting = poll_fn(|cx| {
                let polled = running.as_mut().poll(cx);
                has_waited |= polled.is_pending();
                polled
            });
            noting.await
        };
        let took = clock.monotonic().saturating_sub(start);
        if took >= self.front.config.timeouts.slow_request {
            self.tell_slow(taken, took);
        }
        if let Some(spans) = &self.front.config.spans {
            spans.record(&self.span(taken, took));
        }
        self.speaker.answered(took);
        let step = ran?;
        // Whoever has waited, for a commit say, was woken together with the others that waited for it.
        if !has_waited && taken <= REQUESTS_STOOD_BACK {
            self.stand_back().await;
        }
        self.flush().await?;
        if taken >= REQUESTS_BEFORE_OTHERS {
            tokio::task::yield_now().await;
        }
        if step == Step::Close { Err(Ended::Told) } else { Ok(()) }
    }

    /// Runs what was taken; how it ended. All of it is answered then. Errors: the client does not take its answers.
    async fn run_taken(&mut self) -> Result<Step, Ended> {
        let step = loop {
            let step = self.speaker.step(&self.input).await;
            match step {
                Step::GoOn | Step::Flush => {}
                Step::Abort => return Err(Ended::Stranger),
                Step::Done | Step::Close => break step,
            }
            let is_long = self.speaker.out().bytes.len() >= OUT_BYTES;
            if is_long {
                self.leave().await;
            }
            if step == Step::Flush || is_long {
                self.flush().await?;
                self.speaker.written();
                // Sockets take megabytes: who asks for as much would have the thread for itself until then.
                tokio::task::yield_now().await;
            } else if std::mem::take(&mut self.speaker.out().was_refused) {
                // As much was read for it, and no socket makes it wait.
                self.leave().await;
                tokio::task::yield_now().await;
            }
        };
        self.speaker.settle().await;
        Ok(step)
    }

    fn span(&self, requests: usize, took: Duration) -> RequestSpan<'static> {
        let (front, connection, request) = self.speaker.arrival().named();
        RequestSpan {
            front,
            operation: self.speaker.last(&self.input).operation,
            parent: None,
            began: self.front.clock().wall().saturating_sub(took),
            took,
            status: None,
            connection,
            request,
            request_id: None,
            requests: requests as u64,
        }
    }

    #[cold]
    fn tell_slow(&self, requests: usize, took: Duration) {
        let Told { operation, key } = self.speaker.last(&self.input);
        let arrival = self.speaker.arrival();
        let (front, connection, request) = arrival.named();
        let (key, took_ms) = (key_told(key), took.as_millis() as u64);
        tracing::warn!(front, connection, request, requests, operation, key, took_ms, "requests were slow");
    }

    /// Writes what the client is told last.
    async fn tell(&mut self) -> Ended {
        match self.flush().await {
            Ok(()) => Ended::Told,
            Err(ended) => ended,
        }
    }

    /// Drops the requests that are done.
    fn forget(&mut self) {
        let start = self.speaker.start();
        self.input.drain(..start);
        if self.speaker.has_shown() {
            // The secret lay where something else does now, or behind it: there, too, if it was moved when it was half there.
            self.input.spare_capacity_mut().zeroize();
        }
        self.speaker.forget();
        // Who sends much at a time needs some more than it reads at a time.
        if self.input.capacity() > 4 * KEPT && self.input.len() <= self.input.capacity() / 4 {
            let len = self.input.len();
            self.input.shrink_to(len.max(READ_MIN));
        }
    }

    /// Takes account of what is held; `false` if that is more than there is room for.
    fn account(&mut self) -> bool {
        let (buffered, always) = self.speaker.held();
        let held = (self.input.capacity() + buffered).saturating_sub(INPUT_BYTES_FREE) + always;
        let held_before = self.share.bytes();
        if held > held_before {
            return self.share.grow(held - held_before);
        }
        if held < held_before {
            self.share.hold(held);
        }
        true
    }

    /// Waits for more to come. Errors: none does.
    async fn read(&mut self, mut over: Pin<&mut impl Future<Output = ()>>) -> Result<(), Ended> {
        self.timer.begin_waiting(self.speaker.is_within(&self.input));
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(read) = self.poll_read(cx) {
                    return Poll::Ready(match read {
                        Ok(0) => Err(Ended::Closed),
                        Ok(_) => Ok(()),
                        Err(e) => Err(e.into()),
                    });
                }
                if over.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Ended::Told));
                }
                match ready!(self.timer.poll(cx, &self.front.config.timeouts, self.input.len())) {
                    Rang::Silence => self.release(),
                    Rang::TimedOut => return Poll::Ready(Err(Ended::Silent)),
                }
            }
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { stream, input, speaker, read_bytes, .. } = self;
        let input: &mut Vec<u8> = input;
        let tcp = match stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => return poll_read_deciphered(tls, cx, input),
        };
        ready!(tcp.poll_read_ready(cx))?;
        // Not before there is something: a silent connection holds no buffer. As much again as has come, so that what
        // was announced and does not come takes nothing.
        if input.capacity() - input.len() < *read_bytes / 2 {
            let missing = speaker.missing(input);
            input.reserve(missing.min(input.len()).max(*read_bytes));
        }
        // Where less comes than there is room for, tokio knows that there is no more, and does not ask the kernel once more.
        let read = ready!(poll_read_buf(Pin::new(tcp), cx, input));
        if input.len() == input.capacity() {
            *read_bytes = (*read_bytes * 2).min(KEPT);
        }
        Poll::Ready(read)
    }

    /// Gives back what a silent connection has no use for.
    fn release(&mut self) {
        if self.input.is_empty() {
            self.input = Zeroizing::default();
            self.read_bytes = READ_MIN;
        }
        let out = self.speaker.out();
        if out.bytes.is_empty() {
            out.bytes = Vec::new();
        }
    }

    /// Writes all answers. Errors: the client does not take them.
    async fn flush(&mut self) -> Result<(), Ended> {
        let Self { stream, speaker, front, .. } = self;
        let out = speaker.out();
        write_all(stream, out, front).await?;
        out.bytes.clear();
        out.bytes.shrink_to(KEPT);
        out.share.hold(0);
        Ok(())
    }
}

/// Reads what TLS has deciphered. Whether there is something shows only by taking it: into a buffer that nobody holds while
/// the connection is silent.
fn poll_read_deciphered(
    tls: &mut TlsStream<TcpStream>,
    cx: &mut Context<'_>,
    input: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    /// The most that one record of TLS has.
    const RECORD_BYTES: usize = 16 << 10;
    let mut space = [0; RECORD_BYTES];
    let mut read = ReadBuf::new(&mut space);
    ready!(Pin::new(tls).poll_read(cx, &mut read))?;
    input.extend_from_slice(read.filled());
    let len = read.filled().len();
    // Perhaps a password.
    space[..len].zeroize();
    Poll::Ready(Ok(len))
}
