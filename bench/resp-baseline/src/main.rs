//! A bare server of the Redis protocol: GET answers 100 bytes, everything else `OK`. It looks at no key and keeps nothing.
//!
//! `resp-baseline PORT`: one work-stealing runtime, a read of up to 16 KiB at a time, one write for all that it held.

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const READ_BYTES: usize = 16 << 10;

fn main() {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: resp-baseline PORT");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a free port");
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            tokio::spawn(serve(stream));
        }
    });
}

/// Until the client goes away or sends what is no command.
async fn serve(mut stream: TcpStream) {
    let value = format!("$100\r\n{}\r\n", "7".repeat(100)).into_bytes();
    let (mut input, mut output) = (Vec::with_capacity(READ_BYTES), Vec::with_capacity(READ_BYTES));
    loop {
        match stream.read_buf(&mut input).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        let mut at = 0;
        while let Some((name, end)) = command(&input[at..]) {
            let is_get = name.eq_ignore_ascii_case(b"get");
            output.extend_from_slice(if is_get { &value } else { b"+OK\r\n" });
            at += end;
        }
        input.drain(..at);
        input.reserve(READ_BYTES);
        if stream.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
    }
}

/// The name of the first command, and where it ends; `None` if it has not all come yet.
fn command(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (count, mut at) = number(bytes, 0, b'*')?;
    let mut name = &b""[..];
    for n in 0..count {
        let (len, start) = number(bytes, at, b'$')?;
        at = start + len + 2;
        let argument = bytes.get(start..at)?;
        if n == 0 {
            name = &argument[..len];
        }
    }
    Some((name, at))
}

/// The number behind `mark`, and where its line ends.
fn number(bytes: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?.strip_prefix(&[mark])?;
    let len = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(&rest[..len]).ok()?.parse().ok()?;
    Some((number, at + 1 + len + 2))
}
