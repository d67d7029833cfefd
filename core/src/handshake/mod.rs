//! The opening handshake of the server: from the first byte to the 101, or to the refusal.
//!
//! The types enforce the order: [`HeadReader`] finds the end of the head, [`UpgradeRequest::parse`] parses it,
//! [`UpgradeRequest::identify`] returns an [`Admission`], and only an admission can be [accepted](Admission::accept). Every
//! step can fail with a [`HandshakeError`], which [`reject`] sends to the client.
//!
//! ```
//! use std::net::SocketAddr;
//! use std::sync::Arc;
//! use std::time::Instant;
//! use postern_core::handshake::{reject, HandshakeConfig, HeadReader, Peer, Reply, UpgradeRequest};
//! use postern_core::{ConnectionId, Input};
//!
//! let config = HandshakeConfig::default();
//! let peer = Peer::from(SocketAddr::from(([127, 0, 0, 1], 40_000)));
//! let mut read = *b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-ID: 123\r\n\r\n";
//!
//! let mut input = Input::new(&mut read);
//! let mut head = HeadReader::new(config.max_head).receive(&mut input).unwrap().expect("a whole head");
//! let admission = UpgradeRequest::parse(&mut head, &config).and_then(|request| request.identify(peer, &config));
//! let mut out = Vec::new();
//! match admission {
//!     Ok(admission) => assert_eq!(admission.accept(&mut out, &config, ConnectionId(1)).identity.id(), "123"),
//!     Err(error) => reject(&mut out, error, Reply::default()),
//! }
//! assert!(out.starts_with(b"HTTP/1.1 101 "));
//! ```

mod admission;
mod assertion;
mod assertion_error;
mod bearer;
mod body;
mod client;
mod config;
mod date;
mod display;
mod error;
mod gate;
mod head;
mod health;
mod host;
mod identity;
mod opaque;
mod origin;
mod query;
mod request;
mod request_id;
mod respond;
mod revocation;
mod secret;
mod single_header;
mod subprotocol;
mod target;
mod trust;

#[cfg(test)]
mod tests;

pub use crate::deflate::Deflate;
pub use admission::{Accepted, Admission};
pub use assertion::{Asserted, Assertion, AssertionVerifier};
pub use assertion_error::AssertionError;
pub(crate) use body::EmptyBody;
pub use client::{Client, ClientAddress};
pub use config::{HandshakeConfig, Reject};
pub use display::NameEncoding;
pub use error::HandshakeError;
pub use gate::Gate;
pub use head::HeadReader;
pub use health::Readiness;
pub use host::{Authority, default_port};
pub use identity::{Identity, IdentityHeaders, IdentityRules, IdentityValues, TokenDetails};
pub use opaque::IdCharset;
pub use origin::{AllowedOrigins, InvalidOrigin, OriginPattern};
pub use query::Query;
pub(crate) use request::Request;
pub use request::UpgradeRequest;
pub use request_id::RequestId;
pub use respond::{Reply, reject};
pub(crate) use respond::{report_health, report_refresh};
pub use revocation::{Revocation, Revocations};
pub use secret::{ProxySecret, SecretStore, Secrets};
pub use trust::{Peer, TrustedProxies, parse_block};
