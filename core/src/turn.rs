//! The time, the output buffer and the codec of one turn of one connection.

use std::mem;
use std::time::Instant;

use crate::deflate::DeflateCodec;
use crate::wipe::Wipe;

/// One turn of a connection: the time, and the buffer for its output.
#[derive(Debug)]
pub struct Turn<'t> {
    /// The current time. Read once for a batch of events, not for each message; it never goes back.
    pub now: Instant,
    /// The buffer to which output is appended: pending output if `is_backlogged`, else an empty buffer, so that one write
    /// sends all frames of the turn.
    pub out: &'t mut Vec<u8>,
    /// Whether `out` is a backlog: output that the peer has not accepted yet.
    pub is_backlogged: bool,
    /// The worker's codec.
    pub codec: &'t mut Codec,
}

/// The state for encoding and decoding messages that all sessions of a worker share: the two contexts of permessage-deflate,
/// without context takeover (RFC 7692 §7.1.1), and buffers for large messages.
#[derive(Debug, Default)]
pub struct Codec {
    pub(crate) deflate: DeflateCodec,
    pub(crate) buffers: Buffers,
    /// The received bytes that must be overwritten.
    wipe: Wipe,
}

impl Codec {
    /// Creates a codec. It allocates no memory until a message is compressed, or large.
    pub fn new() -> Codec {
        Codec::default()
    }

    /// Creates a codec for connections that together may hold `max_memory` bytes: it keeps at most a sixteenth of that
    /// in spare buffers.
    pub(crate) fn within(max_memory: usize) -> Codec {
        let most = MOST_KEPT.min(max_memory / 16);
        Codec { buffers: Buffers { most, ..Buffers::default() }, ..Codec::default() }
    }

    /// Overwrites received bytes after the turn.
    pub(crate) fn wipe(&mut self, wipe: Wipe) {
        self.wipe = self.wipe.max(wipe);
    }

    /// Returns the received bytes to overwrite now.
    pub(crate) fn take_wipe(&mut self) -> Wipe {
        let wipe = mem::take(&mut self.wipe);
        if wipe == Wipe::Buffers {
            self.deflate.wipe();
        }
        wipe
    }
}

/// Buffers of large messages that were handled, kept for the next ones: new memory would cost a fault for each page.
#[derive(Debug)]
pub(crate) struct Buffers {
    kept: Vec<Vec<u8>>,
    /// The most bytes that may be kept.
    most: usize,
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers { kept: Vec::new(), most: MOST_KEPT }
    }
}

impl Buffers {
    /// Returns an empty buffer, with memory if there is some.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.kept.pop().unwrap_or_default()
    }

    /// Keeps the memory of a buffer, unless it is small, or very large, or enough is kept.
    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        let kept: usize = self.kept.iter().map(Vec::capacity).sum();
        if buffer.capacity() >= LARGE && kept + buffer.capacity() <= self.most {
            buffer.clear();
            self.kept.push(buffer);
        }
    }
}

/// The size in bytes from which a message is large: it gets a kept buffer, and is read directly into it.
pub(crate) const LARGE: usize = 64 * 1024;

/// The most memory, in bytes, that is kept for large messages.
const MOST_KEPT: usize = 4 * 1024 * 1024 + 4 * LARGE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let mut buffers = Buffers::default();
        buffers.put(Vec::with_capacity(65_535));
        assert_eq!(buffers.take().capacity(), 0, "too small");
        buffers.put(Vec::with_capacity(65_536));
        assert_eq!(buffers.take().capacity(), 65_536);
        buffers.put(Vec::with_capacity(2 * MOST_KEPT));
        assert_eq!(buffers.take().capacity(), 0, "too large");
        (0..100).for_each(|_| buffers.put(vec![7; 1024 * 1024]));
        assert_eq!(buffers.kept.len(), 4);
        (0..100).for_each(|_| buffers.put(vec![7; 64 * 1024]));
        assert_eq!(buffers.kept.len(), 8, "a little more, for buffers of the least size");
        buffers.kept.truncate(4);
        let buffer = buffers.take();
        assert_eq!((buffer.len(), buffer.capacity()), (0, 1024 * 1024));
    }

    /// Returns the number of buffers of 64 KiB that a codec keeps.
    fn kept(mut codec: Codec) -> usize {
        (0..1000).for_each(|_| codec.buffers.put(Vec::with_capacity(LARGE)));
        codec.buffers.kept.len()
    }

    #[test]
    fn what_is_kept_for_later_is_little_beside_what_may_be_held() {
        assert_eq!(kept(Codec::new()), 68);
        assert_eq!(kept(Codec::within(1 << 30)), 68);
        assert_eq!(kept(Codec::within(8 << 20)), 8);
        assert_eq!(kept(Codec::within(1)), 0);
    }
}
