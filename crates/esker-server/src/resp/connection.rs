//! One connection: reads what is there, runs all whole commands, writes their answers at once, and keeps time.
//!
//! While a client does not take its answers, nothing is read from it. What it holds is bounded: a command that is not there as
//! a whole, the answers to [`OUT_BYTES`] and one more, the writes of [`super::writes`].

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use esker_wire::resp::{Commands, Parser, ParserLimits, ProtocolError};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep},
};

use super::{
    clients::Client,
    execute::{Executor, Flow},
    refusal::Refusal,
    session::Session,
};
use crate::{
    config::Timeouts,
    connection::linger,
    http::{Front, Share},
};

/// So many commands are taken out of the buffer at a time.
const COMMANDS_MAX: usize = 1024;
/// After so many at a time the other connections of the thread have their turn.
const COMMANDS_BEFORE_OTHERS: usize = 256;
/// Answers are written when there are so many bytes of them.
const OUT_BYTES: usize = 64 << 10;
/// The least space that is read into.
const READ_MIN: usize = 4 << 10;
/// Received bytes up to this are not counted: more connections than there may be would hold little.
const INPUT_BYTES_FREE: usize = 16 << 10;
/// Buffers up to this are kept from command to command,
const KEPT: usize = 64 << 10;
/// and given back when the client has been silent for so long.
const SILENCE: Duration = Duration::from_secs(1);

const TOO_MUCH_UNDER_WAY: Refusal = Refusal::new(
    "OOM the commands that are being received fill the memory for them: retry later, or send smaller ones",
);

/// Serves a connection to its end.
pub(crate) async fn serve(stream: TcpStream, front: Arc<Front>) {
    // Answers are written whole; Nagle would only delay them. Without it they are slower, not wrong.
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!(error = %e, "cannot set TCP_NODELAY");
    }
    let client = front.resp.clients.enter(stream.peer_addr().ok(), stream.local_addr().ok());
    let _entered = Entered { front: Arc::clone(&front), client: Arc::clone(&client) };
    let mut drain = front.drain.subscribe();
    let drain_idle = front.config.timeouts.drain_idle;
    let last_call = async {
        drain.begun().await;
        // A command may be on its way.
        tokio::time::sleep(drain_idle).await;
    };
    let over = pin!(async {
        tokio::select! {
            () = last_call => {}
            () = client.killed.notified() => {}
        }
    });
    let time = front.config.timeouts.linger;
    let mut connection = Connection::new(stream, Arc::clone(&front), Arc::clone(&client));
    match connection.run(over).await {
        Ended::Told => linger(connection.stream, time).await,
        Ended::Stalled => {
            front.resp.metrics.connections_stalled.add_one();
            tracing::debug!(client = client.id, "a client took nothing of its answers");
        }
        Ended::Http => {
            tracing::warn!(
                client = client.id,
                "a request of HTTP came to the port for Redis clients: closed"
            );
        }
        Ended::Silent => tracing::debug!(client = client.id, "a connection timed out"),
        Ended::Closed => {}
        Ended::Broken(e) => tracing::debug!(client = client.id, error = %e, "a connection ended early"),
    }
}

/// A place in the list of clients.
struct Entered {
    front: Arc<Front>,
    client: Arc<Client>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.front.resp.clients.leave(self.client.id);
    }
}

/// Why a connection ends.
enum Ended {
    /// By the client.
    Closed,
    /// By the server; the client is to have the time to read what it was told.
    Told,
    /// The client kept the server waiting for a command, or the rest of one.
    Silent,
    /// The client did not take its answers.
    Stalled,
    /// It was no client of this protocol.
    Http,
    Broken(io::Error),
}

impl From<io::Error> for Ended {
    fn from(e: io::Error) -> Self {
        Self::Broken(e)
    }
}

struct Connection {
    stream: TcpStream,
    front: Arc<Front>,
    /// What was received and is not done with.
    input: Vec<u8>,
    /// How much is asked for at a time: more from those who send much.
    read_bytes: usize,
    parser: Parser,
    commands: Commands,
    executor: Executor,
    /// What the above take of what all that is being received may take.
    share: Share,
    timer: Timer,
}

impl Connection {
    fn new(stream: TcpStream, front: Arc<Front>, client: Arc<Client>) -> Self {
        let limits = front.store.limits();
        let parser = Parser::new(ParserLimits {
            argument_bytes: limits.value_bytes.max(esker_wire::KEY_LEN_MAX),
            // What separates the arguments is little beside them, unless they are tiny.
            command_bytes: limits.batch_bytes.max(limits.value_bytes).saturating_mul(2).min(1 << 31),
            ..ParserLimits::default()
        });
        let timer = Timer::new(&front.config.timeouts);
        Self {
            input: Vec::new(),
            read_bytes: READ_MIN,
            parser,
            commands: Commands::default(),
            executor: Executor::new(Session::new(Arc::clone(&front), client)),
            share: front.body_budget.share(),
            stream,
            front,
            timer,
        }
    }

    /// Serves until there is a reason to end; `over` is one.
    async fn run(&mut self, mut over: Pin<&mut impl Future<Output = ()>>) -> Ended {
        loop {
            match self.turn(over.as_mut()).await {
                Ok(()) => {}
                Err(ended) => return ended,
            }
        }
    }

    /// Runs the commands that are there, or reads if there is none.
    async fn turn(&mut self, mut over: Pin<&mut impl Future<Output = ()>>) -> Result<(), Ended> {
        let parsed = self.parse();
        if !self.commands.is_empty() {
            self.execute().await?;
            self.commands.clear();
            self.timer.commanded();
            // Who never stops asking is never waited for, where this is noticed otherwise.
            if self.front.drain.has_begun()
                && poll_fn(|cx| Poll::Ready(over.as_mut().poll(cx).is_ready())).await
            {
                return Err(Ended::Told);
            }
        }
        if let Err(e) = parsed {
            return Err(self.tell(&e.to_string().replacen("Protocol", "ERR Protocol", 1).into()).await);
        }
        let took_any = self.parser.start() > 0;
        self.forget();
        if took_any {
            // There may be more than was taken at a time.
            return Ok(());
        }
        if !self.account() {
            return Err(self.tell(&TOO_MUCH_UNDER_WAY).await);
        }
        self.read(over).await
    }

    fn parse(&mut self) -> Result<(), ProtocolError> {
        while self.commands.len() < COMMANDS_MAX && self.parser.parse(&self.input, &mut self.commands)? {}
        Ok(())
    }

    async fn execute(&mut self) -> Result<(), Ended> {
        let clock = Arc::clone(self.front.store.clock());
        let start = clock.monotonic();
        self.executor.begin();
        let mut flow = Flow::GoOn;
        for at in 0..self.commands.len() {
            flow = self.executor.run(self.commands.get(at, &self.input)).await;
            if flow != Flow::GoOn {
                break;
            }
            if self.executor.out.len() >= OUT_BYTES {
                self.flush().await?;
            }
        }
        if flow == Flow::Abort {
            return Err(Ended::Http);
        }
        self.executor.settle().await;
        let took = clock.monotonic().saturating_sub(start);
        self.front.resp.metrics.pipeline.record(took);
        self.executor.session.tell(self.executor.last, Instant::now());
        if took >= self.front.config.timeouts.slow_request {
            let (commands, last) = (self.commands.len(), self.executor.last);
            tracing::warn!(took_ms = took.as_millis() as u64, commands, last, "commands were slow");
        }
        self.flush().await?;
        if self.commands.len() >= COMMANDS_BEFORE_OTHERS {
            tokio::task::yield_now().await;
        }
        if flow == Flow::Close { Err(Ended::Told) } else { Ok(()) }
    }

    /// Answers with an error, the last that the client gets.
    async fn tell(&mut self, refusal: &Refusal) -> Ended {
        self.executor.refuse(refusal);
        match self.flush().await {
            Ok(()) => Ended::Told,
            Err(ended) => ended,
        }
    }

    /// Drops the commands that are done.
    fn forget(&mut self) {
        self.input.drain(..self.parser.start());
        self.parser.forget();
        // Who sends much at a time needs some more than it reads at a time.
        if self.input.capacity() > 4 * KEPT && self.input.len() <= self.input.capacity() / 4 {
            self.input.shrink_to(self.input.len().max(READ_MIN));
        }
    }

    /// Takes account of what is held; `false` if that is more than there is room for.
    fn account(&mut self) -> bool {
        let buffered = self.input.capacity() + self.parser.held() + self.commands.held();
        let held = buffered.saturating_sub(INPUT_BYTES_FREE) + self.executor.session.held();
        let held_before = self.share.bytes();
        if held > held_before {
            return self.share.grow(held - held_before);
        }
        if held < held_before {
            self.share.hold(held);
        }
        true
    }

    /// Waits for more to come. Errors: none does.
    async fn read(&mut self, mut over: Pin<&mut impl Future<Output = ()>>) -> Result<(), Ended> {
        self.timer.begin_waiting(self.parser.is_within(&self.input));
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(read) = self.poll_read(cx) {
                    return Poll::Ready(match read {
                        Ok(0) => Err(Ended::Closed),
                        Ok(_) => Ok(()),
                        Err(e) => Err(e.into()),
                    });
                }
                if over.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Ended::Told));
                }
                match ready!(self.timer.poll(cx, &self.front.config.timeouts, self.input.len())) {
                    Rang::Silence => self.release(),
                    Rang::TimedOut => return Poll::Ready(Err(Ended::Silent)),
                }
            }
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            // Not before there is something: a silent connection holds no buffer. As much again as has come, so that what
            // was announced and does not come takes nothing.
            if self.input.capacity() - self.input.len() < self.read_bytes / 2 {
                let missing = self.parser.missing(&self.input);
                self.input.reserve(missing.min(self.input.len()).max(self.read_bytes));
            }
            match self.stream.try_read_buf(&mut self.input) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    if self.input.len() == self.input.capacity() {
                        self.read_bytes = (self.read_bytes * 2).min(KEPT);
                    }
                    return Poll::Ready(read);
                }
            }
        }
    }

    /// Gives back what a silent connection has no use for.
    fn release(&mut self) {
        if self.input.is_empty() {
            self.input = Vec::new();
            self.read_bytes = READ_MIN;
        }
        self.commands = Commands::default();
        if self.executor.out.is_empty() {
            self.executor.out = Vec::new();
        }
    }

    /// Writes all answers. Errors: the client does not take them.
    async fn flush(&mut self) -> Result<(), Ended> {
        let Self { stream, executor, front, .. } = self;
        write_all(stream, &executor.out, &front.config.timeouts).await?;
        executor.out.clear();
        executor.out.shrink_to(KEPT);
        executor.share.hold(0);
        Ok(())
    }
}

/// Writes all of it, as long as the client takes it: some of it before it has stood still too long, and all of it at no
/// less than the slowest pace.
async fn write_all(stream: &TcpStream, mut bytes: &[u8], timeouts: &Timeouts) -> Result<(), Ended> {
    let (mut spent, mut taken) = (Duration::ZERO, 0_u64);
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(written) => {
                bytes = &bytes[written..];
                taken += written as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let earned = Duration::from_millis(taken * 1000 / timeouts.answer_bytes_per_second.max(1));
                let patience =
                    (timeouts.write_stall + earned).saturating_sub(spent).min(timeouts.write_stall);
                let start = Instant::now();
                match tokio::time::timeout(patience, stream.writable()).await {
                    Ok(writable) => writable?,
                    Err(_) => return Err(Ended::Stalled),
                }
                spent += start.elapsed();
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Keeps the time while the server waits for a client. One timer a connection, which is moved only when it rings or is
/// needed sooner.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    has_rung: bool,
    /// Since when there has been nothing to read.
    since: Instant,
    /// Since when a command has been arriving, if one is.
    arriving_since: Option<Instant>,
    /// Whether there was a command yet.
    was_used: bool,
    /// Whether the silence was told.
    told_silence: bool,
}

/// What the timer rings for.
enum Rang {
    /// The client has said nothing for a while.
    Silence,
    /// It should have.
    TimedOut,
}

impl Timer {
    fn new(timeouts: &Timeouts) -> Self {
        let now = Instant::now();
        Self {
            sleep: Box::pin(tokio::time::sleep_until(now + timeouts.idle.min(SILENCE))),
            has_rung: false,
            since: now,
            arriving_since: None,
            was_used: false,
            told_silence: false,
        }
    }

    /// A command was there.
    fn commanded(&mut self) {
        self.was_used = true;
        self.arriving_since = None;
    }

    /// There is nothing more to read; perhaps within a command.
    fn begin_waiting(&mut self, is_within: bool) {
        self.since = Instant::now();
        self.told_silence = false;
        match is_within {
            true => self.arriving_since = self.arriving_since.or(Some(self.since)),
            false => self.arriving_since = None,
        }
    }

    /// When the client has to have sent something. `received` is how much of a command is there.
    fn limit(&self, timeouts: &Timeouts, received: usize) -> Instant {
        match self.arriving_since {
            Some(arriving) => {
                let pace = timeouts.body_bytes_per_second.max(1);
                let earned = Duration::from_millis(received as u64 * 1000 / pace);
                (self.since + timeouts.body_stall).min(arriving + timeouts.body_grace + earned)
            }
            None if self.was_used => self.since + timeouts.resp_idle,
            None => self.since + timeouts.idle,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, timeouts: &Timeouts, received: usize) -> Poll<Rang> {
        loop {
            let limit = self.limit(timeouts, received);
            let silence = (!self.told_silence).then_some(self.since + SILENCE);
            let next = silence.map_or(limit, |silence| silence.min(limit));
            if self.has_rung || next < self.sleep.deadline() {
                self.sleep.as_mut().reset(next);
                self.has_rung = false;
            }
            ready!(self.sleep.as_mut().poll(cx));
            self.has_rung = true;
            let now = Instant::now();
            if now >= limit {
                return Poll::Ready(Rang::TimedOut);
            }
            if silence.is_some_and(|silence| now >= silence) {
                self.told_silence = true;
                return Poll::Ready(Rang::Silence);
            }
        }
    }
}
