//! From a command to its answer.

use std::{sync::Arc, time::Duration};

use esker_cluster::{Batch, Consistency, WriteOptions};
use esker_engine::Refusal as Void;

use super::{
    Args, Reply,
    commands::{connection, transactions},
    keyspace::{Keyspace, Need, Room, check_key, now_ms},
    permit::{authenticates, permit},
    refusal::{ANSWERS_FILL_BUDGET, CONTENDED, Done, Refusal},
    room_for_answer,
    session::{Answers, Session},
    table::{self, Control, Needs, Run, Spec},
    tally::Tally,
    writes::{Write, Writes},
};
use crate::{
    access::Door,
    http::Front,
    pipeline::{Out, Step},
};

/// So often a command is tried whose keys others write at the same time. Of those who contend one succeeds each time.
pub(crate) const ATTEMPTS_MAX: usize = 1000;

/// Runs the commands of one connection.
pub(crate) struct Executor {
    pub(crate) session: Session,
    pub(crate) out: Out,
    writes: Writes,
    /// Whether reads see all that was acknowledged before the commands at hand were read.
    is_fresh: bool,
    /// The time of day in milliseconds since 1970, once a command has asked and until the next wait.
    now_ms: Option<u64>,
    /// Whether there was a secret among the commands at hand.
    pub(crate) has_shown: bool,
    /// The last command's name, as in the table.
    pub(crate) last: &'static str,
    /// Those that are being answered.
    tally: Tally,
}

impl Executor {
    pub(crate) fn new(session: Session) -> Self {
        let (out, writes) = (Out::new(&session.door), Writes::default());
        let tally = Tally::default();
        Self { session, out, writes, is_fresh: false, now_ms: None, has_shown: false, last: "NULL", tally }
    }

    /// Commands have arrived: what others were told until now they have to see.
    pub(crate) fn begin(&mut self) {
        self.is_fresh = false;
        self.now_ms = None;
        if self.session.door.access.is_locked() {
            self.session.door.refresh();
        }
    }

    /// Runs a command. What it is answered is in `out` once [`Executor::settle`] has been waited for.
    pub(crate) async fn run(&mut self, args: Args<'_>) -> Step {
        // Also where it is refused.
        self.has_shown |=
            ["AUTH", "HELLO"].iter().any(|name| args.name().eq_ignore_ascii_case(name.as_bytes()));
        let (place, spec) = match table::find(args) {
            Ok(found) => found,
            Err(_) if is_http(args.name()) => return Step::Abort,
            Err(refusal) => {
                self.spoil();
                self.settle().await;
                self.answer_with(refusal);
                return Step::GoOn;
            }
        };
        self.last = spec.name;
        self.tally.add(place);
        if self.session.door.access.is_locked()
            && let Err(refusal) = permit(&self.session.door, spec, args)
        {
            self.spoil();
            self.settle().await;
            self.answer_with(refusal);
            return Step::GoOn;
        }
        let authenticates = authenticates(spec, args);
        if self.session.transaction.is_some() && (authenticates || !spec.runs_at_once()) {
            self.queue(spec, args, authenticates);
            return Step::GoOn;
        }
        if let Some(plain) = spec.plain
            && self.session.answers == Answers::On
        {
            match plain(args, self.now_ms()) {
                Ok(Some(write)) => {
                    self.write(write).await;
                    return Step::GoOn;
                }
                Ok(None) => {}
                Err(refusal) => {
                    self.settle().await;
                    self.refuse(&refusal);
                    return Step::GoOn;
                }
            }
        }
        self.settle().await;
        let step = self.dispatch(spec, args, authenticates).await;
        self.forget_time();
        step
    }

    /// Waits for the writes under way and answers them.
    pub(crate) async fn settle(&mut self) {
        if self.writes.is_settled() {
            return;
        }
        self.is_fresh = false;
        let Self { session, out, writes, .. } = self;
        let door = &session.door;
        let mut reply = Reply::new(&mut out.bytes, session.protocol);
        writes.settle(door, &mut reply, |refusal| note(door, refusal)).await;
        self.forget_time();
    }

    /// There was a wait since the time of day was asked for: what expires a while after its command would do so too early.
    pub(super) fn forget_time(&mut self) {
        self.now_ms = None;
    }

    /// Asked of the clock once for all commands that are run without a wait between them.
    fn now_ms(&mut self) -> u64 {
        *self.now_ms.get_or_insert_with(|| now_ms(&self.session.door))
    }

    /// All that came together is answered, and took so long.
    pub(super) fn answered(&mut self, took: Duration) {
        self.session.door.resp.metrics.answered(self.tally.drain(), took);
    }

    async fn write(&mut self, write: Write<'_>) {
        let keeps_order = self.session.door.resp.keeps_order;
        let joins = write.joins();
        if !keeps_order && !joins {
            self.settle().await;
        }
        let now_ms = self.now_ms();
        let taken = self.writes.take(write, &self.session.door, now_ms);
        let waits = !keeps_order && (!joins || self.writes.is_under_way());
        if taken.is_err() || waits || self.writes.is_full() {
            self.settle().await;
        }
        if let Err(refusal) = taken {
            self.refuse(&refusal);
        }
    }

    fn queue(&mut self, spec: &'static Spec, args: Args<'_>, authenticates: bool) {
        let front = Arc::clone(self.session.door.front());
        let Some(transaction) = &mut self.session.transaction else { return };
        let queued = match spec.run {
            // Who runs it is who queued it.
            _ if authenticates => Err(Refusal::new("ERR Command not allowed inside a transaction")),
            Run::Walk(_) => Err(Refusal::new("ERR Command not allowed inside a transaction")),
            _ => transaction.push(spec, args, &front),
        };
        match queued {
            Ok(()) => self.answer(|reply| reply.simple("QUEUED")),
            Err(refusal) => {
                self.spoil();
                self.answer_with(refusal);
            }
        }
    }

    fn spoil(&mut self) {
        if let Some(transaction) = &mut self.session.transaction {
            transaction.is_spoiled = true;
        }
    }

    async fn dispatch(&mut self, spec: &'static Spec, args: Args<'_>, authenticates: bool) -> Step {
        let mark = self.out.bytes.len();
        let mut flow = Step::GoOn;
        let Self { session, out, is_fresh, .. } = self;
        let mut reply = Reply::new(&mut out.bytes, session.protocol);
        let done = match &spec.run {
            Run::Keys(needs, run) => match spec.look {
                Some(look) => look_at(&session.door, look, args.get(1), &mut reply, is_fresh).await,
                None => over_keys(&session.door, (spec, *needs, *run), args, &mut reply, is_fresh).await,
            },
            Run::Session(_) if authenticates => connection::hello_as(session, args, &mut reply).await,
            Run::Session(run) => run(session, args, &mut reply),
            Run::Walk(run) => match read_point_once(&session.door, is_fresh).await {
                Ok(()) => run(&session.door, args, &mut reply).await,
                Err(refusal) => Err(refusal),
            },
            Run::Control(control) => {
                // Whatever it reads or writes, it sees to it itself.
                *is_fresh = false;
                match control {
                    Control::Multi => transactions::multi(session, &mut reply),
                    Control::Exec => transactions::exec(session, &mut reply).await,
                    Control::Discard => transactions::discard(session, &mut reply),
                    Control::Watch => transactions::watch(session, args, &mut reply).await,
                    Control::Auth => connection::auth(session, args, &mut reply).await,
                    Control::Reset => {
                        session.reset();
                        reply.speak(session.protocol);
                        reply.simple("RESET");
                        Ok(())
                    }
                    Control::Quit => {
                        flow = Step::Close;
                        reply.simple("OK");
                        Ok(())
                    }
                }
            }
            // Only its subcommands are found.
            Run::Parent(_) => Err(super::refusal::SYNTAX),
        };
        match done {
            Err(refusal) => {
                self.out.bytes.truncate(mark);
                self.refuse(&refusal);
            }
            Ok(()) => self.account(mark, spec),
        }
        self.keep_silent(mark);
        flow
    }

    /// Takes what a long answer holds from what all answers may hold; what was only read is not answered if there is not so
    /// much left.
    fn account(&mut self, mark: usize, spec: &Spec) {
        if !self.out.admit(mark) && spec.only_reads() {
            self.out.bytes.truncate(mark);
            self.refuse(&ANSWERS_FILL_BUDGET);
        }
    }

    /// Takes back the answer of a client that wants none.
    fn keep_silent(&mut self, mark: usize) {
        self.session.answers = match self.session.answers {
            Answers::On => return,
            Answers::Off => Answers::Off,
            Answers::SkipNext => Answers::Skip,
            Answers::Skip => Answers::On,
        };
        self.out.bytes.truncate(mark);
    }

    fn answer(&mut self, write: impl FnOnce(&mut Reply<'_>)) {
        let mark = self.out.bytes.len();
        write(&mut Reply::new(&mut self.out.bytes, self.session.protocol));
        self.keep_silent(mark);
    }

    /// An error outside of [`Executor::dispatch`], which a client that wants no answers does not get either.
    fn answer_with(&mut self, refusal: Refusal) {
        let mark = self.out.bytes.len();
        self.refuse(&refusal);
        self.keep_silent(mark);
    }

    /// Answers with an error.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        note(&self.session.door, refusal);
        Reply::new(&mut self.out.bytes, self.session.protocol).error(refusal.text());
    }
}

/// Counts an error that was answered.
pub(crate) fn note(door: &Door, refusal: &Refusal) {
    door.resp.metrics.errors.add_one();
    if let Some(damage) = refusal.damage() {
        door.damage_found(damage);
    }
}

/// Whether it is a request of HTTP: a page in a browser could send one to any port of its reader's machine, with commands in
/// its body.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

type KeysCommand = (&'static Spec, Needs, table::OverKeys);

/// Answers with what one key holds.
async fn look_at(
    door: &Door,
    look: table::Look,
    key: &[u8],
    reply: &mut Reply<'_>,
    is_fresh: &mut bool,
) -> Done {
    read_point_once(door, is_fresh).await?;
    // The store does not know some keys at all.
    let entry = if check_key(key).is_ok() { door.get(key).await? } else { None };
    look(entry.as_ref().map(|entry| entry.value.as_ref()), reply);
    Ok(())
}

/// Runs a command over keys, until what it read still holds when it is committed.
async fn over_keys(
    door: &Door,
    (spec, needs, run): KeysCommand,
    args: Args<'_>,
    reply: &mut Reply<'_>,
    is_fresh: &mut bool,
) -> Done {
    let mark = reply.len();
    let need = spec.needs(args);
    for _ in 0..ATTEMPTS_MAX {
        read_point_once(door, is_fresh).await?;
        let mut keyspace = match one_key(spec, args) {
            Some(key) => Keyspace::read_one(door, key, need).await?,
            None => {
                let keys: Vec<(&[u8], Need)> = spec.keys.of(args).map(|key| (key, need)).collect();
                Keyspace::read(door, keys, || room_for(door)).await?
            }
        };
        if matches!(needs, Needs::Count) {
            keyspace = keyspace.with_count(door.count_keys()?);
        }
        run(&mut keyspace, args, reply)?;
        let Some(batch) = keyspace.into_batch()? else { return Ok(()) };
        *is_fresh = false;
        if applied(door, batch).await? {
            return Ok(());
        }
        reply.rewind(mark);
    }
    Err(CONTENDED)
}

/// The key of a command that has one.
fn one_key<'a>(spec: &Spec, args: Args<'a>) -> Option<&'a [u8]> {
    let mut keys = spec.keys.of(args);
    let first = keys.next();
    first.filter(|_| keys.next().is_none())
}

/// Room for the values that a command or a transaction reads.
pub(crate) fn room_for(front: &Front) -> Room {
    room_for_answer(front)
}

/// Waits until reads see all that was acknowledged before. Errors: there is no leader.
pub(crate) async fn read_point(door: &Door) -> Done {
    door.read_point(Consistency::Linearizable).await?;
    Ok(())
}

async fn read_point_once(door: &Door, is_fresh: &mut bool) -> Done {
    if !*is_fresh {
        read_point(door).await?;
        *is_fresh = true;
    }
    Ok(())
}

/// Commits a batch; whether its conditions held.
pub(crate) async fn applied(door: &Door, batch: Batch) -> Done<bool> {
    match door.write(batch, WriteOptions::default()).await?.refusal() {
        None => Ok(true),
        Some(Void::Condition(_)) => Ok(false),
        Some(other) => Err(other.into()),
    }
}
