//! The system calls of a turn: one receive, one send. Called again only if a signal interrupted them.
//!
//! They go to the kernel without the C library, whose own are points of cancellation and cost more than all that the
//! core does with a short message.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::io::{retry_on_intr, writev};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send as send_one, shutdown};

/// Receives into `buffer`. Says how many bytes came; zero is the end of the peer's side.
///
/// # Errors
/// The system's; [`io::ErrorKind::WouldBlock`] if there is nothing to receive.
#[inline]
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (n, _) = retry_on_intr(|| recv(&socket, &mut *buffer, RecvFlags::empty()))?;
    Ok(n)
}

/// Receives into the room that `buffer` has behind its bytes. There must be some.
///
/// # Errors
/// As for [`receive`].
pub fn receive_into_spare(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let (n, _) = retry_on_intr(|| recv(&socket, spare_capacity(buffer), RecvFlags::empty()))?;
    Ok(n)
}

/// Sends the pieces, one behind the other. Says how many bytes of them the socket took.
///
/// # Errors
/// The system's; [`io::ErrorKind::WouldBlock`] if it took nothing.
#[inline(always)]
pub fn send(socket: impl AsFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let sent = match pieces {
        [piece] => retry_on_intr(|| send_one(&socket, piece, SendFlags::NOSIGNAL))?,
        // Rust's start-up has it that a peer which is gone makes an error and no signal.
        pieces => retry_on_intr(|| writev(&socket, pieces))?,
    };
    Ok(sent)
}

/// Ends our side of the connection; what the peer still sends can be received.
///
/// # Errors
/// The peer is gone already, which the next read tells, too.
pub fn shut_down_write(socket: impl AsFd) -> io::Result<()> {
    Ok(shutdown(socket, Shutdown::Write)?)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_sent_in_pieces_is_received_in_either_way() {
        let (here, there) = UnixStream::pair().unwrap();
        there.set_nonblocking(true).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(receive(&there, &mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(send(&here, &[IoSlice::new(b"one")]).unwrap(), 3);
        assert_eq!(receive(&there, &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"one");
        assert_eq!(send(&here, &[IoSlice::new(b"two "), IoSlice::new(b"three")]).unwrap(), 9);
        let mut behind = Vec::with_capacity(9);
        behind.extend_from_slice(b"one ");
        assert_eq!(receive_into_spare(&there, &mut behind).unwrap(), 5, "no more than there is room for");
        assert_eq!(behind, b"one two t");
        assert_eq!(receive(&there, &mut buffer).unwrap(), 4);
        shut_down_write(&there).unwrap();
        assert_eq!(receive(&here, &mut buffer).unwrap(), 0);
        drop(here);
        assert_eq!(receive(&there, &mut buffer).unwrap(), 0);
        let error = send(&there, &[IoSlice::new(b"nobody"), IoSlice::new(b"here")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
