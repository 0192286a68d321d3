//! Clients that write all the time, and the account of what was acknowledged to them.
//!
//! Client `c` writes the keys `demo/c/1`, `demo/c/2` and so on, the next one when the last one was acknowledged: so how many
//! were acknowledged says which.

use std::{sync::Arc, time::Duration};

use esker_client::{Client, Consistency, Item, Query, Range};
use esker_log::clock::{Clock, SystemClock};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::exit::Failure;

/// How many clients write.
pub(super) const CLIENTS: usize = 4;
/// A client writes no more often than this: it is the cluster that is to be shown, not how much work it can be given.
const WRITE_INTERVAL: Duration = Duration::from_millis(5);
const PREFIX: &str = "demo/";

/// What came of the writes so far.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// How many each client had acknowledged.
    acknowledged: [u64; CLIENTS],
    /// When one was acknowledged last, and the longest time without since gaps are watched.
    last: Duration,
    longest_gap: Duration,
    failed: Option<String>,
}

impl Progress {
    fn total(&self) -> u64 {
        self.acknowledged.iter().sum()
    }
}

/// See the module. Dropping it gives up what is under way.
pub(super) struct Writers {
    clients: Vec<Client>,
    clock: Arc<SystemClock>,
    progress: watch::Sender<Progress>,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Writers {
    /// Clients that know all these endpoints. They do not write yet.
    pub(super) fn new(endpoints: &str) -> Result<Self, Failure> {
        let clients = (0..CLIENTS).map(|_| Client::new(endpoints)).collect::<Result<_, _>>()?;
        Ok(Self {
            clients,
            clock: Arc::default(),
            progress: watch::Sender::default(),
            stopping: watch::Sender::default(),
            tasks: JoinSet::new(),
        })
    }

    /// Has them begin.
    pub(super) fn start(&mut self) {
        for (number, client) in self.clients.iter().enumerate() {
            let (progress, clock) = (self.progress.clone(), Arc::clone(&self.clock));
            self.tasks.spawn(write(number, client.clone(), progress, clock, self.stopping.subscribe()));
        }
    }

    /// Waits until what is under way has been answered; from then on nothing is written.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        self.stopping.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|e| Failure::Error(format!("a writing client died: {e}")))?;
        }
        failure(&self.progress.borrow())
    }

    /// How many writes were acknowledged in all.
    pub(super) fn acknowledged(&self) -> u64 {
        self.progress.borrow().total()
    }

    /// From now on gaps count.
    pub(super) fn watch_gaps(&self) {
        let now = self.clock.monotonic();
        self.progress.send_modify(|progress| {
            progress.last = now;
            progress.longest_gap = Duration::ZERO;
        });
    }

    /// The longest time without an acknowledged write, over all clients, since gaps are watched.
    pub(super) fn longest_gap(&self) -> Duration {
        self.progress.borrow().longest_gap
    }

    /// Waits until so many writes were acknowledged.
    pub(super) async fn reach(&self, total: u64) -> Result<(), Failure> {
        self.wait(|progress| progress.total() >= total).await
    }

    /// Waits until each client had a write acknowledged that it sent after now: the second from now on, as one may be
    /// under way.
    pub(super) async fn all_go_on(&self) -> Result<(), Failure> {
        let now = self.progress.borrow().acknowledged;
        self.wait(|progress| progress.acknowledged.iter().zip(now).all(|(count, now)| *count >= now + 2))
            .await
    }

    async fn wait(&self, reached: impl Fn(&Progress) -> bool) -> Result<(), Failure> {
        let mut changes = self.progress.subscribe();
        let state = changes.wait_for(|progress| progress.failed.is_some() || reached(progress)).await;
        failure(&state.expect("the sender is ours"))
    }

    /// Reads everything back; gives how many writes were acknowledged before, all of which are there.
    pub(super) async fn check(&self, client: &Client, consistency: Consistency) -> Result<u64, Failure> {
        let before = self.progress.borrow().acknowledged;
        let mut found = [0; CLIENTS];
        for item in contents(client, consistency).await? {
            let (writer, number) = written_by(&item)
                .ok_or_else(|| Failure::Error(format!("there is what nobody wrote: {item:?}")))?;
            found[writer] += u64::from(number <= before[writer]);
        }
        let lost: u64 = before.iter().zip(found).map(|(before, found)| before - found).sum();
        let acknowledged = before.iter().sum();
        match lost {
            0 => Ok(acknowledged),
            lost => Err(Failure::Error(format!("{lost} of {acknowledged} acknowledged writes are lost"))),
        }
    }
}

fn failure(progress: &Progress) -> Result<(), Failure> {
    progress.failed.clone().map_or(Ok(()), |why| Err(Failure::Error(why)))
}

/// The life of a client.
async fn write(
    writer: usize,
    client: Client,
    progress: watch::Sender<Progress>,
    clock: Arc<SystemClock>,
    stopping: watch::Receiver<bool>,
) {
    let mut turns = interval(WRITE_INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1.. {
        turns.tick().await;
        if *stopping.borrow() {
            return;
        }
        let (key, value) = (key(writer, number), value(writer, number));
        let outcome = client.put(key.as_bytes(), value).await;
        let now = clock.monotonic();
        progress.send_modify(|progress| match &outcome {
            Ok(_) => {
                progress.acknowledged[writer] = number;
                let gap = now.saturating_sub(progress.last);
                progress.longest_gap = progress.longest_gap.max(gap);
                progress.last = now;
            }
            Err(e) => progress.failed = Some(format!("writing {key} failed: {e}")),
        });
        if outcome.is_err() {
            return;
        }
    }
}

fn key(writer: usize, number: u64) -> String {
    format!("{PREFIX}{writer}/{number}")
}

fn value(writer: usize, number: u64) -> String {
    format!("write {number} of client {writer}")
}

/// Which client's which write this is, if it is what that wrote.
fn written_by(item: &Item) -> Option<(usize, u64)> {
    let (writer, number) = std::str::from_utf8(&item.key).ok()?.strip_prefix(PREFIX)?.split_once('/')?;
    let (writer, number) = (writer.parse().ok().filter(|writer| *writer < CLIENTS)?, number.parse().ok()?);
    (item.value.as_deref()? == value(writer, number).as_bytes()).then_some((writer, number))
}

/// All that was written.
pub(super) async fn contents(client: &Client, consistency: Consistency) -> Result<Vec<Item>, Failure> {
    let range = Range::Prefix(PREFIX.into());
    let mut scan = client.scan(&Query { range, consistency, ..Query::default() }).await?;
    let mut items = Vec::new();
    while let Some(item) = scan.next().await {
        items.push(item?);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_again() {
        let item = |key: &str, value: &str| Item {
            key: key.into(),
            value: Some(value.into()),
            version: 1,
            expires_at: None,
        };
        assert_eq!(written_by(&item(&key(3, 42), &value(3, 42))), Some((3, 42)));
        for (key, value) in
            [("demo/3/42", "write 41 of client 3"), ("demo/4/1", "write 1 of client 4"), ("x", "")]
        {
            assert_eq!(written_by(&item(key, value)), None, "{key}");
        }
    }
}
