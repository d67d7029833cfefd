//! The assertions of the fuzz targets. The targets themselves are one line each, so that `cargo test` can run the same
//! checks over the corpora.
//!
//! * [`head`]: any bytes as an upgrade request.
//! * [`connection`]: one admitted client, with a runtime whose every step the fuzzer chooses, against tungstenite.
//! * [`worker`]: several connections of one worker, with any call in any order.
//! * [`inflate`]: compressed messages. [`extensions`]: the negotiation of compression.
//! * [`log_line`]: values that users control, in the log.
//! * [`assertion`]: signed identities.
//! * [`channels_file`]: the channels file. [`permissions`]: decisions about channels.
//! * [`json_commands`], [`protobuf_commands`]: messages of clients of channels. [`json_text`]: values that they contain.
//! * [`delta`]: differences between publications.
//! * [`deliveries`]: messages of a broker. [`relay`]: a node whose Redis answers and sends anything.
//!
//! All assert more than that nothing panics. Where they can, they compare with a second implementation that was written
//! from the standard, or with another library.

pub mod assertion;
pub mod channels_file;
pub mod connection;
pub mod deliveries;
pub mod delta;
pub mod extensions;
pub mod head;
pub mod inflate;
pub mod json_commands;
pub mod json_text;
pub mod log_line;
pub mod permissions;
pub mod protobuf_commands;
pub mod relay;
pub mod worker;

mod driver;
mod frame;
#[cfg(test)]
mod golden;
mod notes;
mod portions;
mod reference;
mod request;
mod response;
mod rules;
mod runtime;
mod script;
mod sites;
#[path = "../../channels/tests/protocol/to_proto.rs"]
mod to_proto;
mod unescape;
mod upgrade;
mod wire;
