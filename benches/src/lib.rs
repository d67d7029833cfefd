//! The shared parts of the benches: a captured request, reads filled with messages, a session that receives them, a
//! socket in memory, and three echo servers that use it.
//!
//! The benches measure the code of a server without the kernel: they use no system calls, threads or clock. Each
//! bench states the question that it answers. Compare only runs of the same machine, and ratios rather than
//! nanoseconds:
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

pub use echo::{Echo, SessionEcho, TungsteniteEcho, WorkerEcho};
pub use full_read::{FullRead, Kind};
pub use reader::Reader;
pub use socket::Socket;

/// An upgrade request of Chromium behind Traefik with forward auth, as a backend received it: 23 lines, a cookie with
/// a token, and the identity.
pub const REQUEST: &[u8] = include_bytes!("../../tests/captures/traefik-chromium-cookie.http");

/// Returns the gateway: a peer that the default settings trust.
pub fn gateway() -> Peer {
    Peer::Tcp { ip: IpAddr::from([127, 0, 0, 1]), port: 40_000 }
}

/// Returns a Criterion whose times keep the whole run below two minutes. An iteration takes nanoseconds or
/// microseconds, so there are thousands in two seconds.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}
