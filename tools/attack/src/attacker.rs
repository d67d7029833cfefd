//! One connection of an attack.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use postern_core::client::{ClientHandshake, ConnectError};
use postern_core::{Client, Codec, Event, Input, Session, SessionConfig, Turn};
use socket2::SockRef;

use super::Failure;
use super::plan::Plan;
use super::report::End;

/// A connection that attacks, or whose upgrade request is being sent.
pub(crate) struct Attacker {
    stream: TcpStream,
    stage: Stage,
    /// Unique: a place in the table is used by several connections, one after the other.
    pub(crate) id: u64,
    /// The time at which its attack began.
    pub(crate) began: Option<Instant>,
    /// The time at which the server refused or closed it.
    pub(crate) closed: Option<Instant>,
    /// Whether it is in the list of connections that can send or read.
    pub(crate) is_listed: bool,
}

/// It sends only the answer to a Close, so its masking keys do not matter.
type Reader = Session<Client<fn() -> [u8; 4]>>;

enum Stage {
    /// `sent` bytes of the request have been sent.
    Opening { handshake: ClientHandshake, request: Vec<u8>, sent: usize },
    /// `sent` bytes of the attack have been sent. The core's client parses the bytes from the server.
    Attacking { session: Box<Reader>, sent: usize },
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// No bytes are available at the moment.
    Nothing,
    /// This number of bytes that do not end the connection.
    Bytes(usize),
    /// The 101.
    Upgraded,
    /// A refusal or a Close.
    End(End),
    /// The server has shut down its side.
    Eof,
    /// The connection is broken.
    Broken,
}

impl Attacker {
    /// Starts to connect, without waiting. `request` contains the bytes that `handshake` has written.
    pub(crate) fn connect(
        to: SocketAddr,
        id: u64,
        handshake: ClientHandshake,
        request: Vec<u8>,
    ) -> io::Result<Attacker> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        // Closing the socket resets the connection. After an orderly end its port would be unavailable for a minute,
        // and thousands of connections per second would use up all ports.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        let stage = Stage::Opening { handshake, request, sent: 0 };
        Ok(Attacker { stream, stage, id, began: None, closed: None, is_listed: false })
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Opening { .. })
    }

    /// Whether it sends until its connection breaks.
    pub(crate) fn is_endless(&self, plan: &Plan) -> bool {
        if self.is_opening() { plan.byte_interval.is_some() } else { !plan.repeated.is_empty() }
    }

    /// Sends as many bytes of the request or of the attack as the socket accepts, and returns their number. With
    /// [`Plan::byte_interval`] it sends one byte of a request. Returns 0 if the socket's buffer is full or everything
    /// has been sent.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn send(&mut self, plan: &Plan) -> io::Result<usize> {
        let (bytes, sent) = match &mut self.stage {
            Stage::Opening { request, sent, .. } => {
                let most = if plan.byte_interval.is_some() { 1 } else { usize::MAX };
                let rest = request.get(*sent..).unwrap_or_default();
                (rest.get(..most).unwrap_or(rest), sent)
            }
            Stage::Attacking { sent, .. } => {
                let bytes = match plan.first.get(*sent..).unwrap_or_default() {
                    [] if plan.repeated.is_empty() => return Ok(0),
                    [] => plan
                        .repeated
                        .get((*sent - plan.first.len()) % plan.repeated.len()..)
                        .unwrap_or_default(),
                    first => first,
                };
                (bytes, sent)
            }
        };
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.stream.write(bytes) {
            Ok(n) => {
                *sent += n;
                Ok(n)
            }
            // Not connected yet: an event follows.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads once.
    ///
    /// # Errors
    /// The server does not listen, or violates the protocol.
    pub(crate) fn receive(&mut self, plan: &Plan, buffer: &mut [u8]) -> Result<Received, Failure> {
        let n = loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(Received::Eof),
                Ok(n) => break n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(Received::Nothing);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    return Err("the server does not listen".into());
                }
                Err(_) => return Ok(Received::Broken),
            }
        };
        let mut input = Input::new(buffer.get_mut(..n).unwrap_or_default());
        match &mut self.stage {
            Stage::Opening { handshake, .. } => match handshake.receive(&mut input) {
                Ok(None) => Ok(Received::Bytes(n)),
                Ok(Some(connected)) if connected.deflate.is_none() && plan.offers_deflate => {
                    Err("the server does not compress: start it with POSTERN_COMPRESSION=on".into())
                }
                Ok(Some(connected)) => {
                    let reader: Reader = Session::client(Arc::new(unlimited()), || [0; 4]);
                    let session = Box::new(reader.with_deflate(connected.deflate));
                    self.stage = Stage::Attacking { session, sent: 0 };
                    self.began = Some(Instant::now());
                    Ok(Received::Upgraded)
                }
                Err(ConnectError::Refused { status, .. }) => Ok(Received::End(End::Status(status))),
                Err(error) => Err(error.into()),
            },
            Stage::Attacking { session, .. } => {
                let (mut out, mut codec) = (Vec::new(), Codec::new());
                let mut turn =
                    Turn { now: Instant::now(), out: &mut out, is_backlogged: false, codec: &mut codec };
                while let Some(event) = session.next_event(&mut turn, &mut input)? {
                    if let Event::Close { code, .. } = event {
                        return Ok(Received::End(End::Close(code.map(u16::from))));
                    }
                }
                Ok(Received::Bytes(n))
            }
        }
    }
}

/// Has no limits, because the attack does not judge the messages of the server.
fn unlimited() -> SessionConfig {
    SessionConfig {
        max_message: usize::MAX,
        max_frame: usize::MAX,
        control_rate: 0,
        message_timeout: Duration::ZERO,
        ..SessionConfig::default()
    }
}
