//! The memory of a worker's buffers, and the eviction of connections when it exceeds the limit.
//!
//! What peers can make grow is counted: pending output, incomplete messages and request heads, and the
//! [state](super::Application::client_memory) that the application keeps for a client. Above
//! [`max_memory`](super::WorkerConfig::max_memory) connections are evicted until an eighth is free again: of the large ones, those
//! whose peers have made no progress for the longest time.
//!
//! A connection is large if it has at least half as much as the connection of an average byte has. Many small connections do not
//! lower that average, as they would the average of all connections: so a small one is not evicted for a large one. If a scan of all
//! connections does not find enough of them, the next one finds connections of at most half the size, so there are few scans.

use std::collections::VecDeque;
use std::time::Instant;

use super::connection::Connection;
use super::{Application, Key, Worker};
use crate::id::ConnectionId;
use crate::record::Recorder;

/// The memory in use, and the connections to be evicted next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The bytes of all connections, and of shared frames, each counted once.
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

    /// Updates the count after a change of the connection.
    #[inline]
    pub(super) fn count<A: Application>(&mut self, connection: &mut Connection<A>) {
        let holds = u32::try_from(connection.memory()).unwrap_or(u32::MAX);
        let held = std::mem::replace(&mut connection.held, holds);
        self.held = self.held + holds as usize - held as usize;
    }
}

impl<A: Application> Worker<A> {
    /// Whether the counted memory exceeds [`max_memory`](super::WorkerConfig::max_memory). If so, handle the [due](Worker::next_due)
    /// connections before reading from any other.
    #[inline]
    pub fn is_short_of_memory(&self) -> bool {
        self.memory.held > self.config.max_memory
    }

    /// Whether the counted memory exceeds seven eighths of [`max_memory`](super::WorkerConfig::max_memory). Evictions, once memory is
    /// [short](Worker::is_short_of_memory), continue until this is false.
    pub fn is_nearly_out_of_memory(&self) -> bool {
        self.memory.held > self.enough_memory()
    }

    /// Returns the counted memory of all connections, in bytes: pending output, incomplete messages and heads, and the states of
    /// clients.
    pub fn memory_held(&self) -> usize {
        self.memory.held
    }

    /// Updates the count after a turn of the connection.
    #[inline]
    pub(super) fn count_memory(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key.0) else { return };
        self.memory.count(connection);
    }

    /// Subtracts the memory of a removed connection.
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

    /// Returns the large connections, the one without progress for the longest time first.
    fn eviction_order(&self, now: Instant) -> VecDeque<(Key, ConnectionId)> {
        let holders = || self.connections.iter().filter(|(_, connection)| connection.held > 0);
        // Without the shared frames, which belong to no single connection.
        let (mut sum, mut squares) = (0_u64, 0_u128);
        for (_, connection) in holders() {
            let held = u64::from(connection.held);
            sum += held;
            squares += u128::from(held * held);
        }
        let large = squares / u128::from(sum.max(1)) / 2;
        let mut slowest: Vec<_> = holders()
            .filter(|(_, connection)| u128::from(connection.held) >= large)
            .map(|(index, connection)| {
                (connection.waits_since(&self.config, now, self.shared.time_base), Key(index), connection.id)
            })
            .collect();
        slowest.sort_unstable();
        slowest.into_iter().map(|(_, key, id)| (key, id)).collect()
    }
}
