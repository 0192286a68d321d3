//! The one home of the server's sockets.
//!
//! With a listener per core all of them share a port through SO_REUSEPORT, which would also let a second server
//! of the same user take part of the connections in silence. So the port is first claimed without it.

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

/// Opens `count` listeners on one address; port 0 becomes the same free port for all.
pub(crate) fn listen(
    address: SocketAddr,
    backlog: u32,
    count: usize,
) -> Result<Vec<std::net::TcpListener>, BindError> {
    let failed = |source| BindError { address, source };
    let claimed = claim(address).map_err(failed)?;
    (0..count).map(|_| open(claimed, backlog, count > 1).map_err(failed)).collect()
}

/// Fails if anybody listens on the address; says which port 0 became.
///
/// The claim is given up before the listeners open. Who slips into that moment makes their `bind` fail, unless
/// it is another server of ours with SO_REUSEPORT, opened within the same microseconds.
fn claim(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the socket has no address"))
}

fn open(address: SocketAddr, backlog: u32, share_port: bool) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(share_port)?;
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
        let first = listen(any, 16, 3).unwrap();
        let taken = first[0].local_addr().unwrap();
        assert!(first.iter().all(|listener| listener.local_addr().unwrap() == taken));
        let refused = listen(taken, 16, 3).unwrap_err().to_string();
        assert!(refused.contains(&format!("port {} on 127.0.0.1 is in use", taken.port())), "{refused}");
        drop(first);
        listen(taken, 16, 1).unwrap();
    }
}
