//! A bare axum server: GET answers 100 bytes, PUT takes a body and answers what Esker's PUT would.
//!
//! `http-baseline PORT [shared]`: one current-thread runtime a core with a listener of its own, or one work-stealing runtime.

use std::net::{Ipv4Addr, SocketAddr};

use axum::{Router, body::Bytes, extract::Path, routing::get};
use socket2::{Domain, Socket, Type};

fn main() {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().and_then(|port| port.parse().ok()).expect("usage: http-baseline PORT [shared]");
    if args.next().as_deref() == Some("shared") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        return runtime.block_on(serve(port));
    }
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads: Vec<_> = (0..cores)
        .map(|_| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(serve(port));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

async fn serve(port: u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.set_nonblocking(true).expect("non-blocking");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("a free port");
    socket.listen(1024).expect("listening");
    let listener = tokio::net::TcpListener::from_std(socket.into()).expect("a listener");
    let value = Bytes::from(vec![7; 100]);
    let read = move || std::future::ready(value.clone());
    let write = |Path(key): Path<String>, body: Bytes| async move {
        std::hint::black_box(body);
        ([("content-type", "application/json"), ("etag", "\"12345\"")], format!("{{\"key\":\"{key}\",\"version\":12345}}"))
    };
    let app = Router::new().route("/api/v1/kv/{key}", get(read).put(write));
    axum::serve(listener, app).await.expect("serving");
}
