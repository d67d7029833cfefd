//! A node whose Redis answers and sends anything: junk, replies of other types, failures, large and foreign messages, damaged
//! copies of messages of nodes, foreign data in its keys, replies twice or to no command.
//!
//! * Each request of a client and of the server API has one answer.
//! * A worker that is subscribed to a channel gets publications with consecutive offsets, or learns of the gap.
//! * The node subscribes to the topics of its channels, and to no others.
//! * As soon as Redis is a Redis again, the node is connected, and publications are delivered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::engine::{Answer, ChannelEvent, ClientRef, Inboxes, Operation, Request};
use postern_channels::exchange::{Exchange, ExchangeConfig, HistoryOptions, HistoryQuery, Publish, WorkerId};
use postern_channels::publication::{Position, Tags};
use postern_channels::relay::command::{Cause, Command, Failure, Reply, Topic};
use postern_channels::relay::link::{Action, Attempt, LinkConfig, Ticket};
use postern_channels::relay::{
    Local, Relay, RelayConfig, RelayEvent, ServerOperation, ServerRequest, WhenDown,
};
use postern_core::{ConnectionId, Key};
use postern_host::engine::encoding;
use postern_simulation::redis::{Foreign, Message, Server};
use redis::Value;

/// Checks an input: a byte of switches, then steps.
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let Some((&switches, rest)) = input.split_first() else { return };
    let mut world = World::new(switches);
    let mut input = Input(rest);
    while let Some(step) = input.byte() {
        world.step(step, &mut input);
    }
    world.heal();
}

/// The node, and the server that it believes in.
struct World {
    relay: Relay,
    shards: Shards,
    server: Server,
    start: Instant,
    now: Instant,
    attempt: Option<Attempt>,
    /// The number of the connection at the server.
    connection: u64,
    /// Commands that have not arrived at the server.
    commands: VecDeque<(Attempt, Ticket, Arc<Command>)>,
    /// Messages and replies of the past, which can arrive again.
    messages: Vec<(String, Vec<u8>)>,
    replied: Option<(Attempt, Ticket)>,
    /// Requests of the server API without an answer.
    asked: BTreeMap<u64, &'static str>,
    last: u64,
    is_live: bool,
}

/// The exchange of all channels, and the inbox of the only worker.
struct Shards {
    exchange: Exchange,
    mail: Mail,
}

/// The inbox of the worker.
#[derive(Default)]
struct Mail {
    /// Requests of the worker without an answer.
    waiting: BTreeMap<u32, Arc<str>>,
    /// The positions in channels, while the worker is subscribed.
    positions: BTreeMap<Arc<str>, Option<Position>>,
    delivered: Vec<Arc<[u8]>>,
}

impl World {
    fn new(switches: u8) -> World {
        let now = Instant::now();
        let config = RelayConfig {
            link: LinkConfig {
                node: NODE,
                timeout: Duration::from_secs(1),
                probe: Duration::from_secs(5),
                queue: 64 * 1024,
            },
            when_down: if switches & 1 == 0 { WhenDown::Local } else { WhenDown::Refuse },
            is_failover_noticed: switches & 2 == 0,
            position_check: Duration::from_secs(30),
            recover_rate: if switches & 4 == 0 { 0 } else { 20 },
            user_limit: None,
        };
        let exchange = Exchange::new(ExchangeConfig {
            seed: 7,
            history_memory: 64 * 1024,
            idempotency_ttl: Duration::from_secs(300),
            max_idempotency_keys: 100,
        });
        World {
            relay: Relay::new(config, 7, now),
            shards: Shards { exchange, mail: Mail::default() },
            server: Server::new("first".to_owned()),
            start: now,
            now,
            attempt: None,
            connection: 0,
            commands: VecDeque::new(),
            messages: Vec::new(),
            replied: None,
            asked: BTreeMap::new(),
            last: 0,
            is_live: false,
        }
    }

    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        match step % 16 {
            0 => self.advance(Duration::from_millis(u64::from(input.number()) % 3_000)),
            1 => self.advance_to_timeout(),
            2 => self.execute(1 + usize::from(input.number() % 8)),
            3 => self.execute(usize::MAX),
            4 => self.answer_with(|command, input| encoding::reply(command, value(input, 4)), input),
            5 => self.answer_with(|_, input| Err(failure(input)), input),
            6 => {
                let topic = topic(input);
                let message = input.bytes().to_vec();
                self.receive(&topic, &message);
            }
            7 => self.receive_damaged(input),
            8 => self.receive_large(input),
            9 => self.interfere(input),
            10 => self.request(input),
            11 => self.ask(input),
            12 => {
                let (failure, attempt) = (failure(input), self.attempt);
                if let Some(attempt) = attempt {
                    self.end_connection();
                    self.relay.link().handle_failed(attempt, failure, self.now);
                }
            }
            13 => {
                // A reply to a command that has one, or to none.
                if let Some((attempt, ticket)) = self.replied {
                    self.relay.link().handle_reply(attempt, ticket, Ok(Reply::Done), self.now);
                }
            }
            14 => self.server.is_master = !self.server.is_master,
            _ => self.server.is_full = !self.server.is_full,
        }
        self.settle();
    }

    /// Handles events, and performs actions, as a host does.
    fn settle(&mut self) {
        self.relay.handle_events(self.now, &mut self.shards);
        while let Some(event) = self.relay.poll_event() {
            match event {
                RelayEvent::Answer(token, _) => {
                    assert!(self.asked.remove(&token).is_some(), "a second answer to request {token}");
                }
                RelayEvent::Command(id, _) => self.relay.handle_performed(id, 1, &[], self.now),
                RelayEvent::Revocations(_) => {}
                RelayEvent::Describe => self.relay.handle_description(b"{}"[..].into(), self.now),
                RelayEvent::Close { .. } => panic!("a connection is closed without a limit"),
                RelayEvent::Live => self.is_live = true,
                RelayEvent::Down(_) => self.is_live = false,
            }
        }
        while let Some(action) = self.relay.poll_action(self.now) {
            match action {
                Action::Connect(attempt) => {
                    self.end_connection();
                    self.attempt = Some(attempt);
                    self.connection += 1;
                    self.relay.link().handle_connected(attempt, self.now);
                }
                Action::Close(attempt) => {
                    if self.attempt == Some(attempt) {
                        self.end_connection();
                    }
                }
                Action::Send(attempt, ticket, command) => {
                    if self.attempt == Some(attempt) {
                        self.commands.push_back((attempt, ticket, command));
                    }
                }
            }
        }
        let topics = self.relay.stats().link.topics;
        assert!(topics <= CHANNELS.len() + 2, "{topics} topics");
    }

    fn end_connection(&mut self) {
        self.attempt = None;
        self.commands.clear();
        self.server.disconnect(self.connection);
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.relay.handle_timeout(self.now, &mut self.shards);
        self.shards.exchange.handle_timeout(self.now);
    }

    fn advance_to_timeout(&mut self) {
        let until = self.relay.poll_timeout().unwrap_or(self.now).max(self.now);
        self.advance(until - self.now);
    }

    fn milliseconds(&self) -> u64 {
        TIME + (self.now - self.start).as_millis() as u64
    }

    /// The server executes commands.
    fn execute(&mut self, most: usize) {
        for _ in 0..most {
            let Some((attempt, ticket, command)) = self.commands.pop_front() else { return };
            let mut messages = Vec::new();
            let time = self.milliseconds();
            let result = self.server.execute(self.connection, &command, time, &mut |_| {}, &mut messages);
            // Messages precede the reply in time, on another connection.
            self.receive_all(messages);
            self.reply(attempt, ticket, result);
            self.settle();
        }
    }

    fn reply(&mut self, attempt: Attempt, ticket: Ticket, result: Result<Reply, Failure>) {
        self.replied = Some((attempt, ticket));
        self.relay.link().handle_reply(attempt, ticket, result, self.now);
        self.relay.handle_events(self.now, &mut self.shards);
    }

    /// Something else answers the next command.
    fn answer_with(
        &mut self,
        answer: impl FnOnce(&Command, &mut Input<'_>) -> Result<Reply, Failure>,
        input: &mut Input<'_>,
    ) {
        if let Some((attempt, ticket, command)) = self.commands.pop_front() {
            let result = answer(&command, input);
            self.reply(attempt, ticket, result);
        }
    }

    fn receive_all(&mut self, messages: Vec<Message>) {
        for Message { connection: _, topic, content } in messages {
            self.receive(&topic, &content);
            if self.messages.len() < 64 {
                self.messages.push((topic, content));
            }
        }
    }

    fn receive(&mut self, topic: &str, message: &[u8]) {
        if let Some(attempt) = self.attempt {
            self.relay.handle_message(attempt, topic, message, self.now, &mut self.shards);
        }
    }

    /// A message of the past arrives, with other bytes in some places.
    fn receive_damaged(&mut self, input: &mut Input<'_>) {
        let at = usize::from(input.number());
        let Some((topic, mut message)) = self.messages.get(at % self.messages.len().max(1)).cloned() else {
            return;
        };
        for _ in 0..input.number() % 4 {
            let (at, byte) = (usize::from(input.number()), input.number() as u8);
            let len = message.len();
            match message.get_mut(at % len.max(1)) {
                Some(_) if byte == 0 => message.truncate(at % len.max(1)),
                Some(place) => *place = byte,
                None => message.push(byte),
            }
        }
        self.receive(&topic, &message);
    }

    /// A message with a prefix, and with 64 KiB or more of one byte.
    fn receive_large(&mut self, input: &mut Input<'_>) {
        let (topic, len) = (topic(input), (64 << 10) + usize::from(input.number()));
        let mut message = input.bytes().to_vec();
        message.resize(message.len() + len, b'x');
        self.receive(&topic, &message);
    }

    fn interfere(&mut self, input: &mut Input<'_>) {
        let channel = CHANNELS[usize::from(input.number()) % CHANNELS.len()];
        let kind = input.number();
        let key = match kind % 6 {
            0 => format!("m:{{{channel}}}"),
            1 => format!("s:{{{channel}}}"),
            2 => format!("i:{{{channel}}}:k1"),
            3 => format!("p:{{{channel}}}"),
            4 => "leases".to_owned(),
            _ => "rv".to_owned(),
        };
        let foreign = match kind / 6 % 7 {
            0 => Foreign::Set(key, input.bytes().to_vec()),
            1 => Foreign::SetField(key, input.bytes().to_vec(), input.bytes().to_vec()),
            2 => {
                let id = (u64::from(input.number()), u64::from(input.number() % 2));
                Foreign::AddEntry(key, id, b"d".into(), input.bytes().to_vec())
            }
            3 => Foreign::Remove(key),
            4 => Foreign::RemoveAll,
            5 => Foreign::ForgetScripts,
            _ => Foreign::Publish(topic(input), input.bytes().to_vec()),
        };
        let mut messages = Vec::new();
        let time = self.milliseconds();
        // It can fail, as at a server.
        let _ = self.server.interfere(&foreign, time, &mut messages);
        self.receive_all(messages);
    }

    /// The worker has a request.
    fn request(&mut self, input: &mut Input<'_>) {
        let channel: Arc<str> = CHANNELS[usize::from(input.number()) % CHANNELS.len()].into();
        let is_subscribed = self.shards.mail.positions.contains_key(&channel);
        let is_asked = self.shards.mail.waiting.values().any(|of| *of == channel);
        let operation = match input.number() % 6 {
            // A worker has one subscription of a client, and waits for its answer.
            0 if !is_subscribed && !is_asked => Operation::Subscribe {
                history: history(&channel),
                recovery: None,
                presence: None,
                is_certain: input.number().is_multiple_of(2),
            },
            1 if is_subscribed && !is_asked => {
                self.shards.mail.positions.remove(&channel);
                Operation::Unsubscribe { presence: None }
            }
            2 => Operation::Presence,
            3 => Operation::PresenceStats,
            4 if history(&channel).is_some() => {
                let query = HistoryQuery { limit: Some(3), since: None, is_reverse: false };
                Operation::History(query, history(&channel).expect("it has one"))
            }
            _ => Operation::Publish {
                publish: Box::new(publication(&channel, input.bytes())),
                excludes_publisher: false,
            },
        };
        self.submit(channel, operation);
    }

    fn submit(&mut self, channel: Arc<str>, operation: Operation) {
        self.last += 1;
        let command = self.last as u32;
        self.shards.mail.waiting.insert(command, channel.clone());
        let client = ClientRef { key: Key(1), connection: ConnectionId(1) };
        let request = Request { client, command, channel, operation };
        self.relay.handle_request(worker(), request, self.now, &mut self.shards);
    }

    /// The server API has a request.
    fn ask(&mut self, input: &mut Input<'_>) {
        let channel: Arc<str> = CHANNELS[usize::from(input.number()) % CHANNELS.len()].into();
        let (operation, name) = match input.number() % 5 {
            0 => (ServerOperation::Presence(channel), "presence"),
            1 if history(&channel).is_some() => {
                let query = HistoryQuery { limit: None, since: None, is_reverse: true };
                let options = history(&channel).expect("it has one");
                (ServerOperation::History(channel, query, options), "history")
            }
            2 => (ServerOperation::RemoveHistory(channel), "history_remove"),
            3 => {
                let revocation = input.number().is_multiple_of(2).then(|| Arc::from(*b"revoked"));
                (ServerOperation::Command { command: Arc::from(*b"command"), revocation }, "command")
            }
            _ => (ServerOperation::Publish(Box::new(publication(&channel, input.bytes()))), "publish"),
        };
        self.last += 1;
        self.asked.insert(self.last, name);
        let request = ServerRequest { token: self.last, operation };
        self.relay.handle_server_request(request, self.now, &mut self.shards);
    }

    /// The server is another one, without data, which does everything that it should.
    fn heal(&mut self) {
        if let Some(attempt) = self.attempt {
            self.end_connection();
            self.relay.link().handle_failed(attempt, Failure::new(Cause::Closed, "restart"), self.now);
        }
        self.server = Server::new("second".to_owned());
        self.settle();
        let end = self.now + Duration::from_secs(120);
        while self.now < end {
            self.execute(usize::MAX);
            self.advance_to_timeout();
            self.settle();
        }
        assert!(self.is_live && self.relay.stats().link.is_live, "not connected: {:?}", self.relay.stats());
        self.assert_answered();
        for channel in CHANNELS {
            let channel: Arc<str> = channel.into();
            if !self.shards.mail.positions.contains_key(&channel) {
                let history = history(&channel);
                let subscribe =
                    Operation::Subscribe { history, recovery: None, presence: None, is_certain: true };
                self.submit(channel.clone(), subscribe);
                self.settle();
                self.execute(usize::MAX);
            }
            assert!(self.shards.mail.positions.contains_key(&channel), "not subscribed to {channel}");
            self.shards.mail.delivered.clear();
            let publish = Box::new(publication(&channel, b"last"));
            self.submit(channel.clone(), Operation::Publish { publish, excludes_publisher: false });
            self.settle();
            self.execute(usize::MAX);
            assert!(
                self.shards.mail.delivered.iter().any(|data| **data == *b"last"),
                "nothing is delivered in {channel}: {:?}",
                self.relay.stats()
            );
        }
        self.assert_answered();
    }

    fn assert_answered(&self) {
        let waiting = &self.shards.mail.waiting;
        assert!(
            waiting.is_empty() && self.asked.is_empty(),
            "without an answer: {waiting:?} {:?}",
            self.asked
        );
        let stats = self.relay.stats();
        assert_eq!((stats.unanswered, stats.waiting), (0, 0), "{stats:?}");
    }
}

impl Local for Shards {
    type Inboxes<'a> = Mail;

    fn with<R>(
        &mut self,
        _channel: &str,
        operate: impl for<'a> FnOnce(&mut Exchange, &mut Self::Inboxes<'a>) -> R,
    ) -> R {
        operate(&mut self.exchange, &mut self.mail)
    }

    fn connections(&mut self, _user: &str) -> Vec<(u64, Instant)> {
        Vec::new()
    }

    fn users(&mut self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn time(&self) -> i64 {
        TIME as i64
    }
}

impl Inboxes for Mail {
    fn send(&mut self, _worker: WorkerId, event: ChannelEvent) -> bool {
        self.handle(event);
        true
    }

    fn answer(&mut self, _worker: WorkerId, event: ChannelEvent) {
        self.handle(event);
    }
}

impl Mail {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enums grow")]
    fn handle(&mut self, event: ChannelEvent) {
        match event {
            ChannelEvent::Publication { publication, .. } => {
                self.delivered.push(publication.data.clone());
                if let Some(position) = self.positions.get_mut(&publication.channel) {
                    follow(position, publication.position, &publication.channel);
                }
            }
            ChannelEvent::CatchUp(missed) => {
                let Some(position) = self.positions.get_mut(&missed.channel) else { return };
                if missed.is_complete {
                    for publication in &missed.publications {
                        follow(position, publication.position, &publication.channel);
                    }
                } else {
                    // A worker ends the subscription: the client recovers.
                    self.positions.remove(&missed.channel);
                }
            }
            ChannelEvent::Answer { command, channel, answer, .. } => {
                assert_eq!(self.waiting.remove(&command), Some(channel.clone()), "an answer to {command}");
                if let Answer::Subscribed { subscribed: Some(subscribed), .. } = answer {
                    self.positions.insert(channel, subscribed.position);
                }
            }
            _ => {}
        }
    }
}

/// Checks that a publication follows a position.
fn follow(position: &mut Option<Position>, next: Option<Position>, channel: &str) {
    let Some(next) = next else { return };
    if let Some(before) = position {
        assert_eq!(next.epoch, before.epoch, "{channel}: another stream, and the worker was not told");
        assert_eq!(next.offset, before.offset + 1, "{channel}: a gap, and the worker was not told");
    }
    *position = Some(next);
}

fn publication(channel: &Arc<str>, data: &[u8]) -> Publish {
    Publish {
        channel: channel.clone(),
        data: data.into(),
        info: None,
        tags: Tags::default(),
        delta: false,
        time: 0,
        history: history(channel),
        key: data.first().is_some_and(|byte| *byte == b'k').then(|| "k1".into()),
        version: None,
    }
}

fn history(channel: &str) -> Option<HistoryOptions> {
    let (ttl, meta_ttl) = (Duration::from_secs(60), Duration::from_secs(600));
    let options = HistoryOptions { size: 5, ttl, bytes: usize::MAX, meta_ttl };
    channel.starts_with("kept").then_some(options)
}

/// Returns the name of a topic of this node, or of another program.
fn topic(input: &mut Input<'_>) -> String {
    let channel = |number: u16| Topic::Channel(CHANNELS[usize::from(number) % CHANNELS.len()].into()).name();
    match input.number() % 8 {
        0 => Topic::Node(NODE).name(),
        1 => Topic::Control.name(),
        2 => Topic::Channel("other".into()).name(),
        3 => String::from_utf8_lossy(input.bytes()).into_owned(),
        number => channel(number),
    }
}

fn failure(input: &mut Input<'_>) -> Failure {
    let (cause, _) = Cause::ALL[usize::from(input.number()) % Cause::ALL.len()];
    Failure::new(cause, "a failure")
}

/// Returns any value that the client of Redis can decode.
fn value(input: &mut Input<'_>, depth: usize) -> Value {
    match input.number() % 9 {
        0 => Value::Nil,
        1 => Value::Int(i64::from(input.number()) - 2),
        2 => Value::BulkString(input.bytes().to_vec()),
        3 => Value::Okay,
        4 => Value::SimpleString(String::from_utf8_lossy(input.bytes()).into_owned()),
        5 => Value::Double(f64::from(input.number())),
        6 => Value::Boolean(true),
        _ if depth == 0 => Value::Array(Vec::new()),
        _ => Value::Array((0..input.number() % 4).map(|_| value(input, depth - 1)).collect()),
    }
}

/// The bytes of an input.
struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Returns a number: a byte or, if its highest bit is set, two. 0 at the end.
    fn number(&mut self) -> u16 {
        match self.byte() {
            None => 0,
            Some(low @ 0..=127) => u16::from(low),
            Some(high) => u16::from(high & 127) << 8 | u16::from(self.byte().unwrap_or(0)),
        }
    }

    /// Returns as many bytes as a number says.
    fn bytes(&mut self) -> &'i [u8] {
        let len = usize::from(self.number()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}

/// The channels: with history, and without it.
const CHANNELS: [&str; 4] = ["kept1", "kept2", "live1", "live2"];

/// The number of the node.
const NODE: u64 = 7;

/// Returns the id of the only worker.
fn worker() -> WorkerId {
    WorkerId::new(0).expect("a small number")
}

/// The time at the start, in milliseconds.
const TIME: u64 = 1_800_000_000_000;
