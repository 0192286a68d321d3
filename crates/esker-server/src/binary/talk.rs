//! A connection's requests, from its bytes to their answers.

use std::{sync::Arc, time::Duration};

use esker_cluster::metrics::Counter;
use esker_wire::{
    ErrorCode,
    binary::{Frame, Malformed, Parser, ParserLimits, Request, Verb},
};

use super::execute::Executor;
use crate::{
    access::{Arrival, Door},
    http::{ApiError, Front},
    pipeline::{Foresight, Out, REQUESTS_MAX, Speaks, Step, Told},
};

/// See the module.
pub(super) struct Talk {
    parser: Parser,
    frames: Vec<Frame>,
    /// Which request is next.
    next: usize,
    foresight: Foresight,
    executor: Executor,
    malformed: Option<Malformed>,
}

impl Talk {
    pub(super) fn new(door: Door) -> Self {
        let limits = door.limits();
        let parser = Parser::new(ParserLimits {
            value_bytes: limits.value_bytes,
            batch_ops: limits.batch_ops,
            batch_bytes: limits.batch_bytes,
        });
        let executor = Executor::new(door);
        let foresight = Foresight::default();
        Self { parser, frames: Vec::new(), next: 0, foresight, executor, malformed: None }
    }
}

impl Speaks for Talk {
    fn front(&self) -> &Arc<Front> {
        self.executor.door.front()
    }

    fn arrival(&self) -> &Arrival {
        self.executor.door.arrival()
    }

    fn stalled(&self) -> &Counter {
        &self.front().binary.metrics.connections_stalled
    }

    fn idle_limit(&self) -> Duration {
        self.front().config.timeouts.idle
    }

    fn parse(&mut self, input: &[u8]) -> usize {
        while self.frames.len() < REQUESTS_MAX && self.malformed.is_none() {
            match self.parser.parse(input) {
                Ok(Some(frame)) => self.frames.push(frame),
                Ok(None) => break,
                Err(e) => self.malformed = Some(e),
            }
        }
        self.executor.begin();
        self.frames.len()
    }

    async fn step(&mut self, input: &[u8]) -> Step {
        if self.executor.is_scanning() {
            return self.executor.scan_on().await;
        }
        let Some(frame) = self.frames.get(self.next) else { return Step::Done };
        let read_key = |at: usize| read_key(&self.frames.get(at)?.request(input));
        self.foresight.look(&self.executor.door, self.next, self.frames.len(), read_key);
        self.next += 1;
        self.executor.run(frame.request(input)).await;
        Step::GoOn
    }

    async fn settle(&mut self) {
        self.executor.settle().await;
    }

    fn answered(&mut self, _took: Duration) {
        // Each request was counted when it was answered, but for a range that was cut off.
        self.executor.give_up();
        self.frames.clear();
        self.foresight.forget();
        self.next = 0;
    }

    fn refuse_malformed(&mut self) -> bool {
        let Some(Malformed { code, message }) = self.malformed.take() else { return false };
        self.executor.refuse_for_good(code, &message);
        true
    }

    fn refuse_received(&mut self) {
        let why = "the requests that are being received fill the memory for them";
        self.executor.refuse(&ApiError::new(ErrorCode::TooManyRequests, why), false);
    }

    fn refuse_stranger(&mut self) -> bool {
        let Err(e) = self.executor.door.may_know("receive") else { return false };
        self.executor.refuse(&e.into(), false);
        true
    }

    fn start(&self) -> usize {
        self.parser.start()
    }

    fn has_shown(&self) -> bool {
        self.executor.has_shown
    }

    fn forget(&mut self) {
        self.executor.has_shown = false;
        self.parser.forget();
    }

    fn is_within(&self, input: &[u8]) -> bool {
        self.parser.is_within(input)
    }

    fn missing(&self, input: &[u8]) -> usize {
        self.parser.missing(input)
    }

    fn held(&self) -> (usize, usize) {
        (size_of::<Frame>() * self.frames.capacity(), 0)
    }

    fn out(&mut self) -> &mut Out {
        &mut self.executor.out
    }

    fn last<'a>(&'a self, input: &'a [u8]) -> Told<'a> {
        let last = self.next.checked_sub(1).and_then(|at| self.frames.get(at));
        let key = last.and_then(|frame| key_of(&frame.request(input)));
        Told { operation: self.executor.last(), key }
    }
}

/// The key, or where the range begins. What begins other requests may be a token.
fn key_of<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    let has_one = matches!(
        request.header.verb,
        Verb::Get | Verb::Head | Verb::Put | Verb::Del | Verb::Incr | Verb::Range | Verb::DelRange
    );
    has_one.then(|| request.first())
}

/// The key of a request that reads one key.
fn read_key<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    matches!(request.header.verb, Verb::Get | Verb::Head).then(|| request.first())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test_service;

    #[tokio::test]
    async fn what_was_shown_is_known_until_it_is_cut_off() {
        let (service, _dir) = test_service();
        let mut talk = Talk::new(service.door().clone());
        for (input, is_secret) in [(&b"PING\nAUTH 5\ntokenPING\n"[..], true), (b"PING\nPING\n", false)] {
            assert!(talk.parse(input) >= 2);
            while talk.step(input).await == Step::GoOn {}
            talk.settle().await;
            assert_eq!(talk.has_shown(), is_secret);
            assert_eq!(talk.start(), input.len());
            talk.forget();
            assert!(!talk.has_shown());
        }
    }
}
