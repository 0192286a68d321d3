//! The connections at work: each does one operation after the other until the plan is done.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use esker_log::clock::{Clock, SystemClock};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{
    distribution::Chooser,
    gap::Gaps,
    pace::{Pace, wait_until},
    plan::Plan,
    random::Random,
    session::{Session, Target},
    tally::Tally,
    workload::{Kind, Workload},
};
use crate::exit::Failure;

/// A run goes on through the death of a node; one in which a connection fared no better for this long is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// The pause after the first error in a row, doubled up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// What a run came to.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    /// From the end of the warm-up to the end of the last operation.
    pub(super) took: Duration,
    /// The longest time without a success, for every kind in [`Kind::ALL`]'s order.
    pub(super) gaps: [Duration; Kind::ALL.len()],
}

/// What the connections of a run share besides the plan.
struct Run {
    target: Target,
    plan: Arc<Plan>,
    clock: SystemClock,
    /// Nobody begins before everybody is connected.
    start: Barrier,
    gaps: Gaps,
    failed: AtomicBool,
}

/// One thread's part of a run.
struct Part {
    tally: Tally,
    took: Duration,
}

/// Does what the plan says.
pub(super) fn run(target: &Target, plan: &Arc<Plan>) -> Result<Outcome, Failure> {
    let threads = if target.blocks() { plan.connections as usize } else { plan.threads };
    let run = Arc::new(Run {
        target: target.clone(),
        plan: Arc::clone(plan),
        clock: SystemClock::new(),
        start: Barrier::new(threads),
        gaps: Gaps::default(),
        failed: AtomicBool::new(false),
    });
    let spawn = |thread| {
        let run = Arc::clone(&run);
        std::thread::spawn(move || run.thread(thread, threads))
    };
    let threads: Vec<_> = (0..threads).map(spawn).collect();
    let mut whole = Part { tally: Tally::new(), took: Duration::ZERO };
    let mut failure = None;
    for thread in threads {
        match thread.join().unwrap_or_else(|_| Err("a thread died: report this defect".into())) {
            Ok(part) => {
                whole.tally.add(part.tally);
                whole.took = whole.took.max(part.took);
            }
            Err(why) => failure = Some(Failure::Error(why)),
        }
    }
    let end = run.clock.monotonic();
    let gaps = Kind::ALL.map(|kind| run.gaps.longest(kind, end));
    failure.map_or(Ok(Outcome { tally: whole.tally, took: whole.took, gaps }), Err)
}

impl Run {
    /// One thread with every `threads`-th connection.
    fn thread(self: Arc<Self>, thread: usize, threads: usize) -> Result<Part, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(e) => {
                self.failed.store(true, Ordering::Relaxed);
                self.start.wait();
                return Err(e.to_string());
            }
        };
        runtime.block_on(async {
            let mut sessions = Vec::new();
            for connection in (thread..self.plan.connections as usize).step_by(threads) {
                sessions.push((connection as u32, self.target.connect(connection).await));
            }
            if sessions.iter().any(|(_, session)| session.is_err()) {
                self.failed.store(true, Ordering::Relaxed);
            }
            self.start.wait();
            self.work(sessions).await
        })
    }

    async fn work(self: &Arc<Self>, sessions: Vec<(u32, Result<Session, String>)>) -> Result<Part, String> {
        let begin = self.clock.monotonic();
        self.gaps.begin(begin + self.plan.warmup);
        let mut tasks = JoinSet::new();
        // One for all connections of the thread: histograms are large.
        let tally = Arc::new(Mutex::new(Tally::new()));
        for (connection, session) in sessions {
            let worker = Worker::new(self, connection, session?, begin);
            tasks.spawn(worker.run(Arc::clone(&tally)));
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|e| e.to_string())??;
        }
        let took = self.clock.monotonic().saturating_sub(begin + self.plan.warmup);
        let tally = std::mem::replace(&mut *tally.lock(), Tally::new());
        Ok(Part { tally, took })
    }
}

/// One connection at work.
struct Worker {
    run: Arc<Run>,
    session: Session,
    random: Random,
    chooser: Chooser,
    pace: Option<Pace>,
    measure_from: Duration,
    until: Option<Duration>,
    /// Whose turn it is when the session is made anew.
    turn: usize,
    /// When the errors in a row began.
    failing_since: Option<Duration>,
    pause: Duration,
}

impl Worker {
    fn new(run: &Arc<Run>, connection: u32, session: Session, begin: Duration) -> Self {
        let plan = &run.plan;
        let measure_from = begin + plan.warmup;
        Self {
            run: Arc::clone(run),
            session,
            random: plan.random(connection),
            chooser: plan.chooser(),
            pace: plan.rate.map(|rate| Pace::new(begin, rate, connection, plan.connections)),
            measure_from,
            until: plan.duration.map(|duration| measure_from + duration),
            turn: connection as usize,
            failing_since: None,
            pause: PAUSE_MIN,
        }
    }

    async fn run(mut self, tally: Arc<Mutex<Tally>>) -> Result<(), String> {
        loop {
            let begin = self.begin().await;
            let measured = begin >= self.measure_from;
            if self.is_over(begin) || (measured && !self.run.plan.claim()) {
                return Ok(());
            }
            let kind = self.run.plan.kind(&mut self.random);
            let outcome = self.operation(kind).await;
            let end = self.run.clock.monotonic();
            if measured && outcome.is_ok() {
                self.run.gaps.succeeded(kind, end);
            }
            let failed = outcome.as_ref().err().cloned();
            if measured {
                tally.lock().record(kind, end.saturating_sub(begin), outcome);
            }
            self.mend(failed, end).await?;
        }
    }

    /// When the next operation should begin; waits for it.
    async fn begin(&mut self) -> Duration {
        let clock = &self.run.clock;
        match &mut self.pace {
            None => clock.monotonic(),
            Some(pace) => {
                let due = pace.next();
                wait_until(due, || clock.monotonic()).await;
                due
            }
        }
    }

    async fn operation(&mut self, kind: Kind) -> Result<bool, String> {
        let plan = Arc::clone(&self.run.plan);
        let data = &plan.data;
        match kind {
            Kind::Insert => return self.insert(&plan).await.map(|()| true),
            Kind::Read => {
                let key = data.key(self.choose(&plan));
                return self.session.read(&key).await;
            }
            Kind::Update => {
                let key = data.key(self.choose(&plan));
                self.session.write(&key, data.value(&mut self.random)).await?;
            }
            Kind::Scan => {
                let start = data.key(self.choose(&plan));
                let length = 1 + self.random.below(plan.scan_length);
                self.session.scan(&start, length).await?;
            }
            Kind::ReadModifyWrite => {
                let key = data.key(self.choose(&plan));
                let found = self.session.read(&key).await?;
                self.session.write(&key, data.value(&mut self.random)).await?;
                return Ok(found);
            }
        }
        Ok(true)
    }

    fn choose(&mut self, plan: &Plan) -> u64 {
        self.chooser.choose(&mut self.random, plan.present())
    }

    async fn insert(&mut self, plan: &Plan) -> Result<(), String> {
        let count = if plan.workload == Workload::Fill { plan.batch } else { 1 };
        let numbers = plan.take_new(count);
        let inserted = numbers.end - numbers.start;
        if inserted == 1 {
            let value = plan.data.value(&mut self.random);
            self.session.write(&plan.data.key(numbers.start), value).await?;
        } else {
            let random = &mut self.random;
            let pairs: Vec<_> = numbers.map(|n| (plan.data.key(n), plan.data.value(random))).collect();
            self.session.write_batch(&pairs).await?;
        }
        plan.inserted(inserted);
        Ok(())
    }

    fn is_over(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now >= until) || self.run.failed.load(Ordering::Relaxed)
    }

    /// After an error: a connection to the next node that is there, or the end if nothing but errors come.
    async fn mend(&mut self, failed: Option<String>, mut now: Duration) -> Result<(), String> {
        let Some(mut error) = failed else {
            (self.failing_since, self.pause) = (None, PAUSE_MIN);
            return Ok(());
        };
        while !self.is_over(now) {
            if now - *self.failing_since.get_or_insert(now) >= GIVE_UP_AFTER {
                self.run.failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (2 * self.pause).min(PAUSE_MAX);
            self.turn += 1;
            match self.run.target.connect(self.turn).await {
                Ok(session) => {
                    self.session = session;
                    return Ok(());
                }
                Err(why) => error = why,
            }
            now = self.run.clock.monotonic();
        }
        Ok(())
    }
}
