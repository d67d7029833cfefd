//! Answers to upgrade requests, to the byte.

use postern_core::handshake::{HandshakeError, RequestId};
use tungstenite::handshake::derive_accept_key;

/// Asserts that this is the 101 for a key, and that it contains only the id of the request.
pub(crate) fn check_101(answer: &[u8], key: &[u8], subprotocol: Option<&str>, request_id: RequestId<'_>) {
    let mut expected = String::from(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    expected += &derive_accept_key(key);
    if let Some(subprotocol) = subprotocol {
        expected += "\r\nSec-WebSocket-Protocol: ";
        expected += subprotocol;
    }
    let request_id = request_id.to_string();
    let is_harmless = |byte: u8| byte.is_ascii_graphic() && !b",\\{}$\"".contains(&byte);
    assert!((1..=128).contains(&request_id.len()) && request_id.bytes().all(is_harmless), "{request_id}");
    expected += &format!("\r\nX-Request-Id: {request_id}\r\n\r\n");
    assert!(answer == expected.as_bytes(), "{}\nis not\n{expected}", answer.escape_ascii());
}

/// Asserts the same of a refusal that may not have been sent completely.
pub(crate) fn check_cut_refusal(answer: &[u8], error: HandshakeError) {
    let begin = format!("HTTP/1.1 {} {}\r\n", error.status(), error.reason_phrase());
    let begin = &begin.as_bytes()[..begin.len().min(answer.len())];
    assert!(answer.starts_with(begin), "{}", answer.escape_ascii());
    if answer.ends_with(b"\"}}") {
        check_refusal(answer, error);
    }
}

/// Asserts that this refuses with `error`, is one response of HTTP/1.1 and ends the connection.
pub(crate) fn check_refusal(answer: &[u8], error: HandshakeError) {
    let mut headers = [httparse::EMPTY_HEADER; 8];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(answer).expect("a response");
    let body = &answer[parsed.unwrap()..];
    assert_eq!((response.version, response.code), (Some(1), Some(error.status())));
    assert_eq!(response.reason, Some(error.reason_phrase()));
    let one = |name: &str| {
        let mut values = response.headers.iter().filter(|header| header.name == name);
        let value = values.next().map(|header| header.value).unwrap_or_default();
        assert!(values.next().is_none(), "{name} twice");
        std::str::from_utf8(value).expect("ASCII")
    };
    assert_eq!(one("Content-Length"), body.len().to_string());
    assert_eq!(one("Content-Type"), "application/json");
    assert_eq!(one("Connection").split(", ").next(), Some("close"));
    // The two strings are ours and constant, so a body made of them contains no bytes of the request. It is JSON
    // because they contain no quotes and backslashes.
    let (code, message) = (error.code(), error.message());
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    assert!(code.bytes().chain(message.bytes()).all(is_plain));
    assert_eq!(body, format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#).as_bytes());
}
