//! When which connection has to be looked at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Key;
use crate::compact_instant::CompactInstant;
use crate::id::ConnectionId;

/// One entry for each connection that waits for something, ordered by time.
///
/// Entries are lazy. A deadline that moves into the future, or goes away, leaves its entry where it is; when
/// that fires, the deadline of the connection is computed and armed again. So a message touches no timer.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<Entry>>);

/// Keys are used again; the connection's number tells whether the entry still means the same one. Its lower half is
/// enough for that: no timer runs while four billion connections come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) at: CompactInstant,
    key: u32,
    id: u32,
}

impl Entry {
    pub(super) fn new(at: CompactInstant, Key(key): Key, id: ConnectionId) -> Entry {
        // A worker does not have four billion descriptors.
        Entry { at, key: key as u32, id: id.0 as u32 }
    }

    pub(super) fn key(&self) -> Key {
        Key(self.key as usize)
    }

    pub(super) fn is_of(&self, id: ConnectionId) -> bool {
        self.id == id.0 as u32
    }
}

impl Timers {
    pub(super) fn push(&mut self, entry: Entry) {
        self.0.push(Reverse(entry));
    }

    /// How many entries there are, also those that mean nothing any more.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the first entry fires.
    pub(super) fn next(&self) -> Option<CompactInstant> {
        self.0.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes out an entry that has fired by `now`.
    pub(super) fn pop_fired(&mut self, now: CompactInstant) -> Option<Entry> {
        if self.next()? > now {
            return None;
        }
        let fired = self.0.pop().map(|Reverse(entry)| entry);
        // After a burst of handshakes few connections wait for anything.
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(MIN_CAPACITY.max(2 * self.0.len()));
        }
        fired
    }
}

/// Entries for which there is always room.
const MIN_CAPACITY: usize = 64;
