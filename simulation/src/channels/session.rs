//! One connection of a client, which speaks the protocol by the codec of an SDK.

use std::collections::BTreeMap;
use std::time::Duration;

use centrifuge_client_core::codec::{self, Protocol};
use centrifuge_client_core::{Bytes, proto};
use postern_core::ConnectionId;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::node::Node;
use super::subscription::{Known, Request, Subscription};
use super::tokens::Serial;
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
    pub(crate) worker: usize,
    pub(crate) link: Link,
    pub(crate) state: State,
    pub(super) protocol: Protocol,
    pub(super) answers_pings: bool,
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
    /// The channels whose pushes have a number.
    pub(super) numbers: BTreeMap<i64, usize>,
    /// When its client refreshes it.
    pub(crate) refreshes_at: Option<Duration>,
    /// Whether the client refreshes what expires.
    pub(crate) has_refreshes: bool,
    /// Whether its `connect` was refused.
    pub(super) is_refused: bool,
    /// Positions that are known at the end of a subscription, for its client.
    pub(crate) ended: Vec<(usize, Option<Known>, End)>,
    pub(super) random: Random,
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
    Connect {
        /// A server-side subscription that recovers.
        asked: Option<(usize, Known)>,
        token: Option<Serial>,
    },
    Subscribe {
        channel: usize,
        request: Box<Request>,
        is_required: bool,
        number: u64,
        /// Whether the filter must be refused.
        has_bad_filter: bool,
    },
    Refresh {
        token: Serial,
    },
    SubRefresh {
        channel: usize,
        token: Serial,
    },
    Unsubscribe(usize),
    Publish {
        channel: usize,
        number: u64,
    },
    /// A call of a procedure, whose result is this data.
    Rpc {
        number: u64,
        data: Bytes,
    },
    Presence(usize),
    PresenceStats(usize),
    History(usize),
}

impl Pending {
    /// Returns the channel of a subscription that begins, ends or is refreshed.
    pub(super) fn subscription(&self) -> Option<usize> {
        match self {
            Pending::Subscribe { channel, .. }
            | Pending::SubRefresh { channel, .. }
            | Pending::Unsubscribe(channel) => Some(*channel),
            Pending::Connect { .. }
            | Pending::Refresh { .. }
            | Pending::Publish { .. }
            | Pending::Rpc { .. }
            | Pending::Presence(_)
            | Pending::PresenceStats(_)
            | Pending::History(_) => None,
        }
    }

    /// Returns the token of the command.
    pub(super) fn token(&self) -> Option<Serial> {
        match self {
            Pending::Connect { token, .. } => *token,
            Pending::Subscribe { request, .. } => request.token,
            Pending::Refresh { token } | Pending::SubRefresh { token, .. } => Some(*token),
            Pending::Unsubscribe(_)
            | Pending::Publish { .. }
            | Pending::Rpc { .. }
            | Pending::Presence(_)
            | Pending::PresenceStats(_)
            | Pending::History(_) => None,
        }
    }
}

impl Session {
    pub(crate) fn new(
        client: usize,
        user: &str,
        connection: ConnectionId,
        worker: usize,
        socket_buffer: usize,
        has_compression: bool,
        mut random: Random,
    ) -> Session {
        let protocol = if random.one_in(2) { Protocol::Json } else { Protocol::Protobuf };
        let query = if protocol == Protocol::Json { "" } else { "?format=protobuf" };
        let mut outbox = format!(
            "GET /ws{query} HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-ID: {user}\r\n"
        );
        if has_compression && random.one_in(2) {
            outbox.push_str("Sec-WebSocket-Extensions: permessage-deflate\r\n");
        }
        outbox.push_str("\r\n");
        Session {
            client,
            connection,
            worker,
            link: Link::new(socket_buffer, random.fork()),
            state: State::Present,
            protocol,
            answers_pings: !random.one_in(10),
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
            numbers: BTreeMap::new(),
            refreshes_at: None,
            has_refreshes: false,
            is_refused: false,
            ended: Vec::new(),
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

    pub(super) fn send_message(&mut self, commands: &[proto::Command]) {
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

    /// Whether a command for the subscription to a channel is not answered.
    pub(super) fn is_changing(&self, channel: usize) -> bool {
        self.pending.values().any(|pending| pending.subscription() == Some(channel))
    }

    /// Returns when the client refreshes the connection or a subscription.
    pub(crate) fn next_refresh(&self) -> Option<Duration> {
        let actives = self.subscriptions.values().filter_map(|it| it.active.as_ref()?.refreshes_at);
        actives.chain(self.refreshes_at).min()
    }

    /// Returns the channels whose subscriptions are refreshed now.
    pub(crate) fn due_refreshes(&self, now: Duration) -> Vec<usize> {
        let channels: Vec<usize> = self.subscriptions.keys().copied().collect();
        let is_due = |channel: &usize| {
            !self.is_changing(*channel)
                && self.subscriptions[channel]
                    .active
                    .as_ref()
                    .is_some_and(|active| active.refreshes_at.is_some_and(|at| at <= now))
        };
        channels.into_iter().filter(is_due).collect()
    }

    /// Whether a Close with this code has a cause.
    fn explains(&self, code: Option<u16>, node: &Node) -> bool {
        let tokens = || self.pending.values().filter_map(Pending::token);
        match code {
            Some(CONNECTION_EXPIRED) => node.issuer.may_have_ended(node.credentials(self.connection)),
            Some(INVALID_TOKEN) => node.issuer.has_invalid(tokens()),
            // It has sent more after `connect` was refused, or does not read that.
            Some(BAD_REQUEST | STALE) => self.is_refused,
            // The others are not caused by tokens. A client that gets one from 3500 on has done something wrong.
            Some(code) => code < 3500,
            None => true,
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
    pub(crate) fn read(
        &mut self,
        portion: usize,
        node: &mut Node,
        trace: &mut Trace,
    ) -> Result<(), &'static str> {
        let start = self.reader.bytes.len();
        let n = self.link.client_receive(portion, &mut self.reader.bytes);
        if n > 0 {
            trace.step(Subject::Client(self.client), "receives bytes", n);
            trace.add_bytes(&self.reader.bytes[start..]);
        }
        while let Some(received) = self.reader.next()? {
            match received {
                Received::Status(status) => {
                    trace.seen.insert(status);
                    self.status = Some(status);
                }
                Received::Message(_, payload) => {
                    let replies = codec::decode_frame(self.protocol, Bytes::from(payload), usize::MAX)
                        .map_err(|_| "a message cannot be decoded by an SDK")?;
                    if replies.is_empty() {
                        return Err("a message has no reply");
                    }
                    for reply in replies {
                        self.handle(reply, node, trace)?;
                    }
                }
                Received::Ping(payload) => {
                    if self.answers_pings {
                        self.send_frame(OpCode::Control(Control::Pong), &payload);
                    }
                }
                Received::Pong(_) => return Err("a pong answers no ping"),
                Received::Close(code) => {
                    trace.step(Subject::Client(self.client), "receives a Close", code.unwrap_or(0).into());
                    let was_open = self.close.is_none();
                    if !self.explains(code, node) {
                        return Err("the code of the Close has no cause");
                    }
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
}

/// The codes of a Close: the token has expired, or is invalid.
const CONNECTION_EXPIRED: u16 = 3005;
const INVALID_TOKEN: u16 = 3500;

/// The codes of a Close after `connect` was refused.
const BAD_REQUEST: u16 = 3501;
const STALE: u16 = 3502;
