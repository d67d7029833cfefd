//! The head of the request as bytes: its size, its lines, its deadline, and the bytes after it.

use std::time::Duration;

use postern_core::handshake::HandshakeConfig;
use postern_core::{Transport, WorkerConfig};

use crate::connection::{
    Connection, GOOD, ask, check_admitted, check_refused, check_refused_by, check_time, frame, with,
};

fn handshake(handshake: HandshakeConfig) -> WorkerConfig {
    WorkerConfig { handshake, ..WorkerConfig::default() }
}

/// tungstenite CVE-2023-43669, RUSTSEC-2023-0065: the head was parsed again from its start after each read.
#[test]
fn a_long_head_in_single_bytes_is_looked_at_once() {
    let config = handshake(HandshakeConfig { max_head: 1 << 20, ..HandshakeConfig::default() });
    let request = with("", &format!("Cookie: {}", "x".repeat((1 << 20) - GOOD.len() - 10)));
    assert_eq!(request.len(), 1 << 20);
    check_time(Duration::from_secs(20), || {
        let mut connection = Connection::new(config);
        request.as_bytes().chunks(1).for_each(|byte| connection.feed(byte));
        assert!(connection.wire().starts_with(b"HTTP/1.1 101 "));
    });
}

/// The same advisory, and NATS CVE-2023-47090's kind: a head without an end.
#[test]
fn a_head_without_an_end_is_refused_at_the_limit_and_not_collected() {
    let endless = format!("GET /ws HTTP/1.1\r\nCookie: {}", "x".repeat(20_000));
    check_refused(&endless, 431, "head_too_large");
    let mut connection = Connection::new(WorkerConfig::default());
    connection.feed(&endless.as_bytes()[..16 * 1024 - 1]);
    assert_eq!(connection.wire(), b"");
    connection.feed(b"x");
    assert!(connection.wire().starts_with(b"HTTP/1.1 431 "), "at the byte of the limit, not later");
}

/// ws CVE-2024-37890: the list of headers was cut, and the upgrade was among those that were lost.
#[test]
fn very_many_header_lines_are_refused_and_not_cut() {
    let many = with("Host: app.example", &format!("Host: app.example\r\n{}", "a:\r\n".repeat(2000)));
    check_refused(many, 431, "too_many_headers");
}

/// Traefik CVE-2026-26999, CVE-2026-22045: a deadline that bytes put off, or that a fast path forgot.
#[test]
fn a_slow_head_gets_408_at_its_deadline() {
    for portion in [1, 2, 7] {
        let mut connection = Connection::new(WorkerConfig::default());
        let mut portions = GOOD.as_bytes().chunks(portion);
        for _ in 0..24 {
            connection.feed(portions.next().unwrap());
            connection.wait(Duration::from_millis(200));
            assert_eq!(connection.wire(), b"");
        }
        connection.wait(Duration::from_millis(199));
        assert_eq!(connection.wire(), b"");
        connection.wait(Duration::from_millis(1));
        assert!(connection.wire().starts_with(b"HTTP/1.1 408 "), "after five seconds, for any input");
        connection.wait(Duration::from_secs(1));
        assert!(connection.worker.is_empty(), "and the socket is closed a second later");
    }
    let mut silent = Connection::new(WorkerConfig::default());
    silent.wait(Duration::from_secs(5));
    assert!(silent.wire().is_empty() && silent.worker.is_empty(), "without a byte there is no request");
    assert_eq!((silent.recorder.rejected, silent.recorder.abandoned), (0, 1));
}

/// RFC 9931, RFC 6455 §4.1; fastify CVE-2026-130647: bytes after the head in the same segment.
#[test]
fn early_frames_are_frames_and_count_towards_the_limits() {
    let mut early = [GOOD.as_bytes(), &frame(0x81, b"hello")].concat();
    let connection = ask(WorkerConfig::default(), &early);
    assert!(connection.wire().ends_with(b"\r\n\r\n\x81\x05hello"), "{}", connection.wire().escape_ascii());
    early.truncate(GOOD.len());
    early.extend(b"\x82\xff\0\0\0\0\0\x01\0\x01\0\0\0\0");
    let mut connection = ask(WorkerConfig::default(), &early);
    let head = connection.wire().windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let frames = connection.take_wire().split_off(head + 4);
    assert_eq!((frames[0], &frames[2..4]), (0x88, &1009_u16.to_be_bytes()[..]));
}

/// github.com/0ang3el/websocket-smuggle: a proxy opens a tunnel though the upgrade was refused with 426.
#[test]
fn a_request_after_a_refused_upgrade_is_never_served() {
    let tunnel = with("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 1337\r\n")
        + "GET /ws HTTP/1.1\r\nHost: app.example\r\n\r\n";
    let connection = ask(WorkerConfig::default(), tunnel.as_bytes());
    let answer = String::from_utf8(connection.wire().to_vec()).expect("ASCII");
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{answer}");
    assert_eq!(connection.transport(), Transport::ShutdownWrite);
    check_refused(&tunnel, 426, "websocket_version");
    check_refused(GOOD.replace("User-ID: 123\r\n", "") + GOOD, 401, "identity_missing");
}

/// RFC 9112 §2.2 allows a bare LF; httpwg/http-core#1097, node CVE-2022-32214: two parsers that disagree on it.
#[test]
fn a_bare_line_feed_ends_no_line() {
    check_refused(with("User-ID: 123", "User-ID: 1\nEvil: 1\r\n"), 400, "bare_line_feed");
    check_refused(with("", "X: a\n\r\n"), 400, "bare_line_feed");
    check_refused(GOOD.replace("\r\n", "\n"), 400, "bare_line_feed");
    check_refused(format!("\r\n{GOOD}"), 400, "not_http");
    check_refused(format!("\n{GOOD}"), 400, "not_http");
    check_refused(with("", "X: a\rUser-ID: 7"), 400, "not_http");
}

/// Netty CVE-2019-16869: white space before the colon.
#[test]
fn a_name_ends_at_its_colon() {
    for line in ["User-ID : 7", "User-ID\t: 7", "Transfer-Encoding : chunked", "Content-Length\x0b: 5"] {
        check_refused(with("", line), 400, "not_http");
    }
}

/// RFC 9112 §5.2; HAProxy and Caddy unfold what was folded before they pass it on.
#[test]
fn a_folded_line_is_refused_and_so_is_what_is_left_of_one() {
    check_refused(with("User-ID: 123", "User-ID: 1\r\n 23\r\n"), 400, "not_http");
    check_refused(with("User-ID: 123", "X: a\r\n\tUser-ID: 123\r\n"), 400, "not_http");
    check_refused(with("User-ID: 123", "User-ID: 1 23\r\n"), 400, "identity_invalid");
    check_refused(with("User-ID: 123", "User-ID: 1\t23\r\n"), 400, "identity_invalid");
}

/// HAProxy CVE-2023-25725: an empty name ended the list, and the headers after it were lost.
#[test]
fn an_empty_header_name_is_refused() {
    check_refused(with("User-ID: 123", ": 1\r\nUser-ID: 123\r\n"), 400, "not_http");
    check_refused(with("User-ID: 123", ":\r\nUser-ID: 123\r\n"), 400, "not_http");
}

/// HAProxy 2.6 forwards NUL, nginx 0x01 and ESC.
#[test]
fn control_characters_are_refused_where_they_matter() {
    for control in (0..=0x1fu8).filter(|byte| !b"\t\r\n".contains(byte)).chain([0x7f]) {
        let id = [b"User-ID: 1".as_slice(), &[control], b"\r\n"].concat();
        check_refused(with("User-ID: 123", &String::from_utf8(id).unwrap()), 400, "not_http");
        let path = format!("GET /w{}s HTTP/1.1\r\n", char::from(control));
        check_refused(with("GET /ws HTTP/1.1", &path), 400, "not_http");
        check_admitted(with("User-Name: John Doe", &format!("User-Name: J{}n\r\n", char::from(control))));
    }
}

/// A handshake that is not UTF-8 panicked where header values were made strings.
#[test]
fn bytes_that_are_no_text_make_no_panic() {
    for byte in 0x80..=0xffu8 {
        for (line, status, code) in [
            ("User-ID: 123", 400, "identity_invalid"),
            ("Host: app.example", 400, "host"),
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400, "websocket_key"),
            ("Sec-WebSocket-Version: 13", 426, "websocket_version"),
            ("Upgrade: websocket", 400, "upgrade_missing"),
        ] {
            let at = GOOD.find(line).unwrap() + line.len();
            let request = [&GOOD.as_bytes()[..at], &[byte], &GOOD.as_bytes()[at..]].concat();
            check_refused(request, status, code);
        }
        let origin = [&GOOD.as_bytes()[..GOOD.len() - 2], b"Origin: http://a", &[byte], b"\r\n\r\n"].concat();
        check_refused(origin, 403, "origin_not_allowed");
    }
}

/// TLS, HTTP/2, PROXY and HTTP/0.9 on the plain port must not hang until the deadline.
#[test]
fn another_protocol_is_refused_at_once() {
    check_refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "not_http");
    check_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "http_version");
    check_refused("PROXY TCP4 10.0.0.1 10.0.0.2 5 6\r\n\r\n", 400, "not_http");
    check_refused(b"\r\n\r\n\0\r\nQUIT\n!", 400, "not_http");
    check_refused("GET /ws\r\n\r\n", 400, "not_http");
    check_refused("GET /ws HTTP/1.0\r\n\r\n", 400, "http_version");
    check_refused("GET /ws HTTP/1.2\r\n\r\n", 400, "http_version");
}

/// engine.io CVE-2022-41940, fastify CVE-2026-129500, Undertow CVE-2017-2670: a reset in any state.
#[test]
fn a_reset_after_any_byte_ends_one_connection_and_leaves_nothing() {
    let session = [
        GOOD.as_bytes(),
        &frame(0x01, b"hel"),
        &frame(0x89, b"ping"),
        &frame(0x80, b"lo"),
        &frame(0x82, &[7; 300]),
        &frame(0x88, b"\x03\xe8bye"),
    ]
    .concat();
    for len in 0..=session.len() {
        for is_reset in [true, false] {
            let mut connection = Connection::new(WorkerConfig::default());
            // Half of them with output that the peer does not read.
            connection.takes = if len % 2 == 0 { usize::MAX } else { 0 };
            connection.feed(&session[..len]);
            if is_reset {
                connection.fail();
            } else {
                connection.takes = usize::MAX;
                connection.end();
            }
            assert!(connection.worker.is_empty(), "after {len} bytes");
            let counts = &connection.recorder;
            assert_eq!(counts.established, counts.closed, "after {len} bytes");
            assert_eq!(counts.established + counts.abandoned, 1, "after {len} bytes");
            connection.wait(Duration::from_secs(60));
            assert_eq!(connection.worker.poll_timeout(connection.now), None, "no timer is left");
        }
    }
}

/// An answer that is already decided is not a reason to skip the limits.
#[test]
fn the_limits_of_the_head_are_settings_that_hold() {
    let config = || handshake(HandshakeConfig { max_head: 400, max_headers: 9, ..Default::default() });
    assert!(GOOD.len() < 390);
    let filled = with("", &format!("A: {}", "x".repeat(400 - GOOD.len() - 5)));
    assert!(ask(config(), filled.as_bytes()).wire().starts_with(b"HTTP/1.1 101 "));
    check_refused_by(config(), with("", "A: b\r\nC: d"), 431, "too_many_headers");
    let over = with("", &format!("A: {}", "x".repeat(401 - GOOD.len() - 5)));
    check_refused_by(config(), over, 431, "head_too_large");
}
