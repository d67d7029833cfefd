//! Standard output. Every line is written in one piece, even while other processes write to the same file.
//!
//! A process and its successor share one standard output, and so do processes that one shell has started. How a
//! line stays whole depends on the kind of file:
//!
//! * A regular file takes each write in one piece, at its end or at the common position, because Linux locks the
//!   inode and the position. So do devices such as `/dev/null`.
//! * A pipe takes up to [`PIPE_BUF`] bytes in one piece. It may split a longer write, with bytes of other processes
//!   in between. A socket or a terminal may split a write of any length. So whole lines of together at most that
//!   size are written, and only when the kernel reports room for them. An empty pipe takes its whole capacity in
//!   one piece, which saves wake-ups of a fast reader.
//! * A longer line takes several writes. So all writes are made while this process has a record lock on the pipe,
//!   the socket or the terminal (`F_SETLK`). It excludes every process that takes the same lock, whichever way it
//!   got the descriptor, and ends with the process. Where the kernel has no such locks, lines of at most `PIPE_BUF`
//!   bytes are still whole.
//!
//! No call blocks for longer than [`ROOM_WAIT`]. A process that ends stops writing between two lines.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::fcntl_getpipe_size;

/// A file descriptor that lines are written to.
pub struct Output {
    file: File,
    /// Whether the file takes each write in one piece.
    is_whole: bool,
    is_pipe: bool,
    /// Whether the kernel has record locks for this file.
    has_lock: bool,
    /// Whether the last write ended within a line, so that the lock is held.
    is_within_line: bool,
}

impl Output {
    /// Opens standard output.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn stdout() -> io::Result<Output> {
        Output::new(&io::stdout())
    }

    /// Opens standard error.
    pub(super) fn stderr() -> io::Result<Output> {
        Output::new(&io::stderr())
    }

    /// Duplicates the file descriptor.
    fn new(to: &impl AsFd) -> io::Result<Output> {
        let file = File::from(to.as_fd().try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        let is_whole = kind.is_file() || (kind.is_char_device() && !file.is_terminal());
        Ok(Output { file, is_whole, is_pipe: kind.is_fifo(), has_lock: !is_whole, is_within_line: false })
    }

    /// Writes as many lines as there is room for.
    fn write_pieces(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty() && written < MAX_WRITE) {
            if !self.has_room(Duration::ZERO)? {
                break;
            }
            let max = if rest.len() > PIPE_BUF { self.max_piece() } else { PIPE_BUF };
            match self.file.write(piece(rest, max)) {
                Ok(0) => break,
                Ok(n) => {
                    written += n;
                    self.is_within_line = rest.get(n - 1) != Some(&b'\n');
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the descriptor has made it non-blocking, and there is room for a part
                // of the piece only.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(LOCK_RETRY);
                    break;
                }
                // The next write returns the error again.
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Returns the size of a write that the kernel takes in one piece if there is room for it.
    fn max_piece(&self) -> usize {
        let is_empty = self.is_pipe && ioctl_fionread(&self.file).is_ok_and(|bytes| bytes == 0);
        let capacity = if is_empty { fcntl_getpipe_size(&self.file).ok() } else { None };
        capacity.map_or(PIPE_BUF, |capacity| capacity.max(PIPE_BUF))
    }

    /// Waits until there is room for a piece or a write would return an error. Returns whether that is so.
    fn has_room(&self, wait: Duration) -> io::Result<bool> {
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&wait)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock. Returns false if another process has it.
    fn lock(&mut self) -> bool {
        if !self.has_lock || self.is_within_line {
            return true;
        }
        match fcntl_lock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => {
                self.has_lock = false;
                true
            }
        }
    }

    fn unlock(&mut self) {
        if self.has_lock && fcntl_lock(&self.file, FlockOperation::NonBlockingUnlock).is_err() {
            self.has_lock = false;
        }
    }
}

/// The bytes that are written have to be whole lines.
impl Write for Output {
    /// Writes as many lines as there is room for. Returns [`ErrorKind::WouldBlock`] after it has waited for room.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.is_whole {
            return self.file.write(lines);
        }
        if !self.lock() {
            thread::sleep(LOCK_RETRY);
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = self.write_pieces(lines);
        self.is_within_line &= written.is_ok();
        if !self.is_within_line {
            self.unlock();
        }
        match written {
            Ok(0) if !lines.is_empty() => {
                self.has_room(ROOM_WAIT)?;
                Err(ErrorKind::WouldBlock.into())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns whole lines of at most `max` bytes, or the beginning of a longer line.
fn piece(lines: &[u8], max: usize) -> &[u8] {
    let Some(first) = lines.get(..max).filter(|first| first.len() < lines.len()) else { return lines };
    let end = first.iter().rposition(|&byte| byte == b'\n').map_or(max, |at| at + 1);
    lines.get(..end).unwrap_or(lines)
}

/// The number of bytes that a pipe takes in one piece (pipe(7)).
const PIPE_BUF: usize = 4096;

/// The number of bytes that are written before other processes may take the lock.
const MAX_WRITE: usize = 64 * 1024;

/// The time for which a write waits for room.
const ROOM_WAIT: Duration = Duration::from_millis(50);

/// The time for which a write waits for another process.
const LOCK_RETRY: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    fn pipe() -> (PipeReader, Output) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, Output::new(&writer).unwrap())
    }

    /// Returns a line of `length` bytes.
    fn line(length: usize) -> Vec<u8> {
        [b"x".repeat(length - 1), b"\n".to_vec()].concat()
    }

    /// Writes until the output has no room. Returns the number of bytes written.
    fn fill(output: &mut Output, lines: &[u8]) -> usize {
        let mut written = 0;
        loop {
            match output.write(&lines[written..]) {
                Ok(n) => written += n,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return written;
                }
            }
        }
    }

    #[test]
    fn a_piece_is_whole_lines_or_a_part_of_one_that_is_longer() {
        let short = line(100);
        assert_eq!(piece(&short, PIPE_BUF), short);
        assert_eq!(piece(&short.repeat(40), PIPE_BUF).len(), 4000);
        assert_eq!(piece(&short.repeat(100), PIPE_BUF).len(), 4000);
        let exact = line(PIPE_BUF);
        assert_eq!(piece(&exact, PIPE_BUF), exact);
        assert_eq!(piece(&exact.repeat(2), PIPE_BUF), exact);
        let long = line(PIPE_BUF + 1);
        assert_eq!(piece(&long, PIPE_BUF).len(), PIPE_BUF);
        assert_eq!(piece(&long[PIPE_BUF..], PIPE_BUF), b"\n");
    }

    #[test]
    fn a_write_waits_for_a_full_pipe_which_ends_with_a_whole_line() {
        let (mut reader, mut output) = pipe();
        let lines = line(100).repeat(10_000);
        let begun = Instant::now();
        let written = fill(&mut output, &lines);
        assert!(begun.elapsed() >= ROOM_WAIT && written > 0 && written < lines.len());
        assert_eq!(written % 100, 0);
        drop(output);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, lines[..written]);
    }

    #[test]
    fn an_empty_pipe_takes_its_capacity_in_one_piece_and_another_takes_pipe_buf() {
        let (mut reader, mut output) = pipe();
        let capacity = fcntl_getpipe_size(&output.file).unwrap();
        assert_eq!(output.max_piece(), capacity);
        assert_eq!(output.write(b"line\n").unwrap(), 5);
        assert_eq!(output.max_piece(), PIPE_BUF);
        reader.read_exact(&mut [0; 5]).unwrap();
        // The first piece of a line longer than the capacity has the size of the capacity.
        let long = line(capacity + 11);
        assert_eq!(output.write(&long).unwrap(), capacity);
        reader.read_exact(&mut vec![0; capacity]).unwrap();
        assert_eq!(output.write(&long[capacity..]).unwrap(), 11);
    }

    #[test]
    fn nothing_blocks_on_a_socket_whose_peer_does_not_read() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let mut output = Output::new(&writer).unwrap();
        drop(writer);
        let lines = line(100).repeat(50_000);
        let written = fill(&mut output, &lines);
        assert!(written > 0 && written < lines.len() && written.is_multiple_of(100));
        drop(output);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, lines[..written]);
    }

    #[test]
    fn a_file_takes_everything_at_once() {
        let file = tempfile::tempfile().unwrap();
        let mut output = Output::new(&file).unwrap();
        let lines = b"line\n".repeat(100_000);
        assert_eq!(output.write(&lines).unwrap(), lines.len());
    }

    #[test]
    fn a_pipe_without_a_reader_is_an_error_and_not_a_stall() {
        let (reader, mut output) = pipe();
        drop(reader);
        assert_eq!(output.write(b"line\n").unwrap_err().kind(), ErrorKind::BrokenPipe);
        let closed = OwnedFd::from(output.file);
        assert!(File::from(closed).write(b"line\n").is_err());
    }
}
