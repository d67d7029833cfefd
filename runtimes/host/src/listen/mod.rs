//! Listening sockets, and what to do when accepting fails.

mod backoff;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

pub use backoff::AcceptBackoff;

/// Listens on all of these addresses, in their order, without blocking.
///
/// An IPv6 socket takes IPv6 alone, so that `0.0.0.0:8080` and `[::]:8080` can stand side by side, and an IPv4
/// peer never appears under an IPv6 address. Port 0 is a free port that the system chooses.
///
/// # Errors
/// The first address that cannot be had, and why. Nothing is left listening then.
pub fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    addresses
        .iter()
        .map(|&address| listener(address).map_err(|cause| ListenError { address, cause }))
        .collect()
}

/// Sets what every accepted socket needs: small frames leave at once (TCP_NODELAY) instead of waiting until the
/// frame before them is acknowledged. Any socket will do, also a runtime's own.
///
/// # Errors
/// The peer is gone already. The first read tells so too, so the error may be ignored.
pub fn configure(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_tcp_nodelay(true)
}

/// An address on which nobody can listen.
#[derive(Debug)]
pub struct ListenError {
    /// Which.
    pub address: SocketAddr,
    /// Why.
    pub cause: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The kind reads "address in use", the error itself "Address already in use (os error 98)".
        write!(f, "cannot listen on {}: {}", self.address, self.cause.kind())
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted process gets its port back although old connections are still in TIME_WAIT. On Linux two
    // processes cannot listen on one port this way; that would be SO_REUSEPORT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// How many connections the kernel keeps for us until they are accepted; it may cut this to `somaxconn`.
/// Enough for a whole gateway that reconnects while a worker is busy.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn listeners_do_not_block_and_accept() {
        let listeners = bind(&["127.0.0.1:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()]).unwrap();
        for listener in &listeners {
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            configure(&stream).unwrap();
            assert!(stream.nodelay().unwrap());
        }
    }

    #[test]
    fn both_families_can_have_the_same_port() {
        if bind(&["[::1]:0".parse().unwrap()]).is_err() {
            return; // A host without IPv6.
        }
        // Somebody else may have the port in the other family, but not every time.
        let bound = (0..10).any(|_| {
            let first = bind(&["[::]:0".parse().unwrap()]).unwrap();
            let port = first[0].local_addr().unwrap().port();
            bind(&[SocketAddr::from(([0, 0, 0, 0], port))]).is_ok()
        });
        assert!(bound);
    }

    #[test]
    fn an_address_in_use_is_said_in_one_line() {
        let taken = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = taken[0].local_addr().unwrap();
        let error = bind(&["127.0.0.1:0".parse().unwrap(), address]).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {address}: address in use"));
    }
}
