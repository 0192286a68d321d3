//! Writes that read nothing, and how those of a pipeline share commits.
//!
//! Where the store keeps writes in the order in which they were submitted, none of a pipeline waits for the one before it;
//! neighbours that need no answer of their own go into one batch. Answers are written in order once all are decided:
//!
//! ```text
//! SET a, SET b, DEL c, SET d   ->   {put a, put b}, {delete c}, {put d}   submitted at once, answered +OK +OK :1 +OK
//! ```

use std::{collections::VecDeque, pin::Pin};

use esker_cluster::{Batch, Error, Store, WriteOptions};
use esker_engine::{Committed, Condition, KeyRange, Refusal as Void};
use esker_wire::resp::Reply;

use super::{
    Args,
    keyspace::{check_key, now_ms},
    refusal::{Done, Refusal},
};

/// A write that is the same whatever the keys hold.
pub(crate) enum Write<'a> {
    Put {
        key: &'a [u8],
        value: &'a [u8],
        /// In milliseconds since 1970.
        expiry: Option<u64>,
        when: When,
        done: Said,
        /// What is answered if it was not the time.
        refused: Said,
    },
    /// Keys and values by turns, behind the command's name.
    PutAll { pairs: Args<'a>, if_absent: bool },
    /// Of the keys behind the command's name, which a store can hold; answered with how many there were.
    Delete { keys: Args<'a> },
    /// Answered with the sum.
    Add { key: &'a [u8], by: i64 },
    /// All keys.
    Flush,
}

/// When a value is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Absent,
    Present,
}

/// An answer that is known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Ok,
    Null,
    Number(i64),
}

/// So many writes of a connection are under way at most,
const UNDER_WAY_MAX: usize = 1024;
/// or so many bytes, but for one that is larger.
const BYTES_UNDER_WAY_MAX: usize = 1 << 20;

type Commit = Pin<Box<dyn Future<Output = Result<Committed, Error>> + Send>>;

/// The writes of one connection that are under way.
#[derive(Default)]
pub(crate) struct Writes {
    /// Puts that are answered OK, not submitted yet, and how many commands they are.
    joined: Option<(Batch, usize)>,
    under_way: VecDeque<(Commit, Answer)>,
    bytes: usize,
}

/// What is answered once a batch is decided.
enum Answer {
    /// So many times OK.
    Joined(usize),
    /// If it was applied, and if its condition did not hold.
    Said(Said, Said),
    /// How many keys there were.
    Existed,
    Sum,
}

impl Write<'_> {
    /// Whether it goes into one batch with its neighbours.
    pub(crate) fn joins(&self) -> bool {
        matches!(self, Self::Put { when: When::Always, done: Said::Ok, .. })
    }

    /// Of keys and values.
    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::PutAll { pairs: words, .. } | Self::Delete { keys: words } => {
                words.from(1).map(<[u8]>::len).sum()
            }
            Self::Add { key, .. } => key.len(),
            Self::Flush => 0,
        }
    }
}

impl Said {
    fn say(self, reply: &mut Reply<'_>) {
        match self {
            Self::Ok => reply.simple("OK"),
            Self::Null => reply.null(),
            Self::Number(number) => reply.integer(number),
        }
    }
}

impl Writes {
    /// Whether all that was submitted is answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.joined.is_none() && self.under_way.is_empty()
    }

    /// Whether anything was submitted that is not answered.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether it is time to wait for what is under way.
    pub(crate) fn is_full(&self) -> bool {
        self.under_way.len() >= UNDER_WAY_MAX || self.bytes >= BYTES_UNDER_WAY_MAX
    }

    /// Takes a write on. Errors: it cannot be made; those before it are not concerned, and still to be answered first.
    pub(crate) fn take(&mut self, write: Write<'_>, store: &Store) -> Done {
        match write {
            Write::Put { key, value, expiry, when: When::Always, done: Said::Ok, .. } => {
                self.join(key, value, expiry, store)
            }
            other => {
                let bytes = other.bytes();
                let (batch, answer) = batch_of(other, store)?;
                self.bytes += bytes;
                self.submit_joined(store);
                self.submit(batch, answer, store);
                Ok(())
            }
        }
    }

    fn join(&mut self, key: &[u8], value: &[u8], expiry: Option<u64>, store: &Store) -> Done {
        check_key(key)?;
        let bytes = key.len() + value.len();
        if let Some((batch, commands)) = &mut self.joined
            && put(batch, key, value, expiry, now_ms(store)).is_ok()
        {
            *commands += 1;
            self.bytes += bytes;
            return Ok(());
        }
        // The first, or one for which there is no room.
        self.submit_joined(store);
        let mut batch = Batch::with_capacity(store.limits(), bytes);
        put(&mut batch, key, value, expiry, now_ms(store))?;
        self.joined = Some((batch, 1));
        self.bytes += bytes;
        Ok(())
    }

    /// Submits what was joined so far.
    pub(crate) fn submit_joined(&mut self, store: &Store) {
        if let Some((batch, commands)) = self.joined.take() {
            self.submit(batch, Answer::Joined(commands), store);
        }
    }

    fn submit(&mut self, batch: Batch, answer: Answer, store: &Store) {
        let commit = Box::pin(store.write(batch, WriteOptions::default()));
        self.under_way.push_back((commit, answer));
    }

    /// Waits until all is decided, and answers; refusals are handed to `note`.
    pub(crate) async fn settle(
        &mut self,
        store: &Store,
        reply: &mut Reply<'_>,
        mut note: impl FnMut(&Refusal),
    ) {
        self.submit_joined(store);
        while let Some((commit, answer)) = self.under_way.pop_front() {
            match commit.await {
                Ok(committed) => answer.write(committed, reply, &mut note),
                Err(e) => answer.refuse(&e.into(), reply, &mut note),
            }
        }
        self.bytes = 0;
    }
}

impl Answer {
    fn write(&self, committed: Committed, reply: &mut Reply<'_>, note: &mut impl FnMut(&Refusal)) {
        match (self, committed.refusal()) {
            (Self::Said(_, refused), Some(Void::Condition(_))) => refused.say(reply),
            (_, Some(void)) => self.refuse(&void.into(), reply, note),
            (Self::Joined(commands), None) => (0..*commands).for_each(|_| Said::Ok.say(reply)),
            (Self::Said(done, _), None) => done.say(reply),
            (Self::Existed, None) => reply.integer(committed.existed.into()),
            (Self::Sum, None) => match committed.sum() {
                Some(sum) => reply.integer(sum),
                None => self.refuse(&super::refusal::DEFECT, reply, note),
            },
        }
    }

    fn refuse(&self, refusal: &Refusal, reply: &mut Reply<'_>, note: &mut impl FnMut(&Refusal)) {
        let commands = if let Self::Joined(commands) = self { *commands } else { 1 };
        for _ in 0..commands {
            note(refusal);
            reply.error(refusal.text());
        }
    }
}

/// A put; one that has expired already is a delete.
fn put(batch: &mut Batch, key: &[u8], value: &[u8], expiry: Option<u64>, now_ms: u64) -> Result<(), Error> {
    match expiry {
        None => batch.put(key, value),
        Some(at) if at <= now_ms => batch.delete(key),
        Some(at) => batch.put_expiring(key, value, at),
    }
}

fn batch_of(write: Write<'_>, store: &Store) -> Done<(Batch, Answer)> {
    let mut batch = Batch::new(store.limits());
    let answer = match write {
        Write::Put { key, value, expiry, when, done, refused } => {
            check_key(key)?;
            match when {
                When::Always => {}
                When::Absent => batch.require(key, Condition::Absent)?,
                When::Present => batch.require(key, Condition::Present)?,
            }
            put(&mut batch, key, value, expiry, now_ms(store))?;
            Answer::Said(done, refused)
        }
        Write::PutAll { pairs, if_absent } => {
            for at in (1..pairs.len()).step_by(2) {
                let (key, value) = (pairs.get(at), pairs.get(at + 1));
                check_key(key)?;
                if if_absent {
                    batch.require(key, Condition::Absent)?;
                }
                batch.put(key, value)?;
            }
            match if_absent {
                true => Answer::Said(Said::Number(1), Said::Number(0)),
                false => Answer::Said(Said::Ok, Said::Ok),
            }
        }
        Write::Delete { keys } => {
            keys.from(1).try_for_each(|key| batch.delete(key))?;
            Answer::Existed
        }
        Write::Add { key, by } => {
            check_key(key)?;
            batch.add(key, by)?;
            Answer::Sum
        }
        Write::Flush => {
            batch.delete_range(&KeyRange::all())?;
            Answer::Said(Said::Ok, Said::Ok)
        }
    };
    Ok((batch, answer))
}
