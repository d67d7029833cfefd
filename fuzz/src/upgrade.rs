//! Valid upgrade requests, to which a target adds its own header lines, and the answers to them.

use std::sync::LazyLock;

use postern_core::ConnectionId;
use postern_core::handshake::{Accepted, HandshakeConfig, HandshakeError, UpgradeRequest};
use postern_core::model::PEER;

/// A request that lacks its empty line, so that header lines can be added.
const LINES: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-ID: 123\r\n";

/// The defaults, with compression.
static CONFIG: LazyLock<HandshakeConfig> =
    LazyLock::new(|| HandshakeConfig { compression: true, ..HandshakeConfig::default() });

/// Any connection.
pub(crate) const CONNECTION: ConnectionId = ConnectionId(7);

/// Returns a request that is admitted, if these values of `Sec-WebSocket-Extensions`, one line each, are allowed in a
/// header.
pub(crate) fn request<'v>(extensions: impl IntoIterator<Item = &'v [u8]>) -> Vec<u8> {
    let mut request = LINES.to_vec();
    for value in extensions {
        request.extend_from_slice(b"Sec-WebSocket-Extensions: ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// Returns the answer to a request with compression enabled, and what was negotiated.
pub(crate) fn accept(request: &mut [u8]) -> Result<(Vec<u8>, Accepted<'static>), HandshakeError> {
    let config: &'static HandshakeConfig = &CONFIG;
    let admission = UpgradeRequest::parse(request, config)?.identify(PEER, config)?;
    let mut answer = Vec::new();
    let accepted = admission.accept(&mut answer, config, CONNECTION);
    Ok((answer, accepted))
}
