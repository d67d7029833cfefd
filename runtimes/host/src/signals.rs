//! The signals that a process hears, as something to poll for.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use postern_core::policy::Wish;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// From its making on, SIGTERM, which supervisors send, SIGINT, which Ctrl-C sends, and SIGUSR2, which asks for a restart,
/// no longer end the process. The descriptor becomes readable when one of them has come.
pub struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// Begins to hear.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub fn register() -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        SignalDelivery::with_pipe(read, write, SignalOnly, [SIGTERM, SIGINT, SIGUSR2]).map(Signals)
    }

    /// What they ask for that have come since the last call, each kind once.
    pub fn pending(&mut self) -> impl Iterator<Item = Wish> {
        self.0.pending().filter_map(|signal| match signal {
            SIGTERM => Some(Wish::Terminate),
            SIGINT => Some(Wish::Interrupt),
            SIGUSR2 => Some(Wish::Restart),
            _ => None,
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn is_readable(signals: &Signals) -> bool {
        let mut descriptors = [PollFd::new(signals, PollFlags::IN)];
        poll(&mut descriptors, Some(&rustix::time::Timespec::default())).unwrap() == 1
    }

    #[test]
    fn each_signal_is_a_wish_and_readable_until_it_is_heard() {
        let mut signals = Signals::register().unwrap();
        assert!(!is_readable(&signals) && signals.pending().next().is_none());
        // Raised in this thread, so the handler has run when the call returns.
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(is_readable(&signals));
        assert_eq!(signals.pending().collect::<Vec<_>>(), [Wish::Terminate]);
        assert!(!is_readable(&signals));
        signal_hook::low_level::raise(SIGINT).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        let mut both: Vec<_> = signals.pending().collect();
        both.sort_by_key(|wish| *wish == Wish::Interrupt);
        assert_eq!(both, [Wish::Terminate, Wish::Interrupt]);
        assert!(signals.pending().next().is_none());
        signal_hook::low_level::raise(SIGUSR2).unwrap();
        assert_eq!(signals.pending().collect::<Vec<_>>(), [Wish::Restart]);
    }
}
