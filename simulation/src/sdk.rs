//! The connection of a client of channels, which encodes and decodes by the codec of an SDK.

use std::time::Duration;

use centrifuge_client_core::codec::{self, Protocol};
use centrifuge_client_core::{Bytes, proto};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::random::Random;
use crate::socket::Link;
use crate::trace::{Subject, Trace};
use crate::wire::{Reader, Received, write_frame};

/// The last position in a channel that a client knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// The end of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client has asked for it.
    Asked,
    /// There is a gap, or its publications cannot be recovered: the client subscribes again.
    Gap,
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

/// A message that has arrived, for the session to handle. `M` is its content, by default in the codec of the SDK.
#[derive(Debug)]
pub(crate) enum Arrival<M = Vec<proto::Reply>> {
    Replies(M),
    Ping(Vec<u8>),
    /// A Close. The session [accepts](Transport::accept_close) it.
    Close(Option<u16>),
}

/// A connection: what is written and read, and its state.
#[derive(Debug)]
pub(crate) struct Transport {
    /// The number of the client.
    client: usize,
    pub(crate) link: Link,
    pub(crate) state: State,
    pub(crate) protocol: Protocol,
    outbox: Vec<u8>,
    written: usize,
    reader: Reader,
    pub(crate) status: Option<u16>,
    /// The code of the Close that it has received, or sent.
    pub(crate) close: Option<Option<u16>>,
    has_sent_close: bool,
    pub(crate) random: Random,
}

impl Transport {
    /// Connects. The request is written later.
    pub(crate) fn new(
        client: usize,
        user: &str,
        socket_buffer: usize,
        has_compression: bool,
        mut random: Random,
    ) -> Transport {
        let protocol = if random.one_in(2) { Protocol::Json } else { Protocol::Protobuf };
        Transport::with_protocol(protocol, client, user, socket_buffer, has_compression, random)
    }

    /// Does the same in this encoding.
    pub(crate) fn with_protocol(
        protocol: Protocol,
        client: usize,
        user: &str,
        socket_buffer: usize,
        has_compression: bool,
        mut random: Random,
    ) -> Transport {
        let query = if protocol == Protocol::Json { "" } else { "?format=protobuf" };
        let mut outbox = format!(
            "GET /ws{query} HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-ID: {user}\r\n"
        );
        if has_compression && random.one_in(2) {
            outbox.push_str("Sec-WebSocket-Extensions: permessage-deflate\r\n");
        }
        outbox.push_str("\r\n");
        Transport {
            client,
            link: Link::new(socket_buffer, random.fork()),
            state: State::Present,
            protocol,
            outbox: outbox.into_bytes(),
            written: 0,
            reader: Reader::new(15),
            status: None,
            close: None,
            has_sent_close: false,
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

    /// Whether nothing is on its way.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_open() && !self.has_output() && self.link.client_unread() == 0
    }

    /// Returns the time of the next read, which is not before `reads_at`, and of the next write, if there is something to do.
    pub(crate) fn next_transfer(&self, reads_at: Duration) -> Option<Duration> {
        let has_unread = self.link.client_unread() > 0 || self.link.is_at_end();
        let writes_at = (self.has_output() && self.link.client_room() > 0).then_some(Duration::ZERO);
        has_unread.then_some(reads_at).into_iter().chain(writes_at).min()
    }

    /// Sends commands in one message.
    pub(crate) fn send(&mut self, commands: &[proto::Command]) {
        let mut payload = Vec::new();
        // All data is JSON.
        let _ = codec::encode_commands(self.protocol, commands, &mut payload);
        self.send_message(&payload);
    }

    /// Sends a message that is encoded already.
    pub(crate) fn send_message(&mut self, payload: &[u8]) {
        let kind = if self.protocol == Protocol::Json { Data::Text } else { Data::Binary };
        self.send_frame(OpCode::Data(kind), payload);
    }

    /// Begins to close the connection.
    pub(crate) fn send_close(&mut self, code: Option<u16>) {
        if !std::mem::replace(&mut self.has_sent_close, true) {
            let payload = code.map(u16::to_be_bytes);
            self.send_frame(OpCode::Control(Control::Close), payload.as_ref().map_or(&[], |code| &code[..]));
            self.close.get_or_insert(None);
        }
    }

    pub(crate) fn send_pong(&mut self, payload: &[u8]) {
        self.send_frame(OpCode::Control(Control::Pong), payload);
    }

    /// Answers a Close, unless it is the answer.
    pub(crate) fn accept_close(&mut self, code: Option<u16>) {
        if self.close.replace(code).is_none() {
            self.send_close(code);
        }
    }

    /// Ends the connection without a Close.
    pub(crate) fn reset(&mut self) {
        self.link.client_reset();
        self.state = State::Done;
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

    /// Reads at most `portion` bytes. Call [`next`](Transport::next) then.
    pub(crate) fn read(&mut self, portion: usize, trace: &mut Trace) {
        let start = self.reader.bytes.len();
        let n = self.link.client_receive(portion, &mut self.reader.bytes);
        if n > 0 {
            trace.step(Subject::Client(self.client), "receives bytes", n);
            trace.add_bytes(&self.reader.bytes[start..]);
        }
    }

    /// Returns the next message that has arrived whole. At the end of the connection, ends its other side.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn next(&mut self, trace: &mut Trace) -> Result<Option<Arrival>, &'static str> {
        Ok(match self.next_encoded(trace)? {
            Some(Arrival::Replies(payload)) => {
                let replies = codec::decode_frame(self.protocol, Bytes::from(payload), usize::MAX);
                let replies = replies.map_err(|_| "a message cannot be decoded by an SDK")?;
                if replies.is_empty() {
                    return Err("a message has no reply");
                }
                Some(Arrival::Replies(replies))
            }
            Some(Arrival::Ping(payload)) => Some(Arrival::Ping(payload)),
            Some(Arrival::Close(code)) => Some(Arrival::Close(code)),
            None => None,
        })
    }

    /// Does the same without decoding messages.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn next_encoded(
        &mut self,
        trace: &mut Trace,
    ) -> Result<Option<Arrival<Vec<u8>>>, &'static str> {
        while let Some(received) = self.reader.next()? {
            match received {
                Received::Status(status) => {
                    trace.seen.insert(status);
                    self.status = Some(status);
                }
                Received::Message(_, payload) => return Ok(Some(Arrival::Replies(payload))),
                Received::Ping(payload) => return Ok(Some(Arrival::Ping(payload))),
                Received::Pong(_) => return Err("a pong answers no ping"),
                Received::Close(code) => {
                    trace.step(Subject::Client(self.client), "receives a Close", code.unwrap_or(0).into());
                    return Ok(Some(Arrival::Close(code)));
                }
            }
        }
        if self.link.is_at_end() {
            self.link.client_shut_down();
            self.state = State::Done;
        }
        Ok(None)
    }
}
