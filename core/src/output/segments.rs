//! Large payloads of the output, which are sent from their own buffers and not copied into the output buffer.

use std::io::IoSlice;
use std::time::Instant;

use arrayvec::ArrayVec;

use super::queue::OutputQueue;
use crate::input::Payload;
use crate::turn::Buffers;

/// Payloads that are sent between the bytes of the cork buffer. They are in the read buffer, or own their memory.
///
/// ```text
///   cork       [ header | frame | frame | header | frame ]
///   segments            ^ payload                ^ payload
/// ```
#[derive(Debug, Default)]
pub(crate) struct OutputSegments<'b> {
    list: ArrayVec<Segment<'b>, MAX_SEGMENTS>,
}

#[derive(Debug)]
struct Segment<'b> {
    /// The number of bytes of the cork buffer before it.
    at: usize,
    payload: Payload<'b>,
}

/// The most segments of one write. Further payloads are copied into the cork buffer.
const MAX_SEGMENTS: usize = 16;

/// The smallest payload that is a segment, in bytes. Copying a smaller one is faster than another piece of a vectored write.
pub(crate) const MIN_SEGMENT: usize = 4 * 1024;

impl<'b> OutputSegments<'b> {
    /// Whether there are no payloads.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the number of bytes of all payloads.
    pub(crate) fn len(&self) -> usize {
        self.list.iter().map(|segment| segment.payload.len()).sum()
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.list.is_full()
    }

    /// Adds a payload after the first `at` bytes of the cork buffer. [`is_full`](OutputSegments::is_full) must be false.
    #[inline]
    pub(crate) fn push(&mut self, at: usize, payload: Payload<'b>) {
        self.list.push(Segment { at, payload });
    }

    /// Writes all pieces of the output, in their order, by one call of `write`.
    #[inline]
    pub(crate) fn write<R>(&self, cork: &[u8], write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut pieces = ArrayVec::<_, { 2 * MAX_SEGMENTS + 1 }>::new();
        let mut done = 0;
        for segment in &self.list {
            pieces.push(IoSlice::new(cork.get(done..segment.at).unwrap_or_default()));
            pieces.push(IoSlice::new(&segment.payload));
            done = segment.at;
        }
        pieces.push(IoSlice::new(cork.get(done..).unwrap_or_default()));
        write(&pieces)
    }

    /// Returns the output after its first `sent` bytes, as a queue. If the last piece is a payload that owns its
    /// memory, it becomes the queue without being copied.
    pub(crate) fn into_queue(mut self, cork: &[u8], sent: usize, now: Instant) -> OutputQueue {
        let owns_its_end =
            |last: &Segment<'_>| last.at == cork.len() && matches!(last.payload, Payload::Owned(_));
        let last = if self.list.last().is_some_and(owns_its_end) { self.list.pop() } else { None };
        let Some(Segment { payload, .. }) = last else {
            return OutputQueue::resume(self.gather(cork, sent), 0, now);
        };
        match sent.checked_sub(self.len() + cork.len()) {
            Some(sent) => OutputQueue::resume(payload.into_vec(), sent, now),
            None => {
                let mut unsent = self.gather(cork, sent);
                unsent.extend_from_slice(&payload);
                OutputQueue::resume(unsent, 0, now)
            }
        }
    }

    /// Copies all but the first `skip` bytes.
    fn gather(&self, cork: &[u8], mut skip: usize) -> Vec<u8> {
        // With the exact capacity, because a peer that does not read may keep this memory allocated for long.
        let mut bytes = Vec::with_capacity((self.len() + cork.len()).saturating_sub(skip));
        self.write(cork, |pieces| {
            for piece in pieces {
                bytes.extend_from_slice(piece.get(skip..).unwrap_or_default());
                skip = skip.saturating_sub(piece.len());
            }
        });
        bytes
    }

    /// Keeps the memory of the payloads for later use, after all output is written.
    pub(crate) fn give_back(&mut self, buffers: &mut Buffers) {
        for segment in self.list.drain(..) {
            if let Payload::Owned(bytes) = segment.payload {
                buffers.put(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_sent_the_queue_is_the_rest() {
        let cork = b"aabbcc";
        let large = |byte: u8| vec![byte; MIN_SEGMENT];
        let mut read = large(b'1');
        for last_at in [4, 6] {
            let whole = {
                let mut segments = OutputSegments::default();
                segments.push(2, Payload::Borrowed(&mut read));
                segments.push(last_at, Payload::Owned(large(b'2')));
                segments.gather(cork, 0)
            };
            assert_eq!(whole.len(), cork.len() + 2 * MIN_SEGMENT);
            for sent in (0..whole.len()).step_by(7).chain(whole.len() - 3..whole.len()) {
                let mut segments = OutputSegments::default();
                segments.push(2, Payload::Borrowed(&mut read));
                segments.push(last_at, Payload::Owned(large(b'2')));
                segments
                    .write(cork, |pieces| assert!(pieces.iter().flat_map(|piece| piece.iter()).eq(&whole)));
                let queue = segments.into_queue(cork, sent, Instant::now());
                assert!(queue.pending() == &whole[sent..], "after {sent} bytes");
            }
        }
    }
}
