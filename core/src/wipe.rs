//! Overwrites memory that may contain a credential: a request head, a message with a token.

use zeroize::Zeroize;

/// Received bytes that are overwritten after the turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wipe {
    /// None.
    #[default]
    Nothing,
    /// The bytes of this read.
    Read,
    /// The whole read buffer and the inflater: a message may have arrived in several reads, or compressed.
    Buffers,
}

/// The length of the longest bytes that may be a message with a token only. Larger messages are not overwritten when their buffer
/// grows, because that would cost time for each of them.
pub(crate) const LONGEST: usize = 16 * 1024;

/// Reserves capacity for more bytes. If the buffer has to move, the memory that it leaves is overwritten.
#[inline]
pub(crate) fn reserve(buffer: &mut Vec<u8>, more: usize) {
    if buffer.capacity() - buffer.len() < more {
        grow(buffer, more);
    }
}

/// Overwrites the stack below the caller, because functions that it has called may have left bytes of a message there: simdutf8
/// copies the last 63 bytes of a text.
#[cold]
#[inline(never)]
pub(crate) fn stack() {
    [0_u64; STACK / size_of::<u64>()].zeroize();
}

/// The bytes of the stack that are overwritten: several times as many as the functions of a turn use.
const STACK: usize = 8 * 1024;

#[cold]
fn grow(buffer: &mut Vec<u8>, more: usize) {
    if buffer.len() > LONGEST {
        return buffer.reserve(more);
    }
    let len = buffer.len().saturating_add(more).max(2 * buffer.capacity());
    let mut larger = Vec::with_capacity(len);
    larger.extend_from_slice(buffer);
    std::mem::replace(buffer, larger).zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_as_a_vector_does() {
        for (len, capacity, more) in
            [(0, 0, 0), (0, 0, 5), (3, 3, 1), (3, 10, 7), (100, 100, 300), (20_000, 20_000, 1)]
        {
            let mut buffer = Vec::with_capacity(capacity);
            buffer.resize(len, 7);
            let before = buffer.capacity();
            reserve(&mut buffer, more);
            assert!(buffer.capacity() >= len + more, "{len}, {more}");
            assert_eq!(buffer.capacity() == before, before >= len + more, "{len}, {more}");
            assert_eq!(buffer, vec![7; len]);
        }
    }
}
