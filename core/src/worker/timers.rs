//! The deadlines of connections, ordered by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::Key;
use crate::compact_instant::CompactInstant;
use crate::id::ConnectionId;

/// Returns the earlier of two times that may be absent.
// A runtime with a task for each connection asks for the next time after each turn, and the minimum of an iterator takes several
// times as many instructions.
#[inline]
pub fn earlier(first: Option<Instant>, second: Option<Instant>) -> Option<Instant> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.min(second)),
        (first, second) => first.or(second),
    }
}

/// One entry for each connection with a deadline, ordered by time.
///
/// Entries are lazy. If a deadline is postponed or cleared, its entry stays. When the entry fires, the deadline of the
/// connection is computed again. So a message does not touch a timer.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<Entry>>);

/// Keys are used again, so the number of the connection shows whether the entry is still valid. Its lower half is sufficient:
/// no timer lasts as long as four billion connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) at: CompactInstant,
    key: u32,
    id: u32,
}

impl Entry {
    pub(super) fn new(at: CompactInstant, Key(key): Key, id: ConnectionId) -> Entry {
        // A worker has fewer than 2^31 descriptors.
        Entry { at, key: key as u32, id: id.0 as u32 }
    }

    /// Creates the entry of the [end of credentials](super::expiry), in addition to the entry of the other deadlines.
    pub(super) fn of_credentials(at: CompactInstant, Key(key): Key, id: ConnectionId) -> Entry {
        // A worker has fewer than 2^31 descriptors.
        Entry { at, key: key as u32 | OF_CREDENTIALS, id: id.0 as u32 }
    }

    pub(super) fn is_of_credentials(&self) -> bool {
        self.key & OF_CREDENTIALS != 0
    }

    pub(super) fn key(&self) -> Key {
        Key((self.key & !OF_CREDENTIALS) as usize)
    }

    pub(super) fn is_of(&self, id: ConnectionId) -> bool {
        self.id == id.0 as u32
    }
}

impl Timers {
    pub(super) fn push(&mut self, entry: Entry) {
        self.0.push(Reverse(entry));
    }

    /// Returns the number of entries, including invalid ones.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the time at which the first entry fires.
    pub(super) fn next(&self) -> Option<CompactInstant> {
        self.0.peek().map(|Reverse(entry)| entry.at)
    }

    /// Removes an entry that has fired by `now`.
    pub(super) fn pop_fired(&mut self, now: CompactInstant) -> Option<Entry> {
        if self.next()? > now {
            return None;
        }
        let fired = self.0.pop().map(|Reverse(entry)| entry);
        // After a burst of handshakes, few connections have deadlines.
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(MIN_CAPACITY.max(2 * self.0.len()));
        }
        fired
    }
}

/// Distinguishes the two kinds of entries, in the key.
const OF_CREDENTIALS: u32 = 1 << 31;

/// Entries for which there is always room.
const MIN_CAPACITY: usize = 64;
