//! One connection: hyper's HTTP/2, the time-outs and the drain, in one task; a task a call beside it.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{
    rt::{Read, Write},
    server::conn::http2::Builder,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{sync::Notify, time::Instant};

use super::{
    call,
    outstanding::{Outstanding, Waiting},
    service::Services,
};
use crate::{
    access::Arrival,
    config::{ServerLimits, Timeouts},
    http::{Front, STALL_LOOK_EVERY},
};

/// Calls under way on one connection; further ones wait at the client.
pub(super) const STREAMS_MAX: u32 = 256;
/// Of those that go on and need no right, health and reflection, so many: nobody has a use for more.
pub(super) const COUNTED_STREAMS_MAX: usize = 16;
/// How much of one request may be on its way. A request is read as it comes, so that this covers a round trip.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for a connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How much of one answer is queued before more of it is asked for.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// A connection on which nothing arrived for so long is tried with a ping,
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// and dropped if that stays unanswered for so long.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Calls that a client may give up in a second before they are answered. More is an attack (CVE-2023-44487): it makes work, and
/// takes none.
const GIVEN_UP_MAX: u32 = 1000;
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(1);
/// Where no answer waits, a connection is looked at so often within the time that it may be idle: it may be closed so much late.
const LOOKS_AT_IDLE: u32 = 4;
/// A piece of an answer is at most so long ([`super::body`]).
const PIECE_BYTES: u64 = 64 << 10;

/// What is known of a connection.
pub(super) struct ConnectionState {
    /// Calls under way.
    calls: AtomicUsize,
    /// Those of [`COUNTED_STREAMS_MAX`].
    counted: AtomicUsize,
    seen: Mutex<Seen>,
    pub(super) outstanding: Arc<Outstanding>,
    /// Somebody gives up too many calls.
    abused: Notify,
}

/// See [`ConnectionState::seat`]; dropping gives it back.
pub(super) struct Seat(Arc<ConnectionState>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.counted.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Seen {
    /// There was a call.
    called: bool,
    /// Since when there is none.
    idle_since: Instant,
    /// Calls that were given up,
    given_up: u32,
    /// since then.
    given_up_since: Instant,
}

impl ConnectionState {
    fn new() -> Self {
        let now = Instant::now();
        let seen = Seen { called: false, idle_since: now, given_up: 0, given_up_since: now };
        Self {
            calls: AtomicUsize::new(0),
            counted: AtomicUsize::new(0),
            seen: Mutex::new(seen),
            outstanding: Arc::default(),
            abused: Notify::new(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn call_begins(&self) {
        if self.calls.fetch_add(1, Ordering::AcqRel) == 0 {
            self.seen().called = true;
        }
    }

    /// A call has ended; `given_up`: before it was answered.
    pub(super) fn call_ends(&self, given_up: bool) {
        if given_up {
            self.note_given_up();
        }
        if self.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.seen().idle_since = Instant::now();
        }
    }

    /// A place for a stream that counts; `None` if there are as many as may be.
    pub(super) fn seat(self: &Arc<Self>) -> Option<Seat> {
        let seat = Seat(Arc::clone(self));
        (self.counted.fetch_add(1, Ordering::AcqRel) < COUNTED_STREAMS_MAX).then_some(seat)
    }

    fn note_given_up(&self) {
        let (mut seen, now) = (self.seen(), Instant::now());
        if now.duration_since(seen.given_up_since) >= GIVEN_UP_WITHIN {
            (seen.given_up, seen.given_up_since) = (0, now);
        }
        seen.given_up += 1;
        if seen.given_up > GIVEN_UP_MAX {
            self.abused.notify_one();
        }
    }

    /// What the client has let pass by now, or when to look again. `stall` is how long it may take nothing of an answer, as of now.
    fn look(&self, timeouts: &Timeouts, stall: Duration, now: Instant) -> Look {
        let (called, idle_since) = {
            let seen = self.seen();
            (seen.called, seen.idle_since)
        };
        // At the slowest pace that is allowed, a piece takes so long.
        let pace = Duration::from_millis(PIECE_BYTES * 1000 / timeouts.answer_bytes_per_second.max(1));
        let waiting = self.outstanding.look();
        let stalled = waiting.map(|Waiting { oldest, sent_at }| {
            let latest = oldest + timeouts.write_stall + pace;
            // Where memory is short nobody is given the time of a slow client; but whoever reads is none, however much lies before it.
            let soonest = sent_at.unwrap_or(oldest) + stall;
            (if stall < timeouts.write_stall { soonest.min(latest) } else { latest }, Look::Stalled)
        });
        let is_idle = self.calls.load(Ordering::Acquire) == 0;
        let idle = match called {
            false => Some((idle_since + timeouts.header, Look::Silent)),
            true => is_idle.then_some((idle_since + timeouts.grpc_idle, Look::Idle)),
        };
        let next = stalled.into_iter().chain(idle).min_by_key(|(at, _)| *at);
        // Memory may become short, and patience with it. Where nothing waits, it is told when something does.
        let again = match waiting {
            Some(_) => now + STALL_LOOK_EVERY,
            None => now + timeouts.grpc_idle / LOOKS_AT_IDLE,
        };
        match next {
            Some((at, expired)) if at <= now => expired,
            Some((at, _)) => Look::Again(at.min(again)),
            None => Look::Again(again),
        }
    }
}

/// See [`ConnectionState::look`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// All is well: look again then.
    Again(Instant),
    /// There was no call in time.
    Silent,
    /// There has been no call for long.
    Idle,
    /// An answer is not taken.
    Stalled,
}

/// Serves a connection to its end.
pub(super) async fn serve<I>(io: I, services: Services)
where
    I: Read + Write + Unpin + Send,
{
    let (front, arrival) = (Arc::clone(services.front()), services.arrival().clone());
    let timeouts = &front.config.timeouts;
    let state = Arc::new(ConnectionState::new());
    let service = service_fn(|request| call::answer(services.clone(), Arc::clone(&state), request));
    let mut connection = pin!(builder(&front.config.limits).serve_connection(io, service));
    let mut drain = front.drain.subscribe();
    let stall = || front.write_stall(state.outstanding.held());
    let mut leaving = false;
    let mut look_at = Instant::now() + timeouts.header.min(timeouts.grpc_idle / LOOKS_AT_IDLE);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(e) = ended {
                    let (front, connection, request) = arrival.named();
                    tracing::debug!(front, connection, request, error = %e, "a connection ended early");
                }
                return;
            }
            () = drain.begun(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = state.abused.notified() => {
                front.grpc.metrics.connections_abusive.add_one();
                let (front, connection, request) = arrival.named();
                let what = "a client gave up too many calls in a second: closed";
                tracing::warn!(front, connection, request, limit = GIVEN_UP_MAX, "{what}");
                return;
            }
            () = state.outstanding.begun() => look_at = look_at.min(Instant::now() + STALL_LOOK_EVERY),
            () = tokio::time::sleep_until(look_at) => match state.look(timeouts, stall(), Instant::now()) {
                Look::Again(at) => look_at = at,
                // It is told, so that nothing it sends meanwhile is lost.
                Look::Idle if !leaving => {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                    look_at = Instant::now() + timeouts.grpc_idle;
                }
                expired => return closed(&front, &arrival, expired),
            }
        }
    }
}

fn closed(front: &Front, arrival: &Arrival, why: Look) {
    if why == Look::Stalled {
        front.grpc.metrics.connections_stalled.add_one();
    }
    let (front, connection, request) = arrival.named();
    tracing::debug!(front, connection, request, ?why, "a connection timed out");
}

fn builder(limits: &ServerLimits) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        // A client that gives up all it has under way at once is no attacker.
        .max_pending_accept_reset_streams(STREAMS_MAX as usize)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .auto_date_header(false);
    http
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::http::Budget;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_looked_at_when_something_may_have_expired() {
        let timeouts = Timeouts::default();
        let (state, start) = (ConnectionState::new(), Instant::now());
        let budget = Arc::new(Budget::new(100));
        let after = |seconds| start + Duration::from_secs(seconds);
        // Without a call, for as long as a head may take.
        let look = |at| state.look(&timeouts, timeouts.write_stall, at);
        assert_eq!(look(after(9)), Look::Again(start + timeouts.header));
        assert_eq!(look(after(10)), Look::Silent);
        // With one, for ever, but what is answered has to be taken.
        state.call_begins();
        assert_eq!(look(after(5000)), Look::Again(after(5000) + timeouts.grpc_idle / LOOKS_AT_IDLE));
        let wait = state.outstanding.begin();
        assert_eq!(look(after(10)), Look::Again(after(10) + STALL_LOOK_EVERY));
        assert_eq!(look(start + Duration::from_millis(37_999)), Look::Again(after(38)));
        assert_eq!(look(after(38)), Look::Stalled);
        // Where memory is short, after less,
        let look_short = |at| state.look(&timeouts, Duration::from_secs(2), at);
        assert_eq!(look_short(after(2)), Look::Stalled);
        // but not while something is taken, up to what a slow client has.
        for second in 1..38 {
            tokio::time::advance(Duration::from_secs(1)).await;
            drop(state.outstanding.piece(Bytes::from_static(b"piece"), budget.share()));
            let is_well = matches!(look_short(after(second) + Duration::from_millis(999)), Look::Again(_));
            assert!(is_well, "{second}");
        }
        assert_eq!(look_short(after(38)), Look::Stalled);
        drop(wait);
        // Between calls, for long.
        state.call_ends(false);
        assert_eq!(look(Instant::now() + timeouts.grpc_idle), Look::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_too_many_calls_at_once_is_told_apart_from_who_does_so_now_and_then() {
        let state = ConnectionState::new();
        let give_up = |count: u32| {
            for _ in 0..count {
                state.call_begins();
                state.call_ends(true);
            }
        };
        give_up(GIVEN_UP_MAX);
        tokio::time::advance(GIVEN_UP_WITHIN).await;
        give_up(GIVEN_UP_MAX);
        let quiet = tokio::time::timeout(Duration::from_millis(1), state.abused.notified()).await;
        assert!(quiet.is_err());
        give_up(1);
        state.abused.notified().await;
    }
}
