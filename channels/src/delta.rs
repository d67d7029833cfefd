//! Encodes the difference between two publications, in the format of deltas of the version control system Fossil.
//!
//! A delta is text and bytes: the size of the target and a newline; then commands; then a checksum of the target and `;`. The
//! command `SIZE@OFFSET,` copies bytes of the origin, and `SIZE:` is followed by bytes to insert. Numbers have 64 digits.

/// Returns a delta that changes `origin` into `target`, or `None` if it would not be shorter than `target`. If both are UTF-8,
/// the delta is UTF-8.
///
/// The time is linear in the sizes. A common part is found if it has 15 bytes or more.
pub fn encode(origin: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    // Numbers have 32 bits.
    if origin.len().max(target.len()) > u32::MAX as usize {
        return None;
    }
    let mut delta = Delta { bytes: Vec::with_capacity(64) };
    delta.number(target.len());
    delta.bytes.push(b'\n');
    let index = Index::new(origin);
    // The part of the target up to `done` is encoded, and there is no match from there to `at`.
    let (mut done, mut at) = (0, 0);
    while let Some(window) = target.get(at..at + BLOCK) {
        let Some(found) = index.find(window).map(|place| Match::extend(origin, target, place, at, done))
        else {
            at += 1;
            continue;
        };
        delta.insert(target.get(done..found.target)?);
        delta.copy(found.size, found.origin);
        done = found.target + found.size;
        at = done;
        if delta.bytes.len() >= target.len() {
            return None;
        }
    }
    delta.insert(target.get(done..)?);
    delta.number(checksum(target) as usize);
    delta.bytes.push(b';');
    (delta.bytes.len() < target.len()).then_some(delta.bytes)
}

/// The number of bytes that are looked up at once.
const BLOCK: usize = 8;

/// The places of the blocks of the origin, one for each hash.
struct Index<'a> {
    origin: &'a [u8],
    /// The number of a block, plus one.
    blocks: Vec<u32>,
}

impl Index<'_> {
    fn new(origin: &[u8]) -> Index<'_> {
        let count = origin.len() / BLOCK;
        let mut index = Index { origin, blocks: vec![0; (2 * count).next_power_of_two()] };
        // The first one of equal blocks stays: matches grow to the right.
        for (number, block) in origin.chunks_exact(BLOCK).enumerate().rev() {
            let hash = index.hash(block);
            if let Some(place) = index.blocks.get_mut(hash) {
                *place = number as u32 + 1;
            }
        }
        index
    }

    /// Returns a place in the origin where these bytes are.
    fn find(&self, window: &[u8]) -> Option<usize> {
        let number = self.blocks.get(self.hash(window))?.checked_sub(1)?;
        let place = number as usize * BLOCK;
        (self.origin.get(place..place + BLOCK)? == window).then_some(place)
    }

    fn hash(&self, block: &[u8]) -> usize {
        let bytes = block.try_into().map_or(0, u64::from_le_bytes);
        // The upper bits depend on all bytes. The length is a power of two.
        let hash = bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        hash as usize & (self.blocks.len() - 1)
    }
}

/// Equal bytes in the origin and in the target.
struct Match {
    origin: usize,
    target: usize,
    size: usize,
}

impl Match {
    /// Makes a match as long as possible. It does not begin before `start` in the target.
    fn extend(origin: &[u8], target: &[u8], place: usize, at: usize, start: usize) -> Match {
        let [before_origin, before_target] =
            [origin.get(..place), target.get(start..at)].map(Option::unwrap_or_default);
        let before =
            before_origin.iter().rev().zip(before_target.iter().rev()).take_while(|(a, b)| a == b).count();
        let [after_origin, after_target] =
            [origin.get(place..), target.get(at..)].map(Option::unwrap_or_default);
        let after = after_origin.iter().zip(after_target).take_while(|(a, b)| a == b).count();
        // A character is either a part of the match, or inserted as a whole. A match has at least `BLOCK` bytes before.
        let is_inside = |at: usize| target.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        let (start, end) = (at - before, at + after);
        let skipped = (0..MAX_CONTINUATION).take_while(|number| is_inside(start + number)).count();
        let cut = (0..MAX_CONTINUATION).take_while(|number| is_inside(end - number)).count();
        Match { origin: place - before + skipped, target: start + skipped, size: end - cut - start - skipped }
    }
}

/// The most bytes of a character after its first one.
const MAX_CONTINUATION: usize = 3;

/// A delta that is being written.
struct Delta {
    bytes: Vec<u8>,
}

impl Delta {
    fn insert(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.number(bytes.len());
            self.bytes.push(b':');
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn copy(&mut self, size: usize, offset: usize) {
        self.number(size);
        self.bytes.push(b'@');
        self.number(offset);
        self.bytes.push(b',');
    }

    /// Writes a number below 2^32.
    fn number(&mut self, number: usize) {
        const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
        let digits = (number.max(1).ilog2() / 6 + 1).min(6);
        let digits = (0..digits).rev().map(|place| number >> (6 * place) & 63);
        self.bytes.extend(digits.filter_map(|digit| DIGITS.get(digit)));
    }
}

/// Returns the sum of all 32-bit words, of which the last one is filled with zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(4).map(|chunk| {
        let word = chunk.iter().fold(0, |word: u32, &byte| word << 8 | u32::from(byte));
        word << (8 * (4 - chunk.len()))
    });
    words.fold(0, u32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use centrifuge_client_core::delta::apply;

    use super::*;

    /// Encodes and decodes. Returns the size of the delta.
    fn round_trip(origin: &[u8], target: &[u8]) -> Option<usize> {
        let delta = encode(origin, target)?;
        assert!(delta.len() < target.len());
        let decoded =
            apply(origin, &delta, target.len()).unwrap_or_else(|error| panic!("{error}: {delta:?}"));
        assert!(decoded == target, "{origin:?} {target:?} {delta:?}");
        Some(delta.len())
    }

    #[test]
    fn a_small_change_has_a_small_delta() {
        let origin = br#"{"auction":42,"bid":1000,"bidder":"John Doe","time":"12:00:00","state":"open"}"#;
        let target = br#"{"auction":42,"bid":1250,"bidder":"Jane Doe","time":"12:00:07","state":"open"}"#;
        assert!(round_trip(origin, target).is_some_and(|size| size < 50), "{:?}", encode(origin, target));
        assert!(round_trip(origin, origin).is_some_and(|size| size < 20));
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let origin = b"abcdefghijklmnopqrstuvwxyz";
        let target = b"abcdefghijklmnop--qrstuvwxyz";
        assert_eq!(encode(origin, target).unwrap(), b"S\nG@0,2:--A@G,2qk0OA;");
    }

    #[test]
    fn a_delta_that_is_not_shorter_is_not_used() {
        for (origin, target) in
            [("", ""), ("abc", "abc"), ("", "a text without an origin"), ("0123456789012345", "another text")]
        {
            assert_eq!(encode(origin.as_bytes(), target.as_bytes()), None, "{target}");
        }
    }

    #[test]
    fn random_edits_are_decoded_to_the_target() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut encoded = 0;
        for _ in 0..20_000 {
            let alphabet = random.u8(1..=255);
            let byte = |random: &mut fastrand::Rng| random.u8(0..alphabet);
            let len = random.usize(0..300);
            let origin: Vec<u8> = (0..len).map(|_| byte(&mut random)).collect();
            let mut target = origin.clone();
            for _ in 0..random.usize(0..5) {
                let at = random.usize(0..=target.len());
                let end = random.usize(at..=target.len().min(at + 20));
                let inserted: Vec<u8> = (0..random.usize(0..20)).map(|_| byte(&mut random)).collect();
                target.splice(at..end, inserted);
            }
            if random.u32(0..4) == 0 {
                let middle = random.usize(0..=target.len());
                target.rotate_left(middle);
            }
            encoded += usize::from(round_trip(&origin, &target).is_some());
        }
        assert!(encoded > 10_000, "{encoded}");
    }

    #[test]
    fn a_delta_between_two_texts_is_a_text() {
        let mut random = fastrand::Rng::with_seed(7);
        // The characters of a group begin or end with the same bytes.
        let groups =
            [['é', 'è', '©', 'Ã'], ['漢', '漣', '字', '孔'], ['😀', '😁', '🙀', '🚀'], ['a', 'b', 'c', 'd']];
        let mut encoded = 0;
        for _ in 0..20_000 {
            let group = groups[random.usize(0..groups.len())];
            let text = |random: &mut fastrand::Rng, len| -> Vec<char> {
                (0..len).map(|_| group[random.usize(0..random.clone().usize(1..=group.len()))]).collect()
            };
            let origin = text(&mut random, 60);
            let mut target = origin.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..target.len());
                let inserted = text(&mut random, 2);
                target.splice(at..(at + 2).min(origin.len()).max(at), inserted);
            }
            let [origin, target] = [origin, target].map(|text| text.into_iter().collect::<String>());
            if let Some(delta) = encode(origin.as_bytes(), target.as_bytes()) {
                assert!(str::from_utf8(&delta).is_ok(), "{origin} {target}");
                encoded += 1;
            }
            round_trip(origin.as_bytes(), target.as_bytes());
        }
        assert!(encoded > 5_000, "{encoded}");
    }

    #[test]
    fn numbers_and_sizes_of_any_length_are_decoded() {
        let origin: Vec<u8> =
            (0..300_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let mut target = origin.clone();
        target.extend_from_slice(b"end");
        target.remove(700_000);
        assert!(round_trip(&origin, &target).is_some_and(|size| size < 60));
    }
}
