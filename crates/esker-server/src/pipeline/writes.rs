//! Writes that read nothing, and how those of a pipeline share commits.
//!
//! Where the store keeps writes in the order in which they were submitted, none of a pipeline waits for the one before it;
//! neighbours that need no answer of their own go into one batch. Answers are written in order once all are decided:
//!
//! ```text
//! put a, put b, delete c, put d   ->   {put a, put b}, {delete c}, {put d}   submitted at once, answered in this order
//! ```

use std::collections::VecDeque;

use esker_cluster::{Batch, Error, WriteOptions};
use esker_engine::Committed;

use super::Commit;
use crate::access::Door;

/// So many writes of a connection are under way at most,
const UNDER_WAY_MAX: usize = 1024;
/// or so many bytes, but for one that is larger.
const BYTES_UNDER_WAY_MAX: usize = 1 << 20;

/// Who awaits the outcome of a batch.
#[derive(Debug)]
pub(crate) enum Awaiting<A> {
    /// So many writes that are answered alike.
    Joined(usize),
    /// One.
    One(A),
}

/// The writes of one connection that are under way; `A` says what one is answered.
pub(crate) struct Writes<A> {
    /// Puts that are not submitted yet, and how many requests they are.
    joined: Option<(Batch, usize)>,
    under_way: VecDeque<(Commit, Awaiting<A>)>,
    bytes: usize,
}

impl<A> Default for Writes<A> {
    fn default() -> Self {
        Self { joined: None, under_way: VecDeque::new(), bytes: 0 }
    }
}

impl<A> Writes<A> {
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

    /// Takes a put on, of so many bytes, in one batch with its neighbours. Errors: it cannot be made; those before it are not
    /// concerned.
    pub(crate) fn join(
        &mut self,
        door: &Door,
        bytes: usize,
        put: impl Fn(&mut Batch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if let Some((batch, requests)) = &mut self.joined
            && put(batch).is_ok()
        {
            *requests += 1;
            self.bytes += bytes;
            return Ok(());
        }
        // The first, or one for which there is no room.
        self.submit_joined(door);
        let mut batch = Batch::with_capacity(door.limits(), bytes);
        put(&mut batch)?;
        self.joined = Some((batch, 1));
        self.bytes += bytes;
        Ok(())
    }

    /// Submits what was joined so far.
    pub(crate) fn submit_joined(&mut self, door: &Door) {
        if let Some((batch, requests)) = self.joined.take() {
            let commit = Box::pin(door.write(batch, WriteOptions::default()));
            self.under_way.push_back((commit, Awaiting::Joined(requests)));
        }
    }

    /// Submits a batch of so many bytes, behind what was joined.
    pub(crate) fn submit(
        &mut self,
        door: &Door,
        batch: Batch,
        options: WriteOptions,
        bytes: usize,
        answer: A,
    ) {
        self.submit_joined(door);
        self.bytes += bytes;
        self.under_way.push_back((Box::pin(door.write(batch, options)), Awaiting::One(answer)));
    }

    /// Waits until all is decided, and has each answered in order.
    pub(crate) async fn settle(
        &mut self,
        door: &Door,
        mut answer: impl FnMut(Awaiting<A>, Result<Committed, Error>),
    ) {
        self.submit_joined(door);
        while let Some((commit, awaiting)) = self.under_way.pop_front() {
            answer(awaiting, commit.await);
        }
        self.bytes = 0;
    }
}
