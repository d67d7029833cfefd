//! The errors of the client's handshake.

use std::fmt;

/// A request that is not sent, because the server would not read it as intended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The host is empty, or has a character that is not allowed in `Host`.
    Host,
    /// The target does not begin with `/`, or has a space or a control character.
    Target,
    /// A header's name is not a token (RFC 9110 §5.6.2), or is a header that the handshake sets itself.
    HeaderName,
    /// A header's value has a control character.
    HeaderValue,
    /// A subprotocol is not a token, or is offered twice (RFC 6455 §4.1).
    Subprotocol,
}

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidRequest::Host => "the host is not one",
            InvalidRequest::Target => "the target must begin with / and have no spaces",
            InvalidRequest::HeaderName => "a header's name is not a token, or the handshake's own",
            InvalidRequest::HeaderValue => "a header's value has a control character",
            InvalidRequest::Subprotocol => "a subprotocol is not a token, or is offered twice",
        })
    }
}

impl std::error::Error for InvalidRequest {}

/// The server refused the upgrade, or its answer is not a valid one (RFC 6455 §4.1). The connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server answered with another status than 101.
    Refused {
        /// The status.
        status: u16,
        /// `Retry-After`, if the answer has it in seconds.
        retry_after: Option<u32>,
    },
    /// The answer is not HTTP/1.1.
    NotHttp,
    /// The answer's head is longer than [`ClientHandshake`](super::ClientHandshake) reads.
    HeadTooLarge,
    /// A 101 without `Upgrade: websocket`.
    NoUpgrade,
    /// A 101 without `Connection: Upgrade`.
    NoConnectionUpgrade,
    /// A 101 whose `Sec-WebSocket-Accept` does not match the key, for example from a cache.
    Accept,
    /// A subprotocol that was not offered.
    Subprotocol,
    /// An extension that was not offered, or not with these parameters.
    Extension,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectError::Refused { status, .. } => return write!(f, "refused with status {status}"),
            ConnectError::NotHttp => "the answer is not HTTP/1.1",
            ConnectError::HeadTooLarge => "the answer's head is too long",
            ConnectError::NoUpgrade => "a 101 without Upgrade: websocket",
            ConnectError::NoConnectionUpgrade => "a 101 without Connection: Upgrade",
            ConnectError::Accept => "Sec-WebSocket-Accept does not answer the key",
            ConnectError::Subprotocol => "a subprotocol that was not offered",
            ConnectError::Extension => "an extension that was not offered",
        })
    }
}

impl std::error::Error for ConnectError {}
