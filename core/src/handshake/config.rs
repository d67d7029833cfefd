//! What the handshake admits: one documented field for each knob.

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

/// What a worker asks of an upgrade request. Shared by all connections of a process.
#[derive(Debug, Clone)]
pub struct HandshakeConfig {
    /// The paths at which WebSockets are served, compared byte by byte, without the query. One that ends in `/*` is
    /// every path that begins with the text before the asterisk. Default `/ws`.
    pub paths: Vec<String>,
    /// The path at which GET and HEAD are answered with the health of the process, without an identity and before
    /// [`HandshakeConfig::paths`] is looked at. Such an answer is not a refusal and not recorded. Default: none.
    pub health_path: Option<String>,
    /// Says at that path whether the process takes users. Default `None`: it always does.
    pub readiness: Option<Arc<dyn Readiness>>,
    /// The clock of `Date`: gives the seconds since 1970, and is asked once for each answer that is not a 101.
    /// Default: none, and there is no `Date` (RFC 9110 §6.6.1).
    pub wall_clock: Option<fn() -> u64>,
    /// The text for people in the body of a refusal: ASCII without quotes and backslashes, because it is put into JSON as it is.
    /// Default [`HandshakeError::message`]. A host replaces it to name its settings.
    pub refusal_text: fn(HandshakeError) -> &'static str,
    /// The names of the headers in which the gateway puts the identity.
    pub identity: IdentityHeaders,
    /// Which ids are admitted, and how names are read.
    pub identity_rules: IdentityRules,
    /// The header in which the gateway says how it calls the request; the 101 says how we do. Default `X-Request-Id`. Empty:
    /// there is none, and the 101 does not say it.
    pub request_id: String,
    /// A number of the process, in the ids of requests that the gateway has not named. Default 0.
    pub instance: u32,
    /// The header with a signed token that says who it is, and its judge. Default: none, and the identity headers
    /// say it. With one, they are not looked at.
    pub assertion: Option<Assertion>,
    /// The TCP peers whose identity headers are believed. Default: this host alone.
    pub trusted_proxies: TrustedProxies,
    /// The secret that a peer must send in addition. Default: none.
    pub proxy_secret: ProxySecret,
    /// The header in which a trusted proxy says the address of the client, for the log. Default:
    /// [`ClientAddress::Auto`].
    pub client_address: ClientAddress,
    /// Origins that are allowed in addition to those with the host of `Host`. Default: none.
    pub allowed_origins: AllowedOrigins,
    /// The header of a trusted proxy with the host that the client asked for, for proxies that write another one into
    /// `Host`: `Origin` is compared with it. Default empty: `Host` counts, as it does for a request without that header.
    pub host_header: String,
    /// How a refusal is said. Default: by its status.
    pub reject: Reject,
    /// Whether `Sec-WebSocket-Key` must be 16 bytes in base64 (RFC 6455 §4.1). Default false: any 1 to 64
    /// base64 characters, because a widespread curl recipe sends 13 bytes.
    pub strict_key: bool,
    /// The application's subprotocols, the preferred one first, compared byte by byte. Default: none. In addition
    /// `bearer` and `access_token` are answered, if nothing else can be.
    pub subprotocols: Vec<String>,
    /// Whether permessage-deflate (RFC 7692) is agreed on when a client offers it. Default false: it costs
    /// time and a little memory, and pays for long, repetitive text.
    pub compression: bool,
    /// The longest request head in bytes, its last empty line included. Default 16 KiB. Too small refuses
    /// clients with large cookies or tokens; each connection may hold this much until it is admitted.
    pub max_head: usize,
    /// The most header lines. Default 100, at most [`HandshakeConfig::MOST_HEADERS`].
    pub max_headers: usize,
    /// From the accepted socket to the complete head. Never extended by bytes that arrive. Default 5 s.
    pub timeout: Duration,
    /// The most handshakes in progress of one worker. Above it the oldest one is evicted with 503, after it has had 250 ms: slow
    /// handshakes are evicted in favour of fast ones. Default 4,096. Zero is unlimited.
    pub max_handshakes: usize,
}

impl HandshakeConfig {
    /// The ceiling of [`HandshakeConfig::max_headers`]: their index lives on the stack while a head is read.
    pub const MOST_HEADERS: usize = 256;

    /// Whether WebSockets are served at this path.
    pub(super) fn serves(&self, path: &str) -> bool {
        self.paths.iter().any(|served| match served.strip_suffix('*') {
            Some(beginning) if beginning.ends_with('/') => path.starts_with(beginning),
            Some(_) | None => served == path,
        })
    }
}

impl Default for HandshakeConfig {
    fn default() -> HandshakeConfig {
        HandshakeConfig {
            paths: vec!["/ws".to_owned()],
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

/// How a refusal is reported to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reject {
    /// By the HTTP status.
    Http,
    /// By a 101 and a Close frame, if the refusal has a [close code](super::HandshakeError::close_code) and the
    /// request is an upgrade but for that; else by the status. For pages: a browser shows them no status.
    Close,
}
