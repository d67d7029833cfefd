//! The parts of a Postern process around the core: settings, the log, listeners and signals.
//!
//! This crate contains neither protocol nor policy, which are in [`postern_core`], and no event loop for users. Its
//! types for connections are types of `std`, so that `postern` (mio), `postern-smol` and other runtimes can use them.
//! The control port for operators uses smol. It runs on its own thread or in the executor of the runtime.
//!
//! Modules in reading order:
//!
//! * [`settings`] turns flags, environment, `.env` and defaults into one [`Settings`](settings::Settings).
//! * [`lifecycle`] is everything between start and exit: signals, the supervisor, the restart and the shutdown.
//! * [`listen`] binds listeners, accepts connections, and handles the errors of `accept`.
//! * [`socket`] has the system calls that receive from and send to a connection.
//! * [`workers`] is the interface through which other threads submit requests to the workers; `liveness` probes them.
//! * [`application`] says which application the workers serve.
//! * [`channels`] has the channels that the workers share, and hands their events to the workers.
//! * [`inbox`] carries messages of other threads to a worker.
//! * [`users`] counts the connections of each user; `revocations` has the revoked credentials.
//! * `outbound` sends HTTP requests to other services.
//! * [`hooks`] sends events to a backend.
//! * [`source`] publishes the messages of message brokers.
//! * [`engine`] connects the channels of several nodes by Redis.
//! * `tls` connects with these servers by TLS.
//! * [`assertion`] verifies signed tokens, and keeps the keys for it.
//! * [`checker`] checks the tokens that clients send on open connections.
//! * [`refusal`] has the texts of refused upgrades.
//! * [`log`] formats records as lines and writes them on a separate thread.
//! * [`metrics`] counts what the workers record.
//! * [`control`] is the port for health checks, metrics and operators; [`healthcheck`] is its client.
//!
//! A build for a small host leaves optional features out (`Cargo.toml` lists them). Each of them has a stub module,
//! `disabled.rs`, with the same API; `settings/feature.rs` says which values its settings may have then.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
// Code that only a disabled feature uses stays unused, and the linker drops it.
#![cfg_attr(
    not(all(
        feature = "amqp",
        feature = "assertion",
        feature = "control",
        feature = "hooks",
        feature = "nats",
        feature = "redis"
    )),
    allow(dead_code, unused_imports, unreachable_pub)
)]

mod resources;
pub mod settings;

pub mod lifecycle;

pub mod listen;
pub mod socket;

pub mod application;
pub mod channels;
pub mod inbox;
mod liveness;
pub mod users;
pub mod workers;

#[cfg(feature = "outbound")]
mod outbound;

#[cfg_attr(not(feature = "assertion"), path = "assertion/disabled.rs")]
pub mod assertion;

#[cfg_attr(not(feature = "assertion"), path = "checker/disabled.rs")]
pub mod checker;

#[cfg_attr(not(feature = "hooks"), path = "hooks/disabled.rs")]
pub mod hooks;

pub mod source;

#[cfg_attr(not(feature = "redis"), path = "engine/disabled.rs")]
pub mod engine;

#[cfg_attr(not(feature = "tls"), path = "tls/disabled.rs")]
mod tls;

pub mod log;
pub mod metrics;

#[cfg_attr(not(feature = "control"), path = "control/disabled.rs")]
pub mod control;
pub mod healthcheck;

pub mod refusal;

mod channels_file;
mod escape;
mod revocations;
mod url;
