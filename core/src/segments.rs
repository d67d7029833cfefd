//! Large payloads on their way out: sent from where they lie, not copied behind the others.

use std::io::IoSlice;
use std::time::Instant;

use arrayvec::ArrayVec;

use crate::input::Payload;
use crate::policy::Backlog;
use crate::turn::Buffers;

/// Payloads that belong between the bytes of the cork buffer. They lie in the read buffer, or own their memory.
///
/// ```text
///   cork     [ header | frame | frame | header | frame ]
///   parts             ^ payload                ^ payload
/// ```
#[derive(Debug, Default)]
pub(crate) struct OutputSegments<'b> {
    list: ArrayVec<Part<'b>, MOST>,
}

#[derive(Debug)]
struct Part<'b> {
    /// How many bytes of the cork buffer go before it.
    at: usize,
    payload: Payload<'b>,
}

/// More payloads than this go into the cork buffer.
const MOST: usize = 16;

/// From how many bytes on a payload is a part: less is copied faster than it is named to the kernel.
pub(crate) const MIN_SEGMENT: usize = 4 * 1024;

/// Pieces of one write: the parts, what is between them, and what is at the ends.
pub(crate) type Slices<'s> = ArrayVec<IoSlice<'s>, { 2 * MOST + 1 }>;

impl<'b> OutputSegments<'b> {
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.list.is_full()
    }

    /// Takes a payload that goes behind the first `at` bytes of the cork buffer. There must be room.
    #[inline]
    pub(crate) fn push(&mut self, at: usize, payload: Payload<'b>) {
        self.list.push(Part { at, payload });
    }

    /// All that is to be written, in its order.
    pub(crate) fn slices<'s>(&'s self, cork: &'s [u8]) -> Slices<'s> {
        let mut slices = Slices::new();
        let mut done = 0;
        for part in &self.list {
            slices.push(IoSlice::new(cork.get(done..part.at).unwrap_or_default()));
            slices.push(IoSlice::new(&part.payload));
            done = part.at;
        }
        slices.push(IoSlice::new(cork.get(done..).unwrap_or_default()));
        slices
    }

    /// What is left of it after the first `sent` bytes, as a backlog. A payload that owns its memory and is the
    /// last thing becomes the backlog without being copied.
    pub(crate) fn into_backlog(mut self, cork: &[u8], sent: usize, now: Instant) -> Backlog {
        let owns_its_end =
            |last: &Part<'_>| last.at == cork.len() && matches!(last.payload, Payload::Owned(_));
        let last = if self.list.last().is_some_and(owns_its_end) { self.list.pop() } else { None };
        let Some(Part { payload, .. }) = last else {
            return Backlog::resume(self.gather(cork, sent), 0, now);
        };
        let before: usize = self.slices(cork).iter().map(|slice| slice.len()).sum();
        match sent.checked_sub(before) {
            Some(sent) => Backlog::resume(payload.into_vec(), sent, now),
            None => {
                let mut unsent = self.gather(cork, sent);
                unsent.extend_from_slice(&payload);
                Backlog::resume(unsent, 0, now)
            }
        }
    }

    /// Copies all but the first `skip` bytes.
    fn gather(&self, cork: &[u8], mut skip: usize) -> Vec<u8> {
        let slices = self.slices(cork);
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        // To the byte: a peer that takes nothing is given no more memory than it needs.
        let mut bytes = Vec::with_capacity(total.saturating_sub(skip));
        for slice in slices {
            bytes.extend_from_slice(slice.get(skip..).unwrap_or_default());
            skip = skip.saturating_sub(slice.len());
        }
        bytes
    }

    /// All is written: memory that can serve again is kept.
    pub(crate) fn give_back(self, buffers: &mut Buffers) {
        for part in self.list {
            if let Payload::Owned(bytes) = part.payload {
                buffers.put(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_sent_the_backlog_is_the_rest() {
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
                let written: Vec<u8> =
                    segments.slices(cork).iter().flat_map(|slice| slice.to_vec()).collect();
                assert!(written == whole);
                let backlog = segments.into_backlog(cork, sent, Instant::now());
                assert!(backlog.pending() == &whole[sent..], "after {sent} bytes");
            }
        }
    }
}
