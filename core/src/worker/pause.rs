//! Back-pressure of the log: reading from users pauses while their messages cannot be recorded.

use std::time::{Duration, Instant};

use super::{Application, Key, Worker};
use crate::record::Recorder;
use crate::worker::timers::Entry;

impl<A: Application> Worker<A> {
    /// Pauses reads while the recorder [is full](Recorder::is_full), and resumes them afterwards. Call it whenever
    /// records have been handed over. Returns whether reads have just resumed: then read from every connection that
    /// [`wants_read`](Worker::wants_read), because events during the pause are not reported again.
    ///
    /// While reads are paused, bytes that could cause records are not read: messages of users and, for the first
    /// second, requests. After that the log counts as [stalled](Worker::is_log_stalled), and requests are answered with
    /// 503 `log_stalled`. Output, pings and the ends of connections continue. No deadline counts against a peer whose
    /// bytes are unread.
    #[inline]
    pub fn apply_backpressure(&mut self, recorder: &impl Recorder, now: Instant) -> bool {
        let is_full = recorder.is_full();
        if is_full == self.are_reads_paused() {
            return false;
        }
        if is_full {
            self.reads_paused_since = Some(now);
        } else {
            self.resume_reads(now);
        }
        !is_full
    }

    /// Whether the recorder was full at the last [`apply_backpressure`](Worker::apply_backpressure). Between two calls
    /// it may become full, but it cannot get room again.
    #[inline]
    pub(super) fn are_reads_paused(&self) -> bool {
        self.reads_paused_since.is_some()
    }

    /// Whether reads have been paused for more than a second: then the log has stalled, rather than been busy for a moment.
    pub fn is_log_stalled(&self) -> bool {
        self.shared.is_stalled.get()
    }

    /// Returns the total time for which reads have been paused until `now`.
    pub fn reads_paused_for(&self, now: Instant) -> Duration {
        let current =
            self.reads_paused_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.reads_paused_before + current
    }

    #[cold]
    fn resume_reads(&mut self, now: Instant) {
        self.reads_paused_before = self.reads_paused_for(now);
        let Some(since) = self.reads_paused_since.take() else { return };
        let is_stalled = self.shared.is_stalled.replace(false);
        let mut paused = Vec::new();
        for (index, connection) in &mut self.connections {
            // Requests have been read since the log counts as stalled.
            if !(is_stalled && connection.is_pending()) {
                connection.postpone(since, now, self.shared.time_base);
            }
            if connection.is_paused() {
                paused.push(Key(index));
            }
        }
        for key in paused {
            // The end of its pause may have been postponed, or have passed.
            self.arm(key);
        }
    }

    /// Returns the time at which the log will count as stalled.
    pub(super) fn stalls_at(&self) -> Option<Instant> {
        self.reads_paused_since.filter(|_| !self.is_log_stalled()).map(|since| since + PATIENCE)
    }

    /// Marks the log as stalled, if reads have been paused for long enough. Requests are read again, and refused.
    pub(super) fn detect_log_stall(&mut self, now: Instant) {
        let Some(since) = self.reads_paused_since.filter(|_| self.stalls_at().is_some_and(|at| at <= now))
        else {
            return;
        };
        self.shared.is_stalled.set(true);
        for (index, connection) in &mut self.connections {
            if connection.is_pending() {
                connection.postpone(since, now, self.shared.time_base);
                self.due.push_back(Key(index));
            }
        }
    }

    /// Whether reads from the connection are paused, because its records would be lost.
    pub(super) fn is_read_blocked(&self, key: Key, recorder: &impl Recorder) -> bool {
        recorder.is_full() && self.is_recorded(key)
    }

    /// Whether a read from the connection may cause a record.
    pub(super) fn is_recorded(&self, key: Key) -> bool {
        self.connections
            .get(key.0)
            .is_some_and(|connection| connection.is_recorded(self.shared.is_stalled.get()))
    }

    /// Postpones the deadlines of a connection if its peer could have met all that have passed, and reads from it are paused.
    /// Returns whether it did.
    pub(super) fn reschedule(&mut self, key: Key, now: Instant, recorder: &impl Recorder) -> bool {
        if !self.is_read_blocked(key, recorder) {
            return false;
        }
        let Some(connection) = self.connections.get_mut(key.0) else { return false };
        if connection.is_due_unread(&self.config, now, self.shared.time_base) {
            return false;
        }
        let at = self.shared.time_base.compact(now + LATER);
        connection.armed = Some(at);
        self.timers.push(Entry::new(at, key, connection.id));
        true
    }
}

/// The time for which reads are paused until the log counts as stalled.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time by which a deadline is postponed while reads are paused.
const LATER: Duration = Duration::from_secs(1);
