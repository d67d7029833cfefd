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
    use crate::listen::{Access, ListenError, bind};

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
    fn an_address_in_use_is_said_in_one_line_with_what_to_do() {
        let taken = bound(&["127.0.0.1:0"]).unwrap();
        let port = port(&taken[0]);
        let address = format!("127.0.0.1:{port}");
        let error = bound(&["127.0.0.1:0", &address]).unwrap_err();
        assert_eq!(
            error,
            format!(
                "cannot listen on {address}: address in use; end the process that has the port (`ss -ltnp sport = :{port}` \
                 shows it), or set another port in PORT or POSTERN_LISTEN"
            )
        );
    }

    #[test]
    fn an_address_of_another_host_is_said_with_what_to_do() {
        // A documentation address (RFC 5737), which no interface has.
        let error = bound(&["192.0.2.1:8080"]).unwrap_err();
        assert_eq!(
            error,
            "cannot listen on 192.0.2.1:8080: address not available; no interface of this host has the address \
             (`ip address` shows them); set another in PORT or POSTERN_LISTEN"
        );
    }

    #[test]
    fn each_refusal_of_the_system_has_its_advice() {
        let error = |address: &str, kind: ErrorKind, setting| {
            let address = match address.strip_prefix("unix:") {
                Some(path) => Address::Unix(path.into()),
                None => Address::Tcp(address.parse().unwrap()),
            };
            ListenError { address, cause: kind.into(), setting }.to_string()
        };
        for (address, kind, setting, words) in [
            ("0.0.0.0:80", ErrorKind::PermissionDenied, "PORT or POSTERN_LISTEN", "CAP_NET_BIND_SERVICE"),
            (
                "0.0.0.0:80",
                ErrorKind::PermissionDenied,
                "POSTERN_CONTROL",
                "a port from 1024 in POSTERN_CONTROL",
            ),
            (
                "127.0.0.1:8081",
                ErrorKind::AddrInUse,
                "POSTERN_CONTROL",
                "set another port in POSTERN_CONTROL",
            ),
            ("unix:/no/x.sock", ErrorKind::NotFound, "POSTERN_LISTEN", "there is no folder /no; create it"),
            ("unix:/etc/x.sock", ErrorKind::PermissionDenied, "POSTERN_LISTEN", "write to /etc, or"),
            (
                "unix:/run/x.sock",
                ErrorKind::AddrInUse,
                "POSTERN_LISTEN",
                "end the process that listens there",
            ),
        ] {
            let error = error(address, kind, setting);
            assert!(error.starts_with(&format!("cannot listen on {address}: {kind}; ")), "{error}");
            assert!(error.contains(words), "{error}");
        }
    }
}
