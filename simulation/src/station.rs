//! One worker, and what a runtime keeps for it: its sockets and its inbox. One turn handles everything that is ready.

use std::rc::Rc;
use std::time::{Duration, Instant};

use postern_core::frame::DataKind;
use postern_core::handshake::Peer;
use postern_core::session::Ending;
use postern_core::worker::{
    AdminReply, AdminRequest, DueCause, NewConnection, OutgoingMessage, Selector, WorkerEffect, WorkerMessage,
};
use postern_core::{ConnectionId, Key, Transport, Worker};

use crate::client::{Client, State};
use crate::invariants::{Ledger, Message};
use crate::random::Random;
use crate::trace::{Subject, Trace};

/// A worker with its sockets.
#[derive(Debug)]
pub(crate) struct Station {
    number: usize,
    /// The most writes of a message to many connections in one turn.
    slice: usize,
    pub(crate) worker: Worker,
    /// The client of each connection, by key.
    sockets: Vec<Option<usize>>,
    pub(crate) inbox: Vec<Item>,
    /// The time of the next turn, if there is one.
    pub(crate) wakes_at: Option<Duration>,
    /// Whether the log was full when it last handed over its records.
    is_log_full: bool,
    /// Whether it has stopped, and has no connections left.
    pub(crate) is_finished: bool,
}

/// A message in an inbox.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// The client with this number has connected.
    Open(usize),
    Message(WorkerMessage),
    Request(Rc<AdminRequest>),
}

/// The parts of the world that a turn changes.
pub(crate) struct Surroundings<'w> {
    /// The start of virtual time.
    pub(crate) start: Instant,
    pub(crate) clients: &'w mut [Client],
    pub(crate) ledger: &'w mut Ledger,
    pub(crate) trace: &'w mut Trace,
    pub(crate) random: &'w mut Random,
    pub(crate) buffer: &'w mut [u8],
}

impl Surroundings<'_> {
    fn now(&self) -> Instant {
        self.start + self.trace.now
    }
}

impl Station {
    pub(crate) fn new(number: usize, worker: Worker, slice: usize) -> Station {
        Station {
            number,
            slice,
            worker,
            sockets: Vec::new(),
            inbox: Vec::new(),
            wakes_at: None,
            is_log_full: false,
            is_finished: false,
        }
    }

    /// Returns the clients of its connections.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (Key, usize)> {
        self.sockets.iter().enumerate().filter_map(|(key, client)| Some((Key(key), (*client)?)))
    }

    /// Handles the messages in the inbox, then all sockets that are ready, and then all connections that are due. Returns
    /// the messages to other workers, and the clients that may have something to read.
    pub(crate) fn turn(&mut self, around: &mut Surroundings<'_>) -> (Vec<WorkerEffect>, Vec<usize>) {
        around.ledger.is_full = self.is_log_full || around.ledger.is_log_full;
        for item in std::mem::take(&mut self.inbox) {
            self.handle_item(item, around);
        }
        let mut ready: Vec<_> = self.clients().collect();
        let clients = ready.iter().map(|(_, client)| *client).collect();
        around.random.shuffle(&mut ready);
        for (key, client) in ready {
            if self.sockets[key.0] == Some(client) {
                self.handle_ready(key, client, around);
            }
        }
        self.handle_all_due(around);
        let effects = std::iter::from_fn(|| self.worker.poll_effect()).collect();
        self.is_log_full = around.ledger.is_log_full;
        around.ledger.is_full = self.is_log_full;
        self.worker.apply_backpressure(around.ledger, around.now());
        self.check(around);
        self.is_finished = self.worker.is_finished();
        (effects, clients)
    }

    /// Returns the time at which the worker must run again. `None`: not until something happens.
    pub(crate) fn next_turn(&self, clients: &[Client], start: Instant, now: Duration) -> Option<Duration> {
        let is_ready = self.clients().any(|(key, client)| {
            let link = &clients[client].link;
            link.is_readable() && self.worker.wants_read(key)
                || link.is_writable_again() && self.worker.wants_write(key)
        });
        if is_ready {
            return Some(now);
        }
        self.worker.poll_timeout(start + now).map(|at| at.saturating_duration_since(start).max(now))
    }

    fn handle_item(&mut self, item: Item, around: &mut Surroundings<'_>) {
        match item {
            Item::Open(client) => self.open(client, around),
            Item::Message(message) => {
                let what = match &message {
                    WorkerMessage::Peer(_) => "receives a message of another worker",
                    WorkerMessage::Drain(_) => "is asked to drain",
                    WorkerMessage::Close => "is asked to close",
                    WorkerMessage::Application(event) => match *event {},
                    _ => "receives a message",
                };
                around.trace.step(Subject::Worker(self.number), what, 0);
                let now = around.now();
                self.worker.handle_message(message, now, around.ledger);
            }
            Item::Request(request) => self.perform(&request, around),
        }
    }

    fn open(&mut self, client: usize, around: &mut Surroundings<'_>) {
        around.trace.step(Subject::Worker(self.number), "opens the connection of client", client + 1);
        let peer = Peer::Tcp { ip: [127, 0, 0, 1].into(), port: 40_000 };
        let arrival = NewConnection { id: around.clients[client].connection(), peer, refusal: None };
        let key = self.worker.open(arrival, around.now());
        self.sockets.resize(self.sockets.len().max(key.0 + 1), None);
        if self.sockets[key.0].replace(client).is_some() {
            around.ledger.report(Some(arrival.id), "the key of an open connection is used again");
        }
    }

    /// Performs an operator's request, and compares the reply with what the clients and their connections say.
    fn perform(&mut self, request: &AdminRequest, around: &mut Surroundings<'_>) {
        let is_selected = |selector: &Selector, client: &Client| match selector {
            Selector::All => true,
            Selector::User(id) => client.user == *id,
            Selector::Session(_) => false,
            Selector::Connection(id) => client.connection() == *id,
        };
        let mut affected: Vec<usize> = Vec::new();
        if let AdminRequest::Send { selector, .. }
        | AdminRequest::Disconnect { selector, .. }
        | AdminRequest::List { selector, .. } = request
        {
            let is_open = |key| self.worker.status(key).is_some_and(|status| status.is_open);
            let open = self.clients().filter(|(key, _)| is_open(*key)).map(|(_, client)| client);
            affected.extend(open.filter(|client| is_selected(selector, &around.clients[*client])));
        }
        let reply = self.worker.handle_request(request, around.now());
        let subject = Subject::Worker(self.number);
        match reply {
            AdminReply::Affected(count) => {
                let is_send = matches!(request, AdminRequest::Send { .. });
                let what = if is_send { "sends to clients" } else { "disconnects clients" };
                around.trace.step(subject, what, count);
                if count != affected.len() {
                    around.ledger.report(None, "a reply has another number of connections than are open");
                }
            }
            AdminReply::Connections(listed) => {
                around.trace.step(subject, "lists connections", listed.len());
                let open = listed.iter().filter(|status| status.is_open).count();
                let are_all_known = listed.iter().all(|status| {
                    self.sockets.get(status.key.0).copied().flatten() == Some(status.id.0 as usize - 1)
                });
                if open != affected.len() || !are_all_known {
                    around.ledger.report(None, "a listing has other connections than the open ones");
                }
            }
            AdminReply::Totals(totals) => {
                around.trace.step(subject, "counts connections", totals.totals.connections);
                let live =
                    self.clients().filter(|(_, client)| around.ledger.account(*client).is_live()).count();
                if totals.totals.connections != live {
                    around.ledger.report(None, "the totals have another number of connections");
                }
            }
            // The operators of the simulation send no batches: a batch is performed as its requests are.
            AdminReply::Alive | AdminReply::Load(_) => {}
        }
        if let AdminRequest::Send { message, .. } = request {
            let (kind, payload) = match message {
                OutgoingMessage::Text(text) => (DataKind::Text, text.clone().into_bytes()),
                OutgoingMessage::Binary(payload) => (DataKind::Binary, payload.clone()),
            };
            for client in affected {
                let message = Message { kind, payload: payload.clone() };
                around.ledger.account(client).expected.push_back(message);
            }
        }
    }

    fn handle_ready(&mut self, key: Key, client: usize, around: &mut Surroundings<'_>) {
        let now = around.now();
        let Client { link, was_peer_closed, .. } = &mut around.clients[client];
        if link.has_client_ended() && self.worker.wants_peer_closed(key) {
            around.trace.step(Subject::Client(client), "has ended while reading is paused", 0);
            self.worker.handle_peer_closed(key, now);
            *was_peer_closed = true;
        }
        let transport = if link.is_readable() && self.worker.wants_read(key) {
            around.trace.step(Subject::Client(client), "is read", key.0);
            self.worker.on_readable(key, now, around.buffer, link, around.ledger)
        } else if link.is_writable_again() && self.worker.wants_write(key) {
            around.trace.step(Subject::Client(client), "is flushed", key.0);
            self.worker.flush(key, now, link)
        } else {
            return;
        };
        self.apply(key, client, transport, around);
        if self.worker.is_short_of_memory() {
            self.handle_all_due(around);
        }
    }

    fn handle_all_due(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now();
        let mut written = 0;
        for _ in 0..MOST_DUE {
            let Some(due) = self.worker.next_due(now, around.ledger) else { return };
            let key = due.key;
            if due.cause == DueCause::Frame && !self.worker.is_short_of_memory() {
                written += 1;
                if written > self.slice {
                    around.ledger.report(None, "a slice of a fan-out is too long");
                }
            }
            let Some(client) = self.sockets.get(key.0).copied().flatten() else {
                return around.ledger.report(None, "a connection is due that was removed");
            };
            around.trace.step(Subject::Client(client), "is due", key.0);
            let link = &mut around.clients[client].link;
            let transport = self.worker.handle_due(due, now, around.buffer, link, around.ledger);
            self.apply(key, client, transport, around);
        }
        around.ledger.report(None, "connections of a worker are always due");
    }

    fn apply(&mut self, key: Key, client: usize, transport: Transport, around: &mut Surroundings<'_>) {
        let link = &mut around.clients[client].link;
        match transport {
            Transport::Open => {}
            Transport::ShutdownWrite => link.shut_down_write(),
            Transport::Close => {
                link.close();
                self.worker.remove(key, around.now(), around.ledger);
                let code = around.ledger.account(client).ending.map(Ending::code);
                around.trace.seen.extend(code);
                around.trace.step(Subject::Client(client), "is removed with code", code.unwrap_or(0).into());
                self.sockets[key.0] = None;
                around.ledger.on_removed(connection(client));
            }
        }
        let is_misused = around.clients[client].link.is_misused();
        around.ledger.check(
            !is_misused,
            connection(client),
            "bytes are sent after the end of the server's side",
        );
    }

    /// Checks what must hold after each turn.
    fn check(&self, around: &mut Surroundings<'_>) {
        if self.worker.len() != self.clients().count() {
            around.ledger.report(None, "the worker has another number of connections than sockets");
        }
        if self.worker.is_empty() && self.worker.memory_held() != 0 {
            around.ledger.report(None, "memory is counted although there are no connections");
        }
        if self.worker.is_short_of_memory() {
            around.ledger.report(None, "the memory limit is exceeded after all due connections were handled");
        }
    }

    /// Refuses what is still in the inbox of a worker that has finished.
    pub(crate) fn turn_away(item: &Item, clients: &mut [Client]) {
        if let Item::Open(client) = item {
            clients[*client].link.close();
            clients[*client].state = State::TurnedAway;
        }
    }
}

fn connection(client: usize) -> ConnectionId {
    ConnectionId(client as u64 + 1)
}

/// The most connections that can be due in one turn, each of them several times.
const MOST_DUE: usize = 10_000;
