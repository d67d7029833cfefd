//! The events of a client, and the results of its requests.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::protocol::{ClientInfo, History, Json, Position, PresenceStats, Publication, ServerError};

/// An event of a client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The server has answered `connect`.
    Connected {
        /// The id of the connection, which other clients see in presence.
        client: String,
        /// Data of the server.
        data: Option<Json>,
    },
    /// The connection is lost. Another attempt follows.
    Reconnecting {
        /// The close code of the server, or one of [`codes`](crate::close::codes).
        code: u16,
        /// The reason.
        reason: String,
        /// The delay before the next attempt.
        delay: Duration,
        /// The number of attempts that have failed before, and of connections that ended at once. Events of attempts may be left out while the
        /// application takes none.
        failed: u32,
    },
    /// The client is not connected any more, and will not connect again by itself.
    Disconnected {
        /// The close code of the server, or one of [`codes`](crate::close::codes).
        code: u16,
        /// The reason.
        reason: String,
    },
    /// The client is subscribed to a channel. What it has missed follows as [`Event::Publication`].
    Subscribed {
        /// The channel.
        channel: String,
        /// Whether publications may have been missed since the previous subscription.
        recovery: Recovery,
        /// The position, if the channel has a history.
        position: Option<Position>,
        /// Data of the server about the subscription.
        data: Option<Json>,
    },
    /// The subscription is interrupted by the server, and is being made again.
    Resubscribing {
        /// The channel.
        channel: String,
        /// The code of the server, or of its error.
        code: u32,
        /// The reason.
        reason: String,
    },
    /// The client is not subscribed to a channel any more, or the server has refused the subscription.
    Unsubscribed {
        /// The channel.
        channel: String,
        /// The code of the server, or of its error. 0: the application has called `unsubscribe`.
        code: u32,
        /// The reason.
        reason: String,
    },
    /// A message in a channel.
    Publication {
        /// The channel.
        channel: String,
        /// The message.
        publication: Publication,
    },
    /// A client has subscribed to a channel.
    Join {
        /// The channel.
        channel: String,
        /// The client.
        info: ClientInfo,
    },
    /// A client has left a channel.
    Leave {
        /// The channel.
        channel: String,
        /// The client.
        info: ClientInfo,
    },
    /// A message of the server that belongs to no channel.
    Message {
        /// The content.
        data: Json,
    },
}

/// Whether a subscription has missed publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// It is the first one, or the channel has no history: nothing was recovered.
    None,
    /// All publications since the previous subscription follow.
    Complete,
    /// Some publications are lost. The application should load the state of the channel again.
    Incomplete,
}

/// A request that the server answers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Request {
    /// Publishes a message.
    Publish {
        /// The channel.
        channel: String,
        /// The content.
        data: Json,
    },
    /// Asks for the clients in a channel.
    Presence {
        /// The channel.
        channel: String,
    },
    /// Asks for the number of clients in a channel.
    PresenceStats {
        /// The channel.
        channel: String,
    },
    /// Asks for publications of the past.
    History {
        /// The channel.
        channel: String,
        /// The largest number of publications. 0: only the position. Negative: as many as the server allows.
        limit: i32,
        /// The position after which, or with `reverse` before which, they begin.
        since: Option<Position>,
        /// The newest first.
        reverse: bool,
    },
    /// Calls a method of the backend.
    Rpc {
        /// The method.
        method: String,
        /// The argument.
        data: Json,
    },
}

/// The answer to a [`Request`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Answer {
    /// The message is published.
    Published,
    /// The clients, by the id of their connections.
    Presence(BTreeMap<String, ClientInfo>),
    /// The number of clients.
    PresenceStats(PresenceStats),
    /// Publications of the past.
    History(History),
    /// The result of the method.
    Rpc(Option<Json>),
}

/// The failure of a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The server has refused it.
    Server(ServerError),
    /// There was no answer in time. The server may have executed the request.
    Timeout,
    /// The connection was lost before the answer. The server may have executed the request.
    ConnectionLost,
    /// The client is disconnected, or has ended.
    Disconnected,
    /// Too many requests wait for answers.
    TooMany,
    /// The answer belongs to another kind of request.
    BadReply,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Server(error) => write!(f, "the server has refused the request: {error}"),
            RequestError::Timeout => f.write_str("the server has not answered in time"),
            RequestError::ConnectionLost => f.write_str("the connection was lost before the answer"),
            RequestError::Disconnected => f.write_str("the client is disconnected"),
            RequestError::TooMany => f.write_str("too many requests wait for answers"),
            RequestError::BadReply => f.write_str("the server has sent another answer than expected"),
        }
    }
}

impl Error for RequestError {}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl Error for ServerError {}

/// The failure of a source of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// The user may not have a token: the connection or the subscription ends.
    Unauthorized,
    /// There is no token at the moment. The client asks again later.
    Unavailable,
}
