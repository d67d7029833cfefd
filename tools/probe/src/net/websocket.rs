//! A WebSocket connection after its 101, by the session of the core.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::client::Connected;
use postern_core::session::{Closing, ProtocolError};
use postern_core::{Client, Codec, Event, Input, Session, SessionConfig, Turn};
use ring::rand::{SecureRandom, SystemRandom};

use super::dial::Stream;

/// A message or a control frame of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    Text(String),
    Binary(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
}

/// The end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By a Close of the server. 1005: without a code.
    Closed { code: u16, reason: String },
    /// Without a Close.
    Lost(String),
    /// The server has violated the protocol.
    Invalid(ProtocolError),
}

/// A session whose masking keys are random.
type ClientSession = Session<Client<fn() -> [u8; 4]>>;

/// An open connection.
pub(crate) struct Socket {
    stream: Stream,
    session: ClientSession,
    codec: Codec,
    /// Bytes that are not consumed yet.
    input: Vec<u8>,
    /// When bytes arrived last.
    last_byte: Instant,
    ended: Option<Ended>,
}

impl Socket {
    /// Creates the client's side of a connection whose 101 has arrived. `rest` has the bytes after the 101.
    pub(crate) fn new(stream: Stream, connected: &Connected, rest: Vec<u8>) -> Socket {
        let config = SessionConfig {
            max_message: MAX_MESSAGE,
            max_frame: MAX_MESSAGE,
            max_fragments: u32::MAX,
            control_rate: 0,
            message_timeout: Duration::ZERO,
            ..SessionConfig::default()
        };
        let keys: fn() -> [u8; 4] = || random();
        let session = Session::client(Arc::new(config), keys).with_deflate(connected.deflate);
        Socket { stream, session, codec: Codec::new(), input: rest, last_byte: Instant::now(), ended: None }
    }

    /// Sends a text message.
    pub(crate) fn send_text(&mut self, text: &str) -> Result<(), Ended> {
        self.send(|session, turn| session.send_text(turn, text))
    }

    /// Sends a Ping.
    pub(crate) fn ping(&mut self, payload: &[u8]) -> Result<(), Ended> {
        self.send(|session, turn| session.ping(turn, payload))
    }

    /// Sends a Close with 1000.
    pub(crate) fn start_close(&mut self) {
        // If it cannot be sent, the next event is the end.
        let _ = self.send(|session, turn| {
            session.close(turn, 1000.into(), "");
            Ok(())
        });
    }

    /// Sends a Close with 1000, and waits for the answer for a short time.
    pub(crate) fn close(mut self) {
        self.start_close();
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while matches!(self.next(deadline), Ok(Some(_))) {}
    }

    /// Returns the time since bytes arrived last.
    pub(crate) fn silence(&self) -> Duration {
        self.last_byte.elapsed()
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Returns the next message or control frame. `None` at the deadline.
    ///
    /// # Errors
    /// The connection has ended. The same error is returned again.
    pub(crate) fn next(&mut self, deadline: Instant) -> Result<Option<Arrival>, Ended> {
        loop {
            if let Some(ended) = &self.ended {
                return Err(ended.clone());
            }
            if let Some(arrival) = self.consume()? {
                return Ok(Some(arrival));
            }
            if !self.receive(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Handles bytes that have arrived, up to the next event.
    fn consume(&mut self) -> Result<Option<Arrival>, Ended> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::new();
        let mut turn =
            Turn { now: Instant::now(), out: &mut out, is_backlogged: false, codec: &mut self.codec };
        let mut input = Input::new(&mut self.input);
        let event = self.session.next_event(&mut turn, &mut input);
        let left = input.len();
        let mut ended = None;
        let arrival = match event {
            Ok(None) => None,
            Ok(Some(Event::Text(text))) => Some(Arrival::Text(text.as_str().to_owned())),
            Ok(Some(Event::Binary(payload))) => Some(Arrival::Binary(payload.to_vec())),
            Ok(Some(Event::Ping(_))) => Some(Arrival::Ping),
            Ok(Some(Event::Pong(payload))) => Some(Arrival::Pong(payload.to_vec())),
            Ok(Some(Event::Close { code, reason })) => {
                let code = code.map_or(1005, u16::from);
                ended = Some(Ended::Closed { code, reason: reason.as_str().to_owned() });
                None
            }
            Err(error) => {
                ended = Some(Ended::Invalid(error));
                None
            }
        };
        let used = self.input.len() - left;
        self.input.drain(..used);
        // The answer to a Ping or a Close. If it cannot be sent, the next read fails, too.
        let _ = self.stream.write_all(&out).and_then(|()| self.stream.flush());
        match ended {
            Some(ended) => Err(self.end(ended)),
            None => Ok(arrival),
        }
    }

    /// Reads once. Returns false at the deadline.
    fn receive(&mut self, deadline: Instant) -> Result<bool, Ended> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut portion = vec![0; 64 * 1024];
        let read = self.stream.set_read_timeout(left).and_then(|()| self.stream.read(&mut portion));
        match read {
            Ok(0) => Err(self.end(Ended::Lost("the connection ended without a Close".to_owned()))),
            Ok(count) => {
                self.last_byte = Instant::now();
                self.input.extend_from_slice(portion.get(..count).unwrap_or_default());
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(self.end(Ended::Lost(lost(&error)))),
        }
    }

    fn send(
        &mut self,
        write: impl FnOnce(&mut ClientSession, &mut Turn<'_>) -> Result<(), Closing>,
    ) -> Result<(), Ended> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let mut out = Vec::new();
        let mut turn =
            Turn { now: Instant::now(), out: &mut out, is_backlogged: false, codec: &mut self.codec };
        // The session refuses to send only after a Close, which is in `ended`.
        let _ = write(&mut self.session, &mut turn);
        match self.stream.write_all(&out).and_then(|()| self.stream.flush()) {
            Ok(()) => Ok(()),
            // A server may send a Close and end the connection before it has read a whole message.
            Err(error) => {
                let deadline = Instant::now() + CLOSE_TIMEOUT;
                while matches!(self.next(deadline), Ok(Some(_))) {}
                let lost = Ended::Lost(lost(&error));
                Err(self.ended.get_or_insert(lost).clone())
            }
        }
    }

    fn end(&mut self, ended: Ended) -> Ended {
        self.ended.get_or_insert(ended).clone()
    }
}

fn lost(error: &io::Error) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are shown as text")]
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "the connection was reset".to_owned(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "nothing more could be sent".to_owned(),
        _ => error.to_string(),
    }
}

/// Returns random bytes: the nonce of a handshake, the key of a frame.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It fails only without a source of randomness. The bytes protect proxies from pages, and the probe is not a page.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes
}

/// The largest message that is received.
const MAX_MESSAGE: usize = 128 * 1024 * 1024;

/// The time for the answer to a Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
