//! The system calls of a turn: one receive, one send. They are repeated only after an interruption by a signal.
//!
//! They bypass the C library, whose functions are cancellation points and cost more time than the core takes for a
//! short message.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::io::{retry_on_intr, writev};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send as send_one, shutdown};

/// Receives into `buffer`. Returns the number of bytes; zero means that the peer has ended its side.
///
/// # Errors
/// The error of the system; [`io::ErrorKind::WouldBlock`] if there is nothing to receive.
#[inline]
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (n, _) = retry_on_intr(|| recv(&socket, &mut *buffer, RecvFlags::empty()))?;
    Ok(n)
}

/// Receives into the spare capacity of `buffer`, which must not be empty.
///
/// # Errors
/// The same as [`receive`].
pub fn receive_into_spare(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let (n, _) = retry_on_intr(|| recv(&socket, spare_capacity(buffer), RecvFlags::empty()))?;
    Ok(n)
}

/// Sends the pieces in their order. Returns the number of bytes that the socket accepted.
///
/// # Errors
/// The error of the system; [`io::ErrorKind::WouldBlock`] if the socket accepted no bytes.
#[inline(always)]
pub fn send(socket: impl AsFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let sent = match pieces {
        [piece] => retry_on_intr(|| send_one(&socket, piece, SendFlags::NOSIGNAL))?,
        // The runtime of Rust ignores SIGPIPE, so a disconnected peer causes an error.
        pieces => retry_on_intr(|| writev(&socket, pieces))?,
    };
    Ok(sent)
}

/// Ends our side of the connection. Bytes from the peer can still be received.
///
/// # Errors
/// The peer has disconnected, which the next read reports, too.
pub fn shut_down_write(socket: impl AsFd) -> io::Result<()> {
    Ok(shutdown(socket, Shutdown::Write)?)
}

/// Bytes of one read on a small host. A message of the default maximum fits with its header: a message that is received in
/// two reads is collected in a buffer of its connection, so each connection that sends large messages would need one.
pub const SMALL_READ_BUFFER: usize = 68 * 1024;

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn pieces_are_received_in_both_ways() {
        let (here, there) = UnixStream::pair().unwrap();
        there.set_nonblocking(true).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(receive(&there, &mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(send(&here, &[IoSlice::new(b"one")]).unwrap(), 3);
        assert_eq!(receive(&there, &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"one");
        assert_eq!(send(&here, &[IoSlice::new(b"two "), IoSlice::new(b"three")]).unwrap(), 9);
        let mut received = Vec::with_capacity(9);
        received.extend_from_slice(b"one ");
        assert_eq!(receive_into_spare(&there, &mut received).unwrap(), 5, "no more than the spare capacity");
        assert_eq!(received, b"one two t");
        assert_eq!(receive(&there, &mut buffer).unwrap(), 4);
        shut_down_write(&there).unwrap();
        assert_eq!(receive(&here, &mut buffer).unwrap(), 0);
        drop(here);
        assert_eq!(receive(&there, &mut buffer).unwrap(), 0);
        let error = send(&there, &[IoSlice::new(b"no"), IoSlice::new(b"peer")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
