//! The codes and reasons of a Close that the server sends.

use crate::ErrorCode;

/// A Close that the server sends. After codes from 3000 to 3499 SDKs reconnect, after codes from 3500 to 3999 they do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Disconnect {
    /// The connection ends normally.
    ConnectionClosed = 3000,
    /// The server stops.
    Shutdown = 3001,
    /// A fault of the server.
    InternalServerError = 3004,
    /// The credentials of the connection have expired.
    ConnectionExpired = 3005,
    /// The credentials of a server-side subscription have expired.
    SubscriptionExpired = 3006,
    /// The client does not read fast enough.
    Slow = 3008,
    /// A server-side subscription has missed publications that are not in the history any more.
    InsufficientState = 3010,
    /// An operator wants the client to reconnect.
    ForceReconnect = 3011,
    /// The client has not answered a ping.
    NoPong = 3012,
    /// A rate is exceeded, or the client has sent too many commands that wait for the reply to `connect`.
    TooManyRequests = 3013,
    /// The connection token is invalid.
    InvalidToken = 3500,
    /// A message is not a command, or a command is not allowed at this point.
    BadRequest = 3501,
    /// The client has not sent a `connect` in time.
    Stale = 3502,
    /// An operator has disconnected the client.
    ForceDisconnect = 3503,
    /// The user has too many connections.
    ConnectionLimit = 3504,
    /// The connection has too many server-side subscriptions.
    ChannelLimit = 3505,
    /// The encoding of the connection cannot carry the data of a server-side subscription.
    InappropriateProtocol = 3506,
    /// The user may not be connected.
    PermissionDenied = 3507,
    /// The server has no handler for the message.
    NotAvailable = 3508,
}

impl Disconnect {
    /// Returns the code of the Close.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Returns the reason of the Close. It is neither empty nor JSON: `centrifuge-js` looks at the code only then.
    pub fn reason(self) -> &'static str {
        match self {
            Disconnect::ConnectionClosed => "connection closed",
            Disconnect::Shutdown => "shutdown",
            Disconnect::InternalServerError => "internal server error",
            Disconnect::ConnectionExpired => "connection expired",
            Disconnect::SubscriptionExpired => "subscription expired",
            Disconnect::Slow => "slow",
            Disconnect::InsufficientState => "insufficient state",
            Disconnect::ForceReconnect => "force reconnect",
            Disconnect::NoPong => "no pong",
            Disconnect::TooManyRequests => "too many requests",
            Disconnect::InvalidToken => "invalid token",
            Disconnect::BadRequest => "bad request",
            Disconnect::Stale => "stale",
            Disconnect::ForceDisconnect => "force disconnect",
            Disconnect::ConnectionLimit => "connection limit",
            Disconnect::ChannelLimit => "channel limit",
            Disconnect::InappropriateProtocol => "inappropriate protocol",
            Disconnect::PermissionDenied => "permission denied",
            Disconnect::NotAvailable => "not available",
        }
    }

    /// Returns the Close for a client without commands, which gets no error replies.
    pub(crate) fn instead_of(error: ErrorCode) -> Disconnect {
        match error {
            ErrorCode::Expired | ErrorCode::TokenExpired => Disconnect::ConnectionExpired,
            ErrorCode::TooManyRequests => Disconnect::TooManyRequests,
            ErrorCode::PermissionDenied => Disconnect::PermissionDenied,
            ErrorCode::Internal
            | ErrorCode::Unauthorized
            | ErrorCode::UnknownChannel
            | ErrorCode::MethodNotFound
            | ErrorCode::AlreadySubscribed
            | ErrorCode::LimitExceeded
            | ErrorCode::BadRequest
            | ErrorCode::NotAvailable
            | ErrorCode::UnrecoverablePosition => Disconnect::InternalServerError,
        }
    }

    /// Returns whether the protocol reserves a code for closes by the server.
    pub fn is_reserved(code: u16) -> bool {
        matches!(code, 3000..=3014 | 3500..=3509)
    }

    /// Returns whether SDKs reconnect after it.
    pub fn reconnects(self) -> bool {
        self.code() < 3500
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_whether_a_client_reconnects() {
        assert!(Disconnect::Shutdown.reconnects() && Disconnect::NoPong.reconnects());
        assert!(!Disconnect::InvalidToken.reconnects() && !Disconnect::Stale.reconnects());
    }
}
