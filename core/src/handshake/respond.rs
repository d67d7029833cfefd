//! The two answers to an upgrade request.

use tungstenite::handshake::derive_accept_key;

use super::error::HandshakeError;
use super::extensions::Deflate;
use super::request_id::RequestId;

/// Writes the 101 (RFC 6455 §4.2.2) for a client's key. `subprotocol` is one of ours, so of the request nothing but its
/// checked id gets into the answer, in the header that is named with it, if any is.
pub(super) fn switch_protocols(
    out: &mut Vec<u8>,
    key: &[u8],
    subprotocol: Option<&str>,
    deflate: Option<Deflate>,
    (header, request_id): (&str, RequestId<'_>),
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(derive_accept_key(key).as_bytes());
    if let Some(subprotocol) = subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    if let Some(deflate) = deflate {
        out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        out.extend_from_slice(deflate.answer().as_bytes());
    }
    if !header.is_empty() {
        out.extend_from_slice(format!("\r\n{header}: {request_id}").as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Writes a refusal: status, exact length, a JSON body, and that the connection ends here. A gateway uses
/// one connection for many users, and nothing may follow a refused upgrade.
///
/// `retry_after` is in seconds; it goes out with the statuses 429 and 503 alone. Whoever calls has made it
/// different for each client, so that they do not come back together.
pub fn reject(out: &mut Vec<u8>, error: HandshakeError, retry_after: u32) {
    let body = format!(r#"{{"error":{{"code":"{}","message":"{}"}}}}"#, error.code(), error.message());
    let status = error.status();
    let particular = match status {
        // RFC 6750 §3: without credentials the challenge carries no error code.
        401 => "WWW-Authenticate: Bearer\r\n".to_owned(),
        405 => "Allow: GET\r\n".to_owned(),
        // RFC 6455 §4.4 asks for the version, RFC 9110 §15.5.22 for Upgrade.
        426 => "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n".to_owned(),
        429 | 503 => format!("Retry-After: {retry_after}\r\n"),
        _ => String::new(),
    };
    // RFC 9110 §7.8: who sends Upgrade names it in Connection too.
    let connection = if status == 426 { "close, Upgrade" } else { "close" };
    let response = format!(
        "HTTP/1.1 {status} {}\r\nConnection: {connection}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{particular}\r\n{body}",
        error.reason_phrase(),
        body.len(),
    );
    out.extend_from_slice(response.as_bytes());
}
