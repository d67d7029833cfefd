//! The opening handshake of a client (RFC 6455 §4.1): writes the request, and checks the answer.
//!
//! After a 101, continue with a [`Session`](crate::Session) of the role [`Client`](crate::Client), which
//! [`Session::client`](crate::Session::client) creates.
//!
//! ```
//! # use std::{sync::Arc, time::Instant};
//! use postern_core::client::{ClientHandshake, ClientRequest};
//! use postern_core::{Input, Session, SessionConfig};
//!
//! let request = ClientRequest { headers: &[("User-ID", "123")], ..ClientRequest::new("localhost", "/ws") };
//! let mut out = Vec::new();
//! let mut handshake = ClientHandshake::start(&request, *b"the sample nonce", &mut out)?;
//! assert!(out.starts_with(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n"));
//!
//! let mut read = *b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
//! let connected = handshake.receive(&mut Input::new(&mut read))?.expect("a whole answer");
//! let keys = || [1, 2, 3, 4]; // From a strong source of entropy.
//! let session = Session::client(Arc::new(SessionConfig::default()), keys).with_deflate(connected.deflate);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod request;
mod response;

#[cfg(test)]
mod tests;

pub use error::{ConnectError, InvalidRequest};
pub use request::ClientRequest;
pub use response::{ClientHandshake, Connected};
