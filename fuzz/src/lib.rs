//! What the fuzz targets assert. The targets themselves are one line each, so that `cargo test` can run the
//! same checks over the corpora.
//!
//! * [`head`]: any bytes as an upgrade request.
//! * [`frames`]: any bytes behind an admitted one, with a runtime whose every step the fuzzer chooses.
//!
//! Both say more than that nothing panics. Where they can, they ask somebody else: a second reader of requests
//! that takes nothing for granted, and tungstenite for frames in either direction.

pub mod contract;
pub mod differential;
pub mod extensions;
pub mod frames;
pub mod head;
pub mod head_reference;
pub mod inflate;
pub mod log_line;
pub mod session;

mod crowd;
mod cuts;
mod frame;
mod notes;
mod portions;
mod reference;
mod request;
mod response;
mod runtime;
mod script;
mod sites;
mod story;
mod unescape;
mod upgrade;
mod wire;
