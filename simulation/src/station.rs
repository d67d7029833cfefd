//! One worker with its sockets and its inbox. One turn handles everything that is ready.

use std::rc::Rc;
use std::time::Duration;

use postern_core::frame::DataKind;
use postern_core::session::Ending;
use postern_core::worker::{
    AdminReply, AdminRequest, Echo, MessageQueue, OutgoingMessage, Selector, WorkerEffect, WorkerMessage,
};
use postern_core::{ConnectionId, Worker};

use crate::carrier::{self, Carrier, Party};
use crate::client::{Client, State};
use crate::invariants::{Ledger, Message};
use crate::socket::Link;
use crate::trace::Subject;

/// A worker with its sockets and its inbox.
#[derive(Debug)]
pub(crate) struct Station {
    number: usize,
    pub(crate) carrier: Carrier<Echo>,
    /// The messages, with their numbers in the order of their arrival.
    pub(crate) inbox: MessageQueue<(u64, Item)>,
    /// The most messages in the inbox, when a request arrives.
    inbox_limit: usize,
    /// The number of messages that the inbox has accepted, and of those that the worker has handled.
    accepted: u64,
    handled: u64,
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

type Surroundings<'w> = carrier::Surroundings<'w, Client, Ledger>;

impl carrier::Records for Ledger {
    fn report(&mut self, connection: Option<ConnectionId>, what: &'static str) {
        Ledger::report(self, connection, what);
    }

    fn on_removed(&mut self, connection: ConnectionId) -> Option<u16> {
        Ledger::on_removed(self, connection);
        self.account(connection.0 as usize - 1).ending.map(Ending::code)
    }
}

impl Party for Client {
    const ARE_TURNS_TRACED: bool = true;

    fn connection(&self) -> ConnectionId {
        Client::connection(self)
    }

    fn client(&self) -> usize {
        self.number
    }

    fn link(&self) -> &Link {
        &self.link
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    fn on_peer_closed(&mut self) {
        self.was_peer_closed = true;
    }
}

impl Station {
    pub(crate) fn new(number: usize, worker: Worker, slice: usize, inbox_limit: usize) -> Station {
        Station {
            number,
            carrier: Carrier::new(worker, slice),
            inbox: MessageQueue::default(),
            inbox_limit,
            accepted: 0,
            handled: 0,
            wakes_at: None,
            is_log_full: false,
            is_finished: false,
        }
    }

    /// Puts a message into the inbox. Returns false if that is a request that finds the inbox full, which is refused then.
    pub(crate) fn deliver(&mut self, item: Item, has_fault: bool) -> bool {
        let is_limited = has_fault || matches!(item, Item::Request(_));
        let limit = if is_limited { self.inbox_limit } else { usize::MAX };
        let is_accepted = self.inbox.add((self.accepted + 1, item), limit).is_ok();
        self.accepted += u64::from(is_accepted);
        is_accepted
    }

    /// Handles the messages in the inbox, then all sockets that are ready, and then all connections that are due. Returns
    /// the messages to other workers, and the clients that may have something to read.
    pub(crate) fn turn(&mut self, around: &mut Surroundings<'_>) -> (Vec<WorkerEffect>, Vec<usize>) {
        around.records.is_full = self.is_log_full || around.records.is_log_full;
        let mut items = Vec::new();
        self.inbox.take(&mut items);
        for (number, item) in items {
            self.handled += 1;
            if number != self.handled {
                around.records.report(None, "a message to a worker is lost, or overtakes another");
            }
            self.handle_item(item, around);
        }
        let clients = self.carrier.handle_all_ready(around);
        self.carrier.handle_all_due(around);
        let worker = &mut self.carrier.worker;
        let effects = std::iter::from_fn(|| worker.poll_effect()).collect();
        self.is_log_full = around.records.is_log_full;
        around.records.is_full = self.is_log_full;
        worker.apply_backpressure(around.records, around.now());
        self.is_finished = worker.is_finished();
        if self.is_finished && self.accepted != self.handled {
            around.records.report(None, "a message to a worker is not handled");
        }
        self.check(around);
        (effects, clients)
    }

    fn handle_item(&mut self, item: Item, around: &mut Surroundings<'_>) {
        match item {
            Item::Open(client) => {
                let what = "opens the connection of client";
                around.trace.step(Subject::Worker(self.number), what, client + 1);
                self.carrier.open(client, around);
            }
            Item::Message(message) => {
                let what = match &message {
                    WorkerMessage::Peer(_) => "receives a message of another worker",
                    WorkerMessage::Drain(_) => "is asked to drain",
                    WorkerMessage::Close => "is asked to close",
                    WorkerMessage::Application(event) => match *event {},
                    WorkerMessage::TokenChecked(..) | _ => "receives a message",
                };
                around.trace.step(Subject::Worker(self.number), what, 0);
                let now = around.now();
                self.carrier.worker.handle_message(message, now, around.records);
            }
            Item::Request(request) => self.perform(&request, around),
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
            let is_open = |key| self.carrier.worker.status(key).is_some_and(|status| status.is_open);
            let open = self.carrier.parties().filter(|(key, _)| is_open(*key)).map(|(_, client)| client);
            affected.extend(open.filter(|client| is_selected(selector, &around.parties[*client])));
        }
        let reply = self.carrier.worker.handle_request(request, around.now());
        let subject = Subject::Worker(self.number);
        match reply {
            AdminReply::Affected(count) => {
                let is_send = matches!(request, AdminRequest::Send { .. });
                let what = if is_send { "sends to clients" } else { "disconnects clients" };
                around.trace.step(subject, what, count);
                if count != affected.len() {
                    around.records.report(None, "a reply has another number of connections than are open");
                }
            }
            AdminReply::Connections(listed) => {
                around.trace.step(subject, "lists connections", listed.len());
                let open = listed.iter().filter(|status| status.is_open).count();
                let are_all_known = listed
                    .iter()
                    .all(|status| self.carrier.party(status.key) == Some(status.id.0 as usize - 1));
                if open != affected.len() || !are_all_known {
                    around.records.report(None, "a listing has other connections than the open ones");
                }
            }
            AdminReply::Totals(totals) => {
                around.trace.step(subject, "counts connections", totals.totals.connections);
                let live = self
                    .carrier
                    .parties()
                    .filter(|(_, client)| around.records.account(*client).is_live())
                    .count();
                if totals.totals.connections != live {
                    around.records.report(None, "the totals have another number of connections");
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
                around.records.account(client).expected.push_back(message);
            }
        }
    }

    /// Checks what must hold after each turn.
    fn check(&self, around: &mut Surroundings<'_>) {
        self.carrier.check(around.records);
        let worker = &self.carrier.worker;
        if worker.is_empty() && worker.memory_held() != 0 {
            around.records.report(None, "memory is counted although there are no connections");
        }
        if worker.is_short_of_memory() {
            around
                .records
                .report(None, "the memory limit is exceeded after all due connections were handled");
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
