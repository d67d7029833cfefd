//! One endpoint of RFC 6455 after its handshake: frames in, events out; messages in, frames out.

mod config;
mod control;
mod ending;
mod error;
mod incoming;
mod receive;

#[cfg(test)]
mod tests;

pub use crate::frame::ProtocolError;
pub use config::{RatePolicy, SessionConfig};
pub use ending::{Ending, Side, Traffic};
pub use error::Closing;
pub use incoming::TimerKind;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::close_code::CloseCode;

use crate::deflate::Deflate;
use crate::frame::{
    DataKind, MAX_CLOSE_REASON, MAX_CONTROL, MAX_HEADER, OpCode, unmask, write_close, write_compressed_frame,
    write_frame, write_header,
};
use crate::input::{Input, Payload, Text, Utf8};
use crate::output::{MIN_SEGMENT, OutputSegments};
use crate::role::{Client, Role, Server};
use crate::turn::{Codec, Turn};
use control::Control;
use incoming::Incoming;

/// The time that a peer has to close its side after its connection failed and this side has ended. Closing the socket
/// at once would answer late bytes of the peer by a reset, and a reset can overtake the Close.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// A WebSocket after its 101: the server's side, or with `R` = [`Client`] the other.
///
/// * Pass received bytes to [`next_event`](Session::next_event) until it returns `None`.
/// * Report other events with [`handle_eof`](Session::handle_eof) and [`handle_timeout`](Session::handle_timeout).
/// * Send with [`send_text`](Session::send_text), [`send_binary`](Session::send_binary), [`ping`](Session::ping) and
///   [`close`](Session::close).
///
/// All of them append to [`Turn::out`], which the caller writes to the socket. After each of them, look at
/// [`poll_timeout`](Session::poll_timeout) and [`transport`](Session::transport). An idle session owns no buffer.
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
pub struct Session<R = Server> {
    role: R,
    config: Arc<SessionConfig>,
    /// The header that has begun to arrive: its first `partial_len` bytes.
    partial: [u8; MAX_HEADER],
    partial_len: u8,
    state: State,
    /// Set with the state that it explains, and never changed again.
    ending: Option<Ending>,
    incoming: Option<Box<Incoming>>,
    /// The deadline of the current state.
    deadline: Option<Instant>,
    traffic: Traffic,
    deflate: Option<Deflate>,
    /// Whether a ping was sent and its pong is expected.
    awaits_pong: bool,
    control: Option<Box<Control>>,
}

/// The state of the closing handshake (RFC 6455 §7).
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
    /// Our Close was sent, and the peer's Close is awaited. Frames of the peer are checked and discarded.
    CloseSent,
    /// Our Close was sent because of an error of the peer. Bytes of the peer are discarded.
    Lingering,
    /// No more input is expected. Pending output is still sent.
    Finished,
    /// No more input is expected, and no more output is sent.
    Aborted,
}

/// A message or a control frame of the peer.
// Exhaustive on purpose: RFC 6455 has no other messages and control frames.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// A complete text message, valid UTF-8.
    Text(Text<'b>),
    /// A complete binary message.
    Binary(Payload<'b>),
    /// A ping. It has been answered.
    Ping(Payload<'b>),
    /// A pong, solicited or not.
    Pong(Payload<'b>),
    /// A valid Close of the peer. It has been answered, or is the answer to a Close of this side.
    Close {
        /// The code, if there was one.
        code: Option<CloseCode>,
        /// The reason; empty if there was none.
        reason: Text<'b>,
    },
}

impl<'b> Event<'b> {
    /// Creates the event of a message. Text must have been checked.
    #[inline]
    fn message(kind: DataKind, payload: Payload<'b>) -> Event<'b> {
        match kind {
            DataKind::Text => Event::Text(Text::from_checked(payload)),
            DataKind::Binary => Event::Binary(payload),
        }
    }
}

/// The action of the runtime on the socket, once all output is written.
// Exhaustive on purpose: a runtime that ignored one of them would leave the socket open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Keep the socket.
    Open,
    /// Shut down its writing side, and continue to read until the peer closes. Returned repeatedly; another shutdown has no
    /// effect.
    ShutdownWrite,
    /// Close the socket.
    Close,
}

impl Session {
    /// The server's side of a connection whose 101 has been written.
    pub fn new(config: Arc<SessionConfig>) -> Session {
        Session::with_role(Server, config)
    }
}

impl<K: FnMut() -> [u8; 4]> Session<Client<K>> {
    /// The client's side of a connection whose 101 has arrived. `keys` returns a fresh masking key for each frame. RFC 6455
    /// §5.3 requires a strong source of entropy for it.
    pub fn client(config: Arc<SessionConfig>, keys: K) -> Session<Client<K>> {
        Session::with_role(Client::new(keys), config)
    }
}

/// The form in which a session sends a frame that it shares with other sessions: compressed in a window of 2^`bits` bytes, 8 to
/// 15, or with zero the frame itself.
// One byte, so that the comparison of two forms is one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SharedForm {
    pub(crate) bits: u8,
}

impl<R: Role> Session<R> {
    fn with_role(role: R, config: Arc<SessionConfig>) -> Session<R> {
        Session {
            role,
            config,
            partial: [0; MAX_HEADER],
            partial_len: 0,
            state: State::Open,
            ending: None,
            incoming: None,
            deadline: None,
            traffic: Traffic::default(),
            deflate: None,
            awaits_pong: false,
            control: None,
        }
    }

    /// Returns the same session with the compression that the handshake negotiated.
    pub fn with_deflate(self, deflate: Option<Deflate>) -> Session<R> {
        Session { deflate, ..self }
    }

    /// Returns the same session with other limits, which apply from now on.
    pub(crate) fn with_config(self, config: Arc<SessionConfig>) -> Session<R> {
        Session { config, ..self }
    }

    /// Returns why the session ended, in a few words and without anything from the peer: the reason given to
    /// [`close`](Session::close), or the reason of the [`Ending`].
    pub fn reason(&self) -> &str {
        let ending = match self.ending {
            Some(Ending::Closed(_)) => self.control.as_ref().and_then(|control| control.reason()),
            Some(_) | None => None,
        };
        ending.unwrap_or_else(|| self.ending.unwrap_or(Ending::Broken).reason())
    }

    /// Returns the cause of the end, as soon as there is one.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Returns the number of messages and bytes until now.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether to read from the socket: not after the end of the peer's side, nor after the last Close.
    pub fn wants_read(&self) -> bool {
        match self.state {
            State::Open | State::CloseSent | State::Lingering => true,
            // The end of the server's side is awaited.
            State::Finished => !R::CLOSES_FIRST,
            State::Aborted => false,
        }
    }

    /// Returns the memory of a partial message, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.incoming.as_ref().map_or(0, |incoming| incoming.memory())
    }

    /// Whether the connection is given up, so that pending output is not written any more.
    pub(crate) fn is_aborted(&self) -> bool {
        self.state == State::Aborted
    }

    /// Returns what to do with the socket after all output is written.
    pub fn transport(&self) -> Transport {
        match self.state {
            State::Open | State::CloseSent => Transport::Open,
            State::Lingering => Transport::ShutdownWrite,
            // RFC 6455 §7.1.1: the server closes first, and the client waits for it for some time.
            State::Finished if !R::CLOSES_FIRST => Transport::Open,
            State::Finished | State::Aborted => Transport::Close,
        }
    }

    /// Returns when to call [`handle_timeout`](Session::handle_timeout), and for which deadline. An earlier call has no
    /// effect.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerKind)> {
        let timer = match self.state {
            State::Open => TimerKind::Message,
            State::CloseSent | State::Finished | State::Aborted => TimerKind::Close,
            State::Lingering => TimerKind::Linger,
        };
        self.deadline.map(|at| (at, timer))
    }

    /// Returns the next event of the received bytes. `None` means that all of `input` is consumed, so that more bytes are
    /// needed.
    ///
    /// # Errors
    /// The peer violated the protocol or a limit. A Close is in `turn.out`, and the rest of `input` is discarded. Further input
    /// returns the same error.
    #[inline]
    pub fn next_event<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        input: &mut Input<'b>,
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        // The common case: a message in one frame in one read. It is neither copied nor stored.
        if self.is_between_messages()
            && let Some((kind, payload)) = self.take_whole_message(self.config.longest_whole(), input)
        {
            return Ok(Some(Event::message(kind, Payload::Borrowed(payload))));
        }
        self.next_event_of_any_kind(turn, input)
    }

    /// Does the same as [`next_event`](Session::next_event) for input that does not begin with a whole message.
    #[inline(never)]
    fn next_event_of_any_kind<'b>(
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

    /// Sends a message. A large payload is not copied if there are `segments`.
    // Inlined into the loop that calls it, as `take_whole_message` is.
    #[inline(always)]
    pub(crate) fn send_payload<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        kind: DataKind,
        payload: Payload<'b>,
        segments: Option<&mut OutputSegments<'b>>,
    ) -> Result<(), Closing> {
        match segments {
            Some(segments) if payload.len() >= MIN_SEGMENT && self.deflate.is_none() => {
                self.send_segment(turn, kind, payload, segments)
            }
            Some(_) | None => self.send(turn, kind, &payload),
        }
    }

    #[inline(never)]
    fn send_segment<'b>(
        &mut self,
        turn: &mut Turn<'_>,
        kind: DataKind,
        mut payload: Payload<'b>,
        segments: &mut OutputSegments<'b>,
    ) -> Result<(), Closing> {
        if self.state != State::Open {
            return Err(Closing);
        }
        if segments.is_full() {
            return self.send(turn, kind, &payload);
        }
        let (len, key) = (payload.len(), self.role.masking_key());
        write_header(turn.out, kind.opcode(), len, key);
        if let Some(key) = key {
            unmask(&mut payload, key, 0);
        }
        segments.push(turn.out.len(), payload);
        self.traffic.messages_sent += 1;
        self.traffic.bytes_sent += len as u64;
        Ok(())
    }

    /// Counts a message of `len` bytes whose frame the caller writes, because it is the same for many sessions. Returns the form
    /// of the frame. `None` after a Close in either direction: the caller must not write it.
    #[inline]
    pub(crate) fn share_message(&mut self, len: usize) -> Option<SharedForm> {
        if self.state != State::Open {
            return None;
        }
        self.traffic.messages_sent += 1;
        self.traffic.bytes_sent += len as u64;
        Some(SharedForm { bits: self.deflate.map_or(0, |deflate| deflate.bits) })
    }

    /// Sends a Ping (RFC 6455 §5.5.2) with at most 125 bytes of `payload`. The peer's Pong has the same bytes.
    ///
    /// # Errors
    /// [`Closing`] after a Close in either direction; nothing is sent then.
    pub fn ping(&mut self, turn: &mut Turn<'_>, payload: &[u8]) -> Result<(), Closing> {
        if self.state != State::Open {
            return Err(Closing);
        }
        let payload = payload.get(..MAX_CONTROL).unwrap_or(payload);
        write_frame(turn.out, OpCode::Ping, payload, self.role.masking_key());
        self.awaits_pong = true;
        Ok(())
    }

    /// Begins the closing handshake (RFC 6455 §7.1.2). At most 123 bytes of `reason` are sent. Does nothing after a Close in
    /// either direction.
    pub fn close(&mut self, turn: &mut Turn<'_>, code: CloseCode, reason: &str) {
        if self.state == State::Open {
            let reason = reason.get(..reason.floor_char_boundary(MAX_CLOSE_REASON)).unwrap_or_default();
            write_close(turn.out, Some(code), reason, self.role.masking_key());
            self.set_reason(code, reason);
            self.end(State::CloseSent, Ending::Closed(code));
            self.deadline = Some(turn.now + self.config.close_timeout);
        }
    }

    /// Keeps the reason of a Close for the log, if it is not the default one of its code.
    fn set_reason(&mut self, code: CloseCode, reason: &str) {
        if !reason.is_empty() && reason != code.reason() {
            self.control.get_or_insert_default().set_reason(reason);
        }
    }

    /// Postpones the current deadline, if there is one, until `at`.
    pub(crate) fn postpone_until(&mut self, at: Instant) {
        if let Some(deadline) = &mut self.deadline {
            *deadline = at;
        }
    }

    /// Extends the deadline of a partial message by the time for which reading was paused.
    pub(crate) fn postpone(&mut self, by: Duration) {
        if self.state == State::Open
            && let Some(at) = &mut self.deadline
        {
            *at += by;
        }
    }

    /// Handles the passing of time.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let Some((at, kind)) = self.poll_timeout() else { return };
        if turn.now < at {
            return;
        }
        match kind {
            TimerKind::Message => self.fail(turn, ProtocolError::MessageTimeout),
            TimerKind::Close | TimerKind::Linger => self.abort(Ending::Broken),
        }
    }

    /// Handles the end of the peer's side. Pending output may still be sent.
    pub fn handle_eof(&mut self, now: Instant) {
        match self.state {
            State::Open | State::CloseSent | State::Lingering => {
                self.end(State::Finished, Ending::Eof);
                self.deadline = Some(now + self.config.close_timeout);
            }
            State::Finished if !R::CLOSES_FIRST => self.abort(Ending::Eof),
            State::Finished | State::Aborted => {}
        }
    }

    /// Ends the connection at once: nothing more can be sent.
    pub(crate) fn abort(&mut self, ending: Ending) {
        self.end(State::Aborted, ending);
        self.incoming = None;
        // The reason is still needed for the log.
        self.control.as_mut().and_then(|control| control.take_pong());
        self.deadline = None;
    }

    /// Sends a message. A text message must be UTF-8.
    #[inline(always)]
    pub(crate) fn send(
        &mut self,
        turn: &mut Turn<'_>,
        kind: DataKind,
        payload: &[u8],
    ) -> Result<(), Closing> {
        if self.state != State::Open {
            return Err(Closing);
        }
        self.traffic.messages_sent += 1;
        self.traffic.bytes_sent += payload.len() as u64;
        match self.deflate {
            Some(deflate) => self.write_deflated(turn.codec, turn.out, kind, payload, deflate),
            None => write_frame(turn.out, kind.opcode(), payload, self.role.masking_key()),
        }
        Ok(())
    }

    /// Writes a message compressed, if that makes it shorter.
    #[inline(never)]
    fn write_deflated(
        &mut self,
        codec: &mut Codec,
        out: &mut Vec<u8>,
        kind: DataKind,
        payload: &[u8],
        deflate: Deflate,
    ) {
        let key = self.role.masking_key();
        let threshold = self.config.compression_min;
        match codec.deflate.deflate(payload, deflate.bits, threshold) {
            Some(compressed) => write_compressed_frame(out, kind.opcode(), compressed, key),
            None => write_frame(out, kind.opcode(), payload, key),
        }
    }

    /// Fails the connection (RFC 6455 §7.1.7): sends a Close with the code of the error, unless one was sent before.
    #[cold]
    fn fail(&mut self, turn: &mut Turn<'_>, error: ProtocolError) {
        if self.state == State::Open {
            write_close(turn.out, Some(error.close_code()), error.reason(), self.role.masking_key());
        }
        self.end(State::Lingering, Ending::Failed(error));
        self.incoming = None;
        self.deadline = Some(turn.now + LINGER);
    }

    /// Fails the connection with this code and at most 123 bytes of this reason, unless a Close was sent before. The peer is slow
    /// or does not respond, so it has half the time of [`LINGER`] to close its side.
    #[cold]
    pub(crate) fn fail_with(&mut self, turn: &mut Turn<'_>, code: CloseCode, reason: &str) {
        self.incoming = None;
        match self.state {
            State::Open => {
                let reason = reason.get(..reason.floor_char_boundary(MAX_CLOSE_REASON)).unwrap_or_default();
                write_close(turn.out, Some(code), reason, self.role.masking_key());
                self.set_reason(code, reason);
            }
            State::CloseSent => {}
            State::Lingering | State::Finished | State::Aborted => return,
        }
        self.end(State::Lingering, Ending::Closed(code));
        self.deadline = Some(turn.now + LINGER / 2);
    }

    /// Changes the state, which no other function does. The first cause is kept.
    fn end(&mut self, state: State, ending: Ending) {
        self.state = state;
        self.ending.get_or_insert(ending);
    }
}
