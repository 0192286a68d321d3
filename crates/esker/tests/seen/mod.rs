//! SPEC 6 with the real binary: profiles, lines of the log, spans for a collector.

mod log;
mod profiles;
mod spans;
use crate::support;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use support::Server;
use tempfile::TempDir;

fn server(more: &[&str]) -> (Server, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<&str> = ["--wal-sync-policy", "never"].iter().chain(more).copied().collect();
    (Server::start(dir.path(), &all), dir)
}

/// One request on a connection of its own; the status and the body.
fn request(endpoint: &str, line: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
    let len = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: esker\r\nConnection: close\r\nContent-Length: {len}\r\n{headers}\r\n"
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(head + 4))
}
