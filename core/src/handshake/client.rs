//! The address of the client, from `X-Forwarded-For` or `Forwarded` (RFC 7239). It is for the log and for operators,
//! and no decision depends on it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::trust::TrustedProxies;

/// The header with the address of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAddress {
    /// No header is read.
    Off,
    /// `X-Forwarded-For`, or `Forwarded` in requests without it. A gateway that writes only `Forwarded` does not remove an
    /// `X-Forwarded-For` of the client, so it needs [`ClientAddress::Forwarded`].
    Auto,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`.
    XForwardedFor,
}

/// The client, as the gateway identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client<'h> {
    /// The address of the client. An IPv4 address that is mapped into IPv6 is returned as IPv4.
    Address(IpAddr),
    /// A name in place of the address (RFC 7239 §6.3): an underscore, and then ASCII letters, digits and `._-`.
    Obfuscated(&'h str),
}

/// As text without control characters, spaces and commas, of at most [`Client::MAX`] bytes.
impl fmt::Display for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Address(ip) => ip.fmt(f),
            Client::Obfuscated(name) => f.write_str(name),
        }
    }
}

impl Client<'_> {
    /// The longest text of a client, in bytes. A longer obfuscated name is ignored.
    pub const MAX: usize = 64;
}

/// The hops that the lines of one header name, from the client's side to ours: several lines are one list
/// (RFC 9110 §5.2).
///
/// Each proxy appends the peer that it saw, so only the end of the list is certain: the last hop that is not a trusted
/// proxy is the client. The client itself may have written the ones before it. If all hops are trusted proxies,
/// the first one is the client.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Hops<'h> {
    /// Whether a line was seen.
    is_any: bool,
    /// The first hop.
    first: Option<Client<'h>>,
    /// The last hop that is not a trusted proxy. `Some(None)` if that is not an address: `unknown`, or malformed.
    last_untrusted: Option<Option<Client<'h>>>,
}

impl<'h> Hops<'h> {
    fn add(&mut self, hop: Option<Client<'h>>, trusted: &TrustedProxies) {
        if !std::mem::replace(&mut self.is_any, true) {
            self.first = hop;
        }
        match hop {
            Some(Client::Address(ip)) if trusted.names(ip) => {}
            Some(_) | None => self.last_untrusted = Some(hop),
        }
    }

    fn client(&self) -> Option<Client<'h>> {
        self.last_untrusted.unwrap_or(self.first)
    }
}

/// The headers of one request about the client. They are read from any peer, but the caller uses them only if the peer is a
/// trusted proxy.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forwarding<'h> {
    forwarded: Hops<'h>,
    x_forwarded_for: Hops<'h>,
}

impl<'h> Forwarding<'h> {
    /// Reads one line of `Forwarded`.
    pub(super) fn see_forwarded(&mut self, value: &'h [u8], trusted: &TrustedProxies) {
        let Some(elements) = std::str::from_utf8(value).ok().and_then(|value| split(value, b',')) else {
            return self.forwarded.add(None, trusted);
        };
        // Only the last elements are read, so that a long line costs no more than a short one.
        let unread = elements.clone().count().saturating_sub(MOST_HOPS);
        for element in elements.skip(unread) {
            self.forwarded.add(forwarded_for(element), trusted);
        }
    }

    /// Reads one line of `X-Forwarded-For`.
    pub(super) fn see_x_forwarded_for(&mut self, value: &'h [u8], trusted: &TrustedProxies) {
        let hops = value.split(|&byte| byte == b',');
        let unread = hops.clone().count().saturating_sub(MOST_HOPS);
        for hop in hops.skip(unread) {
            self.x_forwarded_for.add(std::str::from_utf8(hop).ok().and_then(node), trusted);
        }
    }

    /// Returns the client, if the selected header has one.
    pub(super) fn client(&self, source: ClientAddress) -> Option<Client<'h>> {
        match source {
            ClientAddress::Off => None,
            ClientAddress::Auto if self.x_forwarded_for.is_any => self.x_forwarded_for.client(),
            ClientAddress::Auto | ClientAddress::Forwarded => self.forwarded.client(),
            ClientAddress::XForwardedFor => self.x_forwarded_for.client(),
        }
    }
}

/// Returns the parts of a text between separators outside of quoted strings. `None` if a quotation mark is not closed,
/// because the parts are then uncertain.
fn split(text: &str, separator: u8) -> Option<impl Iterator<Item = &str> + Clone> {
    (text.bytes().filter(|&byte| byte == b'"').count() % 2 == 0).then(|| {
        let mut is_quoted = false;
        text.split(move |c: char| {
            is_quoted ^= c == '"';
            !is_quoted && c == char::from(separator)
        })
    })
}

/// Returns the node of the parameter `for` of one element (RFC 7239 §4).
fn forwarded_for(element: &str) -> Option<Client<'_>> {
    let mut pairs = split(element, b';')?.filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    match value.strip_prefix('"') {
        // An escape in it is allowed (RFC 9110 §5.6.4), but no node needs one.
        Some(quoted) => node(quoted.strip_suffix('"')?),
        None => node(value),
    }
}

/// Returns a node (RFC 7239 §6): an address with or without a port, or an obfuscated name. `None` for `unknown`. IPv6
/// addresses are also taken without brackets, as most proxies write them into `X-Forwarded-For`.
fn node(text: &str) -> Option<Client<'_>> {
    let text = text.trim_matches([' ', '\t']);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(Client::Address(ip.to_canonical()));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Client::Address(address.ip().to_canonical()));
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    if !is_port {
        return None;
    }
    if text.starts_with('[') {
        return name.parse::<Ipv6Addr>().ok().map(|ip| Client::Address(IpAddr::V6(ip).to_canonical()));
    }
    if let Ok(ip) = name.parse::<Ipv4Addr>() {
        return Some(Client::Address(ip.into()));
    }
    let is_obfuscated = name.len() <= Client::MAX && name.strip_prefix('_').is_some_and(is_obfuscated);
    is_obfuscated.then_some(Client::Obfuscated(name))
}

/// Whether this is a port, in digits or obfuscated (RFC 7239 §6).
fn is_port(port: &str) -> bool {
    match port.strip_prefix('_') {
        Some(name) => is_obfuscated(name),
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Whether this may follow the underscore of an obfuscated name.
fn is_obfuscated(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The most hops that are read of one line, from its end. Longer chains of proxies do not occur.
const MOST_HOPS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::parse_block;

    /// Returns the client according to these lines, with 10.0.0.0/8 and 2001:db8:1::/48 trusted.
    fn said(source: ClientAddress, lines: &[(&str, &str)]) -> Option<String> {
        let blocks = ["10.0.0.0/8", "2001:db8:1::/48"].map(|block| parse_block(block).expect("a block"));
        let trusted = TrustedProxies::new(blocks.to_vec());
        let mut forwarding = Forwarding::default();
        for (name, value) in lines {
            match *name {
                "F" => forwarding.see_forwarded(value.as_bytes(), &trusted),
                _ => forwarding.see_x_forwarded_for(value.as_bytes(), &trusted),
            }
        }
        forwarding.client(source).map(|client| client.to_string())
    }

    #[track_caller]
    fn check(lines: &[(&str, &str)], client: Option<&str>) {
        assert_eq!(said(ClientAddress::Auto, lines).as_deref(), client, "{lines:?}");
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_not_a_trusted_proxy() {
        check(&[], None);
        check(&[("X", "203.0.113.9")], Some("203.0.113.9"));
        check(&[("X", "203.0.113.9, 10.0.0.1")], Some("203.0.113.9"));
        check(&[("X", "198.51.100.1, 203.0.113.9, 10.0.0.1,10.0.0.2")], Some("203.0.113.9"));
        check(&[("X", "10.0.0.7, 10.0.0.1")], Some("10.0.0.7"));
        check(&[("X", "198.51.100.1"), ("X", "203.0.113.9"), ("X", "10.0.0.1")], Some("203.0.113.9"));
        check(&[("X", "10.0.0.9"), ("X", "10.0.0.1")], Some("10.0.0.9"));
        check(&[("F", "for=203.0.113.9;proto=https, for=10.0.0.1")], Some("203.0.113.9"));
        check(&[("F", "for=203.0.113.9"), ("F", "For=\"[2001:db8:1::5]:1\"")], Some("203.0.113.9"));
    }

    #[test]
    fn a_hop_may_be_written_in_several_ways() {
        for (hop, client) in [
            ("203.0.113.9", "203.0.113.9"),
            (" 203.0.113.9:4711\t", "203.0.113.9"),
            ("2001:DB8::17", "2001:db8::17"),
            ("[2001:db8::17]", "2001:db8::17"),
            ("[2001:db8::17]:4711", "2001:db8::17"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("_hidden", "_hidden"),
            ("_SEVKISEK:_port", "_SEVKISEK"),
            ("203.0.113.9:_port", "203.0.113.9"),
        ] {
            check(&[("X", hop)], Some(client));
            check(&[("F", &format!("proto=http;FOR=\"{}\"", hop.trim()))], Some(client));
        }
        check(&[("F", "for=_gazonk")], Some("_gazonk"));
        check(&[("F", "by=10.0.0.1;for=192.0.2.43; host=\"a,b;c\" ,for=10.0.0.1")], Some("192.0.2.43"));
    }

    #[test]
    fn what_is_not_an_address_is_not_a_client_and_nothing_before_it_counts() {
        let long = format!("_{}", "x".repeat(64));
        for bad in [
            "",
            "unknown",
            "unknown:80",
            "203.0.113",
            "203.0.113.9:",
            "203.0.113.9:999999",
            "203.0.113.9:x",
            "[203.0.113.9]",
            "[2001:db8::17",
            "2001:db8::17]",
            "[2001:db8::17]x",
            "_",
            "_a b",
            "_\u{1b}[2J",
            "_é",
            "a.example",
            "\"203.0.113.9\"",
            "203.0.113.9 203.0.113.8",
            "fe80::1%eth0",
            &long,
        ] {
            check(&[("X", bad)], None);
            check(&[("X", &format!("198.51.100.1, {bad}, 10.0.0.1"))], None);
            if !bad.contains('"') {
                check(&[("F", &format!("for=198.51.100.1, for=\"{bad}\", for=10.0.0.1"))], None);
            }
        }
        for bad in [
            "for",
            "=1.1.1.1",
            "for=",
            "proto=https",
            "for=\"203.0.113.9",
            "for=\"\\203.0.113.9\"",
            "for =1.1.1.1",
        ] {
            check(&[("F", bad)], None);
            check(&[("F", "for=198.51.100.1"), ("F", bad)], None);
        }
        // A quotation mark that a client leaves open must not hide what the proxy appends after it.
        check(&[("F", "for=198.51.100.1;x=\", for=203.0.113.9")], None);
        check(&[("F", "for=198.51.100.1;x=\", for=\"203.0.113.9:80\"")], None);
        check(&[("X", "\", 203.0.113.9")], Some("203.0.113.9"));
        check(&[("X", "\u{e9}")], None);
    }

    #[test]
    fn the_setting_says_which_header_counts() {
        let both = [("F", "for=192.0.2.1"), ("X", "192.0.2.2")];
        for (source, client) in [
            (ClientAddress::Off, None),
            (ClientAddress::Auto, Some("192.0.2.2")),
            (ClientAddress::Forwarded, Some("192.0.2.1")),
            (ClientAddress::XForwardedFor, Some("192.0.2.2")),
        ] {
            assert_eq!(said(source, &both).as_deref(), client, "{source:?}");
        }
        assert_eq!(said(ClientAddress::Forwarded, &both[1..]), None);
        assert_eq!(said(ClientAddress::XForwardedFor, &both[..1]), None);
        // A line without an address is still the line of the gateway.
        check(&[("F", "for=192.0.2.1"), ("X", "unknown")], None);
    }

    #[test]
    fn of_a_long_list_the_end_is_read() {
        let long = "10.0.0.1, ".repeat(1000);
        check(&[("X", &format!("203.0.113.9, {long}10.0.0.2"))], Some("10.0.0.1"));
        check(&[("X", &format!("{long}203.0.113.9"))], Some("203.0.113.9"));
        check(&[("F", &format!("{}for=203.0.113.9", "for=10.0.0.1,".repeat(1000)))], Some("203.0.113.9"));
    }

    #[test]
    fn where_every_peer_is_trusted_the_last_hop_is_the_client() {
        let mut forwarding = Forwarding::default();
        forwarding.see_x_forwarded_for(b"198.51.100.1, 203.0.113.9", &TrustedProxies::any());
        let client = forwarding.client(ClientAddress::Auto).map(|client| client.to_string());
        assert_eq!(client.as_deref(), Some("203.0.113.9"));
    }
}
