//! Crowds of clients that behave badly for as long as they are let.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    fronts::{Front, MIB},
    support::pause,
};

/// A slow client takes and sends so much at a time, so often.
const TRICKLE_BYTES: usize = 4 << 10;
const TRICKLE_EVERY: Duration = Duration::from_millis(50);

/// One that reads slowly what it asked for, or writes slowly what it announced.
struct Slow<'a> {
    front: &'a Front,
    stream: TcpStream,
    reads: bool,
    /// What of its value it has not sent.
    left: usize,
}

impl<'a> Slow<'a> {
    /// Half of them read.
    fn new(front: &'a Front, reads: bool) -> Self {
        let mut stream = front.connect();
        let (head, left) = &front.write;
        match reads {
            true => front.growing.iter().for_each(|asked| stream.write_all(asked).unwrap()),
            false => stream.write_all(head).unwrap(),
        }
        stream.set_nonblocking(true).unwrap();
        Self { front, stream, reads, left: *left }
    }

    /// Does a little; whether the server goes on with it.
    fn step(&mut self) -> bool {
        let done = match self.reads {
            true => self.stream.read(&mut [0; TRICKLE_BYTES]),
            false => self.stream.write(&vec![b'a'; self.left.min(TRICKLE_BYTES)]),
        };
        match done {
            Ok(0) if self.reads => false,
            Ok(written) => {
                self.left = self.left.saturating_sub(if self.reads { 0 } else { written });
                true
            }
            Err(e) => e.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// So many connections over all fronts that read and write slowly, as long as they are to; whoever is cut off comes again.
pub(crate) fn trickle(fronts: &[Front], connections: usize, goes_on: impl Fn() -> bool) {
    let kinds = fronts.iter().flat_map(|front| [(front, true), (front, false)]).cycle();
    let mut crowd: Vec<_> = kinds.take(connections).map(|(front, reads)| Slow::new(front, reads)).collect();
    while goes_on() {
        for slow in &mut crowd {
            if !slow.step() {
                *slow = Slow::new(slow.front, slow.reads);
            }
        }
        pause(TRICKLE_EVERY);
    }
}

/// What a crowd does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// A byte of a head now and then.
    SlowLoris,
    /// A half request, and silence.
    Half,
    /// A line without an end.
    Endless,
    /// A value of a GiB is announced.
    Announced,
    /// Everything is asked for, and nothing read.
    NeverReads,
}

impl Abuse {
    pub(crate) const ALL: [Self; 5] =
        [Self::SlowLoris, Self::Half, Self::Endless, Self::Announced, Self::NeverReads];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SlowLoris => "slow-loris",
            Self::Half => "half requests",
            Self::Endless => "endless lines",
            Self::Announced => "a GiB announced",
            Self::NeverReads => "never reads",
        }
    }

    /// Does it with one connection after another, until it is over.
    pub(crate) fn go_on(self, front: &Front, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let mut stream = front.connect();
            // Being cut off is what the server is for.
            let _cut_off = self.once(front, &mut stream, over).is_err();
            pause(BETWEEN);
        }
    }

    fn once(self, front: &Front, stream: &mut TcpStream, over: &AtomicBool) -> std::io::Result<()> {
        stream.set_write_timeout(Some(LOOK_EVERY))?;
        match self {
            Self::SlowLoris => {
                for byte in front.halves[front.halves.len() / 2].clone() {
                    stream.write_all(&[byte])?;
                    wait_for_the_end(stream, Some(LOOK_EVERY), over)?;
                }
            }
            Self::Half => stream.write_all(&front.halves[front.halves.len() - 1])?,
            Self::Announced => stream.write_all(&front.announced.0)?,
            Self::Endless => {
                stream.write_all(&front.endless)?;
                let filler = vec![b'a'; MIB / 16];
                while !over.load(Ordering::Relaxed) {
                    stream.write_all(&filler)?;
                }
            }
            Self::NeverReads => {
                for asked in &front.flood {
                    stream.write_all(asked)?;
                }
                // To look would be to read: it stays until the server must have cut it off.
                let start = Instant::now();
                while start.elapsed() < front.stalls_for && !over.load(Ordering::Relaxed) {
                    pause(LOOK_EVERY);
                }
                return Ok(());
            }
        }
        wait_for_the_end(stream, None, over)
    }
}

/// So soon whoever was cut off comes again.
const BETWEEN: Duration = Duration::from_millis(100);
/// So often a client looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Reads until the server closes, or the time is over. Errors: it has closed.
fn wait_for_the_end(
    stream: &mut TcpStream,
    time: Option<Duration>,
    over: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    let start = Instant::now();
    while !over.load(Ordering::Relaxed) && time.is_none_or(|time| start.elapsed() < time) {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Ends a crowd when it is dropped, also where a test has failed.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
