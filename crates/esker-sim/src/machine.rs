//! The machine under a simulated node: a disk and a clock that outlive the node's process.

use std::{path::Path, sync::Arc, time::Duration};

use esker_cluster::raft::Host;
use esker_log::{
    clock::Clock,
    disk::sim::{CrashMode, Fault, FaultPlan, Ops, SimDisk},
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::Rng;

/// A machine; clones are handles to the same one.
#[derive(Clone)]
pub struct Machine {
    clock: Arc<SimClock>,
    hardware: Arc<Mutex<Hardware>>,
    /// The disk was repaired or replaced: who waits for it looks again.
    repaired: Arc<Notify>,
    /// Told when the power has failed as [`Machine::cut_power_at_write`] planned.
    failed: Arc<Notify>,
    host: Host,
}

struct Hardware {
    disk: SimDisk,
    /// How long each operation of the disk takes.
    each: Duration,
    /// How many operations are in `busy_until`.
    counted: u64,
    /// The disk does what it was asked for until then.
    busy_until: Instant,
    full: bool,
}

impl Machine {
    /// A new one with an empty disk. Needs a tokio runtime.
    pub fn new() -> Self {
        let hardware = Hardware {
            disk: SimDisk::new(),
            each: Duration::ZERO,
            counted: 0,
            busy_until: Instant::now(),
            full: false,
        };
        Self {
            clock: Arc::new(SimClock::new()),
            hardware: Arc::new(Mutex::new(hardware)),
            repaired: Arc::default(),
            failed: Arc::default(),
            host: Host::new(),
        }
    }

    /// The disk as it is since the last crash. Take it anew for each start of a node.
    pub fn disk(&self) -> SimDisk {
        self.hardware.lock().disk.clone()
    }

    /// The clock.
    pub fn clock(&self) -> Arc<SimClock> {
        Arc::clone(&self.clock)
    }

    /// What the node's tasks run on: it can stand still.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The wall clock jumps; everything that measures time here goes on at `speed` thousandths.
    pub fn skew(&self, jump_ms: i64, speed: u32) {
        self.clock.skew(jump_ms, speed);
        self.host.set_rate(f64::from(speed) / 1000.0);
    }

    /// Lets the power fail at the `operation`-th write or sync of the disk from now on, counted from 1; a write is torn after
    /// `torn` bytes. The disk cannot end the node: whoever runs disk work for it looks at [`Machine::power_has_failed`].
    pub fn cut_power_at_write(&self, operation: u64, torn: usize) {
        let is_sync = operation.is_multiple_of(2);
        let (ops, fault) =
            if is_sync { (Ops::Syncs, Fault::Crash) } else { (Ops::Writes, Fault::CrashAfter(torn)) };
        // Either is counted by itself: there is about one sync to a write.
        self.disk().inject(FaultPlan::nth(ops, operation.div_ceil(2), fault));
    }

    /// Whether the disk is off, by [`Machine::cut_power_at_write`]; says so to who waits for it.
    pub fn power_has_failed(&self) -> bool {
        let is_off = self.disk().is_off();
        if is_off {
            self.failed.notify_waiters();
        }
        is_off
    }

    /// Waits until somebody has found that the power has failed.
    pub async fn power_failure(&self) {
        self.failed.notified().await;
    }

    /// The disk does nothing for so long.
    pub fn stall_disk(&self, by: Duration) {
        let mut hardware = self.hardware.lock();
        hardware.busy_until = hardware.busy_until.max(Instant::now() + by);
    }

    /// Goes down; the next [`Machine::disk`] holds what `mode` left.
    pub fn crash(&self, mode: CrashMode) {
        let mut hardware = self.hardware.lock();
        let disk = hardware.disk.crash(mode);
        hardware.replace(disk);
        self.repaired.notify_waiters();
        self.host.go_on();
    }

    /// Gets a new, empty disk, as slow and full as the old one was. The node must be down.
    pub fn wipe(&self) {
        self.hardware.lock().replace(SimDisk::new());
        self.repaired.notify_waiters();
    }

    /// From now on each operation of the disk takes so long.
    pub fn set_slow(&self, each: Duration) {
        let mut hardware = self.hardware.lock();
        hardware.count_operations();
        hardware.each = each;
    }

    /// Waits for as long as the disk takes for what was done to it. The disk itself cannot wait, as it is synchronous and
    /// there is one thread: who runs disk work for a node waits after it, or before the next. What is repaired or
    /// replaced meanwhile takes no longer.
    pub async fn wait_for_disk(&self) {
        loop {
            let repaired = self.repaired.notified();
            let busy_until = self.hardware.lock().count_operations();
            if busy_until <= Instant::now() {
                return;
            }
            tokio::select! {
                biased;
                () = repaired => {}
                () = sleep_until(busy_until) => {}
            }
        }
    }

    /// Whether the disk takes no more.
    pub fn is_full(&self) -> bool {
        self.hardware.lock().full
    }

    /// Lets the disk take no more, or as much as it likes.
    pub fn set_full(&self, full: bool) {
        self.hardware.lock().set_full(full);
    }

    /// Flips a bit of a synced file; says which, or `None` if there is none with anything in it.
    ///
    /// The newest log file is left alone: damage at its end looks like a write that a crash tore, and is cut off without a
    /// word, as nothing on that disk can tell the two apart (`docs/format.md`).
    pub fn flip_bit(&self, seed: u64) -> Option<String> {
        let rng = Rng::new(seed);
        let disk = self.disk();
        let mut files = disk.durable_files();
        files.retain(|path| disk.durable_bytes(path).is_some_and(|bytes| !bytes.is_empty()));
        if let Some(newest) = files.iter().filter(|path| is_log(path)).max().cloned() {
            files.retain(|path| *path != newest);
        }
        if files.is_empty() {
            return None;
        }
        let path = rng.choose(&files);
        let len = disk.durable_bytes(path)?.len() as u64;
        let (offset, bit) = (rng.below(len), rng.below(8) as u8);
        disk.flip_bit(path, offset, bit).ok()?;
        Some(format!("bit {bit} of byte {offset} of {}", path.display()))
    }

    /// A disk that is neither slow nor full, a clock that is right, a machine that goes on.
    pub fn heal(&self) {
        self.heal_disk();
        self.clock.set_right();
        self.host.set_rate(1.0);
        self.host.go_on();
    }

    /// A disk that is neither slow nor full, and done with what it was asked for.
    pub fn heal_disk(&self) {
        self.set_slow(Duration::ZERO);
        self.set_full(false);
        self.hardware.lock().busy_until = Instant::now();
        self.repaired.notify_waiters();
    }
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Hardware {
    /// Until when the disk is busy with all that it was asked for.
    fn count_operations(&mut self) -> Instant {
        let done = self.disk.op_count();
        let new = u32::try_from(done.saturating_sub(self.counted)).unwrap_or(u32::MAX);
        self.counted = done;
        self.busy_until = self.busy_until.max(Instant::now()) + self.each.saturating_mul(new);
        self.busy_until
    }

    /// Another disk, as slow and full as the one before.
    fn replace(&mut self, disk: SimDisk) {
        self.disk = disk;
        self.counted = 0;
        self.busy_until = Instant::now();
        self.set_full(self.full);
    }

    fn set_full(&mut self, full: bool) {
        self.full = full;
        self.disk.set_capacity(full.then(|| self.disk.used_space()));
    }
}

/// Virtual time as one machine sees it: its wall clock may be wrong, and both its clocks too slow or too fast.
pub struct SimClock {
    start: Instant,
    drift: Mutex<Drift>,
}

/// `shown` was the time at `since`; it has gone on at `speed` from there.
struct Drift {
    since: Duration,
    shown: Duration,
    speed: f64,
    jump_ms: i64,
}

/// What the wall clock shows at the beginning, so that it can jump back and expiry times lie where they do in life.
pub(crate) const EPOCH: Duration = esker_log::clock::MANUAL_START;

impl SimClock {
    fn new() -> Self {
        let right = Drift { since: Duration::ZERO, shown: Duration::ZERO, speed: 1.0, jump_ms: 0 };
        Self { start: Instant::now(), drift: Mutex::new(right) }
    }

    /// The wall clock jumps; both clocks go on at `speed` thousandths.
    pub fn skew(&self, jump_ms: i64, speed: u32) {
        self.set_speed(f64::from(speed) / 1000.0);
        let mut drift = self.drift.lock();
        drift.jump_ms = drift.jump_ms.saturating_add(jump_ms);
    }

    /// Right speed, right wall time but for what the clock has drifted.
    pub fn set_right(&self) {
        self.set_speed(1.0);
        self.drift.lock().jump_ms = 0;
    }

    fn set_speed(&self, speed: f64) {
        let shown = self.monotonic();
        let mut drift = self.drift.lock();
        drift.since = self.start.elapsed();
        drift.shown = shown;
        drift.speed = speed;
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        let drift = self.drift.lock();
        drift.shown + (self.start.elapsed() - drift.since).mul_f64(drift.speed)
    }

    fn wall(&self) -> Duration {
        let jump_ms = self.drift.lock().jump_ms;
        let right = EPOCH + self.monotonic();
        let jump = Duration::from_millis(jump_ms.unsigned_abs());
        if jump_ms < 0 { right.saturating_sub(jump) } else { right.saturating_add(jump) }
    }
}

#[cfg(test)]
mod tests {
    use esker_log::disk::Disk;

    use super::*;
    use crate::sim;

    #[test]
    fn a_skewed_clock_jumps_on_the_wall_and_never_goes_back_inside() {
        sim::run(1, |_| async {
            let clock = Machine::new().clock();
            tokio::time::sleep(Duration::from_secs(10)).await;
            clock.skew(-3_600_000, 500);
            assert_eq!(clock.monotonic(), Duration::from_secs(10));
            assert_eq!(clock.wall(), EPOCH + Duration::from_secs(10) - Duration::from_secs(3600));
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(clock.monotonic(), Duration::from_secs(15));
            clock.set_right();
            assert_eq!(clock.wall(), EPOCH + Duration::from_secs(15));
        });
    }

    #[test]
    fn a_slow_disk_asks_for_time_and_a_full_one_stays_full_over_a_crash() {
        sim::run(1, |_| async {
            let machine = Machine::new();
            machine.set_slow(Duration::from_millis(10));
            machine.disk().list(Path::new("/")).unwrap();
            machine.disk().list(Path::new("/")).unwrap();
            let start = Instant::now();
            machine.wait_for_disk().await;
            machine.wait_for_disk().await;
            assert_eq!(start.elapsed(), Duration::from_millis(20));
            machine.set_full(true);
            machine.crash(CrashMode::DropUnsynced);
            let create =
                || machine.disk().open(Path::new("/f"), esker_log::disk::OpenMode::CreateNew).unwrap();
            let write =
                |file: Arc<dyn esker_log::disk::File>| file.write_at(&[std::io::IoSlice::new(b"x")], 0);
            let file = create();
            assert!(write(Arc::clone(&file)).is_err());
            machine.heal();
            assert_eq!(write(file).unwrap(), 1);
        });
    }

    /// Seeds 189, 219 and 290 failed for what a disk that was repaired still had to do.
    #[test]
    fn a_disk_that_is_repaired_is_done_with_what_it_had_to_do() {
        sim::run(1, |_| async {
            let machine = Machine::new();
            machine.set_slow(Duration::from_secs(3600));
            machine.disk().list(Path::new("/")).unwrap();
            let start = Instant::now();
            let repair = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                machine.heal_disk();
            };
            tokio::join!(machine.wait_for_disk(), repair);
            assert_eq!(start.elapsed(), Duration::from_millis(10));
        });
    }

    #[test]
    fn a_flipped_bit_is_durable_and_told() {
        sim::run(1, |_| async {
            let machine = Machine::new();
            assert_eq!(machine.flip_bit(1), None);
            machine.disk().write_file("/d/f", &[0; 100]);
            assert!(machine.flip_bit(1).is_some_and(|what| what.contains("/d/f")));
            machine.crash(CrashMode::DropUnsynced);
            let bytes = machine.disk().file_bytes("/d/f").unwrap();
            assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        });
    }
}
