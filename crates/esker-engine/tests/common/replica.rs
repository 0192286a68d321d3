//! A replica's workload, its model, and what must hold after it stopped.
//!
//! One row of entries is what the cluster agrees on. The replica under test gets them piece by piece, now and then a piece
//! that a former leader made up, which is cut off again; it votes, commits, applies, repeats requests, saves checkpoints,
//! forgets entries and takes over snapshots.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use esker_engine::{
    Committed, Condition, Error, KeyRange, Options, Replica, RequestId, Result, SyncPolicy,
    replica::{Hooks, LogEntry, StoredMembership},
    verify_dir,
};
use esker_log::{GroupEnd, disk::sim::SimDisk, format::FrameKind};

use super::{
    DIR, Machine, Rng,
    changes::{Looked, Teller, Told, Watcher},
    is_power_off,
    model::{Op, State, apply, batch, brief},
    small_options,
    workload::key,
};

/// What the cluster agrees on, and the state after each of its entries.
pub(crate) struct Agreed {
    entries: Vec<LogEntry>,
    states: Vec<Arc<State>>,
    memberships: Vec<StoredMembership>,
    /// Requests in the order of their first entry: that entry's index, and what it came to.
    requests: Vec<(u64, RequestId, Committed)>,
    outcomes: Vec<Committed>,
    /// What watchers are told of each entry.
    told: Vec<Vec<Told>>,
    teller: Teller,
}

const KEYS: u64 = 16;

impl Agreed {
    pub(crate) fn new(seed: u64, count: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut agreed = Self {
            entries: Vec::new(),
            states: vec![Arc::default()],
            memberships: vec![StoredMembership::default()],
            requests: Vec::new(),
            outcomes: Vec::new(),
            told: Vec::new(),
            teller: Teller::default(),
        };
        let mut term = 1;
        for index in 1..=count {
            let new_leader = rng.below(5) == 0;
            term += u64::from(new_leader);
            agreed.push(GroupEnd { index, term }, new_leader, &mut rng);
        }
        agreed
    }

    fn push(&mut self, id: GroupEnd, new_leader: bool, rng: &mut Rng) {
        let (mut state, mut membership) =
            (State::clone(self.state(self.len())), self.memberships[self.len() as usize].clone());
        let mut outcome = Committed::applied(id.index, 0);
        let mut told = Vec::new();
        let entry = if new_leader {
            opaque(id, FrameKind::Blank, Vec::new())
        } else if rng.below(8) == 0 {
            membership = StoredMembership { at: id, bytes: format!("members {}", id.index).into_bytes() };
            opaque(id, FrameKind::Membership, membership.bytes.clone())
        } else {
            let request = self.request(rng);
            let ops = operations(rng, id);
            let known = self.requests.iter().find(|(_, known, _)| Some(*known) == request);
            if let Some((_, _, known)) = known {
                outcome = *known;
            } else {
                outcome = apply(&mut state, &ops, id.index);
                told = self.teller.tell(&ops, id.index);
                self.requests.extend(request.map(|request| (id.index, request, outcome)));
            }
            records(id, &ops, request)
        };
        self.entries.push(entry);
        self.states.push(Arc::new(state));
        self.memberships.push(membership);
        self.outcomes.push(outcome);
        self.told.push(told);
    }

    /// None, a new one, or a repeated one.
    fn request(&self, rng: &mut Rng) -> Option<RequestId> {
        let known = self.requests.len() as u64;
        match rng.below(4) {
            0 => None,
            1 if known > 0 => Some(self.requests[rng.below(known) as usize].1),
            _ => Some(RequestId { client: 9, sequence: known }),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn entries(&self, behind: u64, upto: u64) -> &[LogEntry] {
        &self.entries[behind as usize..upto as usize]
    }

    fn id(&self, index: u64) -> GroupEnd {
        if index == 0 { GroupEnd::default() } else { self.entries[index as usize - 1].id }
    }

    pub(crate) fn state(&self, applied: u64) -> &State {
        &self.states[applied as usize]
    }

    fn requests_at(&self, applied: u64) -> impl Iterator<Item = (RequestId, Committed)> {
        let known = self.requests.iter().filter(move |(at, ..)| *at <= applied);
        known.map(|(_, request, outcome)| (*request, *outcome))
    }
}

fn opaque(id: GroupEnd, kind: FrameKind, payload: Vec<u8>) -> LogEntry {
    LogEntry { id, kind, payload: payload.into(), records: 0 }
}

fn records(id: GroupEnd, ops: &[Op], request: Option<RequestId>) -> LogEntry {
    let mut all = esker_engine::WriteBatch::new();
    if let Some(request) = request {
        all.request(request).unwrap();
    }
    let (mut payload, mut count) = all.into_payload();
    let (rest, more) = batch(ops).into_payload();
    payload.extend(rest);
    count += more;
    LogEntry { id, kind: FrameKind::Records, payload: payload.into(), records: count }
}

fn operations(rng: &mut Rng, id: GroupEnd) -> Vec<Op> {
    let count = 1 + rng.below(3);
    let mut operation = |n| {
        let len = [0, 30, 120, 700][rng.below(4) as usize];
        let value = format!("{}/{}/{n}", id.index, id.term).into_bytes();
        let value: Vec<_> = value.into_iter().chain(std::iter::repeat_n(b'.', len)).collect();
        let key = key(rng.below(KEYS));
        match rng.below(12) {
            0..=6 => Op::Put(key, value),
            7 => Op::PutExpiring(key, value),
            8 => Op::Add(key, rng.below(100) as i64 - 50),
            9 if rng.below(4) == 0 => Op::DeleteRange(key.clone(), [key.as_slice(), b"~"].concat()),
            _ => Op::Delete(key),
        }
    };
    let mut operations: Vec<_> = (0..count).map(&mut operation).collect();
    if rng.below(5) == 0 {
        let condition = [Condition::Absent, Condition::Present][rng.below(2) as usize];
        operations.insert(0, Op::Require(key(rng.below(KEYS)), condition));
    }
    operations
}

/// One thing that befalls the replica.
#[derive(Clone)]
pub(crate) enum Step {
    Append(Vec<LogEntry>),
    Truncate(GroupEnd),
    Vote(Vec<u8>),
    /// Noted as committed, and applied at once or with a later commit.
    Commit {
        upto: u64,
        apply: bool,
    },
    Checkpoint,
    /// Of what is worth it, or of everything.
    Merge(bool),
    Purge,
    Reopen,
    /// A snapshot up to `last` comes in, and between its halves the entries; it is given up if not `finish`.
    Install {
        last: u64,
        between: Vec<LogEntry>,
        finish: bool,
    },
}

impl Step {
    fn name(&self) -> String {
        let row = |entries: &[LogEntry]| {
            entries.iter().map(|entry| format!(" {}/{}", entry.id.index, entry.id.term)).collect::<String>()
        };
        match self {
            Self::Append(entries) => format!("append{}", row(entries)),
            Self::Truncate(last) => format!("truncate {}/{}", last.index, last.term),
            Self::Vote(vote) => format!("vote {vote:?}"),
            Self::Commit { upto, apply } => format!("commit {upto}, apply {apply}"),
            Self::Checkpoint => "checkpoint".into(),
            Self::Merge(all) => format!("merge, all {all}"),
            Self::Purge => "purge".into(),
            Self::Reopen => "reopen".into(),
            Self::Install { last, between, finish } => {
                format!("install {last}, between{}, finish {finish}", row(between))
            }
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Makes steps of choices, so that every row of choices is a possible history.
pub(crate) struct Planner<'a> {
    agreed: &'a Agreed,
    /// So many agreed entries are in the log,
    good: u64,
    /// and so many behind them that were made up.
    made_up: u64,
    committed: u64,
    votes: u64,
    steps: Vec<Step>,
}

impl<'a> Planner<'a> {
    pub(crate) fn plan(agreed: &'a Agreed, choices: impl IntoIterator<Item = (u8, u8)>) -> Vec<Step> {
        let mut planner = Self { agreed, good: 0, made_up: 0, committed: 0, votes: 0, steps: Vec::new() };
        for (what, how) in choices {
            planner.choose(what, u64::from(how));
        }
        planner.steps
    }

    fn choose(&mut self, what: u8, how: u64) {
        match what % 16 {
            0..=4 => {
                let entries = self.next(1 + how % 4);
                self.append(entries);
            }
            5 => self.make_up(1 + how % 3),
            6 => self.cut(how),
            7..=9 => self.commit(how % (self.good - self.committed + 1), true),
            10 => self.commit(how % (self.good - self.committed + 1), false),
            11 => {
                self.votes += 1;
                self.steps.push(Step::Vote(self.votes.to_be_bytes().to_vec()));
            }
            12 if !how.is_multiple_of(3) => self.steps.push(Step::Merge(how % 3 == 1)),
            12 => self.steps.push(Step::Checkpoint),
            13 => self.steps.push(if how.is_multiple_of(3) { Step::Reopen } else { Step::Purge }),
            _ => self.install(how),
        }
    }

    /// The next agreed entries; those that were made up are cut off before.
    fn next(&mut self, count: u64) -> Vec<LogEntry> {
        if self.made_up > 0 {
            self.steps.push(Step::Truncate(self.agreed.id(self.good)));
            self.made_up = 0;
        }
        let upto = (self.good + count).min(self.agreed.len());
        let entries = self.agreed.entries(self.good, upto).to_vec();
        self.good = upto;
        entries
    }

    fn append(&mut self, entries: Vec<LogEntry>) {
        if !entries.is_empty() {
            self.steps.push(Step::Append(entries));
        }
    }

    /// A former leader's entries, where the agreed ones go on with a new one's.
    fn make_up(&mut self, count: u64) {
        let last = self.agreed.id(self.good);
        if self.made_up > 0
            || self.good == self.agreed.len()
            || self.agreed.id(self.good + 1).term == last.term
            || last.index == 0
        {
            return;
        }
        self.made_up = count;
        let entries = (1..=count).map(|n| {
            let id = GroupEnd { index: last.index + n, term: last.term };
            let mut rng = Rng::new(id.index << 8 | id.term);
            records(id, &operations(&mut rng, id), Some(RequestId { client: 13, sequence: id.index }))
        });
        let entries = entries.collect();
        self.append(entries);
    }

    /// Cuts off entries that were not committed and appends the very same again.
    fn cut(&mut self, how: u64) {
        let keep = self.committed + how % (self.good - self.committed + 1);
        let count = self.good - keep;
        if self.made_up == 0 && count > 0 {
            self.steps.push(Step::Truncate(self.agreed.id(keep)));
            self.good = keep;
            let entries = self.next(count);
            self.append(entries);
        }
    }

    fn commit(&mut self, count: u64, apply: bool) {
        self.committed += count;
        self.steps.push(Step::Commit { upto: self.committed, apply });
    }

    fn install(&mut self, how: u64) {
        let last = (self.committed + how % 13).min(self.agreed.len());
        let between = if how & 16 == 0 { self.next(how % 5) } else { Vec::new() };
        let finish = how & 96 != 0;
        self.steps.push(Step::Install { last, between, finish });
        if finish {
            if last > self.good {
                self.made_up = 0;
            }
            self.good = self.good.max(last);
            self.committed = self.committed.max(last);
        }
    }
}

pub(crate) fn choices(seed: u64, count: usize) -> Vec<(u8, u8)> {
    let mut rng = Rng::new(seed);
    (0..count).map(|_| (rng.next() as u8, rng.next() as u8)).collect()
}

/// What is known when a run ends.
#[derive(Default, Clone)]
pub(crate) struct Known {
    /// Entries that were submitted, by index and term.
    submitted: BTreeMap<(u64, u64), LogEntry>,
    /// The log as it was submitted: the term of each entry behind the first.
    log: BTreeMap<u64, u64>,
    /// Up to here it is durable.
    durable_log: u64,
    votes: Vec<Vec<u8>>,
    /// How many votes are durable.
    durable_votes: usize,
    /// Everything up to here was noted as committed,
    committed: u64,
    /// and this durably.
    durable_committed: u64,
    pub(crate) applied: u64,
    /// The machine went off while the replica was looked at.
    pub(crate) stopped: bool,
    pub(crate) error: Option<Error>,
}

impl Known {
    /// A sync covers all that was submitted.
    fn synced(&mut self) {
        self.durable_log = self.log.last_key_value().map_or(0, |(index, _)| *index);
        self.durable_votes = self.votes.len();
        self.durable_committed = self.committed;
    }
}

pub(crate) fn options() -> Options {
    small_options(SyncPolicy::Always)
}

pub(crate) fn open(machine: &Machine) -> Result<Replica> {
    Replica::open(&machine.environment(), DIR, options(), Hooks::default())
}

/// The error of a poisoned log, if it is.
fn healthy(replica: &Replica) -> Result<()> {
    replica.log().check_healthy()
}

/// Submits, and gives what the callback was told; it comes at once.
fn told(replica: &Replica, submit: impl FnOnce(esker_log::OnAppended) -> Result<()>) -> Result<()> {
    let (tell, told) = std::sync::mpsc::channel();
    submit(Box::new(move |outcome| drop(tell.send(outcome))))?;
    told.try_recv().unwrap_or_else(|_| healthy(replica).and(Err(Error::DiskFull)))
}

/// Runs `steps` until one fails.
pub(crate) fn run(machine: &Machine, agreed: &Agreed, steps: &[Step]) -> Known {
    let mut known = Known::default();
    if let Err(error) = try_run(machine, agreed, steps, &mut known) {
        known.error = Some(error);
    }
    known
}

fn try_run(machine: &Machine, agreed: &Agreed, steps: &[Step], known: &mut Known) -> Result<()> {
    let mut replica = open(machine)?;
    for step in steps {
        match step {
            Step::Reopen => {
                replica.close()?;
                known.synced();
                drop(replica);
                replica = open(machine)?;
                known.applied = replica.applied().index;
            }
            other => take(&replica, agreed, other, known)?,
        }
        healthy(&replica)?;
        let compared = check_state(&replica, agreed, known.applied);
        // A read that fails ends the run; one that gives something else must not be.
        let failed = compared.as_ref().is_err_and(|why| !is_difference(why));
        if machine.disk.is_off() || failed && machine.disk.faults_fired() > 0 {
            known.stopped = true;
            return Ok(());
        }
        compared.unwrap_or_else(|why| panic!("{step:?}: {why}"));
    }
    // The process is killed here: nobody closes the replica.
    if !machine.disk.is_off() {
        machine.disk.fail_at(1, esker_log::disk::sim::Fault::Crash);
    }
    Ok(())
}

/// Takes one step on an open replica.
pub(crate) fn take(replica: &Replica, agreed: &Agreed, step: &Step, known: &mut Known) -> Result<()> {
    match step {
        Step::Append(entries) => append(replica, entries, known)?,
        Step::Truncate(last) => {
            known.log.split_off(&(last.index + 1));
            known.durable_log = known.durable_log.min(last.index);
            replica.truncate_after(*last);
        }
        Step::Vote(vote) => {
            known.votes.push(vote.clone());
            told(replica, |done| {
                replica.save_vote(vote.clone(), done);
                Ok(())
            })?;
            known.synced();
        }
        Step::Commit { upto, apply } => {
            known.committed = known.committed.max(*upto);
            replica.note_committed(agreed.id(*upto));
            if *apply {
                apply_upto(replica, agreed, *upto)?;
                known.applied = known.applied.max(*upto);
            }
        }
        Step::Checkpoint => match replica.checkpoint() {
            // It costs the next opening time, and nothing else.
            Err(error) if !is_power_off(&error) => healthy(replica)?,
            other => other?,
        },
        Step::Merge(all) => match replica.merge(*all) {
            Err(error) if !is_power_off(&error) => healthy(replica)?,
            other => drop(other?),
        },
        Step::Purge => replica.purge(replica.applied().min_by_index(replica.checkpointed(), agreed)),
        Step::Install { last, between, finish } => {
            install(replica, agreed, (*last, between, *finish), known)?
        }
        Step::Reopen => unreachable!("the caller's"),
    }
    Ok(())
}

trait MinByIndex {
    fn min_by_index(self, index: u64, agreed: &Agreed) -> Self;
}

impl MinByIndex for GroupEnd {
    fn min_by_index(self, index: u64, agreed: &Agreed) -> Self {
        if index < self.index { agreed.id(index) } else { self }
    }
}

fn append(replica: &Replica, entries: &[LogEntry], known: &mut Known) -> Result<()> {
    for entry in entries {
        known.submitted.insert((entry.id.index, entry.id.term), entry.clone());
        known.log.insert(entry.id.index, entry.id.term);
    }
    told(replica, |done| replica.append(entries, done))?;
    known.synced();
    Ok(())
}

fn apply_upto(replica: &Replica, agreed: &Agreed, upto: u64) -> Result<()> {
    let from = replica.applied().index;
    if upto <= from {
        return Ok(());
    }
    let entries = replica.read(from + 1..upto + 1, usize::MAX)?;
    assert_eq!(entries, agreed.entries(from, upto));
    let outcomes = replica.apply(&entries)?;
    assert_eq!(outcomes, agreed.outcomes[from as usize..upto as usize]);
    Ok(())
}

fn install(
    replica: &Replica,
    agreed: &Agreed,
    (last, between, finish): (u64, &[LogEntry], bool),
    known: &mut Known,
) -> Result<()> {
    let mut install = replica.begin_install();
    let half = agreed.state(last).len() / 2;
    // Entries come between the values, or between them and their taking the place of the state.
    let is_sealed_early = last.is_multiple_of(2);
    for (n, (key, (value, version))) in agreed.state(last).iter().enumerate() {
        if n == half && !between.is_empty() && !is_sealed_early {
            append(replica, between, known)?;
        }
        install.push(key, 0, value, *version)?;
    }
    if is_sealed_early {
        install.seal()?;
    }
    if (agreed.state(last).is_empty() || is_sealed_early) && !between.is_empty() {
        append(replica, between, known)?;
    }
    if !finish {
        return Ok(());
    }
    let known_log = known.log.get(&last).copied();
    // From here on either state may be found.
    known.committed = known.committed.max(last);
    let id = agreed.id(last);
    install.finish(id, agreed.memberships[last as usize].clone(), agreed.requests_at(last), 0)?;
    if known_log == Some(id.term) {
        known.durable_log = known.durable_log.max(last);
    } else {
        // Entries behind another one than the snapshot's last were a former leader's: the log ends with the snapshot.
        known.log.retain(|index, _| *index <= last);
        known.durable_log = last;
    }
    known.log.insert(last, id.term);
    known.applied = known.applied.max(last);
    known.durable_committed = known.durable_committed.max(last);
    Ok(())
}

/// Whether [`check_state`] found something else than it should, and not an error.
pub(crate) fn is_difference(why: &str) -> bool {
    why.starts_with("at ")
}

/// Compares everything that depends on what was applied.
pub(crate) fn check_state(replica: &Replica, agreed: &Agreed, applied: u64) -> Result<(), String> {
    let same =
        |what: &str, is_same: bool| if is_same { Ok(()) } else { Err(format!("at {applied}: {what}")) };
    same("applied", replica.applied() == agreed.id(applied))?;
    let items = replica.reader().scan(&KeyRange::all(), false).map(|item| {
        let item = item.map_err(|e| e.to_string())?;
        Ok((item.key, (item.value.unwrap_or_else(|| Vec::new().into()).to_vec(), item.version)))
    });
    let found = items.collect::<Result<State, String>>()?;
    let expected = agreed.state(applied);
    same(&format!("found\n  {}\ninstead of\n  {}", brief(&found), brief(expected)), found == *expected)?;
    same("the number of keys", replica.stats().keys == found.len() as u64)?;
    same("membership", replica.membership() == agreed.memberships[applied as usize])?;
    for (at, request, outcome) in &agreed.requests {
        let expected = (*at <= applied).then_some(*outcome);
        let found = replica.outcome_of(request);
        same(&format!("{request} came to {found:?} instead of {expected:?}"), found == expected)?;
    }
    check_changes(replica, agreed, applied)
}

/// Watchers are told what the entries made that are still held, and nothing that is not applied.
fn check_changes(replica: &Replica, agreed: &Agreed, applied: u64) -> Result<(), String> {
    let (changes, mut rng) = (replica.changes(), Rng::new(applied));
    for from in [1, 1 + applied / 2, applied + 1] {
        let mut watcher = Watcher::new(b"", from);
        while watcher.look(&changes, &mut rng).map_err(|e| e.to_string())? != Looked::CaughtUp {
            watcher.check(&agreed.told).map_err(|why| format!("at {applied}: {why}"))?;
            if rng.below(4) == 0 {
                watcher.resume();
            }
        }
        let first = replica.purged().index + 1;
        if watcher.next() != applied + 1 || watcher.resyncs > usize::from(from < first) {
            return Err(format!("at {applied}: a watcher from {from} ends at {}", watcher.next()));
        }
    }
    Ok(())
}

/// Opens what a crash left, compares, goes on to the end, and opens it again.
pub(crate) fn check(disk: SimDisk, agreed: &Agreed, known: &Known, seed: u64) -> Result<(), String> {
    let machine = Machine::new(disk);
    let replica = open(&machine).map_err(|e| format!("opening: {e}"))?;
    check_found(&replica, agreed, known)?;
    go_on(&replica, agreed).map_err(|why| format!("going on: {why}"))?;
    verify(&replica)?;
    let again = if seed.is_multiple_of(2) {
        replica.close().map_err(|e| format!("closing: {e}"))?;
        drop(replica);
        machine
    } else {
        Machine::new(machine.disk.crash(esker_log::disk::sim::CrashMode::power_loss(seed)))
    };
    let files = again.disk.files();
    let replica = open(&again).map_err(|e| format!("opening again: {e}"))?;
    check_state(&replica, agreed, agreed.len())
        .map_err(|why| format!("opened again: {why} {files:?} {:?}", replica.open_report()))?;
    verify(&replica)?;
    drop(replica);
    let report = verify_dir(&again.disk, DIR, &mut |_, _| Ok(())).map_err(|e| e.to_string())?;
    if report.damage.is_empty() {
        Ok(())
    } else {
        Err(format!("verifying it closed finds {:?}", report.damage))
    }
}

fn verify(replica: &Replica) -> Result<(), String> {
    let report = replica.reader().verify(&mut |_, _| Ok(())).map_err(|e| e.to_string())?;
    if report.damage.is_empty() { Ok(()) } else { Err(format!("verify finds {:?}", report.damage)) }
}

/// What was promised is there, and what is there was submitted.
pub(crate) fn check_found(replica: &Replica, agreed: &Agreed, known: &Known) -> Result<(), String> {
    let (applied, last) = (replica.applied().index, replica.last());
    if applied < known.durable_committed || applied > known.committed {
        let allowed = known.durable_committed..=known.committed;
        return Err(format!("{applied} is applied, not {allowed:?}"));
    }
    check_state(replica, agreed, applied)?;
    let votes = known.votes.iter().enumerate().map(|(n, vote)| (n + 1, Some(vote)));
    let mut votes = std::iter::once((0, None)).chain(votes);
    let vote = replica.vote();
    let number = votes.find(|(_, known)| *known == vote.as_ref()).map(|(n, _)| n);
    if number.is_none_or(|n| n < known.durable_votes) {
        return Err(format!(
            "the vote is {vote:?}, {} of {} are durable",
            known.durable_votes,
            known.votes.len()
        ));
    }
    if last.index < known.durable_log {
        return Err(format!("the log ends at {last:?}, not {}", known.durable_log));
    }
    if replica.log_end() != last || replica.purged().index > applied {
        return Err(format!("log end {:?}, last {last:?}, purged {:?}", replica.log_end(), replica.purged()));
    }
    let first = replica.purged().index + 1;
    let entries = replica.read(first..last.index + 1, usize::MAX).map_err(|e| e.to_string())?;
    if entries.len() as u64 != last.index + 1 - first {
        return Err("entries cannot be read".into());
    }
    for (entry, index) in entries.iter().zip(first..) {
        let id = (entry.id.index, entry.id.term);
        let is_expected = index > known.durable_log || known.log.get(&index).is_none_or(|term| *term == id.1);
        if id.0 != index || known.submitted.get(&id) != Some(entry) || !is_expected {
            return Err(format!(
                "entry {index} is {:?} of {} bytes, records {}",
                entry.id,
                entry.payload.len(),
                entry.records
            ));
        }
        if index <= applied && agreed.id(index) != entry.id {
            return Err(format!("entry {index} was applied and is {entry:?}"));
        }
    }
    Ok(())
}

/// Does what a consensus module does: finds where the log agrees, cuts the rest, gets what is missing.
pub(crate) fn go_on(replica: &Replica, agreed: &Agreed) -> Result<(), String> {
    let text = |e: Error| e.to_string();
    let last = replica.last().index;
    let first = replica.applied().index + 1;
    let found = replica.read(first..last + 1, usize::MAX).map_err(text)?;
    let good = found
        .iter()
        .zip(first..)
        .take_while(|(entry, n)| *n <= agreed.len() && **entry == agreed.entries[*n as usize - 1]);
    let good = first - 1 + good.count() as u64;
    if good < last {
        replica.truncate_after(agreed.id(good));
    }
    let durable = Arc::new(AtomicU64::new(0));
    for piece in agreed.entries(good, agreed.len()).chunks(5) {
        let told = Arc::clone(&durable);
        let done = Box::new(move |outcome: Result<()>| {
            told.fetch_add(u64::from(outcome.is_ok()), Ordering::Relaxed);
        });
        let before = durable.load(Ordering::Relaxed);
        replica.append(piece, done).map_err(text)?;
        if durable.load(Ordering::Relaxed) == before {
            return Err("an append fails".into());
        }
        let upto = piece.last().map_or(0, |entry| entry.id.index);
        apply_upto(replica, agreed, upto).map_err(text)?;
        replica.note_committed(agreed.id(upto));
        if upto % 3 == 0 {
            replica.checkpoint().map_err(text)?;
        }
    }
    apply_upto(replica, agreed, agreed.len()).map_err(text)?;
    replica.note_committed(agreed.id(agreed.len()));
    replica.save_vote(b"the end".to_vec(), Box::new(|_| ()));
    check_state(replica, agreed, agreed.len())
}
