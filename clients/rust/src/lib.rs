//! A client for Postern, a WebSocket service behind an API gateway: channels, and plain messages.
//!
//! [`Config`] creates a [`Client`] of channels, its [`Events`], and its [`Driver`], which runs on any executor:
//!
//! ```no_run
//! use postern_client::{Config, Event, SubscribeOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let config = Config::new("ws://localhost:8000/channels").header("Cookie", "session=…");
//!     let (client, mut events, driver) = config.build()?;
//!     smol::spawn(driver.run()).detach();
//!     client.subscribe("news", SubscribeOptions { recoverable: true, ..Default::default() }).await?;
//!     client.publish("news", &"Hello").await?;
//!     while let Some(event) = events.next().await {
//!         if let Event::Publication { channel, publication } = event {
//!             println!("{channel}: {}", publication.data);
//!         }
//!     }
//!     Ok(())
//! })
//! # }
//! ```
//!
//! The client connects again after each loss of the connection, with [exponential backoff and full jitter](Backoff), subscribes
//! again, and recovers the publications that it has missed; [`Recovery`] states whether all are there. It refreshes tokens by a
//! [source of tokens](Config::token_source).
//!
//! [`Machine`] is the same client without sockets and clocks, for other runtimes and for tests.
//!
//! # Modules
//! * [`machine`]: the state machine.
//! * [`protocol`]: the values of the client protocol.
//! * [`close`]: close codes.

mod backoff;
#[cfg(feature = "driver")]
mod client;
pub mod close;
mod event;
#[cfg(feature = "driver")]
mod link;
pub mod machine;
pub mod plain;
pub mod protocol;
#[cfg(feature = "driver")]
mod transport;

pub use backoff::Backoff;
#[cfg(feature = "driver")]
pub use client::{Client, Config, Driver, Events};
pub use event::{Answer, Event, Recovery, Request, RequestError, TokenError};
pub use machine::{Machine, MachineConfig, SubscribeOptions};
#[cfg(feature = "driver")]
pub use transport::InvalidTarget;
