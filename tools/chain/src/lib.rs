//! The second half of `cargo chain`: runs the Identity service, a gateway and Postern on this machine, without Docker.
//!
//! The first half, `tools/cargo-chain`, builds the programs. The tests start the same gateways with the same
//! configurations, so they use this library, too.
//!
//! In reading order: [`failure`] is the error type, [`workspace`] has the paths of the checkout, [`provision`] downloads programs
//! written by others, [`gateway`] configures the gateways, [`rabbitmq`] the message broker, [`example`] has the examples,
//! [`args`] is the command line, and [`run()`] starts and ends the processes.

pub mod failure;
pub mod workspace;

pub mod provision;

pub mod gateway;
pub mod rabbitmq;

pub mod example;

pub mod args;
mod child;
mod instructions;
mod run;
mod secret;
mod services;

pub use failure::Failure;
pub use run::run;
