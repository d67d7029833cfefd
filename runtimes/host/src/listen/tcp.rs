//! Listening on the network.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use postern_core::handshake::Peer;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Address, BACKLOG, Listener, SocketOwner};

/// Listens on an address. `[::]` means all addresses of both families, or all IPv4 addresses on a host without IPv6,
/// unless `is_ipv6_alone`.
pub(super) fn listen(address: SocketAddr, is_ipv6_alone: bool) -> io::Result<Listener> {
    let is_both = address.ip() == Ipv6Addr::UNSPECIFIED && !is_ipv6_alone;
    match listen_on(address, !is_both) {
        Err(error) if is_both && is_lack_of_ipv6(&error) => {
            listen_on(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), false)
        }
        listener => listener,
    }
}

/// Whether the kernel has no IPv6, or has it without an address.
fn is_lack_of_ipv6(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| {
        [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(Errno::raw_os_error).contains(&code)
    })
}

fn listen_on(address: SocketAddr, is_ipv6_alone: bool) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted process gets its port back although old connections are still in TIME_WAIT. On Linux two
    // processes cannot listen on one port this way; that would be SO_REUSEPORT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(is_ipv6_alone)?;
    }
    // Small frames leave at once instead of waiting until the frame before them is acknowledged. Accepted sockets inherit
    // this.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    // The system chooses the port if it is 0.
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Listener {
        address: Address::Tcp(bound),
        owner: SocketOwner::Process,
        file: None,
        passes_no_delay: true,
        socket: socket.into(),
    })
}

pub(super) fn accept(listener: impl AsFd, passes_no_delay: bool) -> io::Result<(OwnedFd, Peer)> {
    let (stream, address) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    let address = address.ok_or(io::Error::from(ErrorKind::ConnectionAborted))?;
    if !passes_no_delay {
        // It fails only if the peer has already disconnected, which the first read reports.
        let _ = SockRef::from(&stream).set_tcp_nodelay(true);
    }
    Ok((stream, Peer::from(address)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::thread;
    use std::time::Duration;

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

    /// Returns the address of a peer that connects from `from`, as a listener reports it.
    fn visitor(listeners: &[Listener], from: &str, port: u16) -> String {
        let _client = TcpStream::connect((from, port)).unwrap();
        let found = listeners.iter().find_map(|listener| {
            (0..50).find_map(|_| {
                thread::sleep(Duration::from_millis(1));
                listener.accept().ok()
            })
        });
        let (_, peer) = found.unwrap();
        let Peer::Tcp { ip, .. } = peer else { panic!("{peer:?}") };
        ip.to_string()
    }

    #[test]
    fn all_addresses_are_those_of_both_families() {
        // On a host without IPv6 it means all IPv4 addresses.
        let listeners = bound(&["[::]:0"]).unwrap();
        let port = port(&listeners[0]);
        assert_eq!(visitor(&listeners, "127.0.0.1", port), "127.0.0.1");
        if bound(&["[::1]:0"]).is_ok() {
            assert_eq!(visitor(&listeners, "::1", port), "::1");
        }
    }

    #[test]
    fn both_families_can_have_listeners_of_their_own_on_the_same_port() {
        if bound(&["[::1]:0"]).is_err() {
            return; // A host without IPv6.
        }
        // Another process may have taken the port since, but not every time.
        let is_bound = (0..10).any(|_| {
            let free = port(&bound(&["[::]:0"]).unwrap()[0]);
            let addresses = [format!("0.0.0.0:{free}"), format!("[::]:{free}")];
            bound(&[&addresses[0], &addresses[1]]).is_ok_and(|listeners| {
                assert_eq!(visitor(&listeners[..1], "127.0.0.1", free), "127.0.0.1");
                assert_eq!(visitor(&listeners[1..], "::1", free), "::1");
                true
            })
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
