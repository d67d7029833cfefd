//! The source of the issuer's keys, and one attempt to read it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::Request;
use ureq::http::header::{CACHE_CONTROL, HeaderMap};

use super::keys::KeySet;
use crate::outbound::{Client, ClientConfig, HttpUrl, HttpUrlError, RequestError};
use crate::url;

/// The place where the issuer publishes its keys as a JWK Set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A URL: https, http of this host, or http of another host if the settings allow it.
    Url(HttpUrl),
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
        if !text.contains("://") {
            return Ok(KeySource::File(PathBuf::from(text)));
        }
        let url = HttpUrl::parse(text).map_err(|error| match error {
            HttpUrlError::Scheme => "not an https URL; write https, or the path of a file without a scheme",
            HttpUrlError::Malformed => "not a URL; write for example https://issuer.example/jwks.json",
            HttpUrlError::Credentials => "keys are public; leave out the user and the password",
        })?;
        if url.is_exposed() && !is_insecure {
            return Err(
                "plain http would let an attacker on the network path replace the keys; write https, or set \
                POSTERN_ASSERTION_JWKS_INSECURE=true if the network is trusted, such as the network of a cluster",
            );
        }
        Ok(KeySource::Url(url))
    }

    /// Whether an attacker on the network path could replace the keys: they are fetched by http from another host.
    pub(crate) fn is_exposed(&self) -> bool {
        matches!(self, KeySource::Url(url) if url.is_exposed())
    }
}

/// The text for the log and for errors. It has no query, which may contain an API key, and no password, which a mistyped URL that
/// was parsed as the path of a file may contain.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Url(url) => url.fmt(f),
            KeySource::File(path) => f.write_str(&url::redact_url(&path.to_string_lossy())),
        }
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
        url: HttpUrl,
        client: Client,
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
            KeySource::Url(url) => Fetcher::Url { url: url.clone(), client: Client::new(url, CLIENT) },
            KeySource::File(path) => Fetcher::File { path: path.clone(), last: None },
        }
    }

    /// Fetches the keys. Returns `None` if the content of the file has not changed.
    ///
    /// # Errors
    /// The text for the log.
    pub(super) fn fetch(&mut self) -> Result<Option<Fetched>, String> {
        match self {
            Fetcher::Url { url, client } => fetch_url(client, url).map(Some),
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

fn fetch_url(client: &Client, url: &HttpUrl) -> Result<Fetched, String> {
    let request = Request::get(url.uri()).body(Vec::new()).map_err(|error| error.to_string())?;
    let answer = client.send(request, None).map_err(|error| match error {
        RequestError::TooLarge(_) => format!("the answer has {TOO_LARGE}"),
        error @ (RequestError::Timeout(_)
        | RequestError::Other(_)
        | RequestError::NotSent
        | RequestError::Stopped) => error.to_string(),
    })?;
    match answer.status {
        200 => {}
        status @ 300..400 => {
            return Err(format!("the answer is a redirect ({status}), which is not followed"));
        }
        status => return Err(format!("the answer has the status {status}")),
    }
    let keys = KeySet::parse(&answer.body).map_err(|what| format!("the answer is {what}"))?;
    Ok(Fetched { keys, next: interval(&answer.headers) })
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

const CLIENT: ClientConfig = ClientConfig {
    timeout: Duration::from_secs(5),
    max_body: MAX_BODY,
    // Requests are minutes apart.
    max_idle: 0,
    accept: "application/jwk-set+json, application/json",
};

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
                assert_eq!(source, KeySource::Url(HttpUrl::parse(url).unwrap()));
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
