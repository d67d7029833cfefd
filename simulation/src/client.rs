//! A model client: it writes what its script says, reads what the server sends, and checks it.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use postern_core::ConnectionId;
use postern_core::frame::DataKind;
use postern_core::session::Ending;
use postern_core::worker::SUBPROTOCOL;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::invariants::{Ledger, Message};
use crate::random::Random;
use crate::script::{Action, Habits, script};
use crate::socket::Link;
use crate::trace::{Subject, Trace};
use crate::wire::{Reader, Received, write_frame};

/// One client, which connects once.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) user: String,
    pub(crate) link: Link,
    pub(crate) state: State,
    /// The time of its next step, if there is one.
    pub(crate) wakes_at: Option<Duration>,
    /// Whether it was reported to the worker that this client has ended while reading was paused.
    pub(crate) was_peer_closed: bool,
    pub(crate) habits: Habits,
    script: VecDeque<Action>,
    outbox: Vec<u8>,
    written: usize,
    reader: Reader,
    /// The status of the answer.
    status: Option<u16>,
    /// The code of the Close that it sent.
    sent_close: Option<Option<u16>>,
    /// The code of the Close that it received.
    received_close: Option<Option<u16>>,
    has_sent_too_long: bool,
    /// Whether it has begun a message that it does not finish.
    has_sent_part: bool,
    /// The last message was the announcement of a Close.
    is_announced: bool,
    shuts_down: bool,
    /// Pings that were not answered.
    pings: VecDeque<Vec<u8>>,
    /// The payload of the last pong.
    ponged: Option<Vec<u8>>,
    /// The time until which it does not read.
    reads_at: Duration,
    /// The time until which it begins no action.
    acts_at: Duration,
    /// Whether it reads and writes without pauses, so that the run comes to rest.
    pub(crate) is_hasty: bool,
    random: Random,
}

/// The state of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has not connected.
    Absent,
    /// It reads and writes.
    Present,
    /// It neither reads nor writes, and its socket stays open.
    Vanished,
    /// It has reset the connection.
    Reset,
    /// It has read everything, up to the end of the server's side.
    Done,
    /// Its worker had finished before it received the connection.
    TurnedAway,
}

impl Client {
    /// Creates a client that does not send much more than some hundred times `portion` bytes.
    pub(crate) fn new(
        number: usize,
        names: usize,
        socket_buffer: usize,
        portion: usize,
        mut random: Random,
    ) -> Client {
        let habits = Habits::new(&mut random);
        let user = format!("user{}", random.within(1..=names));
        let mut outbox =
            b"GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                .to_vec();
        if !habits.is_refused {
            outbox.extend(format!("User-ID: {user}\r\n").bytes());
        }
        if habits.offers_subprotocol {
            outbox.extend(format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n").bytes());
        }
        match habits.offered_window {
            None => {}
            Some(15) => outbox.extend(b"Sec-WebSocket-Extensions: permessage-deflate\r\n"),
            Some(bits) => {
                let offer = format!("permessage-deflate; server_max_window_bits={bits}");
                outbox.extend(format!("Sec-WebSocket-Extensions: {offer}\r\n").bytes());
            }
        }
        outbox.extend(b"\r\n");
        if habits.stops_in_head {
            outbox.truncate(random.within(1..=outbox.len() - 1));
        }
        Client {
            number,
            user,
            link: Link::new(socket_buffer, random.fork()),
            state: State::Absent,
            wakes_at: None,
            was_peer_closed: false,
            script: script(&mut random, 400 * habits.portion.min(portion)),
            outbox,
            written: 0,
            reader: Reader::new(habits.offered_window.unwrap_or(15)),
            status: None,
            sent_close: None,
            received_close: None,
            has_sent_too_long: false,
            has_sent_part: false,
            is_announced: false,
            shuts_down: false,
            pings: VecDeque::new(),
            ponged: None,
            reads_at: Duration::ZERO,
            acts_at: Duration::ZERO,
            is_hasty: false,
            habits,
            random,
        }
    }

    /// Removes the actions that are left out of the plan.
    pub(crate) fn plan_script(&mut self, trace: &mut Trace) {
        let (group, mut planned) = (self.number + 1, 0);
        self.script.retain(|action| {
            planned += 1;
            trace.plan((group, planned - 1), format_args!("client {group}: {action:?}"))
        });
    }

    pub(crate) fn connection(&self) -> ConnectionId {
        ConnectionId(self.number as u64 + 1)
    }

    /// Returns the time of the next step, if there is something to do.
    pub(crate) fn next_step(&mut self, now: Duration) -> Option<Duration> {
        if self.state != State::Present {
            return None;
        }
        let has_unread = self.link.client_unread() > 0 || self.link.is_at_end();
        let reads_at = has_unread.then_some(self.reads_at);
        let has_output = self.written < self.outbox.len();
        let can_write = has_output && self.link.client_room() > 0 || self.shuts_down && !has_output;
        let writes_at = can_write.then_some(Duration::ZERO);
        let acts_at = self.can_act().then_some(self.acts_at);
        let at = [reads_at, writes_at, acts_at].into_iter().flatten().min()?;
        let pause = if self.is_hasty { 100 } else { self.habits.pause };
        Some(at.max(now) + self.random.micros(1..=pause))
    }

    /// Whether the next action may begin, apart from its time.
    fn can_act(&self) -> bool {
        let is_written = self.written == self.outbox.len();
        self.status == Some(101)
            && !self.script.is_empty()
            && (is_written || self.habits.is_impatient && self.outbox.len() < 65_536)
    }

    /// Whether nothing more happens unless the server acts.
    pub(crate) fn is_at_rest(&self, ledger: &mut Ledger) -> bool {
        match self.state {
            State::Absent | State::TurnedAway => true,
            State::Reset | State::Done | State::Vanished => self.link.is_closed(),
            State::Present => {
                let account = ledger.account(self.number);
                account.is_live()
                    && !account.is_busy()
                    && self.script.is_empty()
                    && self.written == self.outbox.len()
                    && self.link.client_unread() == 0
                    // One pong may answer several equal pings.
                    && self.pings.iter().all(|ping| Some(ping) == self.ponged.as_ref())
                    && self.sent_close.is_none()
                    && self.received_close.is_none()
                    // Its Close is on its way, later if a rate applies.
                    && !self.has_sent_too_long
                    && !self.shuts_down
                    && !self.link.has_client_ended()
            }
        }
    }

    /// Reads, writes, and begins an action.
    pub(crate) fn step(&mut self, ledger: &mut Ledger, trace: &mut Trace) {
        let portion = if self.is_hasty { usize::MAX } else { self.habits.portion };
        if self.reads_at <= trace.now || self.is_hasty {
            self.read(portion, ledger, trace);
        }
        if self.state != State::Present {
            return;
        }
        if self.can_act() && self.acts_at <= trace.now {
            self.act(ledger, trace);
        }
        self.write(portion, trace);
    }

    fn read(&mut self, portion: usize, ledger: &mut Ledger, trace: &mut Trace) {
        let most = self.random.magnitude(1..=portion.min(1 << 20));
        let most = if self.is_hasty { portion } else { most };
        let start = self.reader.bytes.len();
        let n = self.link.client_receive(most, &mut self.reader.bytes);
        if n > 0 {
            trace.add_bytes(&self.reader.bytes[start..]);
            trace.step(Subject::Client(self.number), "receives bytes", n);
        }
        loop {
            match self.reader.next() {
                Ok(None) => break,
                Ok(Some(received)) => self.handle(received, ledger, trace),
                Err(what) => {
                    ledger.report(Some(self.connection()), what);
                    break;
                }
            }
        }
        if self.link.is_at_end() && self.state == State::Present {
            trace.step(Subject::Client(self.number), "reads the end", 0);
            self.link.client_shut_down();
            self.state = State::Done;
        }
    }

    fn handle(&mut self, received: Received, ledger: &mut Ledger, trace: &mut Trace) {
        let connection = self.connection();
        let is_control = matches!(received, Received::Ping(_) | Received::Pong(_));
        if self.is_announced && !is_control && !matches!(received, Received::Close(_)) {
            ledger.report(Some(connection), "the announcement of a Close is followed by something else");
        }
        match received {
            Received::Status(status) => {
                trace.step(Subject::Client(self.number), "is answered with status", status.into());
                trace.seen.insert(status);
                self.status = Some(status);
                if status != 101 {
                    self.script.clear();
                }
            }
            Received::Message(DataKind::Text, payload)
                if self.habits.offers_subprotocol && payload.starts_with(br#"{"type":"disconnect""#) =>
            {
                self.is_announced = true;
            }
            Received::Message(kind, payload) => {
                trace.step(Subject::Client(self.number), "receives a message", payload.len());
                ledger.on_delivered(connection, kind, &payload);
            }
            Received::Ping(payload) => {
                if self.habits.answers_pings && self.sent_close.is_none() {
                    self.send(OpCode::Control(Control::Pong), true, &payload);
                }
            }
            Received::Pong(payload) => {
                // A pong may answer only the last of several pings (RFC 6455 §5.5.3).
                while let Some(ping) = self.pings.pop_front() {
                    if ping == payload {
                        self.ponged = Some(ping);
                        return;
                    }
                }
                ledger.report(Some(connection), "a pong answers no ping");
            }
            Received::Close(code) => {
                trace.step(Subject::Client(self.number), "receives a Close", code.unwrap_or(0).into());
                let is_complete = ledger.account(self.number).expected.is_empty();
                ledger.check(is_complete, connection, "a Close before all messages");
                self.received_close = Some(code);
                self.script.clear();
                if self.sent_close.is_none() && self.habits.answers_close {
                    self.send_close(code);
                }
            }
        }
    }

    /// Returns the status of the answer, if it has arrived.
    pub(crate) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Returns the code of the Close that it has sent.
    pub(crate) fn sent_close(&self) -> Option<Option<u16>> {
        self.sent_close
    }

    /// Returns the code of the Close that it has received. Its connection does not count for its user any more.
    pub(crate) fn received_close(&self) -> Option<Option<u16>> {
        self.received_close
    }

    /// Whether it has announced a message that is longer than the limit.
    pub(crate) fn has_sent_too_long(&self) -> bool {
        self.has_sent_too_long
    }

    /// Whether its connection needs no memory, if it is at rest. A part of a ping may not have been sent yet, or of a pong not been
    /// read: the server reads no further while it pauses the connection for its rate.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Present
            && !self.has_sent_part
            && !self.link.is_readable()
            && !self.link.is_blocked()
    }

    fn act(&mut self, ledger: &mut Ledger, trace: &mut Trace) {
        let Some(action) = self.script.pop_front() else { return };
        let subject = Subject::Client(self.number);
        match action {
            Action::Send { kind, len, frames } => {
                trace.step(subject, "sends a message", len);
                self.send_message(kind, len, frames, ledger);
            }
            Action::Ping(len) => {
                trace.step(subject, "sends a ping", len);
                let payload = self.payload(len);
                self.send(OpCode::Control(Control::Ping), true, &payload);
                self.pings.push_back(payload);
            }
            Action::StopReading(time) => {
                trace.step(subject, "stops reading for milliseconds", time.as_millis() as usize);
                self.reads_at = trace.now + time;
            }
            Action::Wait(time) => self.acts_at = trace.now + time,
            Action::SendPart => {
                trace.step(subject, "sends a part of a message", 0);
                self.has_sent_part = true;
                let payload = self.payload(50);
                self.send(OpCode::Data(Data::Binary), false, &payload);
            }
            Action::SendTooLong => {
                trace.step(subject, "announces a message that is too long", 0);
                self.outbox.extend(b"\x82\xff\x00\x00\x00\x00\x10\x00\x00\x00\x01\x02\x03\x04");
                self.has_sent_too_long = true;
                self.script.clear();
            }
            Action::Close(code) => {
                trace.step(subject, "sends a Close", code.unwrap_or(0).into());
                self.send_close(code);
            }
            Action::ShutDown => self.shuts_down = true,
            Action::Reset => {
                trace.step(subject, "resets the connection", 0);
                self.link.client_reset();
                self.state = State::Reset;
            }
            Action::Vanish => {
                trace.step(subject, "vanishes", 0);
                self.state = State::Vanished;
            }
        }
    }

    fn write(&mut self, portion: usize, trace: &mut Trace) {
        let left = self.outbox.len() - self.written;
        if left > 0 && self.link.client_room() > 0 && self.state == State::Present {
            let most = if self.is_hasty { left } else { self.random.magnitude(1..=portion.min(left)) };
            let n = self.link.client_send(&self.outbox[self.written..self.written + most]);
            self.written += n;
            trace.step(Subject::Client(self.number), "sends bytes", n);
        }
        if self.written == self.outbox.len() {
            self.outbox.clear();
            self.written = 0;
            if mem::take(&mut self.shuts_down) {
                trace.step(Subject::Client(self.number), "shuts down its side", 0);
                self.link.client_shut_down();
            }
        }
    }

    fn send_message(&mut self, kind: DataKind, len: usize, frames: usize, ledger: &mut Ledger) {
        let payload = self.payload(len);
        let compressed = match &mut self.reader.deflate {
            Some(deflate) if self.random.one_in(2) => Some(deflate.compress(&payload)),
            Some(_) | None => None,
        };
        let mut opcode = OpCode::Data(if kind == DataKind::Text { Data::Text } else { Data::Binary });
        let mut rest = compressed.as_ref().unwrap_or(&payload).as_slice();
        let mut rsv1 = compressed.is_some();
        for left in (1..=frames).rev() {
            let n = if left == 1 { rest.len() } else { self.random.within(0..=rest.len()) };
            let (part, other) = rest.split_at(n);
            self.send_frame(
                FrameHeader { is_final: left == 1, rsv1, opcode, ..FrameHeader::default() },
                part,
            );
            (opcode, rest, rsv1) = (OpCode::Data(Data::Continue), other, false);
        }
        ledger.account(self.number).sent.push_back(Message { kind, payload });
    }

    fn send_close(&mut self, code: Option<u16>) {
        let payload = code.map(u16::to_be_bytes);
        self.send(OpCode::Control(Control::Close), true, payload.as_ref().map_or(&[], |code| &code[..]));
        self.sent_close = Some(code);
    }

    fn send(&mut self, opcode: OpCode, is_final: bool, payload: &[u8]) {
        self.send_frame(FrameHeader { is_final, opcode, ..FrameHeader::default() }, payload);
    }

    fn send_frame(&mut self, header: FrameHeader, payload: &[u8]) {
        let mask = (self.random.number() as u32).to_le_bytes();
        write_frame(&mut self.outbox, header, payload, mask);
    }

    /// Returns a payload that differs from all others, if it has more than a few bytes. It contains characters of several
    /// bytes.
    fn payload(&mut self, len: usize) -> Vec<u8> {
        let mut payload = format!("{} {:x} ä€", self.number, self.random.number()).into_bytes();
        while payload.len() < len {
            let letters = self.random.number().to_le_bytes();
            payload.extend(letters.map(|byte| b'a' + byte % 26));
        }
        let mut end = len;
        while std::str::from_utf8(&payload[..end]).is_err() {
            end -= 1;
        }
        payload.truncate(end);
        payload
    }

    /// Checks what must hold after the end of the run.
    ///
    /// `may_be_evicted`: memory is limited, so that output may be lost at any time.
    pub(crate) fn check_end(&self, may_be_evicted: bool, ledger: &mut Ledger) {
        if matches!(self.state, State::Absent | State::Reset | State::Vanished | State::TurnedAway) {
            return;
        }
        let connection = self.connection();
        ledger.check(
            self.state == State::Done,
            connection,
            "the client never reads the end of the connection",
        );
        let account = ledger.account(self.number);
        let is_cut = may_be_evicted
            || self.link.is_blocked()
            || match account.ending {
                Some(Ending::Evicted | Ending::WriteStalled | Ending::Broken) => true,
                Some(Ending::Eof) => self.was_peer_closed,
                Some(_) | None => false,
            };
        if is_cut {
            return;
        }
        let is_complete = account.expected.is_empty();
        ledger.check(is_complete, connection, "the connection ends before all messages are delivered");
        ledger.check(!self.reader.is_partial(), connection, "the connection ends inside of a frame");
        let is_asked = self.written == 0 && self.outbox.is_empty();
        ledger.check(self.status.is_some() || !is_asked, connection, "the request is not answered");
    }
}
