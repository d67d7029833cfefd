//! Channels over several nodes, with Redis as the engine.
//!
//! Without an engine, a host executes each request of a worker on the [`Exchange`](crate::exchange::Exchange) of its channel. With
//! one, it hands requests to a [`Relay`], which also gets the messages and replies of the engine, and executes on the exchanges
//! what follows from them:
//!
//! * The first subscription of a channel on this node subscribes at the engine, and reads the end of the stream: the exchange has
//!   a copy of it from then on. Further subscriptions and recoveries are answered from the copy. The engine is read again only
//!   for older publications, once for all clients that ask for them.
//! * A publication is one script at the engine. It arrives here as a message, like the publications of other nodes, and is
//!   answered after that.
//! * The node knows the position of each channel, so a gap leads to one read, whose publications are delivered in order. Only if
//!   they do not exist any more, subscribers are informed, and subscribe again. The same read follows each new connection, and
//!   from time to time checks channels without messages.
//!
//! Like the rest of this crate, a relay has no socket and no clock. [`Link`] decides about the connections.
//!
//! * `interface`: the values between a relay and its host.
//! * [`link`]: the connections; [`command`]: commands and replies; [`scripts`]: the scripts of Redis.
//! * `control`: commands to the clients of all nodes; `presence`: the presence on all nodes; `users`: the limit of connections.
//! * `message`: the encoding of publications; `publishing`: publications of this node; `streams`: channels with subscribers;
//!   `reads`: reads of their streams.

pub mod command;
mod control;
mod interface;
pub mod link;
mod message;
mod presence;
mod publishing;
mod reads;
pub mod scripts;
mod streams;
mod users;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::command::{Command, Failure, Reply, StreamState, Topic};
use self::control::Control;
use self::link::{Action, Attempt, Link, LinkEvent, Ticket};
use self::presence::{Gone, Leases};
use self::publishing::Own;
use self::streams::{Phase, Stream};
use self::users::Users;
use crate::engine::{Answer, ChannelEvent, ClientRef, Inboxes, Operation, Request};
use crate::exchange::{HistoryQuery, WorkerId};
use crate::hash::Seeded;
use crate::publication::Epoch;
use crate::random::Random;

pub use self::control::{CommandId, PAGE};
pub use self::interface::{
    Local, RelayConfig, RelayEvent, RelayStats, ServerAnswer, ServerOperation, ServerRequest, WhenDown,
};

/// Connects the exchanges of a node with an engine. The module describes it.
#[derive(Debug)]
pub struct Relay {
    config: RelayConfig,
    link: Link,
    streams: HashMap<Arc<str>, Stream, Seeded>,
    /// The channels with requests that wait.
    busy: BTreeSet<Arc<str>>,
    /// The purposes of commands without a reply.
    calls: HashMap<Ticket, Call, Seeded>,
    /// Publications of this node.
    own: HashMap<u64, Own, Seeded>,
    /// The number of the last of them.
    last: u64,
    /// When the messages of those that have a reply must have arrived.
    echoes: VecDeque<(Instant, u64)>,
    /// Clients that are closed as soon as their requests have answers.
    closes: Vec<(WorkerId, Request)>,
    control: Control,
    leases: Leases,
    users: Users,
    /// Streams that must be read.
    due: VecDeque<Arc<str>>,
    /// When reads that have failed are repeated.
    retries: VecDeque<(Instant, Arc<str>)>,
    /// Reads without a reply.
    reads: usize,
    rate: Rate,
    /// When requests have waited for too long.
    patience: VecDeque<(Instant, Arc<str>)>,
    /// When channels without subscriptions are given up.
    vacancies: VecDeque<(Instant, Arc<str>)>,
    /// When channels are checked.
    checks: VecDeque<(Instant, Arc<str>)>,
    /// The requests before the result of the first attempt to connect.
    early: Option<VecDeque<Input>>,
    random: Random,
    events: VecDeque<RelayEvent>,
    stats: RelayStats,
}

/// A request that waits.
#[derive(Debug)]
enum Input {
    Worker(WorkerId, Request),
    Server(ServerRequest),
}

/// The purpose of a command.
#[derive(Debug)]
enum Call {
    /// The publication with this number.
    Publish(u64),
    /// A read for the copy of a stream.
    Read(Arc<str>),
    /// A part of a history.
    History(Asker, Arc<str>, HistoryQuery),
    /// The removal of a history.
    Clear(u64),
    /// The command with this number.
    Command(u64),
    /// The clients that are present, or only their number.
    Presence(Asker, Arc<str>, bool),
    /// The presence of clients in a channel, or the end of the presence of one.
    WritePresence(Arc<str>, Option<Gone>),
    /// The renewal of a lease.
    Lease(u64),
    /// The descriptions of all nodes.
    Nodes(u64),
    /// The connections of a user.
    User(Arc<str>),
    /// The removal of the entries of a lease, and whether it is announced.
    Reap(u64, bool),
    /// A revocation.
    Revocation,
    /// The revocations of all nodes.
    Revocations,
}

/// The recipient of an answer.
#[derive(Debug, Clone)]
enum Asker {
    Client { worker: WorkerId, client: ClientRef, command: u32, channel: Arc<str> },
    Server(u64),
}

impl Asker {
    fn of(worker: WorkerId, request: &Request) -> Asker {
        let Request { client, command, channel, operation: _ } = request;
        Asker::Client { worker, client: *client, command: *command, channel: channel.clone() }
    }

    fn is(&self, of: WorkerId, other: ClientRef) -> bool {
        matches!(self, Asker::Client { worker, client, .. } if (*worker, *client) == (of, other))
    }
}

/// Limits reads by tokens that are added over time.
#[derive(Debug)]
struct Rate {
    tokens: f64,
    at: Instant,
}

impl Relay {
    /// Creates a relay, which connects at once. `seed` is random, and different for each start.
    pub fn new(config: RelayConfig, seed: u128, now: Instant) -> Relay {
        let hash = Seeded(seed as u64);
        Relay {
            link: Link::new(config.link.clone(), seed ^ 1, now),
            streams: HashMap::with_hasher(hash),
            busy: BTreeSet::new(),
            calls: HashMap::with_hasher(hash),
            own: HashMap::with_hasher(hash),
            last: 0,
            echoes: VecDeque::new(),
            closes: Vec::new(),
            control: Control::default(),
            leases: Leases::default(),
            users: Users::new(config.user_limit),
            due: VecDeque::new(),
            retries: VecDeque::new(),
            reads: 0,
            rate: Rate { tokens: f64::from(config.recover_rate), at: now },
            patience: VecDeque::new(),
            vacancies: VecDeque::new(),
            checks: VecDeque::new(),
            early: Some(VecDeque::new()),
            random: Random::new(seed),
            events: VecDeque::new(),
            stats: RelayStats::default(),
            config,
        }
    }

    /// Returns figures.
    pub fn stats(&self) -> RelayStats {
        let waiting = self.busy.iter().filter_map(|channel| self.streams.get(channel));
        RelayStats {
            link: self.link.stats(),
            unanswered: self.own.len(),
            waiting: waiting.map(|stream| stream.parked.len()).sum(),
            ..self.stats
        }
    }

    /// Returns the connections, to which the driver reports.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Returns the next action of the connections.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.link.poll_action(now)
    }

    /// Returns what else the host must do.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// Returns when to call [`handle_timeout`](Relay::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<(Instant, Arc<str>)>| queue.front().map(|&(at, _)| at);
        let echo = self.echoes.front().map(|&(at, _)| at);
        let queues =
            [&self.patience, &self.vacancies, &self.checks, &self.retries].into_iter().filter_map(first);
        let rate = self.is_rate_limited().then(|| self.rate.at + RATE_STEP);
        let control = self.control.poll_timeout().into_iter().chain(self.leases.poll_timeout());
        let control = control.chain(self.users.poll_timeout());
        self.link.poll_timeout().into_iter().chain(echo).chain(queues).chain(rate).chain(control).min()
    }

    /// Handles a request of a worker. Its answer may follow later.
    pub fn handle_request(
        &mut self,
        worker: WorkerId,
        request: Request,
        now: Instant,
        local: &mut impl Local,
    ) {
        if let Some(early) = &mut self.early {
            return early.push_back(Input::Worker(worker, request));
        }
        self.request(worker, request, now, local);
    }

    /// Handles a request of the server API. Its answer is an event.
    pub fn handle_server_request(&mut self, request: ServerRequest, now: Instant, local: &mut impl Local) {
        if let Some(early) = &mut self.early {
            return early.push_back(Input::Server(request));
        }
        self.server_request(request, now, local);
    }

    /// Handles a message that has arrived.
    pub fn handle_message(
        &mut self,
        attempt: Attempt,
        topic: &str,
        message: &[u8],
        now: Instant,
        local: &mut impl Local,
    ) {
        if !self.link.handle_message(attempt, now) {
            return;
        }
        match Topic::parse(topic) {
            Some(Topic::Channel(channel)) => self.handle_channel_message(&channel, message, now, local),
            Some(Topic::Node(_)) if message == link::PROBE => {}
            Some(Topic::Node(_)) => self.handle_node_message(message),
            Some(Topic::Control) => self.handle_control_message(message, now),
            None => self.stats.foreign_messages += 1,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, local: &mut impl Local) {
        self.link.handle_timeout(now);
        self.handle_events(now, local);
        while let Some(number) = take_due(&mut self.echoes, now) {
            self.give_up_echo(number, local);
        }
        while let Some(channel) = take_due(&mut self.patience, now) {
            self.end_patience(&channel, now, local);
        }
        while let Some(channel) = take_due(&mut self.vacancies, now) {
            self.vacate(&channel, now, local);
        }
        while let Some(channel) = take_due(&mut self.checks, now) {
            self.check(channel, now);
        }
        while let Some(channel) = take_due(&mut self.retries, now) {
            self.due.push_back(channel);
        }
        self.handle_control_timeout(now);
        self.handle_lease_timeout(now);
        self.users.handle_timeout(now);
        self.send_reads(now, local);
        self.write_presence(now, local);
        self.write_users(now, local);
        // One that could not be sent earlier.
        self.save_revocation(now);
    }

    /// Handles what the driver has reported to the [link](Relay::link). Call it after each report.
    pub fn handle_events(&mut self, now: Instant, local: &mut impl Local) {
        while let Some(event) = self.link.poll_event() {
            match event {
                LinkEvent::Up => {
                    self.begin_lease(now);
                    self.begin_control(now);
                    self.end_start(now, local);
                }
                LinkEvent::Down(failure) => self.handle_down(failure, now, local),
                LinkEvent::Subscribed(Topic::Channel(channel)) => {
                    self.handle_subscribed(&channel, now, local)
                }
                LinkEvent::Subscribed(Topic::Node(_)) => self.users.handle_subscribed(),
                LinkEvent::Subscribed(Topic::Control) => self.read_revocations(now),
                LinkEvent::LeaseLost => self.write_all_presence(),
                LinkEvent::Resubscribed => self.events.push_back(RelayEvent::Live),
                LinkEvent::Reply(ticket, result) => self.handle_reply(ticket, result, now, local),
            }
        }
        self.send_reads(now, local);
        self.write_presence(now, local);
        self.write_users(now, local);
        // One that could not be sent earlier.
        self.save_revocation(now);
    }

    /// Executes what has waited for the first attempt to connect.
    fn end_start(&mut self, now: Instant, local: &mut impl Local) {
        for input in self.early.take().into_iter().flatten() {
            match input {
                Input::Worker(worker, request) => self.request(worker, request, now, local),
                Input::Server(request) => self.server_request(request, now, local),
            }
        }
    }

    fn handle_down(&mut self, failure: Failure, now: Instant, local: &mut impl Local) {
        self.events.push_back(RelayEvent::Down(failure.clone()));
        self.leases.handle_down();
        self.reads = 0;
        self.due.clear();
        self.retries.clear();
        let mut calls: Vec<(Ticket, Call)> = self.calls.drain().collect();
        calls.sort_unstable_by_key(|(ticket, _)| *ticket);
        for (ticket, call) in calls {
            self.fail_call(call, ticket, &failure, now, local);
        }
        self.users.handle_down();
        // Publications without a reply are among the calls.
        self.end_echoes(local);
        self.streams.values_mut().for_each(Stream::handle_down);
        for channel in std::mem::take(&mut self.busy) {
            self.degrade_parked(&channel, now, local);
        }
        self.end_start(now, local);
        self.end_closes(local);
    }

    fn handle_reply(
        &mut self,
        ticket: Ticket,
        result: Result<Reply, Failure>,
        now: Instant,
        local: &mut impl Local,
    ) {
        let Some(call) = self.calls.remove(&ticket) else { return };
        let reply = match result {
            Ok(reply) => reply,
            Err(failure) => return self.fail_call(call, ticket, &failure, now, local),
        };
        match (call, reply) {
            (Call::Publish(number), Reply::Published { outcome, position }) => {
                self.handle_published(number, outcome, position, now, local);
            }
            (Call::Read(channel), Reply::Read { position, entries }) => {
                self.reads = self.reads.saturating_sub(1);
                self.handle_read(&channel, ticket, position, entries, now, local);
            }
            (Call::History(asker, channel, query), Reply::Read { position, entries }) => {
                let result = self.history(&channel, &query, position, entries);
                self.answer_history(&asker, result, local);
                self.end_closes(local);
            }
            (Call::Presence(asker, _, wants_stats), Reply::Presence(entries)) => {
                self.handle_presence(&asker, wants_stats, &entries, local);
                self.end_closes(local);
            }
            (Call::Lease(lease), Reply::Lease { was_known, expired }) => {
                self.handle_lease(lease, was_known, expired, now);
            }
            (Call::Nodes(token), Reply::Nodes(nodes)) => {
                self.events.push_back(RelayEvent::Answer(token, ServerAnswer::Nodes(nodes)));
            }
            (Call::WritePresence(..), Reply::Present { was_known: false }) => self.write_all_presence(),
            (Call::WritePresence(..), Reply::Present { was_known: true } | Reply::Done) => {}
            (Call::User(user), Reply::User { was_known, excess, above }) => {
                self.handle_user(&user, was_known, &excess, above, now);
            }
            (Call::Reap(lease, is_announced), Reply::Reaped { is_done }) => {
                self.handle_reaped(lease, is_announced, is_done, now);
            }
            (Call::Command(number), Reply::Sent { receivers }) => self.handle_sent(number, receivers),
            (Call::Revocation, Reply::Done) => self.handle_saved(now),
            (Call::Revocations, Reply::Revocations(read)) => self.handle_revocations(read, now),
            (Call::Clear(token), _) => {
                self.events.push_back(RelayEvent::Answer(token, ServerAnswer::Done));
            }
            (call, _) => {
                let failure = Failure::new(command::Cause::Protocol, "a reply of another form");
                self.fail_call(call, ticket, &failure, now, local);
            }
        }
    }

    /// Handles the failure of a command. Without a connection, [`handle_down`](Relay::handle_down) does the rest.
    fn fail_call(
        &mut self,
        call: Call,
        ticket: Ticket,
        failure: &Failure,
        now: Instant,
        local: &mut impl Local,
    ) {
        match call {
            Call::Publish(number) => self.fail_publication(number, failure, local),
            Call::Read(channel) => {
                self.reads = self.reads.saturating_sub(1);
                self.retry_read(&channel, ticket, now);
            }
            Call::History(asker, ..) => {
                self.refuse(&asker, failure, local);
                self.end_closes(local);
            }
            Call::Command(number) => self.fail_command(number, failure),
            // It is repeated.
            Call::Revocations => {}
            Call::Lease(lease) => self.fail_lease(lease),
            Call::Revocation => self.handle_unsaved(now),
            Call::Reap(lease, is_announced) => self.fail_reap(lease, is_announced, now),
            Call::User(user) => self.users.handle_failure(user, now),
            Call::WritePresence(channel, gone) => self.fail_presence(channel, gone, now),
            Call::Presence(asker, channel, wants_stats) => {
                self.answer_presence_here(&asker, &channel, wants_stats, local);
                self.end_closes(local);
            }
            Call::Clear(token) | Call::Nodes(token) => {
                let answer = ServerAnswer::Unavailable(failure.clone());
                self.events.push_back(RelayEvent::Answer(token, answer));
            }
        }
    }

    /// Handles a request of a worker, after the earlier ones of its channel.
    fn request(&mut self, worker: WorkerId, request: Request, now: Instant, local: &mut impl Local) {
        let channel = request.channel.clone();
        match self.streams.get_mut(&channel).filter(|stream| !stream.parked.is_empty()) {
            Some(stream) => stream.parked.push_back((worker, request)),
            None => {
                if let Some(request) = self.perform(worker, request, now, local) {
                    self.park(&channel, worker, request, now);
                }
            }
        }
    }

    /// Performs a request, or returns it if it must wait.
    fn perform(
        &mut self,
        worker: WorkerId,
        request: Request,
        now: Instant,
        local: &mut impl Local,
    ) -> Option<Request> {
        match &request.operation {
            Operation::Subscribe { .. } => return self.subscribe(worker, request, now, local),
            Operation::Publish { .. } => self.publish_by_client(worker, request, now, local),
            Operation::History(query, options) => {
                let asker = Asker::of(worker, &request);
                self.read_history(asker, &request.channel, *query, *options, now, local);
            }
            Operation::Unsubscribe { .. } => {
                let channel = request.channel.clone();
                self.execute_with_presence(worker, request, now, local);
                self.note_vacancy(&channel, now, local);
            }
            Operation::Close if self.has_unanswered(worker, request.client) => {
                self.closes.push((worker, request));
            }
            Operation::Presence | Operation::PresenceStats => {
                let wants_stats = matches!(request.operation, Operation::PresenceStats);
                let asker = Asker::of(worker, &request);
                self.read_presence(asker, &request.channel, wants_stats, now, local);
            }
            // The host checks tokens without the engine.
            Operation::Close | Operation::CheckToken(_) => execute(worker, request, now, local),
        }
        None
    }

    fn server_request(&mut self, request: ServerRequest, now: Instant, local: &mut impl Local) {
        let ServerRequest { token, operation } = request;
        match operation {
            ServerOperation::Publish(publish) => {
                self.publish(Asker::Server(token), *publish, None, now, local)
            }
            ServerOperation::History(channel, query, options) => {
                self.read_history(Asker::Server(token), &channel, query, options, now, local);
            }
            ServerOperation::Presence(channel) => {
                self.read_presence(Asker::Server(token), &channel, false, now, local);
            }
            ServerOperation::Command { command, revocation } => {
                self.command(token, &command, revocation, now);
            }
            ServerOperation::Nodes => self.submit(Command::ReadNodes, Call::Nodes(token), token, now),
            ServerOperation::RemoveHistory(channel) => {
                local.with(&channel, |exchange, _| exchange.clear_copy(&channel));
                self.submit(Command::Clear { channel }, Call::Clear(token), token, now);
            }
        }
    }

    /// Sends the command of a request of the server API.
    fn submit(&mut self, command: Command, call: Call, token: u64, now: Instant) {
        match self.link.submit(command, now) {
            Ok(ticket) => _ = self.calls.insert(ticket, call),
            Err(failure) => {
                let answer = ServerAnswer::Unavailable(failure);
                self.events.push_back(RelayEvent::Answer(token, answer));
            }
        }
    }

    /// Returns whether a client has requests without an answer.
    fn has_unanswered(&self, worker: WorkerId, client: ClientRef) -> bool {
        let is_of = |asker: &Asker| asker.is(worker, client);
        let has_parked = |channel: &Arc<str>| {
            let parked = self.streams.get(channel).into_iter().flat_map(|stream| &stream.parked);
            parked.into_iter().any(|(of, request)| {
                (*of, request.client) == (worker, client) && !matches!(request.operation, Operation::Close)
            })
        };
        self.own.values().any(|own| is_of(&own.asker))
            || self.calls.values().any(
                |call| matches!(call, Call::History(asker, ..) | Call::Presence(asker, ..) if is_of(asker)),
            )
            || self.busy.iter().any(has_parked)
    }

    /// Lets clients be closed whose requests have answers now.
    fn end_closes(&mut self, local: &mut impl Local) {
        if self.closes.is_empty() {
            return;
        }
        for (worker, request) in std::mem::take(&mut self.closes) {
            if self.has_unanswered(worker, request.client) {
                self.closes.push((worker, request));
            } else {
                answer(&Asker::of(worker, &request), Answer::Close, local);
            }
        }
    }

    /// Answers that a request was not performed.
    fn refuse(&mut self, asker: &Asker, failure: &Failure, local: &mut impl Local) {
        match asker {
            Asker::Client { .. } => answer(asker, Answer::Unavailable, local),
            Asker::Server(token) => {
                let answer = ServerAnswer::Unavailable(failure.clone());
                self.events.push_back(RelayEvent::Answer(*token, answer));
            }
        }
    }

    /// Returns the properties of a stream that scripts need.
    fn stream_state(&mut self) -> StreamState {
        let replication = match self.config.is_failover_noticed {
            true => self.link.replication().clone(),
            false => "".into(),
        };
        StreamState { epoch: Epoch::from_bits(self.random.next()), replication }
    }
}

/// Executes a request on the exchange of its channel.
fn execute(worker: WorkerId, request: Request, now: Instant, local: &mut impl Local) {
    let (channel, time) = (request.channel.clone(), local.time());
    local.with(&channel, |exchange, inboxes| exchange.execute(worker, request, now, time, inboxes));
}

/// Answers a client. The server API is answered by events.
fn answer(asker: &Asker, answer: Answer, local: &mut impl Local) {
    if let Asker::Client { worker, client, command, channel } = asker {
        let (client, command) = (*client, *command);
        let event = ChannelEvent::Answer { client, command, channel: channel.clone(), answer };
        local.with(channel, |_, inboxes| inboxes.answer(*worker, event));
    }
}

/// Takes the first element if it is due.
fn take_due<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant) -> Option<T> {
    let is_due = queue.front().is_some_and(|(at, _)| *at <= now);
    if is_due { queue.pop_front().map(|(_, element)| element) } else { None }
}

/// The time after which more reads are allowed.
const RATE_STEP: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
