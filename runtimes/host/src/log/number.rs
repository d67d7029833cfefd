//! Numbers in a log.

use std::fmt;

use crate::escape::Text;

/// Writes a number in decimal, as its `Display` does, without the machinery of that.
#[inline]
pub(super) fn write_number(number: u64, out: &mut impl Text) -> fmt::Result {
    let mut digits = [b'0'; MOST];
    let (mut at, mut rest) = (MOST, number);
    for digit in digits.iter_mut().rev() {
        // A digit of a number modulo ten is within u8.
        *digit = b'0' + (rest % 10) as u8;
        at -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.write_ascii(digits.get(at..).unwrap_or_default())
}

/// The digits of the largest number.
const MOST: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_it_is_displayed() {
        let powers = (0..20).map(|exponent| 10u64.pow(exponent));
        let near = powers.flat_map(|power| [power - 1, power, power + 1, power.wrapping_mul(7)]);
        for number in near.chain([0, u64::MAX - 1, u64::MAX]) {
            let mut text = String::new();
            write_number(number, &mut text).unwrap();
            assert_eq!(text, number.to_string());
        }
    }
}
