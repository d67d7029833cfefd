//! `Sec-WebSocket-Extensions` (RFC 6455 §9.1). The only supported extension is permessage-deflate (RFC 7692).

use std::fmt::Write;

use super::codec::IS_ENABLED;
use crate::field::is_token;

/// The negotiated parameters of permessage-deflate. Context takeover is never negotiated, in either direction: so all
/// connections of a worker share one pair of contexts, and no message reveals something about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// The base-2 logarithm of the window for compression: 8 to 15.
    pub(crate) bits: u8,
    /// Whether the client requested a window, so that the answer must contain it (RFC 7692 §7.1.2.1).
    is_limited: bool,
}

impl Deflate {
    /// Reads one header line. The first acceptable offer of all lines is accepted. An offer with unknown, repeated or
    /// malformed parameters is declined (RFC 7692 §7), which is not an error.
    pub(crate) fn negotiate(agreed: Option<Deflate>, line: &[u8]) -> Option<Deflate> {
        agreed.or_else(|| ExtensionOffers(line).find_map(|offer| offer.accept()))
    }

    /// Parses the answer of a server to the offer of the client (RFC 7692 §7.1). `None` if it is not valid.
    pub(crate) fn read_answer(line: &[u8]) -> Option<Deflate> {
        let mut offers = ExtensionOffers(line);
        let answer = offers.next().filter(|answer| answer.name == b"permessage-deflate")?;
        if offers.next().is_some() || !offers.0.is_empty() {
            return None;
        }
        let has = |name: &[u8]| answer.params.iter().any(|(param, _)| *param == name);
        // The client has offered that the server keeps no context, and inflates accordingly.
        if !has(b"server_no_context_takeover") {
            return None;
        }
        // In an answer, the window of the client has a value (§7.1.2.2).
        let mut bits = 15;
        for (_, value) in answer.params.iter().filter(|(name, _)| *name == b"client_max_window_bits") {
            bits = value.and_then(window_bits)?;
        }
        // Everything else is as in an offer.
        answer.accept().map(|_| Deflate { bits, is_limited: false })
    }

    /// Returns the value of the header in the 101.
    pub(crate) fn answer(self) -> String {
        let mut answer =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if self.is_limited {
            // Writing to a string does not fail.
            let _ = write!(answer, "; server_max_window_bits={}", self.bits);
        }
        answer
    }
}

/// One extension that a client offers.
struct Offer<'h> {
    name: &'h [u8],
    /// The parameters, up to a malformed one.
    params: Vec<(&'h [u8], Option<&'h [u8]>)>,
}

impl Offer<'_> {
    fn accept(&self) -> Option<Deflate> {
        if self.name != b"permessage-deflate" || !IS_ENABLED {
            return None;
        }
        let mut deflate = Deflate { bits: 15, is_limited: false };
        let mut seen: [bool; 4] = [false; 4];
        for (name, value) in &self.params {
            let index = match (*name, *value) {
                // Neither side keeps a context, with or without these parameters.
                (b"server_no_context_takeover", None) => 0,
                (b"client_no_context_takeover", None) => 1,
                (b"server_max_window_bits", Some(value)) => {
                    deflate = Deflate { bits: window_bits(value)?, is_limited: true };
                    2
                }
                // A hint that the client could use a smaller window. The window for inflating is always the largest.
                (b"client_max_window_bits", None) => 3,
                (b"client_max_window_bits", Some(value)) => window_bits(value).map(|_| 3)?,
                _ => return None,
            };
            if std::mem::replace(seen.get_mut(index)?, true) {
                return None;
            }
        }
        Some(deflate)
    }
}

/// Parses the size of a window: 8 to 15, without leading zeros (RFC 7692 §7.1.2.1).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The offers of one header line, up to a malformed one, after which offers cannot be distinguished.
struct ExtensionOffers<'h>(&'h [u8]);

impl<'h> Iterator for ExtensionOffers<'h> {
    type Item = Offer<'h>;

    fn next(&mut self) -> Option<Offer<'h>> {
        // RFC 9110 §5.6.1.2: empty list elements must be skipped.
        self.0 = self.0.trim_ascii_start();
        while let Some(rest) = self.0.strip_prefix(b",") {
            self.0 = rest.trim_ascii_start();
        }
        let offer = self.offer();
        if offer.is_none() {
            self.0 = b"";
        }
        offer
    }
}

impl<'h> ExtensionOffers<'h> {
    fn offer(&mut self) -> Option<Offer<'h>> {
        let name = self.token()?;
        let mut params = Vec::new();
        while self.eat(b';') {
            let param = self.token()?;
            let value = if self.eat(b'=') { Some(self.value()?) } else { None };
            params.push((param, value));
        }
        (self.eat(b',') || self.0.is_empty()).then_some(Offer { name, params })
    }

    /// Skips white space, then consumes `byte` if it is next, and the white space after it.
    fn eat(&mut self, byte: u8) -> bool {
        self.0 = self.0.trim_ascii_start();
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0).trim_ascii_start();
        rest.is_some()
    }

    fn token(&mut self) -> Option<&'h [u8]> {
        let len = self.0.iter().position(|&byte| !is_token(byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at_checked(len).filter(|(token, _)| !token.is_empty())?;
        self.0 = rest;
        Some(token)
    }

    /// Consumes the value of a parameter. RFC 6455 §9.1: "When using the quoted-string syntax variant, the value after
    /// quoted-string unescaping MUST conform to the 'token' ABNF." A token needs no escape, so one with a backslash is
    /// declined.
    fn value(&mut self) -> Option<&'h [u8]> {
        let Some(quoted) = self.0.strip_prefix(b"\"") else { return self.token() };
        self.0 = quoted;
        let token = self.token()?;
        self.0 = self.0.strip_prefix(b"\"")?;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], answer: Option<&str>) {
        let agreed = lines.iter().fold(None, |agreed, line| Deflate::negotiate(agreed, line.as_bytes()));
        let answer = answer.map(|params| {
            format!("permessage-deflate; server_no_context_takeover; client_no_context_takeover{params}")
        });
        assert_eq!(agreed.map(Deflate::answer), answer, "{lines:?}");
    }

    #[test]
    fn legal_offers_are_accepted() {
        check(&["permessage-deflate"], Some(""));
        check(&["permessage-deflate; client_max_window_bits"], Some(""));
        check(&["permessage-deflate;client_max_window_bits=8;server_no_context_takeover"], Some(""));
        check(
            &["permessage-deflate ; client_no_context_takeover ; server_max_window_bits = 15"],
            Some("; server_max_window_bits=15"),
        );
        check(&["permessage-deflate; server_max_window_bits=\"10\""], Some("; server_max_window_bits=10"));
        for bits in 8..=15 {
            let answer = format!("; server_max_window_bits={bits}");
            check(&[&format!("permessage-deflate; server_max_window_bits={bits}")], Some(&answer));
        }
    }

    #[test]
    fn malformed_offers_are_declined() {
        for params in [
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=008",
            "server_max_window_bits=08",
            "server_max_window_bits=99999999999999999999",
            "server_max_window_bits=+9",
            "server_max_window_bits=",
            "server_max_window_bits=\"\"",
            "client_max_window_bits=7",
            "client_max_window_bits=x",
            "server_no_context_takeover=1",
            "client_no_context_takeover=\"\"",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits=9; server_max_window_bits=9",
            "client_max_window_bits; client_max_window_bits=9",
            "__proto__",
            "unknown=1",
            "=",
            ";",
            "server_max_window_bits=\"9",
            "server_max_window_bits=\"\\9\"",
            "a b",
            "\u{e9}",
        ] {
            check(&[&format!("permessage-deflate; {params}")], None);
        }
        check(&["x-webkit-deflate-frame"], None);
        check(&["PERMESSAGE-DEFLATE"], None);
        check(&["permessage-deflate permessage-deflate"], None);
        check(&["", ",", ", ,", ";", "=", "\""], None);
    }

    #[test]
    fn the_first_acceptable_offer_wins() {
        check(
            &[
                "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=10, permessage-deflate",
            ],
            Some("; server_max_window_bits=10"),
        );
        check(&["permessage-bzip2", "permessage-deflate; unknown", "permessage-deflate"], Some(""));
        check(&[", ,permessage-deflate,"], Some(""));
        check(&["foo; a=\"b\"; c, permessage-deflate"], Some(""));
        check(&["@, permessage-deflate"], None);
    }

    #[test]
    fn white_space_after_an_empty_element_declines_nothing() {
        check(&[", permessage-deflate"], Some(""));
        check(
            &["foo, ,\t, permessage-deflate; server_max_window_bits=9"],
            Some("; server_max_window_bits=9"),
        );
    }

    #[test]
    fn a_list_is_read_in_one_pass() {
        // ws CVE-2021-32640 and ws 3.3.1 took superlinear time here. The value has sixteen thousand bytes and is not
        // closed.
        check(&[&("permessage-deflate".to_owned() + &" ".repeat(16_000) + "x")], None);
        check(&[&("a;".repeat(8_000) + "a, permessage-deflate")], Some(""));
    }
}
