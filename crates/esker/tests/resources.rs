//! The real binary where something is missing or broken: files, space, memory, intact bytes.

use crate::support;

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use support::{Server, esker};
use tempfile::TempDir;

fn address(server: &Server) -> String {
    server.endpoint.strip_prefix("http://").unwrap().to_owned()
}

/// One request on a connection of its own: status and body.
fn request(server: &Server, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address(server)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn segment(dir: &Path) -> PathBuf {
    dir.join("0000000001.log")
}

/// CHECKS 8, SPEC 2.7: damage is exit code 5, with the file and the byte, and nothing is changed.
#[test]
fn damage_ends_serve_and_verify_with_its_place() {
    let dir = TempDir::new().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    for key in ["a", "b", "c"] {
        server.ok(&["put", key, "some value"]);
    }
    server.kill();
    let mut file = fs::OpenOptions::new().read(true).write(true).open(segment(dir.path())).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(10).position(|window| window == b"some value").unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(b"S").unwrap();
    drop(file);
    let before = fs::read(segment(dir.path())).unwrap();
    let Err((code, told)) = Server::try_start(dir.path(), &[]) else { panic!("it serves damaged data") };
    assert_eq!(code, Some(5), "{told}");
    assert!(told.contains("0000000001.log is damaged at byte 64") && told.contains("backup"), "{told}");
    let verified = esker(&["verify", "--data-dir"]).arg(dir.path()).output().unwrap();
    assert_eq!(verified.status.code(), Some(5), "{verified:?}");
    assert!(String::from_utf8_lossy(&verified.stdout).contains("0000000001.log:64: "), "{verified:?}");
    assert!(fs::read(segment(dir.path())).unwrap() == before, "it was changed");
}

#[test]
fn verify_makes_no_store_of_what_is_none() {
    let dir = TempDir::new().unwrap();
    let output = esker(&["verify", "--data-dir"]).arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no Esker store"), "{output:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn limited(server: &Server, resource: &str, limit: &str) {
    let status =
        Command::new("prlimit").args(["--pid", &server.id(), &format!("--{resource}={limit}")]).status();
    assert!(status.unwrap().success(), "prlimit");
}

/// CHECKS 34: connections of every front take all files. Nothing spins, nothing is poisoned, and all is well when they are gone.
#[test]
fn running_out_of_files_passes() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &["--segment-max-bytes", "1MiB"]);
    server.ok(&["put", "k", "v"]);
    let open = fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count();
    // One connection that is served, then as many as there is room for, then some that wait.
    let mut writer = Keep::connect(&server);
    assert_eq!(writer.put("k", b"v"), 200);
    limited(&server, "nofile", &format!("{}:{}", open + 10, open + 10));
    let doors = [&address(&server), &server.resp, server.binary.trim_start_matches("esker://"), &server.grpc];
    let crowd: Vec<_> = (0..40).map(|n| TcpStream::connect(doors[n % doors.len()]).unwrap()).collect();
    while fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count() < open + 10 {
        std::thread::yield_now();
    }
    let ticks = cpu_ticks(&server);
    // Segments cannot be begun now. What fits in the present one is written, the rest is refused for the time being.
    let mut refused = 0;
    for _ in 0..30 {
        match writer.put("large", &[7; 200_000]) {
            200 => {}
            503 => refused += 1,
            other => panic!("{other}"),
        }
        assert_eq!(writer.get("k"), (200, "v".into()));
    }
    assert!(refused > 0, "files did not run out");
    let spent = cpu_ticks(&server) - ticks;
    assert!(spent < 300, "{spent} ticks of processor time: it spins");
    drop(crowd);
    let mut status = 503;
    for _ in 0..2000 {
        status = writer.put("large", &[8; 200_000]);
        if status == 200 {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(status, 200, "writes resume");
    assert_eq!(server.ok(&["get", "k"]), "v");
    for (door, said, answer) in [
        (doors[1], &b"*1\r\n$4\r\nPING\r\n"[..], &b"+PONG\r\n"[..]),
        (doors[2], b"PING\n", b"PONG\n"),
        // The preface and empty settings of HTTP/2; its settings come back.
        (doors[3], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"\0\0"),
    ] {
        let mut stream = TcpStream::connect(door).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(said).unwrap();
        let mut answered = vec![0; answer.len()];
        stream.read_exact(&mut answered).unwrap();
        assert_eq!(answered, answer, "{door}");
    }
    assert_eq!(request(&server, "GET", "/health", b"").0, 200);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

/// A connection kept alive.
struct Keep(TcpStream);

impl Keep {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(address(server)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    fn put(&mut self, key: &str, value: &[u8]) -> u16 {
        let head =
            format!("PUT /api/v1/kv/{key} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", value.len());
        self.0.write_all(&[head.as_bytes(), value].concat()).unwrap();
        self.read().0
    }

    fn get(&mut self, key: &str) -> (u16, String) {
        self.0.write_all(format!("GET /api/v1/kv/{key} HTTP/1.1\r\nhost: t\r\n\r\n").as_bytes()).unwrap();
        self.read()
    }

    fn read(&mut self) -> (u16, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8_lossy(&body).into_owned())
    }
}

/// Processor time used, in hundredths of a second.
fn cpu_ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// CHECKS 14: no room for a file to grow is 507; reads go on, and writes resume without a restart.
#[test]
fn a_full_disk_is_survived() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    server.ok(&["put", "k", "v"]);
    // No file takes a byte: it is full whatever is tried.
    limited(&server, "fsize", "1:unlimited");
    let large = vec![7; 8 << 20];
    let (status, body) = request(&server, "PUT", "/api/v1/kv/large", &large);
    assert_eq!(status, 507, "{body}");
    let error: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(error["error"]["code"], "disk_full");
    let refused = server.with_input(&["put", "large", "--file", "-"], &large);
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    let status = server.run(&["status"]);
    assert_eq!(status.status.code(), Some(7), "{status:?}");
    assert_eq!(server.ok(&["get", "k"]), "v");
    assert_eq!(request(&server, "GET", "/health", b"").0, 200);
    limited(&server, "fsize", "unlimited:unlimited");
    assert_eq!(request(&server, "PUT", "/api/v1/kv/large", &large).0, 200);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(Server::start(dir.path(), &[]).ok(&["get", "large"]).len(), 8 << 20);
}

/// CHECKS 34: where memory ends, the process may end; what was acknowledged is there at the next start.
#[test]
fn the_end_of_memory_loses_nothing() {
    let dir = TempDir::new().unwrap();
    // The allocator would have a GiB of addresses already, which do not count against the limit any more.
    let environment = [("MIMALLOC_ARENA_EAGER_COMMIT", "0")];
    let server = Server::try_start_with(dir.path(), &[], &environment).unwrap();
    server.ok(&["put", "k", "v"]);
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    let kib: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    limited(&server, "data", &(kib * 1024 + (4 << 20)).to_string());
    let mut stream = TcpStream::connect(address(&server)).unwrap();
    let head = format!(
        "PUT /api/v1/kv/large HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        16 << 20
    );
    // It may die while it receives this.
    let _died =
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![7; 16 << 20])).is_err();
    let mut answer = Vec::new();
    let _died = stream.read_to_end(&mut answer).is_err();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "there was enough memory: the test shows nothing");
    drop(server);
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.ok(&["get", "k"]), "v");
    server.ok(&["put", "large", "is possible again"]);
}

/// SPEC 5.6: SIGTERM lets requests under way finish, and what they were told is true at the next start.
#[test]
fn sigterm_finishes_what_is_under_way() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut stream = TcpStream::connect(address(&server)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"PUT /api/v1/kv/last HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\nla").unwrap();
    while !request(&server, "GET", "/metrics", b"").1.contains("\nesker_http_body_bytes 2.0") {
        std::thread::yield_now();
    }
    server.signal("TERM");
    while TcpStream::connect(address(&server)).is_ok() {
        std::thread::yield_now();
    }
    stream.write_all(b"st").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(Server::start(dir.path(), &[]).ok(&["get", "last"]), "last");
}

/// SPEC 1.2: a key of any length is put, read and deleted by the command line, though no path holds it.
#[tokio::test]
async fn the_longest_keys_are_reached() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path(), &[]);
    let client = esker_client::Client::new(&server.endpoint).unwrap();
    for key in [vec![0xff; 65_535], vec![b'k'; 65_535], vec![0; 30_000]] {
        let mut before = key.clone();
        *before.last_mut().unwrap() -= u8::from(key[0] > 0);
        client.put(&before, "before").await.unwrap();
        let written = client.put(&key, "value").await.unwrap();
        let entry = client.get(&key).await.unwrap().unwrap();
        assert_eq!((&entry.value[..], entry.version), (&b"value"[..], written.version));
        assert_eq!(client.head(&key).await.unwrap().unwrap().value_len, 5);
        assert!(client.delete(&key).await.unwrap().existed);
        assert!(!client.delete(&key).await.unwrap().existed);
        assert!(client.get(&key).await.unwrap().is_none());
    }
    let long = "k".repeat(66_000);
    let refused = server.run(&["put", &long, "v"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

/// `bench` takes the time-out of all client commands: a server that never answers does not hold it.
#[test]
fn bench_times_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("{}", listener.local_addr().unwrap());
    let args = ["bench", "c", "-r", "1", "-n", "1", "-c", "1", "--timeout", "100ms", "--endpoint", &target];
    let output = support::run(&args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no answer within 100 ms"), "{output:?}");
}
