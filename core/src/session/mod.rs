//! One admitted user's side of RFC 6455: frames in, events out; messages in, frames out.

mod config;
mod ending;
mod error;
mod incoming;

#[cfg(test)]
mod tests;

pub use config::SessionConfig;
pub use ending::{Ending, Side, Traffic};
pub use error::{Closing, ProtocolError};
pub use incoming::TimerKind;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::protocol::frame::coding::{CloseCode, Control, OpCode};

use crate::deflate::{InflateError, longest_compressed};
use crate::frame::{
    DataKind, FrameHeader, FrameKind, MAX_HEADER, parse_close, unmask, write_close, write_compressed_frame,
    write_frame,
};
use crate::handshake::Deflate;
use crate::input::{Input, Payload, Text, Utf8};
use crate::policy::{Pace, RateLimit};
use crate::turn::Turn;
use incoming::{Deadline, Incoming, Message, PartialFrame};

/// How long a peer that was told off may take to close its side. We have ended ours by then; closing at
/// once would answer its late bytes by a reset, and a reset can overtake our Close.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// A WebSocket after its 101.
///
/// Bytes go in by [`next_event`](Session::next_event) until it gives `None`; `handle_*` tell it what else
/// happened; `send_*` and [`close`](Session::close) are commands; all of them append to [`Turn::out`], which
/// the runtime writes to the socket. After each of them look at [`poll_timeout`](Session::poll_timeout) and
/// [`transport`](Session::transport). Nothing here waits, reads a clock or owns a buffer while it is idle.
///
/// ```
/// # use std::{sync::Arc, time::Instant};
/// # use postern_core::{Codec, Event, Input, Session, SessionConfig, Turn};
/// let mut session = Session::new(Arc::new(SessionConfig::default()));
/// let (mut out, mut codec) = (Vec::new(), Codec::new());
/// let mut turn = Turn { now: Instant::now(), out: &mut out, is_backlogged: false, codec: &mut codec };
///
/// let mut read = *b"\x81\x85\x00\x00\x00\x00hello";
/// let mut input = Input::new(&mut read);
/// while let Some(event) = session.next_event(&mut turn, &mut input)? {
///     if let Event::Text(text) = event {
///         session.send_text(&mut turn, &text)?;
///     }
/// }
/// assert_eq!(out, b"\x81\x05hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    /// The header that has begun to arrive: its first `partial_len` bytes.
    partial: [u8; MAX_HEADER],
    partial_len: u8,
    state: State,
    /// Set with the state that it explains, and never changed again.
    ending: Option<Ending>,
    incoming: Option<Box<Incoming>>,
    deadline: Deadline,
    traffic: Traffic,
    deflate: Option<Deflate>,
    control_rate: RateLimit,
    /// The payload of the one pong that waits until the peer has taken what was sent before.
    pong: Option<Box<[u8]>>,
}

/// Where the closing handshake of RFC 6455 §7 is.
///
/// ```text
///   Open --our Close--> CloseSent --their Close--> Finished
///     |                     |                          ^
///     +----their Close, answered----------------------+
///     +----an error of theirs----> Lingering --EOF----+      any of them --too late--> Aborted
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Messages go both ways.
    Open,
    /// Our Close is out, theirs is awaited. What they still send is checked and thrown away.
    CloseSent,
    /// Our Close is out because of their error. What they still send is thrown away.
    Lingering,
    /// Nothing more is to come in. What is to go out goes out.
    Finished,
    /// Nothing more in either direction.
    Aborted,
}

/// What came from the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// A text message, whole and valid.
    Text(Text<'b>),
    /// A binary message, whole.
    Binary(Payload<'b>),
    /// A ping. It has been answered.
    Ping(Payload<'b>),
    /// A pong, asked for or not.
    Pong(Payload<'b>),
    /// The peer's Close, valid. It has been answered, or was the answer to ours.
    Close {
        /// The code, if there was one.
        code: Option<CloseCode>,
        /// The reason; empty if there was none.
        reason: Text<'b>,
    },
}

/// What the runtime is to do with the socket, once all output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Keep it.
    Open,
    /// Shut down its writing side, and go on reading until the peer closes. Said again each time; a second
    /// shutdown does no harm.
    ShutdownWrite,
    /// Close it.
    Close,
}

impl Session {
    /// A session whose 101 is on its way.
    pub fn new(config: Arc<SessionConfig>) -> Session {
        Session {
            config,
            partial: [0; MAX_HEADER],
            partial_len: 0,
            state: State::Open,
            ending: None,
            incoming: None,
            deadline: None,
            traffic: Traffic::default(),
            deflate: None,
            control_rate: RateLimit::default(),
            pong: None,
        }
    }

    /// The same session with the compression that the handshake agreed on.
    pub fn with_deflate(self, deflate: Option<Deflate>) -> Session {
        Session { deflate, ..self }
    }

    /// How the connection ended, as soon as that is known.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// What it carried until now.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether anything that may still come in matters: not after the end of the peer's side, nor after the
    /// last Close.
    pub fn wants_read(&self) -> bool {
        matches!(self.state, State::Open | State::CloseSent | State::Lingering)
    }

    /// Whether what is still to be written is worth writing.
    pub(crate) fn is_aborted(&self) -> bool {
        self.state == State::Aborted
    }

    /// What the runtime is to do with the socket, once all output is written.
    pub fn transport(&self) -> Transport {
        match self.state {
            State::Open | State::CloseSent => Transport::Open,
            State::Lingering => Transport::ShutdownWrite,
            State::Finished | State::Aborted => Transport::Close,
        }
    }

    /// When [`handle_timeout`](Session::handle_timeout) is to be called, and what for. It may be called
    /// earlier or later; it looks at the time itself.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerKind)> {
        self.deadline
    }

    /// The next thing that came from the peer. `None` asks for more bytes: all of `input` is consumed.
    ///
    /// # Errors
    /// The peer broke the protocol or a limit. Our Close is in `turn.out`, the rest of `input` is thrown
    /// away, and the same error comes again for all further input.
    #[inline]
    pub fn next_event<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        input: &mut Input<'b>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        match self.state {
            State::Open | State::CloseSent => {}
            State::Lingering | State::Finished | State::Aborted => {
                input.discard();
                return match self.ending {
                    Some(Ending::Failed(error)) => Err(error),
                    Some(_) | None => Ok(None),
                };
            }
        }
        let event = self.advance(turn, input);
        if let Err(error) = event {
            input.discard();
            self.fail(turn, error);
        }
        event
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// [`Closing`] after a Close in either direction; nothing is sent then.
    #[inline]
    pub fn send_text<T: Utf8 + ?Sized>(&mut self, turn: &mut Turn<'_>, text: &T) -> Result<(), Closing> {
        self.send(turn, DataKind::Text, text.utf8())
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// [`Closing`] after a Close in either direction; nothing is sent then.
    #[inline]
    pub fn send_binary(&mut self, turn: &mut Turn<'_>, payload: &[u8]) -> Result<(), Closing> {
        self.send(turn, DataKind::Binary, payload)
    }

    /// Begins the closing handshake (RFC 6455 §7.1.2). Of `reason` 123 bytes are sent. Does nothing after a
    /// Close in either direction.
    pub fn close(&mut self, turn: &mut Turn<'_>, code: CloseCode, reason: &str) {
        if self.state == State::Open {
            write_close(turn.out, Some(code), reason);
            self.end(State::CloseSent, Ending::Closed(code));
            self.deadline = Some((turn.now + self.config.close_timeout, TimerKind::Close));
        }
    }

    /// Tells that time has passed.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let Some((at, kind)) = self.deadline else { return };
        if turn.now < at {
            return;
        }
        match kind {
            TimerKind::Message => self.fail(turn, ProtocolError::MessageTimeout),
            TimerKind::Close | TimerKind::Linger => self.abort(Ending::Broken),
        }
    }

    /// Tells that the peer has ended its side. What is still to be sent may be sent.
    pub fn handle_eof(&mut self, now: Instant) {
        match self.state {
            State::Open | State::CloseSent | State::Lingering => {
                self.end(State::Finished, Ending::Eof);
                self.deadline = Some((now + self.config.close_timeout, TimerKind::Close));
            }
            State::Finished | State::Aborted => {}
        }
    }

    /// Gives the connection up: nothing more can be sent.
    pub(crate) fn abort(&mut self, ending: Ending) {
        self.end(State::Aborted, ending);
        self.incoming = None;
        self.pong = None;
        self.deadline = None;
    }

    #[inline]
    fn advance<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        input: &mut Input<'b>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        loop {
            let event = if self.incoming.as_ref().is_some_and(|incoming| incoming.frame.is_some()) {
                self.continue_frame(turn, input)?
            } else {
                match self.read_header(input)? {
                    Some(header) => self.begin_frame(turn, header, input)?,
                    None => break,
                }
            };
            self.rest_from_message();
            if event.is_some() {
                return Ok(event);
            }
            if input.is_empty() {
                break;
            }
        }
        if (self.incoming.is_some() || self.partial_len > 0) && self.deadline.is_none() {
            let timeout = self.config.message_timeout;
            self.deadline = (!timeout.is_zero()).then(|| (turn.now + timeout, TimerKind::Message));
        }
        Ok(None)
    }

    /// Gives back memory and timer where nothing is unfinished any more.
    #[inline]
    fn rest_from_message(&mut self) {
        if self.incoming.as_ref().is_some_and(|incoming| incoming.is_idle()) {
            self.incoming = None;
        }
        if self.incoming.is_none() && matches!(self.deadline, Some((_, TimerKind::Message))) {
            self.deadline = None;
        }
    }

    /// The next header, from the bytes that wait in `partial` and from `input`.
    #[inline]
    fn read_header(&mut self, input: &mut Input<'_>) -> Result<Option<FrameHeader>, ProtocolError> {
        if self.partial_len == 0
            && let Some((header, len)) = FrameHeader::parse(input.peek())?
        {
            input.take(len);
            return Ok(Some(header));
        }
        self.read_split_header(input)
    }

    #[cold]
    fn read_split_header(&mut self, input: &mut Input<'_>) -> Result<Option<FrameHeader>, ProtocolError> {
        // Byte by byte, since a header says only in its second byte how long it is. At most fourteen.
        while let Some(slot) = self.partial.get_mut(usize::from(self.partial_len)) {
            let [byte] = *input.take(1) else { return Ok(None) };
            *slot = byte;
            self.partial_len += 1;
            let bytes = self.partial.get(..usize::from(self.partial_len)).unwrap_or_default();
            if let Some((header, _)) = FrameHeader::parse(bytes)? {
                self.partial_len = 0;
                return Ok(Some(header));
            }
        }
        // Fourteen bytes are always a whole header, so the loop has returned.
        Ok(None)
    }

    /// Takes a new frame with as much of its payload as is there.
    #[inline]
    fn begin_frame<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        header: FrameHeader,
        input: &mut Input<'b>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        // RFC 7692 §6: the bit of a compressed message stands on its first frame, and on no other.
        if header.rsv1 && !(self.deflate.is_some() && matches!(header.kind, FrameKind::Data(_))) {
            return Err(ProtocolError::ReservedBits);
        }
        let is_whole = header.len <= input.len() as u64;
        match header.kind {
            FrameKind::Control(control) if is_whole => {
                let payload = take_unmasked(input, &header, 0);
                return self.receive_control(turn, control, Payload::Borrowed(payload));
            }
            FrameKind::Control(_) => {}
            // The common case: a message in one frame in one read. Nothing is copied, nothing is kept.
            FrameKind::Data(kind) if is_whole && header.fin && self.incoming.is_none() => {
                self.check_frame(&header, header.rsv1)?;
                if header.len > self.largest(self.config.max_message, header.rsv1) {
                    return Err(ProtocolError::MessageTooBig);
                }
                let payload = take_unmasked(input, &header, 0);
                if header.rsv1 {
                    return self.deliver_compressed(turn, kind, payload);
                }
                if kind == DataKind::Text && simdutf8::basic::from_utf8(payload).is_err() {
                    return Err(ProtocolError::Utf8);
                }
                return Ok(self.deliver(kind, Payload::Borrowed(payload)));
            }
            FrameKind::Data(_) | FrameKind::Continuation => {
                self.begin_fragment(&header)?;
            }
        }
        let incoming = self.incoming.get_or_insert_default();
        incoming.frame = Some(PartialFrame { header, received: 0 });
        self.continue_frame(turn, input)
    }

    fn check_frame(&self, header: &FrameHeader, is_compressed: bool) -> Result<(), ProtocolError> {
        if header.len > self.largest(self.config.max_frame, is_compressed) {
            return Err(ProtocolError::FrameTooBig);
        }
        Ok(())
    }

    /// A limit for bytes on the wire. What does not compress gets a little longer.
    fn largest(&self, limit: usize, is_compressed: bool) -> u64 {
        (if is_compressed { longest_compressed(limit) } else { limit }) as u64
    }

    /// Opens or continues the message that a data frame belongs to.
    fn begin_fragment(&mut self, header: &FrameHeader) -> Result<(), ProtocolError> {
        let message = &mut self.incoming.get_or_insert_default().message;
        match (header.kind, &message) {
            (FrameKind::Data(kind), None) => *message = Some(Message::new(kind, header.rsv1)),
            (FrameKind::Data(_), Some(_)) => return Err(ProtocolError::ExpectedContinuation),
            (FrameKind::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (FrameKind::Continuation, Some(_)) | (FrameKind::Control(_), _) => {}
        }
        let is_compressed = message.as_ref().is_some_and(|message| message.is_compressed);
        self.check_frame(header, is_compressed)?;
        let message = self.incoming.as_mut().and_then(|incoming| incoming.message.as_mut());
        message.map_or(Ok(()), |message| message.begin_frame(header.len, &self.config))
    }

    /// Takes payload for the frame that has begun.
    fn continue_frame<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        input: &mut Input<'b>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let Some(incoming) = self.incoming.as_deref_mut() else { return Ok(None) };
        let Some(PartialFrame { header, received }) = incoming.frame else { return Ok(None) };
        let payload = take_unmasked(input, &header, received);
        let received = received + payload.len() as u64;
        let is_whole = received == header.len;
        incoming.frame = (!is_whole).then_some(PartialFrame { header, received });
        match header.kind {
            FrameKind::Control(control) => {
                incoming.control.extend_from_slice(payload);
                if !is_whole {
                    return Ok(None);
                }
                let payload = Payload::Owned(std::mem::take(&mut incoming.control));
                self.receive_control(turn, control, payload)
            }
            FrameKind::Data(_) | FrameKind::Continuation => {
                let Some(message) = &mut incoming.message else { return Ok(None) };
                message.append(payload)?;
                if !(is_whole && header.fin) {
                    return Ok(None);
                }
                let Some(message) = incoming.message.take() else { return Ok(None) };
                let (kind, is_compressed) = (message.kind, message.is_compressed);
                let bytes = message.finish()?;
                if is_compressed {
                    return self.deliver_compressed(turn, kind, &bytes);
                }
                Ok(self.deliver(kind, Payload::Owned(bytes)))
            }
        }
    }

    /// Hands a whole message to the application, unless we have already closed.
    #[inline]
    fn deliver<'b>(&mut self, kind: DataKind, payload: Payload<'b>) -> Option<Event<'b>> {
        if self.state != State::Open {
            return None;
        }
        self.traffic.messages_received += 1;
        self.traffic.bytes_received += payload.len() as u64;
        Some(match kind {
            DataKind::Text => Event::Text(Text::from_checked(payload)),
            DataKind::Binary => Event::Binary(payload),
        })
    }

    /// Inflates a whole message and hands it over. Its UTF-8 can only be checked now.
    fn deliver_compressed<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        kind: DataKind,
        compressed: &[u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        if self.state != State::Open {
            return Ok(None);
        }
        let inflated = turn.codec.deflate.inflate(compressed, self.config.max_message);
        let bytes = inflated.map_err(|error| match error {
            InflateError::TooBig => ProtocolError::MessageTooBig,
            InflateError::Invalid => ProtocolError::Inflate,
        })?;
        if kind == DataKind::Text && simdutf8::basic::from_utf8(&bytes).is_err() {
            return Err(ProtocolError::Utf8);
        }
        Ok(self.deliver(kind, Payload::Owned(bytes)))
    }

    fn receive_control<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        control: Control,
        payload: Payload<'b>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let rate = self.config.control_rate;
        // A Close ends the flood, so it is always heard.
        if control != Control::Close
            && self.control_rate.judge(turn.now, rate, rate.saturating_mul(2)) == Pace::Exceeded
        {
            return Err(ProtocolError::ControlRate);
        }
        match control {
            Control::Ping => {
                self.answer_ping(turn, &payload);
                Ok(Some(Event::Ping(payload)))
            }
            Control::Pong => Ok(Some(Event::Pong(payload))),
            Control::Close => self.receive_close(turn, payload).map(Some),
            // The header parser has refused it.
            Control::Reserved(_) => Err(ProtocolError::ReservedOpcode),
        }
    }

    /// RFC 6455 §5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless
    /// it already received a Close frame." After our own Close nothing follows.
    ///
    /// §5.5.3: "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to
    /// previous Ping frame(s), the endpoint MAY elect to send a Pong frame for only the most recently
    /// processed Ping frame." So a peer that does not read makes us keep one (ws 8.23.0, curl CVE-2026-11586).
    fn answer_ping(&mut self, turn: &mut Turn<'_>, payload: &[u8]) {
        if self.state != State::Open {
            return;
        }
        if turn.is_backlogged {
            self.pong = Some(payload.into());
        } else {
            write_frame(turn.out, OpCode::Control(Control::Pong), payload);
        }
    }

    /// Whether a pong waits for the backlog to be sent.
    pub(crate) fn has_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Sends the pong that waited. To be called when the backlog is sent.
    pub(crate) fn send_pong(&mut self, turn: &mut Turn<'_>) {
        if let Some(payload) = self.pong.take() {
            self.answer_ping(turn, &payload);
        }
    }

    fn receive_close<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        payload: Payload<'b>,
    ) -> Result<Event<'b>, ProtocolError> {
        let (code, reason) = parse_close(&payload)?;
        let skip = payload.len() - reason.len();
        if self.state == State::Open {
            // RFC 6455 §5.5.1: "it SHOULD echo the status code it received."
            write_close(turn.out, code, "");
        }
        self.end(State::Finished, Ending::PeerClosed(code));
        self.deadline = Some((turn.now + self.config.close_timeout, TimerKind::Close));
        let reason = match payload {
            Payload::Borrowed(bytes) => Payload::Borrowed(bytes.get_mut(skip..).unwrap_or_default()),
            Payload::Owned(bytes) => Payload::Owned(bytes.get(skip..).unwrap_or_default().to_vec()),
        };
        Ok(Event::Close { code, reason: Text::from_checked(reason) })
    }

    #[inline]
    fn send(&mut self, turn: &mut Turn<'_>, kind: DataKind, payload: &[u8]) -> Result<(), Closing> {
        if self.state != State::Open {
            return Err(Closing);
        }
        let threshold = self.config.compression_min;
        let compressed = self
            .deflate
            .and_then(|deflate| turn.codec.deflate.deflate(payload, deflate.server_bits, threshold));
        match compressed {
            Some(compressed) => write_compressed_frame(turn.out, kind.opcode(), compressed),
            None => write_frame(turn.out, kind.opcode(), payload),
        }
        self.traffic.messages_sent += 1;
        self.traffic.bytes_sent += payload.len() as u64;
        Ok(())
    }

    /// Fails the connection (RFC 6455 §7.1.7): says why, unless a Close of ours is out already.
    #[cold]
    fn fail(&mut self, turn: &mut Turn<'_>, error: ProtocolError) {
        if self.state == State::Open {
            write_close(turn.out, Some(error.close_code()), error.reason());
        }
        self.end(State::Lingering, Ending::Failed(error));
        self.incoming = None;
        self.deadline = Some((turn.now + LINGER, TimerKind::Linger));
    }

    /// The one place where the state changes. The first cause stays the cause.
    fn end(&mut self, state: State, ending: Ending) {
        self.state = state;
        self.ending.get_or_insert(ending);
    }
}

/// The payload of a frame from its byte `at` on, as far as it is there, in the clear.
#[inline]
fn take_unmasked<'b>(input: &mut Input<'b>, header: &FrameHeader, at: u64) -> &'b mut [u8] {
    // What is left may not fit a usize on a small host; then everything there belongs to the frame.
    let left = usize::try_from(header.len - at).unwrap_or(usize::MAX);
    let payload = input.take(left);
    unmask(payload, header.mask, at);
    payload
}
