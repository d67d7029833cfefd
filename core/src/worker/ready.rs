//! The connections with messages for many that are written next.
//!
//! A delivery takes some nanoseconds, and a write takes microseconds. So the connections are written in slices, and the runtime
//! handles the events of its sockets between two slices.

use std::collections::VecDeque;

use super::{Application, Key, Worker};

/// The connections with shared frames that have not been offered to their sockets, each once, in the order of the writes.
#[derive(Debug, Default)]
pub(super) struct Ready {
    keys: VecDeque<Key>,
    /// The cost of the current slice: the number of writes, a large one counted as several.
    spent: usize,
}

impl Ready {
    /// Whether there are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Adds a connection whose output has been empty. Output that was pending before either is on the list already, or waits
    /// for its socket to become writable.
    #[inline]
    pub(super) fn push(&mut self, key: Key) {
        self.keys.push_back(key);
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
        if self.keys.is_empty() && self.keys.capacity() > MOST_KEPT {
            self.keys = VecDeque::new();
        }
    }
}

impl<A: Application> Worker<A> {
    /// Returns the next connection to be written, if the slice has any left.
    // Out of line: most calls of `next_due` have none.
    #[inline(never)]
    pub(super) fn next_ready(&mut self) -> Option<Key> {
        // When memory is short, the slowest connections are evicted next. A connection is not slow because its output has not
        // been offered to its socket, so all output is offered before.
        while self.ready.spent < self.config.fanout_slice.max(1) || self.is_short_of_memory() {
            let key = self.ready.keys.pop_front()?;
            let Some(connection) = self.connections.get(key.0) else { continue };
            if !connection.output.is_empty() {
                self.ready.spent += 1 + connection.output.len(&self.frames) / LARGE_WRITE;
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
