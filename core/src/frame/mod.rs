//! Frames as bytes: headers, masking, the payload of Close. Messages and the order of frames are in
//! [`session`](crate::session).

mod close;
mod error;
mod header;
mod mask;

pub use error::ProtocolError;

pub(crate) use close::{parse_close, write_close};
pub(crate) use header::{
    FrameHeader, FrameKind, MAX_CLOSE_REASON, MAX_CONTROL, MAX_HEADER, write_compressed_frame, write_frame,
    write_header,
};
pub(crate) use mask::{append_unmasked, unmask};

use std::fmt;

/// The opcodes of frames (RFC 6455 §5.2). The value of each is its four bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpCode {
    /// A further frame of a fragmented message.
    Continuation = 0x0,
    /// The first or only frame of a text message.
    Text = 0x1,
    /// The first or only frame of a binary message.
    Binary = 0x2,
    /// The closing handshake.
    Close = 0x8,
    /// A request for a pong.
    Ping = 0x9,
    /// The answer to a ping.
    Pong = 0xa,
}

/// The kind of a control frame (RFC 6455 §5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlKind {
    Close,
    Ping,
    Pong,
}

/// The kind of a data message (RFC 6455 §5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl DataKind {
    pub(crate) fn opcode(self) -> OpCode {
        match self {
            DataKind::Text => OpCode::Text,
            DataKind::Binary => OpCode::Binary,
        }
    }
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataKind::Text => "text",
            DataKind::Binary => "binary",
        })
    }
}
