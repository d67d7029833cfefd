//! Small machines that judge. They know nothing of frames and sockets; each is told what happened and gives
//! a verdict, and [`service`](crate::service) maps verdicts to close codes.
//!
//! Rate limits, heartbeat and expiry of identities will stand beside [`Backlog`].

mod backlog;

pub use backlog::Backlog;
