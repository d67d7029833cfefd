//! One connection of a client, which speaks the protocol by the codec of an SDK.

use std::collections::BTreeMap;
use std::time::Duration;

use centrifuge_client_core::codec::{self, Protocol};
use centrifuge_client_core::{Bytes, proto};
use postern_core::ConnectionId;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::subscription::{Active, Known, Subscription};
use super::truth::{Truth, number};
use crate::random::Random;
use crate::socket::Link;
use crate::trace::{Subject, Trace};
use crate::wire::{Reader, Received, write_frame};

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Session {
    /// The number of the client.
    pub(crate) client: usize,
    pub(crate) connection: ConnectionId,
    /// The node and its worker.
    pub(crate) place: (usize, usize),
    pub(crate) link: Link,
    pub(crate) state: State,
    protocol: Protocol,
    outbox: Vec<u8>,
    written: usize,
    reader: Reader,
    pub(crate) status: Option<u16>,
    /// The code of the Close that it has received, or sent.
    pub(crate) close: Option<Option<u16>>,
    has_sent_close: bool,
    /// The id in the reply to `connect`.
    pub(crate) id: Option<String>,
    last_command: u32,
    pub(crate) pending: BTreeMap<u32, Pending>,
    pub(crate) subscriptions: BTreeMap<usize, Subscription>,
    /// Positions that are known at the end of a subscription, for its client.
    pub(crate) ended: Vec<(usize, Option<Known>, End)>,
    /// Whether a command was refused for now. The client waits before it tries again.
    pub(crate) is_refused: bool,
    random: Random,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It reads and writes.
    Present,
    /// It neither reads nor writes, and its socket stays open.
    Vanished,
    /// It has ended.
    Done,
}

/// The end of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client has asked for it.
    Asked,
    /// There is a gap, or its publications cannot be recovered: the client subscribes again.
    Gap,
}

/// A command without a reply.
#[derive(Debug, Clone)]
pub(crate) enum Pending {
    Connect(Option<(usize, Known)>),
    Subscribe { channel: usize, asked: Option<Known>, is_required: bool },
    Unsubscribe(usize),
    Publish,
    Presence,
    History(usize),
}

/// The parts of the world that a reply is compared with.
pub(crate) struct View<'w> {
    pub(crate) truth: &'w mut Truth,
    pub(crate) trace: &'w mut Trace,
    /// When the node may last have lost messages.
    pub(crate) lost_at: Duration,
    /// Whether the node serves some things without the engine, or has just begun to use it.
    pub(crate) may_be_local: bool,
}

impl Session {
    pub(crate) fn new(
        client: usize,
        user: &str,
        connection: ConnectionId,
        place: (usize, usize),
        socket_buffer: usize,
        mut random: Random,
    ) -> Session {
        let protocol = if random.one_in(2) { Protocol::Json } else { Protocol::Protobuf };
        let query = if protocol == Protocol::Json { "" } else { "?format=protobuf" };
        let outbox = format!(
            "GET /ws{query} HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-ID: {user}\r\n\r\n"
        );
        Session {
            client,
            connection,
            place,
            link: Link::new(socket_buffer, random.fork()),
            state: State::Present,
            protocol,
            outbox: outbox.into_bytes(),
            written: 0,
            reader: Reader::new(15),
            status: None,
            close: None,
            has_sent_close: false,
            id: None,
            last_command: 0,
            pending: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            ended: Vec::new(),
            is_refused: false,
            random,
        }
    }

    /// Whether commands can be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Present && self.status == Some(101) && self.close.is_none()
    }

    pub(crate) fn has_output(&self) -> bool {
        self.written < self.outbox.len()
    }

    pub(crate) fn subscription(&mut self, channel: usize) -> &mut Subscription {
        self.subscriptions.entry(channel).or_default()
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_open()
            && self.id.is_some()
            && self.pending.is_empty()
            && self.ended.is_empty()
            && !self.has_output()
            && self.link.client_unread() == 0
    }

    /// Sends commands in one message. Each is numbered, and its reply is expected.
    pub(crate) fn send(&mut self, commands: Vec<(proto::Command, Pending)>, trace: &Trace) {
        let mut numbered = Vec::new();
        for (mut command, pending) in commands {
            self.last_command += 1;
            command.id = self.last_command;
            if let Pending::Subscribe { channel, .. } | Pending::Unsubscribe(channel) = &pending {
                let is_wanted = matches!(pending, Pending::Subscribe { .. });
                self.subscription(*channel).is_wanted = is_wanted;
            }
            if trace.is_printed() {
                println!("                  client {}: {command:?}", self.client + 1);
            }
            self.pending.insert(command.id, pending);
            numbered.push(command);
        }
        self.send_message(&numbered);
    }

    fn send_message(&mut self, commands: &[proto::Command]) {
        let mut payload = Vec::new();
        // All data is JSON.
        let _ = codec::encode_commands(self.protocol, commands, &mut payload);
        let kind = if self.protocol == Protocol::Json { Data::Text } else { Data::Binary };
        self.send_frame(OpCode::Data(kind), &payload);
    }

    /// Begins to close the connection.
    pub(crate) fn send_close(&mut self, code: Option<u16>) {
        if !std::mem::replace(&mut self.has_sent_close, true) {
            let payload = code.map(u16::to_be_bytes);
            self.send_frame(OpCode::Control(Control::Close), payload.as_ref().map_or(&[], |code| &code[..]));
            self.close.get_or_insert(None);
        }
    }

    fn send_frame(&mut self, opcode: OpCode, payload: &[u8]) {
        let mask = (self.random.number() as u32).to_le_bytes();
        let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
        write_frame(&mut self.outbox, header, payload, mask);
    }

    /// Writes at most `portion` bytes.
    pub(crate) fn write(&mut self, portion: usize, trace: &mut Trace) {
        let left = (self.outbox.len() - self.written).min(portion);
        if left > 0 && self.link.client_room() > 0 {
            let n = self.link.client_send(&self.outbox[self.written..self.written + left]);
            self.written += n;
            trace.step(Subject::Client(self.client), "sends bytes", n);
        }
        if self.written == self.outbox.len() {
            self.outbox.clear();
            self.written = 0;
        }
    }

    /// Reads at most `portion` bytes, and handles them.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn read(&mut self, portion: usize, view: &mut View<'_>) -> Result<(), &'static str> {
        let start = self.reader.bytes.len();
        let n = self.link.client_receive(portion, &mut self.reader.bytes);
        if n > 0 {
            view.trace.step(Subject::Client(self.client), "receives bytes", n);
            view.trace.add_bytes(&self.reader.bytes[start..]);
        }
        while let Some(received) = self.reader.next()? {
            match received {
                Received::Status(status) => {
                    view.trace.seen.insert(status);
                    self.status = Some(status);
                }
                Received::Message(_, payload) => {
                    let replies = codec::decode_frame(self.protocol, Bytes::from(payload), usize::MAX)
                        .map_err(|_| "a message cannot be decoded by an SDK")?;
                    for reply in replies {
                        self.handle(reply, view)?;
                    }
                }
                Received::Ping(payload) => self.send_frame(OpCode::Control(Control::Pong), &payload),
                Received::Pong(_) => return Err("a pong answers no ping"),
                Received::Close(code) => {
                    let amount = code.unwrap_or(0).into();
                    view.trace.step(Subject::Client(self.client), "receives a Close", amount);
                    let was_open = self.close.is_none();
                    self.close = Some(code);
                    if was_open {
                        self.send_close(code);
                        self.close = Some(code);
                    }
                }
            }
        }
        if self.link.is_at_end() {
            self.link.client_shut_down();
            self.state = State::Done;
        }
        Ok(())
    }

    fn handle(&mut self, reply: proto::Reply, view: &mut View<'_>) -> Result<(), &'static str> {
        if view.trace.is_printed() {
            println!("                  client {}: {reply:?}", self.client + 1);
        }
        if let Some(push) = reply.push {
            return self.handle_push(push, view);
        }
        if reply.id == 0 {
            if reply != proto::Reply::default() {
                return Err("a reply has no command");
            }
            if self.close.is_none() {
                self.send_message(&[proto::Command::default()]);
            }
            return Ok(());
        }
        let pending = self.pending.remove(&reply.id).ok_or("a command is answered twice")?;
        if let Some(error) = reply.error {
            view.trace.step(Subject::Client(self.client), "gets the error", error.code as usize);
            return self.handle_error(&error, &pending, view);
        }
        match (pending, reply) {
            (Pending::Connect(asked), proto::Reply { connect: Some(result), .. }) => {
                self.handle_connect(result, asked.as_ref(), view)
            }
            (Pending::Subscribe { channel, asked, .. }, proto::Reply { subscribe: Some(result), .. }) => {
                self.handle_subscribed(channel, &result, asked.as_ref(), view)
            }
            (Pending::Unsubscribe(channel), proto::Reply { unsubscribe: Some(_), .. }) => {
                if let Some(active) = self.subscription(channel).active.take() {
                    self.ended.push((channel, active.known, End::Asked));
                }
                Ok(())
            }
            (Pending::Publish, proto::Reply { publish: Some(_), .. })
            | (Pending::Presence, proto::Reply { presence: Some(_), .. }) => Ok(()),
            (Pending::History(channel), proto::Reply { history: Some(result), .. }) => {
                let is_there = |publication: &proto::Publication| {
                    let there = view.truth.at(channel, &result.epoch, publication.offset);
                    there.is_some() && there == number(&publication.data)
                };
                if !result.publications.iter().all(is_there) {
                    return Err("a history has other publications");
                }
                Ok(())
            }
            _ => Err("a reply has the result of another command"),
        }
    }

    fn handle_error(
        &mut self,
        error: &proto::Error,
        pending: &Pending,
        view: &mut View<'_>,
    ) -> Result<(), &'static str> {
        let is_temporary = error.code == INTERNAL && error.temporary;
        match *pending {
            Pending::Publish | Pending::History(_) if is_temporary => {
                view.truth.mark("a command is refused for now");
                Ok(())
            }
            Pending::Subscribe { channel, is_required, .. } => {
                let is_unrecoverable = error.code == UNRECOVERABLE && is_required;
                if !is_temporary && !is_unrecoverable {
                    return Err("a subscription is refused although it is allowed");
                }
                view.truth.mark(if is_temporary {
                    "a subscription is refused for now"
                } else {
                    "a recovery is refused"
                });
                self.is_refused |= is_temporary;
                if self.subscription(channel).is_wanted && !self.has_later_subscribe(channel) {
                    self.subscription(channel).is_wanted = false;
                    if is_unrecoverable {
                        self.ended.push((channel, None, End::Gap));
                    }
                }
                Ok(())
            }
            Pending::Connect(_)
            | Pending::Unsubscribe(_)
            | Pending::Publish
            | Pending::Presence
            | Pending::History(_) => Err("a command is refused although it is allowed"),
        }
    }

    /// Whether a `subscribe` for the channel is not answered yet.
    fn has_later_subscribe(&self, channel: usize) -> bool {
        let is_one = |pending: &Pending| matches!(pending, Pending::Subscribe { channel: other, .. } if *other == channel);
        self.pending.values().any(is_one)
    }

    fn handle_connect(
        &mut self,
        result: proto::ConnectResult,
        asked: Option<&(usize, Known)>,
        view: &mut View<'_>,
    ) -> Result<(), &'static str> {
        if self.id.replace(result.client).is_some() {
            return Err("a client is connected twice");
        }
        for (name, result) in &result.subs {
            let channel = view.truth.channel(name).ok_or("the server subscribes to an unknown channel")?;
            let asked = asked.filter(|(other, _)| *other == channel).map(|(_, known)| known);
            self.subscription(channel).is_wanted = true;
            self.handle_subscribed(channel, result, asked, view)?;
        }
        Ok(())
    }

    fn handle_subscribed(
        &mut self,
        channel: usize,
        result: &proto::SubscribeResult,
        asked: Option<&Known>,
        view: &mut View<'_>,
    ) -> Result<(), &'static str> {
        let active = Active::new(result, asked, channel, view)?;
        if self.subscription(channel).active.replace(active).is_some() {
            return Err("a client is subscribed twice");
        }
        Ok(())
    }

    fn handle_push(&mut self, push: proto::Push, view: &mut View<'_>) -> Result<(), &'static str> {
        let channel = view.truth.channel(&push.channel).ok_or("a push has an unknown channel")?;
        let subscription = self.subscriptions.entry(channel).or_default();
        let Some(active) = &mut subscription.active else {
            return Err("a push arrives without a subscription");
        };
        if let Some(publication) = push.r#pub {
            let offset = publication.offset as usize;
            view.trace.step(Subject::Client(self.client), "receives a publication", offset);
            return active.receive(&publication, channel, view);
        }
        if let Some(unsubscribe) = push.unsubscribe {
            if unsubscribe.code != INSUFFICIENT_STATE || !view.truth.has_history(channel) {
                return Err("a subscription ends without a cause");
            }
            let known = subscription.active.take().and_then(|active| active.known);
            view.truth.mark("a subscription ends with a gap");
            // A client that has already asked for the end of the subscription does not subscribe again.
            if subscription.is_wanted && !self.has_later_subscribe(channel) {
                self.subscription(channel).is_wanted = false;
                self.ended.push((channel, known, End::Gap));
            }
            return Ok(());
        }
        if push.join.is_some() || push.leave.is_some() {
            let is_wanted = view.truth.plans[channel].options.join_leave;
            return if is_wanted { Ok(()) } else { Err("a join is not wanted") };
        }
        Err("a push has an unknown kind")
    }
}

/// The code of a temporary error.
const INTERNAL: u32 = 100;

/// The code of an error: a position cannot be recovered.
const UNRECOVERABLE: u32 = 112;

/// The code of the end of a subscription with a gap.
const INSUFFICIENT_STATE: u32 = 2500;
