//! `/debug/pprof` of the real binary, while it is at work.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread::{scope, spawn},
    time::{Duration, Instant},
};

use esker_client::blocking::Client;
use flate2::read::GzDecoder;
use prost::Message;

use super::{
    request, server,
    support::{Server, pause},
};

/// Of pprof's `profile.proto`, what is looked at.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    strings: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    fn read(gzipped: &[u8]) -> Self {
        let mut bytes = Vec::new();
        GzDecoder::new(gzipped).read_to_end(&mut bytes).unwrap();
        Self::decode(&*bytes).unwrap()
    }

    /// The names of the functions in whose samples there is anything, as often as they are there.
    fn seen(&self) -> impl Iterator<Item = &str> {
        let samples = self.sample.iter().filter(|sample| sample.value.iter().any(|value| *value > 0));
        let places = samples.flat_map(|sample| &sample.location_id);
        let places = places.map(|id| self.location.iter().find(|place| place.id == *id).unwrap());
        let functions = places.flat_map(|place| &place.line).map(|line| line.function_id);
        functions.map(|id| {
            let function = self.function.iter().find(|function| function.id == id).unwrap();
            self.strings[usize::try_from(function.name).unwrap()].as_str()
        })
    }
}

/// The status and the body.
fn get(endpoint: &str, target: &str) -> (u16, Vec<u8>) {
    request(endpoint, &format!("GET {target}"), "", b"")
}

/// Says that it is over when it is dropped, also where a test has failed.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn profiles_show_what_the_server_does() {
    const CPU: &str = "/debug/pprof/profile?seconds=3&hz=199";
    let (server, _dir) = server(&["--cache-max-size", "64MiB"]);
    // What is read stays in the cache: 20 MiB, of which one allocation in 512 KiB is remembered, on average.
    let client = Client::new(&server.endpoint).unwrap();
    for key in (0..400).map(|n| format!("kept{n}")) {
        client.put(key.as_bytes(), vec![b'v'; 50_000]).unwrap();
        client.get(key.as_bytes()).unwrap();
    }
    let over = AtomicBool::new(false);
    let work = || {
        let client = Client::new(&server.endpoint).unwrap();
        for n in 0.. {
            client.put(format!("k{}", n % 50).as_bytes(), vec![b'v'; 100_000]).unwrap();
            client.get(format!("k{}", n % 50).as_bytes()).unwrap();
            if over.load(Ordering::Acquire) {
                return;
            }
        }
    };
    scope(|scope| {
        let _ends = Ends(&over);
        scope.spawn(work);
        scope.spawn(work);
        // One at a time: a second is refused. The profile counts its time from when it has begun, which is after this is asked.
        let taken = scope.spawn(|| get(&server.endpoint, CPU));
        wait_until(|| is_profiled(&server) || taken.is_finished());
        let refused = get(&server.endpoint, "/debug/pprof/profile?seconds=1");
        let taken = taken.join().unwrap();
        assert_eq!((taken.0, refused.0), (200, 409), "{}", String::from_utf8_lossy(&refused.1));
        let cpu = Profile::read(&taken.1);
        assert!(cpu.sample.len() > 3, "{} stacks", cpu.sample.len());
        assert!(cpu.seen().any(|name| name.starts_with("esker_server::")), "{:?}", cpu.strings);
        let (status, heap) = get(&server.endpoint, "/debug/pprof/heap");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&heap));
        let heap = Profile::read(&heap);
        assert!(heap.seen().any(|name| name.contains("esker_engine::")), "{:?}", heap.strings);
        // What is done can be done again.
        assert_eq!(get(&server.endpoint, "/debug/pprof/profile?seconds=1").0, 200);
    });
}

/// Whether the thread is there that takes a profile.
fn is_profiled(server: &Server) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.id())).unwrap().flatten();
    let mut names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.any(|name| name.trim() == "esker-profile")
}

fn wait_until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not come to pass");
        pause(Duration::from_millis(5));
    }
}

#[test]
fn a_profile_that_nobody_waits_for_ends_and_a_shutdown_waits_for_none() {
    const LONG: &str = "/debug/pprof/profile?seconds=300";
    let (mut server, _dir) = server(&[]);
    let mut gone = TcpStream::connect(server.endpoint.strip_prefix("http://").unwrap()).unwrap();
    write!(gone, "GET {LONG} HTTP/1.1\r\nHost: esker\r\n\r\n").unwrap();
    wait_until(|| is_profiled(&server));
    drop(gone);
    wait_until(|| !is_profiled(&server));
    let endpoint = server.endpoint.clone();
    let waiting = spawn(move || get(&endpoint, LONG));
    wait_until(|| is_profiled(&server));
    let (code, log) = server.finish();
    assert_eq!(code, Some(0), "{log}");
    let (status, body) = waiting.join().unwrap();
    assert_eq!(status, 503, "{}", String::from_utf8_lossy(&body));
}

/// What a page from elsewhere has its reader's browser ask for, as an image.
#[test]
fn pages_from_elsewhere_get_no_profiles() {
    let (server, _dir) = server(&[]);
    let ask = |site: &str| {
        let header = format!("Sec-Fetch-Site: {site}\r\n");
        // Nothing has to be profiled to see whether it would be.
        request(&server.endpoint, "GET /debug/pprof/profile?seconds=0", &header, b"").0
    };
    let statuses = ["cross-site", "same-site", "same-origin", "none"].map(ask);
    assert_eq!(statuses, [403, 403, 400, 400]);
    assert_eq!(request(&server.endpoint, "GET /api/v1/health", "Sec-Fetch-Site: cross-site\r\n", b"").0, 200);
}

#[test]
fn wrong_parameters_of_profiles_are_told() {
    let (server, _dir) = server(&[]);
    for (target, part) in [
        ("/debug/pprof/profile?seconds=0", "a number from 1 to 300"),
        ("/debug/pprof/profile?seconds=1&hz=1000", "a number from 1 to 999"),
        ("/debug/pprof/profile?minutes=1", "this path takes seconds, hz"),
        ("/debug/pprof/heap?seconds=1", "this path takes none"),
    ] {
        let (status, body) = get(&server.endpoint, target);
        let told = String::from_utf8_lossy(&body).into_owned();
        assert!(status == 400 && told.contains(part), "{target}: {status} {told}");
    }
}
