//! A runtime with one connection that keeps to the contract of [`Worker`](postern_core::Worker), and asserts what it may
//! rely on. It reads and writes in one call or in several, so that the two can be compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::policy::KeepAliveConfig;
use postern_core::session::Ending;
use postern_core::{ConnectionId, SessionConfig, Transport, WorkerConfig};

use crate::driver::Driver;
use crate::notes::{Note, Notes};

/// The connection, its socket and its clock.
pub(crate) struct Runtime {
    driver: Driver,
    limits: SessionConfig,
    /// Whether a read and the write after it are one call.
    is_in_turns: bool,
    /// The number of bytes that the socket accepts before it blocks.
    room: usize,
    /// The time since which output is pending and the socket accepts no bytes.
    stalled: Option<Instant>,
    /// The client has ended its side.
    is_ended: bool,
    /// Output was pending, and the answers to a read made it too much.
    is_too_slow: bool,
    /// The longest read so far.
    longest_read: usize,
    /// The last [`Transport`] of the worker.
    pub(crate) transport: Transport,
}

impl Runtime {
    /// Creates a connection that has just been accepted, whose socket accepts all output.
    pub(crate) fn new(limits: &SessionConfig) -> Runtime {
        // The time of a ping depends on the time of the last read, which the reference does not know.
        let keep_alive = KeepAliveConfig { interval: Duration::ZERO, ..KeepAliveConfig::default() };
        let config =
            WorkerConfig { session: Arc::new(limits.clone()), keep_alive, ..WorkerConfig::default() };
        let mut driver = Driver::new(Arc::new(config), 1);
        driver.open(0, None);
        Runtime {
            driver,
            limits: limits.clone(),
            is_in_turns: false,
            room: usize::MAX,
            stalled: None,
            is_ended: false,
            is_too_slow: false,
            longest_read: 0,
            transport: Transport::Open,
        }
    }

    /// Creates the same, but it reads and writes by [`Worker::on_readable`](postern_core::Worker::on_readable).
    pub(crate) fn in_turns(limits: &SessionConfig) -> Runtime {
        Runtime { is_in_turns: true, ..Runtime::new(limits) }
    }

    /// Returns what was sent, once the socket is closed.
    pub(crate) fn sent(&self) -> &[u8] {
        &self.driver.sent
    }

    /// Returns what was recorded.
    pub(crate) fn notes(&self) -> &Notes {
        &self.driver.model.recorder
    }

    /// Returns how the connection ended. Asserts that there are no records but of messages before it.
    pub(crate) fn ending(&self) -> Ending {
        let notes = self.notes().of(ConnectionId(1));
        let [Note::Established, between @ .., Note::Closed(ending, _)] = &notes[..] else {
            panic!("not from its user to its end: {notes:?}");
        };
        assert!(between.iter().all(|note| note.message().is_some()), "{notes:?}");
        *ending
    }

    /// Returns the time at which the connection is due, from the time of its start.
    pub(crate) fn deadline(&mut self) -> Option<Duration> {
        self.driver.model.worker.poll_timeout(self.driver.model.now).map(|at| at - self.driver.model.now)
    }

    /// Whether a runtime would read now.
    pub(crate) fn wants_read(&self) -> bool {
        self.driver.wants_read(0)
    }

    /// Handles received bytes. An empty read is ignored: it would be the end.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        let Some(key) = self.driver.key(0).filter(|_| !bytes.is_empty()) else { return };
        self.longest_read = self.longest_read.max(bytes.len());
        let before = self.driver.model.worker.output(key).len();
        if self.is_in_turns {
            let (offered, taken) = self.driver.on_readable(0, bytes, self.room);
            self.judge(before, offered);
            self.wrote(offered, taken);
            self.apply();
        } else {
            self.driver.receive(0, bytes);
            let after = self.driver.model.worker.output(key).len();
            self.judge(before, after);
            self.flush();
        }
    }

    /// Compares the pending output before a read and after it.
    fn judge(&mut self, before: usize, after: usize) {
        assert!(!self.is_too_slow || after == before, "answers to a client that is too slow for them");
        self.is_too_slow |= before > 0 && after > self.limits.max_backlog;
    }

    /// Ends the client's side.
    pub(crate) fn end(&mut self) {
        if !self.is_ended {
            self.is_ended = true;
            self.driver.end(0);
            self.flush();
        }
    }

    /// Makes the socket fail.
    pub(crate) fn fail(&mut self) {
        if self.driver.key(0).is_some() {
            self.driver.fail(0);
            self.flush();
            assert!(self.is_closed(), "a socket that failed stays open");
        }
    }

    /// Handles that the socket accepts `room` bytes.
    pub(crate) fn make_room(&mut self, room: usize) {
        self.room = room;
        self.flush();
    }

    /// Begins the shutdown of the worker.
    pub(crate) fn shut_down(&mut self) {
        self.driver.model.worker.shut_down();
        self.settle_due();
    }

    /// Lets time pass, and handles what is due.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.driver.model.now += time;
        self.settle_due();
    }

    /// Shuts the worker down. The client sends and receives no more bytes. Asserts that the connection ends in bounded
    /// time and work.
    pub(crate) fn abandon(&mut self) {
        self.room = 0;
        self.shut_down();
        let start = self.driver.model.now;
        for _ in 0..MOST_TIMERS {
            let next = self.driver.model.worker.poll_timeout(self.driver.model.now);
            let Some(next) = next.filter(|_| !self.is_closed()) else { break };
            self.driver.model.now = self.driver.model.now.max(next);
            self.settle_due();
        }
        assert!(self.is_closed(), "a silent client delays the exit");
        let most = self.limits.write_timeout.max(self.limits.close_timeout) + Duration::from_secs(1);
        let time = self.driver.model.now - start;
        assert!(time <= most, "a silent client delays the exit by {time:?}");
    }

    /// Whether the socket is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.driver.check();
        self.driver.key(0).is_none()
    }

    /// Writes once, and does with the socket what the worker returns.
    fn flush(&mut self) {
        let Some(key) = self.driver.key(0) else { return };
        let has_output = !self.driver.model.worker.output(key).is_empty();
        let (pending, n) = if has_output { self.driver.write(0, self.room) } else { (0, 0) };
        self.wrote(pending, n);
        self.apply();
    }

    fn apply(&mut self) {
        self.transport = self.driver.apply(0);
    }

    /// Checks the rules of back-pressure after a write that accepted `n` of `pending` bytes.
    fn wrote(&mut self, pending: usize, n: usize) {
        let Some(key) = self.driver.key(0) else { return };
        let worker = &self.driver.model.worker;
        // All messages of one read are answered. One message may have been collected before it; the rest is room for
        // the 101 and a Close.
        let most = self.limits.pause_backlog + self.longest_read + self.limits.max_message + 512;
        assert!(pending <= most, "{pending} bytes are pending");
        if self.room != usize::MAX {
            self.room -= n;
        }
        // After a Close no message is answered any more, so reading continues until the client's own Close.
        let answers = worker.status(key).is_some_and(|status| status.is_open);
        let is_clogged = pending - n > self.limits.pause_backlog;
        assert!(!(answers && is_clogged && worker.wants_read(key)), "does not pause");
        let is_over = worker.transport(key) == Transport::Close;
        assert!(worker.wants_read(key) || pending > n || is_over, "pauses although no output is pending");
        self.stalled = match self.stalled {
            _ if pending == n => None,
            Some(since) if n == 0 => Some(since),
            Some(_) | None => Some(self.driver.model.now),
        };
    }

    fn settle_due(&mut self) {
        for _ in 0..MOST_DUE {
            if let Some((at, due)) = self.driver.next_due() {
                // All received bytes have been read already.
                self.flush();
                self.driver.judge(at, due);
                self.flush();
                continue;
            }
            let is_late = |since: Instant| since + self.limits.write_timeout <= self.driver.model.now;
            let is_kept = !self.is_closed() && self.stalled.is_some_and(is_late);
            assert!(!is_kept, "a client that accepts no output is not dropped");
            return;
        }
        panic!("one connection is always due");
    }
}

/// The most times that one connection is due at one time: for the shutdown, for its pending output, for its state.
const MOST_DUE: usize = 4;

/// The most times that the clock has to move on before a silent connection ends. Earlier deadlines that were postponed
/// count too.
const MOST_TIMERS: usize = 16;
