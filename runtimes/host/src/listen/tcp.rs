//! Listening on the network.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use postern_core::handshake::Peer;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Address, BACKLOG, Keeper, Listener};

pub(super) fn listen(address: SocketAddr) -> io::Result<Listener> {
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
    // The system's own word, because of port 0.
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Listener { address: Address::Tcp(bound), keeper: Keeper::Process, file: None, socket: socket.into() })
}

pub(super) fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, Peer)> {
    let (stream, address) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    let address = address.ok_or(io::Error::from(ErrorKind::ConnectionAborted))?;
    // Small frames leave at once instead of waiting until the frame before them is acknowledged. It fails only if
    // the peer is gone already, which the first read tells.
    let _ = SockRef::from(&stream).set_tcp_nodelay(true);
    Ok((stream, Peer::from(address)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::listen::{Access, bind};

    fn bound(addresses: &[&str]) -> Result<Vec<Listener>, String> {
        let addresses: Vec<_> = addresses.iter().map(|text| Address::Tcp(text.parse().unwrap())).collect();
        bind(&addresses, &Access::default()).map_err(|error| error.to_string())
    }

    fn port(listener: &Listener) -> u16 {
        let Address::Tcp(address) = listener.address() else { panic!("{listener:?}") };
        address.port()
    }

    #[test]
    fn listeners_do_not_block_and_accept() {
        for listener in bound(&["127.0.0.1:0", "127.0.0.1:0"]).unwrap() {
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            let client = TcpStream::connect(("127.0.0.1", port(&listener))).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            assert_eq!(peer, Peer::from(client.local_addr().unwrap()));
            let stream = TcpStream::from(stream);
            assert!(stream.nodelay().unwrap());
            assert_eq!(stream.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn both_families_can_have_the_same_port() {
        if bound(&["[::1]:0"]).is_err() {
            return; // A host without IPv6.
        }
        // Somebody else may have the port in the other family, but not every time.
        let is_bound = (0..10).any(|_| {
            let first = bound(&["[::]:0"]).unwrap();
            bound(&[&format!("0.0.0.0:{}", port(&first[0]))]).is_ok()
        });
        assert!(is_bound);
    }

    #[test]
    fn an_address_in_use_is_said_in_one_line() {
        let taken = bound(&["127.0.0.1:0"]).unwrap();
        let address = format!("127.0.0.1:{}", port(&taken[0]));
        let error = bound(&["127.0.0.1:0", &address]).unwrap_err();
        assert_eq!(error, format!("cannot listen on {address}: address in use"));
    }
}
