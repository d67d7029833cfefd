//! The connections with messages for many that are written next.
//!
//! A delivery takes some nanoseconds, and a write takes microseconds. So the connections are written in slices, and the runtime
//! handles the events of its sockets between two slices.

use super::{Application, Key, Worker};

/// The connections with shared frames that have not been offered to their sockets, each once, in the order of the writes.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// The first `next` of them are handled.
    keys: Vec<Key>,
    next: usize,
    /// The cost of the current slice: the number of connections, one with a large write counted as several.
    spent: usize,
}

impl Ready {
    /// Whether there are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.next == self.keys.len()
    }

    /// Adds a connection whose output has been empty. Output that was pending before either is on the list already, or waits
    /// for its socket to become writable.
    #[inline]
    pub(super) fn push(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// Adds the cost of a large write of this number of bytes to the slice.
    #[inline]
    pub(super) fn spend(&mut self, bytes: usize) {
        self.spent += bytes / LARGE_WRITE;
    }

    /// Whether the current slice has begun.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.spent > 0
    }

    /// Begins the next slice.
    #[cold]
    pub(super) fn begin_slice(&mut self) {
        self.spent = 0;
        // Each key is moved once on average.
        if self.next >= self.keys.len() / 2 {
            self.keys.drain(..self.next);
            self.next = 0;
        }
        if self.keys.is_empty() && self.keys.capacity() > MOST_KEPT {
            self.keys = Vec::new();
        }
    }
}

impl<A: Application> Worker<A> {
    /// Whether connections have messages for many that were not offered to their sockets yet. The next slice is due.
    pub fn has_unwritten(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns the next connection to be written, if the slice has any left.
    #[inline]
    pub(super) fn next_ready(&mut self) -> Option<Key> {
        // When memory is short, the slowest connections are evicted next. A connection is not slow because its output has not
        // been offered to its socket, so all output is offered before.
        while let Some(&key) = self.ready.keys.get(self.ready.next)
            && (self.ready.spent < self.config.fanout_slice.max(1) || self.is_short_of_memory())
        {
            self.ready.next += 1;
            self.ready.spent += 1;
            if self.connections.contains(key.0) {
                return Some(key);
            }
        }
        None
    }
}

/// The bytes for which a write counts as one more: the kernel takes about as long to copy them as for the rest of a write.
const LARGE_WRITE: usize = 16 * 1024;

/// The most keys for which the list keeps its memory.
const MOST_KEPT: usize = 8 * 1024;
