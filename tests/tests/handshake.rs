//! Requests over a real socket, on both binaries: exact bytes in, the status out, and the end of the connection after a refusal.
//! `identity_table.rs` has the requests that name a user.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use postern_tests::http::{Connection, Response};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Handshake;

/// Sends `bytes` and a second request, which must not be answered. Returns the refusal.
#[track_caller]
fn refusal(to: SocketAddr, name: &str, bytes: &[u8]) -> Response {
    let mut connection = Connection::open(to).expect("a connection");
    let smuggled = Handshake::to(to).as_john().bytes();
    connection.send(&[bytes, &smuggled].concat()).expect("the request is taken");
    let response = connection.response().unwrap_or_else(|failure| panic!("{name}: {failure}"));
    assert!(connection.is_closed(), "{name}: something follows {response}");
    assert!(response.header("Connection").starts_with("close"), "{name}: {response}");
    response
}

#[track_caller]
fn check(to: SocketAddr, name: &str, bytes: &[u8], status: u16, code: &str) {
    let response = refusal(to, name, bytes);
    assert_eq!(response.status, status, "{name}: {response}");
    let error = &response.json()["error"];
    assert_eq!(error["code"], code, "{name}: {response}");
    assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{name}: {response}");
    let extra = |header: &str| response.headers.get(header).and_then(|value| value.to_str().ok());
    assert_eq!(extra("WWW-Authenticate"), (status == 401).then_some("Bearer"), "{name}: {response}");
    assert_eq!(extra("Sec-WebSocket-Version"), (status == 426).then_some("13"), "{name}: {response}");
    assert_eq!(extra("Allow"), (status == 405).then_some("GET"), "{name}: {response}");
    assert_eq!(extra("Retry-After").is_some(), status == 429 || status == 503, "{name}: {response}");
}

#[test]
fn refusal_has_its_status_and_ends_the_connection() {
    for postern in Postern::both(&[]) {
        let to = postern.address();
        let good = || Handshake::to(to).as_john();
        let line = |from: &str, into: &str| {
            let text = String::from_utf8(good().bytes()).expect("ASCII");
            let changed = text.replacen(from, into, 1);
            assert_ne!(text, changed, "{from} is not there");
            changed.into_bytes()
        };
        let check = |name: &str, bytes: Vec<u8>, status, code| {
            check(to, name, &bytes, status, code);
        };
        check("TLS", b"\x16\x03\x01\x02\x00\x01".to_vec(), 400, "not_http");
        check("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400, "http_version");
        check("PROXY protocol", b"PROXY TCP4 10.0.0.1 10.0.0.2 5 6\r\n\r\n".to_vec(), 400, "not_http");
        check("folded line", line("User-ID: 123", "X-A: b\r\n User-ID: 123"), 400, "not_http");
        check("space before the colon", line("User-ID:", "User-ID :"), 400, "not_http");
        check("NUL in a value", line("User-ID: 123", "User-ID: 1\0"), 400, "not_http");
        check("bare LF", line("\r\nUser-ID", "\nUser-ID"), 400, "bare_line_feed");
        check("HTTP/1.0", line("HTTP/1.1", "HTTP/1.0"), 400, "http_version");
        check("URL of another host", line("GET /ws", "GET http://evil.test/ws"), 400, "request_target");
        check("fragment", line("GET /ws", "GET /ws#x"), 400, "request_target");
        check("no Host", good().without("Host").bytes(), 400, "host");
        check("two Hosts", good().header("Host", "other").bytes(), 400, "host");
        check("Content-Length", good().header("Content-Length", "5").bytes(), 400, "request_body");
        let chunked = |body: &[u8]| [&good().header("Transfer-Encoding", "chunked").bytes(), body].concat();
        check("chunks without an end", chunked(b""), 400, "request_body");
        check("chunks", chunked(b"5\r\nhello\r\n0\r\n\r\n"), 400, "request_body");
        check("no key", good().without("Sec-WebSocket-Key").bytes(), 400, "websocket_key");
        check("two keys", good().header("Sec-WebSocket-Key", "YQ==").bytes(), 400, "websocket_key");
        check("no Upgrade", good().without("Upgrade").bytes(), 400, "upgrade_missing");
        check("h2c", good().instead("Upgrade", "h2c").bytes(), 400, "upgrade_missing");
        check("no Connection", good().without("Connection").bytes(), 400, "connection_upgrade_missing");
        check(
            "two Origins",
            good().header("Origin", "null").header("Origin", "null").bytes(),
            400,
            "origin_twice",
        );
        check("no User-ID", good().without("User-ID").bytes(), 401, "identity_missing");
        check(
            "other Origin",
            good().header("Origin", "https://evil.test").bytes(),
            403,
            "origin_not_allowed",
        );
        check("other path", good().target("/other").bytes(), 404, "not_found");
        check("POST", line("GET", "POST"), 405, "method_not_allowed");
        check("no version", good().without("Sec-WebSocket-Version").bytes(), 426, "websocket_version");
        check("version 8", good().instead("Sec-WebSocket-Version", "8").bytes(), 426, "websocket_version");
        check("17 KiB head", good().header("Cookie", &"x".repeat(17 * 1024)).bytes(), 431, "head_too_large");
        let many = (0..101).fold(good(), |handshake, _| handshake.header("A", "b"));
        check("108 header lines", many.bytes(), 431, "too_many_headers");
        assert!(!postern.log().iter().any(|line| line.contains("established")), "no request is admitted");
    }
}

/// Some proxies add `Transfer-Encoding: chunked` and an empty body to every request.
#[test]
fn empty_chunked_body_is_consumed_before_the_upgrade() {
    for postern in Postern::both(&[]) {
        let head = postern.john().header("Transfer-Encoding", "chunked").bytes();
        let hello = b"\x81\x85\0\0\0\0Hello";
        for parts in [&[&head[..], b"0\r\n\r\n", hello].concat()[..]]
            .into_iter()
            .map(|all| vec![all])
            .chain([vec![&head[..], b"0\r\n\r\n", hello], vec![&head[..], b"0\r", b"\n\r\n", hello]])
        {
            let mut stream = TcpStream::connect(postern.address()).expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            let count = parts.len();
            for part in parts {
                stream.write_all(part).expect("it is taken");
            }
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n\x81\x05Hello") {
                let mut portion = [0; 1024];
                let n = stream.read(&mut portion).expect("an answer");
                answer.extend_from_slice(&portion[..n]);
                assert!(n > 0, "{count} parts: {}", answer.escape_ascii());
            }
            assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
        }
        // Without its end, the body is refused after a second.
        let mut unended = Connection::open(postern.address()).expect("a connection");
        unended.send(&head).expect("it is taken");
        let response = unended.response().expect("a response");
        assert_eq!((response.status, &*response.code()), (400, "request_body"));
        assert!(unended.is_closed());
    }
}

#[test]
fn head_at_its_limits_is_admitted() {
    for postern in Postern::both(&[]) {
        let good = postern.john();
        // One more line of the remaining length: "A: ", the value, CR LF.
        let room = 16 * 1024 - good.bytes().len() - 5;
        assert_eq!(good.clone().header("A", &"x".repeat(room)).bytes().len(), 16 * 1024);
        good.clone().header("A", &"x".repeat(room)).open();
        assert_eq!(good.clone().header("A", &"x".repeat(room + 1)).refused().status, 431);
        // The good request has eight lines.
        let lines = |count| (8..count).fold(good.clone(), |handshake, _| handshake.header("A", "b"));
        lines(100).open();
        assert_eq!(lines(101).refused().status, 431);
    }
}

#[test]
fn overloaded_process_responds_503_until_a_connection_ends() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_MAX_CONNECTIONS", "1")]);
        let to = postern.address();
        // The connection of the harness has to end first.
        let open = postern.john().open_in_time();
        check(to, &runtime.to_string(), &Handshake::to(to).as_john().bytes(), 503, "overloaded");
        open.close();
        postern.john().open_in_time();
    }
}

#[test]
fn strict_key_names_paths_and_origins_are_settings() {
    let settings = [
        ("POSTERN_STRICT_KEY", "true"),
        ("POSTERN_PATH", "/ws,/chat"),
        ("POSTERN_USER_ID_HEADER", "X-Auth-User"),
        ("POSTERN_ALLOWED_ORIGINS", "https://app.example"),
    ];
    for postern in Postern::both(&settings) {
        let good = postern.handshake().header("X-Auth-User", "u-7").target("/chat");
        good.clone().header("Origin", "https://app.example").open();
        postern.wait_for("ID: u-7");
        assert_eq!(good.clone().header("Origin", "https://other.example").refused().status, 403);
        assert_eq!(good.instead("Sec-WebSocket-Key", "SGVsbG8sIHdvcmxkIQ==").refused().status, 400);
        assert_eq!(postern.john().refused().status, 401);
    }
}
