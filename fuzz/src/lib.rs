//! What the fuzz targets assert. The targets themselves are one line each, so that `cargo test` can run the
//! same checks over the corpora.
//!
//! * [`head`] and [`frames`]: any bytes as an upgrade request, and behind an admitted one; lean, to be run often.
//! * [`head_reference`] and [`differential`]: the same, and somebody else's opinion of it.
//! * [`contract`]: one connection, with a runtime whose every step the fuzzer chooses.
//! * [`session`]: several connections, with any call in any order.
//! * [`inflate`]: compressed messages. [`extensions`]: what is agreed on before there are any.
//! * [`log_line`]: what users control, in the log.
//! * [`assertion`]: signed identities.
//!
//! All say more than that nothing panics. Where they can, they ask a second reader that takes nothing for granted
//! and was written from the standard, or another library.

pub mod assertion;
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
#[cfg(test)]
mod golden;
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
