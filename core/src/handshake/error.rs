//! The reasons why an upgrade is refused, each with its HTTP status, code and text.

use std::fmt;

use crate::close_code::CloseCode;

use super::assertion_error::AssertionError;
use crate::close_code;
use crate::listed::listed;

listed! {
/// The reason why an upgrade is refused. It contains nothing from the request. The client gets all of it except for the
/// [`detail`](Self::detail).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The bytes are not an HTTP/1.1 request head (RFC 9112 §2 to §5).
    NotHttp,
    /// A line ends in LF without CR. RFC 9112 §2.2 allows a server to accept it, but request smuggling exploits two parsers
    /// that disagree on it.
    BareLineFeed,
    /// The request line has another version than HTTP/1.1, which RFC 6455 §4.1 requires.
    HttpVersion,
    /// The request target is neither a path (RFC 9112 §3.2.1) nor a URL with the host and port of `Host` (§3.2.2), or
    /// contains a byte that is not allowed in one.
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
    /// An identity header is present twice: a proxy appended it to the client's header instead of replacing it.
    IdentityTwice,
    /// The name of a header differs from the name of an identity header only in its separators (`User_ID`), so that
    /// some proxy may confuse them.
    IdentityAlias,
    /// `Connection` nominates an identity header, which asks a proxy to drop it (RFC 9110 §7.6.1).
    IdentityNominated,
    /// The user id is too long, not UTF-8, or not of the [`IdCharset`](super::IdCharset).
    IdentityInvalid,
    /// The session's id is too long, not UTF-8, or not of the [`IdCharset`](super::IdCharset).
    SessionIdInvalid,
    /// The token's expiry is not a number of seconds. It must not be read as "never".
    TokenExpInvalid,
    /// The time at which the token was issued is not a number of seconds.
    TokenIssuedAtInvalid,
    /// The id of the token is too long, not UTF-8, or has a character that is not allowed.
    TokenIdInvalid,
    /// `Origin` is present twice.
    OriginTwice,
    /// The user id is missing or empty.
    IdentityMissing,
    /// The assertion is missing or empty, although one is required.
    AssertionMissing,
    /// The assertion is not a valid token (RFC 7519) of the issuer for this audience with a user.
    Assertion(AssertionError),
    /// The token has expired, and the time for a refresh has passed.
    TokenExpired,
    /// The token, the session or the user is revoked.
    Revoked,
    /// The request has no token, although tokens are checked again.
    TokenMissing,
    /// The first message has no token, or did not arrive in time.
    FirstMessage,
    /// The token in the first message does not hold.
    TokenRefused,
    /// The token in the first message cannot be checked now.
    TokenUnchecked,
    /// A refresh names both a session and a connection, no connection number, or neither while the gateway names no session.
    RefreshTarget,
    /// A refresh has no expiry.
    RefreshWithoutExpiry,
    /// No open connection matches a refresh.
    RefreshNotFound,
    /// The connection to refresh belongs to another user.
    RefreshOtherUser,
    /// The connection to refresh is closing.
    RefreshClosing,
    /// Not all workers have answered a refresh in time.
    RefreshIncomplete,
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
    /// Returns the HTTP status of the refusal.
    pub fn status(self) -> u16 {
        self.answer().0
    }

    /// Returns the close code with the same meaning, for refusals that concern the user, so that a page can react to
    /// them. See [`Reject::Close`](super::Reject::Close).
    pub fn close_code(self) -> Option<CloseCode> {
        match self.status() {
            401 => Some(CloseCode::from(close_code::UNAUTHORIZED)),
            403 => Some(CloseCode::from(close_code::FORBIDDEN)),
            429 => Some(CloseCode::from(close_code::TOO_MANY_CONNECTIONS)),
            _ => None,
        }
    }

    /// Returns the reason phrase of the status (RFC 9110 §15).
    pub fn reason_phrase(self) -> &'static str {
        match self.status() {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            410 => "Gone",
            408 => "Request Timeout",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Bad Request",
        }
    }

    /// Returns the code of the refusal for programs: `error.code` in the JSON body, `code` in the log, `reason` in the
    /// metrics.
    pub fn code(self) -> &'static str {
        self.answer().1
    }

    /// Returns the text for people. [`HandshakeConfig::refusal_text`](super::HandshakeConfig::refusal_text) can replace
    /// it in the body of the refusal.
    pub fn message(self) -> &'static str {
        self.answer().2
    }

    /// Returns the status, the code and the text.
    fn answer(self) -> (u16, &'static str, &'static str) {
        match self {
            HandshakeError::NotHttp => (
                400,
                "not_http",
                "this port speaks plain HTTP/1.1; TLS, HTTP/2 and the PROXY protocol end at the gateway",
            ),
            HandshakeError::BareLineFeed => {
                (400, "bare_line_feed", "each line of the request must end in CR LF")
            }
            HandshakeError::HttpVersion => (400, "http_version", "a WebSocket upgrade needs HTTP/1.1"),
            HandshakeError::Target => (
                400,
                "request_target",
                "the request target must be a path, or a URL with the host and port of Host, without user and fragment",
            ),
            HandshakeError::Host => (
                400,
                "host",
                "exactly one Host header is needed, and it must be a host; so must be the header that replaces it",
            ),
            HandshakeError::Body => (
                400,
                "request_body",
                "an upgrade request has no body; send no Content-Length other than 0, and no chunks but the empty last one",
            ),
            HandshakeError::NoUpgrade => (400, "upgrade_missing", "the header Upgrade: websocket is needed"),
            HandshakeError::NoConnectionUpgrade => {
                (400, "connection_upgrade_missing", "the header Connection: Upgrade is needed")
            }
            HandshakeError::Key => (400, "websocket_key", "exactly one valid Sec-WebSocket-Key is needed"),
            HandshakeError::IdentityTwice => {
                (400, "identity_twice", "an identity header stands in the request twice")
            }
            HandshakeError::IdentityAlias => {
                (400, "identity_alias", "a header is named like an identity header but for its separators")
            }
            HandshakeError::IdentityNominated => {
                (400, "identity_nominated", "Connection must not name an identity header")
            }
            HandshakeError::IdentityInvalid => (
                400,
                "identity_invalid",
                "the user id is longer than 255 bytes, not UTF-8, or has a character that is not allowed",
            ),
            HandshakeError::SessionIdInvalid => (
                400,
                "session_id_invalid",
                "the session id is longer than 255 bytes, not UTF-8, or has a character that is not allowed",
            ),
            HandshakeError::TokenExpInvalid => (
                400,
                "token_exp_invalid",
                "the expiry of the token must be in seconds since 1970, in at most 11 digits",
            ),
            HandshakeError::TokenIssuedAtInvalid => (
                400,
                "token_issued_at_invalid",
                "the time of issue of the token must be in seconds since 1970, in at most 11 digits",
            ),
            HandshakeError::TokenIdInvalid => (
                400,
                "token_id_invalid",
                "the token id is longer than 255 bytes, not UTF-8, or has a character that is not allowed",
            ),
            HandshakeError::OriginTwice => (400, "origin_twice", "Origin stands in the request twice"),
            HandshakeError::IdentityMissing => {
                (401, "identity_missing", "no user id: the gateway did not vouch for a user")
            }
            HandshakeError::AssertionMissing => {
                (401, "assertion_missing", "no assertion: the gateway did not send its header")
            }
            HandshakeError::Assertion(error) => error.answer(),
            HandshakeError::TokenExpired => (401, "token_expired", "the token has expired: log in again"),
            HandshakeError::Revoked => {
                (403, "revoked", "the token, the session or the user is revoked: log in again")
            }
            HandshakeError::TokenMissing => (
                401,
                "token_missing",
                "no token: the gateway must pass on the header, cookie, subprotocol or parameter with the token",
            ),
            HandshakeError::FirstMessage => (
                401,
                "first_message",
                "the first message has no token, or did not arrive in time; send {type: auth, token: ...}",
            ),
            HandshakeError::TokenRefused => (401, "token_refused", "the token does not hold: log in again"),
            HandshakeError::TokenUnchecked => {
                (503, "token_unchecked", "the token cannot be checked now; try again")
            }
            HandshakeError::RefreshTarget => (
                400,
                "refresh_target",
                "name the connections by ?session=ID or ?connection=NUMBER, unless the gateway names the session",
            ),
            HandshakeError::RefreshWithoutExpiry => {
                (400, "refresh_without_expiry", "the gateway did not send the expiry of the new token")
            }
            HandshakeError::RefreshNotFound => {
                (404, "refresh_not_found", "no connection of this session or with this number is open here")
            }
            HandshakeError::RefreshOtherUser => {
                (409, "refresh_other_user", "the connection belongs to another user; open a new one")
            }
            HandshakeError::RefreshClosing => {
                (410, "refresh_closing", "the connection is closing; open a new one")
            }
            HandshakeError::RefreshIncomplete => {
                (503, "refresh_incomplete", "not all connections could be found in time; try again")
            }
            HandshakeError::PeerNotTrusted => (403, "peer_not_trusted", "the peer is not a trusted proxy"),
            HandshakeError::ProxySecret => (
                403,
                "proxy_secret",
                "the request must carry the secret of the proxy, in exactly one header line",
            ),
            HandshakeError::OriginNotAllowed => {
                (403, "origin_not_allowed", "the page's origin is not allowed")
            }
            HandshakeError::NotFound => (404, "not_found", "nothing is served at this path"),
            HandshakeError::Method => (405, "method_not_allowed", "a WebSocket upgrade needs the method GET"),
            HandshakeError::Timeout => (408, "handshake_timeout", "the request was not complete in time"),
            HandshakeError::Version => {
                (426, "websocket_version", "the header Sec-WebSocket-Version: 13 is needed")
            }
            HandshakeError::TooMany => (429, "too_many_requests", "too many connections of this user"),
            HandshakeError::HeadTooLarge => (431, "head_too_large", "the request head is too large"),
            HandshakeError::TooManyHeaders => {
                (431, "too_many_headers", "the request has too many header lines")
            }
            HandshakeError::Draining => (503, "draining", "this instance is stopping; try again"),
            HandshakeError::Overloaded => {
                (503, "overloaded", "this instance has as many connections as it may; try again")
            }
            HandshakeError::TooFast => {
                (503, "too_fast", "connections arrive faster than this instance may take them; try again")
            }
            HandshakeError::Crowded => (
                503,
                "crowded",
                "too many requests are arriving at this instance, and this one took the longest; try again",
            ),
            HandshakeError::LogStalled => {
                (503, "log_stalled", "this instance cannot write its log; try again")
            }
        }
    }

    /// Returns the rule that an assertion breaks, for the log only.
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
