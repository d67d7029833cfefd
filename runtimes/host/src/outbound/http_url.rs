//! The URL of a service.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;
use ureq::http::uri::Authority;

use crate::url::redact_url;

/// An absolute URL with the scheme http or https, a host, and no user or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    /// As it was written.
    text: String,
    uri: Uri,
    is_https: bool,
}

/// Why a text cannot be used as a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpUrlError {
    /// The scheme is missing, or is neither http nor https.
    Scheme,
    /// It is not a URL with a host and, after a colon, a valid port.
    Malformed,
    /// It contains a user or a password.
    Credentials,
}

impl HttpUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// It cannot be used.
    pub(crate) fn parse(text: &str) -> Result<HttpUrl, HttpUrlError> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let is = |name: &str| scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(name));
        let is_https = is("https");
        if !is_https && !is("http") {
            return Err(HttpUrlError::Scheme);
        }
        let uri = text.parse::<Uri>().map_err(|_| HttpUrlError::Malformed)?;
        let authority = uri.authority().filter(|authority| is_whole(authority));
        let authority = authority.ok_or(HttpUrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(HttpUrlError::Credentials);
        }
        Ok(HttpUrl { text: text.to_owned(), uri, is_https })
    }

    /// Returns the URL for a request.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether the host is this host.
    pub(crate) fn is_local(&self) -> bool {
        self.uri.host().is_some_and(is_this_host)
    }

    /// Whether an attacker on the network path could read and replace what is sent: plain http to another host.
    pub(crate) fn is_exposed(&self) -> bool {
        !self.is_https && !self.is_local()
    }
}

/// The text for the log, without the query, which may contain a key.
impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(&self.text))
    }
}

/// Whether there is a host and, after a colon, a valid port. The library accepts any text as the port, such as the start of a
/// password that contains a question mark.
fn is_whole(authority: &Authority) -> bool {
    let has_colon = authority.as_str().rsplit(']').next().is_some_and(|rest| rest.contains(':'));
    !authority.host().is_empty()
        && (authority.as_str().contains('@') || !has_colon || authority.port_u16().is_some())
}

/// Whether the host of a URL is this host.
fn is_this_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_exposed_if_it_is_http_to_another_host() {
        for (text, is_exposed) in [
            ("https://backend.example/hooks", false),
            ("http://127.0.0.1:3000/", false),
            ("http://[::1]/", false),
            ("HTTP://LOCALHOST/", false),
            ("http://backend/", true),
            ("http://127.0.0.1.evil.test/", true),
        ] {
            assert_eq!(HttpUrl::parse(text).unwrap().is_exposed(), is_exposed, "{text}");
        }
    }

    #[test]
    fn text_that_is_not_a_url_with_a_host_is_refused() {
        for (text, error) in [
            ("", HttpUrlError::Scheme),
            ("backend.example/hooks", HttpUrlError::Scheme),
            ("ftp://backend.example/", HttpUrlError::Scheme),
            ("http://", HttpUrlError::Malformed),
            ("http://:80/", HttpUrlError::Malformed),
            ("http://backend:port/", HttpUrlError::Malformed),
            ("http://backend:65536/", HttpUrlError::Malformed),
            ("http://a b/", HttpUrlError::Malformed),
            ("http://user:password@backend/", HttpUrlError::Credentials),
        ] {
            assert_eq!(HttpUrl::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn text_for_the_log_has_no_query() {
        let url = HttpUrl::parse("https://backend.example/hooks?key=hunter2").unwrap();
        assert_eq!(url.to_string(), "https://backend.example/hooks?***");
    }
}
