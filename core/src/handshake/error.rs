//! The reasons why an upgrade is refused, each with its HTTP status, code and text.

use std::fmt;

use crate::close_code::CloseCode;

use super::assertion_error::AssertionError;
use crate::close_code;
use crate::listed::listed;

listed! {
/// The reason why an upgrade is refused. It contains nothing from the request. The client gets all of it but the
/// [`detail`](Self::detail).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The bytes are not an HTTP/1.1 request head (RFC 9112 §2 to §5).
    NotHttp,
    /// A line ends in LF without CR. RFC 9112 §2.2 allows a server to accept it, but request smuggling exploits two parsers that
    /// disagree on it.
    BareLineFeed,
    /// The request line has another version than HTTP/1.1, which RFC 6455 §4.1 requires.
    HttpVersion,
    /// The request target is neither a path (RFC 9112 §3.2.1) nor a URL whose host and port are those of `Host`
    /// (§3.2.2), or contains a byte that is not allowed in one.
    Target,
    /// `Host` is missing, present twice, or not a host (RFC 9112 §3.2). Or there is an `Origin` to compare with the header of
    /// [`HandshakeConfig::host_header`](super::HandshakeConfig::host_header), and that is present twice or not a host.
    Host,
    /// The request announces a body, whose bytes would be read as frames.
    Body,
    /// No `Upgrade: websocket` (RFC 6455 §4.2.1, 3).
    NoUpgrade,
    /// `Connection` lacks the token `upgrade` (RFC 6455 §4.2.1, 4).
    NoConnectionUpgrade,
    /// `Sec-WebSocket-Key` is missing, present twice, or not a key (RFC 6455 §4.2.1, 5).
    Key,
    /// An identity header is present twice: a proxy appends it to that of the client instead of replacing it.
    IdentityTwice,
    /// The name of a header differs from that of an identity header only in its separators (`User_ID`), so that some proxy may
    /// confuse them.
    IdentityAlias,
    /// `Connection` nominates an identity header, which asks a proxy to drop it (RFC 9110 §7.6.1).
    IdentityNominated,
    /// The user id is too long, not UTF-8, or not of the [`IdCharset`](super::IdCharset).
    IdentityInvalid,
    /// The session's id is too long, not UTF-8, or not of the [`IdCharset`](super::IdCharset).
    SessionIdInvalid,
    /// The token's expiry is not a number of seconds. It must not be read as "never".
    TokenExpInvalid,
    /// `Origin` is present twice.
    OriginTwice,
    /// No user id, or an empty one.
    IdentityMissing,
    /// No assertion, or an empty one, although one is required.
    AssertionMissing,
    /// The assertion is not a valid token (RFC 7519) of the issuer for this audience with a user.
    Assertion(AssertionError),
    /// The TCP peer is not among the trusted proxies.
    PeerNotTrusted,
    /// The proxy secret is missing, wrong, repeated, accompanied by an alias of its header, or named in `Connection`.
    ProxySecret,
    /// The page's origin is not allowed (RFC 6455 §10.2).
    OriginNotAllowed,
    /// No WebSocket is served at this path.
    NotFound,
    /// The method is not GET (RFC 6455 §4.2.1, 1).
    Method,
    /// The head was not complete in time.
    Timeout,
    /// `Sec-WebSocket-Version` is not 13 (RFC 6455 §4.4).
    Version,
    /// The user has the maximum number of connections.
    TooMany,
    /// The head is longer than allowed (RFC 6585 §5).
    HeadTooLarge,
    /// The head has more header lines than allowed.
    TooManyHeaders,
    /// The process is about to stop.
    Draining,
    /// The process has the maximum number of connections.
    Overloaded,
    /// Connections arrive faster than the process accepts them.
    TooFast,
    /// Too many handshakes are in progress, or memory is short, and this one has taken the longest.
    Crowded,
    /// The log is full and must not lose records, so no user is admitted.
    LogStalled,
}
}

impl HandshakeError {
    /// The HTTP status of the refusal.
    pub fn status(self) -> u16 {
        match self {
            HandshakeError::NotHttp
            | HandshakeError::BareLineFeed
            | HandshakeError::HttpVersion
            | HandshakeError::Target
            | HandshakeError::Host
            | HandshakeError::Body
            | HandshakeError::NoUpgrade
            | HandshakeError::NoConnectionUpgrade
            | HandshakeError::Key
            | HandshakeError::IdentityTwice
            | HandshakeError::IdentityAlias
            | HandshakeError::IdentityNominated
            | HandshakeError::IdentityInvalid
            | HandshakeError::SessionIdInvalid
            | HandshakeError::TokenExpInvalid
            | HandshakeError::OriginTwice => 400,
            HandshakeError::IdentityMissing | HandshakeError::AssertionMissing => 401,
            HandshakeError::Assertion(error) => error.status(),
            HandshakeError::PeerNotTrusted
            | HandshakeError::ProxySecret
            | HandshakeError::OriginNotAllowed => 403,
            HandshakeError::NotFound => 404,
            HandshakeError::Method => 405,
            HandshakeError::Timeout => 408,
            HandshakeError::Version => 426,
            HandshakeError::TooMany => 429,
            HandshakeError::HeadTooLarge | HandshakeError::TooManyHeaders => 431,
            HandshakeError::Draining
            | HandshakeError::Overloaded
            | HandshakeError::TooFast
            | HandshakeError::Crowded
            | HandshakeError::LogStalled => 503,
        }
    }

    /// The close code with the same meaning, for refusals that concern the user, so that a page can react to them. See
    /// [`Reject::Close`](super::Reject::Close).
    pub fn close_code(self) -> Option<CloseCode> {
        match self.status() {
            401 => Some(CloseCode::from(close_code::UNAUTHORIZED)),
            403 => Some(CloseCode::from(close_code::FORBIDDEN)),
            429 => Some(CloseCode::from(close_code::TOO_MANY_CONNECTIONS)),
            _ => None,
        }
    }

    /// The reason phrase of the status (RFC 9110 §15).
    pub fn reason_phrase(self) -> &'static str {
        match self.status() {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Bad Request",
        }
    }

    /// The code of the refusal for programs: `error.code` in the JSON body, `code` in the log, `reason` in the metrics.
    pub fn code(self) -> &'static str {
        match self {
            HandshakeError::NotHttp => "not_http",
            HandshakeError::BareLineFeed => "bare_line_feed",
            HandshakeError::HttpVersion => "http_version",
            HandshakeError::Target => "request_target",
            HandshakeError::Host => "host",
            HandshakeError::Body => "request_body",
            HandshakeError::NoUpgrade => "upgrade_missing",
            HandshakeError::NoConnectionUpgrade => "connection_upgrade_missing",
            HandshakeError::Key => "websocket_key",
            HandshakeError::IdentityTwice => "identity_twice",
            HandshakeError::IdentityAlias => "identity_alias",
            HandshakeError::IdentityNominated => "identity_nominated",
            HandshakeError::IdentityInvalid => "identity_invalid",
            HandshakeError::SessionIdInvalid => "session_id_invalid",
            HandshakeError::TokenExpInvalid => "token_exp_invalid",
            HandshakeError::OriginTwice => "origin_twice",
            HandshakeError::IdentityMissing => "identity_missing",
            HandshakeError::AssertionMissing => "assertion_missing",
            HandshakeError::Assertion(error) => error.code(),
            HandshakeError::PeerNotTrusted => "peer_not_trusted",
            HandshakeError::ProxySecret => "proxy_secret",
            HandshakeError::OriginNotAllowed => "origin_not_allowed",
            HandshakeError::NotFound => "not_found",
            HandshakeError::Method => "method_not_allowed",
            HandshakeError::Timeout => "handshake_timeout",
            HandshakeError::Version => "websocket_version",
            HandshakeError::TooMany => "too_many_requests",
            HandshakeError::HeadTooLarge => "head_too_large",
            HandshakeError::TooManyHeaders => "too_many_headers",
            HandshakeError::Draining => "draining",
            HandshakeError::Overloaded => "overloaded",
            HandshakeError::TooFast => "too_fast",
            HandshakeError::Crowded => "crowded",
            HandshakeError::LogStalled => "log_stalled",
        }
    }

    /// The text for people. [`HandshakeConfig::refusal_text`](super::HandshakeConfig::refusal_text) can replace it in the body of
    /// the refusal.
    pub fn message(self) -> &'static str {
        match self {
            HandshakeError::NotHttp => {
                "this port speaks plain HTTP/1.1; TLS, HTTP/2 and the PROXY protocol end at the gateway"
            }
            HandshakeError::BareLineFeed => "each line of the request must end in CR LF",
            HandshakeError::HttpVersion => "a WebSocket upgrade needs HTTP/1.1",
            HandshakeError::Target => {
                "the request target must be a path, or a URL with the host and port of Host, without user and fragment"
            }
            HandshakeError::Host => {
                "exactly one Host header is needed, and it must be a host; so must be the header that replaces it"
            }
            HandshakeError::Body => {
                "an upgrade request has no body; send no Content-Length other than 0, and no chunks but the empty last one"
            }
            HandshakeError::NoUpgrade => "the header Upgrade: websocket is needed",
            HandshakeError::NoConnectionUpgrade => "the header Connection: Upgrade is needed",
            HandshakeError::Key => "exactly one valid Sec-WebSocket-Key is needed",
            HandshakeError::IdentityTwice => "an identity header stands in the request twice",
            HandshakeError::IdentityAlias => {
                "a header is named like an identity header but for its separators"
            }
            HandshakeError::IdentityNominated => "Connection must not name an identity header",
            HandshakeError::IdentityInvalid => {
                "the user id is longer than 255 bytes, not UTF-8, or has a character that is not allowed"
            }
            HandshakeError::SessionIdInvalid => {
                "the session id is longer than 255 bytes, not UTF-8, or has a character that is not allowed"
            }
            HandshakeError::TokenExpInvalid => {
                "the expiry of the token must be in seconds since 1970, in at most 11 digits"
            }
            HandshakeError::OriginTwice => "Origin stands in the request twice",
            HandshakeError::IdentityMissing => "no user id: the gateway did not vouch for a user",
            HandshakeError::AssertionMissing => "no assertion: the gateway did not send its header",
            HandshakeError::Assertion(error) => error.message(),
            HandshakeError::PeerNotTrusted => "the peer is not a trusted proxy",
            HandshakeError::ProxySecret => {
                "the request must carry the secret of the proxy, in exactly one header line"
            }
            HandshakeError::OriginNotAllowed => "the page's origin is not allowed",
            HandshakeError::NotFound => "nothing is served at this path",
            HandshakeError::Method => "a WebSocket upgrade needs the method GET",
            HandshakeError::Timeout => "the request was not complete in time",
            HandshakeError::Version => "the header Sec-WebSocket-Version: 13 is needed",
            HandshakeError::TooMany => "too many connections of this user",
            HandshakeError::HeadTooLarge => "the request head is too large",
            HandshakeError::TooManyHeaders => "the request has too many header lines",
            HandshakeError::Draining => "this instance is stopping; try again",
            HandshakeError::Overloaded => "this instance has as many connections as it may; try again",
            HandshakeError::TooFast => {
                "connections arrive faster than this instance may take them; try again"
            }
            HandshakeError::Crowded => {
                "too many requests are arriving at this instance, and this one took the longest; try again"
            }
            HandshakeError::LogStalled => "this instance cannot write its log; try again",
        }
    }

    /// The rule that an assertion breaks, for the log only.
    pub fn detail(self) -> Option<&'static str> {
        if let HandshakeError::Assertion(error) = self { Some(error.detail()) } else { None }
    }

    /// Whether the client may try again later: the answer has `Retry-After` (RFC 9110 §10.2.3).
    pub fn is_temporary(self) -> bool {
        matches!(self.status(), 429 | 503)
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for HandshakeError {}
