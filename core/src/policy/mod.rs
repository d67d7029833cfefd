//! Small machines that judge. They know nothing of frames and sockets; each is told what happened and gives
//! a verdict, and [`service`](crate::service) maps verdicts to close codes.
//!
//! Heartbeat and expiry of identities will stand beside them.

mod backlog;
mod rate_limit;

pub use backlog::Backlog;
pub use rate_limit::{Pace, RateLimit};
