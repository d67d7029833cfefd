//! What a runtime lends the core for one turn of one connection.

use std::time::Instant;

use crate::deflate::DeflateCodec;

/// One turn: the time, and the place for what is to be sent.
#[derive(Debug)]
pub struct Turn<'t> {
    /// When this turn is. Read once for a batch of events, not for each message; never goes back.
    pub now: Instant,
    /// Where output is appended: the worker's cork buffer, or the connection's backlog if that is not
    /// empty. One write sends it, however many frames it holds.
    pub out: &'t mut Vec<u8>,
    /// Whether `out` is a backlog: the peer has not taken what stands in it.
    pub is_backlogged: bool,
    /// The worker's codec.
    pub codec: &'t mut Codec,
}

/// What sessions of one worker share while a message is decoded or encoded: the two contexts of
/// permessage-deflate. Without context takeover (RFC 7692 §7.1.1) one pair serves all connections.
#[derive(Debug, Default)]
pub struct Codec {
    pub(crate) deflate: DeflateCodec,
}

impl Codec {
    /// A codec that owns nothing until a message is compressed.
    pub fn new() -> Codec {
        Codec::default()
    }
}
