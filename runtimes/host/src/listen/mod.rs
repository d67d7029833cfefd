//! Listening sockets, and what to do when accepting fails.
//!
//! After they listen, sockets on the network and in the file system are used in the same way.

mod acceptor;
mod fd_reserve;
mod inherited;
mod overload;
mod tcp;
mod unix;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use postern_core::handshake::Peer;
use rustix::io::Errno;

#[cfg(feature = "control")]
pub(crate) use acceptor::is_out_of_descriptors;
pub use acceptor::{Accepted, Acceptor};
#[cfg(feature = "control")]
pub(crate) use fd_reserve::FdReserve;
pub(crate) use overload::RESERVED_FDS;
pub(crate) use unix::FileOwnership;
use unix::SocketFileGuard;
pub use unix::{Access, Owner};

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address. With port 0 the system chooses a free port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Writes an address as in `POSTERN_LISTEN`: `127.0.0.1:8080`, `unix:/run/postern.sock`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The process that keeps a socket open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketOwner {
    /// This process, and a successor of it.
    Process,
    /// The supervisor: clients that connect after this process has closed the socket wait for the next process.
    Supervisor,
}

/// A listening socket. It does not block. Dropping it closes it, and removes its file if it has one.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    owner: SocketOwner,
    /// Removed before the socket is closed, so that no client finds the file of a socket without a listener.
    file: Option<SocketFileGuard>,
    /// Whether the kernel sets TCP_NODELAY on accepted sockets, because it was set on this one before clients could
    /// connect.
    passes_no_delay: bool,
    socket: OwnedFd,
}

impl Listener {
    /// Returns the address, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the process that keeps it open.
    pub(crate) fn owner(&self) -> SocketOwner {
        self.owner
    }

    /// Whether every user of this host may connect, by the mode of the socket's file. False for TCP.
    pub(crate) fn admits_everyone(&self) -> bool {
        match &self.address {
            Address::Tcp(_) => false,
            Address::Unix(path) => path.metadata().is_ok_and(|file| file.mode() & 0o002 != 0),
        }
    }

    /// Whether this process removes the socket's file in the end, if it has one.
    pub(crate) fn file_ownership(&self) -> Option<&FileOwnership> {
        self.file.as_ref().map(SocketFileGuard::ownership)
    }

    /// Accepts the next connection: a non-blocking socket that sends small frames at once, and the address of its peer.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none; [`Acceptor::accept`] handles all others.
    pub fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        match self.address {
            Address::Tcp(_) => tcp::accept(&self.socket, self.passes_no_delay),
            Address::Unix(_) => unix::accept(&self.socket),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Listens on all these addresses, in their order.
///
/// `[::]:8080` takes both families, and IPv4 alone on a host without IPv6, unless an IPv4 address with the same port is
/// among the addresses: then it takes IPv6 alone, so that `0.0.0.0:8080,[::]:8080` works. An IPv4 peer has its IPv4 address
/// in both cases. `access` has the mode and the owner of the files of Unix sockets.
///
/// # Errors
/// The first address that cannot be bound, and why. No socket remains open then.
pub fn bind(addresses: &[Address], access: &Access) -> Result<Vec<Listener>, ListenError> {
    let has_ipv4 = |port| {
        let is_it =
            |other: &Address| matches!(other, Address::Tcp(SocketAddr::V4(other)) if other.port() == port);
        port != 0 && addresses.iter().any(is_it)
    };
    let bind = |address: &Address| match address {
        Address::Tcp(address) => tcp::listen(*address, has_ipv4(address.port())),
        Address::Unix(path) => unix::listen(path, access),
    };
    addresses
        .iter()
        .map(|address| {
            bind(address).map_err(|cause| ListenError { address: address.clone(), cause, setting: SETTINGS })
        })
        .collect()
}

/// An address on which the process cannot listen.
#[derive(Debug)]
pub struct ListenError {
    /// The address.
    pub address: Address,
    /// The error of the system.
    pub cause: io::Error,
    /// The settings that have the address.
    pub setting: &'static str,
}

impl ListenError {
    /// Returns what an operator can do about it.
    fn advice(&self) -> Option<String> {
        let setting = self.setting;
        match (self.cause.kind(), &self.address) {
            (ErrorKind::AddrInUse, Address::Tcp(address)) => Some(format!(
                "end the process that has the port (`ss -ltnp sport = :{}` shows it), or set another port in {setting}",
                address.port()
            )),
            (ErrorKind::AddrInUse, Address::Unix(_)) => {
                Some("end the process that listens there, or set another path in POSTERN_LISTEN".to_owned())
            }
            (ErrorKind::PermissionDenied, Address::Tcp(address)) if address.port() < 1024 => Some(format!(
                "a port below 1024 needs the capability CAP_NET_BIND_SERVICE, or a socket unit of systemd; or set a port \
                 from 1024 in {setting}"
            )),
            (ErrorKind::PermissionDenied, Address::Unix(path)) => Some(format!(
                "let the user of this process write to {}, or set another path in POSTERN_LISTEN",
                folder(path).display()
            )),
            (ErrorKind::NotFound, Address::Unix(path)) => Some(format!(
                "there is no folder {}; create it, or set another path in POSTERN_LISTEN",
                folder(path).display()
            )),
            (ErrorKind::AddrNotAvailable, Address::Tcp(_)) => Some(format!(
                "no interface of this host has the address (`ip address` shows them); set another in {setting}"
            )),
            (_, Address::Tcp(address))
                if address.is_ipv6()
                    && self.cause.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) =>
            {
                Some(format!(
                    "this host has no IPv6; set an IPv4 address in {setting}, for example 0.0.0.0:{}",
                    address.port()
                ))
            }
            _ => None,
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match self.cause.raw_os_error() {
            // The kind reads "address in use", the error itself "Address already in use (os error 98)".
            Some(_) => self.cause.kind().fmt(f),
            None => self.cause.fmt(f),
        }?;
        match self.advice() {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// The settings that have the addresses for users.
const SETTINGS: &str = "PORT or POSTERN_LISTEN";

/// The number of connections that the kernel queues until they are accepted; it may reduce this to
/// `net.core.somaxconn`. Enough for a whole gateway that reconnects while a worker is busy, and during an attack: if
/// the queue is full, the client tries again after a second.
const BACKLOG: i32 = 4096;
