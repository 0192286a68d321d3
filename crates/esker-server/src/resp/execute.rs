//! From a command to its answer.

use std::sync::Arc;

use esker_cluster::{Batch, Consistency, Store, WriteOptions};
use esker_engine::Refusal as Void;

use super::{
    Args, Reply,
    commands::transactions,
    keyspace::{Keyspace, Need, Room, now_ms},
    refusal::{ANSWERS_FILL_BUDGET, CONTENDED, Done, Refusal},
    room_for_answer,
    session::{Answers, Session},
    table::{self, Control, Needs, Run, Spec},
    writes::{Write, Writes},
};
use crate::http::{Front, Share};

/// So often a command is tried whose keys others write at the same time. Of those who contend one succeeds each time.
pub(crate) const ATTEMPTS_MAX: usize = 1000;

/// Answers up to this are not counted: more connections than there may be would hold little.
pub(crate) const ANSWER_BYTES_FREE: usize = 16 << 10;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    GoOn,
    /// What was answered is written, then it is closed.
    Close,
    /// It is closed at once.
    Abort,
}

/// Runs the commands of one connection.
pub(crate) struct Executor {
    pub(crate) session: Session,
    /// Answers that are not written to the socket yet.
    pub(crate) out: Vec<u8>,
    /// What they take of what all answers may take.
    pub(crate) share: Share,
    writes: Writes,
    /// Whether reads see all that was acknowledged before the commands at hand were read.
    is_fresh: bool,
    /// The last command's name, as in the table.
    pub(crate) last: &'static str,
}

impl Executor {
    pub(crate) fn new(session: Session) -> Self {
        let share = session.front.answer_budget.share();
        let (out, writes) = (Vec::new(), Writes::default());
        Self { session, out, share, writes, is_fresh: false, last: "NULL" }
    }

    /// Commands have arrived: what others were told until now they have to see.
    pub(crate) fn begin(&mut self) {
        self.is_fresh = false;
    }

    /// Runs a command. What it is answered is in `out` once [`Executor::settle`] has been waited for.
    pub(crate) async fn run(&mut self, args: Args<'_>) -> Flow {
        let (place, spec) = match table::find(args) {
            Ok(found) => found,
            Err(_) if is_http(args.name()) => return Flow::Abort,
            Err(refusal) => {
                self.spoil();
                self.settle().await;
                self.answer_with(refusal);
                return Flow::GoOn;
            }
        };
        self.last = spec.name;
        self.session.front.resp.metrics.count(place);
        if self.session.transaction.is_some() && !spec.runs_at_once() {
            self.queue(spec, args);
            return Flow::GoOn;
        }
        if let Some(plain) = spec.plain
            && self.session.answers == Answers::On
        {
            match plain(args, now_ms(&self.session.front.store)) {
                Ok(Some(write)) => {
                    self.write(write).await;
                    return Flow::GoOn;
                }
                Ok(None) => {}
                Err(refusal) => {
                    self.settle().await;
                    self.refuse(&refusal);
                    return Flow::GoOn;
                }
            }
        }
        self.settle().await;
        self.dispatch(spec, args).await
    }

    /// Waits for the writes under way and answers them.
    pub(crate) async fn settle(&mut self) {
        if self.writes.is_settled() {
            return;
        }
        self.is_fresh = false;
        let Self { session, out, writes, .. } = self;
        let front = &session.front;
        let mut reply = Reply::new(out, session.protocol);
        writes.settle(&front.store, &mut reply, |refusal| note(front, refusal)).await;
    }

    async fn write(&mut self, write: Write<'_>) {
        let keeps_order = self.session.front.resp.keeps_order;
        let joins = write.joins();
        if !keeps_order && !joins {
            self.settle().await;
        }
        let taken = self.writes.take(write, &self.session.front.store);
        let waits = !keeps_order && (!joins || self.writes.is_under_way());
        if taken.is_err() || waits || self.writes.is_full() {
            self.settle().await;
        }
        if let Err(refusal) = taken {
            self.refuse(&refusal);
        }
    }

    fn queue(&mut self, spec: &'static Spec, args: Args<'_>) {
        let front = Arc::clone(&self.session.front);
        let Some(transaction) = &mut self.session.transaction else { return };
        let queued = match spec.run {
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

    async fn dispatch(&mut self, spec: &'static Spec, args: Args<'_>) -> Flow {
        let mark = self.out.len();
        let mut flow = Flow::GoOn;
        let Self { session, out, is_fresh, .. } = self;
        let mut reply = Reply::new(out, session.protocol);
        let done = match &spec.run {
            Run::Keys(needs, run) => {
                over_keys(&session.front, (spec, *needs, *run), args, &mut reply, is_fresh).await
            }
            Run::Session(run) => run(session, args, &mut reply),
            Run::Walk(run) => match read_point_once(&session.front.store, is_fresh).await {
                Ok(()) => run(&session.front, args, &mut reply).await,
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
                    Control::Reset => {
                        session.reset();
                        reply.speak(session.protocol);
                        reply.simple("RESET");
                        Ok(())
                    }
                    Control::Quit => {
                        flow = Flow::Close;
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
                self.out.truncate(mark);
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
        let len = self.out.len() - mark;
        if len <= ANSWER_BYTES_FREE || self.share.grow(len) {
            return;
        }
        if spec.only_reads() {
            self.out.truncate(mark);
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
        self.out.truncate(mark);
    }

    fn answer(&mut self, write: impl FnOnce(&mut Reply<'_>)) {
        let mark = self.out.len();
        write(&mut Reply::new(&mut self.out, self.session.protocol));
        self.keep_silent(mark);
    }

    /// An error outside of [`Executor::dispatch`], which a client that wants no answers does not get either.
    fn answer_with(&mut self, refusal: Refusal) {
        let mark = self.out.len();
        self.refuse(&refusal);
        self.keep_silent(mark);
    }

    /// Answers with an error.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        note(&self.session.front, refusal);
        Reply::new(&mut self.out, self.session.protocol).error(refusal.text());
    }
}

/// Counts an error that was answered.
pub(crate) fn note(front: &Front, refusal: &Refusal) {
    front.resp.metrics.errors.add_one();
    if let Some(damage) = refusal.damage() {
        front.damage_found(damage);
    }
}

/// Whether it is a request of HTTP: a page in a browser could send one to any port of its reader's machine, with commands in
/// its body.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

type KeysCommand = (&'static Spec, Needs, table::OverKeys);

/// Runs a command over keys, until what it read still holds when it is committed.
async fn over_keys(
    front: &Front,
    (spec, needs, run): KeysCommand,
    args: Args<'_>,
    reply: &mut Reply<'_>,
    is_fresh: &mut bool,
) -> Done {
    let (mark, store) = (reply.len(), &front.store);
    let need = spec.needs(args);
    for _ in 0..ATTEMPTS_MAX {
        read_point_once(store, is_fresh).await?;
        let mut keyspace = match one_key(spec, args) {
            Some(key) => Keyspace::read_one(store, key, need).await?,
            None => {
                let keys: Vec<(&[u8], Need)> = spec.keys.of(args).map(|key| (key, need)).collect();
                Keyspace::read(store, keys, || room_for(front)).await?
            }
        };
        if matches!(needs, Needs::Count) {
            keyspace = keyspace.with_count(store.status().stats.keys);
        }
        run(&mut keyspace, args, reply)?;
        let Some(batch) = keyspace.into_batch()? else { return Ok(()) };
        *is_fresh = false;
        if applied(store, batch).await? {
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
pub(crate) async fn read_point(store: &Store) -> Done {
    store.read_point(Consistency::Linearizable).await?;
    Ok(())
}

async fn read_point_once(store: &Store, is_fresh: &mut bool) -> Done {
    if !*is_fresh {
        read_point(store).await?;
        *is_fresh = true;
    }
    Ok(())
}

/// Commits a batch; whether its conditions held.
pub(crate) async fn applied(store: &Store, batch: Batch) -> Done<bool> {
    match store.write(batch, WriteOptions::default()).await?.refusal() {
        None => Ok(true),
        Some(Void::Condition(_)) => Ok(false),
        Some(other) => Err(other.into()),
    }
}
