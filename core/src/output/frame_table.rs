//! The frames that many connections of a worker send. Each is encoded and stored once, and a connection refers to it by a
//! number. The references are counted without atomics, because a worker belongs to one thread.
//!
//! Several frames of one connection are joined into one entry, so that a single contiguous send takes them. An entry remembers
//! with which frame it was joined last, so connections that send the same frames in the same order share the joined entry too.

use slab::Slab;

/// The shared frames of a worker.
#[derive(Debug, Default)]
pub(crate) struct FrameTable {
    entries: Slab<Entry>,
    /// The number of the next entry.
    next: u32,
    /// The frames that were added since [`FrameTable::end_additions`] was last called. The list refers to each of them.
    added: Vec<FrameId>,
}

/// A frame, or several that are joined.
#[derive(Debug)]
struct Entry {
    bytes: Box<[u8]>,
    /// The number of connections whose output it is, or is a part of, and one for the list of added frames.
    references: u32,
    number: u32,
    /// The frame with which it was joined last, and the result. The result may have been removed.
    joined: Option<(FrameId, FrameId)>,
    /// Its compressed forms by window, from 8 to 15 bits. They exist as long as it is on the list of added frames.
    compressed: Option<Box<[Option<FrameId>; WINDOWS]>>,
}

/// An entry of the table. It is valid as long as it is referred to.
// The number distinguishes it from later entries at the same index: see `Entry::joined`. An entry that remembers another one
// would have to exist while four billion are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameId {
    index: u32,
    number: u32,
}

/// A change of the bytes in the table.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) added: usize,
    pub(crate) freed: usize,
}

impl FrameTable {
    /// Adds an encoded frame. It is valid at least until the next call of [`end_additions`](FrameTable::end_additions).
    pub(crate) fn insert(&mut self, bytes: Vec<u8>) -> FrameId {
        let id = self.add(bytes);
        self.added.push(id);
        id
    }

    /// Returns the form of an added frame that is compressed in a window of 2^`bits` bytes, and the bytes by which the table has
    /// grown. `compress` is called once for each window. If it returns `None`, the form is the frame itself.
    pub(crate) fn compressed(
        &mut self,
        id: FrameId,
        bits: u8,
        compress: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> (FrameId, usize) {
        let window = usize::from(bits.clamp(8, 15) - 8);
        let entry = self.entries.get(id.index as usize);
        let forms = entry.and_then(|entry| entry.compressed.as_ref());
        if let Some(form) = forms.and_then(|forms| *forms.get(window)?) {
            return (form, 0);
        }
        let bytes = compress(self.get(id));
        let added = bytes.as_ref().map_or(0, Vec::len);
        let form = bytes.map_or(id, |bytes| self.insert(bytes));
        let entry = self.entries.get_mut(id.index as usize);
        if let Some(slot) = entry.and_then(|entry| entry.compressed.get_or_insert_default().get_mut(window)) {
            *slot = Some(form);
        }
        (form, added)
    }

    /// Adds an entry with one reference.
    fn add(&mut self, bytes: Vec<u8>) -> FrameId {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let entry =
            Entry { bytes: bytes.into_boxed_slice(), references: 1, number, joined: None, compressed: None };
        // A worker does not have four billion entries at a time: each is referred to by a connection.
        let index = u32::try_from(self.entries.insert(entry)).unwrap_or(u32::MAX);
        FrameId { index, number }
    }

    /// Returns the bytes of a frame.
    #[inline]
    pub(crate) fn get(&self, id: FrameId) -> &[u8] {
        self.entries.get(id.index as usize).map_or(&[], |entry| &entry.bytes)
    }

    /// Adds a reference.
    #[inline]
    pub(crate) fn retain(&mut self, id: FrameId) {
        if let Some(entry) = self.entries.get_mut(id.index as usize) {
            entry.references += 1;
        }
    }

    /// Removes a reference, and the frame with its last one. Returns the number of bytes that are freed.
    #[inline]
    pub(crate) fn release(&mut self, id: FrameId) -> usize {
        let Some(entry) = self.entries.get_mut(id.index as usize) else { return 0 };
        entry.references -= 1;
        if entry.references == 0 { self.remove(id) } else { 0 }
    }

    #[inline(never)]
    fn remove(&mut self, id: FrameId) -> usize {
        self.entries.try_remove(id.index as usize).map_or(0, |entry| entry.bytes.len())
    }

    /// Turns `count` references to `before`, if given, into references to `after`. Returns the number of bytes that are freed.
    pub(crate) fn replace(&mut self, before: Option<FrameId>, after: FrameId, count: u32) -> usize {
        if let Some(entry) = self.entries.get_mut(after.index as usize) {
            entry.references += count;
        }
        let Some(before) = before else { return 0 };
        let Some(entry) = self.entries.get_mut(before.index as usize) else { return 0 };
        entry.references -= count;
        if entry.references == 0 { self.remove(before) } else { 0 }
    }

    /// Turns a reference to `first` into one to an entry with the bytes of both. `None` if it would be longer than
    /// [`LONGEST_JOINED`].
    #[inline]
    pub(crate) fn join(&mut self, first: FrameId, second: FrameId) -> Option<(FrameId, Change)> {
        let entry = self.entries.get(first.index as usize)?;
        if let Some((with, joined)) = entry.joined
            && with == second
            && let Some(result) = self.entries.get_mut(joined.index as usize)
            && result.number == joined.number
        {
            result.references += 1;
            return Some((joined, Change { added: 0, freed: self.release(first) }));
        }
        self.join_anew(first, second)
    }

    #[cold]
    fn join_anew(&mut self, first: FrameId, second: FrameId) -> Option<(FrameId, Change)> {
        let (head, tail) = (self.get(first), self.get(second));
        let added = head.len() + tail.len();
        if added > LONGEST_JOINED {
            return None;
        }
        let joined = self.add([head, tail].concat());
        if let Some(entry) = self.entries.get_mut(first.index as usize) {
            entry.joined = Some((second, joined));
        }
        Some((joined, Change { added, freed: self.release(first) }))
    }

    /// Removes those frames to which no connection refers, of the frames that were added since the last call. Returns the number
    /// of bytes that are freed.
    pub(crate) fn end_additions(&mut self) -> usize {
        let mut freed = 0;
        while let Some(id) = self.added.pop() {
            freed += self.release(id);
        }
        freed
    }

    /// Whether there are no frames.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The number of windows of permessage-deflate.
const WINDOWS: usize = 8;

/// The most bytes of a joined entry. Copying that much once is faster than another piece of a vectored write for each
/// connection.
const LONGEST_JOINED: usize = 16 * 1024;

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
        assert_eq!(table.end_additions(), 2);
        assert_eq!(table.release(first), 0);
        assert_eq!(table.release(first), 3);
        assert!(table.is_empty());
    }

    #[test]
    fn connections_with_the_same_frames_share_the_joined_bytes() {
        let mut table = FrameTable::default();
        let [a, b, c] = [b"aa".as_slice(), b"bbb", b"c"].map(|bytes| table.insert(bytes.to_vec()));
        (0..3).for_each(|_| table.retain(a));
        let (ab, change) = table.join(a, b).expect("it is short");
        assert_eq!((table.get(ab), change), (&b"aabbb"[..], Change { added: 5, freed: 0 }));
        assert_eq!(table.join(a, b), Some((ab, Change::default())));
        // The third connection gets another frame.
        let (ac, _) = table.join(a, c).expect("it is short");
        assert_eq!(table.get(ac), b"aac");
        let (abc, _) = table.join(ab, c).expect("it is short");
        assert_eq!(table.join(ab, c), Some((abc, Change { added: 0, freed: 5 })), "the last one at `ab`");
        assert_eq!(table.get(abc), b"aabbbc");
        assert_eq!((table.release(abc), table.release(abc), table.release(ac)), (0, 6, 3));
        assert_eq!(table.end_additions(), 2 + 3 + 1);
        assert!(table.is_empty());
    }

    #[test]
    fn a_removed_entry_is_not_found_although_its_index_is_in_use_again() {
        let mut table = FrameTable::default();
        let [a, b] = [b"a", b"b"].map(|bytes| table.insert(bytes.to_vec()));
        table.retain(a);
        table.retain(a);
        let (ab, _) = table.join(a, b).expect("it is short");
        table.release(ab);
        let other = table.insert(b"other".to_vec());
        assert_eq!(other.index, ab.index);
        let (ab, change) = table.join(a, b).expect("it is short");
        assert_eq!((table.get(ab), change.added), (&b"ab"[..], 2));
        // The same for the second frame.
        table.retain(a);
        assert_eq!(table.end_additions(), 1 + 5);
        let second = table.insert(b"d".to_vec());
        assert!(second.index == b.index || table.insert(b"e".to_vec()).index == b.index);
        let (ad, _) = table.join(a, second).expect("it is short");
        assert_eq!(table.get(ad), b"ad");
    }

    #[test]
    fn long_frames_are_not_joined() {
        let mut table = FrameTable::default();
        let [long, short] = [vec![7; LONGEST_JOINED], vec![7]].map(|bytes| table.insert(bytes));
        table.retain(long);
        assert_eq!(table.join(long, short), None);
        assert_eq!(table.release(long), 0);
        assert_eq!(table.end_additions(), LONGEST_JOINED + 1);
    }
}
