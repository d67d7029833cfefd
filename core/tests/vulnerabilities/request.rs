//! The request: the upgrade, the target, the body, identity and trust, and the parts that the answer repeats.

use std::time::Duration;

use postern_core::WorkerConfig;
use postern_core::handshake::{HandshakeConfig, TrustedProxies};

use crate::connection::{GOOD, ask, check_admitted, check_refused, check_refused_by, check_time, with};

fn handshake(handshake: HandshakeConfig) -> WorkerConfig {
    WorkerConfig { handshake, ..WorkerConfig::default() }
}

/// aiohttp CVE-2026-69243, hyper RUSTSEC-2021-0078, actix RUSTSEC-2021-0081, Jetty CVE-2023-40167.
#[test]
fn an_upgrade_with_a_body_is_refused() {
    for lines in [
        "Content-Length: 5",
        "Content-Length: +0",
        "Content-Length: -0",
        "Content-Length: 0x0",
        "Content-Length: 00",
        "Content-Length: 0, 0",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
    ] {
        check_refused(with("", lines) + "hello", 400, "request_body");
    }
}

/// fastify-http-proxy CVE-2026-129502 (a fragment crashed it), and targets that name another host.
#[test]
fn a_target_is_a_path_or_a_url_of_our_own_host() {
    for target in [
        "http://evil/ws",
        "http://app.example@evil/ws",
        "*",
        "app.example:443",
        "/ws#a",
        "/ws\u{e9}",
        "//evil\u{80}",
        "ws",
        "?",
    ] {
        check_refused(with("GET /ws HTTP/1.1", &format!("GET {target} HTTP/1.1\r\n")), 400, "request_target");
    }
    for target in ["//evil/ws", "/ws/../admin", "/WS", "/%77s", "/ws%00", "/ws;a", "/"] {
        check_refused(with("GET /ws HTTP/1.1", &format!("GET {target} HTTP/1.1\r\n")), 404, "not_found");
    }
    for method in ["get", "POST", "OPTIONS", "G#T", "CONNECT", "GETX"] {
        let line = format!("{method} /ws HTTP/1.1\r\n");
        check_refused(with("GET /ws HTTP/1.1", &line), 405, "method_not_allowed");
    }
}

/// Netty CVE-2026-59898: handshakes of old drafts skipped the checks of the upgrade.
#[test]
fn an_upgrade_needs_all_of_its_parts_whatever_the_version() {
    for version in ["13", "8", "7", "0"] {
        let request = GOOD.replacen("Version: 13", &format!("Version: {version}"), 1);
        let drop = |line: &str| request.replacen(line, "", 1);
        check_refused(drop("Upgrade: websocket\r\n"), 400, "upgrade_missing");
        check_refused(drop("Connection: Upgrade\r\n"), 400, "connection_upgrade_missing");
        if version != "13" {
            check_refused(&request, 426, "websocket_version");
        }
    }
    for version in ["013", "13, 8", "8, 13", "13;", "+13", "1 3", "\"13\""] {
        let line = format!("Sec-WebSocket-Version: {version}\r\n");
        check_refused(with("Sec-WebSocket-Version: 13", &line), 426, "websocket_version");
    }
    check_refused(with("", "Sec-WebSocket-Version: 13"), 426, "websocket_version");
    check_refused(with("", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, "websocket_key");
    check_refused(with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", ""), 400, "websocket_key");
}

/// Envoy CVE-2024-23326, CVE-2026-73548; Traefik CVE-2026-71324: an answer that a proxy takes for a switch.
#[test]
fn a_refusal_does_not_look_like_a_switch() {
    for (request, status) in [
        (with("Upgrade: websocket", ""), 400),
        (with("User-ID: 123", ""), 401),
        (with("", "Origin: https://evil.test"), 403),
        (with("GET /ws HTTP/1.1", "GET /x HTTP/1.1\r\n"), 404),
        (with("GET /ws HTTP/1.1", "POST /ws HTTP/1.1\r\n"), 405),
        (with("Sec-WebSocket-Version: 13", ""), 426),
        ("x".repeat(20_000), 431),
    ] {
        let answer = String::from_utf8(ask(WorkerConfig::default(), request.as_bytes()).take_wire()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        // RFC 9110 §15.5.22 asks for Upgrade in a 426.
        assert_eq!(answer.contains("\r\nUpgrade:"), status == 426, "{answer}");
        assert!(!answer.contains("Sec-WebSocket-Accept"), "{answer}");
        assert!(answer.contains("\r\nConnection: close"), "{answer}");
    }
}

/// BishopFox/h2csmuggler: an upgrade to cleartext HTTP/2 bypasses the gateway's checks.
#[test]
fn there_is_no_upgrade_to_h2c() {
    let request = |upgrade: &str| {
        let lines = format!("Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n");
        with("Upgrade: websocket", &lines)
    };
    check_refused(request("h2c"), 400, "upgrade_missing");
    check_refused(request("h2"), 400, "upgrade_missing");
    for upgrade in ["websocket, h2c", "h2c, websocket"] {
        assert!(!check_admitted(request(upgrade)).contains("h2c"));
    }
}

/// hyper RUSTSEC-2017-0002, undici CVE-2026-1527: bytes of the request that end a line of the answer.
#[test]
fn nothing_of_the_request_is_in_the_answer() {
    let canary = "CaNaRy";
    let lines = [
        "GET /ws?CaNaRy HTTP/1.1\r\nHost: CaNaRy",
        "Upgrade: websocket, CaNaRy",
        "Connection: Upgrade, CaNaRy",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: CaNaRyCaNaRyCaNaRyCaNg==",
        "Sec-WebSocket-Protocol: CaNaRy, bearer, CaNaRy",
        "Sec-WebSocket-Extensions: permessage-deflate; CaNaRy, permessage-deflate, CaNaRy",
        "User-ID: CaNaRy\r\nUser-Name: CaNaRy\r\nUser-Email: CaNaRy\r\nCaNaRy: CaNaRy\r\n\r\n",
    ]
    .join("\r\n");
    for request in [
        lines.clone(),
        lines.replace("/ws?", "/other?"),
        lines.replace("GET", canary),
        lines.replace(": 13", ": CaNaRy"),
        lines.replace("User-ID: ", "User-ID: ,"),
        lines.replace("User-ID: CaNaRy", "Origin: CaNaRy\r\nUser-ID: 1"),
        lines.replace("User-ID:", "CaNaRy\r\nUser-ID:"),
    ] {
        let handshake =
            HandshakeConfig { compression: true, subprotocols: vec!["v1".to_owned()], ..Default::default() };
        let config = WorkerConfig { handshake, ..WorkerConfig::default() };
        let answer = String::from_utf8(ask(config, request.as_bytes()).take_wire()).expect("ASCII");
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("canary"), "{request}\n{answer}");
    }
    let split = with("", "Sec-WebSocket-Protocol: chat\r\nSet-Cookie: a=b");
    assert!(!check_admitted(split).contains("Cookie"));
    for injected in ["chat\rSet-Cookie: a=b", "chat\nSet-Cookie: a=b", "chat\0"] {
        let connection =
            ask(WorkerConfig::default(), with("", &format!("Sec-WebSocket-Protocol: {injected}")).as_bytes());
        assert!(connection.wire().starts_with(b"HTTP/1.1 400 "), "{}", connection.wire().escape_ascii());
    }
}

/// ws CVE-2021-32640 (Sec-WebSocket-Protocol) and ws 3.3.1: lists that were read in superlinear time.
#[test]
fn lists_are_read_in_one_pass() {
    let most = 4 << 20;
    let long = |header: &str, filler: &str| {
        with("", &format!("{header}: b{}x", filler.repeat((most - 500) / filler.len())))
    };
    for (header, filler) in [
        ("Sec-WebSocket-Protocol", " "),
        ("Sec-WebSocket-Protocol", ","),
        ("Sec-WebSocket-Protocol", ", "),
        ("Sec-WebSocket-Extensions", " "),
        ("Sec-WebSocket-Extensions", ";a"),
        ("Sec-WebSocket-Extensions", ","),
        ("Sec-WebSocket-Extensions", ", permessage-deflate; a=\""),
        ("Connection", " "),
        ("Connection", ","),
        ("Upgrade", ", "),
    ] {
        let config = handshake(HandshakeConfig { max_head: most, compression: true, ..Default::default() });
        let request = long(header, filler);
        check_time(Duration::from_secs(10), || {
            let answer = ask(config, request.as_bytes()).take_wire();
            assert!(answer.starts_with(b"HTTP/1.1 101 "), "{header}: {}", answer.escape_ascii());
        });
    }
}

/// Envoy CVE-2020-25017: of two values only the first was checked.
#[test]
fn a_header_that_may_stand_once_stands_once() {
    for (line, status, code) in [
        ("User-ID: 7", 400, "identity_twice"),
        ("user-id: 123", 400, "identity_twice"),
        ("User-ID:", 400, "identity_twice"),
        ("USER-NAME: x", 400, "identity_twice"),
        ("User-email: x", 400, "identity_twice"),
        ("Host: app.example", 400, "host"),
        ("host: evil.test", 400, "host"),
        ("Origin: https://app.example\r\nOrigin: https://evil.test", 400, "origin_twice"),
        ("Origin: https://app.example\r\nOrigin: https://app.example", 400, "origin_twice"),
    ] {
        check_refused(with("", line), status, code);
    }
    check_refused(with("User-ID: 123", "User-ID: 123, 7\r\n"), 400, "identity_invalid");
    check_refused(with("User-ID: 123", "User-ID: 123,7\r\n"), 400, "identity_invalid");
}

/// Names that differ in what some server folds: `_` and `.` become `-` in CGI, WSGI, Rails and others.
#[test]
fn an_alias_of_an_identity_header_is_refused() {
    for name in ["User_ID", "User.ID", "user_id", "USER_EMAIL", "User.Name", "User!ID", "User~ID"] {
        check_refused(with("", &format!("{name}: attacker")), 400, "identity_alias");
        check_refused(with("User-ID: 123", &format!("{name}: attacker\r\n")), 400, "identity_alias");
    }
    check_refused(with("User-ID: 123", "User-ID:\r\n"), 401, "identity_missing");
    check_refused(with("User-ID: 123", "User-ID: \t \r\n"), 401, "identity_missing");
    check_admitted(with("", "X-User-ID: attacker\r\nUserID: attacker"));
}

/// A proxy removes what `Connection` names (RFC 9110 §7.6.1): with it, the identity.
#[test]
fn connection_must_not_nominate_identity() {
    for option in ["User-ID", "user-id", "User-Name", "USER-EMAIL", "close, User-ID"] {
        let line = format!("Connection: Upgrade, {option}\r\n");
        check_refused(with("Connection: Upgrade", &line), 400, "identity_nominated");
        check_refused(with("", &format!("Connection: {option}")), 400, "identity_nominated");
    }
}

/// Headers of a peer that is not the gateway are not trusted, even if they claim another address.
#[test]
fn only_a_trusted_peer_can_vouch() {
    let handshake = || HandshakeConfig { trusted_proxies: TrustedProxies::private(), ..Default::default() };
    for line in ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "X-Real-IP: 10.0.0.1"] {
        let config = WorkerConfig { handshake: handshake(), ..WorkerConfig::default() };
        check_refused_by(config, with("", line), 403, "peer_not_trusted");
    }
}

/// CSWSH: CVE-2026-44211, CVE-2026-59390, CVE-2023-26114, fastify CVE-2026-133111.
#[test]
fn another_origin_is_refused_however_it_looks() {
    for origin in [
        "https://app.example.evil.test",
        "https://evilapp.example",
        "https://app.example@evil.test",
        "https://evil.test/app.example",
        "https://evil.test?app.example",
        "https://evil.test#app.example",
        "https://evil.test:443@app.example",
        "https://app.example%00.evil.test",
        "https://app",
        "app.example",
        "//app.example",
        "null",
        "",
        "*",
        "https://",
    ] {
        check_refused(with("", &format!("Origin: {origin}")), 403, "origin_not_allowed");
    }
    check_admitted(with("", "Origin: https://app.example"));
    check_admitted(GOOD);
}

/// Duplicate and invalid Hosts: the gateway and Postern must use the same one.
#[test]
fn a_host_is_one_host() {
    check_refused(with("Host: app.example", ""), 400, "host");
    for host in
        ["", "a,b", "a b", "user@app.example", "app.example/x", "app.example?x", "app.example#x", "<a>"]
    {
        check_refused(with("Host: app.example", &format!("Host: {host}\r\n")), 400, "host");
    }
}

/// `Expect: 100-continue` on an upgrade: an interim answer would be read as the final one.
#[test]
fn there_is_no_interim_answer() {
    let answer = check_admitted(with("", "Expect: 100-continue"));
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    check_refused(with("User-ID: 123", "Expect: 100-continue\r\n"), 401, "identity_missing");
}
