//! A WebSocket server that admits only users that a gateway has authenticated, and a client for it, without any input or
//! output.
//!
//! It has no socket, clock, thread, source of randomness or logger: bytes and instants go in, bytes and events come out.
//! `postern` drives it with mio, `postern-smol` with smol.
//!
//! To write a runtime, start with [`Worker`]. To handle one connection without the handshake, start with [`Session`].
//!
//! In the order in which a connection meets them:
//!
//! * [`handshake`]: from the first byte to the 101 or the refusal: authentication and admission.
//! * [`frame`]: frames as bytes.
//! * [`session`]: one admitted user: messages, control frames, the closing handshake, limits.
//! * [`policy`]: small state machines for limits, keep-alive and shutdown.
//! * [`worker`]: all connections of one worker, their timers, and the application.
//! * [`close_code`]: close codes.
//! * [`record`]: records for the log.
//!
//! [`client`] is the handshake of the client's side. After it, both sides are a [`Session`], with one [`Role`] or the other.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod close_code;
mod compact_instant;
pub mod handshake;
mod id;
pub mod record;

pub mod frame;
pub mod policy;
pub mod session;
pub mod worker;

pub mod client;

mod deflate;
mod field;
mod input;
mod role;
mod segments;
mod turn;

pub use close_code::CloseCode;
pub use compact_instant::{CompactInstant, TimeBase};
pub use frame::OpCode;
pub use id::ConnectionId;
pub use input::{Input, Payload, Text, Utf8};
pub use record::{Record, Recorder, Summary};
pub use role::{Client, Role, Server};
pub use session::{Event, Session, SessionConfig, Transport};
pub use turn::{Codec, Turn};
pub use worker::{Key, Worker, WorkerConfig};
