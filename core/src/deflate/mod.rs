//! permessage-deflate (RFC 7692): the negotiation, and the compression of messages.

#[cfg_attr(not(feature = "compression"), path = "disabled.rs")]
mod codec;
mod negotiation;

pub use negotiation::Deflate;

pub(crate) use codec::{DeflateCodec, IS_ENABLED, InflateError, longest_compressed};
