//! One test for each class of vulnerability that other servers had, as far as the core decides it. What needs sockets
//! and a process is in `tests/tests/vulnerabilities.rs`.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read the clock: some classes are about time"
)]

mod compression;
mod connection;
mod frames;
mod head;
mod payloads;
mod request;
mod resources;
