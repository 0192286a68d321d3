//! All faults at random, one round after another, for as long as is asked: kills, pauses and partitions of any nodes, also
//! of so many that no majority is left, also several at a time.

use std::{collections::BTreeMap, io, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Cluster, scenarios::until_writes_succeed};
use crate::{Rng, history::Recorder};

/// When all that was done to the cluster has ended, writes succeed again within this (CHECKS 28). An election takes at most
/// half a second; twice that if its votes are split, and a machine that runs everything at once is given time.
pub const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// So long a round's faults last.
const FAULT_MIN: Duration = Duration::from_millis(50);
const FAULT_MAX: Duration = Duration::from_secs(2);

/// What is done to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGTERM, waited for.
    Terminate,
    /// SIGSTOP.
    Pause,
    /// It hears nobody and is heard by nobody.
    Isolate,
    /// It hears nobody.
    Deafen,
    /// Nobody hears it.
    Mute,
}

const ON_LOOPBACK: &[Fault] = &[Fault::Kill, Fault::Terminate, Fault::Pause];
const IN_NAMESPACES: &[Fault] =
    &[Fault::Kill, Fault::Terminate, Fault::Pause, Fault::Isolate, Fault::Deafen, Fault::Mute];

/// What was done, and what it cost.
#[derive(Debug, Clone, Default)]
pub struct Torment {
    /// Faults, by kind.
    faults: BTreeMap<Fault, usize>,
    /// The longest time from the end of a round's faults until a write succeeded.
    pub recovery_max: Duration,
    /// How many rounds there were.
    pub rounds: usize,
}

/// Does its worst for `time`, and lets the cluster recover after each round; that it does, and within [`RECOVERY_MAX`], is a
/// part of what is checked. `partitions`: whether the nodes have namespaces.
pub async fn torment(
    cluster: &mut Cluster,
    recorder: &Recorder,
    rng: &Rng,
    time: Duration,
    partitions: bool,
) -> io::Result<Torment> {
    let end = Instant::now() + time;
    let mut torment = Torment::default();
    let faults = if partitions { IN_NAMESPACES } else { ON_LOOPBACK };
    while Instant::now() < end {
        for node in victims(cluster, rng).await? {
            let fault = *rng.choose(faults);
            strike(cluster, recorder, node, fault).await?;
            *torment.faults.entry(fault).or_default() += 1;
        }
        // Not a condition: it is the faults that last.
        sleep(rng.duration(FAULT_MIN..FAULT_MAX)).await;
        end_all(cluster, partitions).await?;
        let recovery = until_writes_succeed(cluster).await?;
        if recovery > RECOVERY_MAX {
            return Err(io::Error::other(format!(
                "the cluster took {recovery:?} to recover from {torment:?}"
            )));
        }
        torment.recovery_max = torment.recovery_max.max(recovery);
        torment.rounds += 1;
    }
    Ok(torment)
}

/// The leader, or any node, or several at once.
async fn victims(cluster: &Cluster, rng: &Rng) -> io::Result<Vec<u64>> {
    let mut nodes = cluster.numbers();
    rng.shuffle(&mut nodes);
    Ok(match rng.below(10) {
        0..5 => vec![cluster.leader().await?],
        5..8 => vec![nodes[0]],
        _ => {
            nodes.truncate(1 + rng.index(nodes.len()));
            nodes
        }
    })
}

async fn strike(cluster: &mut Cluster, recorder: &Recorder, node: u64, fault: Fault) -> io::Result<()> {
    let others: Vec<u64> = cluster.numbers().into_iter().filter(|other| *other != node).collect();
    match fault {
        Fault::Kill => {
            cluster.kill(node)?;
            recorder.restarted(node);
        }
        Fault::Terminate => {
            cluster.terminate(node).await?;
            recorder.restarted(node);
        }
        Fault::Pause => cluster.pause(node)?,
        Fault::Isolate => cluster.part(&[node], &others)?,
        Fault::Deafen => cluster.deafen(node, &others)?,
        Fault::Mute => others.iter().try_for_each(|other| cluster.deafen(*other, &[node]))?,
    }
    Ok(())
}

/// Undoes everything. What is not paused or cut off does not mind.
async fn end_all(cluster: &mut Cluster, partitions: bool) -> io::Result<()> {
    if partitions {
        cluster.heal()?;
    }
    for node in cluster.running() {
        cluster.resume(node)?;
    }
    cluster.start_all().await
}
