//! Writing answers to a client that may be slow.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{io::AsyncWrite, time::Instant};

use super::{Ended, Out};
use crate::{
    http::{Front, STALL_LOOK_EVERY},
    stream::Stream,
};

/// Writes all answers, as long as the client takes them: some of them before it has stood still too long, and all of them at no
/// less than the slowest pace.
pub(super) async fn write_all(stream: &mut Stream, out: &Out, front: &Front) -> Result<(), Ended> {
    let mut bytes = &out.bytes[..];
    let stall = || front.write_stall(out.share.bytes());
    let (mut spent, mut taken) = (Duration::ZERO, 0_u64);
    // As a rule it is all taken at once, and no time has to be kept.
    if let (Stream::Plain(tcp), false) = (&*stream, bytes.is_empty())
        && let Ok(written) = tcp.try_write(bytes)
        && written > 0
    {
        if written == bytes.len() {
            return Ok(());
        }
        bytes = &bytes[written..];
        taken = written as u64;
    }
    loop {
        let mut blocked_since = None;
        let left = patience(front, taken).saturating_sub(spent);
        match write_some(stream, bytes, stall, &mut blocked_since, left).await? {
            Some(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Some(written) => {
                bytes = &bytes[written..];
                taken += written as u64;
            }
            None => return Ok(()),
        }
        spent += blocked_since.map_or(Duration::ZERO, |since: Instant| since.elapsed());
    }
}

/// How long a client may have kept the server waiting that has taken so much.
fn patience(front: &Front, taken: u64) -> Duration {
    let timeouts = &front.config.timeouts;
    timeouts.write_stall + Duration::from_millis(taken * 1000 / timeouts.answer_bytes_per_second.max(1))
}

/// Writes some of it; waits for `left` at most, and no longer than `stall`: how long a client may stand still. That may become less
/// meanwhile, and so is looked at again and again.
async fn write_some(
    stream: &mut Stream,
    bytes: &[u8],
    stall: impl Fn() -> Duration,
    blocked_since: &mut Option<Instant>,
    left: Duration,
) -> Result<Option<usize>, Ended> {
    loop {
        let step = poll_fn(|cx| {
            let step = poll_write_some(stream, cx, bytes);
            if step.is_pending() {
                blocked_since.get_or_insert_with(Instant::now);
            }
            step
        });
        match tokio::time::timeout(STALL_LOOK_EVERY.min(left), step).await {
            Ok(step) => return Ok(step?),
            Err(_) => {
                let blocked = blocked_since.map_or(Duration::ZERO, |since| since.elapsed());
                if blocked >= left.min(stall()) {
                    return Err(Ended::Stalled);
                }
            }
        }
    }
}

/// Writes some bytes; where there are none left, what TLS still holds; `None`: that is done.
fn poll_write_some(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<Option<usize>>> {
    match bytes {
        [] => Pin::new(stream).poll_flush(cx).map_ok(|()| None),
        bytes => Pin::new(stream).poll_write(cx, bytes).map_ok(Some),
    }
}
