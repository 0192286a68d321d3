//! Where the server's sockets are opened.

use std::{fmt, io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// An address could not be listened on.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        match source.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "port {} on {} is in use: stop the other server or choose another port",
                address.port(),
                address.ip()
            ),
            io::ErrorKind::PermissionDenied => {
                write!(f, "not allowed to listen on {address}: choose a port above 1023 ({source})")
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "{} is not an address of this machine ({source})", address.ip())
            }
            _ => write!(f, "cannot listen on {address}: {source}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Listens on an address; port 0 becomes a free one.
pub(crate) fn listen(address: SocketAddr, backlog: u32) -> Result<std::net::TcpListener, BindError> {
    open(address, backlog).map_err(|source| BindError { address, source })
}

fn open(address: SocketAddr, backlog: u32) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    socket.listen(backlog.try_into().unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server takes its port at once, though old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_told_which_port_is_taken() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = listen(any, 16).unwrap();
        let taken = first.local_addr().unwrap();
        let refused = listen(taken, 16).unwrap_err().to_string();
        assert!(refused.contains(&format!("port {} on 127.0.0.1 is in use", taken.port())), "{refused}");
        drop(first);
        listen(taken, 16).unwrap();
    }
}
