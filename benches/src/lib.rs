//! What the benches share: one captured request, reads full of messages, a session that takes them, a socket in
//! memory, and the three servers that echo through it.
//!
//! The benches count what the code of a server costs a message, without the kernel: no system call, no thread,
//! no clock. Each of them names the question that it answers. Compare runs of the same machine only, and
//! look at the ratio of the sides rather than at the nanoseconds:
//!
//! ```text
//! cargo bench -p postern-benches -- --save-baseline before
//! cargo bench -p postern-benches -- --baseline before
//! ```

use std::net::IpAddr;
use std::time::Duration;

use criterion::Criterion;
use postern_core::handshake::Peer;

mod echo;
mod full_read;
mod reader;
mod socket;

pub use echo::{Echo, ServiceEcho, SessionEcho, TungsteniteEcho};
pub use full_read::{FullRead, Kind};
pub use reader::Reader;
pub use socket::Socket;

/// An upgrade of Chromium behind Traefik with its forward auth, byte for byte as a backend received it: 23
/// lines, a cookie with a token, the identity.
pub const REQUEST: &[u8] = include_bytes!("../../tests/captures/traefik-chromium-cookie.http");

/// The gateway: a peer that the default settings trust.
pub fn gateway() -> Peer {
    Peer::Tcp { ip: IpAddr::from([127, 0, 0, 1]), port: 40_000 }
}

/// Criterion with times that keep the whole run below two minutes. A bench here is micro- or nanoseconds
/// long, so that two seconds are thousands of rounds.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}
