//! Typed records for the log. The host formats them.

use std::time::Duration;

use crate::close_code::{self, CloseCode};

use crate::frame::DataKind;
use crate::handshake::{Client, HandshakeError, Identity, Peer};
use crate::id::ConnectionId;
use crate::policy::RateKind;
use crate::session::{Ending, Traffic};

/// An event for the log.
///
/// Borrowed values are as they arrived: the host must escape them.
// Exhaustive on purpose: a log that ignored a new record would lose it without a warning of the compiler.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    /// A user was admitted: the 101 is on its way.
    Established {
        /// The connection.
        connection: ConnectionId,
        /// The peer of the socket: the gateway, not the user.
        peer: Peer,
        /// The user.
        identity: &'a Identity,
        /// The subprotocol that was answered, if any. Never a token.
        subprotocol: Option<&'a str>,
        /// Whether the client offered subprotocols and none was answered, so that a browser fails the connection.
        is_offer_unanswered: bool,
        /// From the accepted socket to the 101.
        took: Duration,
    },
    /// A data message arrived whole.
    Message {
        /// The connection.
        connection: ConnectionId,
        /// The user that sent it.
        identity: &'a Identity,
        /// Text or binary.
        kind: DataKind,
        /// The payload, unmasked; valid UTF-8 where `kind` is text.
        payload: &'a [u8],
    },
    /// A client publishes a message to a channel.
    Publication {
        /// The connection.
        connection: ConnectionId,
        /// The user that publishes it.
        identity: &'a Identity,
        /// The name of the channel.
        channel: &'a str,
        /// Text or binary.
        kind: DataKind,
        /// The payload; valid UTF-8 if `kind` is text.
        payload: &'a [u8],
    },
    /// A peer answered a ping.
    Pong {
        /// The connection.
        connection: ConnectionId,
        /// The user.
        identity: &'a Identity,
        /// From the ping to the pong, exact to a microsecond.
        round_trip: Duration,
    },
    /// A client exceeded a rate, so that reading from it pauses ([`RatePolicy::Pause`](crate::session::RatePolicy::Pause)).
    /// There is one record for each pause.
    RateExceeded {
        /// The connection.
        connection: ConnectionId,
        /// The user.
        identity: &'a Identity,
        /// The rate that it exceeded.
        kind: RateKind,
        /// The limit.
        per_second: u64,
        /// Whether the client had kept its rates for at least ten seconds before.
        is_first: bool,
    },
    /// A client that had exceeded a rate has kept its rates for ten seconds. There is one record for each
    /// [`Record::RateExceeded`] with `is_first`, unless the connection ended before.
    RateKept {
        /// The connection.
        connection: ConnectionId,
        /// The user.
        identity: &'a Identity,
        /// From the first pause to the end of the last.
        lasted: Duration,
        /// The number of pauses.
        pauses: u64,
    },
    /// A newer token of the user keeps a connection open.
    TokenRefreshed {
        /// The connection.
        connection: ConnectionId,
        /// The user, with the new token.
        identity: &'a Identity,
    },
    /// A message of a client with a newer token does not refresh its connection, which stays as it was.
    RefreshRefused {
        /// The connection.
        connection: ConnectionId,
        /// The user.
        identity: &'a Identity,
        /// The cause.
        refusal: RefreshRefusal,
    },
    /// The server begins to close a connection, because its credentials no longer hold. [`Record::Closed`] follows.
    CredentialsEnded {
        /// The connection.
        connection: ConnectionId,
        /// The user.
        identity: &'a Identity,
        /// The cause.
        cause: CredentialsEnd,
    },
    /// An admitted connection ended. There is exactly one record for each [`Record::Established`].
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// The user.
        identity: &'a Identity,
        /// The cause, with the side that ended it and the close code.
        ending: Ending,
        /// The cause in a few words: [`Session::reason`](crate::Session::reason). An operator's reason is as it arrived.
        reason: &'a str,
        /// Duration, round trip and traffic.
        summary: Summary,
    },
    /// An upgrade, or a refresh through the gateway, was refused.
    Rejected {
        /// The connection.
        connection: ConnectionId,
        /// The peer of the socket: the gateway, not the user.
        peer: Peer,
        /// The id of the request, if the gateway sent one and the request could be read.
        request_id: Option<&'a str>,
        /// The address of the client, if the request could be read and a trusted proxy sent it.
        client: Option<Client<'a>>,
        /// Whether it is a refresh.
        is_refresh: bool,
        /// The reason of the refusal, with its HTTP status.
        error: HandshakeError,
        /// The code of the Close frame that was sent instead of the status
        /// ([`Reject::Close`](crate::handshake::Reject::Close)).
        close_code: Option<CloseCode>,
        /// From the accepted socket to the refusal.
        took: Duration,
    },
    /// The peer left before its request was complete, or sent no byte of one in time.
    Abandoned {
        /// The connection.
        connection: ConnectionId,
        /// The peer of the socket: the gateway, not the user.
        peer: Peer,
        /// The number of bytes of the request that arrived.
        received: usize,
    },
}

/// Why the credentials of a connection no longer hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsEnd {
    /// The token has expired, and was not refreshed in time.
    Expired,
    /// The token, the session or the user was revoked.
    Revoked,
    /// The token does not hold any more, by a check before a message.
    Refused,
    /// The token could not be checked before a message.
    Unchecked,
}

impl CredentialsEnd {
    /// Returns the reason of the Close.
    pub fn reason(self) -> &'static str {
        match self {
            CredentialsEnd::Expired => "token expired",
            CredentialsEnd::Revoked => "revoked",
            CredentialsEnd::Refused => "token refused",
            CredentialsEnd::Unchecked => "token not checked",
        }
    }

    /// Returns the code of the Close.
    pub fn close_code(self) -> CloseCode {
        match self {
            CredentialsEnd::Expired | CredentialsEnd::Refused => CloseCode(close_code::UNAUTHORIZED),
            CredentialsEnd::Revoked => CloseCode(close_code::FORBIDDEN),
            CredentialsEnd::Unchecked => CloseCode::TRY_AGAIN_LATER,
        }
    }
}

/// Why a message with a token does not refresh the token of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshRefusal {
    /// It is not one JSON object with one token.
    Malformed,
    /// The token is longer than [`BearerToken::MAX`](crate::BearerToken::MAX).
    TooLong,
    /// The client sends too many of them.
    TooMany,
    /// The token does not hold.
    TokenRefused,
    /// The token has expired.
    Expired,
    /// The token, its session or the user is revoked.
    Revoked,
    /// The token belongs to another user.
    OtherUser,
    /// The token cannot be checked now.
    Unavailable,
}

impl RefreshRefusal {
    /// Returns the code, for the client and for the log.
    pub fn code(self) -> &'static str {
        match self {
            RefreshRefusal::Malformed => "malformed",
            RefreshRefusal::TooLong => "too_long",
            RefreshRefusal::TooMany => "too_many",
            RefreshRefusal::TokenRefused => "token_refused",
            RefreshRefusal::Expired => "token_expired",
            RefreshRefusal::Revoked => "revoked",
            RefreshRefusal::OtherUser => "other_user",
            RefreshRefusal::Unavailable => "unavailable",
        }
    }
}

/// The totals of an admitted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The time since the 101.
    pub lasted: Duration,
    /// The round trip of the last ping, exact to a microsecond; `None` if none was answered.
    pub round_trip: Option<Duration>,
    /// Messages and payload bytes, both ways.
    pub traffic: Traffic,
}

/// Receives records. Called on the hot path, once per message, so no method may block.
pub trait Recorder {
    /// Handles one record.
    fn record(&mut self, record: &Record<'_>);

    /// Whether it wants a [`Record::Message`] for each message. Called once per turn.
    fn wants_messages(&self) -> bool {
        true
    }

    /// Whether it cannot accept more records now. Input that would cause a record is not read then.
    fn is_full(&self) -> bool {
        false
    }
}

/// Ignores all records.
#[derive(Debug, Default, Clone, Copy)]
pub struct NullRecorder;

impl Recorder for NullRecorder {
    #[inline]
    fn record(&mut self, _: &Record<'_>) {}

    #[inline]
    fn wants_messages(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_called_by_its_number() {
        assert_eq!(ConnectionId(42).to_string(), "42");
    }

    #[test]
    fn the_null_recorder_wants_no_messages() {
        assert!(!NullRecorder.wants_messages());
    }
}
