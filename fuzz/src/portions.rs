//! Cuts an input into portions.

/// Cuts `bytes` into portions, none of them empty. Where it cuts depends on the bytes alone, so that a file
/// of plain bytes, such as a captured request, is a whole input.
pub(crate) fn by_content(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    // FNV-1a for the seed, then xorshift. Neither has to be of high quality.
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut state = bytes.iter().fold(0xcbf2_9ce4_8422_2325, hash) | 1;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // A portion of one byte is as likely as one of some hundred.
        let most = 1 << (state % 9);
        let len = 1 + (state >> 32) as usize % most;
        let portion = take(&mut rest, len);
        (!portion.is_empty()).then_some(portion)
    })
}

/// Splits off the first `len` bytes, or all of them if there are fewer.
pub(crate) fn take<'b>(rest: &mut &'b [u8], len: usize) -> &'b [u8] {
    let (taken, behind) = rest.split_at(len.min(rest.len()));
    *rest = behind;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_the_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for len in [0, 1, 2, 100, 5000] {
            let portions: Vec<&[u8]> = by_content(&bytes[..len]).collect();
            assert_eq!(portions.concat(), bytes[..len]);
            assert!(len < 100 || portions.iter().any(|portion| portion.len() == 1));
        }
    }
}
