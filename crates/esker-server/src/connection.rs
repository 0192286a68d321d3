//! One connection: hyper, the watchdog and the drain, in one task.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use crate::{
    access::Entrance,
    config::ServerLimits,
    guard::{ConnectionState, GuardedIo, Phase, Watchdog},
    http::Service,
    stream::Stream,
};

/// So much is read and thrown away at a time of what a refused client still sends,
pub(crate) const LINGER_BYTES: usize = 64 << 10;
/// and so often: whoever never stops sending waits, and costs others little.
pub(crate) const LINGER_EVERY: Duration = Duration::from_millis(25);

/// Serves a connection to its end.
pub(crate) async fn serve(stream: Stream, service: Service) {
    stream.set_nodelay();
    let arrival = stream.arrival(Entrance::Http);
    let service = Arc::new(service.of(arrival.clone()));
    let front = service.front();
    let timeouts = &front.config.timeouts;
    let state = Arc::new(ConnectionState::new());
    let io = TokioIo::new(GuardedIo::new(stream, Arc::clone(&state)));
    let mut connection = pin!(builder(&front.config.limits).serve_connection(
        io,
        service_fn(|request| {
            let (service, answering) = (Arc::clone(&service), state.begin());
            async move { service.answer(request, answering).await }
        })
    ));
    let mut watchdog = Watchdog::new(timeouts);
    let mut drain = front.drain.subscribe();
    let mut last_call = pin!(async {
        drain.begun().await;
        tokio::time::sleep(timeouts.drain_idle).await;
    });
    let mut over = false;
    poll_fn(|cx| {
        loop {
            over = over || last_call.as_mut().poll(cx).is_ready();
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(e) = ended {
                    let (front, connection, request) = arrival.named();
                    tracing::debug!(front, connection, request, error = %e, "a connection ended early");
                }
                return Poll::Ready(());
            }
            // Asked after hyper has read what there was: a request that has arrived is answered, and that is the last.
            if over && matches!(state.phase(), Phase::Fresh | Phase::Idle) {
                return Poll::Ready(());
            }
            match watchdog.poll_expired(cx, &state, timeouts, front.write_stall(state.held())) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Phase::Head) => state.expire_head(),
                Poll::Ready(phase) => {
                    if phase == Phase::Busy {
                        front.metrics.connections_stalled.add_one();
                    }
                    let (front, connection, request) = arrival.named();
                    tracing::debug!(front, connection, request, ?phase, "a connection timed out");
                    return Poll::Ready(());
                }
            }
        }
    })
    .await;
}

fn builder(limits: &ServerLimits) -> http1::Builder {
    /// The request line's method and version, and what separates headers.
    const HEAD_SLACK: usize = 4 << 10;
    /// hyper takes no smaller buffer.
    const BUFFER_MIN: usize = 8 << 10;
    let head = limits.request_target_bytes + limits.header_bytes + HEAD_SLACK;
    let mut builder = http1::Builder::new();
    builder.max_header_size(head).max_buf_size(head.max(BUFFER_MIN)).half_close(false);
    builder
}

/// Ends a connection so that the client can read what was written: closes our side, then reads and forgets until
/// the client closes or the time is over.
pub(crate) async fn linger(mut stream: Stream, time: Duration) {
    let discarding = async {
        stream.shutdown().await?;
        while discard(&mut stream).await? {
            tokio::time::sleep(LINGER_EVERY).await;
        }
        io::Result::Ok(())
    };
    // However it ends, the connection is closed now.
    let _ended = tokio::time::timeout(time, discarding).await.is_ok();
}

/// Reads and forgets [`LINGER_BYTES`]; `false`: the client closed before.
async fn discard(stream: &mut Stream) -> io::Result<bool> {
    let mut discarded = 0;
    while discarded < LINGER_BYTES {
        let read = poll_fn(|cx| {
            // Held by nobody who waits: at the end of a server all connections do at once.
            let mut space = [0; 8 << 10];
            let mut space = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut space))?;
            Poll::Ready(io::Result::Ok(space.filled().len()))
        });
        match read.await? {
            0 => return Ok(false),
            read => discarded += read,
        }
    }
    Ok(true)
}
