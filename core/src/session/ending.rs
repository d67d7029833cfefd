//! The end of a connection, and the traffic of its session.

use std::fmt;
use std::ops::AddAssign;

use crate::close_code::CloseCode;
use crate::frame::ProtocolError;

/// The first cause of a connection's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The peer sent Close, with this code or without one.
    PeerClosed(Option<CloseCode>),
    /// This side sent the first Close, with this code.
    Closed(CloseCode),
    /// The peer violated the protocol or a limit.
    Failed(ProtocolError),
    /// The peer's side of the connection ended without a Close.
    Eof,
    /// The connection was reset, or the socket had another error.
    Broken,
    /// The peer accepted no output for longer than [`write_timeout`](super::SessionConfig::write_timeout).
    WriteStalled,
    /// The connection was evicted, because memory was short and it had pending output.
    Evicted,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client, or the gateway.
    Client,
    /// This process.
    Server,
}

impl Ending {
    /// Returns the status code of RFC 6455 §7.1.5: the one in the first Close frame, 1005 if that had none, 1006 if
    /// there was no Close frame.
    pub fn code(self) -> u16 {
        match self {
            Ending::PeerClosed(Some(code)) | Ending::Closed(code) => code.into(),
            Ending::PeerClosed(None) => 1005,
            Ending::Failed(error) => error.close_code().into(),
            Ending::Eof | Ending::Broken | Ending::WriteStalled | Ending::Evicted => 1006,
        }
    }

    /// Returns the side that ended it. If the peer violates the protocol, that is the server.
    pub fn side(self) -> Side {
        match self {
            Ending::PeerClosed(_) | Ending::Eof | Ending::Broken => Side::Client,
            Ending::Closed(_) | Ending::Failed(_) | Ending::WriteStalled | Ending::Evicted => Side::Server,
        }
    }

    /// Returns the cause in a few words, without anything from the peer. [`Session::reason`](crate::Session::reason)
    /// also has the reasons of callers.
    pub fn reason(self) -> &'static str {
        match self {
            Ending::PeerClosed(_) => "closed by the client",
            Ending::Closed(code) => code.reason(),
            Ending::Failed(error) => error.reason(),
            Ending::Eof => "connection ended without a close frame",
            Ending::Broken => "connection broke",
            Ending::WriteStalled => "nothing could be sent for too long",
            Ending::Evicted => "too slow while memory was short",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Client => "client",
            Side::Server => "server",
        })
    }
}

/// The traffic of a session: data messages and their payload bytes, without frame headers and control frames.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Messages from the peer.
    pub messages_received: u64,
    /// Their payload bytes.
    pub bytes_received: u64,
    /// Messages to the peer.
    pub messages_sent: u64,
    /// Their payload bytes.
    pub bytes_sent: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.messages_received += other.messages_received;
        self.bytes_received += other.bytes_received;
        self.messages_sent += other.messages_sent;
        self.bytes_sent += other.bytes_sent;
    }
}
