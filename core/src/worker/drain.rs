//! The end of all connections, because the process stops: at once, or one after the other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::jitter::Jitter;
use super::{Key, Worker};
use crate::id::ConnectionId;

/// How the connections of a worker end.
#[derive(Debug)]
pub(super) enum StopMode {
    /// All at once.
    AtOnce,
    /// One after the other.
    Spread(DrainSchedule),
}

/// The connections that are still to be ended, and when.
#[derive(Debug)]
pub(super) struct DrainSchedule {
    /// When the first of them has its turn, before the jitter.
    start: Instant,
    /// From one turn to the next.
    gap: Duration,
    /// How many had theirs.
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

    /// When the next one is ended, if there is one.
    fn next(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next)
    }

    /// The next one, if its time has come. Each has its turn in a stretch of time of its own, somewhere in it.
    fn pop(&mut self, now: Instant, jitter: &Jitter) -> Option<(Key, ConnectionId)> {
        if self.next()? > now {
            return None;
        }
        self.done += 1;
        self.next = self.start + self.gap * self.done + jitter.within(self.gap);
        self.waiting.pop_front()
    }
}

impl Worker {
    /// Begins to end all connections at once, with 1001 or 503, also those that are still to come.
    pub fn shut_down(&mut self) {
        self.stop = Some(StopMode::AtOnce);
        self.due.extend(self.connections.iter().map(|(key, _)| Key(key)));
    }

    /// Begins to end all connections with 1012, evenly over the time `spread`, so that their users come back to other
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
    }

    /// Whether it has been told to stop, and has no connections left.
    pub fn is_finished(&self) -> bool {
        self.stop.is_some() && self.is_empty()
    }

    /// When the next connection is ended because the process stops.
    pub(super) fn drains_at(&self) -> Option<Instant> {
        if let Some(StopMode::Spread(spread)) = &self.stop { spread.next() } else { None }
    }

    /// The next connection that is to be ended because the process stops, if its time has come.
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
