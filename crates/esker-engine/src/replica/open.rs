//! Opening: what the disk has, the threads, and their end.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use esker_log::{
    AppendQueue, Brake, Error, LockedDir, Log, LogOptions, Opening, Result, disk::Disk, format::FrameKind,
    segment::segment_name, segments::FoundSegments, signal::Signal,
};
use parking_lot::Mutex;

use super::{
    CACHED_BYTES_MAX, Hooks, Inner, Replica, STATE_NAME, Saved, Shared, TOO_SHORT, Threads, Tracker, copy,
    replay::Replay, state_file::State,
};
use crate::{
    Engine, Environment, GROUP, Loading, OpenReport, Options, bitcask::Bitcask, compressor::SharedCompressor,
    merger::Merger,
};

impl Replica {
    /// Opens the replica in `dir`, or creates it.
    ///
    /// Errors: `Locked`, `Damage`, `UnsupportedFormat`, `InvalidRequest` (options out of range; a store that is no
    /// replica's), `DiskFull`, `Io`.
    pub fn open(
        environment: &Environment,
        dir: impl AsRef<Path>,
        options: Options,
        hooks: Hooks,
    ) -> Result<Self> {
        let maintenance = Arc::new(Signal::default());
        let clock = Arc::clone(&environment.clock);
        let engine = Arc::new(Bitcask::new(&options, clock, Arc::clone(&maintenance)));
        Self::open_engine(environment, dir, options, engine, maintenance, hooks)
    }

    /// The same with an engine of the caller's.
    pub fn open_engine(
        environment: &Environment,
        dir: impl AsRef<Path>,
        options: Options,
        engine: Arc<dyn Engine>,
        maintenance: Arc<Signal>,
        hooks: Hooks,
    ) -> Result<Self> {
        options.check()?;
        let (dir, disk) = (dir.as_ref(), &environment.disk);
        let began = environment.clock.monotonic();
        let locked = LockedDir::new(Arc::clone(disk), dir)?;
        let found = State::read(disk.as_ref(), dir)?;
        let is_new = found.is_none();
        let state = found.unwrap_or_default();
        let log_options = LogOptions {
            segment_max_bytes: options.segment_max_bytes,
            first_segment: state.base.mark.position.segment,
            generation: state.base.installation,
            max_files: options.max_files,
            ..LogOptions::default()
        };
        let mut opening = Opening::begin_in(locked, log_options, environment.store_id)?;
        copy::remove_left_copy(disk.as_ref(), dir)?;
        if is_new {
            create(disk.as_ref(), dir, &opening, &state)?;
        } else if opening.has_dead_segments() {
            // That they are dead may so far be written in the page cache only.
            state.write(disk.as_ref(), dir)?;
            opening.remove_dead_segments()?;
        }
        let (base, marks) = (state.base.mark.position, state.mark_positions());
        let reached = engine.load(&mut opening, Loading::Prefix { base, marks: &marks })?.from;
        let segments = FoundSegments::of(&opening);
        let (mut replay, start) =
            Replay::new(Arc::clone(&engine), &state, reached, segments, CACHED_BYTES_MAX);
        let ends = [(GROUP, start.log_end)].into();
        let recovered = opening.recover(start.position, ends, &mut |frame| replay.on_frame(&frame))?;
        check_reach(recovered.writer.log(), &state, replay.is_whole())?;
        let (written_end, log_end) = (recovered.writer.group_end(GROUP), replay.entries.last());
        let now = environment.clock.monotonic();
        let shared = Arc::new(Shared {
            entries: Mutex::new(replay.entries),
            log_end: Mutex::new(log_end),
            vote: Mutex::new(Some(replay.vote).filter(|vote| !vote.is_empty())),
            placing: Mutex::default(),
            hooks,
        });
        let tracker = Tracker {
            shared: Arc::clone(&shared),
            engine: Arc::clone(&engine),
            log_end: Mutex::new(written_end),
        };
        let inner = Arc::new(Inner {
            queue: AppendQueue::new(recovered.writer, tracker),
            shared,
            engine,
            machine: Mutex::new(replay.machine),
            installations: AtomicU64::new(state.base.installation),
            checkpointed: Mutex::new((start.applied, start.membership.clone())),
            saved: Mutex::new(Saved { state, reached }),
            clock: Arc::clone(&environment.clock),
            maintenance,
            checkpoint_interval: options.checkpoint_interval,
            last_checkpoint: Mutex::new(now),
            checkpoint_error: Mutex::new(None),
            merger: Merger::new(&options),
            damage: Mutex::default(),
            brake: Brake::new(Arc::clone(&environment.clock)),
            compressor: SharedCompressor::new(options.compression),
            closing: AtomicBool::new(false),
            has_threads: environment.threads,
            report: OpenReport {
                took: now.saturating_sub(began),
                replayed: recovered.replayed,
                notices: recovered.notices,
            },
            appended_entries: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
            applied_operations: AtomicU64::new(0),
            comparison: Mutex::new(None),
        });
        if written_end != log_end {
            // The frame that says so was lost, or never written.
            inner.shared.with_entries(|entries| entries.cut(log_end.index));
            inner.queue_lazily(FrameKind::Base, log_end);
            inner.note_queued();
        }
        let mut handles = Vec::new();
        let started = if environment.threads { start_threads(&inner, &mut handles) } else { Ok(()) };
        if started.is_err() {
            // Closing would wait for a thread that is not there.
            inner.closing.store(true, Ordering::Release);
            inner.queue.close();
            inner.maintenance.raise();
            inner.merger.wake();
            inner.log().close_write_back();
        }
        let threads = Arc::new(Threads { inner: Arc::clone(&inner), handles: Mutex::new(handles) });
        let replica = Self { inner, _threads: threads };
        started.map(|()| replica)
    }
}

/// The first thing of a new replica: without the file, the directory would pass for a store that is no replica's.
fn create(disk: &dyn Disk, dir: &Path, opening: &Opening, state: &State) -> Result<()> {
    if !opening.segments().is_empty() {
        return Err(Error::InvalidRequest(format!(
            "{} holds the store of a single node (or has lost its file {STATE_NAME}): export it and import it into the \
             cluster",
            dir.display()
        )));
    }
    state.write(disk, dir)
}

/// The log must have what the state file says that it has.
fn check_reach(log: &Log, state: &State, is_whole: bool) -> Result<()> {
    let reach = state.reach();
    if is_whole && log.appended() >= reach {
        return Ok(());
    }
    let path = log.dir().join(segment_name(reach.segment));
    Err(Error::damage(path, reach.offset.into(), TOO_SHORT))
}

impl Threads {
    pub(super) fn close(&self) -> Result<()> {
        let handles = std::mem::take(&mut *self.handles.lock());
        if self.inner.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.inner.brake.release_for_good();
        let saved = self.inner.checkpoint(true);
        self.inner.queue.close();
        self.inner.maintenance.raise();
        self.inner.merger.wake();
        self.inner.log().close_write_back();
        for handle in handles {
            handle.join().expect("a replica's threads do not panic");
        }
        saved
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // What cannot be saved here is replayed at the next opening; `close` is there for those who want to know.
        drop(self.close());
    }
}

fn start_threads(inner: &Arc<Inner>, handles: &mut Vec<JoinHandle<()>>) -> Result<()> {
    let mut start = |name: &str, run: fn(&Inner)| -> Result<()> {
        let inner = Arc::clone(inner);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&inner));
        handles.push(thread.map_err(|e| Error::io("starting a thread", e))?);
        Ok(())
    };
    start("esker-append", |inner| inner.queue.run())?;
    start("esker-write-out", |inner| inner.log().run_write_back())?;
    start("esker-maintain", Inner::run_maintenance)?;
    start("esker-merge", Inner::run_merging)
}
