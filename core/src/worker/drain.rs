//! The end of all connections, because the process stops: at once, or one after the other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::jitter::Jitter;
use super::{Application, Key, Worker};
use crate::id::ConnectionId;

/// The order in which the connections of a worker end.
#[derive(Debug)]
pub(super) enum StopMode {
    /// All at once.
    AtOnce,
    /// One after the other.
    Spread(DrainSchedule),
}

/// The connections that must still be ended, and the times for it.
#[derive(Debug)]
pub(super) struct DrainSchedule {
    /// When the interval of the first connection begins.
    start: Instant,
    /// The length of the interval of each connection.
    gap: Duration,
    /// The number of intervals that have been used.
    done: u32,
    /// When the next one is ended.
    next: Instant,
    waiting: VecDeque<(Key, ConnectionId)>,
}

impl DrainSchedule {
    fn new(
        waiting: VecDeque<(Key, ConnectionId)>,
        now: Instant,
        spread: Duration,
        jitter: &Jitter,
    ) -> DrainSchedule {
        // A worker does not have four billion connections.
        let gap = spread / u32::try_from(waiting.len()).unwrap_or(u32::MAX).max(1);
        DrainSchedule { start: now, gap, done: 0, next: now + jitter.within(gap), waiting }
    }

    /// Returns the time at which the next one is ended, if there is one.
    fn next(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next)
    }

    /// Removes the next one, if it is due. Each is ended at a random time in its interval.
    fn pop(&mut self, now: Instant, jitter: &Jitter) -> Option<(Key, ConnectionId)> {
        if self.next()? > now {
            return None;
        }
        self.done += 1;
        self.next = self.start + self.gap * self.done + jitter.within(self.gap);
        self.waiting.pop_front()
    }
}

impl<A: Application> Worker<A> {
    /// Begins to end all connections at once, with 1001 or 503, including connections that are opened later.
    pub fn shut_down(&mut self) {
        self.stop = Some(StopMode::AtOnce);
        self.due.extend(self.connections.iter().map(|(key, _)| Key(key)));
    }

    /// Begins to end all connections with 1012, evenly over the time `spread`, so that their users reconnect to other
    /// processes one after the other. Handshakes in progress and new connections get 503 at once.
    pub fn drain(&mut self, now: Instant, spread: Duration) {
        let mut waiting = VecDeque::new();
        for (key, connection) in &self.connections {
            if connection.is_pending() {
                self.due.push_back(Key(key));
            } else {
                waiting.push_back((Key(key), connection.id));
            }
        }
        self.stop = Some(StopMode::Spread(DrainSchedule::new(waiting, now, spread, &self.shared.jitter)));
        self.shared.is_draining.set(true);
    }

    /// Whether it is stopping, and has no connections left.
    pub fn is_finished(&self) -> bool {
        self.stop.is_some() && self.is_empty()
    }

    /// Returns the time at which the next connection is ended because the process stops.
    pub(super) fn drains_at(&self) -> Option<Instant> {
        if let Some(StopMode::Spread(spread)) = &self.stop { spread.next() } else { None }
    }

    /// Returns the next connection that must be ended because the process stops, if it is due.
    pub(super) fn drain_next(&mut self, now: Instant) -> Option<Key> {
        let Some(StopMode::Spread(spread)) = &mut self.stop else { return None };
        loop {
            let (key, id) = spread.pop(now, &self.shared.jitter)?;
            if self.connections.get(key.0).is_some_and(|connection| connection.id == id) {
                return Some(key);
            }
        }
    }
}
