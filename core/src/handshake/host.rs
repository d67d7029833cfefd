//! Hosts in `Host`, in an origin and in an absolute request target, parsed once and compared as hosts.

use std::net::Ipv6Addr;

/// A host and, if one is given, a port: `uri-host [ ":" port ]` (RFC 9110 §7.2). It borrows the text that it was parsed
/// from and is compared by [`has_same_host`](Self::has_same_host) and [`is_same`](Self::is_same), not as text.
#[derive(Debug, Clone, Copy)]
pub struct Authority<'a> {
    /// Not empty; without the dot that ends a fully qualified name. An IPv6 address is in brackets.
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses a host with an optional port. Returns `None` if the text is not one.
    ///
    /// User information (`user@host`) is refused: RFC 9110 §4.2.4 asks recipients to treat it as an error. A comma is
    /// refused although RFC 3986 §3.2.2 allows it in a name, because proxies join two `Host` lines with it. An empty port
    /// (`host:`) counts as absent (RFC 3986 §3.2.3).
    pub fn parse(text: &'a str) -> Option<Authority<'a>> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let end = rest.find(']')?;
                let address = rest.get(..end)?;
                if !is_ipv6(address) {
                    return None;
                }
                // The brackets and the text between them.
                text.split_at_checked(end + 2)?
            }
            None => {
                let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                let name = name.strip_suffix('.').unwrap_or(name);
                if name.is_empty() || !name.bytes().all(is_name_byte) {
                    return None;
                }
                (name, port)
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        Some(Authority { host, port })
    }

    /// Returns the host: a name without a trailing dot, an IPv4 address, or an IPv6 address in brackets. In the
    /// spelling of the text.
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// Returns the port, if the text has one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns the same port of the host one label up: `example.com:8443` for `app.example.com:8443`. `None` if the
    /// host is one label, an IPv6 address, or begins with a dot.
    pub(super) fn without_first_label(&self) -> Option<Authority<'a>> {
        let (label, host) = self.host.split_once('.')?;
        let is_name = !label.is_empty() && !host.is_empty() && !label.starts_with('[');
        is_name.then_some(Authority { host, port: self.port })
    }

    /// Whether both are the same host. The port, the case, a trailing dot and the spelling of an IPv6 address do not
    /// count.
    pub fn has_same_host(&self, other: &Authority<'_>) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            || ipv6(self.host).is_some_and(|address| ipv6(other.host) == Some(address))
    }

    /// Whether both are the same host and port. `default_port` is the port of an authority without one:
    /// see [`default_port`].
    pub fn is_same(&self, other: &Authority<'_>, default_port: Option<u16>) -> bool {
        self.has_same_host(other) && self.port.or(default_port) == other.port.or(default_port)
    }
}

/// Returns the port of a URL without one (RFC 9110 §4.2, RFC 6455 §3): 80 of `http` and `ws`, 443 of `https` and `wss`.
/// `None` for any other scheme. Case does not count.
pub fn default_port(scheme: &str) -> Option<u16> {
    let is = |known: &str| scheme.eq_ignore_ascii_case(known);
    if is("http") || is("ws") {
        Some(80)
    } else if is("https") || is("wss") {
        Some(443)
    } else {
        None
    }
}

/// Whether this is a byte of a name or of an IPv4 address: `reg-name` of RFC 3986 §3.2.2 without the comma.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(&byte)
}

/// Whether this may be between brackets: an IPv6 address, with or without a zone (RFC 6874 §2).
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.bytes().all(is_name_byte)
}

/// Returns the address in brackets, if it has no zone.
fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("app.example", "app.example", None),
            ("app.example.", "app.example", None),
            ("App.Example:8080", "App.Example", Some(8080)),
            ("app.example.:443", "app.example", Some(443)),
            ("app.example:", "app.example", None),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("_dmarc.app-1.example", "_dmarc.app-1.example", None),
            ("[::1]", "[::1]", None),
            ("[::1]:8080", "[::1]", Some(8080)),
            ("[fe80::1%25eth0]:1", "[fe80::1%25eth0]", Some(1)),
            ("a:65535", "a", Some(65535)),
            ("a:00080", "a", Some(80)),
        ] {
            let parsed = Authority::parse(text).map(|authority| (authority.host(), authority.port()));
            assert_eq!(parsed, Some((host, port)), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_authority_is_refused() {
        for text in [
            "",
            ".",
            ":80",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+80",
            "a:-1",
            "a: 80",
            "::1",
            "::1:80",
            "[::1",
            "[]",
            "[a]",
            "[::1]x",
            "[::1]80",
            "[127.0.0.1]",
            "[::1%]",
            "user@a",
            "user:pass@a",
            "a,b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "\"a\"",
            "<a>",
            "a[b]",
            "é",
            "a\tb",
        ] {
            assert!(Authority::parse(text).is_none(), "{text}");
        }
    }

    #[track_caller]
    fn check(a: &str, b: &str, same_host: bool, same: bool) {
        let parse = |text| Authority::parse(text).expect("an authority");
        for (a, b) in [(a, b), (b, a)] {
            let (one, other) = (parse(a), parse(b));
            let verdict = (one.has_same_host(&other), one.is_same(&other, default_port("http")));
            assert_eq!(verdict, (same_host, same), "{a} and {b}");
        }
    }

    #[test]
    fn authorities_are_compared_as_hosts_and_ports() {
        check("app.example", "APP.Example.", true, true);
        check("app.example", "app.example:80", true, true);
        check("app.example:", "app.example:080", true, true);
        check("app.example", "app.example:8080", true, false);
        check("app.example", "app.example..", false, false);
        check("app.example", "xapp.example", false, false);
        check("app.example", "app.example.evil.test", false, false);
        check("[::1]:80", "[0:0:0:0:0:0:0:1]", true, true);
        check("[2001:DB8::A]", "[2001:db8:0::a]:81", true, false);
        check("[::1]", "[::2]", false, false);
        check("[fe80::1%25eth0]", "[fe80::1%25eth1]", false, false);
    }

    #[test]
    fn a_scheme_has_a_usual_port() {
        for (scheme, port) in
            [("http", Some(80)), ("WS", Some(80)), ("https", Some(443)), ("Wss", Some(443)), ("ftp", None)]
        {
            assert_eq!(default_port(scheme), port, "{scheme}");
        }
    }
}
