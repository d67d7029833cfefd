//! Small state machines for limits. They do not depend on frames and sockets: events go in, verdicts come out, and
//! [`worker`](crate::worker) maps verdicts to close codes.

mod expiry;
mod keep_alive;
mod late_deadline;
mod rate_limit;
mod rates;
mod shutdown;
mod users;

pub use expiry::ExpiryConfig;
pub use keep_alive::{KeepAlive, KeepAliveAction, KeepAliveConfig};
pub use rate_limit::{RateLimit, Verdict};
pub use rates::{Rate, RateKind, Rates, TokenBucket};
pub use shutdown::{DrainConfig, Shutdown, ShutdownAction, ShutdownRequest};
pub use users::{Decision, Replaced, Users};

pub(crate) use late_deadline::extend_if_late;
