//! Writes that read nothing. How those of a pipeline share commits is the business of [`crate::pipeline`]: neighbours that are
//! answered OK are applied together.

use esker_cluster::{Batch, Error, WriteOptions};
use esker_engine::{Committed, Condition, KeyRange, Refusal as Void};
use esker_wire::resp::Reply;

use super::{
    Args,
    keyspace::check_key,
    refusal::{Done, Refusal},
};
use crate::{
    access::Door,
    pipeline::{self, Awaiting},
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

/// The writes of one connection that are under way.
#[derive(Default)]
pub(crate) struct Writes(pipeline::Writes<Answer>);

/// What is answered once a batch is decided.
pub(crate) enum Answer {
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
        self.0.is_settled()
    }

    /// Whether anything was submitted that is not answered.
    pub(crate) fn is_under_way(&self) -> bool {
        self.0.is_under_way()
    }

    /// Whether it is time to wait for what is under way.
    pub(crate) fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Takes a write on, at this time in milliseconds since 1970. Errors: it cannot be made; those before it are not concerned, and still to be answered first.
    pub(crate) fn take(&mut self, write: Write<'_>, door: &Door, now_ms: u64) -> Done {
        match write {
            Write::Put { key, value, expiry, when: When::Always, done: Said::Ok, .. } => {
                check_key(key)?;
                Ok(self
                    .0
                    .join(door, key.len() + value.len(), |batch| put(batch, key, value, expiry, now_ms))?)
            }
            other => {
                let bytes = other.bytes();
                let (batch, answer) = batch_of(other, door, now_ms)?;
                self.0.submit(door, batch, WriteOptions::default(), bytes, answer);
                Ok(())
            }
        }
    }

    /// Waits until all is decided, and answers; refusals are handed to `note`.
    pub(crate) async fn settle(
        &mut self,
        door: &Door,
        reply: &mut Reply<'_>,
        mut note: impl FnMut(&Refusal),
    ) {
        let refuse = |refusal: &Refusal, reply: &mut Reply<'_>, note: &mut dyn FnMut(&Refusal)| {
            note(refusal);
            reply.error(refusal.text());
        };
        self.0
            .settle(door, |awaiting, decided| match (awaiting, decided) {
                (Awaiting::One(answer), Ok(committed)) => match answer.write(committed, reply) {
                    Ok(()) => {}
                    Err(refusal) => refuse(&refusal, reply, &mut note),
                },
                (Awaiting::One(_), Err(e)) => refuse(&e.into(), reply, &mut note),
                (Awaiting::Joined(commands), decided) => {
                    let decided = decided
                        .map_err(Refusal::from)
                        .and_then(|committed| committed.refusal().map_or(Ok(()), |void| Err(void.into())));
                    (0..commands).for_each(|_| match &decided {
                        Ok(()) => Said::Ok.say(reply),
                        Err(refusal) => refuse(refusal, reply, &mut note),
                    });
                }
            })
            .await;
    }
}

impl Answer {
    /// Errors: the write was not applied.
    fn write(&self, committed: Committed, reply: &mut Reply<'_>) -> Done {
        match (self, committed.refusal()) {
            (Self::Said(_, refused), Some(Void::Condition(_))) => refused.say(reply),
            (_, Some(void)) => return Err(void.into()),
            (Self::Said(done, _), None) => done.say(reply),
            (Self::Existed, None) => reply.integer(committed.existed.into()),
            (Self::Sum, None) => match committed.sum() {
                Some(sum) => reply.integer(sum),
                None => return Err(super::refusal::DEFECT),
            },
        }
        Ok(())
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

fn batch_of(write: Write<'_>, door: &Door, now_ms: u64) -> Done<(Batch, Answer)> {
    let mut batch = Batch::new(door.limits());
    let answer = match write {
        Write::Put { key, value, expiry, when, done, refused } => {
            check_key(key)?;
            match when {
                When::Always => {}
                When::Absent => batch.require(key, Condition::Absent)?,
                When::Present => batch.require(key, Condition::Present)?,
            }
            put(&mut batch, key, value, expiry, now_ms)?;
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
