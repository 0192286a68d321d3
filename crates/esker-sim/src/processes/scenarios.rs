//! What is done to clusters of processes, each as a function for [`under_load`](super::under_load).

use std::{io, time::Duration};

use esker_client::{Client, Retry, Settings};
use tokio::time::{Instant, sleep};

use super::{Cluster, wait_for};
use crate::history::Recorder;

/// How long it took until writes succeeded again, round by round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps(Vec<Duration>);

impl Gaps {
    /// Half of the rounds took at most this long.
    pub fn p50(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> usize {
        self.0.len()
    }
}

/// How a node is made to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGKILL.
    Kill,
    /// SIGTERM: it hands the leadership on.
    Terminate,
}

/// Between two faults so many operations are answered: that the load goes on is a part of every scenario.
const WORK_BETWEEN: u64 = 100;

/// Waits until `count` more operations of the clients have been answered.
pub async fn work_goes_on(recorder: &Recorder, count: u64) -> io::Result<()> {
    let enough = recorder.answered() + count;
    wait_for("clients are answered", GAP_MAX, async || Ok((recorder.answered() >= enough).then_some(())))
        .await
}

/// The leader goes, `rounds` times; each time the gap until a write succeeds is measured, and the node started again.
pub async fn lose_leaders(
    cluster: &mut Cluster,
    recorder: &Recorder,
    rounds: usize,
    stop: Stop,
) -> io::Result<Gaps> {
    let mut gaps = Gaps::default();
    for _ in 0..rounds {
        work_goes_on(recorder, WORK_BETWEEN).await?;
        let leader = cluster.leader().await?;
        let others: Vec<u64> = cluster.numbers().into_iter().filter(|node| *node != leader).collect();
        let probes = probes(cluster, &others)?;
        let start = Instant::now();
        let gap = match stop {
            Stop::Kill => {
                cluster.kill(leader)?;
                until_a_write_succeeds(&probes, start).await?
            }
            Stop::Terminate => {
                let (ended, gap) =
                    tokio::join!(cluster.terminate(leader), until_a_write_succeeds(&probes, start));
                ended?;
                gap?
            }
        };
        gaps.0.push(gap);
        recorder.restarted(leader);
        cluster.restart(leader).await?;
    }
    work_goes_on(recorder, WORK_BETWEEN).await?;
    Ok(gaps)
}

/// CHECKS 18: the leader stands still for `pause`, longer than any lease, and goes on without knowing.
pub async fn pause_leaders(
    cluster: &mut Cluster,
    recorder: &Recorder,
    rounds: usize,
    pause: Duration,
) -> io::Result<()> {
    for _ in 0..rounds {
        work_goes_on(recorder, WORK_BETWEEN).await?;
        let leader = cluster.leader().await?;
        cluster.pause(leader)?;
        sleep(pause).await;
        cluster.resume(leader)?;
    }
    work_goes_on(recorder, WORK_BETWEEN).await
}

/// CHECKS 17, 21: the leader is cut off from all others: by turns both ways, deaf, and unheard. The others must take writes
/// before it is healed; what they took to do so is measured.
pub async fn cut_off_leaders(cluster: &mut Cluster, recorder: &Recorder, rounds: usize) -> io::Result<Gaps> {
    let mut gaps = Gaps::default();
    for round in 0..rounds {
        work_goes_on(recorder, WORK_BETWEEN).await?;
        let leader = cluster.leader().await?;
        let others: Vec<u64> = cluster.numbers().into_iter().filter(|node| *node != leader).collect();
        let probes = probes(cluster, &others)?;
        let start = Instant::now();
        match round % 3 {
            0 => cluster.part(&[leader], &others)?,
            1 => cluster.deafen(leader, &others)?,
            _ => others.iter().try_for_each(|other| cluster.deafen(*other, &[leader]))?,
        }
        gaps.0.push(until_a_write_succeeds(&probes, start).await?);
        cluster.heal()?;
    }
    work_goes_on(recorder, WORK_BETWEEN).await?;
    Ok(gaps)
}

/// Every node is stopped by SIGTERM and started again, one after another.
pub async fn restart_one_by_one(cluster: &mut Cluster, recorder: &Recorder) -> io::Result<()> {
    for node in cluster.numbers() {
        work_goes_on(recorder, WORK_BETWEEN).await?;
        cluster.leader().await?;
        cluster.terminate(node).await?;
        recorder.restarted(node);
        cluster.restart(node).await?;
    }
    work_goes_on(recorder, WORK_BETWEEN).await
}

/// Every node is stopped for good, one after another, and a new one takes its place: with an empty directory, at the same
/// address, under a number of its own. The next goes when the new one has the vote of the old.
pub async fn replace_one_by_one(cluster: &mut Cluster, recorder: &Recorder) -> io::Result<()> {
    for node in cluster.numbers() {
        work_goes_on(recorder, WORK_BETWEEN).await?;
        cluster.leader().await?;
        cluster.terminate(node).await?;
        cluster.wipe(node)?;
        recorder.restarted(node);
        cluster.restart(node).await?;
        has_taken_its_place(cluster, node).await?;
    }
    work_goes_on(recorder, WORK_BETWEEN).await
}

/// Waits until the new node at this place votes, and nobody else is there any more. What it knows may be old, and show the one
/// before it: it has to find itself.
async fn has_taken_its_place(cluster: &Cluster, node: u64) -> io::Result<()> {
    let address = cluster.peer_address(node);
    let client = Client::new(&cluster.endpoint(node)).map_err(io::Error::other)?;
    wait_for("the new node has the vote of the old one", GAP_MAX, async || {
        let (Ok(status), Ok(answer)) = (client.status().await, client.nodes().await) else { return Ok(None) };
        let mut here = answer.nodes.iter().filter(|member| member.peer_address.as_ref() == Some(&address));
        let is_itself = here.next().is_some_and(|member| member.id == status.node_id && member.voter);
        let is_alone = here.next().is_none() && answer.nodes.len() == cluster.numbers().len();
        Ok((is_itself && is_alone).then_some(()))
    })
    .await
}

/// A write that takes longer is tried elsewhere.
const PROBE_PATIENCE: Duration = Duration::from_millis(200);
/// After this the cluster counts as lost.
const GAP_MAX: Duration = Duration::from_secs(30);
/// Not among the keys of the workload.
pub(super) const PROBE_KEY: &[u8] = b"probe";

fn probes(cluster: &Cluster, nodes: &[u64]) -> io::Result<Vec<Client>> {
    let mut settings = Settings::default();
    settings.retry = Retry::never();
    settings.request_timeout = PROBE_PATIENCE;
    let clients = cluster.clients(&settings)?;
    Ok(clients.into_iter().filter(|(node, _)| nodes.contains(node)).map(|(_, client)| client).collect())
}

/// How long it takes from now on until a write succeeds on any node.
pub(super) async fn until_writes_succeed(cluster: &Cluster) -> io::Result<Duration> {
    until_a_write_succeeds(&probes(cluster, &cluster.numbers())?, Instant::now()).await
}

/// Time since `start`, at the first write that succeeds on any of the nodes.
async fn until_a_write_succeeds(probes: &[Client], start: Instant) -> io::Result<Duration> {
    wait_for("a write succeeds", GAP_MAX, async || {
        let writes = probes.iter().map(|client| Box::pin(client.put(PROBE_KEY, "alive")));
        let written = futures_util::future::select_ok(writes).await;
        Ok(written.ok().map(|_| start.elapsed()))
    })
    .await
}
