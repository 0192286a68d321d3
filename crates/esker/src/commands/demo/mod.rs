//! `esker cluster demo`: three nodes on this machine, clients that write all the time, a leader that is killed and one
//! that is stopped in order, and what either costs.
//!
//! ```text
//! nodes.rs    the processes
//! writers.rs  the clients: what was acknowledged to them, and the longest time without that
//! home.rs     where the nodes keep their data
//! story.rs    what is told, to people and to scripts
//! ```

mod home;
mod nodes;
mod story;
mod writers;

use std::{collections::BTreeSet, time::Duration};

use esker_client::{Client, Consistency, Retry, Settings, cluster::StatusAnswer};
use esker_log::clock::{Clock, SystemClock};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, timeout},
};

use self::{
    home::Home,
    nodes::{NODES, Nodes},
    story::{Step, Story, millis},
    writers::Writers,
};
use super::block_on;
use crate::{cli::DemoArgs, exit::Failure};

/// How long any one step may take before the demonstration has failed. A failover takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a node may take to say how it is.
const STATUS_PATIENCE: Duration = Duration::from_millis(500);
/// Before a leader is lost, the clients have written at least so much more.
const WRITES_BETWEEN: u64 = 300;

pub(super) fn run(args: DemoArgs) -> Result<(), Failure> {
    let home = Home::new(&args)?;
    let story = Story::new(args.json);
    let mut outcome = Ok(());
    let mut interrupted = false;
    block_on(async {
        // Heard from before the first process is there to be left behind.
        let signal = stop_signal()?;
        tokio::select! {
            biased;
            name = signal => {
                interrupted = true;
                outcome = Err(Failure::Error(format!("{name}: the nodes were stopped")));
            }
            // Dropping the play ends its processes.
            played = play(&home, &story, args.rounds) => outcome = played,
        }
        Ok(())
    })?;
    // Who looks for the reason of a failure needs the nodes' logs.
    let is_fault = !interrupted && !matches!(outcome, Ok(()) | Err(Failure::OutputClosed));
    home.end(&story, is_fault)?;
    outcome
}

/// Waits for a signal that is to end the demonstration; gives its name.
fn stop_signal() -> Result<impl Future<Output = &'static str>, Failure> {
    let listen = |kind| signal(kind).map_err(Failure::doing("listening for signals"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "interrupted",
            _ = terminate.recv() => "terminated",
            _ = hangup.recv() => "the terminal was closed",
        }
    })
}

async fn play(home: &Home, story: &Story, rounds: u32) -> Result<(), Failure> {
    let mut demo = Demo::start(home, story).await?;
    for round in 1..=rounds {
        demo.lose_the_leader(round).await?;
        demo.retire_the_leader(round).await?;
    }
    demo.compare_replicas().await?;
    let Demo { writers, longest_failover, longest_handover, .. } = demo;
    story.tell(&Step::Done {
        rounds,
        acknowledged: writers.acknowledged(),
        lost: 0,
        longest_failover_ms: millis(longest_failover),
        longest_handover_ms: millis(longest_handover),
    })
}

/// A cluster and its clients.
struct Demo<'a> {
    story: &'a Story,
    clock: SystemClock,
    nodes: Nodes,
    writers: Writers,
    /// A client as anybody's: it knows the addresses and finds the leader.
    client: Client,
    longest_failover: Duration,
    longest_handover: Duration,
}

impl<'a> Demo<'a> {
    async fn start(home: &Home, story: &'a Story) -> Result<Self, Failure> {
        let clock = SystemClock::new();
        let began = clock.monotonic();
        let mut nodes = Nodes::new(home.path())?;
        nodes.numbers().try_for_each(|node| nodes.start(node))?;
        story.tell(&Step::Started { dir: home.path(), nodes: nodes.addresses() })?;
        let client = Client::new(&nodes.endpoints())?;
        let writers = Writers::new(&nodes.endpoints())?;
        let (longest_failover, longest_handover) = (Duration::ZERO, Duration::ZERO);
        let mut demo = Self { story, clock, nodes, writers, client, longest_failover, longest_handover };
        let (leader, term) = demo.leader().await?;
        let took_ms = millis(demo.clock.monotonic().saturating_sub(began));
        story.tell(&Step::Elected { leader, term, took_ms })?;
        let members = demo.client.nodes().await?.nodes;
        story.tell(&Step::Members { members: &members })?;
        demo.writers.start();
        demo.write_on().await?;
        story
            .tell(&Step::Writing { clients: writers::CLIENTS, acknowledged: demo.writers.acknowledged() })?;
        Ok(demo)
    }

    /// SIGKILL: the node says nothing to anybody.
    async fn lose_the_leader(&mut self, round: u32) -> Result<(), Failure> {
        self.write_on().await?;
        let (lost, _) = self.leader().await?;
        self.writers.watch_gaps();
        self.nodes.kill(lost)?;
        self.story.tell(&Step::Killed { round, node: lost })?;
        let gap = self.writes_go_on().await?;
        self.longest_failover = self.longest_failover.max(gap);
        let (leader, term) = self.leader().await?;
        self.story.tell(&Step::FailedOver { round, leader, term, gap_ms: millis(gap) })?;
        self.check(round).await?;
        self.write_on().await?;
        self.bring_back(round, lost).await
    }

    /// SIGTERM: the node hands the leadership on before it goes.
    async fn retire_the_leader(&mut self, round: u32) -> Result<(), Failure> {
        self.write_on().await?;
        let (retired, _) = self.leader().await?;
        self.writers.watch_gaps();
        self.nodes.terminate(retired)?;
        self.story.tell(&Step::Stopped { round, node: retired })?;
        self.nodes.forget_stopped(retired, PATIENCE).await?;
        let gap = self.writes_go_on().await?;
        self.longest_handover = self.longest_handover.max(gap);
        let (leader, term) = self.leader().await?;
        self.story.tell(&Step::HandedOver { round, leader, term, gap_ms: millis(gap) })?;
        self.check(round).await?;
        self.bring_back(round, retired).await
    }

    /// Starts a node again and waits until it has applied everything that was committed before it was there.
    async fn bring_back(&mut self, round: u32, node: u64) -> Result<(), Failure> {
        let goal = self.client.status().await?.commit_index;
        let began = self.clock.monotonic();
        self.nodes.start(node)?;
        let back = Self::probe(&self.nodes, node)?;
        let mut found = None;
        self.nodes
            .until("the node that came back catches up", async || {
                let status = back.status().await.ok()?;
                found.get_or_insert(status.applied_index);
                (status.applied_index >= goal).then_some(())
            })
            .await?;
        let took = self.clock.monotonic().saturating_sub(began);
        let missed = goal.saturating_sub(found.unwrap_or(goal));
        self.story.tell(&Step::CameBack { round, node, took_ms: millis(took), missed, version: goal })
    }

    /// Reads everything back; an error if an acknowledged write is not there.
    async fn check(&self, round: u32) -> Result<(), Failure> {
        let acknowledged = self.writers.check(&self.client, Consistency::Linearizable).await?;
        self.story.tell(&Step::Checked { round, acknowledged, lost: 0 })
    }

    /// When all is quiet, every node has to hold the same by itself.
    async fn compare_replicas(&mut self) -> Result<(), Failure> {
        self.writers.stop().await?;
        let all: Vec<_> = self.nodes.numbers().collect();
        let mut probes = Vec::new();
        for node in &all {
            probes.push(Self::probe(&self.nodes, *node)?);
        }
        let version = self
            .nodes
            .until("every node has applied everything", async || {
                let statuses = statuses(&probes).await?;
                let applied: BTreeSet<_> = statuses.iter().map(|status| status.applied_index).collect();
                let is_all = statuses.iter().all(|status| status.applied_index == status.commit_index);
                applied.first().copied().filter(|_| is_all && applied.len() == 1)
            })
            .await?;
        let mut contents = Vec::new();
        for probe in &probes {
            self.writers.check(probe, Consistency::Stale).await?;
            contents.push(writers::contents(probe, Consistency::Stale).await?);
        }
        if let Some(at) = contents.iter().position(|content| *content != contents[0]) {
            return Err(Failure::Error(format!("nodes {} and {} hold different things", all[0], all[at])));
        }
        self.story.tell(&Step::Equal { nodes: NODES, keys: contents[0].len(), version })
    }

    /// The leader and its term, once all nodes that run agree.
    async fn leader(&mut self) -> Result<(u64, u64), Failure> {
        let running: Vec<_> = self.nodes.running().collect();
        let mut probes = Vec::new();
        for node in &running {
            probes.push(Self::probe(&self.nodes, *node)?);
        }
        self.nodes
            .until("the nodes agree on a leader", async || {
                let statuses = statuses(&probes).await?;
                let leaders: BTreeSet<_> =
                    statuses.iter().map(|status| (status.leader_id, status.term)).collect();
                let (leader, term) = leaders.first().copied().filter(|_| leaders.len() == 1)?;
                leader.filter(|leader| running.contains(leader)).map(|leader| (leader, term))
            })
            .await
    }

    /// Waits until the clients have written some more.
    async fn write_on(&mut self) -> Result<(), Failure> {
        let goal = self.writers.acknowledged() + WRITES_BETWEEN;
        within("the clients write on", self.writers.reach(goal)).await
    }

    /// Waits until every client wrote something that it sent after now; the longest time without a write since
    /// gaps are watched.
    async fn writes_go_on(&mut self) -> Result<Duration, Failure> {
        within("writes succeed again", self.writers.all_go_on()).await?;
        Ok(self.writers.longest_gap())
    }

    /// A client of one node, which tells things as they are: nothing is tried again, nobody else is asked.
    fn probe(nodes: &Nodes, node: u64) -> Result<Client, Failure> {
        let mut settings = Settings::default();
        settings.retry = Retry::never();
        settings.request_timeout = STATUS_PATIENCE;
        settings.connect_timeout = STATUS_PATIENCE;
        settings.discover = false;
        Ok(Client::with_settings(&nodes.endpoint(node), settings)?)
    }
}

/// How all of some nodes are; `None` if one does not say.
async fn statuses(probes: &[Client]) -> Option<Vec<StatusAnswer>> {
    let mut statuses = Vec::new();
    for probe in probes {
        statuses.push(probe.status().await.ok()?);
    }
    Some(statuses)
}

/// Bounds a step.
async fn within<T>(what: &str, step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(PATIENCE, step).await.unwrap_or_else(|_| Err(too_late(what)))
}

fn too_late(what: &str) -> Failure {
    Failure::Error(format!("waited {PATIENCE:?} in vain until {what}"))
}

impl Nodes {
    /// Looks again and again until there is something; an error if a node dies of itself meanwhile.
    async fn until<T>(&mut self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T, Failure> {
        let mut looks = interval(LOOK_AGAIN);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        within(what, async {
            loop {
                looks.tick().await;
                self.check_alive()?;
                if let Some(found) = look().await {
                    return Ok(found);
                }
            }
        })
        .await
    }
}
