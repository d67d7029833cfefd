//! What to do when the system gives no descriptor for another connection.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use slog::{Logger, warn};
use socket2::{Domain, Socket, Type};

/// Decides, after each accept that failed, whether and when to try again.
///
/// A socket that cannot be accepted stays ready, so whoever tries again at once spins. Out of descriptors or
/// memory, this waits 10 ms, then twice as long each time up to 1 s, until an accept succeeds. It also keeps a
/// descriptor in reserve, of a socket that goes nowhere: giving it up for a moment lets one connection be accepted and
/// closed, so that its client is told at once instead of hanging in the kernel's queue.
///
/// ```text
/// loop {
///     if let Some(wait) = backoff.remaining(now) { sleep for `wait` }
///     match listener.accept() {
///         Ok(connection) => { backoff.succeeded(); … }
///         Err(error) if error.kind() == ErrorKind::WouldBlock => wait for readiness,
///         Err(error) => backoff.failed(&error, now, &log, || listener.accept()),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct AcceptBackoff {
    /// Absent while it is given up, or could not be taken back yet.
    reserve: Option<OwnedFd>,
    /// The wait that the next failure begins.
    delay: Duration,
    /// Until when nothing is to be accepted.
    until: Option<Instant>,
    /// When the trouble was last logged.
    warned: Option<Instant>,
}

impl AcceptBackoff {
    /// Takes the reserve descriptor.
    ///
    /// # Errors
    /// There is no descriptor even for that.
    pub fn new() -> io::Result<AcceptBackoff> {
        Ok(AcceptBackoff { reserve: Some(reserve()?), delay: SHORTEST, until: None, warned: None })
    }

    /// How long to wait before the next accept; `None` if it may be tried at once.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        let remaining = self.until?.saturating_duration_since(now);
        (!remaining.is_zero()).then_some(remaining)
    }

    /// Whether an accept may be tried now.
    pub fn may_accept(&self, now: Instant) -> bool {
        self.remaining(now).is_none()
    }

    /// Tells that an accept succeeded: the trouble is over, and the next one starts small again.
    pub fn succeeded(&mut self) {
        self.until = None;
        self.delay = SHORTEST;
        if self.reserve.is_none() {
            self.reserve = reserve().ok();
        }
    }

    /// Tells that an accept failed with anything but [`ErrorKind::WouldBlock`].
    ///
    /// A connection that died in the queue costs no wait. For everything else a wait begins, and `log` hears of
    /// it once a second. If descriptors are exhausted, `accept` is called once, with the reserve descriptor
    /// given up, and what it returns is dropped, which closes it.
    pub fn failed<T>(
        &mut self,
        error: &io::Error,
        now: Instant,
        log: &Logger,
        accept: impl FnOnce() -> io::Result<T>,
    ) {
        if is_transient(error) {
            return;
        }
        let turned_away = is_out_of_descriptors(error) && self.turn_away(accept);
        let wait = self.delay;
        self.until = Some(now + wait);
        self.delay = LONGEST.min(wait * 2);
        if self.warned.is_none_or(|at| now.saturating_duration_since(at) >= WARN_EVERY) {
            self.warned = Some(now);
            warn!(log, # "accept_failed", "cannot accept connections: {}", cause(error);
                "wait_ms" => wait.as_millis(), "turned_away" => turned_away);
        }
    }

    /// Accepts and closes one connection with the reserve descriptor. False if there was none to give up, or
    /// another thread was quicker to use it.
    fn turn_away<T>(&mut self, accept: impl FnOnce() -> io::Result<T>) -> bool {
        let Some(descriptor) = self.reserve.take() else { return false };
        drop(descriptor);
        let turned_away = accept().map(drop).is_ok();
        self.reserve = reserve().ok();
        turned_away
    }
}

/// Whether an accept failed for the one connection only that was at the head of the queue, so that the next one
/// may be tried at once. Linux hands over errors of the new connection this way (accept(2), "Error handling").
fn is_transient(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::TIMEDOUT
                | Errno::PERM
        )
    ) || matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted)
}

/// Whether the process or the system has as many descriptors as it may, so that one given up helps.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// The error with what an operator can do about it.
fn cause(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "the process has as many descriptors as it may (ulimit -n)".to_owned(),
        Some(Errno::NFILE) => "the system has as many descriptors as it may (fs.file-max)".to_owned(),
        Some(Errno::NOBUFS | Errno::NOMEM) => "the system is out of memory for sockets".to_owned(),
        Some(_) | None => error.to_string(),
    }
}

fn reserve() -> io::Result<OwnedFd> {
    // Not a file: in an image that holds one program there may be none.
    Ok(Socket::new(Domain::UNIX, Type::DGRAM, None)?.into())
}

/// The first wait, long enough for a descriptor or two to come free.
const SHORTEST: Duration = Duration::from_millis(10);

/// The longest wait; a client that meets it gives up hardly later than one that is refused.
const LONGEST: Duration = Duration::from_secs(1);

/// How often the trouble is logged while it lasts.
const WARN_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use slog::{Discard, o};

    use super::*;

    fn error(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    fn nobody() -> io::Result<()> {
        Err(ErrorKind::WouldBlock.into())
    }

    struct Clocked {
        backoff: AcceptBackoff,
        now: Instant,
        log: Logger,
    }

    impl Clocked {
        fn new() -> Clocked {
            let log = Logger::root(Discard, o!());
            Clocked { backoff: AcceptBackoff::new().unwrap(), now: Instant::now(), log }
        }

        /// Fails, and returns the wait in milliseconds, having slept through it.
        fn fail(&mut self, errno: Errno) -> Option<u128> {
            self.backoff.failed(&error(errno), self.now, &self.log, nobody);
            let wait = self.backoff.remaining(self.now)?;
            assert!(!self.backoff.may_accept(self.now));
            self.now += wait;
            assert!(self.backoff.may_accept(self.now));
            Some(wait.as_millis())
        }
    }

    #[test]
    fn waits_double_up_to_a_second_and_start_small_after_a_success() {
        let mut clocked = Clocked::new();
        for wait in [10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
            assert_eq!(clocked.fail(Errno::MFILE), Some(wait));
        }
        clocked.backoff.succeeded();
        assert_eq!(clocked.fail(Errno::MFILE), Some(10));
    }

    #[test]
    fn a_connection_that_died_in_the_queue_costs_no_wait() {
        let mut clocked = Clocked::new();
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO, Errno::PERM, Errno::HOSTUNREACH] {
            assert_eq!(clocked.fail(errno), None, "{errno:?}");
        }
    }

    #[test]
    fn whatever_else_fails_is_never_spun_on() {
        let mut clocked = Clocked::new();
        for (errno, wait) in [(Errno::NOBUFS, 10), (Errno::NOMEM, 20), (Errno::BADF, 40), (Errno::INVAL, 80)]
        {
            assert_eq!(clocked.fail(errno), Some(wait), "{errno:?}");
        }
    }

    #[test]
    fn the_reserve_is_given_up_while_a_connection_is_turned_away_and_taken_back_after() {
        let mut clocked = Clocked::new();
        // A reserve whose end can be seen from the other side.
        let (mut seen, reserve) = UnixStream::pair().unwrap();
        seen.set_nonblocking(true).unwrap();
        clocked.backoff.reserve = Some(OwnedFd::from(reserve));
        let mut read = || seen.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(read(), Err(ErrorKind::WouldBlock));
        let mut is_closed = false;
        clocked.backoff.failed(&error(Errno::MFILE), clocked.now, &clocked.log, || {
            is_closed = read() == Ok(0);
            Ok(())
        });
        assert!(is_closed);
        assert!(clocked.backoff.reserve.is_some());
    }

    #[test]
    fn nobody_is_turned_away_while_descriptors_are_left() {
        let mut clocked = Clocked::new();
        clocked.backoff.failed(&error(Errno::NOMEM), clocked.now, &clocked.log, || -> io::Result<()> {
            panic!("there is no reserve of memory")
        });
    }
}
