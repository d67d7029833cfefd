//! Deltas between two publications.
//!
//! * A delta is shorter than the target, and the decoder of an SDK makes the target of it.
//! * A delta between two texts is a text.
//! * A value that has not changed has a delta, if it is long enough.

use centrifuge_client_core::delta::apply;
use postern_channels::delta::encode;

/// Checks the deltas of two targets: the second part of the input, and a target that is made of parts of the origin.
///
/// The input is the length of the origin in one byte, the origin, and the rest. The second target has the same rest, in which each
/// byte from 0xc0 to 0xdf means a part of the origin: the byte after it is its place, and the bits of the first are a quarter of
/// its length.
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let Some((&len, rest)) = input.split_first() else { return };
    let (origin, rest) = rest.split_at(rest.len().min(usize::from(len)));
    round_trip(origin, rest);
    round_trip(origin, &with_parts(origin, rest));
    assert!(round_trip(origin, origin) || origin.len() < 32, "{}", origin.escape_ascii());
}

fn with_parts(origin: &[u8], script: &[u8]) -> Vec<u8> {
    let mut target = Vec::new();
    let mut rest = script.iter();
    while let Some(&byte) = rest.next() {
        match (byte, rest.as_slice().first()) {
            (0xc0..=0xdf, Some(&place)) => {
                rest.next();
                let part = origin.iter().skip(place.into()).take(4 * usize::from(byte & 0x1f));
                target.extend(part);
            }
            _ => target.push(byte),
        }
    }
    target
}

/// Encodes and decodes. Returns whether there is a delta.
fn round_trip(origin: &[u8], target: &[u8]) -> bool {
    let Some(delta) = encode(origin, target) else { return false };
    let shown =
        || format!("{} to {}: {}", origin.escape_ascii(), target.escape_ascii(), delta.escape_ascii());
    assert!(delta.len() < target.len(), "{}", shown());
    let decoded = apply(origin, &delta, target.len());
    assert!(decoded.is_ok_and(|decoded| decoded == target), "{}", shown());
    let are_texts = [origin, target].iter().all(|bytes| std::str::from_utf8(bytes).is_ok());
    assert!(!are_texts || std::str::from_utf8(&delta).is_ok(), "{}", shown());
    true
}
