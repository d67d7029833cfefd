//! Frames as bytes: headers, masking, the payload of Close. Knows nothing of messages and of order; that is
//! [`session`](crate::session)'s.

mod close;
mod error;
mod header;
mod mask;

pub use error::ProtocolError;

pub(crate) use close::{parse_close, write_close};
pub(crate) use header::{
    FrameHeader, FrameKind, MAX_CONTROL, MAX_HEADER, write_compressed_frame, write_frame, write_header,
};
pub(crate) use mask::{append_unmasked, unmask};

use std::fmt;

use tungstenite::protocol::frame::coding::{Data, OpCode};

/// What a data message is (RFC 6455 §5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl DataKind {
    pub(crate) fn opcode(self) -> OpCode {
        OpCode::Data(match self {
            DataKind::Text => Data::Text,
            DataKind::Binary => Data::Binary,
        })
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
