//! The frames that many connections of a worker send. Each is encoded and stored once, and a connection refers to it by a
//! number. The references are counted without atomics, because a worker belongs to one thread.

use slab::Slab;

/// The shared frames of a worker.
#[derive(Debug, Default)]
pub(crate) struct FrameTable {
    frames: Slab<Frame>,
    /// The frames that were added since [`FrameTable::remove_unused`] was last called.
    added: Vec<FrameId>,
}

#[derive(Debug)]
struct Frame {
    bytes: Box<[u8]>,
    /// The number of connections whose output contains it.
    references: u32,
}

/// A frame of the table. It is valid as long as it is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameId(u32);

impl FrameTable {
    /// Adds an encoded frame that no connection refers to yet. Call [`remove_unused`](FrameTable::remove_unused) after the
    /// connections refer to it, and before another one can be released.
    pub(crate) fn insert(&mut self, bytes: Vec<u8>) -> FrameId {
        let index = self.frames.insert(Frame { bytes: bytes.into_boxed_slice(), references: 0 });
        // A worker does not have four billion frames at a time: each is referred to by a connection.
        let id = FrameId(u32::try_from(index).unwrap_or(u32::MAX));
        self.added.push(id);
        id
    }

    /// Returns the bytes of a frame.
    pub(crate) fn get(&self, FrameId(index): FrameId) -> &[u8] {
        self.frames.get(index as usize).map_or(&[], |frame| &frame.bytes)
    }

    /// Adds a reference.
    pub(crate) fn retain(&mut self, FrameId(index): FrameId) {
        if let Some(frame) = self.frames.get_mut(index as usize) {
            frame.references += 1;
        }
    }

    /// Removes a reference, and the frame with its last one. Returns the number of bytes that are freed.
    pub(crate) fn release(&mut self, id: FrameId) -> usize {
        if let Some(frame) = self.frames.get_mut(id.0 as usize) {
            frame.references -= 1;
        }
        self.remove_if_unused(id)
    }

    /// Removes the frames to which nothing refers, of those that were added since the last call. Returns the number of bytes
    /// that are freed.
    pub(crate) fn remove_unused(&mut self) -> usize {
        let mut freed = 0;
        while let Some(id) = self.added.pop() {
            freed += self.remove_if_unused(id);
        }
        freed
    }

    fn remove_if_unused(&mut self, FrameId(index): FrameId) -> usize {
        match self.frames.get(index as usize) {
            Some(frame) if frame.references == 0 => self.frames.remove(index as usize).bytes.len(),
            Some(_) | None => 0,
        }
    }

    /// Whether there are no frames.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_removed_with_its_last_reference() {
        let mut table = FrameTable::default();
        let [first, second] = [b"abc".as_slice(), b"de"].map(|bytes| table.insert(bytes.to_vec()));
        table.retain(first);
        table.retain(first);
        assert_eq!((table.get(first), table.get(second)), (&b"abc"[..], &b"de"[..]));
        assert_eq!(table.remove_unused(), 2);
        assert_eq!(table.release(first), 0);
        assert_eq!(table.release(first), 3);
        assert!(table.is_empty());
    }
}
