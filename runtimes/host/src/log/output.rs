//! Standard output, of which no line is torn, also while other processes write to it.
//!
//! A process and its successor share one standard output, and so do processes that one shell has started. What keeps
//! their lines whole depends on what it is:
//!
//! * A regular file takes each write whole, at its end or at the common position (Linux holds the lock of the inode,
//!   and that of the position). So do devices such as `/dev/null`.
//! * A pipe takes up to [`PIPE_BUF`] bytes whole and may take more in parts, with those of others between them. A socket
//!   or a terminal may do so at any length. So pieces of whole lines of at most that size are written, and none before
//!   the kernel says that there is room for it. A pipe that is empty takes as much as it can hold in one piece, which
//!   costs a reader that keeps up fewer wake-ups.
//! * A longer line takes several writes. So everything is written under a record lock of this process on the pipe, the
//!   socket or the terminal itself (`F_SETLK`). It excludes each process that takes it, in whatever way it came by the
//!   descriptor, and ends with the process. Where there are no such locks, lines of at most `PIPE_BUF` bytes are whole
//!   nevertheless.
//!
//! Nothing in here blocks for longer than [`ROOM_WAIT`]: a process that ends stops writing between two lines.

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

/// A descriptor that lines are written to.
pub struct Output {
    file: File,
    /// Each write is taken whole.
    is_whole: bool,
    is_pipe: bool,
    /// The kernel has such locks for it.
    has_lock: bool,
    /// The lock is held, because the last write ended within a line.
    is_within_line: bool,
}

impl Output {
    /// Standard output.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub fn stdout() -> io::Result<Output> {
        Output::new(&io::stdout())
    }

    /// Standard error, for one line at the end.
    pub(super) fn stderr() -> io::Result<Output> {
        Output::new(&io::stderr())
    }

    /// Writes to a descriptor of its own of the same file.
    fn new(to: &impl AsFd) -> io::Result<Output> {
        let file = File::from(to.as_fd().try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        let is_whole = kind.is_file() || (kind.is_char_device() && !file.is_terminal());
        Ok(Output { file, is_whole, is_pipe: kind.is_fifo(), has_lock: !is_whole, is_within_line: false })
    }

    /// Writes as many of the lines as there is room for.
    fn write_pieces(&mut self, lines: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty() && written < MAX_WRITE) {
            if !self.has_room(Duration::ZERO)? {
                break;
            }
            let most = if rest.len() > PIPE_BUF { self.most() } else { PIPE_BUF };
            match self.file.write(piece(rest, most)) {
                Ok(0) => break,
                Ok(n) => {
                    written += n;
                    self.is_within_line = rest.get(n - 1) != Some(&b'\n');
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The descriptor is non-blocking because a process that shares it wants so, and there is room for a part of
                // the piece only.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(LOCK_RETRY);
                    break;
                }
                // It comes again with the next write.
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// How long a piece may be that the kernel takes whole, if there is room at all.
    fn most(&self) -> usize {
        let is_empty = self.is_pipe && ioctl_fionread(&self.file).is_ok_and(|bytes| bytes == 0);
        let capacity = if is_empty { fcntl_getpipe_size(&self.file).ok() } else { None };
        capacity.map_or(PIPE_BUF, |capacity| capacity.max(PIPE_BUF))
    }

    /// Whether there is room for a piece, or an error to be had. Waits for it.
    fn has_room(&self, wait: Duration) -> io::Result<bool> {
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&wait)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock. False if another process has it.
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

/// Takes whole lines.
impl Write for Output {
    /// Writes as many of the lines as there is room for. [`ErrorKind::WouldBlock`] comes after a wait for room.
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

/// Whole lines of at most `most` bytes, or the beginning of a longer one.
fn piece(lines: &[u8], most: usize) -> &[u8] {
    let Some(first) = lines.get(..most).filter(|first| first.len() < lines.len()) else { return lines };
    let end = first.iter().rposition(|&byte| byte == b'\n').map_or(most, |at| at + 1);
    lines.get(..end).unwrap_or(lines)
}

/// What a pipe takes whole or not at all (pipe(7)).
const PIPE_BUF: usize = 4096;

/// How much is written before another process has its turn.
const MAX_WRITE: usize = 64 * 1024;

/// How long a write waits for room.
const ROOM_WAIT: Duration = Duration::from_millis(50);

/// How long a write waits for another process.
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

    /// Writes until nothing is taken any more. Returns how much was.
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
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        assert_eq!(piece(&line, PIPE_BUF), line);
        assert_eq!(piece(&line.repeat(40), PIPE_BUF).len(), 4000);
        assert_eq!(piece(&line.repeat(100), PIPE_BUF).len(), 4000);
        let exact = [b"x".repeat(PIPE_BUF - 1), b"\n".to_vec()].concat();
        assert_eq!(piece(&exact, PIPE_BUF), exact);
        assert_eq!(piece(&exact.repeat(2), PIPE_BUF), exact);
        let long = [b"x".repeat(PIPE_BUF), b"\n".to_vec()].concat();
        assert_eq!(piece(&long, PIPE_BUF).len(), PIPE_BUF);
        assert_eq!(piece(&long[PIPE_BUF..], PIPE_BUF), b"\n");
    }

    #[test]
    fn a_pipe_that_is_full_is_waited_for_and_ends_with_a_whole_line() {
        let (mut reader, mut output) = pipe();
        let lines = [b"x".repeat(99), b"\n".to_vec()].concat().repeat(10_000);
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
    fn an_empty_pipe_takes_what_it_can_hold_in_one_piece_and_another_only_what_it_takes_whole() {
        let (mut reader, mut output) = pipe();
        let capacity = fcntl_getpipe_size(&output.file).unwrap();
        assert_eq!(output.most(), capacity);
        assert_eq!(output.write(b"line\n").unwrap(), 5);
        assert_eq!(output.most(), PIPE_BUF);
        reader.read_exact(&mut [0; 5]).unwrap();
        // A line that is longer than the pipe can hold begins with as much.
        let long = [b"x".repeat(capacity + 10), b"\n".to_vec()].concat();
        assert_eq!(output.write(&long).unwrap(), capacity);
        reader.read_exact(&mut vec![0; capacity]).unwrap();
        assert_eq!(output.write(&long[capacity..]).unwrap(), 11);
    }

    #[test]
    fn nothing_blocks_on_a_socket_whose_peer_does_not_read() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let mut output = Output::new(&writer).unwrap();
        drop(writer);
        let lines = [b"x".repeat(99), b"\n".to_vec()].concat().repeat(50_000);
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
