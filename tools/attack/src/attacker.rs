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

/// A connection that attacks, or is about to.
pub(crate) struct Attacker {
    stream: TcpStream,
    stage: Stage,
    /// Tells it from others that had its place before.
    pub(crate) id: u64,
    /// When its attack began.
    pub(crate) began: Option<Instant>,
    /// When the server told it that this is the end.
    pub(crate) told: Option<Instant>,
    /// Whether it is among those that have something to do.
    pub(crate) is_listed: bool,
}

/// It sends nothing but the answer to a Close, so its masking keys are of no account.
type Reader = Session<Client<fn() -> [u8; 4]>>;

enum Stage {
    /// So many bytes of the request are sent.
    Opening { handshake: ClientHandshake, request: Vec<u8>, sent: usize },
    /// So many bytes of the attack are sent. What comes is read by the core's client.
    Attacking { session: Box<Reader>, sent: usize },
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing, and no more for now.
    Nothing,
    /// So many bytes of no account.
    Bytes(usize),
    /// The 101.
    Upgraded,
    /// That this is the end, and why.
    Told(End),
    /// That the server has ended its side.
    Eof,
    /// That there is no connection any more.
    Gone,
}

impl Attacker {
    /// Opens a socket without waiting for it. `request` and `handshake` belong together.
    pub(crate) fn connect(
        to: SocketAddr,
        id: u64,
        handshake: ClientHandshake,
        request: Vec<u8>,
    ) -> io::Result<Attacker> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        // Who is done with it closes it by a reset. Thousands a second would else use up all ports, which stay taken
        // for a minute after an orderly end.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        let stage = Stage::Opening { handshake, request, sent: 0 };
        Ok(Attacker { stream, stage, id, began: None, told: None, is_listed: false })
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Opening { .. })
    }

    /// Whether it has more to send, for ever.
    pub(crate) fn is_endless(&self, plan: &Plan) -> bool {
        if self.is_opening() { plan.drip.is_some() } else { !plan.again.is_empty() }
    }

    /// Sends what the socket takes of the request or of the attack: of a request that drips one byte. Zero if it is
    /// full, or if there is nothing more to be sent.
    ///
    /// # Errors
    /// The server is gone.
    pub(crate) fn send(&mut self, plan: &Plan) -> io::Result<usize> {
        let (bytes, sent) = match &mut self.stage {
            Stage::Opening { request, sent, .. } => {
                let most = if plan.drip.is_some() { 1 } else { usize::MAX };
                let rest = request.get(*sent..).unwrap_or_default();
                (rest.get(..most).unwrap_or(rest), sent)
            }
            Stage::Attacking { sent, .. } => {
                let bytes = match plan.first.get(*sent..).unwrap_or_default() {
                    [] if plan.again.is_empty() => return Ok(0),
                    [] => plan.again.get((*sent - plan.first.len()) % plan.again.len()..).unwrap_or_default(),
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
            // Not connected yet: an event tells when it is.
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
    /// The server does not listen, or what it says is not what a server says.
    pub(crate) fn receive(&mut self, plan: &Plan, buffer: &mut [u8]) -> Result<Heard, Failure> {
        let n = loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(Heard::Eof),
                Ok(n) => break n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(Heard::Nothing);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    return Err("the server does not listen".into());
                }
                Err(_) => return Ok(Heard::Gone),
            }
        };
        let mut input = Input::new(buffer.get_mut(..n).unwrap_or_default());
        match &mut self.stage {
            Stage::Opening { handshake, .. } => match handshake.receive(&mut input) {
                Ok(None) => Ok(Heard::Bytes(n)),
                Ok(Some(connected)) if connected.deflate.is_none() && plan.offers_deflate => {
                    Err("the server does not compress: POSTERN_COMPRESSION=on".into())
                }
                Ok(Some(connected)) => {
                    let reader: Reader = Session::client(Arc::new(anything()), || [0; 4]);
                    let session = Box::new(reader.with_deflate(connected.deflate));
                    self.stage = Stage::Attacking { session, sent: 0 };
                    self.began = Some(Instant::now());
                    Ok(Heard::Upgraded)
                }
                Err(ConnectError::Refused { status, .. }) => Ok(Heard::Told(End::Status(status))),
                Err(error) => Err(error.into()),
            },
            Stage::Attacking { session, .. } => {
                let (mut out, mut codec) = (Vec::new(), Codec::new());
                let mut turn =
                    Turn { now: Instant::now(), out: &mut out, is_backlogged: false, codec: &mut codec };
                while let Some(event) = session.next_event(&mut turn, &mut input)? {
                    if let Event::Close { code, .. } = event {
                        return Ok(Heard::Told(End::Close(code.map(u16::from))));
                    }
                }
                Ok(Heard::Bytes(n))
            }
        }
    }
}

/// Without limits: what a server may do is not what is asked here.
fn anything() -> SessionConfig {
    SessionConfig {
        max_message: usize::MAX,
        max_frame: usize::MAX,
        control_rate: 0,
        message_timeout: Duration::ZERO,
        ..SessionConfig::default()
    }
}
