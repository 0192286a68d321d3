//! The network's manners, with nodes that only count and echo.

use std::sync::atomic::{AtomicU64, Ordering};

use esker_cluster::peer::{Identity, PeerResult, wire};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use tokio::time::sleep;

use super::*;
use crate::sim;

const PATIENCE: Duration = Duration::from_secs(1);

/// Answers votes with the term asked for; echoes appends; everything else is beyond it.
#[derive(Default)]
struct Echo {
    votes: AtomicU64,
    appends: Arc<AtomicU64>,
    /// How long a vote takes it.
    work: Duration,
}

fn beyond<T: Send + 'static>() -> BoxFuture<'static, PeerResult<T>> {
    std::future::ready(Err(PeerError::Failed("not here".into()))).boxed()
}

impl PeerApi for Echo {
    fn hello(&self, _: wire::HelloRequest) -> BoxFuture<'static, PeerResult<wire::HelloReply>> {
        beyond()
    }

    fn vote(&self, _: Caller, request: wire::VoteRequest) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        self.votes.fetch_add(1, Ordering::Relaxed);
        let work = self.work;
        async move {
            sleep(work).await;
            Ok(wire::VoteReply { vote: request.vote, granted: true, last: None })
        }
        .boxed()
    }

    fn pre_vote(&self, _: Caller, _: wire::VoteRequest) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        beyond()
    }

    fn transfer_leader(
        &self,
        _: Caller,
        _: wire::TransferLeaderRequest,
    ) -> BoxFuture<'static, PeerResult<wire::TransferLeaderReply>> {
        beyond()
    }

    fn append(
        &self,
        _: Caller,
        requests: BoxStream<'static, wire::AppendRequest>,
    ) -> BoxStream<'static, PeerResult<wire::AppendReply>> {
        let appends = Arc::clone(&self.appends);
        let reply = move |request: wire::AppendRequest| {
            appends.fetch_add(1, Ordering::Relaxed);
            let matched = request.previous.unwrap_or_default();
            Ok(wire::AppendReply { outcome: Some(wire::append_reply::Outcome::Matched(matched)) })
        };
        requests.map(reply).boxed()
    }

    fn snapshot(
        &self,
        _: Caller,
        _: BoxStream<'static, wire::SnapshotChunk>,
    ) -> BoxStream<'static, PeerResult<wire::SnapshotReply>> {
        stream::empty().boxed()
    }

    fn read_index(
        &self,
        _: Caller,
        _: wire::ReadIndexRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ReadIndexReply>> {
        beyond()
    }

    fn propose(
        &self,
        _: Caller,
        _: BoxStream<'static, wire::ProposeRequest>,
    ) -> BoxStream<'static, PeerResult<wire::ProposeReply>> {
        stream::empty().boxed()
    }

    fn change_members(
        &self,
        _: Caller,
        _: wire::ChangeMembersRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ChangeMembersReply>> {
        beyond()
    }
}

fn caller() -> Caller {
    let node = |node| Identity { node, instance: [0; 16] };
    Caller { cluster: [1; 16], from: node(1), to: node(2) }
}

/// Two hosts, a and b; b answers.
struct Pair {
    sim: Sim,
    network: SimNetwork,
    echo: Arc<Echo>,
    to_b: Arc<dyn PeerApi>,
}

impl Pair {
    fn new(sim: Sim, echo: Echo) -> Self {
        let network = SimNetwork::new(&sim, PATIENCE);
        let echo = Arc::new(echo);
        network.listen("b", echo.clone());
        let to_b = network.host("a").connect("b", caller());
        Self { sim, network, echo, to_b }
    }

    fn vote(&self, term: u64) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        let vote = Some(wire::Vote { term, ..wire::Vote::default() });
        self.to_b.vote(caller(), wire::VoteRequest { vote, ..wire::VoteRequest::default() })
    }

    fn votes(&self) -> u64 {
        self.echo.votes.load(Ordering::Relaxed)
    }
}

fn with_pair<T, F: Future<Output = T>>(echo: Echo, body: impl FnOnce(Pair) -> F) -> T {
    sim::run(1, |sim| body(Pair::new(sim, echo)))
}

fn append(index: u64) -> wire::AppendRequest {
    wire::AppendRequest { previous: Some(wire::LogId { term: 1, index }), ..wire::AppendRequest::default() }
}

fn index(reply: &PeerResult<wire::AppendReply>) -> Option<u64> {
    match reply.as_ref().ok()?.outcome.as_ref()? {
        wire::append_reply::Outcome::Matched(id) => Some(id.index),
        _ => None,
    }
}

#[test]
fn a_call_takes_a_while_and_is_answered() {
    with_pair(Echo::default(), |pair| async move {
        let reply = pair.vote(7).await.unwrap();
        assert_eq!(reply.vote.unwrap().term, 7);
        assert!(pair.sim.trace.elapsed() >= Duration::from_millis(1));
    });
}

#[test]
fn a_lost_request_or_answer_ends_with_the_patience() {
    for (from, to, arrives) in [("a", "b", 0), ("b", "a", 1)] {
        with_pair(Echo::default(), |pair| async move {
            pair.network.set_link(from, to, LinkProfile { loss: 1.0, ..LinkProfile::calm() });
            assert!(matches!(pair.vote(1).await, Err(PeerError::TimedOut(PATIENCE))));
            assert_eq!((pair.sim.trace.elapsed(), pair.votes()), (PATIENCE, arrives));
        });
    }
}

/// CHECKS 22.
#[test]
fn calls_arrive_twice_and_overtake_one_another() {
    with_pair(Echo::default(), |pair| async move {
        pair.network.set_profile(LinkProfile { duplication: 1.0, ..LinkProfile::rough() });
        pair.network.set_link("a", "b", LinkProfile { duplication: 1.0, loss: 0.0, ..LinkProfile::rough() });
        pair.network.set_link("b", "a", LinkProfile { loss: 0.0, ..LinkProfile::rough() });
        let calls: stream::FuturesUnordered<_> = (0..20).map(|term| pair.vote(term)).collect();
        let terms: Vec<u64> = calls.map(|reply| reply.unwrap().vote.unwrap().term).collect().await;
        assert!(!terms.is_sorted(), "{terms:?}");
        sleep(PATIENCE).await;
        assert_eq!(pair.votes(), 40);
    });
}

/// CHECKS 21.
#[test]
fn a_one_way_partition_lets_the_other_way_through() {
    with_pair(Echo::default(), |pair| async move {
        let back = Arc::new(Echo::default());
        pair.network.listen("a", back.clone());
        pair.network.block("a", "b");
        assert!(matches!(pair.vote(1).await, Err(PeerError::TimedOut(_))));
        assert_eq!(pair.votes(), 0);
        // The request from b arrives; its answer does not.
        let from_b = pair.network.host("b").connect("a", caller());
        assert!(from_b.vote(caller(), wire::VoteRequest::default()).await.is_err());
        assert_eq!(back.votes.load(Ordering::Relaxed), 1);
        pair.network.heal();
        pair.vote(2).await.unwrap();
    });
}

#[test]
fn a_partition_parts_groups_only() {
    with_pair(Echo::default(), |pair| async move {
        pair.network.listen("c", Arc::new(Echo::default()));
        pair.network.partition(&[vec!["a".into()], vec!["c".into()]]);
        pair.vote(1).await.unwrap();
        let to_c = pair.network.host("a").connect("c", caller());
        assert!(to_c.vote(caller(), wire::VoteRequest::default()).await.is_err());
    });
}

#[test]
fn a_clogged_link_is_slow() {
    with_pair(Echo::default(), |pair| async move {
        pair.network.clog("b", "a", Duration::from_millis(300)..Duration::from_millis(400));
        pair.vote(1).await.unwrap();
        assert!(pair.sim.trace.elapsed() > Duration::from_millis(300));
    });
}

#[test]
fn a_node_that_is_down_refuses_or_is_silent() {
    with_pair(Echo::default(), |pair| async move {
        pair.network.stop("b", Down::Refuses);
        assert!(matches!(pair.vote(1).await, Err(PeerError::Unreachable(_))));
        assert!(pair.sim.trace.elapsed() < Duration::from_millis(10));
        pair.network.stop("b", Down::Silent);
        assert!(matches!(pair.vote(1).await, Err(PeerError::TimedOut(_))));
    });
}

#[test]
fn a_crash_ends_what_the_node_was_doing() {
    with_pair(Echo { work: PATIENCE / 2, ..Echo::default() }, |pair| async move {
        let asked = tokio::spawn(pair.vote(1));
        sleep(PATIENCE / 4).await;
        pair.network.stop("b", Down::Refuses);
        assert!(matches!(asked.await.unwrap(), Err(PeerError::Unreachable(_))));
        assert!(pair.sim.trace.elapsed() < PATIENCE / 2);
    });
}

#[test]
fn what_is_under_way_arrives_though_the_caller_gave_up() {
    with_pair(Echo::default(), |pair| async move {
        assert!(timeout(Duration::ZERO, pair.vote(1)).await.is_err());
        sleep(PATIENCE).await;
        assert_eq!(pair.votes(), 1);
    });
}

#[test]
fn a_stream_keeps_its_order_and_loses_nothing_on_a_bad_link() {
    with_pair(Echo::default(), |pair| async move {
        pair.network.set_profile(LinkProfile { reset: 0.0, ..LinkProfile::rough() });
        let replies = pair.to_b.append(caller(), stream::iter((1..=1000).map(append)).boxed());
        let indexes: Vec<_> = replies.map(|reply| index(&reply).unwrap()).collect().await;
        assert!(indexes.iter().copied().eq(1..=1000), "{indexes:?}");
    });
}

#[test]
fn a_stream_breaks_in_its_middle_and_tells_so_last() {
    with_pair(Echo::default(), |pair| async move {
        pair.network.set_profile(LinkProfile { reset: 0.01, ..LinkProfile::calm() });
        let replies = pair.to_b.append(caller(), stream::iter((1..=10_000).map(append)).boxed());
        let mut replies: Vec<_> = replies.collect().await;
        assert!(matches!(replies.pop(), Some(Err(PeerError::Unreachable(_)))));
        assert!(replies.len() < 10_000 && replies.iter().all(Result::is_ok));
    });
}

#[test]
fn a_stream_stands_still_while_blocked_and_breaks_if_that_lasts() {
    with_pair(Echo::default(), |pair| async move {
        let endless =
            || stream::iter(1..).then(|at| sleep(Duration::from_millis(10)).map(move |()| append(at)));
        let mut replies = pair.to_b.append(caller(), endless().boxed());
        assert_eq!(index(&replies.next().await.unwrap()), Some(1));
        pair.network.block("a", "b");
        while timeout(PATIENCE / 2, replies.next()).await.is_ok() {}
        pair.network.unblock("a", "b");
        assert!(replies.next().await.unwrap().is_ok());
        pair.network.block("b", "a");
        let last = replies.filter(|reply| std::future::ready(reply.is_err())).next().await;
        assert!(matches!(last, Some(Err(PeerError::TimedOut(_)))));
    });
}

#[test]
fn a_crash_breaks_streams_and_a_restart_takes_new_ones() {
    with_pair(Echo::default(), |pair| async move {
        let silent = || stream::pending().boxed();
        let mut replies = pair.to_b.append(caller(), silent());
        let waiting = tokio::spawn(async move { replies.next().await });
        sleep(Duration::from_millis(100)).await;
        pair.network.listen("b", Arc::new(Echo::default()));
        assert!(matches!(waiting.await.unwrap(), Some(Err(PeerError::Unreachable(_)))));
        let again = pair.to_b.append(caller(), stream::iter([append(5)]).boxed());
        assert_eq!(again.map(|reply| index(&reply)).collect::<Vec<_>>().await, [Some(5)]);
    });
}

#[test]
fn dropping_a_stream_ends_the_nodes_side() {
    with_pair(Echo::default(), |pair| async move {
        let endless = stream::iter(1..).then(|at| sleep(Duration::from_millis(10)).map(move |()| append(at)));
        let mut replies = pair.to_b.append(caller(), endless.boxed());
        replies.next().await.unwrap().unwrap();
        drop(replies);
        sleep(PATIENCE).await;
        let arrived = pair.echo.appends.load(Ordering::Relaxed);
        sleep(PATIENCE).await;
        assert_eq!(pair.echo.appends.load(Ordering::Relaxed), arrived);
    });
}

#[test]
fn the_same_seed_gives_the_same_messages() {
    let run = |seed| {
        let body = |sim: Sim| async move {
            let trace = sim.trace.clone();
            let pair = Pair::new(sim, Echo::default());
            pair.network.set_profile(LinkProfile::rough());
            let calls: stream::FuturesUnordered<_> = (0..50).map(|term| pair.vote(term)).collect();
            let replies = pair.to_b.append(caller(), stream::iter((1..=200).map(append)).boxed());
            let (votes, appends) = tokio::join!(calls.collect::<Vec<_>>(), replies.collect::<Vec<_>>());
            (votes.len(), appends.len(), trace.fingerprint())
        };
        sim::check_deterministic(seed, body).unwrap()
    };
    assert_ne!(run(1), run(2));
}
