//! Where the fuzzer cuts what it sends. For the targets whose worth is how often they run: no allocation.

/// Lengths of portions, in front of the bytes that are cut:
///
/// ```text
///   [n, of which the four lower bits count: 1] [length: 1] × n [the bytes]
/// ```
///
/// The four upper bits are the target's own. A length of zero is one of 256. What is left behind the last
/// length is one portion more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cuts<'i> {
    lens: &'i [u8],
}

impl<'i> Cuts<'i> {
    /// Takes an input apart: the four bits of the target, the cuts, the bytes.
    pub(crate) fn read(input: &'i [u8]) -> (u8, Cuts<'i>, &'i [u8]) {
        let Some((&first, rest)) = input.split_first() else { return (0, Cuts::none(), input) };
        let (lens, bytes) = rest.split_at(usize::from(first & 0x0f).min(rest.len()));
        (first >> 4, Cuts { lens }, bytes)
    }

    /// All in one piece.
    pub(crate) fn none() -> Cuts<'static> {
        Cuts { lens: &[] }
    }

    /// The portions of `bytes`, none of them empty.
    pub(crate) fn portions(self, bytes: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
        let lens = self.lens.iter().map(|&len| if len == 0 { 256 } else { usize::from(len) });
        let mut lens = lens.chain([usize::MAX]);
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let len = lens.next()?.min(rest.len());
            let (portion, behind) = std::mem::take(&mut rest).split_at_mut(len);
            rest = behind;
            (!portion.is_empty()).then_some(portion)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_the_whole() {
        let input: Vec<u8> = [0xf3, 1, 0, 2].into_iter().chain(0..=255).chain(0..=255).collect();
        let (bits, cuts, bytes) = Cuts::read(&input);
        let mut copy = bytes.to_vec();
        let portions: Vec<&mut [u8]> = cuts.portions(&mut copy).collect();
        let lens: Vec<usize> = portions.iter().map(|portion| portion.len()).collect();
        assert_eq!((bits, lens), (0xf, vec![1, 256, 2, 253]));
        assert_eq!(portions.concat(), bytes);
    }

    #[test]
    fn an_input_may_end_anywhere() {
        assert_eq!(Cuts::read(&[]).2, b"");
        assert_eq!(Cuts::read(&[0x0f, 1, 2]).2, b"");
        assert_eq!(Cuts::none().portions(&mut []).count(), 0);
    }
}
