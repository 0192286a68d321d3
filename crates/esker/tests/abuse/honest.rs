//! Honest clients beside whatever happens, and what it costs them and the server.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    crowd::Ends,
    fronts::{Front, LARGE_VALUES, MIB, PATIENCE, SMALL_VALUES, fronts},
    support::{Server, pause},
};

/// What all answers under way may take, and all bodies.
pub(crate) const BUDGET: usize = 32 * MIB;
/// What the server may grow by under any abuse: both budgets, the values that every front may hold beside them, the allocator's slack.
pub(crate) const GROWTH_MAX: usize = 4 * BUDGET;

/// The same where both budgets are full at once: the allocator keeps about as much again of what came and went.
pub(crate) const GROWTH_OF_BOTH_MAX: usize = 2 * GROWTH_MAX;

/// A server with small budgets, and these settings; with values to ask for.
pub(crate) fn start(more: &[&str]) -> (Server, TempDir) {
    start_with(BUDGET, more)
}

/// The same with other budgets.
pub(crate) fn start_with(budget: usize, more: &[&str]) -> (Server, TempDir) {
    let dir = TempDir::new().unwrap();
    let budget = budget.to_string();
    let settings = [
        ["--wal-sync-policy", "never"],
        ["--answer-bytes-under-way", &budget],
        ["--body-bytes-under-way", &budget],
        ["--cache-max-size", "0"],
        ["--memory-budget", "256MiB"],
    ];
    let settings: Vec<&str> = settings.as_flattened().iter().chain(more).copied().collect();
    let server = Server::start(dir.path(), &settings);
    fill(&server);
    (server, dir)
}

/// Time-outs of seconds, so that a test sees them act.
pub(crate) const SHORT: [&str; 12] = [
    "--header-timeout-ms",
    "2000",
    "--idle-timeout-ms",
    "2000",
    "--resp-idle-timeout-ms",
    "2000",
    "--grpc-idle-timeout-ms",
    "2000",
    "--body-stall-timeout-ms",
    "2000",
    "--write-stall-timeout-ms",
    "3000",
];

/// The shortest of them, and a little less: who was not answered for so long may be idle in the server's eyes.
const MAY_BE_CUT_OFF: Duration = Duration::from_millis(1500);

/// `small`; 32 values of a MiB; and the same behind many small ones.
fn fill(server: &Server) {
    let mut stream = TcpStream::connect(server.endpoint.trim_start_matches("http://")).unwrap();
    let mut put = |key: &str, value: &[u8]| {
        let head =
            format!("PUT /api/v1/kv/{key} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", value.len());
        stream.write_all(&[head.as_bytes(), value].concat()).unwrap();
        let (mut answer, mut piece) = (Vec::new(), [0; 512]);
        while !answer.ends_with(b"}") {
            let len = stream.read(&mut piece).unwrap();
            assert!(len > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..len]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    };
    put("small", b"value");
    (0..SMALL_VALUES).for_each(|n| put(&format!("mix/a{n:04}"), b"value"));
    for n in 0..LARGE_VALUES {
        put(&format!("big/{n:02}"), &vec![b'v'; MIB]);
        put(&format!("mix/b{n:02}"), &vec![b'v'; MIB]);
    }
}

/// Resident memory in bytes.
pub(crate) fn memory(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Open files of the server: its connections, and a few.
pub(crate) fn files(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count()
}

/// Waits until the server has about so many files.
pub(crate) fn wait_for_files(server: &Server, is_enough: impl Fn(usize) -> bool) {
    let start = Instant::now();
    while !is_enough(files(server)) {
        assert!(start.elapsed() < Duration::from_secs(120), "it has {} files", files(server));
        pause(Duration::from_millis(20));
    }
}

/// What something cost.
pub(crate) struct Cost {
    /// How long the honest clients of each front waited for each answer, in ascending order.
    pub(crate) waits: Vec<(&'static str, Vec<Duration>)>,
    /// The most that the server's memory grew by.
    pub(crate) grown: usize,
}

impl Cost {
    /// The longest that anybody waited.
    pub(crate) fn longest(&self) -> Duration {
        self.waits.iter().filter_map(|(_, waits)| waits.last()).max().copied().unwrap_or_default()
    }

    /// What share of the answers of each front came in less time.
    pub(crate) fn quantile(&self, share: f64) -> Vec<Duration> {
        let at = |waits: &[Duration]| {
            let place = (waits.len() as f64 * share) as usize;
            waits.get(place.min(waits.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        self.waits.iter().map(|(_, waits)| at(waits)).collect()
    }
}

/// A client that asks on and on, and keeps its connection.
struct Honest<'a> {
    front: &'a Front,
    stream: TcpStream,
    /// On this connection.
    asked: u32,
    /// When it was answered last.
    answered: Instant,
}

impl<'a> Honest<'a> {
    fn new(front: &'a Front) -> Self {
        Self { front, stream: front.connect(), asked: 0, answered: Instant::now() }
    }

    /// Asks once; how long that took. A machine that lets nobody run for a while makes it look idle: whoever may rightly have
    /// been cut off comes again.
    fn ask(&mut self) -> Duration {
        let start = Instant::now();
        while let Err(e) = self.front.ask(&mut self.stream, self.asked) {
            let (name, silent) = (self.front.name, self.answered.elapsed());
            assert!(silent >= MAY_BE_CUT_OFF, "{name}: an honest client: {e}");
            assert!(start.elapsed() < PATIENCE, "{name}: an honest client is cut off again and again: {e}");
            *self = Self::new(self.front);
        }
        self.asked += 1;
        self.answered = Instant::now();
        start.elapsed()
    }
}

/// Runs `work` while an honest client of each front asks on and on.
pub(crate) fn beside(server: &Server, work: impl FnOnce()) -> Cost {
    let done = AtomicBool::new(false);
    let fronts = fronts(server);
    // Everybody's buffers are there before anything is compared.
    let mut clients: Vec<_> = fronts.iter().map(Honest::new).collect();
    for client in &mut clients {
        client.ask();
    }
    let before = memory(server);
    thread::scope(|scope| {
        let done = &done;
        let clients = clients.into_iter().map(|mut client| {
            scope.spawn(move || {
                let mut waits = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    waits.push(client.ask());
                }
                waits.sort_unstable();
                (client.front.name, waits)
            })
        });
        let clients: Vec<_> = clients.collect();
        let watcher = scope.spawn(move || {
            let mut most = before;
            while !done.load(Ordering::Relaxed) {
                most = most.max(memory(server));
                pause(Duration::from_millis(10));
            }
            most - before
        });
        let end = Ends(done);
        work();
        drop(end);
        let waits = clients.into_iter().map(|client| client.join().unwrap()).collect();
        Cost { waits, grown: watcher.join().unwrap() }
    })
}
