//! A model of one TCP connection: two buffers of limited size, and the ends of its sides.

use std::collections::VecDeque;
use std::io::{self, Error, ErrorKind, IoSlice, Read};

use postern_core::worker::Socket;

use crate::random::Random;

/// One connection, as the kernel sees it. As a [`Socket`] it is the server's side.
#[derive(Debug)]
pub(crate) struct Link {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// The most bytes in each of the buffers.
    capacity: usize,
    client: End,
    server: End,
    /// Whether the last send accepted only a part of the bytes, or none.
    is_blocked: bool,
    /// Whether the server sent after the end of its side.
    is_misused: bool,
    random: Random,
}

/// The state of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// It sends nothing more.
    ShutDown,
    /// It is closed: it sends nothing more, and what the other side sends is discarded.
    Closed,
    /// It has reset the connection. Bytes in the buffers are lost.
    Reset,
}

impl Link {
    pub(crate) fn new(capacity: usize, random: Random) -> Link {
        Link {
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            capacity,
            client: End::Open,
            server: End::Open,
            is_blocked: false,
            is_misused: false,
            random,
        }
    }

    /// Whether a read of the server returns something other than `WouldBlock`.
    pub(crate) fn is_readable(&self) -> bool {
        !self.to_server.is_empty() || self.has_client_ended()
    }

    /// Whether the socket is writable again after it did not accept all bytes. A runtime whose events are edge-triggered is not
    /// notified in any other case.
    pub(crate) fn is_writable_again(&self) -> bool {
        self.is_blocked && (self.to_client.len() < self.capacity || self.client == End::Reset)
    }

    /// Whether the client sends nothing more.
    pub(crate) fn has_client_ended(&self) -> bool {
        self.client != End::Open
    }

    /// Whether output of the server was left when it last sent.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    pub(crate) fn is_misused(&self) -> bool {
        self.is_misused
    }

    /// Shuts down the server's writing side.
    pub(crate) fn shut_down_write(&mut self) {
        if self.server == End::Open {
            self.server = End::ShutDown;
        }
    }

    /// Closes the server's side.
    pub(crate) fn close(&mut self) {
        self.server = End::Closed;
        self.to_server.clear();
    }

    /// Whether the server has closed its side.
    pub(crate) fn is_closed(&self) -> bool {
        self.server == End::Closed
    }

    /// Bytes that the client can send now.
    pub(crate) fn client_room(&self) -> usize {
        if self.client == End::Open { self.capacity.saturating_sub(self.to_server.len()) } else { 0 }
    }

    /// Sends bytes of the client. Returns their number. A closed server discards them.
    pub(crate) fn client_send(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.client_room());
        if self.server != End::Closed {
            self.to_server.extend(&bytes[..n]);
        }
        n
    }

    /// Appends at most `most` bytes to `bytes`, which the client receives. Returns their number.
    pub(crate) fn client_receive(&mut self, most: usize, bytes: &mut Vec<u8>) -> usize {
        let n = most.min(self.to_client.len());
        bytes.extend(self.to_client.drain(..n));
        n
    }

    /// The number of bytes that the client can receive now.
    pub(crate) fn client_unread(&self) -> usize {
        self.to_client.len()
    }

    /// Whether the client has received all bytes, and the server sends nothing more.
    pub(crate) fn is_at_end(&self) -> bool {
        self.to_client.is_empty() && self.server != End::Open
    }

    /// Ends the client's sending side.
    pub(crate) fn client_shut_down(&mut self) {
        if self.client == End::Open {
            self.client = End::ShutDown;
        }
    }

    /// Resets the connection from the client's side.
    pub(crate) fn client_reset(&mut self) {
        self.client = End::Reset;
        self.to_server.clear();
        self.to_client.clear();
    }

    /// Returns a number of bytes up to `most`: often all, sometimes fewer.
    fn portion(&mut self, most: usize) -> usize {
        if most > 1 && self.random.one_in(4) { self.random.magnitude(1..=most) } else { most }
    }
}

impl Socket for Link {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.client == End::Reset {
            return Err(Error::from(ErrorKind::ConnectionReset));
        }
        if self.to_server.is_empty() && !self.has_client_ended() {
            return Err(Error::from(ErrorKind::WouldBlock));
        }
        let n = self.portion(buffer.len().min(self.to_server.len()));
        self.to_server.read_exact(&mut buffer[..n])?;
        Ok(n)
    }

    fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.is_misused |= self.server != End::Open;
        if self.client == End::Reset {
            return Err(Error::from(ErrorKind::BrokenPipe));
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let room = self.capacity.saturating_sub(self.to_client.len());
        let n = self.portion(total.min(room));
        self.is_blocked = n < total;
        if n == 0 {
            return Err(Error::from(ErrorKind::WouldBlock));
        }
        let mut left = n;
        for piece in pieces {
            let taken = left.min(piece.len());
            self.to_client.extend(&piece[..taken]);
            left -= taken;
        }
        Ok(n)
    }
}
