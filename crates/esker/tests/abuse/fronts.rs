//! The fronts, and what is said to each: by honest clients, and by others.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use esker_proto::v1::{GetRequest, Range, ScanRequest};

use super::{http2, support::Server};

pub(crate) const MIB: usize = 1 << 20;
/// So many values of a MiB lie under `big/`, and under `mix/` behind small ones.
pub(crate) const LARGE_VALUES: usize = 32;
/// Small values that come first: more than go into one chunk.
pub(crate) const SMALL_VALUES: usize = 1500;
/// Longer than any of the server's time-outs here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

type NthRequest = Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>;

/// A front, and how it is abused.
pub(crate) struct Front {
    pub(crate) name: &'static str,
    address: String,
    /// The n-th request of a connection, and how its answer begins.
    honest: (NthRequest, &'static [u8]),
    /// Requests that break off: in the head, in the body.
    pub(crate) halves: Vec<Vec<u8>>,
    /// What never becomes a request, to be followed by `a`s.
    pub(crate) endless: Vec<u8>,
    /// A value of a GiB is announced; what the answer has in it.
    pub(crate) announced: (Vec<u8>, &'static str),
    /// Ask together for more than anybody's sockets hold.
    pub(crate) flood: Vec<Vec<u8>>,
    /// The same of values of which the first are small.
    pub(crate) growing: Vec<Vec<u8>>,
    /// The head of a write of a MiB, and how much of its value may follow.
    pub(crate) write: (Vec<u8>, usize),
    /// Who reads nothing is cut off after this.
    pub(crate) stalls_for: Duration,
}

/// All fronts of a server.
pub(crate) fn fronts(server: &Server) -> Vec<Front> {
    vec![http(server), resp(server), binary(server), grpc(server)]
}

fn large_keys() -> impl Iterator<Item = String> {
    (0..LARGE_VALUES).map(|n| format!("big/{n:02}"))
}

fn http(server: &Server) -> Front {
    let get = b"GET /api/v1/kv/small HTTP/1.1\r\nhost: t\r\n\r\n";
    let put = |length: usize, body: &str| {
        format!("PUT /api/v1/kv/abuse HTTP/1.1\r\nhost: t\r\ncontent-length: {length}\r\n\r\n{body}")
            .into_bytes()
    };
    let list = |prefix: &str| {
        format!("GET /api/v1/kv?prefix={prefix} HTTP/1.1\r\nhost: t\r\naccept: application/x-ndjson\r\n\r\n")
            .into_bytes()
    };
    Front {
        name: "http",
        address: server.endpoint.trim_start_matches("http://").to_owned(),
        honest: (Box::new(|_| get.to_vec()), b"HTTP/1.1 200"),
        halves: vec![b"GET /api/v1/kv/k HTTP/1.1\r\nho".to_vec(), put(10, "abc")],
        endless: b"GET /".to_vec(),
        announced: (put(1 << 30, ""), "413"),
        flood: vec![list("big/"); 8],
        growing: vec![list("mix/"); 8],
        write: (put(MIB, ""), MIB / 2),
        stalls_for: Duration::from_secs(5),
    }
}

fn resp(server: &Server) -> Front {
    let bulk = |words: &[&str]| {
        let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        words.collect::<String>()
    };
    let gets = large_keys().map(|key| format!("*2\r\n{}", bulk(&["GET", &key]))).collect::<String>();
    // A range is answered as a whole: what fits into an answer is asked for, from small to large.
    let end = format!("mix/b{:02}", LARGE_VALUES / 4);
    let range = format!("*3\r\n{}", bulk(&["ERANGE", "mix/", &end]));
    let many = large_keys().take(LARGE_VALUES / 4).collect::<Vec<_>>();
    let many = format!(
        "*{}\r\n{}{}",
        many.len() + 1,
        bulk(&["MGET"]),
        many.iter().map(|key| bulk(&[key])).collect::<String>()
    );
    Front {
        name: "resp",
        address: server.resp.clone(),
        honest: (Box::new(|_| b"*2\r\n$3\r\nGET\r\n$5\r\nsmall\r\n".to_vec()), b"$5\r\nvalue"),
        halves: vec![b"*3\r\n$3\r\nSE".to_vec(), b"*3\r\n$3\r\nSET\r\n$5\r\nabuse\r\n$10\r\nabc".to_vec()],
        endless: b"PING ".to_vec(),
        announced: (b"*3\r\n$3\r\nSET\r\n$5\r\nabuse\r\n$1073741824\r\n".to_vec(), "-ERR"),
        flood: vec![gets.into_bytes(); 8],
        growing: [range, many].map(String::into_bytes).into_iter().cycle().take(8).collect(),
        write: (format!("*3\r\n$3\r\nSET\r\n$5\r\nabuse\r\n${MIB}\r\n").into_bytes(), MIB / 2),
        stalls_for: Duration::from_secs(5),
    }
}

fn binary(server: &Server) -> Front {
    let gets = large_keys().map(|key| format!("GET {}\n{key}", key.len())).collect::<String>();
    Front {
        name: "binary",
        address: server.binary.trim_start_matches("esker://").to_owned(),
        honest: (Box::new(|_| b"GET 5\nsmall".to_vec()), b"VALUE 5 "),
        halves: vec![b"PUT 5 1".to_vec(), b"PUT 5 10\nabuseabc".to_vec()],
        endless: b"PING ".to_vec(),
        announced: (b"PUT 5 1073741824\nabuse".to_vec(), "ERR TOO_LARGE "),
        flood: vec![gets.into_bytes(); 8],
        growing: vec![b"RANGE 4 4\nmix/mix0".to_vec(); 8],
        write: (format!("PUT 5 {MIB}\nabuse").into_bytes(), MIB / 2),
        stalls_for: Duration::from_secs(5),
    }
}

fn grpc(server: &Server) -> Front {
    let get = GetRequest { key: "small".into(), ..GetRequest::default() };
    let scans = |prefix: &'static str| {
        let range = Range { prefix: Some(prefix.into()), ..Range::default() };
        let scan = ScanRequest { range: Some(range), ..ScanRequest::default() };
        (0..8).map(|n| http2::call(n, "/esker.v1.Kv/Scan", &scan)).collect()
    };
    Front {
        name: "grpc",
        address: server.grpc.clone(),
        honest: (Box::new(move |n| http2::call(n, "/esker.v1.Kv/Get", &get)), b""),
        halves: vec![
            http2::PREFACE[..10].to_vec(),
            http2::half_of_a_head("/esker.v1.Kv/Get"),
            http2::half_of_a_body("/esker.v1.Kv/Put"),
        ],
        endless: http2::PREFACE.to_vec(),
        // In a frame longer than any may be; tests/grpc/limits.rs has messages.
        announced: ([http2::PREFACE, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(), http2::GOAWAY),
        flood: scans("big/"),
        growing: scans("mix/"),
        // In one frame, so that no more heads are needed.
        write: (http2::long_body("/esker.v1.Kv/Put"), http2::FRAME_BYTES_MAX / 2),
        // It has 8 s more, for a slow client's piece.
        stalls_for: Duration::from_secs(13),
    }
}

impl Front {
    /// A connection whose reads and writes do not wait for ever.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The n-th honest request on a connection that is kept. Errors: it was cut off.
    pub(crate) fn ask(&self, stream: &mut TcpStream, n: u32) -> io::Result<()> {
        let (request, answer) = &self.honest;
        stream.write_all(&request(n))?;
        let mut got = Vec::new();
        while !got.windows(5).any(|bytes| bytes == b"value") {
            let mut piece = [0; 4096];
            let len = stream.read(&mut piece)?;
            if len == 0 {
                return Err(io::Error::other(format!("cut off after {}", got.escape_ascii())));
            }
            got.extend_from_slice(&piece[..len]);
        }
        assert!(got.starts_with(answer), "{}: {}", self.name, String::from_utf8_lossy(&got));
        Ok(())
    }

    /// Reads until the server closes; what it said before, its beginning.
    pub(crate) fn rest(&self, stream: &mut TcpStream) -> String {
        let (mut said, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < 2 * PATIENCE, "{}: it is never closed", self.name);
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(len) if said.len() < 4096 => said.extend_from_slice(&piece[..len]),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => break,
                Err(e) => panic!("{}: it is not closed: {e}", self.name),
            }
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}
