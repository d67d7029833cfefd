//! From a complete head to an upgrade request that keeps the rules of RFC 9112 and RFC 6455.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::Header;

use super::admission::Admission;
use super::bearer::BearerLines;
use super::client::{Client, Forwarding};
use super::config::HandshakeConfig;
use super::error::HandshakeError;
use super::health::is_health_check;
use super::host::Authority;
use super::identity::{Identity, IdentityHeaderValues, IdentityHeaders};
use super::query::Query;
use super::request_id::{RequestId, RequestIdHeaders};
use super::respond;
use super::single_header::SingleHeader;
use super::subprotocol::OfferedSubprotocols;
use super::target::Target;
use super::trust::Peer;
use crate::bearer_token::BearerToken;
use crate::deflate::Deflate;
use crate::field::list;
use crate::id::ConnectionId;

/// The request in a complete head.
// It lives on the stack for one call, and nearly every request is an upgrade.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request<'h> {
    /// A WebSocket.
    Upgrade(UpgradeRequest<'h>),
    /// A health check ([`HandshakeConfig::health_path`]).
    HealthCheck,
    /// A refresh of the token of connections. It has no key, and is not accepted.
    Refresh(UpgradeRequest<'h>),
}

/// A well-formed upgrade request to a path that we serve. The user is not known yet: the next step is
/// [`UpgradeRequest::identify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeRequest<'h> {
    path: &'h str,
    path_index: usize,
    query: Query<'h>,
    host: &'h str,
    key: &'h [u8],
    origin: SingleHeader<'h>,
    forwarded_host: SingleHeader<'h>,
    subprotocols: OfferedSubprotocols<'h>,
    deflate: Option<Deflate>,
    secret: SingleHeader<'h>,
    identity: IdentityHeaderValues<'h>,
    assertion: SingleHeader<'h>,
    request_ids: RequestIdHeaders<'h>,
    forwarding: Forwarding<'h>,
    bearer: BearerLines<'h>,
    announces_chunks: bool,
}

impl<'h> UpgradeRequest<'h> {
    /// Parses a complete head, as [`HeadReader`](super::HeadReader) gives it. Control characters in the
    /// values of the e-mail and the name header are overwritten in place.
    ///
    /// httparse alone is too lenient: it accepts HTTP/1.0, any request target, repeated headers, and `Content-Length: +5`. The
    /// other rules are checked afterwards, and the first that fails is the error. `Transfer-Encoding: chunked` is refused here,
    /// because the bytes after the head are not available; a [`Worker`](crate::Worker) accepts it if the body is empty.
    ///
    /// # Errors
    /// Every [`HandshakeError`] of the statuses 400, 404, 405, 426 and 431, except for the errors of the identity.
    pub fn parse(head: &'h mut [u8], config: &HandshakeConfig) -> Result<UpgradeRequest<'h>, HandshakeError> {
        match Request::parse(head, config)? {
            Request::Refresh(_) => Err(HandshakeError::NoUpgrade),
            Request::Upgrade(request) if request.announces_chunks => Err(HandshakeError::Body),
            Request::Upgrade(request) => Ok(request),
            Request::HealthCheck => Err(HandshakeError::NotFound),
        }
    }

    /// Whether a body in chunks is announced. It must be an [`EmptyBody`](super::EmptyBody).
    pub(crate) fn announces_chunks(&self) -> bool {
        self.announces_chunks
    }

    /// Returns the path of the target.
    pub fn path(&self) -> &'h str {
        self.path
    }

    /// Returns the index in [`HandshakeConfig::paths`] of the first one that matches the path.
    pub fn path_index(&self) -> usize {
        self.path_index
    }

    /// Returns the query of the target.
    pub fn query(&self) -> Query<'h> {
        self.query
    }

    /// Returns the value of [`IdentityHeaders::channels`](super::IdentityHeaders::channels), if it is there and is UTF-8. It is
    /// as trustworthy as the identity, so it may be used after [`identify`](UpgradeRequest::identify) only.
    pub fn channels(&self) -> Option<&'h str> {
        self.identity.channels()
    }

    /// Returns the token that the gateway has validated, if it has passed it on and [`HandshakeConfig::keeps_tokens`] is set.
    pub(crate) fn bearer_token(&self) -> Option<BearerToken> {
        self.bearer.token(self.query)
    }

    /// Returns the id of the request, if the gateway sent one.
    pub fn request_id(&self) -> Option<&'h str> {
        self.request_ids.request_id()
    }

    /// Returns the address of the client, if `peer` is a trusted proxy and sends it. It is for the log, and no decision
    /// depends on it.
    pub fn client(&self, peer: Peer, config: &HandshakeConfig) -> Option<Client<'h>> {
        let is_trusted = config.trusted_proxies.trusts_peer(peer);
        if is_trusted { self.forwarding.client(config.client_address) } else { None }
    }

    /// Returns the user that the gateway identified, if the peer is a trusted gateway and the page's origin is allowed.
    ///
    /// # Errors
    /// [`HandshakeError::PeerNotTrusted`] and [`HandshakeError::ProxySecret`]; the statuses 400 and 401 of the
    /// identity, and 503 of an assertion; [`HandshakeError::OriginTwice`] and [`HandshakeError::OriginNotAllowed`];
    /// [`HandshakeError::Host`] for a header of [`HandshakeConfig::host_header`] that is not one host.
    pub fn identify(&self, peer: Peer, config: &HandshakeConfig) -> Result<Admission<'h>, HandshakeError> {
        self.check_peer(peer, config)?;
        let identity: Identity = match &config.assertion {
            Some(assertion) => assertion.identity(&self.assertion, config.identity_rules)?,
            None => self.identity.identity(&config.identity_rules)?,
        };
        self.check_origin(config)?;
        let mut identity = identity.with_request(self.request_id(), self.client(peer, config));
        let origin = self.origin();
        let subprotocol = self.subprotocols.answer(config);
        if origin.is_some() || subprotocol.is_some() {
            identity = identity.with_page(origin, subprotocol.as_deref());
        }
        Ok(Admission { key: self.key, subprotocols: self.subprotocols, deflate: self.deflate, identity })
    }

    /// Checks all that [`identify`](UpgradeRequest::identify) checks except for the identity, which the client will send itself.
    ///
    /// # Errors
    /// As `identify`, without the errors of the identity.
    pub(crate) fn check_gateway(&self, peer: Peer, config: &HandshakeConfig) -> Result<(), HandshakeError> {
        self.check_peer(peer, config)?;
        self.check_origin(config)
    }

    /// Appends the 101 to `out`, although the user is not known. Returns the subprotocol that was answered, whether an offer is
    /// unanswered, and the negotiated compression.
    pub(crate) fn accept_unidentified<'c>(
        &self,
        out: &mut Vec<u8>,
        config: &'c HandshakeConfig,
        connection: ConnectionId,
    ) -> (Option<Cow<'c, str>>, bool, Option<Deflate>) {
        let subprotocol = self.subprotocols.answer(config);
        let request_id = RequestId::new(self.request_id(), config.instance, connection);
        let request_id = (&*config.request_id, request_id);
        respond::switch_protocols(out, self.key, subprotocol.as_deref(), self.deflate, request_id);
        (subprotocol, self.subprotocols.is_unanswered(), self.deflate)
    }

    /// Returns the `Origin` of the page, if there is exactly one.
    pub(crate) fn origin(&self) -> Option<&'h str> {
        self.origin.exactly_one().and_then(|origin| std::str::from_utf8(origin).ok())
    }

    fn check_peer(&self, peer: Peer, config: &HandshakeConfig) -> Result<(), HandshakeError> {
        if !config.trusted_proxies.trusts_peer(peer) {
            return Err(HandshakeError::PeerNotTrusted);
        }
        config.proxy_secret.check(&self.secret)
    }

    /// Checks that the page may connect, if the request is from one: clients other than browsers need not send
    /// `Origin`. An empty `Origin` is not the same as a missing one, unlike in headers that a gateway fills in, because
    /// an attacker's page cannot leave it out.
    fn check_origin(&self, config: &HandshakeConfig) -> Result<(), HandshakeError> {
        let origin = match self.origin.value() {
            Ok(None) => return Ok(()),
            Ok(Some(origin)) => origin,
            Err(_) => return Err(HandshakeError::OriginTwice),
        };
        let host = match self.forwarded_host.value() {
            Ok(None | Some(b"")) => Authority::parse(self.host),
            Ok(Some(host)) => parse_host(host),
            // With several hosts it is unknown which one the client asked for.
            Err(_) => None,
        };
        let host = host.ok_or(HandshakeError::Host)?;
        let is_admitted =
            std::str::from_utf8(origin).is_ok_and(|origin| config.allowed_origins.admits(origin, &host));
        if is_admitted { Ok(()) } else { Err(HandshakeError::OriginNotAllowed) }
    }

    /// Writes the 101 before a refusal by a Close frame ([`Reject::Close`](super::Reject::Close)).
    /// It admits no user. The subprotocol is answered, because a browser would otherwise fail the connection
    /// before it reads the frame.
    pub fn open_to_close(&self, out: &mut Vec<u8>, config: &HandshakeConfig, connection: ConnectionId) {
        let subprotocol = self.subprotocols.answer(config);
        let request_id = RequestId::new(self.request_id(), config.instance, connection);
        respond::switch_protocols(
            out,
            self.key,
            subprotocol.as_deref(),
            None,
            (&config.request_id, request_id),
        );
    }
}

impl<'h> Request<'h> {
    /// Parses a complete head, by the rules of [`UpgradeRequest::parse`].
    pub(crate) fn parse(head: &'h mut [u8], config: &HandshakeConfig) -> Result<Request<'h>, HandshakeError> {
        blank_display_controls(head, &config.identity);
        let head: &'h [u8] = head;
        let mut storage = [const { MaybeUninit::uninit() }; HandshakeConfig::MOST_HEADERS];
        let room = storage.get_mut(..config.max_headers).ok_or(HandshakeError::TooManyHeaders)?;
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, room) {
            Ok(httparse::Status::Complete(used)) if used == head.len() => {}
            Ok(_) => return Err(HandshakeError::NotHttp),
            Err(httparse::Error::TooManyHeaders) => return Err(HandshakeError::TooManyHeaders),
            Err(httparse::Error::Version) if names_http(head) => return Err(HandshakeError::HttpVersion),
            Err(_) => return Err(HandshakeError::NotHttp),
        }
        let is_health_check =
            config.health_path.as_deref().is_some_and(|path| is_health_check(&request, path));
        if request.version != Some(1) && !is_health_check {
            return Err(HandshakeError::HttpVersion);
        }
        let method = request.method.unwrap_or_default();
        let target = Target::parse(request.path.unwrap_or_default(), method)?;
        let fields = Fields::gather(request.headers, config);
        if is_health_check {
            return fields
                .has_host_of_health_check(request.version)
                .then_some(Request::HealthCheck)
                .ok_or(HandshakeError::Host);
        }
        let host = fields.host.exactly_one().and_then(parse_host).ok_or(HandshakeError::Host)?;
        let path = match target {
            Target::Path(path) => path,
            // RFC 9112 §3.2.2: the authority of the target counts, and Host is ignored. A request in which the two
            // differ may mean one host to the gateway and another to us, so neither is trusted.
            Target::Absolute { authority, port, path } if authority.is_same(&host, port) => path,
            Target::Absolute { .. } => return Err(HandshakeError::Target),
            Target::Asterisk => return Err(HandshakeError::Method),
        };
        let refreshed = config.refresh_index(path).filter(|_| !fields.upgrades_to_websocket);
        let path_index = refreshed.or_else(|| config.path_index(path)).ok_or(HandshakeError::NotFound)?;
        if method != "GET" && !(refreshed.is_some() && method == "POST") {
            return Err(HandshakeError::Method);
        }
        // RFC 9112 §6.3 makes the bytes after the head a body; RFC 6455 makes them frames. Only an empty body leaves no
        // doubt.
        let announces_chunks = match (fields.transfer_encoding.value(), fields.content_length.value()) {
            (Ok(None), Ok(None | Some(b"0"))) => false,
            // With both, RFC 9112 §6.1 suspects an attempt at request smuggling.
            (Ok(Some(coding)), Ok(None)) if coding.eq_ignore_ascii_case(b"chunked") => true,
            _ => return Err(HandshakeError::Body),
        };
        let key = if refreshed.is_some() { b"" } else { fields.check_upgrade(config)? };
        // The body that the chunks would be has not been read.
        if refreshed.is_some() && announces_chunks {
            return Err(HandshakeError::Body);
        }
        let request = UpgradeRequest {
            path,
            path_index,
            query: Query::of(request.path.unwrap_or_default()),
            host: host.host(),
            key,
            origin: fields.origin,
            forwarded_host: fields.forwarded_host,
            subprotocols: fields.subprotocols,
            deflate: fields.deflate,
            secret: fields.secret,
            identity: fields.identity,
            assertion: fields.assertion,
            request_ids: fields.request_ids,
            forwarding: fields.forwarding,
            bearer: fields.bearer,
            announces_chunks,
        };
        Ok(if refreshed.is_some() { Request::Refresh(request) } else { Request::Upgrade(request) })
    }
}

/// The result of one pass over the header lines.
#[derive(Debug, Default)]
struct Fields<'h> {
    host: SingleHeader<'h>,
    key: SingleHeader<'h>,
    version: SingleHeader<'h>,
    origin: SingleHeader<'h>,
    /// [`HandshakeConfig::host_header`].
    forwarded_host: SingleHeader<'h>,
    content_length: SingleHeader<'h>,
    transfer_encoding: SingleHeader<'h>,
    upgrades_to_websocket: bool,
    connection_upgrade: bool,
    subprotocols: OfferedSubprotocols<'h>,
    /// The first acceptable offer of permessage-deflate.
    deflate: Option<Deflate>,
    secret: SingleHeader<'h>,
    /// The identity headers, or the assertion: the configuration says which of the two is used.
    identity: IdentityHeaderValues<'h>,
    assertion: SingleHeader<'h>,
    request_ids: RequestIdHeaders<'h>,
    forwarding: Forwarding<'h>,
    bearer: BearerLines<'h>,
}

impl<'h> Fields<'h> {
    /// Whether `Host` is valid for a health check: once and a host, or empty (RFC 9112 §3.2: the target has no
    /// authority); in HTTP/1.0 it may be missing.
    fn has_host_of_health_check(&self, version: Option<u8>) -> bool {
        match self.host.value() {
            Ok(None) => version == Some(0),
            Ok(Some(host)) => host.is_empty() || parse_host(host).is_some(),
            Err(_) => false,
        }
    }

    /// Returns the key, if the request has the headers of an upgrade (RFC 6455 §4.2.1).
    fn check_upgrade(&self, config: &HandshakeConfig) -> Result<&'h [u8], HandshakeError> {
        if !self.upgrades_to_websocket {
            return Err(HandshakeError::NoUpgrade);
        }
        if !self.connection_upgrade {
            return Err(HandshakeError::NoConnectionUpgrade);
        }
        if self.version.exactly_one() != Some(b"13") {
            return Err(HandshakeError::Version);
        }
        let key = self.key.exactly_one().filter(|key| is_key(key, config.strict_key));
        key.ok_or(HandshakeError::Key)
    }

    fn gather(headers: &[Header<'h>], config: &HandshakeConfig) -> Fields<'h> {
        let mut fields = Fields::default();
        headers.iter().for_each(|header| fields.add_line(header, config));
        fields
    }

    fn add_line(&mut self, header: &Header<'h>, config: &HandshakeConfig) {
        let (name, value) = (header.name, header.value);
        match &config.assertion {
            Some(assertion) => self.assertion.add_line(&assertion.header, name, value),
            None => self.identity.add_line(&config.identity, name, value),
        }
        self.secret.add_line(&config.proxy_secret.header, name, value);
        self.request_ids.add_line(&config.request_id, name, value);
        if !config.host_header.is_empty() && name.eq_ignore_ascii_case(&config.host_header) {
            self.forwarded_host.add(value);
        }
        if config.keeps_tokens {
            self.bearer.add_line(name, value);
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // By length first: most lines of a request have another name.
        match name.len() {
            4 if is("Host") => self.host.add(value),
            6 if is("Origin") => self.origin.add(value),
            7 if is("Upgrade") => {
                self.upgrades_to_websocket |= list(value).any(|item| item.eq_ignore_ascii_case(b"websocket"));
            }
            10 if is("Connection") => {
                for option in list(value) {
                    self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                    match &config.assertion {
                        Some(assertion) => self.assertion.add_connection_option(&assertion.header, option),
                        None => self.identity.add_connection_option(&config.identity, option),
                    }
                    self.secret.add_connection_option(&config.proxy_secret.header, option);
                }
            }
            14 if is("Content-Length") => self.content_length.add(value),
            17 if is("Sec-WebSocket-Key") => self.key.add(value),
            17 if is("Transfer-Encoding") => self.transfer_encoding.add(value),
            21 if is("Sec-WebSocket-Version") => self.version.add(value),
            9 if is("Forwarded") => self.forwarding.see_forwarded(value, &config.trusted_proxies),
            15 if is("X-Forwarded-For") => {
                self.forwarding.see_x_forwarded_for(value, &config.trusted_proxies);
            }
            22 if is("Sec-WebSocket-Protocol") => self.subprotocols.see(value, config),
            24 if config.compression && is("Sec-WebSocket-Extensions") => {
                self.deflate = Deflate::negotiate(self.deflate, value);
            }
            _ => {}
        }
    }
}

/// Whether the request line ends in a version of HTTP, even in one that is not supported. The line of the PROXY
/// protocol does not.
fn names_http(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    line.rsplit(|&byte| byte == b' ').next().is_some_and(|last| last.starts_with(b"HTTP/"))
}

/// Returns the value of `Host` (RFC 9110 §7.2), if it is one host.
fn parse_host(value: &[u8]) -> Option<Authority<'_>> {
    Authority::parse(std::str::from_utf8(value).ok()?)
}

/// Whether this is a `Sec-WebSocket-Key`. Strictly it is 16 bytes in base64 (RFC 6455 §4.1). That is not
/// required by default: the key only proves to the client that the server has read it.
fn is_key(key: &[u8], strict: bool) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'+' || *byte == b'/';
    if !strict {
        return (1..=64).contains(&key.len()) && key.iter().all(|byte| is_base64(byte) || *byte == b'=');
    }
    // 16 bytes are 21 characters, one that carries two bits, and two of padding.
    match key.split_last_chunk::<3>() {
        Some((most, [last, b'=', b'='])) => {
            most.len() == 21 && most.iter().all(is_base64) && b"AQgw".contains(last)
        }
        Some(_) | None => false,
    }
}

/// Overwrites control characters in the values of the display headers with TAB, which httparse accepts in a value and
/// [`Identity`] drops: a bad name never breaks a handshake, and nginx passes 0x01 in a name. CR and LF stay, because
/// they end lines.
fn blank_display_controls(head: &mut [u8], names: &IdentityHeaders) {
    let is_control = |byte: u8| byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t');
    // Without an early exit, the compiler makes vector instructions of the loop.
    if !head.iter().fold(false, |found, &byte| found | is_control(byte)) {
        return;
    }
    for line in head.split_mut(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = line.split_at_mut(colon);
        let is_display = |wanted: &String| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is_display(&names.email) || is_display(&names.name) {
            value.iter_mut().filter(|byte| is_control(**byte)).for_each(|byte| *byte = b'\t');
        }
    }
}
