//! A node that answers what can be checked, and what connects to it.

use std::{
    future::{Future, pending, ready},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use esker_cluster::peer::{
    Caller, Connector, Identity, PeerApi, PeerError, PeerOptions, PeerResult, PeerTls, TonicConnector, serve,
    wire::{self, append_reply, propose_reply, snapshot_reply},
};
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

/// Who calls, in all tests.
pub(crate) const CALLER: Caller = Caller {
    cluster: *b"a cluster of two",
    from: Identity { node: 1, instance: *b"the first's disk" },
    to: Identity { node: 2, instance: *b"the other's disk" },
};

/// What a connection is given and must not pass on.
pub(crate) const IGNORED: Caller = Caller { cluster: [0; 16], from: CALLER.to, to: CALLER.from };

/// Groups that a read index is not answered for, but with an error.
pub(crate) const WRONG_IDENTITY: u32 = 1;
pub(crate) const UNREACHABLE: u32 = 2;
pub(crate) const TIMED_OUT: u32 = 3;
pub(crate) const FAILED: u32 = 4;
/// The group that a read index is never answered for.
pub(crate) const SILENT: u32 = 5;

/// Fails a test that would hang.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it should have happened by now")
}

pub(crate) struct Fake {
    /// Who called, in order; streams count once.
    pub(crate) callers: Mutex<Vec<Caller>>,
    /// Whether appends are read, and whether they are answered.
    pub(crate) reads: watch::Sender<bool>,
    pub(crate) answers: watch::Sender<bool>,
    /// Payloads of entries, and how many appends were read.
    pub(crate) payloads: Mutex<Vec<bytes::Bytes>>,
    pub(crate) appends: watch::Sender<usize>,
    /// Append streams and silent calls that are open.
    pub(crate) open: watch::Sender<usize>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            callers: Mutex::default(),
            reads: watch::Sender::new(true),
            answers: watch::Sender::new(true),
            payloads: Mutex::default(),
            appends: watch::Sender::new(0),
            open: watch::Sender::new(0),
        }
    }
}

impl Fake {
    fn called<T: Send + 'static>(&self, caller: Caller, reply: T) -> BoxFuture<'static, PeerResult<T>> {
        self.callers.lock().push(caller);
        ready(Ok(reply)).boxed()
    }
}

/// Waits until a watched value is so.
pub(crate) async fn until<T>(watched: &watch::Sender<T>, so: impl FnMut(&T) -> bool) {
    soon(watched.subscribe().wait_for(so)).await.expect("the sender is borrowed");
}

/// Counts an open stream.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl PeerApi for FakeApi {
    fn hello(&self, request: wire::HelloRequest) -> BoxFuture<'static, PeerResult<wire::HelloReply>> {
        let wire::HelloRequest { me, cluster, .. } = request;
        ready(Ok(wire::HelloReply { me, cluster, leader: 9, ..wire::HelloReply::default() })).boxed()
    }

    fn vote(
        &self,
        caller: Caller,
        request: wire::VoteRequest,
    ) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        self.0.called(caller, wire::VoteReply { vote: request.vote, granted: true, last: request.last })
    }

    fn pre_vote(
        &self,
        caller: Caller,
        request: wire::VoteRequest,
    ) -> BoxFuture<'static, PeerResult<wire::VoteReply>> {
        self.0.called(caller, wire::VoteReply { vote: request.vote, granted: false, last: request.last })
    }

    fn transfer_leader(
        &self,
        caller: Caller,
        request: wire::TransferLeaderRequest,
    ) -> BoxFuture<'static, PeerResult<wire::TransferLeaderReply>> {
        self.0.called(caller, wire::TransferLeaderReply { refused: format!("{} is behind", request.to) })
    }

    fn append(
        &self,
        caller: Caller,
        requests: BoxStream<'static, wire::AppendRequest>,
    ) -> BoxStream<'static, PeerResult<wire::AppendReply>> {
        self.0.callers.lock().push(caller);
        let (fake, open) = (self.0.clone(), Open::new(&self.0.open));
        let mut reads = fake.reads.subscribe();
        let requests = async move { reads.wait_for(|reads| *reads).await.map(|_| ()) }
            .map(|_| requests)
            .flatten_stream();
        let read = requests.map(move |request| {
            fake.payloads.lock().extend(request.entries.into_iter().map(|entry| entry.payload));
            fake.appends.send_modify(|appends| *appends += 1);
            (fake.answers.subscribe(), request.previous)
        });
        // Reads on while answers are held back.
        let answers = read.map(|(mut answers, id)| async move {
            answers
                .wait_for(|answers| *answers)
                .await
                .map_err(|error| PeerError::Failed(error.to_string()))?;
            Ok(wire::AppendReply { outcome: id.map(append_reply::Outcome::Matched) })
        });
        answers.buffered(1000).inspect(move |_| _ = &open).boxed()
    }

    fn snapshot(
        &self,
        caller: Caller,
        chunks: BoxStream<'static, wire::SnapshotChunk>,
    ) -> BoxStream<'static, PeerResult<wire::SnapshotReply>> {
        self.0.callers.lock().push(caller);
        let replies = chunks.map(|chunk| match chunk.done {
            true => snapshot_reply::Outcome::Installed(true),
            false => snapshot_reply::Outcome::Taken(chunk.number),
        });
        replies.map(|outcome| Ok(wire::SnapshotReply { outcome: Some(outcome) })).boxed()
    }

    fn read_index(
        &self,
        caller: Caller,
        request: wire::ReadIndexRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ReadIndexReply>> {
        let error = match request.group {
            WRONG_IDENTITY => PeerError::WrongIdentity("this is node 3".into()),
            UNREACHABLE => PeerError::Unreachable("cut off".into()),
            TIMED_OUT => PeerError::TimedOut(Duration::from_millis(70)),
            FAILED => PeerError::Failed("no disk".into()),
            SILENT => {
                let open = Open::new(&self.0.open);
                return async move { pending().inspect(|_| _ = &open).await }.boxed();
            }
            _ => return self.0.called(caller, wire::ReadIndexReply { index: 42, leader: 2, vote: None }),
        };
        ready(Err(error)).boxed()
    }

    fn propose(
        &self,
        caller: Caller,
        requests: BoxStream<'static, wire::ProposeRequest>,
    ) -> BoxStream<'static, PeerResult<wire::ProposeReply>> {
        self.0.callers.lock().push(caller);
        let committed = |proposal: wire::Proposal| propose_reply::Outcome {
            id: proposal.id,
            outcome: Some(propose_reply::outcome::Outcome::Committed(wire::Committed {
                version: proposal.id + 100,
                existed: proposal.records,
                ..wire::Committed::default()
            })),
        };
        let replies = requests.map(move |request| wire::ProposeReply {
            outcomes: request.proposals.into_iter().map(committed).collect(),
        });
        replies.map(Ok).boxed()
    }

    fn change_members(
        &self,
        caller: Caller,
        request: wire::ChangeMembersRequest,
    ) -> BoxFuture<'static, PeerResult<wire::ChangeMembersReply>> {
        let node = request.group.into();
        self.0.called(caller, wire::ChangeMembersReply { node, ..Default::default() })
    }
}

/// What the server is given: the streams it returns keep the node alive.
struct FakeApi(Arc<Fake>);

/// A running server.
pub(crate) struct Node {
    pub(crate) fake: Arc<Fake>,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::start_with(listen(0), PeerOptions::default(), None)
    }

    pub(crate) fn start_with(listener: TcpListener, options: PeerOptions, tls: Option<PeerTls>) -> Self {
        let fake = Arc::new(Fake::default());
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let served = tokio::spawn(serve(listener, Arc::new(FakeApi(fake.clone())), options, tls, shutdown));
        Self { fake, address, stop, served }
    }

    /// A connection to it, with default options.
    pub(crate) fn connect(&self) -> Arc<dyn PeerApi> {
        Dialer::new(PeerOptions::default(), None).connect(self.address)
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        soon(self.served).await.unwrap();
    }
}

/// A connector that counts its failures to connect: each draws one random number.
pub(crate) struct Dialer {
    connector: TonicConnector,
    failures: Arc<AtomicUsize>,
}

impl Dialer {
    pub(crate) fn new(options: PeerOptions, tls: Option<PeerTls>) -> Self {
        let failures = Arc::new(AtomicUsize::new(0));
        let counter = failures.clone();
        let jitter = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            1.0
        };
        Self { connector: TonicConnector::new(options, tls, Arc::new(jitter)), failures }
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> Arc<dyn PeerApi> {
        self.connector.connect(&address.to_string(), CALLER)
    }

    pub(crate) fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }
}

/// A listener on loopback; port 0 for any.
pub(crate) fn listen(port: u16) -> TcpListener {
    listen_with_backlog(port, 128)
}

pub(crate) fn listen_with_backlog(port: u16, backlog: u32) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    socket.listen(backlog).unwrap()
}

/// A call that is answered with 42.
pub(crate) async fn ask(peer: &Arc<dyn PeerApi>) -> PeerResult<u64> {
    soon(peer.read_index(IGNORED, wire::ReadIndexRequest::default())).await.map(|reply| reply.index)
}

pub(crate) fn append(index: u64, payload: impl Into<bytes::Bytes>) -> wire::AppendRequest {
    let id = Some(wire::LogId { term: 1, index });
    let kind = wire::EntryKind::Records.into();
    let entries = vec![wire::Entry { id, kind, payload: payload.into(), records: 1 }];
    wire::AppendRequest { previous: id, entries, ..Default::default() }
}

pub(crate) fn matched(index: u64) -> wire::AppendReply {
    wire::AppendReply { outcome: Some(append_reply::Outcome::Matched(wire::LogId { term: 1, index })) }
}

/// Messages now, and a stream that stays open.
pub(crate) fn stays_open<T: Send + 'static>(
    messages: impl IntoIterator<Item = T, IntoIter: Send + 'static>,
) -> BoxStream<'static, T> {
    stream::iter(messages).chain(stream::pending()).boxed()
}
