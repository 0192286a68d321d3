//! A whole world of fake nodes: plans are carried out as they are written, and the same way twice.

use std::{collections::BTreeMap, io::IoSlice, path::Path, sync::Arc, time::Duration};

use esker_cluster::{
    MemberChange,
    peer::{Caller, PeerApi, PeerError, PeerResult, wire},
};
use esker_log::disk::{Disk, OpenMode};
use esker_sim::{
    history::Recorder,
    machine::Machine,
    network::{SimHost, SimNetwork},
    plan::{Fault, Plan, PlanOptions},
    sim::{self, Sim},
    world::{Nodes, World},
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use parking_lot::Mutex;

/// A node that answers nothing.
struct Mute;

fn mute<T: Send + 'static>() -> BoxFuture<'static, PeerResult<T>> {
    std::future::ready(Err(PeerError::Failed("mute".into()))).boxed()
}

macro_rules! mute_calls {
    ($($name:ident, $request:ty, $answer:ty;)*) => {
        $(fn $name(&self, _: Caller, _: $request) -> BoxFuture<'static, PeerResult<$answer>> { mute() })*
    };
}

macro_rules! mute_streams {
    ($($name:ident, $request:ty, $answer:ty;)*) => {
        $(fn $name(&self, _: Caller, _: BoxStream<'static, $request>) -> BoxStream<'static, PeerResult<$answer>> {
            stream::empty().boxed()
        })*
    };
}

impl PeerApi for Mute {
    fn hello(&self, _: wire::HelloRequest) -> BoxFuture<'static, PeerResult<wire::HelloReply>> {
        mute()
    }
    mute_calls! {
        vote, wire::VoteRequest, wire::VoteReply;
        pre_vote, wire::VoteRequest, wire::VoteReply;
        transfer_leader, wire::TransferLeaderRequest, wire::TransferLeaderReply;
        read_index, wire::ReadIndexRequest, wire::ReadIndexReply;
        change_members, wire::ChangeMembersRequest, wire::ChangeMembersReply;
    }
    mute_streams! {
        append, wire::AppendRequest, wire::AppendReply;
        snapshot, wire::SnapshotChunk, wire::SnapshotReply;
        propose, wire::ProposeRequest, wire::ProposeReply;
    }
}

/// Counts its starts in a synced file: a start that finds fewer than before means that a synced write was lost.
#[derive(Default)]
struct Counting {
    running: Arc<Mutex<BTreeMap<u64, u64>>>,
    refuse: bool,
}

impl Nodes for Counting {
    fn start(
        &self,
        node: u64,
        machine: Machine,
        _: SimHost,
    ) -> BoxFuture<'static, Result<Arc<dyn PeerApi>, String>> {
        let running = Arc::clone(&self.running);
        let refuse = self.refuse;
        async move {
            if refuse {
                return Err("it will not".into());
            }
            let disk = machine.disk();
            let path = format!("/starts{}", disk.files().len());
            let file = disk.open(Path::new(&path), OpenMode::CreateNew).map_err(|e| e.to_string())?;
            file.write_at(&[IoSlice::new(b"x")], 0).map_err(|e| e.to_string())?;
            file.sync_data().and_then(|()| disk.sync_dir(Path::new("/"))).map_err(|e| e.to_string())?;
            machine.wait_for_disk().await;
            let before = running.lock().insert(node, disk.files().len() as u64);
            assert_eq!(before, None, "n{node} was running");
            let api: Arc<dyn PeerApi> = Arc::new(Mute);
            Ok(api)
        }
        .boxed()
    }

    fn kill(&self, node: u64) {
        assert!(self.running.lock().remove(&node).is_some(), "n{node} was not running");
    }

    fn gave_up(&self, _: u64) -> Option<String> {
        None
    }

    fn change_members(&self, _: MemberChange) -> BoxFuture<'static, Result<(), String>> {
        std::future::ready(Err("there is no leader".into())).boxed()
    }

    fn snapshot(&self, _: u64) -> BoxFuture<'static, Result<(), String>> {
        std::future::pending().boxed()
    }
}

async fn live(sim: Sim, nodes: Arc<Counting>) -> Result<(), String> {
    let network = SimNetwork::new(&sim, Duration::from_secs(1));
    let recorder = Recorder::new();
    let world = World::new(&sim, &network, 3, nodes, &recorder);
    world.start_all().await;
    let plan = Plan::draw(sim.seed, &PlanOptions::default());
    let healed = world.run(&plan).await?;
    assert!(healed >= plan.healed_at());
    Ok(())
}

#[test]
fn plans_are_carried_out_and_end_with_every_node_up() {
    for seed in 0..50 {
        let outcome = sim::check_deterministic(seed, |sim| async {
            let nodes = Arc::new(Counting::default());
            let outcome = live(sim, Arc::clone(&nodes)).await;
            let up: Vec<u64> = nodes.running.lock().keys().copied().collect();
            (outcome, up)
        });
        assert_eq!(outcome.unwrap(), (Ok(()), vec![1, 2, 3]), "seed {seed}");
    }
}

#[test]
fn a_node_that_does_not_start_fails_the_run() {
    let outcome = sim::run(1, |sim| live(sim, Arc::new(Counting { refuse: true, ..Counting::default() })));
    assert!(outcome.is_err_and(|why| why.contains("n2 does not start: it will not")));
}

#[test]
fn a_fault_of_the_world_reaches_the_network() {
    sim::run(1, |sim| async move {
        let network = SimNetwork::new(&sim, Duration::from_secs(1));
        let world = World::new(&sim, &network, 2, Arc::new(Counting::default()), &Recorder::new());
        world.start_all().await;
        let node = |node| esker_cluster::peer::Identity { node, instance: [0; 16] };
        let caller = Caller { cluster: [0; 16], from: node(1), to: node(2) };
        let host = network.host("n1:7070");
        let to_2 = esker_cluster::peer::Connector::connect(&host, "n2:7070", caller);
        let asks = || to_2.read_index(caller, wire::ReadIndexRequest::default());
        assert!(matches!(asks().await, Err(PeerError::Failed(_))));
        world.inject(&Fault::BlockOneWay { from: 1, to: 2 }).await;
        assert!(matches!(asks().await, Err(PeerError::TimedOut(_))));
        world.inject(&Fault::HealAll).await;
        assert!(matches!(asks().await, Err(PeerError::Failed(_))));
    });
}
