//! What a connection has said of itself: protocol, name, transaction.

use std::{collections::HashMap, sync::Arc};

use esker_engine::Version;
use esker_wire::resp::{Command, Commands, Protocol};

use super::{
    clients::Client,
    refusal::{Done, Refusal},
    table::Spec,
};
use crate::{access::Door, http::Front};

/// The state of a connection, between commands.
pub(crate) struct Session {
    /// The Store, as whoever this is may use it.
    pub(crate) door: Door,
    pub(crate) client: Arc<Client>,
    pub(crate) protocol: Protocol,
    pub(crate) answers: Answers,
    pub(crate) transaction: Option<Transaction>,
    /// The keys that EXEC depends on, and the versions that they were at; `None`: absent.
    pub(crate) watched: HashMap<Vec<u8>, Option<Version>>,
    watched_bytes: usize,
}

/// Whether commands are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    On,
    Off,
    /// This command is not, and the next one either.
    SkipNext,
    /// This command is not.
    Skip,
}

/// Commands between MULTI and EXEC.
#[derive(Default)]
pub(crate) struct Transaction {
    specs: Vec<&'static Spec>,
    commands: Commands,
    /// Whether a command could not be queued: EXEC will do nothing.
    pub(crate) is_spoiled: bool,
}

impl Session {
    pub(crate) fn new(door: Door, client: Arc<Client>) -> Self {
        client.told().user = user_of(&door);
        Self {
            door,
            client,
            protocol: Protocol::Resp2,
            answers: Answers::On,
            transaction: None,
            watched: HashMap::new(),
            watched_bytes: 0,
        }
    }

    /// Becomes another caller.
    pub(crate) fn enter(&mut self, door: Door) {
        self.client.told().user = user_of(&door);
        self.door = door;
    }

    /// As it was when the connection was opened.
    pub(crate) fn reset(&mut self) {
        self.protocol = Protocol::Resp2;
        self.answers = Answers::On;
        self.transaction = None;
        self.unwatch();
        self.enter(self.door.anonymous());
        self.client.told().name.clear();
        self.client.told().resp = 2;
    }

    /// Watches a key that is at this version now. One that is watched already stays as it was.
    pub(crate) fn watch(&mut self, key: &[u8], version: Option<Version>) -> Done {
        let limits = self.door.limits();
        if self.watched.contains_key(key) {
            return Ok(());
        }
        if self.watched.len() >= limits.batch_ops || self.watched_bytes + key.len() > limits.batch_bytes {
            return Err(Refusal::new("ERR too many keys are watched: a transaction has a bounded size"));
        }
        self.watched_bytes += key.len();
        self.watched.insert(key.to_vec(), version);
        Ok(())
    }

    pub(crate) fn unwatch(&mut self) {
        self.watched = HashMap::new();
        self.watched_bytes = 0;
    }

    /// Bytes of memory that it takes.
    pub(crate) fn held(&self) -> usize {
        /// What a watched key takes beyond its own bytes, about.
        const WATCHED: usize = 64;
        let queued = self.transaction.as_ref().map_or(0, Transaction::held);
        queued + self.watched_bytes + WATCHED * self.watched.len()
    }

    /// What others are told of it.
    pub(crate) fn tell(&self, command: &'static str, now: tokio::time::Instant) {
        let mut told = self.client.told();
        told.command = command;
        told.active = now;
        told.resp = if self.protocol == Protocol::Resp3 { 3 } else { 2 };
        told.queued = self.transaction.as_ref().map(Transaction::len);
        told.watched = self.watched.len();
    }
}

/// The user's name. Whoever is none has the name of everybody.
pub(crate) fn user_of(door: &Door) -> String {
    door.user().map_or_else(|| "default".into(), |user| user.name.clone())
}

impl Transaction {
    /// Queues a command. Errors: the transaction is as large as one may be.
    pub(crate) fn push(&mut self, spec: &'static Spec, command: Command<'_>, front: &Front) -> Done {
        let limits = front.limits();
        let is_full = self.specs.len() >= limits.batch_ops || self.commands.held() > limits.batch_bytes;
        if is_full || !self.commands.copy(command) {
            return Err(Refusal::new("ERR the transaction is larger than one may be: split it"));
        }
        self.specs.push(spec);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.specs.len()
    }

    fn held(&self) -> usize {
        self.commands.held() + size_of::<&Spec>() * self.specs.capacity()
    }

    /// The commands, in their order.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&'static Spec, Command<'_>)> {
        self.specs.iter().enumerate().map(|(at, spec)| (*spec, self.commands.get(at, &[])))
    }
}
