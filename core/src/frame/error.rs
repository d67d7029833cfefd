//! The errors of a peer after the handshake.

use std::fmt;

use crate::close_code::CloseCode;
use crate::listed::listed;

listed! {
/// The peer violated RFC 6455 or a limit. A Close is already in the output, and the session returns the same error again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtocolError {
    /// An opcode of 3 to 7 or 11 to 15 (§5.2).
    ReservedOpcode,
    /// RSV1, RSV2 or RSV3 without an extension that gives it a meaning (§5.2).
    ReservedBits,
    /// A client's frame without a mask (§5.1).
    Unmasked,
    /// A server's frame with a mask (§5.1).
    Masked,
    /// A control frame in fragments (§5.5).
    FragmentedControl,
    /// A control frame of more than 125 bytes (§5.5).
    LongControl,
    /// A length in more bytes than it needs (§5.2).
    NonMinimalLength,
    /// A length with its highest bit set (§5.2).
    LengthOverflow,
    /// A continuation without a message to continue (§5.4).
    UnexpectedContinuation,
    /// A new message inside a fragmented one (§5.4).
    ExpectedContinuation,
    /// A Close whose payload is one byte long (§5.5.1).
    ClosePayload,
    /// A close code that no peer may send (§7.4).
    CloseCode,
    /// Text or a close reason that is not UTF-8 (§8.1).
    Utf8,
    /// A compressed message that is not DEFLATE (RFC 7692 §7.2.2).
    Inflate,
    /// A frame over `max_frame`, but not over `max_message`.
    FrameTooBig,
    /// A message over `max_message`, or a frame that is.
    MessageTooBig,
    /// A message in more than `max_fragments` frames.
    TooManyFragments,
    /// More control frames than `control_rate`.
    ControlRate,
    /// A message that took longer than `message_timeout`.
    MessageTimeout,
}
}

impl ProtocolError {
    /// Returns the code of the Close (RFC 6455 §7.4.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            ProtocolError::ReservedOpcode
            | ProtocolError::ReservedBits
            | ProtocolError::Unmasked
            | ProtocolError::Masked
            | ProtocolError::FragmentedControl
            | ProtocolError::LongControl
            | ProtocolError::NonMinimalLength
            | ProtocolError::LengthOverflow
            | ProtocolError::UnexpectedContinuation
            | ProtocolError::ExpectedContinuation
            | ProtocolError::ClosePayload
            | ProtocolError::CloseCode => CloseCode::PROTOCOL_ERROR,
            ProtocolError::Utf8 | ProtocolError::Inflate => CloseCode::INVALID_PAYLOAD,
            ProtocolError::FrameTooBig | ProtocolError::MessageTooBig => CloseCode::MESSAGE_TOO_BIG,
            ProtocolError::TooManyFragments | ProtocolError::ControlRate | ProtocolError::MessageTimeout => {
                CloseCode::POLICY_VIOLATION
            }
        }
    }

    /// Returns the reason in the Close and in the log. It contains nothing from the peer.
    pub fn reason(self) -> &'static str {
        match self {
            ProtocolError::ReservedOpcode => "reserved opcode",
            ProtocolError::ReservedBits => "reserved bits",
            ProtocolError::Unmasked => "frame not masked",
            ProtocolError::Masked => "frame masked",
            ProtocolError::FragmentedControl => "fragmented control frame",
            ProtocolError::LongControl => "control frame too long",
            ProtocolError::NonMinimalLength => "length not minimal",
            ProtocolError::LengthOverflow => "length over 2^63",
            ProtocolError::UnexpectedContinuation => "nothing to continue",
            ProtocolError::ExpectedContinuation => "message not finished",
            ProtocolError::ClosePayload => "close payload of one byte",
            ProtocolError::CloseCode => "invalid close code",
            ProtocolError::Utf8 => "invalid UTF-8",
            ProtocolError::Inflate => "invalid compressed data",
            ProtocolError::FrameTooBig => "frame too big",
            ProtocolError::MessageTooBig => "message too big",
            ProtocolError::TooManyFragments => "too many fragments",
            ProtocolError::ControlRate => "too many control frames",
            ProtocolError::MessageTimeout => "message took too long",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ProtocolError {}
