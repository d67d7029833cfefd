//! The upgrade request of a client.

use super::error::InvalidRequest;
use crate::deflate::IS_ENABLED;
use crate::field::is_token;

/// The contents of an upgrade request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRequest<'r> {
    /// The value of `Host`: a name or an address, with the port if it is not the default of the scheme.
    pub host: &'r str,
    /// The path and the query.
    pub target: &'r str,
    /// Further headers, such as `Authorization`, or `User-ID` if there is no gateway in between.
    pub headers: &'r [(&'r str, &'r str)],
    /// Subprotocols to offer, the preferred one first.
    pub subprotocols: &'r [&'r str],
    /// Whether to offer permessage-deflate, without context takeover in either direction.
    pub offers_deflate: bool,
}

impl<'r> ClientRequest<'r> {
    /// Creates a request without optional headers.
    pub fn new(host: &'r str, target: &'r str) -> ClientRequest<'r> {
        ClientRequest { host, target, headers: &[], subprotocols: &[], offers_deflate: false }
    }

    /// Appends the request. `key` is its `Sec-WebSocket-Key`.
    pub(super) fn write(&self, key: &str, out: &mut Vec<u8>) -> Result<(), InvalidRequest> {
        self.check()?;
        let mut put = |parts: &[&str]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        put(&["GET ", self.target, " HTTP/1.1\r\nHost: ", self.host]);
        put(&["\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"]);
        put(&["\r\nSec-WebSocket-Key: ", key]);
        if !self.subprotocols.is_empty() {
            put(&["\r\nSec-WebSocket-Protocol: ", &self.subprotocols.join(", ")]);
        }
        if self.offers_deflate && IS_ENABLED {
            put(&["\r\nSec-WebSocket-Extensions: ", DEFLATE_OFFER]);
        }
        for (name, value) in self.headers {
            put(&["\r\n", name, ": ", value]);
        }
        put(&["\r\n\r\n"]);
        Ok(())
    }

    fn check(&self) -> Result<(), InvalidRequest> {
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if self.host.is_empty() || !is_visible(self.host) || self.host.contains(['/', '@', '?', '#']) {
            return Err(InvalidRequest::Host);
        }
        if !self.target.starts_with('/') || !is_visible(self.target) || self.target.contains('#') {
            return Err(InvalidRequest::Target);
        }
        for (name, value) in self.headers {
            let is_ours = OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name));
            if !is_whole_token(name) || is_ours {
                return Err(InvalidRequest::HeaderName);
            }
            if value.chars().any(char::is_control) {
                return Err(InvalidRequest::HeaderValue);
            }
        }
        for (i, name) in self.subprotocols.iter().enumerate() {
            if !is_whole_token(name) || self.subprotocols.iter().take(i).any(|earlier| earlier == name) {
                return Err(InvalidRequest::Subprotocol);
            }
        }
        Ok(())
    }
}

fn is_whole_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token)
}

/// Without context takeover by the server, each of its messages can be inflated alone. The server may choose the window of the
/// client.
const DEFLATE_OFFER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits";

/// Headers that the handshake writes itself, and that must not be present twice.
const OURS: [&str; 9] = [
    "Host",
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
    "Content-Length",
    "Transfer-Encoding",
];
