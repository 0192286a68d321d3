//! From a request to its answer. Everything that this front asks of the store is asked here.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use esker_cluster::{Consistency, Error, ScanOptions};
use esker_engine::{Committed, Entry, KeyRange, Version};
use esker_wire::{
    ErrorCode, KEY_LEN_MAX,
    binary::{Answer, Extras, Header, MALFORMED, Options, Request, TOO_LARGE, Verb, write_answer},
};
use serde::Serialize;

use super::{
    auth, refusal,
    writes::{Pending, batch_of, joins, put, write_options},
};
use crate::{
    access::{Door, GuardedScan, Right},
    http::{
        ApiError, ROOM_PATIENCE, Room, admit, answers_fill_budget, nodes_answer, share_of, status_answer,
    },
    pipeline::{Awaiting, Out, Step, Writes},
};

/// What stands around a value.
const VALUE_AROUND: usize = 64;
/// When to come back to a server that is shutting down, or rather to another one.
const DRAINING_RETRY_MS: u64 = 1000;

/// Runs the requests of one connection.
pub(super) struct Executor {
    /// The Store, as whoever this is may use it.
    pub(super) door: Door,
    pub(super) out: Out,
    writes: Writes<Pending>,
    /// The range that is being answered.
    scan: Option<Scanning>,
    /// Whether reads see all that was acknowledged before the requests at hand were read.
    is_fresh: bool,
    /// When they had been read.
    arrived: Duration,
    /// Whether there was a secret among the requests at hand.
    pub(super) has_shown: bool,
    last: Verb,
}

/// A range under way.
struct Scanning {
    scan: GuardedScan,
    options: Options,
    /// Pairs that may still be sent.
    pairs_left: u64,
    /// Bytes after which it ends.
    bytes_left: u64,
}

/// What comes next of a range.
enum Part {
    /// It is answered.
    Sent,
    /// It is not there yet, and what was answered before has room that others may wait for.
    Later,
    /// Nothing; `next`: the range was cut off where the request wanted it, and there is more behind.
    End { next: bool },
}

impl Executor {
    pub(super) fn new(door: Door) -> Self {
        Self {
            out: Out::new(&door),
            writes: Writes::default(),
            scan: None,
            is_fresh: false,
            arrived: Duration::ZERO,
            has_shown: false,
            last: Verb::Ping,
            door,
        }
    }

    /// Requests have arrived: what others were told until now they have to see.
    pub(super) fn begin(&mut self) {
        self.is_fresh = false;
        self.arrived = self.door.clock().monotonic();
        if self.door.access.is_locked() {
            self.door.refresh();
        }
    }

    /// The last request's name.
    pub(super) fn last(&self) -> &'static str {
        self.last.as_str()
    }

    /// Runs a request. What it is answered is in `out` once [`Executor::settle`] has been waited for, but for a range, which
    /// has only begun.
    pub(super) async fn run(&mut self, request: Request<'_>) {
        let Header { verb, options, .. } = request.header;
        self.last = verb;
        self.has_shown |= verb == Verb::Auth;
        if self.door.drain.has_begun() {
            self.settle().await;
            self.try_later(DRAINING_RETRY_MS, ErrorCode::Draining, options.more);
            return;
        }
        match verb {
            Verb::Put | Verb::Del | Verb::Incr | Verb::DelRange | Verb::Bput | Verb::Batch => {
                self.write(&request).await;
            }
            _ => {
                self.settle().await;
                if let Err(e) = self.read(&request).await {
                    self.refuse(&e, options.more);
                }
                if self.scan.is_none() {
                    self.done(verb);
                }
            }
        }
    }

    async fn write(&mut self, request: &Request<'_>) {
        let options = &request.header.options;
        let (joins, keeps_order) = (joins(request), self.door.binary.keeps_order || options.unordered);
        if !keeps_order && !joins {
            self.settle().await;
        }
        let taken = self.take(request, joins);
        let waits = !keeps_order && (!joins || self.writes.is_under_way());
        if taken.is_err() || waits || self.writes.is_full() {
            self.settle().await;
        }
        if let Err(e) = taken {
            self.refuse(&e, options.more);
            self.done(request.header.verb);
        }
    }

    /// Submits a write, or has it wait for its neighbours. Errors: it cannot be made.
    fn take(&mut self, request: &Request<'_>, joins: bool) -> Result<(), ApiError> {
        let now_ms = self.door.now_ms();
        if joins {
            check_key(request.first())?;
            // Else the neighbours would be refused with it.
            self.door.may(Right::Write, request.first())?;
            return Ok(self
                .writes
                .join(&self.door, request.body_len(), |batch| put(batch, request, now_ms))?);
        }
        let (batch, pending) = batch_of(request, self.door.limits(), now_ms)?;
        let options = write_options(&request.header.options)?;
        self.writes.submit(&self.door, batch, options, request.body_len(), pending);
        Ok(())
    }

    /// Waits for the writes under way and answers them.
    pub(super) async fn settle(&mut self) {
        if self.writes.is_settled() {
            return;
        }
        self.is_fresh = false;
        let Self { door, out, writes, arrived, .. } = self;
        let mut say = |verb: Verb, more: bool, decided: &Result<Answer<&[u8]>, ApiError>| {
            match decided {
                Ok(answer) => write_answer(&mut out.bytes, answer),
                Err(e) => refuse(door, out, e, more),
            }
            door.binary.metrics.record(verb, door.clock().monotonic().saturating_sub(*arrived));
        };
        let settled = writes.settle(door, |awaiting, decided| match awaiting {
            Awaiting::One(pending) => {
                let decided = applied(decided).map(|committed| pending.answer(&committed));
                say(pending.verb, pending.more, &decided);
            }
            Awaiting::Joined(requests) => {
                let answer = |committed: Committed| Answer::Ok {
                    version: committed.version,
                    extras: Extras::default(),
                };
                let decided = applied(decided).map(answer);
                (0..requests).for_each(|_| say(Verb::Put, false, &decided));
            }
        });
        settled.await;
    }

    async fn read(&mut self, request: &Request<'_>) -> Result<(), ApiError> {
        match request.header.verb {
            Verb::Get => self.get(request).await,
            Verb::Head => self.head(request).await,
            Verb::Mget => self.multi_get(request).await,
            Verb::Range => self.begin_scan(request).await,
            Verb::Status => self.info(&status_answer(&self.door)?),
            Verb::Nodes => self.info(&nodes_answer(&self.door)?),
            Verb::Auth => {
                let (answer, door) = auth::enter(&self.door, request.first()).await;
                self.door = door;
                self.say(&answer);
                Ok(())
            }
            _ => {
                self.say(&Answer::<&[u8]>::Pong);
                Ok(())
            }
        }
    }

    async fn get(&mut self, request: &Request<'_>) -> Result<(), ApiError> {
        check_key(request.first())?;
        let extras = self.read_point(&request.header.options).await?;
        let found = self.door.get(request.first()).await?;
        let mark = self.out.bytes.len();
        self.say_entry(found, &request.header.options, extras);
        self.admit(mark)
    }

    fn say_entry(&mut self, found: Option<Entry>, options: &Options, extras: Extras) {
        match found {
            None => self.say(&Answer::<&[u8]>::NotFound { extras }),
            Some(Entry { value, version, expiry }) => {
                let extras = Extras { expires: expiry.filter(|_| options.more), ..extras };
                self.say(&Answer::Value { value, version, extras });
            }
        }
    }

    async fn head(&mut self, request: &Request<'_>) -> Result<(), ApiError> {
        let (key, options) = (request.first(), &request.header.options);
        check_key(key)?;
        let extras = self.read_point(options).await?;
        let Some(meta) = self.door.meta(key)? else {
            self.say(&Answer::<&[u8]>::NotFound { extras });
            return Ok(());
        };
        let extras = |expiry: Option<u64>| Extras { expires: expiry.filter(|_| options.more), ..extras };
        let answer: Answer<&[u8]> = match meta.value_len {
            Some(len) => Answer::Meta { len, version: meta.version, extras: extras(meta.expiry) },
            // Only the value itself tells how long one is that is stored compressed.
            None => match self.door.get(key).await? {
                None => Answer::NotFound { extras: extras(None) },
                Some(Entry { value, version, expiry }) => {
                    Answer::Meta { len: value.len() as u64, version, extras: extras(expiry) }
                }
            },
        };
        self.say(&answer);
        Ok(())
    }

    async fn multi_get(&mut self, request: &Request<'_>) -> Result<(), ApiError> {
        let options = &request.header.options;
        let keys: Vec<Vec<u8>> = request.items().keys().map(<[u8]>::to_vec).collect();
        keys.iter().try_for_each(|key| check_key(key))?;
        let extras = self.read_point(options).await?;
        // What can be written in one request can be read in one.
        let limit = self.door.limits().batch_bytes;
        let room = Arc::new(Room::new(&self.door, limit));
        let admit = Arc::clone(&room);
        let read = self.door.multi_get(keys, move |bytes| admit.take(bytes)).await;
        let (_share, no_room) = room.close();
        let entries =
            read.map_err(|e| no_room.map_or_else(|| e.into(), |no_room| no_room.told(&self.door)))?;
        let mark = self.out.bytes.len();
        // As much as is needed: what grows by doubling takes twice that.
        let bytes =
            |found: &Option<Entry>| VALUE_AROUND + found.as_ref().map_or(0, |entry| entry.value.len());
        self.out.bytes.reserve_exact(entries.iter().map(bytes).sum());
        self.say(&Answer::<&[u8]>::Values { count: entries.len() as u64, extras });
        entries.into_iter().for_each(|found| self.say_entry(found, options, Extras::default()));
        self.admit(mark)
    }

    async fn begin_scan(&mut self, request: &Request<'_>) -> Result<(), ApiError> {
        let Header { options, limit, .. } = request.header;
        let extras = self.read_point(&options).await?;
        // One pair more tells whether there is more.
        let asked = limit.map(|limit| limit.saturating_add(options.more.into()));
        let scan = ScanOptions { reverse: options.reverse, keys_only: options.keys, limit: asked };
        let scan = self.door.scan(&range_of(request), scan)?;
        let scan = scan.admitting(admit(&self.door.answer_budget), ROOM_PATIENCE);
        if extras.applied.is_some() {
            self.say(&Answer::<&[u8]>::Pairs { count: 0, extras });
        }
        self.scan = Some(Scanning {
            scan,
            options,
            pairs_left: limit.unwrap_or(u64::MAX),
            bytes_left: options.page.unwrap_or(u64::MAX),
        });
        Ok(())
    }

    /// Whether a range is being answered.
    pub(super) fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    /// Answers the next part of the range, or its end.
    pub(super) async fn scan_on(&mut self) -> Step {
        let Some(mut scanning) = self.scan.take() else { return Step::GoOn };
        let more = scanning.options.more;
        match self.next_part(&mut scanning).await {
            Ok(Part::Sent) => {
                self.scan = Some(scanning);
                return Step::GoOn;
            }
            Ok(Part::Later) => {
                self.scan = Some(scanning);
                return Step::Flush;
            }
            Ok(Part::End { next }) => self.say(&Answer::<&[u8]>::End { next: next && more }),
            Err(e) => self.refuse(&e, more),
        }
        self.done(Verb::Range);
        Step::GoOn
    }

    /// Nobody waits for the rest of the range any more, if there is one: it was a request as well.
    pub(super) fn give_up(&mut self) {
        if self.scan.take().is_some() {
            self.done(Verb::Range);
        }
    }

    async fn next_part(&mut self, scanning: &mut Scanning) -> Result<Part, ApiError> {
        if scanning.is_through() && !scanning.options.more {
            return Ok(Part::End { next: false });
        }
        // Whoever waits for room holds none: the others wait for it, too.
        let holds_room = self.out.share.bytes() > 0;
        let next = poll_fn(|cx| match scanning.scan.poll_next_chunk(cx) {
            Poll::Pending if holds_room => Poll::Ready(None),
            polled => polled.map(Some),
        });
        let Some(next) = next.await else { return Ok(Part::Later) };
        let Some(chunk) = next else { return Ok(Part::End { next: false }) };
        let chunk = chunk?;
        let count = scanning.take(chunk.iter().map(|item| {
            let value_len = item.value.as_ref().map_or(0, |value| value.len());
            (item.key.len() + value_len) as u64
        }));
        // It goes over to the answer.
        self.out.share.join(share_of(scanning.scan.take_room(), &self.door.answer_budget));
        if count > 0 {
            self.say(&Answer::<&[u8]>::Pairs { count: count as u64, extras: Extras::default() });
        }
        for item in &chunk[..count] {
            let value: &[u8] = item.value.as_deref().unwrap_or_default();
            let meta = scanning.options.more.then(|| (item.version, item.expiry.unwrap_or(0)));
            self.say(&Answer::Pair { key: item.key.as_slice(), value, meta });
        }
        Ok(if count < chunk.len() { Part::End { next: true } } else { Part::Sent })
    }

    /// Waits until reads see what they are to see; says what the answer tells of it.
    async fn read_point(&mut self, options: &Options) -> Result<Extras, ApiError> {
        if options.stale {
            let applied: Version = self.door.read_point(Consistency::Stale).await?;
            return Ok(Extras { applied: options.more.then_some(applied), ..Extras::default() });
        }
        if !self.is_fresh {
            self.door.read_point(Consistency::Linearizable).await?;
            self.is_fresh = true;
        }
        Ok(Extras::default())
    }

    fn info(&mut self, answer: &impl Serialize) -> Result<(), ApiError> {
        let json = serde_json::to_vec(answer)
            .map_err(|e| ApiError::new(ErrorCode::Internal, format!("the answer is no JSON: {e}")))?;
        self.say(&Answer::Info(json));
        Ok(())
    }

    fn say<B: AsRef<[u8]>>(&mut self, answer: &Answer<B>) {
        write_answer(&mut self.out.bytes, answer);
    }

    /// Takes a long answer back if there is no room for it.
    fn admit(&mut self, mark: usize) -> Result<(), ApiError> {
        if self.out.admit(mark) {
            return Ok(());
        }
        self.out.bytes.truncate(mark);
        Err(answers_fill_budget(&self.door))
    }

    fn try_later(&mut self, retry_ms: u64, code: ErrorCode, more: bool) {
        self.door.binary.metrics.errors.add_one();
        self.say(&refusal::try_later::<&[u8]>(retry_ms, code, more));
    }

    /// Answers with an error.
    pub(super) fn refuse(&mut self, error: &ApiError, more: bool) {
        refuse(&self.door, &mut self.out, error, more);
    }

    /// Answers to what was no request, or none that is taken: nothing behind it is looked at, which its code says.
    pub(super) fn refuse_for_good(&mut self, code: ErrorCode, message: &str) {
        self.door.binary.metrics.errors.add_one();
        let code = if code == ErrorCode::BadRequest { MALFORMED } else { TOO_LARGE };
        let message = message.as_bytes();
        self.say(&Answer::Error { code: code.into(), message, extras: Extras::default() });
    }

    /// A request is answered.
    fn done(&self, verb: Verb) {
        let took = self.door.clock().monotonic().saturating_sub(self.arrived);
        self.door.binary.metrics.record(verb, took);
    }
}

impl Scanning {
    fn is_through(&self) -> bool {
        self.pairs_left == 0 || self.bytes_left == 0
    }

    /// How many of the pairs of these lengths are still to be sent.
    fn take(&mut self, lengths: impl Iterator<Item = u64>) -> usize {
        let mut count = 0;
        for len in lengths {
            if self.is_through() {
                break;
            }
            self.pairs_left -= 1;
            self.bytes_left = self.bytes_left.saturating_sub(len);
            count += 1;
        }
        count
    }
}

fn refuse(door: &Door, out: &mut Out, error: &ApiError, more: bool) {
    door.binary.metrics.errors.add_one();
    if let Some(damage) = error.damage() {
        door.damage_found(damage);
    }
    write_answer(&mut out.bytes, &refusal::answer(error, more));
}

/// What came of a batch; an error of one that was not applied.
fn applied(decided: Result<Committed, Error>) -> Result<Committed, ApiError> {
    let committed = decided?;
    committed.refusal().map_or(Ok(committed), |refusal| Err(refusal.into()))
}

/// Refuses a key that no store can hold. Longer ones than may be were refused with their header.
pub(super) fn check_key(key: &[u8]) -> Result<(), ApiError> {
    debug_assert!(key.len() <= KEY_LEN_MAX);
    match key {
        b"" => Err(ApiError::bad_request("a key has at least one byte")),
        _ => Ok(()),
    }
}

/// The range that a request reads.
fn range_of(request: &Request<'_>) -> KeyRange {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let options = &request.header.options;
    if options.prefix {
        return KeyRange::prefix(request.first());
    }
    let bound = |key: &[u8], is_open: bool| match key {
        b"" => Unbounded,
        key if is_open => Excluded(key.to_vec()),
        key => Included(key.to_vec()),
    };
    let (start, end) = (request.first(), request.second());
    KeyRange { start: bound(start, options.after), end: bound(end, options.before) }
}
