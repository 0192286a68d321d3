//! Streams: messages in order both ways, until the connection breaks.
//!
//! ```text
//! caller's requests -> send -> pipe -> receive -> node          each message has a time at which it is due, and
//! caller's answers <- receive <- pipe <- send <- node's answers   is taken out of the pipe no earlier
//! ```

use std::{sync::Arc, time::Duration};

use esker_cluster::peer::{PeerApi, PeerError, PeerResult};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{Down, Host, SimNetwork, Way, back, call::unreachable};

/// So many messages may be under way in one direction; then the sender waits.
const WINDOW: usize = 256;
/// What a lost packet costs a stream: the usual least time until TCP sends it again.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// What the two sides of a stream share: whether it has broken, and why.
pub(super) struct Connection {
    broken: watch::Sender<Option<PeerError>>,
}

impl Connection {
    fn new() -> Arc<Self> {
        Arc::new(Self { broken: watch::Sender::new(None) })
    }

    /// Breaks it, unless it is broken: the first reason stays.
    pub(super) fn break_off(&self, why: PeerError) {
        self.broken.send_if_modified(|broken| {
            let first = broken.is_none();
            if first {
                *broken = Some(why);
            }
            first
        });
    }

    /// The outcome of `work`, or why the connection broke first.
    async fn run<T>(&self, work: impl Future<Output = T>) -> PeerResult<T> {
        let mut broken = self.broken.subscribe();
        tokio::select! {
            biased;
            why = broken.wait_for(Option::is_some) => {
                let why = why.ok().and_then(|why| why.clone());
                Err(why.unwrap_or_else(|| unreachable("the connection is gone")))
            }
            done = work => Ok(done),
        }
    }
}

/// Breaks the connection when the caller drops its side.
struct CallersSide(Arc<Connection>);

impl Drop for CallersSide {
    fn drop(&mut self) {
        self.0.break_off(unreachable("the caller gave up"));
    }
}

/// Opens a stream. The connection is made when the stream is first polled.
pub(super) fn open<Request, Answer>(
    network: SimNetwork,
    between: Way,
    what: &'static str,
    requests: BoxStream<'static, Request>,
    serve: impl FnOnce(&dyn PeerApi, BoxStream<'static, Request>) -> BoxStream<'static, PeerResult<Answer>>
    + Send
    + 'static,
) -> BoxStream<'static, PeerResult<Answer>>
where
    Request: Send + 'static,
    Answer: Send + 'static,
{
    let opening = async move {
        let connection = Connection::new();
        network.remember(between.clone(), &connection);
        let end =
            |between: Way| End { network: network.clone(), between, what, connection: connection.clone() };
        let (there, here) = (end(between.clone()), end(back(&between)));
        let (answers, answered) = mpsc::channel(WINDOW);
        tokio::spawn(run(there, here.clone(), requests, serve, answers));
        let side = CallersSide(connection);
        here.receive(answered).map(move |answer| {
            let _open = &side;
            answer.and_then(|answer| answer)
        })
    };
    stream::once(opening).flatten().boxed()
}

/// Connects, and carries requests and answers until either side ends or the connection breaks.
async fn run<Request, Answer>(
    there: End,
    here: End,
    requests: BoxStream<'static, Request>,
    serve: impl FnOnce(&dyn PeerApi, BoxStream<'static, Request>) -> BoxStream<'static, PeerResult<Answer>> + Send,
    answers: mpsc::Sender<(Instant, PeerResult<Answer>)>,
) where
    Request: Send + 'static,
    Answer: Send + 'static,
{
    let process = match there.connect().await {
        Ok(process) => process,
        Err(why) => return there.connection.break_off(why),
    };
    there.network.note(&there.between, there.what);
    let (sender, receiver) = mpsc::channel(WINDOW);
    let arriving = there.clone().receive(receiver).take_while(|request| {
        let whole = request.is_ok();
        async move { whole }
    });
    let arriving = arriving.filter_map(|request| async move { request.ok() }).boxed();
    let served = serve(process.api.as_ref(), arriving);
    tokio::spawn(there.send(requests, sender));
    here.send(served, answers).await;
}

/// One direction of a stream.
#[derive(Clone)]
struct End {
    network: SimNetwork,
    between: Way,
    what: &'static str,
    connection: Arc<Connection>,
}

impl End {
    /// Reaches the node, which takes one message there and one back.
    async fn connect(&self) -> PeerResult<super::Process> {
        let (there, here) = (&self.between, back(&self.between));
        sleep(self.network.draw_delay(there) + self.network.draw_delay(&here)).await;
        let open = self.network.wait_until_open(there).await && self.network.wait_until_open(&here).await;
        let silence = PeerError::TimedOut(self.network.shared.patience);
        match self.network.host_at(&there.1) {
            _ if !open => Err(silence),
            Host::Up(process) => Ok(process),
            Host::Down(Down::Refuses) => Err(unreachable("nobody listens there")),
            Host::Down(Down::Silent) => {
                sleep(self.network.shared.patience).await;
                Err(silence)
            }
        }
    }

    /// Puts messages into the pipe, each with the time at which it is due.
    async fn send<T>(self, mut messages: BoxStream<'static, T>, pipe: mpsc::Sender<(Instant, T)>) {
        let mut last = Instant::now();
        while let Ok(Some(message)) = self.connection.run(messages.next()).await {
            if self.network.shared.rng.chance(self.network.profile(&self.between).reset) {
                self.network.note(&self.between, "reset");
                return self.connection.break_off(unreachable("the connection was reset"));
            }
            last = last.max(Instant::now() + self.draw_delay());
            if !matches!(self.connection.run(pipe.send((last, message))).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    fn draw_delay(&self) -> Duration {
        let lost = self.network.shared.rng.chance(self.network.profile(&self.between).loss);
        let again = if lost { RETRANSMISSION } else { Duration::ZERO };
        self.network.draw_delay(&self.between) + again
    }

    /// Takes messages out of the pipe. An error is the last item: why the connection broke.
    fn receive<T: Send + 'static>(
        self,
        pipe: mpsc::Receiver<(Instant, T)>,
    ) -> BoxStream<'static, PeerResult<T>> {
        let next = |state: Option<(Self, mpsc::Receiver<(Instant, T)>)>| async move {
            let (end, mut pipe) = state?;
            match end.next(&mut pipe).await {
                Ok(Some(message)) => Some((Ok(message), Some((end, pipe)))),
                Ok(None) => None,
                Err(why) => Some((Err(why), None)),
            }
        };
        stream::unfold(Some((self, pipe)), next).boxed()
    }

    async fn next<T>(&self, pipe: &mut mpsc::Receiver<(Instant, T)>) -> PeerResult<Option<T>> {
        let Some((due, message)) = self.connection.run(pipe.recv()).await? else {
            // The sender ended, or it saw the connection break.
            let broken = self.connection.broken.borrow().clone();
            return broken.map_or(Ok(None), Err);
        };
        self.connection.run(sleep_until(due)).await?;
        if !self.connection.run(self.network.wait_until_open(&self.between)).await? {
            self.connection.break_off(PeerError::TimedOut(self.network.shared.patience));
        }
        // So that what was under way when the connection broke is lost.
        self.connection.run(async {}).await?;
        self.network.note(&self.between, self.what);
        Ok(Some(message))
    }
}
