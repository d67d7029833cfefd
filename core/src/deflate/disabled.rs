//! The codec of a build without the feature `compression`: compression is never negotiated, so no message is compressed.

/// A codec that does not compress.
#[derive(Debug, Default)]
pub(crate) struct DeflateCodec;

/// Why a message could not be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// It is longer than a message may be.
    #[expect(dead_code, reason = "no message is inflated here")]
    TooBig,
    /// It is not DEFLATE.
    Invalid,
}

impl DeflateCodec {
    /// Refuses every message.
    pub(crate) fn inflate(&mut self, _: &[u8], _: usize) -> Result<Vec<u8>, InflateError> {
        Err(InflateError::Invalid)
    }

    /// Does nothing.
    pub(crate) fn wipe(&mut self) {}

    /// Returns `None`: the payload is sent uncompressed.
    pub(crate) fn deflate(&mut self, _: &[u8], _: u8, _: usize) -> Option<&[u8]> {
        None
    }
}

/// Returns `limit`, because no message is compressed.
pub(crate) fn longest_compressed(limit: usize) -> usize {
    limit
}

/// Whether messages can be compressed.
pub(crate) const IS_ENABLED: bool = false;
