//! Accepting connections, and when to try again after an error.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use postern_core::ConnectionId;
use postern_core::handshake::{Gate, Peer};
use postern_core::worker::NewConnection;
use rustix::io::Errno;
use slog::{Logger, warn};

use super::Listener;
use super::overload::OverloadResponder;

/// Accepts connections for a runtime, numbers them, judges the rate at which they arrive, and decides what follows from an
/// error.
///
/// A connection that cannot be accepted keeps its listener readable, so an accept that is repeated at once spins. After
/// an error this waits 10 ms, then twice as long each time up to 1 s, until an accept succeeds. If descriptors are
/// exhausted, the clients that wait are accepted on descriptors of a reserve, answered with 503, and closed.
///
/// ```text
/// loop {
///     match acceptor.accept(&listener, Instant::now()) {
///         Accepted::Connection(stream, connection) => …
///         Accepted::Nothing => wait until the listener is readable, or until `acceptor.poll_timeout()`
///         Accepted::Later(at) => wait until then, without polling the listener
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Acceptor {
    gate: Gate,
    /// The number of the last connection.
    last_id: u64,
    overload: OverloadResponder,
    /// The time to wait after the next error.
    delay: Duration,
    /// No connection is accepted before this time.
    until: Option<Instant>,
    /// When an error was last logged, and how many clients were refused since.
    warned: Option<Instant>,
    unlogged: usize,
    log: Logger,
}

/// The result of an accept.
#[derive(Debug)]
pub enum Accepted {
    /// A connection for a worker.
    Connection(OwnedFd, NewConnection),
    /// No connection waits.
    Nothing,
    /// No connection may be accepted before this time, although some may wait.
    Later(Instant),
}

impl Acceptor {
    /// Takes the descriptors of the reserve. `log` gets errors, at most one a second.
    ///
    /// # Errors
    /// The process has no descriptor left for it.
    pub(crate) fn new(gate: Gate, log: &Logger) -> io::Result<Acceptor> {
        Ok(Acceptor {
            gate,
            last_id: 0,
            overload: OverloadResponder::new()?,
            delay: SHORTEST,
            until: None,
            warned: None,
            unlogged: 0,
            log: log.clone(),
        })
    }

    /// Accepts one connection, if one waits and it may be accepted now.
    pub fn accept(&mut self, listener: &Listener, now: Instant) -> Accepted {
        self.accept_by(now, || listener.accept())
    }

    /// Records that the last connection went to a worker without a free place. Pauses if such connections arrive too
    /// fast: each of them ends another connection, or is refused itself.
    pub fn handle_full(&mut self, now: Instant) {
        if !self.gate.may_displace(now) {
            self.pause(now);
        }
    }

    /// Accepts nothing for [`Gate::PAUSE`].
    pub fn pause(&mut self, now: Instant) {
        self.until = self.until.max(Some(now + Gate::PAUSE));
    }

    /// Returns when to call [`accept`](Acceptor::accept) at the latest, whether a listener is readable or not.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.until.or(self.overload.poll_timeout())
    }

    /// Returns the number of clients that were refused with 503 since the last call.
    pub fn take_refused_count(&mut self) -> u64 {
        self.overload.take_refused_count()
    }

    fn accept_by(
        &mut self,
        now: Instant,
        mut accept: impl FnMut() -> io::Result<(OwnedFd, Peer)>,
    ) -> Accepted {
        if let Some(until) = self.until.filter(|until| *until > now) {
            return Accepted::Later(until);
        }
        self.until = None;
        if self.overload.poll_timeout().is_some() {
            self.overload.handle_timeout(now);
        }
        let mut skipped = 0;
        let error = loop {
            match accept() {
                Ok((stream, peer)) => {
                    self.delay = SHORTEST;
                    self.last_id += 1;
                    let (id, refusal) = (ConnectionId(self.last_id), self.gate.check(now));
                    return Accepted::Connection(stream, NewConnection { id, peer, refusal });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Accepted::Nothing,
                Err(error) if is_transient(&error) && skipped < MOST_SKIPPED => skipped += 1,
                Err(error) => break error,
            }
        };
        let (count, is_empty) = match is_out_of_descriptors(&error) {
            true => self.overload.refuse_waiting(now, accept),
            false => (0, false),
        };
        self.unlogged += count;
        if is_empty && count == 0 {
            // An accept without a descriptor fails even if there is no connection.
            return Accepted::Nothing;
        }
        // The wait does not grow while clients can be answered.
        let wait = if count > 0 { SHORTEST } else { self.delay };
        self.delay = LONGEST.min(wait * 2);
        self.warn(&error, wait, now);
        let until = now + wait;
        self.until = Some(until);
        Accepted::Later(until)
    }

    fn warn(&mut self, error: &io::Error, wait: Duration, now: Instant) {
        if self.warned.is_some_and(|at| now.saturating_duration_since(at) < WARN_EVERY) {
            return;
        }
        self.warned = Some(now);
        warn!(self.log, # "accept_failed", "cannot accept connections: {}", cause(error);
            "wait_ms" => wait.as_millis(), "turned_away" => std::mem::take(&mut self.unlogged));
    }
}

/// Whether an accept failed only because of the connection at the head of the queue, so that the next one may be tried at once.
/// Linux reports errors of the new connection this way (accept(2), "Error handling").
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

/// Whether the process or the system has reached its limit of descriptors, so that closing one helps.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Returns the error, with the limit that an operator can raise.
fn cause(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "the process has as many descriptors as it may (ulimit -n)".to_owned(),
        Some(Errno::NFILE) => "the system has as many descriptors as it may (fs.file-max)".to_owned(),
        Some(Errno::NOBUFS | Errno::NOMEM) => "the system is out of memory for sockets".to_owned(),
        Some(_) | None => error.to_string(),
    }
}

/// The first wait, long enough for a descriptor or two to become free.
const SHORTEST: Duration = Duration::from_millis(10);

/// The longest wait: a client that waits for a second gives up hardly later than one that is refused.
const LONGEST: Duration = Duration::from_secs(1);

/// The shortest time between two log records of errors.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// The number of errors of single connections that one accept skips. More errors than the queue of a listener has
/// places are an error of the listener.
const MOST_SKIPPED: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use slog::{Discard, o};

    use super::*;

    struct Clocked {
        acceptor: Acceptor,
        now: Instant,
    }

    impl Clocked {
        fn new() -> Clocked {
            let log = Logger::root(Discard, o!());
            Clocked { acceptor: Acceptor::new(Gate::new(2), &log).unwrap(), now: Instant::now() }
        }

        fn accept(&mut self, accept: impl FnMut() -> io::Result<(OwnedFd, Peer)>) -> Accepted {
            self.acceptor.accept_by(self.now, accept)
        }

        /// Fails, and returns the wait in milliseconds, after which it is over.
        fn fail(&mut self, errno: Errno) -> u128 {
            let Accepted::Later(at) = self.accept(|| Err(error(errno))) else { panic!("{errno:?}: no wait") };
            assert_eq!(self.acceptor.poll_timeout(), Some(at));
            let never = || -> io::Result<(OwnedFd, Peer)> { panic!("accepted before its time") };
            assert!(matches!(self.accept(never), Accepted::Later(same) if same == at));
            let wait = at - self.now;
            self.now = at;
            wait.as_millis()
        }
    }

    fn error(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    fn connection() -> (UnixStream, io::Result<(OwnedFd, Peer)>) {
        let (client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        client.set_nonblocking(true).unwrap();
        (client, Ok((server.into(), Peer::Unix)))
    }

    #[test]
    fn waits_double_up_to_a_second_and_start_small_after_a_success() {
        let mut clocked = Clocked::new();
        for wait in [10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
            assert_eq!(clocked.fail(Errno::NOMEM), wait);
        }
        let (_client, accepted) = connection();
        let mut accepted = Some(accepted);
        assert!(matches!(clocked.accept(|| accepted.take().unwrap()), Accepted::Connection(..)));
        assert_eq!(clocked.fail(Errno::NOMEM), 10);
    }

    #[test]
    fn a_connection_that_died_in_the_queue_costs_no_wait() {
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO, Errno::PERM, Errno::HOSTUNREACH] {
            let mut clocked = Clocked::new();
            let mut results = vec![Err(ErrorKind::WouldBlock.into()), Err(error(errno))];
            assert!(matches!(clocked.accept(|| results.pop().unwrap()), Accepted::Nothing), "{errno:?}");
        }
    }

    #[test]
    fn an_error_that_does_not_end_is_waited_out_whatever_it_is() {
        let every = [Errno::NOBUFS, Errno::NOMEM, Errno::BADF, Errno::INVAL, Errno::PERM, Errno::CONNABORTED];
        for errno in every {
            let mut clocked = Clocked::new();
            assert_eq!([clocked.fail(errno), clocked.fail(errno)], [10, 20], "{errno:?}");
        }
    }

    #[test]
    fn without_a_descriptor_those_who_wait_are_answered_and_nothing_spins() {
        for errno in [Errno::MFILE, Errno::NFILE] {
            let mut clocked = Clocked::new();
            let (mut client, accepted) = connection();
            let mut results = vec![Err(ErrorKind::WouldBlock.into()), accepted, Err(error(errno))];
            let Accepted::Later(at) = clocked.accept(|| results.pop().unwrap()) else { panic!("no wait") };
            assert_eq!(at, clocked.now + SHORTEST);
            assert_eq!(clocked.acceptor.take_refused_count(), 1);
            clocked.now = at;
            let mut results = vec![Err(ErrorKind::WouldBlock.into()), Err(error(errno))];
            assert!(matches!(clocked.accept(|| results.pop().unwrap()), Accepted::Nothing));
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(clocked.acceptor.poll_timeout().is_some(), "it is closed when its time is over");
        }
    }

    #[test]
    fn a_pause_is_kept() {
        let mut clocked = Clocked::new();
        let at = clocked.now + Gate::PAUSE;
        clocked.acceptor.pause(clocked.now);
        let never = || -> io::Result<(OwnedFd, Peer)> { panic!("accepted before its time") };
        assert!(matches!(clocked.accept(never), Accepted::Later(same) if same == at));
    }

    #[test]
    fn connections_are_numbered_and_judged_by_their_rate() {
        let mut clocked = Clocked::new();
        let arrivals = [(); 3].map(|()| {
            let (_client, accepted) = connection();
            let mut accepted = Some(accepted);
            let Accepted::Connection(_, arrival) = clocked.accept(|| accepted.take().unwrap()) else {
                panic!()
            };
            (arrival.id.0, arrival.refusal.is_some())
        });
        assert_eq!(arrivals, [(1, false), (2, false), (3, true)]);
    }

    #[test]
    fn a_full_process_accepts_a_burst_and_then_pauses() {
        let mut clocked = Clocked::new();
        clocked.acceptor.handle_full(clocked.now);
        assert_eq!(clocked.acceptor.poll_timeout(), None);
        (0..1_000).for_each(|_| clocked.acceptor.handle_full(clocked.now));
        assert_eq!(clocked.acceptor.poll_timeout(), Some(clocked.now + Gate::PAUSE));
    }
}
