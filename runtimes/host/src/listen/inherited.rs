//! Listening on sockets that another process has bound: a supervisor, or the predecessor of this process.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use socket2::SockRef;

use super::unix::{FileOwnership, SocketFileGuard};
use super::{Address, Listener, SocketOwner};

impl Listener {
    /// Takes over a socket that listens already. If no supervisor keeps it, its file must be removed in the end; this process
    /// does so only after it has acquired the file ([`Listener::file_ownership`]).
    ///
    /// # Errors
    /// It is not a listening socket.
    pub(crate) fn from_inherited(socket: OwnedFd, owner: SocketOwner) -> io::Result<Listener> {
        if socket_type(&socket)? != SocketType::STREAM || !socket_acceptconn(&socket)? {
            return Err(unusable("not a socket that listens for streams"));
        }
        let handle = SockRef::from(&socket);
        handle.set_nonblocking(true)?;
        let bound = handle.local_addr()?;
        let address = match (bound.as_socket(), bound.as_pathname()) {
            (Some(address), _) => Address::Tcp(address),
            (None, Some(path)) => Address::Unix(path.to_owned()),
            (None, None) => return Err(unusable("neither on the network nor in the file system")),
        };
        let file = match (&address, owner) {
            (Address::Unix(path), SocketOwner::Process) => {
                Some(SocketFileGuard::new(path, FileOwnership::new(false))?)
            }
            (Address::Unix(_), SocketOwner::Supervisor) | (Address::Tcp(_), _) => None,
        };
        // Clients may have connected already. If it is not set, it cannot be set for them here.
        let passes_no_delay = handle.tcp_nodelay().unwrap_or(false);
        Ok(Listener { address, owner, file, passes_no_delay, socket })
    }
}

fn unusable(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_that_listens_is_taken_over_as_it_is() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::from_inherited(socket.into(), SocketOwner::Process).unwrap();
        assert_eq!(listener.address(), &Address::Tcp(address));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let _client = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(TcpStream::from(stream).nodelay().unwrap());
    }

    #[test]
    fn a_file_is_removed_by_the_process_that_owns_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postern.sock");
        let socket = OwnedFd::from(UnixListener::bind(&path).unwrap());
        let from_inherited = |owner| Listener::from_inherited(socket.try_clone().unwrap(), owner).unwrap();
        // The socket of a supervisor, of a predecessor that has not handed over, and of one that has.
        assert!(from_inherited(SocketOwner::Supervisor).file_ownership().is_none());
        drop(from_inherited(SocketOwner::Process));
        assert!(path.exists());
        let listener = from_inherited(SocketOwner::Process);
        assert_eq!(listener.address(), &Address::Unix(path.clone()));
        listener.file_ownership().unwrap().acquire();
        listener.file_ownership().unwrap().release();
        drop(listener);
        assert!(path.exists());
        let listener = from_inherited(SocketOwner::Process);
        listener.file_ownership().unwrap().acquire();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_descriptor_that_does_not_listen_is_refused() {
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        for socket in [OwnedFd::from(datagrams), OwnedFd::from(connected), OwnedFd::from(file)] {
            assert!(Listener::from_inherited(socket, SocketOwner::Process).is_err());
        }
    }
}
