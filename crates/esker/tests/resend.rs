//! A single server is sent a write again where the answer was lost, and does it once: over every protocol.

use crate::support;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use esker_client::{Settings, blocking::Client};
use support::Server;
use tempfile::TempDir;

const INCREMENTS: usize = 200;

/// Reads the next piece of what a server says; says whether it is of an answer.
type Piece = fn(&mut TcpStream, &mut Vec<u8>) -> io::Result<bool>;

/// Whatever comes is an answer.
fn bytes(from: &mut TcpStream, piece: &mut Vec<u8>) -> io::Result<bool> {
    piece.resize(4096, 0);
    let read = from.read(piece)?;
    piece.truncate(read);
    if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(true) }
}

/// A frame of HTTP/2: one of type 1 begins an answer.
fn frame(from: &mut TcpStream, piece: &mut Vec<u8>) -> io::Result<bool> {
    piece.resize(9, 0);
    from.read_exact(piece)?;
    let len = u32::from_be_bytes([0, piece[0], piece[1], piece[2]]) as usize;
    piece.resize(9 + len, 0);
    from.read_exact(&mut piece[9..])?;
    Ok(piece[3] == 1)
}

/// A way to a server that breaks the connection when the next answer comes, each time it is told to.
struct Cutter {
    address: String,
    is_armed: Arc<AtomicBool>,
    cuts: Arc<AtomicUsize>,
}

impl Cutter {
    fn start(target: &str, piece: Piece) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (is_armed, cuts) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (armed, counter, target) = (Arc::clone(&is_armed), Arc::clone(&cuts), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
                let (mut from_client, mut to_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || io::copy(&mut from_client, &mut to_server));
                let (armed, counter) = (Arc::clone(&armed), Arc::clone(&counter));
                thread::spawn(move || answers(server, client, piece, &armed, &counter));
            }
        });
        Self { address, is_armed, cuts }
    }
}

fn answers(
    mut server: TcpStream,
    mut client: TcpStream,
    piece: Piece,
    armed: &AtomicBool,
    cuts: &AtomicUsize,
) {
    let mut bytes = Vec::new();
    while let Ok(is_answer) = piece(&mut server, &mut bytes) {
        if is_answer && armed.swap(false, Ordering::SeqCst) {
            cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if client.write_all(&bytes).is_err() {
            break;
        }
    }
    let _gone = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
}

/// Every increment's answer is lost once.
fn every_increment_counts_once(scheme: &str, target: &str, piece: Piece) {
    let cutter = Cutter::start(target, piece);
    let mut settings = Settings::default();
    settings.discover = false;
    settings.retry.pause_min = Duration::from_millis(1);
    let client = Client::with_settings(&format!("{scheme}://{}", cutter.address), settings).unwrap();
    for sum in 1..=INCREMENTS {
        cutter.is_armed.store(true, Ordering::SeqCst);
        assert_eq!(client.incr(scheme.as_bytes(), 1).unwrap().value, sum as i64, "{scheme}");
    }
    assert_eq!(cutter.cuts.load(Ordering::SeqCst), INCREMENTS, "{scheme}");
    let held = client.get(scheme.as_bytes()).unwrap().unwrap();
    assert_eq!(&held.value[..], INCREMENTS.to_string().as_bytes(), "{scheme}");
}

#[test]
fn an_increment_whose_answer_is_lost_counts_once() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let address = |endpoint: &str| endpoint.split("://").last().unwrap().to_owned();
    every_increment_counts_once("http", &address(&server.endpoint), bytes);
    every_increment_counts_once("esker", &address(&server.binary), bytes);
    every_increment_counts_once("grpc", &address(&server.grpc), frame);
}
