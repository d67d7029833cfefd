//! The configuration of the handshake.

use std::sync::Arc;
use std::time::Duration;

use super::assertion::Assertion;
use super::client::ClientAddress;
use super::error::HandshakeError;
use super::health::Readiness;
use super::identity::{IdentityHeaders, IdentityRules};
use super::origin::AllowedOrigins;
use super::secret::ProxySecret;
use super::trust::TrustedProxies;

/// The requirements for upgrade requests. Shared by all connections of a process.
#[derive(Debug, Clone)]
pub struct HandshakeConfig {
    /// The paths at which WebSockets are served, compared byte by byte, without the query. A path that ends in `/*` matches
    /// every path that begins with the text before the asterisk. Default `/ws`.
    pub paths: Vec<String>,
    /// The indices of those paths whose clients identify themselves by their first message. The identity headers are not read
    /// there, because the gateway passes such requests on without asking for an identity. Default: none.
    pub first_message_paths: Vec<usize>,
    /// Whether the token in a request is found, to check it again later. Default false.
    pub keeps_tokens: bool,
    /// The path of health checks: GET and HEAD are answered with 200 or 503, without an identity and before
    /// [`HandshakeConfig::paths`] is compared. Such an answer is not a refusal and not recorded. Default: none.
    pub health_path: Option<String>,
    /// Decides between 200 and 503 at that path. Default `None`: always 200.
    pub readiness: Option<Arc<dyn Readiness>>,
    /// Returns the time since 1970, for `Date` and for tokens that expire. Called once for each answer that is not a 101, and for
    /// each connection whose token expires. Default: none, so that there is no `Date` (RFC 9110 §6.6.1), and no token
    /// expires.
    pub wall_clock: Option<fn() -> Duration>,
    /// The text for people in the body of a refusal: ASCII without quotes and backslashes, because it is put into JSON
    /// without escaping. Default [`HandshakeError::message`]. A host replaces it to name its settings.
    pub refusal_text: fn(HandshakeError) -> &'static str,
    /// The names of the headers in which the gateway puts the identity.
    pub identity: IdentityHeaders,
    /// The rules for ids and for the decoding of names.
    pub identity_rules: IdentityRules,
    /// The header with the id of the request, in the request and in the 101. Default `X-Request-Id`. If it is empty, the
    /// header is neither read nor sent.
    pub request_id: String,
    /// A number of the process. It is a part of the generated ids of requests. Default 0.
    pub instance: u32,
    /// The header with a signed token about the user, and its verifier. Default: none, so that the identity headers are read.
    /// They are ignored otherwise.
    pub assertion: Option<Assertion>,
    /// The TCP peers whose identity headers are trusted. Default: this host alone.
    pub trusted_proxies: TrustedProxies,
    /// The secret that a peer must send in addition. Default: none.
    pub proxy_secret: ProxySecret,
    /// The header of a trusted proxy with the address of the client, for the log. Default: [`ClientAddress::Auto`].
    pub client_address: ClientAddress,
    /// Origins that are allowed in addition to those with the host of `Host`. Default: none.
    pub allowed_origins: AllowedOrigins,
    /// The header of a trusted proxy with the host in the client's URL, for proxies that write another one into `Host`.
    /// `Origin` is compared with it, or with `Host` if a request has no such header. Default empty: always with `Host`.
    pub host_header: String,
    /// The way in which a refusal is sent. Default [`Reject::Http`].
    pub reject: Reject,
    /// Whether `Sec-WebSocket-Key` must be 16 bytes in base64 (RFC 6455 §4.1). Default false: any 1 to 64
    /// base64 characters, because a widespread curl recipe sends 13 bytes.
    pub strict_key: bool,
    /// The application's subprotocols, the preferred one first, compared byte by byte. Default: none. If a client offers none
    /// of these, `bearer` and `access_token` are answered, which browsers offer together with a token.
    pub subprotocols: Vec<String>,
    /// Whether to negotiate permessage-deflate (RFC 7692) when a client offers it. Default false: it costs time and a little
    /// memory, and only long, repetitive text gets much shorter.
    pub compression: bool,
    /// The longest request head in bytes, including its last empty line. Default 16 KiB. A small value refuses clients with
    /// large cookies or tokens. Each connection may hold this much memory until it is admitted.
    pub max_head: usize,
    /// The most header lines of a request. Default 100, at most [`HandshakeConfig::MOST_HEADERS`].
    pub max_headers: usize,
    /// The longest time from the accepted socket to the complete head. Bytes that arrive do not extend it. Default 5 s.
    pub timeout: Duration,
    /// The most handshakes in progress of one worker. Above it the oldest one is refused with 503, but not in its first 250
    /// ms, so that slow handshakes are evicted in favour of fast ones. Default 4,096. Zero is unlimited.
    pub max_handshakes: usize,
}

impl HandshakeConfig {
    /// The limit of [`HandshakeConfig::max_headers`]: the parsed headers are on the stack.
    pub const MOST_HEADERS: usize = 256;

    /// Returns the index of the path whose connections are refreshed at this path: `/refresh` below it.
    pub(super) fn refresh_index(&self, path: &str) -> Option<usize> {
        let served = path.strip_suffix("/refresh")?;
        let index = self.path_index(if served.is_empty() { "/" } else { served })?;
        (!self.awaits_first_message(index)).then_some(index)
    }

    /// Whether the clients of the path with this index identify themselves.
    pub(crate) fn awaits_first_message(&self, path_index: usize) -> bool {
        self.first_message_paths.contains(&path_index)
    }

    /// Returns the index in [`paths`](HandshakeConfig::paths) of the first one that matches this path.
    pub(super) fn path_index(&self, path: &str) -> Option<usize> {
        self.paths.iter().position(|served| match served.strip_suffix('*') {
            Some(beginning) if beginning.ends_with('/') => path.starts_with(beginning),
            Some(_) | None => served == path,
        })
    }
}

impl Default for HandshakeConfig {
    fn default() -> HandshakeConfig {
        HandshakeConfig {
            paths: vec!["/ws".to_owned()],
            first_message_paths: Vec::new(),
            keeps_tokens: false,
            health_path: None,
            readiness: None,
            wall_clock: None,
            refusal_text: HandshakeError::message,
            identity: IdentityHeaders::default(),
            identity_rules: IdentityRules::default(),
            request_id: "X-Request-Id".to_owned(),
            instance: 0,
            assertion: None,
            trusted_proxies: TrustedProxies::default(),
            proxy_secret: ProxySecret::default(),
            client_address: ClientAddress::Auto,
            allowed_origins: AllowedOrigins::default(),
            host_header: String::new(),
            reject: Reject::Http,
            strict_key: false,
            subprotocols: Vec::new(),
            compression: false,
            max_head: 16 * 1024,
            max_headers: 100,
            timeout: Duration::from_secs(5),
            max_handshakes: 4096,
        }
    }
}

/// The way in which a refusal is sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reject {
    /// By the HTTP status.
    Http,
    /// By a 101 and a Close frame, if the refusal has a [close code](super::HandshakeError::close_code) and the request is
    /// otherwise a valid upgrade; else by the status. A page in a browser sees the code of a Close frame, but no status.
    Close,
}
