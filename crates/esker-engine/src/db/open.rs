//! Opening a store, and the threads that it has of its own.

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
    thread::JoinHandle,
};

use esker_log::{
    COMMITTERS, Error, GroupCommit, LogOptions, Opening, QueueLimits, Result, manifest::MANIFEST_NAME,
    segments::FoundSegments, signal::Signal,
};
use parking_lot::Mutex;

use super::{Db, Environment, Inner, applier::Applier, handle::Handle};
use crate::{
    Applied, Engine, GROUP, Loading, OpenReport, Options, bitcask::Bitcask, compressor::SharedCompressor,
    merger::Merger, once::Once, request::request_of,
};

impl Db {
    /// Opens the bitcask store in `dir`, or creates it.
    ///
    /// Errors: `Locked`, `Damage`, `UnsupportedFormat`, `InvalidRequest` for options out of range, `DiskFull`, `Io`.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        Self::open_in(&Environment::default(), dir, options)
    }

    /// Like [`Db::open`], in another environment.
    pub fn open_in(environment: &Environment, dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        let maintenance = Arc::new(Signal::default());
        let clock = Arc::clone(&environment.clock);
        let engine = Arc::new(Bitcask::new(&options, clock, Arc::clone(&maintenance)));
        Self::open_engine(environment, dir, options, engine, maintenance)
    }

    /// Opens a store with an engine of the caller's. `maintenance` is what the engine raises when it wants
    /// [`Engine::checkpoint`] to be called.
    pub fn open_engine(
        environment: &Environment,
        dir: impl AsRef<Path>,
        options: Options,
        engine: Arc<dyn Engine>,
        maintenance: Arc<Signal>,
    ) -> Result<Self> {
        options.check()?;
        let began = environment.clock.monotonic();
        let log_options = LogOptions {
            segment_max_bytes: options.segment_max_bytes,
            max_files: options.max_files,
            ..LogOptions::default()
        };
        let disk = Arc::clone(&environment.disk);
        let mut opening = Opening::begin(disk, dir.as_ref(), log_options, environment.store_id)?;
        if opening.other_files().iter().any(|name| name == crate::replica::STATE_NAME) {
            return Err(Error::InvalidRequest(format!(
                "{} belongs to a node of a cluster: start it as one, or export from the cluster and import",
                dir.as_ref().display()
            )));
        }
        let once = Arc::new(Once::load(&mut opening)?);
        let loaded = engine.load(&mut opening, Loading::Whole)?;
        let (mut version, judged) = (loaded.last.index, opening.manifest().judged);
        let mut outcomes = Vec::new();
        let segments = FoundSegments::of(&opening);
        let recovered = opening.recover(loaded.from, [(GROUP, loaded.last)].into(), &mut |frame| {
            outcomes.clear();
            version = frame.header.index;
            let batch = Applied {
                version,
                position: frame.position,
                payload: frame.payload,
                records: frame.header.records,
                floor_ms: 0,
            };
            engine.apply(&segments, &[batch], &mut outcomes)?;
            if let (Some(id), [committed]) = (request_of(frame.payload), outcomes.as_slice()) {
                once.note_applied(id, *committed);
            }
            Ok(())
        })?;
        let end = recovered.writer.log().appended();
        once.begin_at(end);
        if version < judged {
            let what = format_args!(
                "the log ends at version {version}, but there was {judged} when segments were merged"
            );
            return Err(Error::damage(dir.as_ref().join(MANIFEST_NAME), 0, what));
        }
        let now = environment.clock.monotonic();
        let report = OpenReport {
            took: now.saturating_sub(began),
            replayed: recovered.replayed,
            notices: recovered.notices,
        };
        let limits = QueueLimits { batches: options.queue_max_batches, bytes: options.queue_max_bytes };
        let applier = Applier {
            engine: Arc::clone(&engine),
            version: AtomicU64::new(version),
            applying: Mutex::default(),
            end: AtomicU64::new(end.pack()),
            once,
            user_bytes: AtomicU64::new(0),
            told: OnceLock::new(),
        };
        let clock = Arc::clone(&environment.clock);
        let commit = GroupCommit::new(
            recovered.writer,
            applier,
            clock,
            options.sync,
            limits,
            Arc::clone(&maintenance),
        );
        let inner = Arc::new(Inner {
            commit,
            engine,
            clock: Arc::clone(&environment.clock),
            maintenance,
            checkpoint_interval: options.checkpoint_interval,
            last_checkpoint: Mutex::new(now),
            checkpoint_error: Mutex::new(None),
            merger: Merger::new(&options),
            damage: Mutex::default(),
            compressor: SharedCompressor::new(options.compression),
            closing: AtomicBool::new(false),
            has_threads: environment.threads,
            report,
        });
        let mut threads = Vec::new();
        let started = if environment.threads { start_threads(&inner, &mut threads) } else { Ok(()) };
        let own = threads.iter().map(|thread| thread.thread().id()).collect();
        // If one could not be started, dropping the handle stops those that were.
        let db = Self { handle: Arc::new(Handle { inner, threads: Mutex::new(threads), own }) };
        started.map(|()| db)
    }
}

fn start_threads(inner: &Arc<Inner>, threads: &mut Vec<JoinHandle<()>>) -> Result<()> {
    let mut start = |name: &str, run: fn(&Inner)| -> Result<()> {
        let inner = Arc::clone(inner);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&inner));
        threads.push(thread.map_err(|e| Error::io("starting a thread", e))?);
        Ok(())
    };
    for _ in 0..COMMITTERS {
        start("esker-commit", |inner| inner.commit.run_committer())?;
    }
    start("esker-write-out", |inner| inner.commit.log().run_write_back())?;
    start("esker-maintain", Inner::run_maintenance)?;
    start("esker-merge", Inner::run_merging)
}
