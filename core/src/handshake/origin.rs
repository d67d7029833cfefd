//! The web pages that may connect (RFC 6455 §10.2). A browser sends its cookies with a WebSocket of any page, and the
//! gateway converts them to an identity, so only `Origin` shows whether the page is one of the application.

use super::host::{Authority, default_port};

/// The origins that are admitted in addition to those with the host of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllowedOrigins {
    /// Every origin.
    Any,
    /// These origins. If the list is empty, only the host of the request is admitted.
    These(Vec<OriginPattern>),
}

impl Default for AllowedOrigins {
    fn default() -> AllowedOrigins {
        AllowedOrigins::These(Vec::new())
    }
}

impl AllowedOrigins {
    /// Whether a page of `origin`, the value of the header, may connect to `host`, which comes from `Host` or from
    /// [`HandshakeConfig::host_header`](super::HandshakeConfig::host_header).
    ///
    /// An origin with the same host is admitted with any scheme and port, because browsers also send cookies to all ports of a
    /// host.
    pub fn admits(&self, origin: &str, host: &Authority<'_>) -> bool {
        let AllowedOrigins::These(patterns) = self else { return true };
        let Some(origin) = Origin::parse(origin) else { return false };
        origin.authority.is_some_and(|authority| authority.has_same_host(host))
            || patterns.iter().any(|pattern| pattern.matches(&origin))
    }
}

/// A serialised origin (RFC 6454 §6.2).
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    /// Empty for `null`.
    scheme: &'a str,
    /// The text after `://`.
    rest: &'a str,
    /// `rest`, if it is an authority. With the scheme of an application it need not be one: `file://`, `app://.`.
    authority: Option<Authority<'a>>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Origin<'a>> {
        if text == NULL {
            return Some(Origin { scheme: "", rest: "", authority: None });
        }
        let (scheme, rest) = text.split_once("://")?;
        let authority = Authority::parse(rest);
        let is_opaque = || !is_of_the_web(scheme) && !rest.contains(['/', '?', '#', '@', ',', ' ']);
        (is_scheme(scheme) && (authority.is_some() || is_opaque())).then_some(Origin {
            scheme,
            rest,
            authority,
        })
    }
}

/// One origin, or all origins that differ in the first label of their host.
///
/// Scheme and host are compared without case, the host as an [`Authority`], and a missing port is the default of the scheme:
/// `https://app.example.com:443` equals `https://app.example.com`. Schemes of applications, such as `capacitor://localhost`
/// and `chrome-extension://ID`, are compared in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPattern {
    /// As it was written, without the wildcard. [`Origin::parse`] has parsed it once.
    text: String,
    wildcard: Wildcard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wildcard {
    None,
    /// `https://*.example.com`: exactly one label before the host.
    Label,
    /// `moz-extension://*`: any host without a port.
    Host,
}

/// Why a text is not an [`OriginPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidOrigin {
    /// There is no `SCHEME://`.
    NoScheme,
    /// Something follows the host and the port.
    Path,
    /// The text is not an origin for another reason.
    Form,
    /// The host has characters beyond ASCII, which browsers encode (`xn--…`).
    NotAscii,
    /// `*` is not the whole first label of a name, or there are several.
    Wildcard,
    /// `*` is all of the host, with a scheme of the web.
    EveryHost,
}

impl OriginPattern {
    /// Parses `https://app.example.com`, `https://*.example.com:8443`, `null`, `file://`, `moz-extension://*`.
    ///
    /// # Errors
    /// The first fault of the text.
    pub fn parse(text: &str) -> Result<OriginPattern, InvalidOrigin> {
        if text == NULL {
            return Ok(OriginPattern { text: text.to_owned(), wildcard: Wildcard::None });
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidOrigin::NoScheme)?;
        if rest.contains(['/', '?', '#']) {
            return Err(InvalidOrigin::Path);
        }
        if !rest.is_ascii() {
            return Err(InvalidOrigin::NotAscii);
        }
        let (wildcard, authority) = match rest.strip_prefix("*.") {
            Some(parent) => (Wildcard::Label, parent),
            None if rest == "*" && is_of_the_web(scheme) => return Err(InvalidOrigin::EveryHost),
            None if rest == "*" => (Wildcard::Host, ""),
            None => (Wildcard::None, rest),
        };
        if authority.contains('*') {
            return Err(InvalidOrigin::Wildcard);
        }
        let text = format!("{scheme}://{authority}");
        let origin = Origin::parse(&text).ok_or(InvalidOrigin::Form)?;
        match (wildcard, origin.authority) {
            // An address has no labels that could vary.
            (Wildcard::Label, Some(parent)) if is_address(parent.host()) => Err(InvalidOrigin::Wildcard),
            (Wildcard::Label, None) => Err(InvalidOrigin::Form),
            _ => Ok(OriginPattern { text, wildcard }),
        }
    }

    fn matches(&self, origin: &Origin<'_>) -> bool {
        let Some(listed) = Origin::parse(&self.text) else { return false };
        if !listed.scheme.eq_ignore_ascii_case(origin.scheme) {
            return false;
        }
        let port = default_port(origin.scheme);
        match (self.wildcard, listed.authority, origin.authority) {
            (Wildcard::None, None, None) => listed.rest.eq_ignore_ascii_case(origin.rest),
            (Wildcard::None, Some(listed), Some(found)) => listed.is_same(&found, port),
            (Wildcard::Label, Some(parent), Some(found)) => {
                found.without_first_label().is_some_and(|found| parent.is_same(&found, port))
            }
            (Wildcard::Host, _, Some(found)) => found.port().is_none(),
            _ => false,
        }
    }
}

/// The origin of a page that has no host: a sandboxed frame, a `data:` URL, some local files.
const NULL: &str = "null";

/// Whether origins of this scheme have a host, and a port that may be left out.
fn is_of_the_web(scheme: &str) -> bool {
    default_port(scheme).is_some()
}

/// Whether this is a scheme (RFC 3986 §3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Whether a host is an IPv6 address, or its last label is a number, as in an IPv4 address.
fn is_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    host.starts_with('[') || last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(allowed: &[&str], origin: &str, host: &str, verdict: bool) {
        let patterns = allowed.iter().map(|text| OriginPattern::parse(text).expect("a pattern")).collect();
        let allowed = AllowedOrigins::These(patterns);
        let host = Authority::parse(host).expect("a host");
        assert_eq!(allowed.admits(origin, &host), verdict, "{origin} at {host:?}, allowed {allowed:?}");
    }

    #[test]
    fn the_own_host_is_admitted_on_any_port_and_scheme() {
        check(&[], "https://app.example", "app.example", true);
        check(&[], "http://app.example:5173", "app.example:9191", true);
        check(&[], "https://APP.example", "app.EXAMPLE", true);
        check(&[], "http://[::1]:3000", "[::1]:9191", true);
        check(&[], "http://[::1]", "[::1]", true);
        check(&[], "http://[::1]", "[0:0::1]:80", true);
    }

    #[test]
    fn a_trailing_dot_of_either_side_does_not_count() {
        check(&[], "https://app.example.", "app.example", true);
        check(&[], "https://app.example", "app.example.", true);
        check(&[], "https://app.example.:8443", "app.example.:443", true);
        check(&[], "https://app.example..", "app.example", false);
        check(&["https://good.example."], "https://good.example", "api.example", true);
        check(&["https://good.example"], "https://good.example.", "api.example", true);
        check(&["https://*.good.example"], "https://a.good.example.", "api.example", true);
    }

    #[test]
    fn another_host_is_not() {
        check(&[], "https://app.example.evil.test", "app.example", false);
        check(&[], "https://evil.test", "app.example", false);
        check(&[], "https://evil.test/app.example", "app.example", false);
        check(&[], "https://app.example@evil.test", "app.example", false);
        check(&[], "https://evil.test#app.example", "app.example", false);
        check(&[], "https://app.example, https://evil.test", "app.example", false);
        check(&[], "https://app.example https://evil.test", "app.example", false);
        check(&[], "https://xapp.example", "app.example", false);
        check(&[], "https://app.example:evil.test", "app.example", false);
        check(&[], "https://app.example:65536", "app.example", false);
        check(&[], "https://:80", "app.example", false);
        check(&[], "http://[::2]:3000", "[::1]:3000", false);
        check(&[], "null", "null", false);
        check(&[], "file://", "app.example", false);
        check(&[], "", "app.example", false);
        check(&[], "app.example", "app.example", false);
        check(&[], "https://", "app.example", false);
        check(&[], "://app.example", "app.example", false);
    }

    #[test]
    fn a_listed_origin_is_compared_as_scheme_host_and_port() {
        let good = &["https://good.example"];
        check(good, "https://good.example", "api.example", true);
        check(good, "HTTPS://Good.Example", "api.example", true);
        check(good, "https://good.example:443", "api.example", true);
        check(good, "http://good.example", "api.example", false);
        check(good, "http://good.example:443", "api.example", false);
        check(good, "wss://good.example", "api.example", false);
        check(good, "https://good.example:444", "api.example", false);
        check(&["https://good.example:443"], "https://good.example", "api.example", true);
        check(&["http://localhost:5173"], "http://localhost:5173", "api.example", true);
        check(&["http://localhost:5173"], "http://localhost", "api.example", false);
        check(&["http://[::1]:3000"], "http://[0::1]:3000", "api.example", true);
        check(&["null"], "null", "api.example", true);
        check(&["null"], "https://null", "api.example", false);
        let api = Authority::parse("api.example").expect("a host");
        assert!(AllowedOrigins::Any.admits("null", &api));
        assert!(AllowedOrigins::Any.admits("not an origin", &api));
    }

    #[test]
    fn every_origin_that_clients_send_can_be_listed() {
        for origin in [
            "https://app.example.com:8443",
            "http://192.0.2.7",
            "http://[2001:db8::1]:8080",
            "http://my_host:1",
            "https://xn--bcher-kva.example",
            "ws://device.local",
            "wss://device.local",
            "null",
            "file://",
            "qrc://",
            "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
            "moz-extension://3c9f0a0e-2b7e-4a3f-8f53-0d5c4a0f3f0d",
            "safari-web-extension://0E8A1C1B-7B0D-4F1C-9E0A-1B2C3D4E5F60",
            "capacitor://localhost",
            "capacitor-electron://-",
            "ionic://localhost",
            "tauri://localhost",
            "app://obsidian.md",
            "app://.",
            "vscode-webview://1k2j3h4g5f",
            "vscode-file://vscode-app",
        ] {
            check(&[origin], origin, "api.example", true);
            check(&[origin], &origin.to_ascii_uppercase(), "api.example", origin != "null");
            check(&["https://other.example"], origin, "api.example", false);
        }
    }

    #[test]
    fn a_wildcard_is_exactly_one_label() {
        let tenants = &["https://*.example.com"];
        check(tenants, "https://a.example.com", "api.test", true);
        check(tenants, "https://A.EXAMPLE.com", "api.test", true);
        check(tenants, "https://a.example.com:443", "api.test", true);
        check(tenants, "https://xn--bcher-kva.example.com", "api.test", true);
        check(tenants, "https://example.com", "api.test", false);
        check(tenants, "https://.example.com", "api.test", false);
        check(tenants, "https://a.b.example.com", "api.test", false);
        check(tenants, "https://aexample.com", "api.test", false);
        check(tenants, "https://a.example.com.evil.test", "api.test", false);
        check(tenants, "https://evil.test/a.example.com", "api.test", false);
        check(tenants, "https://evil.test:a.example.com", "api.test", false);
        check(tenants, "http://a.example.com", "api.test", false);
        check(tenants, "https://a.example.com:8443", "api.test", false);
        check(&["https://*.example.com:8443"], "https://a.example.com:8443", "api.test", true);
        check(&["https://*.example.com:8443"], "https://a.example.com", "api.test", false);
        check(&["http://*.localhost:3000"], "http://tenant.localhost:3000", "api.test", true);
        // The host of an extension differs with each installation.
        check(&["moz-extension://*"], "moz-extension://3c9f0a0e-2b7e", "api.test", true);
        check(&["moz-extension://*"], "chrome-extension://3c9f0a0e-2b7e", "api.test", false);
        check(&["moz-extension://*"], "moz-extension://", "api.test", false);
    }

    #[test]
    fn what_is_not_an_origin_cannot_be_listed() {
        for (text, error) in [
            ("", InvalidOrigin::NoScheme),
            ("a.example", InvalidOrigin::NoScheme),
            ("*.example.com", InvalidOrigin::NoScheme),
            ("https:a.example", InvalidOrigin::NoScheme),
            ("https://a.example/", InvalidOrigin::Path),
            ("file:///", InvalidOrigin::Path),
            ("https://a.example?x", InvalidOrigin::Path),
            ("https://", InvalidOrigin::Form),
            ("://a.example", InvalidOrigin::Form),
            ("*://a.example", InvalidOrigin::Form),
            ("1http://a.example", InvalidOrigin::Form),
            ("https://a b.example", InvalidOrigin::Form),
            ("https://user@a.example", InvalidOrigin::Form),
            ("https://a.example:port", InvalidOrigin::Form),
            ("https://[::1", InvalidOrigin::Form),
            ("https://bücher.example", InvalidOrigin::NotAscii),
            ("https://*", InvalidOrigin::EveryHost),
            ("https://*.", InvalidOrigin::Form),
            ("https://*:8443", InvalidOrigin::Wildcard),
            ("https://*.*.example.com", InvalidOrigin::Wildcard),
            ("https://a*.example.com", InvalidOrigin::Wildcard),
            ("https://*a.example.com", InvalidOrigin::Wildcard),
            ("https://app.*.com", InvalidOrigin::Wildcard),
            ("https://example.*", InvalidOrigin::Wildcard),
            ("https://a.example:*", InvalidOrigin::Wildcard),
            ("https://*.0.0.1", InvalidOrigin::Wildcard),
        ] {
            assert_eq!(OriginPattern::parse(text), Err(error), "{text}");
        }
    }
}
