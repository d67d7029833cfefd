//! Typed records for the log. The host formats them.

use std::time::Duration;

use crate::close_code::CloseCode;

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
        /// Which connection.
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
        /// Which connection.
        connection: ConnectionId,
        /// Who sent it.
        identity: &'a Identity,
        /// Text or binary.
        kind: DataKind,
        /// The payload, unmasked; valid UTF-8 where `kind` is text.
        payload: &'a [u8],
    },
    /// A user's side answered a ping.
    Pong {
        /// Which connection.
        connection: ConnectionId,
        /// Whose it is.
        identity: &'a Identity,
        /// From the ping to the pong, exact to a microsecond.
        round_trip: Duration,
    },
    /// A client sent faster than it may, so that its reading pauses for a moment
    /// ([`RatePolicy::Pause`](crate::session::RatePolicy::Pause)). There is one for each pause.
    RateExceeded {
        /// Which connection.
        connection: ConnectionId,
        /// Whose it is.
        identity: &'a Identity,
        /// Which of its rates.
        kind: RateKind,
        /// What that rate is.
        per_second: u64,
        /// Whether the client had kept its rates until then, for ten seconds at least.
        is_first: bool,
    },
    /// A client that had exceeded a rate has kept its rates for ten seconds. There is one for each
    /// [`Record::RateExceeded`] that was the first, unless the connection ended before.
    RateKept {
        /// Which connection.
        connection: ConnectionId,
        /// Whose it is.
        identity: &'a Identity,
        /// From the first pause to the end of the last.
        lasted: Duration,
        /// How many pauses there were.
        pauses: u64,
    },
    /// An admitted connection is gone. There is exactly one for each [`Record::Established`].
    Closed {
        /// Which connection.
        connection: ConnectionId,
        /// Whose it was.
        identity: &'a Identity,
        /// Why, from which side, and with which close code.
        ending: Ending,
        /// Why, in a few words: [`Session::reason`](crate::Session::reason). An operator's reason is as it arrived.
        reason: &'a str,
        /// What there was until then.
        summary: Summary,
    },
    /// An upgrade was refused.
    Rejected {
        /// Which connection.
        connection: ConnectionId,
        /// Who asked.
        peer: Peer,
        /// How the gateway calls the request, if it says so and the request could be read.
        request_id: Option<&'a str>,
        /// The client, if the request could be read and a trusted proxy says who it is.
        client: Option<Client<'a>>,
        /// Why; it knows its HTTP status.
        error: HandshakeError,
        /// The code of the Close frame that was sent instead of the status
        /// ([`Reject::Close`](crate::handshake::Reject::Close)).
        close_code: Option<CloseCode>,
        /// From the accepted socket to the refusal.
        took: Duration,
    },
    /// The peer left before its request was complete, or sent no byte of one in time.
    Abandoned {
        /// Which connection.
        connection: ConnectionId,
        /// Who it was.
        peer: Peer,
        /// How many bytes of the request had come.
        received: usize,
    },
}

/// What there is to say of an admitted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Since the 101.
    pub lasted: Duration,
    /// What the last ping took, exact to a microsecond; `None` if none was answered.
    pub round_trip: Option<Duration>,
    /// Messages and payload bytes, both ways.
    pub traffic: Traffic,
}

/// Where records go. Called on the hot path, once a message; none may block.
pub trait Recorder {
    /// Takes note of one record.
    fn record(&mut self, record: &Record<'_>);

    /// Whether it wants a [`Record::Message`] for each message. Asked once a turn.
    fn wants_messages(&self) -> bool {
        true
    }

    /// Whether it can take no more for now. Nothing is read then that would have to be recorded.
    fn is_full(&self) -> bool {
        false
    }
}

/// Takes note of nothing.
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
    fn silence_is_not_asked_for_messages() {
        assert!(!NullRecorder.wants_messages());
    }
}
