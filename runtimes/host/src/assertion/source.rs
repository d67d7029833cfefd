//! The source of the issuer's keys, and one attempt to read it.

use std::borrow::Cow;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;
use ureq::http::header::{CACHE_CONTROL, HeaderMap};
use ureq::http::uri::Authority;
use ureq::tls::{RootCerts, TlsConfig};

use super::keys::KeySet;
use crate::url;

/// The place where the issuer publishes its keys as a JWK Set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A URL: https, http of this host, or http of another host if the settings allow it.
    Url(String),
    /// A file.
    File(PathBuf),
}

impl KeySource {
    /// Checks that a file contains usable keys. A URL is not fetched.
    ///
    /// # Errors
    /// The file cannot be used. The text is the end of a sentence that begins with the file.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            KeySource::Url(_) => Ok(()),
            KeySource::File(path) => parse_file(&read_file(path)?).map(drop),
        }
    }

    /// Parses a URL or the path of a file. `is_insecure` allows http to another host.
    ///
    /// # Errors
    /// The URL cannot be used. The text is the end of a sentence that begins with the URL.
    pub fn parse(text: &str, is_insecure: bool) -> Result<KeySource, &'static str> {
        let Some((scheme, _)) = text.split_once("://") else {
            return Ok(KeySource::File(PathBuf::from(text)));
        };
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return Err("not an https URL; write https, or the path of a file without a scheme");
        }
        let uri = text.parse::<Uri>().ok().filter(|uri| uri.authority().is_some_and(is_whole));
        let uri = uri.ok_or("not a URL; write for example https://issuer.example/jwks.json")?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("keys are public; leave out the user and the password");
        }
        let source = KeySource::Url(text.to_owned());
        if source.is_exposed() && !is_insecure {
            return Err(
                "plain http would let an attacker on the network path replace the keys; write https, or set \
                POSTERN_ASSERTION_JWKS_INSECURE=true if the network is trusted, such as the network of a cluster",
            );
        }
        Ok(source)
    }

    /// Whether an attacker on the network path could replace the keys: they are fetched by http from another host.
    pub(crate) fn is_exposed(&self) -> bool {
        let KeySource::Url(url) = self else { return false };
        let is_http = url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
        is_http && !url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_this_host))
    }
}

/// The text for the log and for errors. It has no query, which may contain an API key, and no password, which a mistyped URL that
/// was parsed as the path of a file may contain.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            KeySource::Url(url) => Cow::Borrowed(url.as_str()),
            KeySource::File(path) => path.to_string_lossy(),
        };
        f.write_str(&url::redact_url(&text))
    }
}

/// A set of keys, and how long to wait before the next fetch.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) next: Duration,
}

/// Fetches the keys, any number of times.
pub(super) enum Fetcher {
    Url {
        url: String,
        agent: Agent,
    },
    /// A file, and its content when it last had usable keys.
    File {
        path: PathBuf,
        last: Option<Vec<u8>>,
    },
}

impl Fetcher {
    pub(super) fn new(source: &KeySource) -> Fetcher {
        match source {
            KeySource::Url(url) => Fetcher::Url { url: url.clone(), agent: agent(url) },
            KeySource::File(path) => Fetcher::File { path: path.clone(), last: None },
        }
    }

    /// Fetches the keys. Returns `None` if the content of the file has not changed.
    ///
    /// # Errors
    /// The text for the log.
    pub(super) fn fetch(&mut self) -> Result<Option<Fetched>, String> {
        match self {
            Fetcher::Url { url, agent } => fetch_url(agent, url).map(Some),
            Fetcher::File { path, last } => {
                let json = read_file(path)?;
                if last.as_ref() == Some(&json) {
                    return Ok(None);
                }
                let keys = parse_file(&json)?;
                *last = Some(json);
                Ok(Some(Fetched { keys, next: FILE_INTERVAL }))
            }
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    // A pipe can be read only once, and opening it can block.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a regular file, so it cannot be read again".to_owned());
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut json = Vec::new();
    let length = file.take(MAX_BODY + 1).read_to_end(&mut json).map_err(unreadable)?;
    if length as u64 > MAX_BODY {
        return Err(format!("it has {TOO_LARGE}"));
    }
    Ok(json)
}

fn parse_file(json: &[u8]) -> Result<KeySet, String> {
    KeySet::parse(json).map_err(|what| format!("it is {what}"))
}

fn fetch_url(agent: &Agent, url: &str) -> Result<Fetched, String> {
    let mut response = agent.get(url).call().map_err(|error| describe(&error))?;
    let status = response.status();
    if status.is_redirection() {
        return Err(format!("the answer is a redirect ({}), which is not followed", status.as_u16()));
    }
    if status.as_u16() != 200 {
        return Err(format!("the answer has the status {}", status.as_u16()));
    }
    let next = interval(response.headers());
    let body = response.body_mut().with_config().limit(MAX_BODY).read_to_vec();
    let json = body.map_err(|error| describe(&error))?;
    let keys = KeySet::parse(&json).map_err(|what| format!("the answer is {what}"))?;
    Ok(Fetched { keys, next })
}

/// Describes an error without terms of the library, and without the secret parts of the URL.
#[expect(clippy::wildcard_enum_match_arm, reason = "the texts of the others are clear")]
fn describe(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(_) => format!("no complete answer within {} s", TIMEOUT.as_secs()),
        ureq::Error::BodyExceedsLimit(_) => format!("the answer has {TOO_LARGE}"),
        error => url::redact_url(&error.to_string()).into_owned(),
    }
}

fn agent(url: &str) -> Agent {
    // The system's roots: the issuer of a company may have a certificate of a private authority.
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(TIMEOUT))
        // A redirect could lead to a host that is not configured (GHSA-h5rg-8p7f-47g2).
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
        .accept("application/jwk-set+json, application/json")
        // Requests are minutes apart.
        .max_idle_connections(0);
    let is_local = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(is_this_host)).unwrap_or(false);
    // A proxy of the environment (HTTPS_PROXY) is not used for this host.
    let config = if is_local { config.proxy(None) } else { config };
    config.build().new_agent()
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

/// Returns how long an answer may be used (RFC 9111 §5.2.2.1), within limits.
fn interval(headers: &HeaderMap) -> Duration {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let max_age = directives.flat_map(|value| value.split(',')).find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        let seconds = value.trim_matches('"').parse().ok()?;
        name.eq_ignore_ascii_case("max-age").then_some(Duration::from_secs(seconds))
    });
    max_age.map_or(INTERVAL, |max_age| max_age.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL))
}

/// The maximum length of a JWK Set, in bytes.
const MAX_BODY: u64 = 256 * 1024;
const TOO_LARGE: &str = "more than 256 KiB, which no JWK Set needs";

/// The time from the look-up of the name to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The time between two requests, if the answer has no `max-age`.
const INTERVAL: Duration = Duration::from_secs(5 * 60);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(60);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// The time between two reads of a file, and so the longest time for which a key is accepted after it was removed.
pub(super) const FILE_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_an_https_url_a_url_of_this_host_or_a_file() {
        for url in [
            "https://issuer.example/jwks.json",
            "https://issuer.example:8443/?a=b",
            "http://127.0.0.1:8080/jwks.json",
            "http://127.9.9.9/",
            "http://[::1]:8080/jwks.json",
            "http://localhost/jwks.json",
        ] {
            for is_insecure in [false, true] {
                let source = KeySource::parse(url, is_insecure).unwrap();
                assert_eq!(source, KeySource::Url(url.to_owned()));
                assert!(!source.is_exposed(), "{url}");
            }
        }
        for path in ["/etc/postern/jwks.json", "jwks.json", "a:b"] {
            assert_eq!(KeySource::parse(path, false), Ok(KeySource::File(path.into())));
        }
        for (url, expected) in [
            ("http://user@127.0.0.1/", "keys are public"),
            ("https://user:secret@issuer.example/", "keys are public"),
            ("file:///etc/jwks.json", "not an https URL"),
            ("ftp://issuer.example/", "not an https URL"),
            ("https://", "not a URL"),
            ("https://issuer.example:port/", "not a URL"),
            ("https://issuer.example:65536/", "not a URL"),
            ("http://[::1]:/", "not a URL"),
            ("https://user:pass?word@issuer.example/", "not a URL"),
            ("https://a b/", "not a URL"),
        ] {
            for is_insecure in [false, true] {
                let error = KeySource::parse(url, is_insecure).unwrap_err();
                assert!(error.starts_with(expected), "{url}: {error}");
            }
        }
    }

    #[test]
    fn http_to_another_host_must_be_allowed() {
        for url in [
            "http://issuer.example/",
            "HTTP://issuer.example/",
            "http://127.0.0.1.evil.test/",
            "http://localhost.evil.test/",
            "http://10.0.0.1/",
            "http://keycloak.auth.svc.cluster.local:8080/realms/a/protocol/openid-connect/certs",
        ] {
            let error = KeySource::parse(url, false).unwrap_err();
            assert!(error.contains("POSTERN_ASSERTION_JWKS_INSECURE=true"), "{url}: {error}");
            let source = KeySource::parse(url, true).unwrap();
            assert!(source.is_exposed(), "{url}");
        }
    }

    #[test]
    fn text_of_a_source_has_no_query_and_no_password() {
        for (source, shown) in [
            ("https://issuer.example/jwks.json", "https://issuer.example/jwks.json"),
            ("https://issuer.example/jwks.json?key=hunter2", "https://issuer.example/jwks.json?***"),
            ("/etc/postern/jwks.json", "/etc/postern/jwks.json"),
            ("user:hunter2@issuer.example/jwks.json", "***@issuer.example/jwks.json"),
        ] {
            assert_eq!(KeySource::parse(source, false).unwrap().to_string(), shown);
        }
        let error = ureq::Error::BadUri("https://issuer.example/?key=hunter2".to_owned());
        assert_eq!(describe(&error), "bad uri: https://issuer.example/?***");
    }

    #[test]
    fn max_age_sets_the_interval_within_limits() {
        #[track_caller]
        fn check(values: &[&str], seconds: u64) {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, value.parse().unwrap());
            }
            assert_eq!(interval(&headers), Duration::from_secs(seconds), "{values:?}");
        }
        check(&[], 300);
        check(&["public, max-age=600"], 600);
        check(&["public", "MAX-AGE=\"600\", must-revalidate"], 600);
        check(&["max-age=0"], 60);
        check(&["max-age=59"], 60);
        check(&["max-age=3601"], 3600);
        check(&["max-age=18446744073709551615"], 3600);
        check(&["max-age=18446744073709551616"], 300);
        check(&["max-age=-1"], 300);
        check(&["s-maxage=600, no-cache"], 300);
    }
}
