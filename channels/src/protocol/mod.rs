//! The client protocol: commands from clients, replies and pushes to them, in JSON or Protobuf.
//!
//! A WebSocket message contains one or more commands, which [`Commands`] reads one after the other; [`Message`] joins replies
//! and pushes into one. Decoding borrows from the message: a string is copied only if it has escapes, and values of the
//! application are slices of the message.
//!
//! In JSON, values of the application are embedded unchanged, so each must be one JSON text without line breaks.
//! [`Raw::compact`] and [`Raw::one_line`] make sure of that where a value enters, for both encodings.

mod command;
mod endpoint;
mod frame;
mod json;
mod malformed;
mod protobuf;
mod raw;
mod reply;

pub use command::{
    Command, ConnectRequest, Delta, Filter, FilterNode, HistoryRequest, PublishRequest, Request, RpcRequest,
    StreamPosition, SubRefreshRequest, SubscribeRequest,
};
pub use endpoint::{Endpoint, JSON_SUBPROTOCOL, PROTOBUF_SUBPROTOCOL};
pub use frame::{Commands, Message};
pub use json::encode::{write_result as write_json_result, write_string as write_json_string};
pub use malformed::Malformed;
pub use raw::{MAX_DEPTH, Raw, RawError};
pub use reply::{
    Answer, ClientInfo, ConnectResult, Data, HistoryResult, Publication, Push, PushBody, Reply, ReplyError,
    SubscribePush, SubscribeResult, Tags, Topic,
};

/// The encoding of a connection, which holds for both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// JSON objects, separated by newlines, in text messages.
    Json,
    /// Protobuf messages after their lengths, in binary messages.
    Protobuf,
}

impl Encoding {
    /// Returns a whole message that contains a ping.
    pub fn ping(self) -> &'static [u8] {
        match self {
            Encoding::Json => b"{}",
            Encoding::Protobuf => &[0],
        }
    }
}

#[cfg(test)]
mod tests;
