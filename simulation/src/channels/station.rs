//! One worker, and what its runtime keeps for it. A turn has the steps of the event loop of `postern`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::Channels;
use postern_core::handshake::Peer;
use postern_core::worker::{NewConnection, WorkerEffect, WorkerMessage};
use postern_core::{Key, Transport, Worker};

use super::node::Node;
use super::plan::Plan;
use super::records::Records;
use super::session::Session;
use crate::random::Random;
use crate::trace::{Subject, Trace};

/// A worker with its sockets.
#[derive(Debug)]
pub(crate) struct Station {
    number: usize,
    pub(crate) worker: Worker<Channels>,
    /// The session of each connection, by key.
    sockets: Vec<Option<usize>>,
    /// Sessions that have connected.
    pub(crate) arrivals: Vec<usize>,
    /// Whether it is asked to stop, over this time.
    pub(crate) drain: Option<Duration>,
    /// The time of the next turn, if there is one.
    pub(crate) wakes_at: Option<Duration>,
    pub(crate) is_finished: bool,
}

/// The parts of the world that a turn changes.
pub(crate) struct Surroundings<'w> {
    pub(crate) start: Instant,
    pub(crate) sessions: &'w mut [Session],
    pub(crate) node: &'w mut Node,
    pub(crate) records: &'w mut Records,
    pub(crate) trace: &'w mut Trace,
    pub(crate) random: &'w mut Random,
    pub(crate) buffer: &'w mut [u8],
    pub(crate) fault: Option<&'static str>,
}

impl Surroundings<'_> {
    fn now(&self) -> Instant {
        self.start + self.trace.now
    }
}

impl Station {
    pub(crate) fn new(number: usize, plan: &Plan, seed: u64, now: Instant) -> Station {
        let config = Arc::new(plan.config.share(number, plan.workers));
        let application = Channels::new(plan.channels_config.clone(), u128::from(seed) << 7 | 1, now);
        Station {
            number,
            worker: Worker::with_application(application, config, seed, now),
            sockets: Vec::new(),
            arrivals: Vec::new(),
            drain: None,
            wakes_at: None,
            is_finished: false,
        }
    }

    /// Returns the sessions of its connections.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = (Key, usize)> {
        self.sockets.iter().enumerate().filter_map(|(key, session)| Some((Key(key), (*session)?)))
    }

    /// Handles what has arrived, all sockets that are ready, all connections that are due, and the requests of the application.
    /// Returns the sessions that may have something to read.
    pub(crate) fn turn(&mut self, around: &mut Surroundings<'_>) -> Vec<usize> {
        for session in std::mem::take(&mut self.arrivals) {
            self.open(session, around);
        }
        if let Some(spread) = self.drain.take() {
            let now = around.now();
            self.worker.handle_message(WorkerMessage::Drain(spread), now, around.records);
        }
        if around.node.mail.is_woken[self.number] {
            self.read_channels(around);
        }
        let mut ready: Vec<_> = self.sessions().collect();
        let sessions = ready.iter().map(|(_, session)| *session).collect();
        around.random.shuffle(&mut ready);
        for (key, session) in ready {
            if self.sockets[key.0] == Some(session) {
                self.handle_ready(key, session, around);
            }
        }
        self.handle_all_due(around);
        while self.apply_effects(around) {
            self.read_channels(around);
            self.handle_all_due(around);
        }
        if self.worker.len() != self.sessions().count() {
            around.fault.get_or_insert("the worker has another number of connections than sockets");
        }
        self.is_finished = self.worker.is_finished();
        sessions
    }

    /// Returns the time at which the worker must run again. `None`: not until something happens.
    pub(crate) fn next_turn(&self, sessions: &[Session], start: Instant, now: Duration) -> Option<Duration> {
        let is_ready = self.sessions().any(|(key, session)| {
            let link = &sessions[session].link;
            link.is_readable() && self.worker.wants_read(key)
                || link.is_writable_again() && self.worker.wants_write(key)
                || link.has_client_ended() && self.worker.wants_peer_closed(key)
        });
        if is_ready {
            return Some(now);
        }
        self.worker.poll_timeout(start + now).map(|at| at.saturating_duration_since(start).max(now))
    }

    /// Performs the requests of the application. Returns whether there was one, whose answer has arrived.
    fn apply_effects(&mut self, around: &mut Surroundings<'_>) -> bool {
        let mut is_executed = false;
        let now = around.now();
        while let Some(effect) = self.worker.poll_effect() {
            match effect {
                // Users may have any number of connections.
                WorkerEffect::ToPeer(..) => around.fault = Some("a connection is replaced without a limit"),
                WorkerEffect::Application(request) => {
                    around.trace.step(
                        Subject::Worker(self.number),
                        "sends a request of client",
                        request.client.key.0,
                    );
                    around.node.execute(self.number, request, now, around.random);
                    is_executed = true;
                }
            }
        }
        is_executed
    }

    fn read_channels(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now();
        let events = around.node.take_events(self.number, now, around.random);
        around.trace.step(Subject::Worker(self.number), "takes events", events.len());
        for event in events {
            if around.trace.is_printed() {
                println!("                  worker {}: {event:?}", self.number);
            }
            self.worker.handle_message(WorkerMessage::Application(event), now, around.records);
        }
    }

    fn open(&mut self, session: usize, around: &mut Surroundings<'_>) {
        let peer = Peer::Tcp { ip: [127, 0, 0, 1].into(), port: 40_000 };
        let arrival = NewConnection { id: around.sessions[session].connection, peer, refusal: None };
        let key = self.worker.open(arrival, around.now());
        self.sockets.resize(self.sockets.len().max(key.0 + 1), None);
        if self.sockets[key.0].replace(session).is_some() {
            around.fault.get_or_insert("the key of an open connection is used again");
        }
    }

    fn handle_ready(&mut self, key: Key, session: usize, around: &mut Surroundings<'_>) {
        let now = around.now();
        let link = &mut around.sessions[session].link;
        if link.has_client_ended() && self.worker.wants_peer_closed(key) {
            self.worker.handle_peer_closed(key, now);
        }
        let transport = if link.is_readable() && self.worker.wants_read(key) {
            self.worker.on_readable(key, now, around.buffer, link, around.records)
        } else if link.is_writable_again() && self.worker.wants_write(key) {
            self.worker.flush(key, now, link)
        } else {
            return;
        };
        self.apply(key, session, transport, around);
    }

    fn handle_all_due(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now();
        for _ in 0..MOST_DUE {
            let Some(due) = self.worker.next_due(now, around.records) else { return };
            let Some(session) = self.sockets.get(due.key.0).copied().flatten() else {
                around.fault.get_or_insert("a connection is due that was removed");
                return;
            };
            let link = &mut around.sessions[session].link;
            let transport = self.worker.handle_due(due, now, around.buffer, link, around.records);
            self.apply(due.key, session, transport, around);
        }
        around.fault.get_or_insert("connections of a worker are always due");
    }

    fn apply(&mut self, key: Key, session: usize, transport: Transport, around: &mut Surroundings<'_>) {
        let Session { link, client, .. } = &mut around.sessions[session];
        match transport {
            Transport::Open => {}
            Transport::ShutdownWrite => link.shut_down_write(),
            Transport::Close => {
                link.close();
                around.trace.step(Subject::Client(*client), "is removed", key.0);
                self.worker.remove(key, around.now(), around.records);
                self.sockets[key.0] = None;
            }
        }
    }
}

/// The most connections that can be due in one turn, each of them several times.
const MOST_DUE: usize = 100_000;
