//! A worker and its sockets, and the steps of its runtime that are the same for every application.

use std::time::{Duration, Instant};

use postern_core::model::PEER;
use postern_core::worker::{Application, DueCause, NewConnection};
use postern_core::{ConnectionId, Key, Recorder, Transport, Worker};

use crate::random::Random;
use crate::socket::Link;
use crate::trace::{Subject, Trace};

/// A worker with its sockets.
#[derive(Debug)]
pub(crate) struct Carrier<A: Application> {
    pub(crate) worker: Worker<A>,
    /// The most writes of a message to many connections in one turn.
    slice: usize,
    /// The party of each connection, by key.
    sockets: Vec<Option<usize>>,
}

/// The parts of the world that a turn changes. `P` has the client's side of each connection, and `R` records all workers.
pub(crate) struct Surroundings<'w, P, R> {
    /// The start of virtual time.
    pub(crate) start: Instant,
    pub(crate) parties: &'w mut [P],
    pub(crate) records: &'w mut R,
    pub(crate) trace: &'w mut Trace,
    pub(crate) random: &'w mut Random,
    pub(crate) buffer: &'w mut [u8],
}

/// The client's side of a connection.
pub(crate) trait Party {
    /// Whether each read and each write is a step of the trace.
    const ARE_TURNS_TRACED: bool;

    fn connection(&self) -> ConnectionId;

    /// Returns the number of the client.
    fn client(&self) -> usize;

    fn link(&self) -> &Link;

    fn link_mut(&mut self) -> &mut Link;

    /// Handles that the worker learns of its end while it does not read.
    fn on_peer_closed(&mut self) {}
}

/// A recorder that also collects violations.
pub(crate) trait Records: Recorder {
    /// Reports a violation, of a connection or of a worker.
    fn report(&mut self, connection: Option<ConnectionId>, what: &'static str);

    /// Handles the removal of a connection. Returns its close code, if it was established and that is known.
    fn on_removed(&mut self, _: ConnectionId) -> Option<u16> {
        None
    }
}

impl<P: Party, R: Records> Surroundings<'_, P, R> {
    pub(crate) fn now(&self) -> Instant {
        self.start + self.trace.now
    }

    fn step(&mut self, party: usize, what: &'static str, key: Key) {
        if P::ARE_TURNS_TRACED {
            self.trace.step(Subject::Client(self.parties[party].client()), what, key.0);
        }
    }
}

impl<A: Application> Carrier<A> {
    /// Creates the sockets of a worker that writes slices of this length.
    pub(crate) fn new(worker: Worker<A>, slice: usize) -> Carrier<A> {
        Carrier { worker, slice, sockets: Vec::new() }
    }

    /// Returns the parties of its connections.
    pub(crate) fn parties(&self) -> impl Iterator<Item = (Key, usize)> {
        self.sockets.iter().enumerate().filter_map(|(key, party)| Some((Key(key), (*party)?)))
    }

    /// Returns the party of a connection.
    pub(crate) fn party(&self, key: Key) -> Option<usize> {
        self.sockets.get(key.0).copied().flatten()
    }

    /// Returns the time at which the worker must run again. `None`: not until something happens.
    pub(crate) fn next_turn(
        &self,
        parties: &[impl Party],
        start: Instant,
        now: Duration,
    ) -> Option<Duration> {
        let is_ready = self.parties().any(|(key, party)| {
            let link = parties[party].link();
            link.is_readable() && self.worker.wants_read(key)
                || link.is_writable_again() && self.worker.wants_write(key)
                || link.has_client_ended() && self.worker.wants_peer_closed(key)
        });
        if is_ready {
            return Some(now);
        }
        self.worker.poll_timeout(start + now).map(|at| at.saturating_duration_since(start).max(now))
    }

    pub(crate) fn open(&mut self, party: usize, around: &mut Surroundings<'_, impl Party, impl Records>) {
        let id = around.parties[party].connection();
        let key = self.worker.open(NewConnection { id, peer: PEER, refusal: None }, around.now());
        self.sockets.resize(self.sockets.len().max(key.0 + 1), None);
        if self.sockets[key.0].replace(party).is_some() {
            around.records.report(Some(id), "the key of an open connection is used again");
        }
    }

    /// Handles all sockets that are ready, in any order. Returns the parties that may have something to read.
    pub(crate) fn handle_all_ready<P: Party>(
        &mut self,
        around: &mut Surroundings<'_, P, impl Records>,
    ) -> Vec<usize> {
        let mut ready: Vec<_> = self.parties().collect();
        let parties = ready.iter().map(|(_, party)| *party).collect();
        around.random.shuffle(&mut ready);
        for (key, party) in ready {
            if self.party(key) == Some(party) {
                self.handle_ready(key, party, around);
            }
        }
        parties
    }

    fn handle_ready<P: Party>(
        &mut self,
        key: Key,
        party: usize,
        around: &mut Surroundings<'_, P, impl Records>,
    ) {
        let now = around.now();
        if around.parties[party].link().has_client_ended() && self.worker.wants_peer_closed(key) {
            around.step(party, "has ended while reading is paused", key);
            self.worker.handle_peer_closed(key, now);
            around.parties[party].on_peer_closed();
        }
        let link = around.parties[party].link();
        let transport = if link.is_readable() && self.worker.wants_read(key) {
            around.step(party, "is read", key);
            let link = around.parties[party].link_mut();
            self.worker.on_readable(key, now, around.buffer, link, around.records)
        } else if link.is_writable_again() && self.worker.wants_write(key) {
            around.step(party, "is flushed", key);
            self.worker.flush(key, now, around.parties[party].link_mut())
        } else {
            return;
        };
        self.apply(key, party, transport, around);
        if self.worker.is_short_of_memory() {
            self.handle_all_due(around);
        }
    }

    /// Handles all connections that are due. Of a message to many connections it writes one slice.
    pub(crate) fn handle_all_due(&mut self, around: &mut Surroundings<'_, impl Party, impl Records>) {
        let now = around.now();
        let mut written = 0;
        for _ in 0..MOST_DUE {
            let Some(due) = self.worker.next_due(now, around.records) else { return };
            let key = due.key;
            if due.cause == DueCause::Frame && !self.worker.is_short_of_memory() {
                written += 1;
                if written > self.slice {
                    around.records.report(None, "a slice of a fan-out is too long");
                }
            }
            let Some(party) = self.party(key) else {
                return around.records.report(None, "a connection is due that was removed");
            };
            around.step(party, "is due", key);
            let link = around.parties[party].link_mut();
            let transport = self.worker.handle_due(due, now, around.buffer, link, around.records);
            self.apply(key, party, transport, around);
        }
        around.records.report(None, "connections of a worker are always due");
    }

    fn apply<P: Party>(
        &mut self,
        key: Key,
        party: usize,
        transport: Transport,
        around: &mut Surroundings<'_, P, impl Records>,
    ) {
        let now = around.now();
        let (connection, client) = (around.parties[party].connection(), around.parties[party].client());
        let link = around.parties[party].link_mut();
        match transport {
            Transport::Open => {}
            Transport::ShutdownWrite => link.shut_down_write(),
            Transport::Close => {
                link.close();
                self.worker.remove(key, now, around.records);
                self.sockets[key.0] = None;
                let code = around.records.on_removed(connection);
                around.trace.seen.extend(code);
                let code = code.unwrap_or_default().into();
                around.trace.step(Subject::Client(client), "is removed with code", code);
            }
        }
        if around.parties[party].link().is_misused() {
            around.records.report(Some(connection), "bytes are sent after the end of the server's side");
        }
    }

    /// Checks that there is one socket for each connection.
    pub(crate) fn check(&self, records: &mut impl Records) {
        if self.worker.len() != self.parties().count() {
            records.report(None, "the worker has another number of connections than sockets");
        }
    }
}

/// The most connections that can be due in one turn, each of them several times.
const MOST_DUE: usize = 100_000;
