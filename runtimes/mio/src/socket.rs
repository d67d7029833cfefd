//! A worker's sockets, under the keys that the service gave.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

use postern_core::Key;
use postern_host::socket;

/// One socket, on the network or not, and what its last edge left to be done.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) stream: OwnedFd,
    /// There may be bytes to read for which no edge will come: the last read filled the buffer, the peer
    /// has ended its side, or reading was paused.
    pub(crate) is_readable: bool,
    /// The peer has ended its side, or the socket has failed: a last read will say so.
    pub(crate) is_ended: bool,
    /// It is in the event loop's list of sockets to be read.
    pub(crate) is_listed: bool,
}

impl postern_core::worker::Socket for Socket {
    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = socket::receive(&self.stream, buffer);
        self.note(&received, buffer.len());
        received
    }

    fn receive_into_spare(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        let received = socket::receive_into_spare(&self.stream, buffer);
        self.note(&received, room);
        received
    }

    // Part of the turn, as the receiving is: a call and its result cost as much as the system call's preparation.
    #[inline(always)]
    fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        socket::send(&self.stream, pieces)
    }
}

impl Socket {
    /// Records that the peer has ended its side, or that the socket has failed.
    // Out of line: a rare branch is cheaper than the bit operations that it would become.
    #[cold]
    #[inline(never)]
    pub(crate) fn handle_end(&mut self) {
        self.is_ended = true;
    }

    /// A short read means that the socket is drained, unless the end follows.
    #[inline]
    fn note(&mut self, received: &io::Result<usize>, room: usize) {
        self.is_readable = match received {
            Ok(0) | Err(_) => false,
            Ok(n) => *n == room || self.is_ended,
        };
    }
}

/// Sockets by key. The service decides which keys are in use; this only keeps pace.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Vec<Option<Socket>>);

impl Sockets {
    pub(crate) fn insert(&mut self, key: Key, stream: OwnedFd) {
        if self.0.len() <= key.0 {
            self.0.resize_with(key.0 + 1, || None);
        }
        if let Some(slot) = self.0.get_mut(key.0) {
            *slot = Some(Socket { stream, is_readable: false, is_ended: false, is_listed: false });
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Socket> {
        self.0.get_mut(key.0)?.as_mut()
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Socket> {
        self.0.get(key.0)?.as_ref()
    }

    /// Takes the socket out; dropping it closes it.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Socket> {
        self.0.get_mut(key.0)?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_small() {
        assert!(size_of::<Option<Socket>>() <= 8, "{}", size_of::<Option<Socket>>());
    }
}
