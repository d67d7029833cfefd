//! Sans-IO channels: publications to subscribers, presence, history and recovery.
//!
//! Clients speak the client protocol of Centrifugo, in JSON or Protobuf, so its maintained SDKs can be used. Postern is not
//! affiliated with Centrifugo.
//!
//! Like the core, this crate has no socket, clock, thread, lock or source of randomness: bytes and times go in, bytes and plain
//! data come out.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods,
        clippy::wildcard_enum_match_arm
    )
)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod channel;
pub mod claims;
mod delivery;
pub mod delta;
mod disconnect;
mod error;
pub mod exchange;
pub mod filter;
mod hash;
pub mod hub;
pub mod namespaces;
pub mod permissions;
pub mod protocol;
pub mod publication;

mod application;
pub mod backend;
mod client;
mod config;
mod counts;
pub mod engine;
mod expiries;
pub mod hooks;
pub mod inbox;
pub mod message;
mod pings;
mod random;
pub mod relay;
pub mod results;
pub mod source;
mod view;

pub use application::{Channels, SUBPROTOCOLS};
pub use config::ChannelsConfig;
pub use counts::Counts;
pub use disconnect::Disconnect;
pub use error::ErrorCode;
