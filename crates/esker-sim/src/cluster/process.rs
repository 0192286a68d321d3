//! A node as long as it runs.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use esker_cluster::{
    ClusterView,
    peer::PeerApi,
    raft::{Host, Opened, RaftNode, Start, random_id},
};
use esker_engine::{Environment, Options, Replica};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{Cluster, hosted::Hosted};
use crate::{
    Rng,
    machine::{Machine, SimClock},
    network::SimHost,
};

/// Where a node has its data on its machine.
const DIR: &str = "/data";
/// How long what is queued for the disk waits at most, beside the time that the disk takes.
const DISK_DELAY_MAX: Duration = Duration::from_millis(3);
/// A full disk is tried again this often.
const FULL_DISK_INTERVAL: Duration = Duration::from_millis(100);
/// What a process that was killed may take until its tasks have noticed.
const BURIAL_PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Process {
    replica: Replica,
    host: Host,
    clock: Arc<SimClock>,
    node: OnceLock<Arc<RaftNode>>,
    /// Why it gave up.
    exited: OnceLock<String>,
    alive: watch::Sender<bool>,
}

/// A process that has opened its data.
pub(super) struct Ready {
    opened: Opened,
    disk: DiskDriver,
}

/// Opens a node's data. An error says why it does not start.
pub(super) fn open(cluster: &Cluster, node: u64, machine: &Machine, host: SimHost) -> Result<Ready, String> {
    let queued = Arc::<Notify>::default();
    let wake = Arc::clone(&queued);
    let start = Start {
        environment: Environment {
            disk: Arc::new(machine.disk()),
            clock: machine.clock(),
            store_id: || Ok(random_id()),
            threads: false,
        },
        options: options(cluster),
        config: cluster.config(node),
        connector: Arc::new(host.clone()),
        queued: Some(Box::new(move || wake.notify_one())),
    };
    let opened = Opened::open(Path::new(DIR), start).map_err(|e| e.to_string())?;
    for notice in opened.report().notices {
        cluster.inner.sim.trace.note(format_args!("n{node}: {notice:?}"));
    }
    let rng = cluster.inner.rng.fork("disk");
    let disk = DiskDriver { replica: opened.replica().clone(), machine: machine.clone(), host, queued, rng };
    Ok(Ready { opened, disk })
}

fn options(cluster: &Cluster) -> Options {
    let tuning = &cluster.inner.tuning;
    let mut options = Options::default();
    options.segment_max_bytes = tuning.segment_max_bytes;
    options.checkpoint_ops = tuning.checkpoint_ops;
    options.checkpoint_interval = tuning.checkpoint_interval;
    options.open_threads = 1;
    options
}

impl Ready {
    pub(super) fn service(&self) -> Arc<dyn PeerApi> {
        Arc::new(Hosted { service: self.opened.service(), host: self.disk.machine.host().clone() })
    }

    /// Lets it find its cluster and take part, until it is killed.
    pub(super) fn take_part(self, cluster: Cluster, node: u64) -> Arc<Process> {
        let process = Arc::new(Process {
            replica: self.opened.replica().clone(),
            host: self.disk.machine.host().clone(),
            clock: self.disk.machine.clock(),
            node: OnceLock::new(),
            exited: OnceLock::new(),
            alive: watch::Sender::new(true),
        });
        tokio::spawn(live(self, Arc::clone(&process), cluster, node));
        process
    }
}

/// The life of a process. Once it is dead its disk and its network are gone, so that nobody hears of what its tasks still do;
/// and they are ended.
async fn live(ready: Ready, process: Arc<Process>, cluster: Cluster, node: u64) {
    let (replica, queued) = (ready.disk.replica.clone(), Arc::clone(&ready.disk.queued));
    let disk = tokio::spawn(process.host.run(ready.disk.run(Arc::clone(&process))));
    match process.run(ready.opened.join()).await {
        Some(Ok(joined)) => {
            let joined = Arc::new(joined);
            let _first = process.node.set(Arc::clone(&joined)).is_ok();
            let number = process.view().map(|view| view.node_id);
            cluster.inner.sim.trace.note(format_args!("n{node} takes part as {number:?}"));
            process.death().await;
            disk.abort();
            let buried = timeout(BURIAL_PATIENCE, joined.stop());
            tokio::select! {
                biased;
                stopped = buried => if stopped.is_err() {
                    cluster.trouble(format!("n{node} does not stop"));
                },
                () = fail_what_is_queued(&replica, &queued) => {}
            }
        }
        Some(Err(e)) => {
            cluster.inner.sim.trace.note(format_args!("n{node} exits: {e}"));
            let _first = process.exited.set(e.to_string()).is_ok();
        }
        None => {}
    }
    process.death().await;
    disk.abort();
}

/// The disk of a dead process is off: whoever waits for it learns so, however slow it was.
async fn fail_what_is_queued(replica: &Replica, queued: &Notify) {
    loop {
        replica.pump();
        queued.notified().await;
    }
}

impl Process {
    /// The node, once it takes part.
    pub(super) fn node(&self) -> Option<Arc<RaftNode>> {
        self.node.get().cloned()
    }

    /// The cluster as it sees it, by its own clock; `None` if it takes no part yet.
    pub(super) fn view(&self) -> Option<ClusterView> {
        let node = self.node()?;
        Some(self.host.enter(|| node.view()))
    }

    /// Why it gave up, if it did: whoever runs it starts it again.
    pub(super) fn exited(&self) -> Option<&str> {
        self.exited.get().map(String::as_str)
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// What its machine takes for the time.
    pub(super) fn clock(&self) -> &SimClock {
        &self.clock
    }

    pub(super) fn kill(&self) {
        self.alive.send_replace(false);
    }

    async fn death(&self) {
        let mut alive = self.alive.subscribe();
        let _dead = alive.wait_for(|alive| !alive).await.is_ok();
    }

    /// The outcome of `work`, done by the process, or `None` if it died first.
    pub(super) async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.death() => None,
            done = self.host.run(work) => Some(done),
        }
    }
}

/// Does a replica's work on the disk, which takes the time that the disk takes.
struct DiskDriver {
    replica: Replica,
    machine: Machine,
    host: SimHost,
    queued: Arc<Notify>,
    rng: Rng,
}

impl DiskDriver {
    async fn run(self, process: Arc<Process>) {
        let mut pause = Duration::ZERO;
        loop {
            // Either is a reason to look.
            let _elapsed = timeout(pause, self.queued.notified()).await.is_err();
            self.machine.wait_for_disk().await;
            sleep(self.rng.duration(Duration::ZERO..DISK_DELAY_MAX)).await;
            let is_full = !self.replica.pump();
            pause = self.replica.maintain();
            if self.machine.power_has_failed() {
                // Before anybody hears what came of it.
                self.host.go_off();
                process.kill();
                return;
            }
            if is_full {
                pause = pause.min(FULL_DISK_INTERVAL);
            }
        }
    }
}
