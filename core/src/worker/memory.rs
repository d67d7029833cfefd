//! The memory of a worker's buffers, and the eviction of connections when it exceeds the limit.
//!
//! It counts what peers can make grow: pending output, and incomplete messages and request heads. An idle connection has none
//! of these. Above [`max_memory`](super::WorkerConfig::max_memory) the slowest are evicted:
//! of those that hold at least half as much as the average, the ones that have been waiting for the longest, until an
//! eighth is free again. So many are found by one look at all connections, and a connection that holds little is not
//! ended for one that holds much.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Key, Worker};
use crate::id::ConnectionId;
use crate::record::Recorder;

/// The memory in use, and the connections to be evicted next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Bytes, of all connections.
    held: usize,
    /// The slowest first.
    evictees: VecDeque<(Key, ConnectionId)>,
}

impl Worker {
    /// Whether more memory is held than may be. If so, see to what is [due](Worker::next_due) before anything else is
    /// read.
    #[inline]
    pub fn is_short_of_memory(&self) -> bool {
        self.memory.held > self.config.max_memory
    }

    /// Whether so much is held that little more makes it too much: more than an eighth less than may be. Until so much is
    /// free again connections are ended, when memory is [short](Worker::is_short_of_memory).
    pub fn is_nearly_out_of_memory(&self) -> bool {
        self.memory.held > self.enough_memory()
    }

    /// Bytes in buffers of all connections: output not taken, messages and heads not whole.
    pub fn memory_held(&self) -> usize {
        self.memory.held
    }

    /// Counts what a connection holds now, after a turn of it.
    #[inline]
    pub(super) fn count_memory(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        let holds = u32::try_from(connection.memory()).unwrap_or(u32::MAX);
        let held = std::mem::replace(&mut connection.held, holds);
        self.memory.held = self.memory.held + holds as usize - held as usize;
    }

    /// Counts no more what a connection held that is gone.
    pub(super) fn forget_memory(&mut self, held: u32) {
        self.memory.held -= held as usize;
    }

    /// Ends the slowest connection, if memory is short.
    pub(super) fn evict_for_memory(&mut self, now: Instant, recorder: &mut impl Recorder) -> Option<Key> {
        if self.is_short_of_memory() && self.memory.evictees.is_empty() {
            self.memory.evictees = self.eviction_order(now);
        }
        let enough = self.enough_memory();
        while let Some((key, id)) = self.memory.evictees.pop_front() {
            if self.memory.held <= enough {
                self.memory.evictees = VecDeque::new();
                return None;
            }
            let is_here = self
                .connections
                .get(key.0)
                .is_some_and(|connection| connection.id == id && connection.held > 0);
            if is_here {
                self.turn(key, now, |connection, context, turn| connection.evict(context, turn, recorder));
                return Some(key);
            }
        }
        None
    }

    /// So much may be held when enough connections are ended.
    fn enough_memory(&self) -> usize {
        self.config.max_memory - self.config.max_memory / 8
    }

    /// Those that hold at least half the average, in the order of how long they have been waiting.
    fn eviction_order(&self, now: Instant) -> VecDeque<(Key, ConnectionId)> {
        let holders = || self.connections.iter().filter(|(_, connection)| connection.held > 0);
        let little = self.memory.held / holders().count().max(1) / 2;
        let mut slowest: Vec<_> = holders()
            .filter(|(_, connection)| connection.held as usize >= little)
            .map(|(index, connection)| {
                (connection.waits_since(&self.config, now, self.shared.time_base), Key(index), connection.id)
            })
            .collect();
        slowest.sort_unstable();
        slowest.into_iter().map(|(_, key, id)| (key, id)).collect()
    }
}
