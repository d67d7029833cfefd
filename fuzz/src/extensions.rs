//! Any values of `Sec-WebSocket-Extensions`.
//!
//! * No value makes an upgrade fail, unless it is not allowed in any header.
//! * permessage-deflate is answered if and only if it was offered in a form that RFC 7692 §7 allows, and then
//!   the answer is legal for the first such offer: never a parameter that was not offered, but for the two that
//!   a server may always add; never another window than the client's; never anything of the client's text.
//! * An offer that is malformed, repeated or unknown to a second reader of offers is declined.
//!
//! The second reader splits a line into words and marks first, and only then finds offers in them. A malformed piece
//! ends its line, because the beginning of the next offer after it is unknown.

use postern_core::handshake::HandshakeError;

use crate::upgrade;

/// Checks the values, one a line.
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let lines = || input.split(|&byte| byte == b'\n');
    let (answer, accepted) = match upgrade::accept(&mut upgrade::request(lines())) {
        Ok(accepted) => accepted,
        Err(error) => {
            let is_control = |byte: &u8| byte.is_ascii_control() && !b"\t\n".contains(byte);
            let is_no_header = error == HandshakeError::NotHttp && input.iter().any(is_control);
            let are_many = error == HandshakeError::TooManyHeaders && lines().count() > 90;
            assert!(is_no_header || are_many, "{error:?} for {}", input.escape_ascii());
            return;
        }
    };
    let first = lines().flat_map(offers).find_map(|offer| offer.accept());
    assert_eq!(accepted.deflate.is_some(), first.is_some(), "{}", input.escape_ascii());
    let expected = first.map(|window| {
        let window = window.map(|bits| format!("; server_max_window_bits={bits}")).unwrap_or_default();
        format!("permessage-deflate; server_no_context_takeover; client_no_context_takeover{window}\r\n")
    });
    let answer = String::from_utf8(answer).expect("ASCII");
    let answered = answer.split_once("Sec-WebSocket-Extensions: ").map(|(_, behind)| behind);
    assert_eq!(answered.map(|behind| behind.split_inclusive("\r\n").next()), expected.as_deref().map(Some));
    assert!(answer.matches("Sec-WebSocket-Extensions").count() <= 1, "{answer}");
}

/// A piece of a header value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'l> {
    /// A token (RFC 9110 §5.6.2).
    Word(&'l [u8]),
    /// A token between quotation marks: RFC 6455 §9.1 allows only tokens there.
    Quoted(&'l [u8]),
    /// `,`, `;` or `=`.
    Mark(u8),
    /// Any other byte. Always the last piece.
    Bad,
}

/// Splits a line into pieces. White space only separates them.
fn pieces(line: &[u8]) -> Vec<Piece<'_>> {
    let word = |from: usize| {
        let len = line[from..].iter().take_while(|byte| is_token(**byte)).count();
        &line[from..from + len]
    };
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        let (piece, len) = match byte {
            b' ' | b'\t' => {
                at += 1;
                continue;
            }
            b',' | b';' | b'=' => (Piece::Mark(byte), 1),
            b'"' => {
                let inner = word(at + 1);
                let is_closed = line.get(at + 1 + inner.len()) == Some(&b'"');
                let piece = if is_closed && !inner.is_empty() { Piece::Quoted(inner) } else { Piece::Bad };
                (piece, inner.len() + 2)
            }
            _ if word(at).is_empty() => (Piece::Bad, 1),
            _ => (Piece::Word(word(at)), word(at).len()),
        };
        pieces.push(piece);
        at += len;
        if piece == Piece::Bad {
            break;
        }
    }
    pieces
}

fn is_token(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !b"\"(),/:;<=>?@[\\]{}".contains(&byte)
}

/// An extension and its parameters.
struct Offer<'l> {
    name: &'l [u8],
    params: Vec<(&'l [u8], Option<&'l [u8]>)>,
}

/// Returns the offers of a line, up to the first that is malformed.
fn offers(line: &[u8]) -> Vec<Offer<'_>> {
    let pieces = pieces(line);
    let items = pieces.split(|piece| *piece == Piece::Mark(b',')).filter(|item| !item.is_empty());
    items.map_while(offer).collect()
}

fn offer<'l>(item: &[Piece<'l>]) -> Option<Offer<'l>> {
    let mut parts = item.split(|piece| *piece == Piece::Mark(b';'));
    let [Piece::Word(name)] = *parts.next()? else { return None };
    let params = parts.map(|part| match *part {
        [Piece::Word(name)] => Some((name, None)),
        [Piece::Word(name), Piece::Mark(b'='), Piece::Word(value) | Piece::Quoted(value)] => {
            Some((name, Some(value)))
        }
        _ => None,
    });
    Some(Offer { name, params: params.collect::<Option<_>>()? })
}

impl Offer<'_> {
    /// Returns the window that the client asks the server for, if any. `None` if this is not a legal offer of
    /// permessage-deflate.
    fn accept(&self) -> Option<Option<u8>> {
        // RFC 7692 §7.1: "A server MUST decline an extension negotiation offer" with a parameter that is not
        // defined for use in an offer, with an invalid value, or with the same name twice.
        let is_legal = |&(name, value): &(&[u8], Option<&[u8]>)| match (name, value) {
            (b"server_no_context_takeover" | b"client_no_context_takeover", value) => value.is_none(),
            (b"server_max_window_bits", value) => value.is_some_and(|value| bits(value).is_some()),
            (b"client_max_window_bits", value) => value.is_none_or(|value| bits(value).is_some()),
            _ => false,
        };
        let is_twice = |(at, (name, _)): (usize, &(&[u8], _))| self.params[..at].iter().any(|p| p.0 == *name);
        if self.name != b"permessage-deflate"
            || !self.params.iter().all(is_legal)
            || self.params.iter().enumerate().any(is_twice)
        {
            return None;
        }
        let window = self.params.iter().find(|(name, _)| *name == b"server_max_window_bits");
        Some(window.and_then(|(_, value)| bits((*value)?)))
    }
}

/// Returns a window: "a decimal integer value without leading zeroes between 8 to 15, inclusive".
fn bits(value: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(value).ok()?;
    (8..=15).find(|bits: &u8| bits.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_reader_knows_the_examples_of_rfc_7692() {
        let accepted = |line: &str| offers(line.as_bytes()).iter().find_map(Offer::accept);
        assert_eq!(accepted("permessage-deflate"), Some(None));
        assert_eq!(
            accepted("permessage-deflate; client_max_window_bits; server_max_window_bits=10"),
            Some(Some(10))
        );
        assert_eq!(accepted("permessage-deflate;server_max_window_bits = \"8\" , x"), Some(Some(8)));
        assert_eq!(accepted("foo; a=\"b c\", permessage-deflate"), None);
        assert_eq!(accepted("foo; a=b, ,permessage-deflate; x, permessage-deflate"), Some(None));
        assert_eq!(accepted("permessage-deflate; server_max_window_bits=16"), None);
    }
}
