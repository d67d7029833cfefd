//! The answers to upgrade requests and health checks.

use std::io::Write;

use tungstenite::handshake::derive_accept_key;

use super::date::HttpDate;
use super::error::HandshakeError;
use super::request_id::RequestId;
use crate::deflate::Deflate;

/// Writes the 101 (RFC 6455 §4.2.2) for a client's key. `subprotocol` is configured, so the answer contains nothing of
/// the request except for its checked id, in the header `header`, if that is not empty.
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
        // Writing to a Vec cannot fail.
        let _ = write!(out, "\r\n{header}: {request_id}");
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// The parts of an answer that do not follow from its status.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The seconds after which the client may try again, sent only with the statuses 429 and 503. It should differ from client
    /// to client, so that they do not all return at the same time.
    pub retry_after: u32,
    /// The time in seconds since 1970, for `Date` (RFC 9110 §6.6.1). `None` omits the header.
    pub date: Option<u64>,
    /// The text for people in the body of a refusal. `None` is [`HandshakeError::message`].
    pub message: Option<&'static str>,
    /// Whether the method is HEAD: the answer has the same header and no content (RFC 9110 §9.3.2).
    pub is_head: bool,
}

/// Writes a refusal with a JSON body. The connection ends after it (`Connection: close`), because a gateway may use one
/// connection for several users.
pub fn reject(out: &mut Vec<u8>, error: HandshakeError, reply: Reply) {
    let message = reply.message.unwrap_or_else(|| error.message());
    let body = format!(r#"{{"error":{{"code":"{}","message":"{message}"}}}}"#, error.code());
    let status = error.status();
    let particular = match status {
        // RFC 6750 §3: without credentials the challenge carries no error code.
        401 => "WWW-Authenticate: Bearer\r\n",
        405 => "Allow: GET\r\n",
        // RFC 6455 §4.4 asks for the version, RFC 9110 §15.5.22 for Upgrade.
        426 => "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n",
        _ => "",
    };
    write(out, (status, error.reason_phrase()), particular, &body, reply);
}

/// Writes the answer to a health check: 200 or 503, with a JSON body. The connection ends here, too.
pub(crate) fn report_health(out: &mut Vec<u8>, is_ready: bool, reply: Reply) {
    let (status, body) = if is_ready {
        ((200, "OK"), r#"{"status":"ready"}"#)
    } else {
        ((503, "Service Unavailable"), r#"{"status":"not_ready"}"#)
    };
    write(out, status, "", body, reply);
}

/// Writes the answer to a refresh: 204. The connection ends here, too.
pub(crate) fn report_refresh(out: &mut Vec<u8>, reply: Reply) {
    let date = reply.date.map(|date| format!("Date: {}\r\n", HttpDate(date))).unwrap_or_default();
    let head =
        format!("HTTP/1.1 204 No Content\r\n{date}Connection: close\r\nCache-Control: no-store\r\n\r\n");
    out.extend_from_slice(head.as_bytes());
}

fn write(out: &mut Vec<u8>, (status, phrase): (u16, &str), particular: &str, body: &str, reply: Reply) {
    // RFC 9110 §7.8: a sender of Upgrade names it in Connection, too.
    let connection = if status == 426 { "close, Upgrade" } else { "close" };
    let date = reply.date.map(|date| format!("Date: {}\r\n", HttpDate(date))).unwrap_or_default();
    let retry_after = match status {
        429 | 503 => format!("Retry-After: {}\r\n", reply.retry_after),
        _ => String::new(),
    };
    let content = if reply.is_head { "" } else { body };
    let response = format!(
        "HTTP/1.1 {status} {phrase}\r\n{date}Connection: {connection}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{particular}{retry_after}\r\n{content}",
        body.len(),
    );
    out.extend_from_slice(response.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>, Reply), reply: Reply) -> String {
        let mut out = Vec::new();
        write(&mut out, reply);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn an_answer_has_a_date_where_there_is_a_clock() {
        let method = |out: &mut Vec<u8>, reply| reject(out, HandshakeError::Method, reply);
        let dated = text(method, Reply { date: Some(784_111_777), ..Reply::default() });
        assert!(
            dated.starts_with("HTTP/1.1 405 Method Not Allowed\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
        );
        assert_eq!(
            dated.replace("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", ""),
            text(method, Reply::default())
        );
    }

    #[test]
    fn an_answer_to_head_is_that_to_get_without_its_content() {
        for error in [HandshakeError::Method, HandshakeError::Version, HandshakeError::Draining] {
            let refuse = |out: &mut Vec<u8>, reply| reject(out, error, reply);
            check_head(refuse);
        }
        check_head(|out, reply| report_health(out, true, reply));
        check_head(|out, reply| report_health(out, false, reply));
    }

    #[track_caller]
    fn check_head(write: impl Fn(&mut Vec<u8>, Reply)) {
        let get = Reply { retry_after: 7, date: Some(0), ..Reply::default() };
        let whole = text(&write, get);
        let (head, body) = whole.split_once("\r\n\r\n").expect("a head and a body");
        assert_eq!(text(&write, Reply { is_head: true, ..get }), format!("{head}\r\n\r\n"));
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{whole}");
    }

    #[test]
    fn health_is_reported_like_this() {
        let reply = Reply { retry_after: 7, ..Reply::default() };
        assert_eq!(
            text(|out, reply| report_health(out, true, reply), reply),
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n\
             {\"status\":\"ready\"}"
        );
        assert_eq!(
            text(|out, reply| report_health(out, false, reply), reply),
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: 22\r\nRetry-After: 7\r\n\r\n{\"status\":\"not_ready\"}"
        );
    }
}
