//! Names and TCP connections.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::tls::{TlsClient, TlsSeen};

/// The reason why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameFault {
    /// The resolver's error.
    Unknown(String),
    TimedOut,
}

/// Returns the addresses of a name, in the order of the resolver. An address is its own name.
pub(crate) fn resolve(host: &str, port: u16, timeout: Duration) -> Result<Vec<IpAddr>, NameFault> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    // The resolver has no time limit that a program can set, so it may continue in its thread until the process ends.
    thread::spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let _ = sender.send(found);
    });
    let found = receiver.recv_timeout(timeout).map_err(|_| NameFault::TimedOut)?;
    let found = found.map_err(|error| NameFault::Unknown(error.to_string()))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        Err(NameFault::Unknown("the name has no address".to_owned()))
    } else {
        Ok(addresses)
    }
}

/// The reason why an address does not accept a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConnectFault {
    Refused,
    TimedOut,
    Unreachable,
    Other(String),
}

impl From<io::Error> for ConnectFault {
    fn from(error: io::Error) -> ConnectFault {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are shown as text")]
        match error.kind() {
            ErrorKind::ConnectionRefused => ConnectFault::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => ConnectFault::TimedOut,
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable => {
                ConnectFault::Unreachable
            }
            _ => ConnectFault::Other(error.to_string()),
        }
    }
}

/// An attempt to connect: the time that it took, or the reason why it failed.
pub(crate) type Attempt = (SocketAddr, Result<Duration, ConnectFault>);

/// Connects to each address once, and closes the connection.
pub(crate) fn try_all(addresses: &[IpAddr], port: u16, timeout: Duration) -> Vec<Attempt> {
    let attempt = |address: &IpAddr| {
        let (address, start) = (SocketAddr::new(*address, port), Instant::now());
        let result = TcpStream::connect_timeout(&address, timeout);
        (address, result.map(|_| start.elapsed()).map_err(ConnectFault::from))
    };
    addresses.iter().map(attempt).collect()
}

/// Opens connections to one address, with TLS if there is a client for it.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<TlsClient>,
    pub(crate) timeout: Duration,
}

impl Dialer {
    /// Opens a connection.
    ///
    /// # Errors
    /// The error of TCP, or of TLS.
    pub(crate) fn open(&self) -> io::Result<Stream> {
        let tcp = self.open_tcp()?;
        match &self.tls {
            None => Ok(Stream::Plain(tcp)),
            Some(client) => Ok(Stream::Tls(Box::new(client.handshake(tcp)?))),
        }
    }

    /// Opens a connection, and returns observations about its TLS handshake.
    pub(crate) fn inspect_tls(&self) -> Option<TlsSeen> {
        let client = self.tls.as_ref()?;
        Some(client.inspect(self.open_tcp()))
    }

    fn open_tcp(&self) -> io::Result<TcpStream> {
        let tcp = TcpStream::connect_timeout(&self.address, self.timeout)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(self.timeout))?;
        tcp.set_write_timeout(Some(self.timeout))?;
        Ok(tcp)
    }
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Sets the time for which a read waits, at least a millisecond.
    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.tcp().set_read_timeout(Some(timeout.max(Duration::from_millis(1))))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp().as_fd()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.read(buffer),
            Stream::Tls(tls) => match tls.read(buffer) {
                // Many servers end the connection without a notification of TLS.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
                result => result,
            },
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(tcp) => tcp.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}
