//! What a Postern process needs around the core: settings, the log, listeners and signals.
//!
//! There is no protocol in here and no policy: both are [`postern_core`]'s. There is no event loop for users either:
//! what this crate hands out for them is plain `std`, so that `postern` (mio), `postern-smol` and a third runtime use it
//! alike. What talks to operators and not to users, the control port, is written once, on smol, and runs in a thread
//! of its own or in the executor of the runtime.
//!
//! In the order in which a process meets them:
//!
//! * [`settings`]: flags, environment, `.env` and defaults become one [`Settings`](settings::Settings), or a
//!   line for each mistake and the end.
//! * [`log`]: records of the core and of the process become lines, on a thread of their own.
//! * [`assertion`]: who is admitted by a signed token, and the keys that it is judged with.
//! * [`status`]: how far it is, for its supervisor, its successor and the control port.
//! * [`signals`]: the signals of the process, as something to poll for.
//! * [`reload`]: what SIGHUP reads again.
//! * [`supervisor`]: who is told that the process is ready, lives and stops.
//! * [`successor`]: the listeners that it is started with, and to whom it passes them on.
//! * [`listen`]: bound listeners, and what to do when the system gives no more descriptors.
//! * [`socket`]: the system calls of a turn.
//! * [`metrics`]: what workers count.
//! * [`workers`]: how other threads submit jobs to the workers; `liveness` probes them.
//! * [`watchdog`]: signs of life for the supervisor.
//! * [`control`]: the port for health, metrics and operators; [`healthcheck`], who asks there.
//!
//! A build for a small host leaves optional features out (`Cargo.toml` lists them). Each of them has a stub module,
//! `disabled.rs`, with the same API; `settings/parts.rs` says which values its settings may have then.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
// Code that only a disabled feature uses stays unused, and the linker drops it.
#![cfg_attr(
    not(all(feature = "assertion", feature = "control")),
    allow(dead_code, unused_imports, unreachable_pub)
)]

#[cfg_attr(not(feature = "assertion"), path = "assertion/disabled.rs")]
pub mod assertion;
#[cfg_attr(not(feature = "control"), path = "control/disabled.rs")]
pub mod control;
mod escape;
pub mod healthcheck;
pub mod listen;
mod liveness;
pub mod log;
pub mod metrics;
pub mod reload;
pub mod settings;
pub mod signals;
pub mod socket;
pub mod status;
pub mod successor;
pub mod supervisor;
mod url;
pub mod users;
pub mod watchdog;
pub mod workers;
