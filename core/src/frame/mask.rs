//! The masking of RFC 6455 §5.3.

/// Unmasks `bytes` in place. `at` is the offset of their first byte in the frame's payload.
#[inline]
pub(crate) fn unmask(bytes: &mut [u8], mask: [u8; 4], at: u64) {
    // The key repeats every four bytes; turned so that it begins at our first byte.
    let mask = u32::from_ne_bytes(mask);
    let turn = 8 * (at % 4) as u32;
    let mask = if cfg!(target_endian = "little") { mask.rotate_right(turn) } else { mask.rotate_left(turn) };
    // Whole blocks first, which the compiler turns into vector instructions, then words, then what is left.
    let mut blocks = bytes.chunks_exact_mut(32);
    for block in &mut blocks {
        for word in block.as_chunks_mut::<4>().0 {
            *word = (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes();
        }
    }
    let (words, rest) = blocks.into_remainder().as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes();
    }
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
        for len in 0..100usize {
            for at in 0..9usize {
                let plain: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                // "octet i of the transformed data is the XOR of octet i of the original data with octet at
                // index i modulo 4 of the masking key"
                let expected: Vec<u8> =
                    plain.iter().enumerate().map(|(i, byte)| byte ^ mask[(at + i) % 4]).collect();
                let mut bytes = plain.clone();
                unmask(&mut bytes, mask, at as u64);
                assert_eq!(bytes, expected, "{len} bytes at {at}");
            }
        }
    }
}
