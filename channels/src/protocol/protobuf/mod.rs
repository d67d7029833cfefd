//! The encoding Protobuf.

pub(super) mod decode;
pub(super) mod encode;
mod wire;
