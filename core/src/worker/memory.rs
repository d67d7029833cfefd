//! The memory of a worker's buffers, and the eviction of connections when it exceeds the limit.
//!
//! The counted buffers are those that peers can make grow: pending output, and incomplete messages and request heads. An idle
//! connection has none of these. Above [`max_memory`](super::WorkerConfig::max_memory) connections are evicted until an eighth
//! is free again: of those with at least half of the average, the ones whose peers have made no progress for the longest time.
//! One scan of all connections finds enough of them, and a small buffer is not evicted for a large one.

use std::collections::VecDeque;
use std::time::Instant;

use super::connection::Connection;
use super::{Application, Key, Worker};
use crate::id::ConnectionId;
use crate::record::Recorder;

/// The memory in use, and the connections to be evicted next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The bytes in buffers of all connections, and of shared frames, each counted once.
    held: usize,
    /// The connections to evict, the slowest first.
    evictees: VecDeque<(Key, ConnectionId)>,
}

impl Memory {
    /// Counts a shared frame.
    pub(super) fn count_shared(&mut self, bytes: usize) {
        self.held += bytes;
    }

    /// Subtracts shared frames that were removed.
    pub(super) fn free_shared(&mut self, bytes: usize) {
        self.held -= bytes;
    }

    /// Updates the count after a change of the connection's buffers.
    #[inline]
    pub(super) fn count<A: Application>(&mut self, connection: &mut Connection<A>) {
        let holds = u32::try_from(connection.memory()).unwrap_or(u32::MAX);
        let held = std::mem::replace(&mut connection.held, holds);
        self.held = self.held + holds as usize - held as usize;
    }
}

impl<A: Application> Worker<A> {
    /// Whether the buffers exceed [`max_memory`](super::WorkerConfig::max_memory). If so, handle the [due](Worker::next_due)
    /// connections before reading from any other.
    #[inline]
    pub fn is_short_of_memory(&self) -> bool {
        self.memory.held > self.config.max_memory
    }

    /// Whether the buffers exceed seven eighths of [`max_memory`](super::WorkerConfig::max_memory). Evictions, once memory is
    /// [short](Worker::is_short_of_memory), continue until this is false.
    pub fn is_nearly_out_of_memory(&self) -> bool {
        self.memory.held > self.enough_memory()
    }

    /// Returns the bytes in buffers of all connections: pending output, and incomplete messages and heads.
    pub fn memory_held(&self) -> usize {
        self.memory.held
    }

    /// Updates the count after a turn of the connection.
    #[inline]
    pub(super) fn count_memory(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        self.memory.count(connection);
    }

    /// Subtracts the buffers of a removed connection.
    pub(super) fn forget_memory(&mut self, held: u32) {
        self.memory.held -= held as usize;
    }

    /// Evicts the slowest connection, if memory is short.
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

    /// Returns the bytes at which evictions end.
    fn enough_memory(&self) -> usize {
        self.config.max_memory - self.config.max_memory / 8
    }

    /// Returns the connections with at least half of the average, the one without progress for the longest time first.
    fn eviction_order(&self, now: Instant) -> VecDeque<(Key, ConnectionId)> {
        let holders = || self.connections.iter().filter(|(_, connection)| connection.held > 0);
        // Without the shared frames, which belong to no single connection: they would make the average larger than any share.
        let held: usize = holders().map(|(_, connection)| connection.held as usize).sum();
        let little = held / holders().count().max(1) / 2;
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
