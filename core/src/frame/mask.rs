//! The masking of RFC 6455 §5.3.

use fearless_simd::{Level, Simd, dispatch};

/// Unmasks `bytes` in place, or masks them. `at` is the offset of their first byte in the frame's payload.
#[inline]
pub(crate) fn unmask(bytes: &mut [u8], mask: [u8; 4], at: u64) {
    let mask = turned(mask, at);
    if bytes.len() >= WIDE { xor_wide(bytes, mask) } else { xor(bytes, mask) }
}

/// Appends `bytes` unmasked, in one pass. `at` is as for [`unmask`].
pub(crate) fn append_unmasked(out: &mut Vec<u8>, bytes: &[u8], mask: [u8; 4], at: u64) {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    if !blocks.is_empty() {
        out.reserve(bytes.len());
        append_blocks(out, blocks, turned(mask, at));
    }
    let start = out.len();
    out.extend_from_slice(rest);
    // A block is a multiple of four bytes long.
    unmask(out.get_mut(start..).unwrap_or_default(), mask, at);
}

/// Returns the key, rotated so that it begins at byte `at`. It repeats every four bytes.
#[inline]
fn turned(mask: [u8; 4], at: u64) -> u32 {
    let mask = u32::from_ne_bytes(mask);
    let turn = 8 * (at % 4) as u32;
    if cfg!(target_endian = "little") { mask.rotate_right(turn) } else { mask.rotate_left(turn) }
}

#[inline(never)]
fn append_blocks(out: &mut Vec<u8>, blocks: &[[u8; BLOCK]], mask: u32) {
    dispatch!(Level::new(), simd => append_blocks_wide(simd, out, blocks, mask));
}

// As for `xor_blocks`.
#[inline(always)]
fn append_blocks_wide<S: Simd>(_: S, out: &mut Vec<u8>, blocks: &[[u8; BLOCK]], mask: u32) {
    for block in blocks {
        let mut block = *block;
        for word in block.as_chunks_mut::<4>().0 {
            *word = (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes();
        }
        out.extend_from_slice(&block);
    }
}

/// The number of bytes that are handled at once in a long payload.
const BLOCK: usize = 256;

/// The number of bytes of the widest vectors.
const VECTOR: usize = 32;

/// The shortest payload, in bytes, for which it is worth detecting the features of the processor.
const WIDE: usize = 128;

/// Applies the key with the widest vectors of this processor.
#[inline(never)]
fn xor_wide(bytes: &mut [u8], mask: u32) {
    let (vectors, rest) = bytes.as_chunks_mut::<VECTOR>();
    xor(rest, mask);
    dispatch!(Level::new(), simd => xor_vectors(simd, vectors.as_flattened_mut(), mask));
}

/// Handles whole blocks first: their length is known, so the compiler makes them vector instructions without a loop.
// It must become part of the function that `dispatch!` has compiled for the processor.
#[inline(always)]
fn xor_vectors<S: Simd>(_: S, bytes: &mut [u8], mask: u32) {
    let rest = xor_chunks::<{ 2 * BLOCK }>(bytes, mask);
    let rest = xor_chunks::<{ BLOCK / 2 }>(rest, mask);
    xor_chunks::<VECTOR>(rest, mask);
}

/// Handles all chunks of `N` bytes, and returns the rest.
#[inline(always)]
fn xor_chunks<const N: usize>(bytes: &mut [u8], mask: u32) -> &mut [u8] {
    let (chunks, rest) = bytes.as_chunks_mut::<N>();
    for chunk in chunks {
        for word in chunk.as_chunks_mut::<4>().0 {
            *word = (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes();
        }
    }
    rest
}

/// Handles whole words, and then the remaining bytes.
// A call would cost as much as a short message.
#[inline(always)]
fn xor(bytes: &mut [u8], mask: u32) {
    let long = u64::from(mask) << 32 | u64::from(mask);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ long).to_ne_bytes();
    }
    let rest = match rest.len() {
        4.. => {
            let (word, rest) = rest.split_at_mut(4);
            if let Some(word) = word.first_chunk_mut::<4>() {
                *word = (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes();
            }
            rest
        }
        _ => rest,
    };
    for (byte, key) in rest.iter_mut().zip(mask.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_offset_is_as_the_rfc_says() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for len in (0..150usize).chain(250..300).chain([511, 512, 513, 799, 1024, 4096 + 37]) {
            for at in 0..9usize {
                let plain: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                // "octet i of the transformed data is the XOR of octet i of the original data with octet at
                // index i modulo 4 of the masking key"
                let expected: Vec<u8> =
                    plain.iter().enumerate().map(|(i, byte)| byte ^ mask[(at + i) % 4]).collect();
                let mut bytes = plain.clone();
                unmask(&mut bytes, mask, at as u64);
                assert_eq!(bytes, expected, "{len} bytes at {at}");
                let mut appended = b"before".to_vec();
                append_unmasked(&mut appended, &plain, mask, at as u64);
                assert_eq!(appended, [b"before", &expected[..]].concat(), "{len} bytes at {at}");
            }
        }
    }

    #[test]
    fn the_key_continues_after_four_gigabytes() {
        for at in [0xffff_fff8, 0x1_0000_0003, u64::MAX >> 1] {
            let (mut near, mut far) = (*b"Postern lets you in", *b"Postern lets you in");
            unmask(&mut near, [1, 2, 3, 4], at % 4);
            unmask(&mut far, [1, 2, 3, 4], at);
            assert_eq!(near, far, "{at}");
        }
    }
}
