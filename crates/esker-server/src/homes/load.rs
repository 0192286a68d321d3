//! What homes have to do, by the kernel's own books: `/proc/thread-self/schedstat` and `/proc/stat` (proc(5)). Elsewhere than on Linux nobody
//! tells, and all homes stay open.

use std::{fs::File, os::unix::fs::FileExt, path::Path, time::Duration};

/// Of a stretch of time, in cores: 1.0 is one core all the time.
#[derive(Debug, Clone, Default)]
pub(super) struct Load {
    /// What each home took.
    pub(super) ran: Vec<f64>,
    /// How long each was not waiting for something to do.
    pub(super) busy: Vec<f64>,
    /// How many requests were served, a second.
    pub(super) served: f64,
    /// What they were in line for, all together.
    pub(super) waited: f64,
    /// What nobody took, of all there are.
    pub(super) idle: f64,
}

/// A thread's times.
pub(super) struct Times(File);

impl Times {
    pub(super) fn of_this_thread() -> Option<Self> {
        let times = open("/proc/thread-self/schedstat").map(Self);
        times.filter(|times| times.read().is_some())
    }

    /// Whether books are kept, seen by a thread that has run and slept since it began.
    pub(super) fn are_kept(&self) -> bool {
        self.read().is_some_and(|(ran, _)| ran > 0)
    }

    /// Nanoseconds on cores, and in line for them.
    fn read(&self) -> Option<(u64, u64)> {
        let text = read(&self.0)?;
        let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    }
}

/// What a home has done up to a moment. Times in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    ran: u64,
    waited: u64,
    busy: u64,
    served: u64,
}

impl Done {
    /// `busy`: how long it was not waiting for something to do; `served`: how many requests.
    pub(super) fn new(times: Option<&Times>, busy: Duration, served: u64) -> Self {
        let (ran, waited) = times.and_then(Times::read).unwrap_or_default();
        Self { ran, waited, busy: u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX), served }
    }
}

/// What all homes have done up to a moment.
pub(super) struct Seen {
    /// By a clock that never goes back.
    pub(super) at: Duration,
    pub(super) homes: Vec<Done>,
}

impl Seen {
    /// The load since then, while so many nanoseconds of cores were idle.
    pub(super) fn since(&self, before: &Self, idle: u64) -> Load {
        let took = self.at.saturating_sub(before.at).as_nanos().max(1) as f64;
        let grown = |of: fn(&Done) -> u64| {
            let pairs = self.homes.iter().zip(&before.homes);
            pairs.map(move |(now, before)| of(now).saturating_sub(of(before)) as f64 / took)
        };
        Load {
            ran: grown(|home| home.ran).collect(),
            // Whoever watches sockets is not busy by its runtime's books; what a long turn took comes at its end.
            busy: grown(|home| home.busy)
                .zip(grown(|home| home.ran))
                .map(|(busy, ran)| busy.max(ran).min(1.0))
                .collect(),
            served: grown(|home| home.served).sum::<f64>() * 1e9,
            waited: grown(|home| home.waited).sum(),
            idle: idle as f64 / took,
        }
    }
}

/// The machine's cores.
pub(super) struct Cores {
    stat: File,
    idle: u64,
}

impl Cores {
    pub(super) fn look() -> Option<Self> {
        let stat = open("/proc/stat")?;
        let idle = idle(&stat).filter(|idle| *idle > 0)?;
        Some(Self { stat, idle })
    }

    /// Nanoseconds in which cores had nothing to do since this was asked last.
    pub(super) fn idle_since_last(&mut self) -> u64 {
        let now = idle(&self.stat).unwrap_or(self.idle);
        now.saturating_sub(std::mem::replace(&mut self.idle, now))
    }
}

/// Idle, and idle while something waited for a disk.
fn idle(stat: &File) -> Option<u64> {
    /// Linux counts in hundredths of a second for programs, whatever its own ticks are.
    const NANOS_PER_TICK: u64 = 10_000_000;
    let text = read(stat)?;
    let mut ticks = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let mut next = || ticks.next()?.parse::<u64>().ok();
    let (_user, _nice, _system) = (next()?, next()?, next()?);
    Some((next()? + next()?) * NANOS_PER_TICK)
}

#[expect(clippy::disallowed_methods, reason = "what the kernel tells is no file of the store's disk")]
fn open(path: impl AsRef<Path>) -> Option<File> {
    File::open(path).ok()
}

/// The beginning of a file that is made as it is read.
fn read(file: &File) -> Option<String> {
    let mut bytes = [0; 256];
    let len = file.read_at(&mut bytes, 0).ok()?;
    String::from_utf8(bytes[..len].to_vec()).ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        let times = Times::of_this_thread().expect("Linux keeps books");
        let look = |at| Seen {
            at: Duration::from_secs(at),
            homes: vec![Done::new(Some(&times), Duration::from_millis(at * 500), at * 70)],
        };
        let before = look(1);
        let mut sum = 0_u64;
        // Some seconds' worth: its books are a tick behind at most.
        let found = (0..100_000).any(|_| {
            sum = (0..100_000).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
            look(2).homes[0].ran != before.homes[0].ran
        });
        let load = look(2).since(&before, 0);
        assert!(found && load.ran[0] > 0.0 && load.waited >= 0.0, "{load:?}");
        assert!(load.busy == [0.5] && load.served == 70.0, "{load:?}");
        assert!(Cores::look().is_some());
    }
}
