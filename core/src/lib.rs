//! A WebSocket server that admits only users whom a gateway has vouched for, and a client for it, without any
//! input or output.
//!
//! There is no socket in here, no clock, no thread, no randomness and no logger: bytes and instants go in,
//! bytes and events come out. A runtime carries them; `postern` does it with mio, `postern-smol` with smol,
//! and [`Worker`] says what a third one has to do.
//!
//! In the order in which a connection meets them:
//!
//! * [`handshake`]: from the first byte to the 101 or the refusal; who may connect, and on whose word.
//! * [`frame`]: frames as bytes.
//! * [`session`]: one admitted user: messages, control frames, the closing handshake, limits.
//! * [`policy`]: small machines that judge without knowing what a frame is.
//! * [`worker`]: all connections of one worker, their timers, and the application.
//! * [`close_code`]: the codes of our own that connections are closed with.
//! * [`record`]: what is worth a line in the log.
//!
//! The other end has a place of its own: [`client`], the handshake of who connects. After it, both ends are a
//! [`Session`], of one [`Role`] or the other.

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
