//! When which connection has to be looked at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::Key;
use crate::record::ConnectionId;

/// One entry for each connection that waits for something, ordered by time.
///
/// Entries are lazy. A deadline that moves into the future, or goes away, leaves its entry where it is; when
/// that fires, the connection is asked and armed anew. So a message touches no timer.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<Entry>>);

/// Keys are used again; the connection's number tells whether the entry still means the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) at: Instant,
    pub(super) key: Key,
    pub(super) id: ConnectionId,
}

impl Timers {
    pub(super) fn push(&mut self, entry: Entry) {
        self.0.push(Reverse(entry));
    }

    /// When the first entry fires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes out an entry that has fired by `now`.
    pub(super) fn pop_fired(&mut self, now: Instant) -> Option<Entry> {
        if self.next()? > now {
            return None;
        }
        let fired = self.0.pop().map(|Reverse(entry)| entry);
        // After a burst of handshakes few connections wait for anything.
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(LEAST.max(2 * self.0.len()));
        }
        fired
    }
}

/// Entries for which there is always room.
const LEAST: usize = 64;
