//! A connection's commands, from its bytes to their answers.

use std::{sync::Arc, time::Duration};

use esker_cluster::metrics::Counter;
use esker_wire::resp::{Commands, Parser, ParserLimits, ProtocolError};
use tokio::time::Instant;

use super::{Args, clients::Client, execute::Executor, refusal::Refusal, session::Session, table::find};
use crate::{
    access::{Arrival, Door},
    http::Front,
    pipeline::{Foresight, Out, REQUESTS_MAX, Speaks, Step, Told},
};

const TOO_MUCH_UNDER_WAY: Refusal = Refusal::new(
    "OOM the commands that are being received fill the memory for them: retry later, or send smaller ones",
);

/// A place in the list of clients.
pub(super) struct Entered {
    front: Arc<Front>,
    pub(super) client: Arc<Client>,
}

impl Entered {
    pub(super) fn new(front: Arc<Front>, client: Arc<Client>) -> Self {
        Self { front, client }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.front.resp.clients.leave(self.client.id);
    }
}

/// See the module.
pub(super) struct Talk {
    parser: Parser,
    commands: Commands,
    /// Which command is next.
    next: usize,
    foresight: Foresight,
    executor: Executor,
    malformed: Option<ProtocolError>,
}

impl Talk {
    pub(super) fn new(door: Door, client: Arc<Client>) -> Self {
        let limits = door.limits();
        let parser = Parser::new(ParserLimits {
            argument_bytes: limits.value_bytes.max(esker_wire::KEY_LEN_MAX),
            // What separates the arguments is little beside them, unless they are tiny.
            command_bytes: limits.batch_bytes.max(limits.value_bytes).saturating_mul(2).min(1 << 31),
            ..ParserLimits::default()
        });
        let executor = Executor::new(Session::new(door, client));
        Self {
            parser,
            commands: Commands::default(),
            next: 0,
            foresight: Foresight::default(),
            executor,
            malformed: None,
        }
    }
}

impl Speaks for Talk {
    fn front(&self) -> &Arc<Front> {
        self.executor.session.door.front()
    }

    fn arrival(&self) -> &Arrival {
        self.executor.session.door.arrival()
    }

    fn stalled(&self) -> &Counter {
        &self.front().resp.metrics.connections_stalled
    }

    fn idle_limit(&self) -> Duration {
        self.front().config.timeouts.resp_idle
    }

    fn parse(&mut self, input: &[u8]) -> usize {
        while self.commands.len() < REQUESTS_MAX && self.malformed.is_none() {
            match self.parser.parse(input, &mut self.commands) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => self.malformed = Some(e),
            }
        }
        self.executor.begin();
        self.commands.len()
    }

    async fn step(&mut self, input: &[u8]) -> Step {
        if self.next == self.commands.len() {
            return Step::Done;
        }
        // What is queued is read when all of it is run.
        let is_queued = self.executor.session.transaction.is_some();
        let read_key = |at: usize| if is_queued { None } else { read_key(self.commands.get(at, input)) };
        self.foresight.look(&self.executor.session.door, self.next, self.commands.len(), read_key);
        self.next += 1;
        self.executor.run(self.commands.get(self.next - 1, input)).await
    }

    async fn settle(&mut self) {
        self.executor.settle().await;
    }

    fn written(&mut self) {
        self.executor.forget_time();
    }

    fn answered(&mut self, took: Duration) {
        self.executor.answered(took);
        self.executor.session.tell(self.executor.last, Instant::now());
        self.commands.clear();
        self.foresight.forget();
        self.next = 0;
    }

    fn refuse_malformed(&mut self) -> bool {
        let Some(e) = self.malformed.take() else { return false };
        self.executor.refuse(&e.to_string().replacen("Protocol", "ERR Protocol", 1).into());
        true
    }

    fn refuse_received(&mut self) {
        self.executor.refuse(&TOO_MUCH_UNDER_WAY);
    }

    fn refuse_stranger(&mut self) -> bool {
        let Err(e) = self.executor.session.door.may_know("receive") else { return false };
        self.executor.refuse(&e.into());
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
        (self.parser.held() + self.commands.held(), self.executor.session.held())
    }

    fn out(&mut self) -> &mut Out {
        &mut self.executor.out
    }

    fn last<'a>(&'a self, input: &'a [u8]) -> Told<'a> {
        let last = self.next.checked_sub(1).map(|at| self.commands.get(at, input));
        let key = last.and_then(|args| find(args).ok()?.1.keys.of(args).next());
        Told { operation: self.executor.last, key }
    }
}

/// The first key of a command that reads it before it does anything else.
fn read_key(args: Args<'_>) -> Option<&[u8]> {
    let (_, spec) = find(args).ok()?;
    if spec.plain.is_some() { None } else { spec.keys.of(args).next() }
}

#[cfg(test)]
mod tests {
    use esker_log::clock::ManualClock;

    use super::*;
    use crate::http::{test_service, test_service_at};

    /// What came together is one batch, but a client that takes its time over an answer in the middle does not shorten a lock.
    #[tokio::test]
    async fn a_lock_counts_from_its_own_command() {
        let clock = Arc::new(ManualClock::default());
        let (service, _dir) = test_service_at(Arc::clone(&clock));
        let door = service.door().clone();
        let client = service.front().resp.clients.enter(1, None, None);
        let mut talk = Talk::new(door.clone(), client);
        let input = b"SET a 1\r\nSET b 1\r\nSET first v PX 5000\r\nGET a\r\nSET second v PX 5000\r\n";
        assert_eq!(talk.parse(input), 5);
        let expiry = |key: &'static [u8]| {
            let door = door.clone();
            async move { door.get(key).await.unwrap().unwrap().expiry }
        };
        assert_eq!(talk.step(input).await, Step::GoOn);
        clock.advance(Duration::from_secs(6));
        talk.written();
        assert_eq!(talk.step(input).await, Step::GoOn);
        assert_eq!(talk.step(input).await, Step::GoOn);
        talk.settle().await;
        assert_eq!(expiry(b"first").await, Some(door.now_ms() + 5000));
        // Whatever is waited for is as good as a client.
        assert_eq!(talk.step(input).await, Step::GoOn);
        clock.advance(Duration::from_secs(6));
        assert_eq!(talk.step(input).await, Step::GoOn);
        talk.settle().await;
        assert_eq!(expiry(b"second").await, Some(door.now_ms() + 5000));
    }

    #[tokio::test]
    async fn what_was_shown_is_known_until_it_is_cut_off() {
        let (service, _dir) = test_service();
        let front = service.front();
        let client = front.resp.clients.enter(1, None, None);
        let mut talk = Talk::new(service.door().clone(), client);
        let wrong = b"AUTH too many words here\r\nPING\r\n";
        for (input, is_secret) in [
            (&b"PING\r\nauth token\r\nPING\r\n"[..], true),
            (b"HELLO 3 AUTH default token\r\nPING\r\n", true),
            (wrong, true),
            (b"PING\r\nPING\r\n", false),
        ] {
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
