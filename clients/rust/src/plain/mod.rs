//! Plain messages: a client of `echo`, or of any other service without channels, that connects again.
//!
//! Without a protocol above WebSocket, nothing acknowledges a message: one that was sent shortly before the connection was lost
//! may be lost with it.
//!
//! [`Machine`] is the same client without sockets and clocks, for other runtimes and for tests.

#[cfg(feature = "driver")]
mod driver;
mod machine;

use std::time::Duration;

#[cfg(feature = "driver")]
pub use driver::{Client, Config, Driver, Events};
pub use machine::{Action, Machine};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// An event of a plain client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A connection is open.
    Opened,
    /// A message has arrived.
    Message(Message),
    /// The connection is lost, or could not be opened. Another attempt follows.
    Reconnecting {
        /// The close code of the server, or one of [`codes`](crate::close::codes).
        code: u16,
        /// The reason.
        reason: String,
        /// The delay before the next attempt.
        delay: Duration,
    },
    /// The client does not connect again.
    Closed {
        /// The close code of the server.
        code: u16,
        /// The reason.
        reason: String,
    },
}
