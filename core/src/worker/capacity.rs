//! The capacity of a worker, and the eviction of connections in favour of new ones.
//!
//! A connection has a *place* while its user is admitted, or may still be admitted. There are
//! [`max_connections`](super::WorkerConfig::max_connections) places. When all are taken, a new connection gets the place of
//! the oldest handshake in progress, so slow handshakes cannot block fast ones. Admitted users keep their places; if they have
//! all of them, the new connection is refused.
//!
//! A refused connection keeps its socket for up to a second, because a reset must not overtake the answer.
//! [`max_sockets`](super::WorkerConfig::max_sockets) limits the sockets of all connections together: above it refused
//! connections are closed at once, the oldest first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slab::Slab;

use super::connection::{AdmissionState, Connection};
use super::pending::{MIN_HANDSHAKE_TIME, Pending, PendingHandshake};
use super::{Application, Due, DueCause, Key, NewConnection, Worker};
use crate::handshake::HandshakeError;
use crate::id::ConnectionId;
use crate::record::Recorder;
use crate::session::Ending;

/// The places of a worker, and the connections without one.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    /// Connections that have a place.
    taken: usize,
    /// Places that were given up since [`Worker::take_places_given_up`] was last called.
    given_up: usize,
    /// Connections that will be refused as soon as their request heads are complete.
    refusing: Pending,
    /// Connections among these that were evicted for a new connection, and are refused without waiting for their heads.
    evicted: VecDeque<(Key, ConnectionId)>,
    /// Refused connections, the oldest first. Some may have been removed since.
    refused: VecDeque<(Key, ConnectionId)>,
}

impl<A: Application> Worker<A> {
    /// Whether all places are taken, so that another connection would evict a handshake in progress or be refused.
    pub fn is_full(&self) -> bool {
        self.config.max_connections.is_some_and(|most| self.capacity.taken >= most)
    }

    /// Returns the number of admitted connections.
    pub fn admitted(&self) -> usize {
        self.capacity.taken - self.pending.len()
    }

    /// Returns the number of handshakes in progress, which may be evicted for new connections when all places are
    /// taken.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Returns the number of places that were given up since the last call, by connections that were
    /// [opened](Worker::open) without a refusal and have ended or will not be admitted.
    pub fn take_places_given_up(&mut self) -> usize {
        std::mem::take(&mut self.capacity.given_up)
    }

    /// Returns the number of request heads that are arriving.
    pub(super) fn pending_heads(&self) -> usize {
        self.pending.len() + self.capacity.refusing.len()
    }

    /// Finds a place for a new connection, if it may have one. Returns the reason if it will be refused.
    pub(super) fn reserve_place(&mut self, refusal: Option<HandshakeError>) -> Option<HandshakeError> {
        if refusal.is_some() {
            return refusal;
        }
        if self.is_full() && !self.evict_oldest_pending() {
            self.capacity.given_up += 1;
            return Some(HandshakeError::Overloaded);
        }
        self.capacity.taken += 1;
        None
    }

    /// Adds a new connection.
    pub(super) fn begin(&mut self, key: Key, arrival: &NewConnection, is_refusing: bool, at: Instant) {
        let connections = &self.connections;
        let handshake = PendingHandshake { key, id: arrival.id, at };
        if is_refusing {
            self.capacity
                .refusing
                .begin(handshake, |handshake| is(connections, handshake, AdmissionState::Refusing));
        } else {
            self.pending.begin(handshake, |handshake| is(connections, handshake, AdmissionState::Pending));
        }
    }

    /// Evicts the oldest handshake in progress, so that its place is free. Returns false if there is none.
    fn evict_oldest_pending(&mut self) -> bool {
        let connections = &mut self.connections;
        let oldest = self.pending.pop_oldest(|handshake| is(connections, handshake, AdmissionState::Pending));
        let Some(oldest) = oldest else { return false };
        // It exists, because it is pending.
        if let Some(connection) = connections.get_mut(oldest.key.0) {
            connection.refuse_when_complete(HandshakeError::Crowded);
        }
        self.pending.end();
        self.give_up_place();
        let connections = &self.connections;
        self.capacity
            .refusing
            .begin(oldest, |handshake| is(connections, handshake, AdmissionState::Refusing));
        self.capacity.evicted.push_back((oldest.key, oldest.id));
        true
    }

    /// Updates the counts after a turn of a connection.
    #[inline]
    pub(super) fn update_admission(&mut self, key: Key, before: AdmissionState, now: Instant) {
        let Some(connection) = self.connections.get(key.0) else { return };
        let after = connection.admission_state();
        if before != after {
            self.change_admission(key, before, after, now);
        }
    }

    fn change_admission(&mut self, key: Key, before: AdmissionState, after: AdmissionState, now: Instant) {
        match before {
            AdmissionState::Pending => self.pending.end(),
            AdmissionState::Refusing => self.capacity.refusing.end(),
            AdmissionState::Admitted | AdmissionState::Refused => {}
        }
        match after {
            AdmissionState::Admitted => {
                self.index_user(key);
                self.schedule_expiry(key, now);
            }
            AdmissionState::Refused => {
                if before == AdmissionState::Pending {
                    self.give_up_place();
                }
                self.keep_refused(key);
            }
            AdmissionState::Pending | AdmissionState::Refusing => {}
        }
    }

    /// Updates the counts after a connection with this state was removed.
    pub(super) fn end_admission(&mut self, admission_state: AdmissionState) {
        match admission_state {
            AdmissionState::Pending => {
                self.pending.end();
                self.give_up_place();
            }
            AdmissionState::Refusing => self.capacity.refusing.end(),
            AdmissionState::Admitted => self.give_up_place(),
            AdmissionState::Refused => {}
        }
    }

    fn give_up_place(&mut self) {
        self.capacity.taken -= 1;
        self.capacity.given_up += 1;
    }

    fn keep_refused(&mut self, key: Key) {
        let is_here = |&(key, id): &(Key, ConnectionId)| {
            self.connections.get(key.0).is_some_and(|connection| connection.id == id)
        };
        while self.capacity.refused.front().is_some_and(|front| !is_here(front)) {
            self.capacity.refused.pop_front();
        }
        if let Some(connection) = self.connections.get(key.0) {
            self.capacity.refused.push_back((key, connection.id));
        }
    }

    /// Whether a connection must be evicted, now or later.
    #[inline]
    pub(super) fn must_evict(&self) -> bool {
        !self.capacity.evicted.is_empty() || self.has_too_many_sockets() || self.is_crowded()
    }

    /// Returns the time at which the next connection must be evicted.
    pub(super) fn evicts_at(&self, now: Instant) -> Option<Instant> {
        if !self.capacity.evicted.is_empty() || self.has_too_many_sockets() {
            return Some(now);
        }
        if !self.is_crowded() {
            return None;
        }
        [self.capacity.refusing.next(), self.pending.next()].into_iter().flatten().min()
    }

    /// Returns the next connection that is evicted in favour of new ones. A runtime that has [opened](Worker::open) a connection
    /// and is about to open another calls it instead of [`next_due`](Worker::next_due), because it needs the sockets of the
    /// evicted ones.
    pub fn next_eviction(&mut self, now: Instant, recorder: &mut impl Recorder) -> Option<Due> {
        while let Some((key, id)) = self.capacity.evicted.pop_front() {
            let connection = self.connections.get(key.0).filter(|connection| connection.id == id);
            if connection.is_some_and(|connection| connection.admission_state() == AdmissionState::Refusing) {
                self.refuse(key, now, recorder);
                return Some(Due { key, cause: DueCause::Change });
            }
        }
        while self.has_too_many_sockets() {
            let Some((key, id)) = self.capacity.refused.pop_front() else {
                let key = self.oldest_refusing(now, Duration::ZERO)?;
                self.refuse(key, now, recorder);
                return Some(Due { key, cause: DueCause::Change });
            };
            if let Some(connection) = self.connections.get_mut(key.0).filter(|connection| connection.id == id)
            {
                connection.abort(Ending::Broken);
                return Some(Due { key, cause: DueCause::Change });
            }
        }
        if !self.is_crowded() {
            return None;
        }
        let key = self.oldest_refusing(now, MIN_HANDSHAKE_TIME).or_else(|| {
            let connections = &self.connections;
            let is_pending =
                |handshake: &PendingHandshake| is(connections, handshake, AdmissionState::Pending);
            self.pending.pop_oldest_after(MIN_HANDSHAKE_TIME, now, is_pending)
        })?;
        Some(Due { key, cause: DueCause::Eviction })
    }

    /// Refuses a connection before its head is complete.
    pub(super) fn refuse(&mut self, key: Key, now: Instant, recorder: &mut impl Recorder) {
        self.turn(key, now, |connection, context, turn| {
            let reason = connection.refusal().unwrap_or(HandshakeError::Crowded);
            connection.refuse(context, turn, reason, recorder);
        });
    }

    fn oldest_refusing(&mut self, now: Instant, least: Duration) -> Option<Key> {
        let connections = &self.connections;
        let is_refusing = |handshake: &PendingHandshake| is(connections, handshake, AdmissionState::Refusing);
        self.capacity.refusing.pop_oldest_after(least, now, is_refusing)
    }

    /// Whether there are more connections than sockets are allowed, and some that can be closed.
    fn has_too_many_sockets(&self) -> bool {
        self.config.max_sockets.is_some_and(|most| self.connections.len() > most)
            && (!self.capacity.refused.is_empty() || self.capacity.refusing.len() > 0)
    }

    /// Whether there are more handshakes in progress than
    /// [`max_handshakes`](crate::handshake::HandshakeConfig::max_handshakes).
    pub(super) fn is_crowded(&self) -> bool {
        let most = self.config.handshake.max_handshakes;
        most != 0 && self.pending_heads() > most
    }
}

/// Whether the key of the handshake still belongs to the same connection, and the connection has this state.
fn is<A: Application>(
    connections: &Slab<Connection<A>>,
    handshake: &PendingHandshake,
    admission_state: AdmissionState,
) -> bool {
    let connection = connections.get(handshake.key.0);
    connection.is_some_and(|connection| {
        connection.id == handshake.id && connection.admission_state() == admission_state
    })
}
