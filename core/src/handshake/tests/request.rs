//! The request line and the headers that RFC 6455 and RFC 9112 require.

use super::*;

#[test]
fn the_request_line() {
    use HandshakeError as E;
    let line = "GET /ws HTTP/1.1";
    check(GOOD, Ok(()));
    check(&with(line, "GET /ws?token=a.b.c HTTP/1.1\r\n"), Ok(()));
    check(&with(line, "GET /ws HTTP/1.0\r\n"), Err(E::HttpVersion));
    check(&with(line, "GET /ws HTTP/1.2\r\n"), Err(E::HttpVersion));
    check(&with(line, "GET /ws HTTP/2.0\r\n"), Err(E::HttpVersion));
    check(&with(line, "GET /ws\r\n"), Err(E::NotHttp));
    check(&with(line, "GET  /ws HTTP/1.1\r\n"), Err(E::NotHttp));
    check(&with(line, "GET * HTTP/1.1\r\n"), Err(E::Target));
    check(&with(line, "OPTIONS * HTTP/1.1\r\n"), Err(E::Method));
    check(&with(line, "CONNECT app.example:443 HTTP/1.1\r\n"), Err(E::Target));
    check(&with(line, "GET /ws#a HTTP/1.1\r\n"), Err(E::Target));
    check(&with(line, "GET /wé HTTP/1.1\r\n"), Err(E::Target));
    check(&with(line, "GET /other HTTP/1.1\r\n"), Err(E::NotFound));
    check(&with(line, "GET /ws/ HTTP/1.1\r\n"), Err(E::NotFound));
    check(&with(line, "GET / HTTP/1.1\r\n"), Err(E::NotFound));
    check(&with(line, "POST /ws HTTP/1.1\r\n"), Err(E::Method));
    check(&with(line, "get /ws HTTP/1.1\r\n"), Err(E::Method));
    check(&with(line, "HEAD /ws HTTP/1.1\r\n"), Err(E::Method));
    check(&with(line, "POST /other HTTP/1.1\r\n"), Err(E::NotFound));
    check("PRI * HTTP/2.0\r\n\r\n", Err(E::HttpVersion));
    check("PROXY TCP4 127.0.0.1 127.0.0.1 5 6\r\n\r\n", Err(E::NotHttp));
}

/// Returns the good request with this target and this `Host`.
fn to(target: &str, host: &str) -> String {
    GOOD.replacen("GET /ws ", &format!("GET {target} "), 1).replacen(
        "Host: app.example",
        &format!("Host: {host}"),
        1,
    )
}

#[test]
fn an_absolute_target_is_accepted_if_its_authority_is_that_of_host() {
    for (target, host) in [
        ("http://app.example/ws", "app.example"),
        ("HTTP://APP.example/ws?token=a.b.c", "app.EXAMPLE"),
        ("https://app.example/ws", "app.example:443"),
        ("https://app.example:443/ws", "app.example"),
        ("ws://app.example:80/ws", "app.example"),
        ("wss://app.example/ws", "app.example"),
        ("http://app.example:8080/ws", "app.example:8080"),
        ("http://app.example./ws", "app.example"),
        ("http://app.example/ws", "app.example.:80"),
        ("http://app.example:/ws", "app.example"),
        ("http://[::1]:8080/ws", "[0::1]:8080"),
        ("http://app.example/ws?next=https://evil.test/", "app.example"),
    ] {
        check(&to(target, host), Ok(()));
    }
    for (target, host) in [
        ("http://evil.test/ws", "app.example"),
        ("http://app.example/ws", "app.example:8080"),
        ("http://app.example:8080/ws", "app.example"),
        ("https://app.example/ws", "app.example:80"),
        ("http://app.example.evil.test/ws", "app.example"),
        ("http://user@app.example/ws", "app.example"),
        ("http://user:password@app.example/ws", "app.example"),
        ("http://app.example@evil.test/ws", "app.example"),
        ("http://app.example/ws#a", "app.example"),
        ("http://app.example,evil.test/ws", "app.example"),
        ("http:///ws", "app.example"),
        ("http:/ws", "app.example"),
        ("http://", "app.example"),
        ("ftp://app.example/ws", "app.example"),
        ("://app.example/ws", "app.example"),
        ("app.example/ws", "app.example"),
        ("app.example:80", "app.example"),
        ("?http://app.example/ws", "app.example"),
    ] {
        check(&to(target, host), Err(HandshakeError::Target));
    }
    check(&to("http://app.example/ws", "app.example, app.example"), Err(HandshakeError::Host));
    check(&to("http://app.example/ws", ""), Err(HandshakeError::Host));
    let other_path = to("http://app.example/other", "app.example");
    check(&other_path, Err(HandshakeError::NotFound));
    // RFC 9110 §4.2.3: an empty path is `/`.
    let root = HandshakeConfig { paths: vec!["/".to_owned()], ..HandshakeConfig::default() };
    for target in ["http://app.example", "http://app.example/", "http://app.example?a=/ws"] {
        check_with(&root, &to(target, "app.example"), Ok(()));
        check(&to(target, "app.example"), Err(HandshakeError::NotFound));
    }
}

#[test]
fn several_paths_are_served() {
    let config = HandshakeConfig {
        paths: vec!["/ws".to_owned(), "/chat/v1".to_owned()],
        ..HandshakeConfig::default()
    };
    for (path, verdict) in
        [("/ws?y", Ok(())), ("/chat/v1?x", Ok(())), ("/chat", Err(HandshakeError::NotFound))]
    {
        check_with(&config, &with("GET /ws HTTP/1.1", &format!("GET {path} HTTP/1.1\r\n")), verdict);
    }
}

#[test]
fn header_lines() {
    use HandshakeError as E;
    for line in [
        "User-Name : x",
        "User-Name\t: x",
        " User-Name: x",
        ": x",
        "Na(me: x",
        "A: b\r\n c",
        "A: \0",
        "A: \x1b",
        "A: \x7f",
        "A: b\rc",
    ] {
        check(&with("", line), Err(E::NotHttp));
    }
    check_bytes(&HandshakeConfig::default(), &with("", "A: é ÿ").replace('é', "\u{80}").into_bytes(), Ok(()));
    check("GET /ws HTTP/1.1\nHost: x\r\n\r\n", Err(E::BareLineFeed));
}

#[test]
fn a_header_that_is_only_as_long_as_one_of_ours_is_none() {
    let config = HandshakeConfig { compression: true, ..HandshakeConfig::default() };
    let (good, _) = answer(GOOD.as_bytes(), loopback(), &config);
    for len in 1..30 {
        for value in ["websocket", "upgrade", "User-ID", "13", "bearer", "permessage-deflate"] {
            let request = with("", &format!("{}: {value}", "x".repeat(len)));
            assert_eq!(answer(request.as_bytes(), loopback(), &config).0, good, "{request}");
        }
    }
    for (name, error) in [
        ("Host", HandshakeError::Host),
        ("Upgrade", HandshakeError::NoUpgrade),
        ("Connection", HandshakeError::NoConnectionUpgrade),
        ("Sec-WebSocket-Version", HandshakeError::Version),
        ("Sec-WebSocket-Key", HandshakeError::Key),
        ("User-ID", HandshakeError::IdentityMissing),
    ] {
        let other = GOOD.replace(&format!("\r\n{name}:"), &format!("\r\n{}:", "x".repeat(name.len())));
        check(&other, Err(error));
    }
}

#[test]
fn the_head_may_have_so_many_lines() {
    // The good request has eight.
    let lines = |count: usize| with("", &vec!["A: b"; count - 8].join("\r\n"));
    check(&lines(100), Ok(()));
    check(&lines(101), Err(HandshakeError::TooManyHeaders));
    let most = HandshakeConfig { max_headers: HandshakeConfig::MOST_HEADERS, ..HandshakeConfig::default() };
    check_with(&most, &lines(256), Ok(()));
    check_with(&most, &lines(257), Err(HandshakeError::TooManyHeaders));
}

#[test]
fn host() {
    use HandshakeError as E;
    let line = "Host: app.example";
    for host in ["app.example:8080", "127.0.0.1", "[::1]:8080", "_dmarc.app-1.example"] {
        check(&with(line, &format!("host: {host}\r\n")), Ok(()));
    }
    check(&with(line, ""), Err(E::Host));
    check(&with("", line), Err(E::Host));
    for host in ["", "a,b", "a b", "a/b", "user@a", "é", "a:b", "a:99999", "::1", "[::1", "a:80:80", "."] {
        check(&with(line, &format!("Host: {host}\r\n")), Err(E::Host));
    }
}

#[test]
fn an_upgrade_has_no_body() {
    use HandshakeError as E;
    check(&with("", "Content-Length: 0"), Ok(()));
    for line in [
        "Content-Length: 5",
        "Content-Length: +0",
        "Content-Length: 00",
        "Content-Length:",
        "Content-Length: 0, 0",
        "Content-Length: 0\r\nContent-Length: 0",
        "content-length: 5\r\nContent-Length: 0",
        "Transfer-Encoding: chunked",
        "transfer-encoding: identity",
        "Transfer-Encoding:",
        "Content-Length: 0\r\nTransfer-Encoding: x",
    ] {
        check(&with("", line), Err(E::Body));
    }
    check(&with("", "Expect: 100-continue"), Ok(()));
}

#[test]
fn upgrade_and_connection_are_token_lists_in_any_case() {
    use HandshakeError as E;
    for (line, instead) in [
        ("Upgrade: websocket", "UPGRADE: WebSocket\r\n"),
        ("Upgrade: websocket", "Upgrade: h2c , websocket\r\n"),
        ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket\r\n"),
        ("Connection: Upgrade", "connection: keep-alive, upgrade\r\n"),
        ("Connection: Upgrade", "Connection: ,keep-alive,\tUPGRADE ,\r\n"),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade\r\n"),
    ] {
        check(&with(line, instead), Ok(()));
    }
    for upgrade in [
        "",
        "Upgrade:\r\n",
        "Upgrade: h2c\r\n",
        "Upgrade: websocket/13\r\n",
        "Upgrade: websockets\r\n",
        "Upgrade: web socket\r\n",
    ] {
        check(&with("Upgrade: websocket", upgrade), Err(E::NoUpgrade));
    }
    for connection in [
        "",
        "Connection:\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive Upgrade\r\n",
        "Connection: Upgraded\r\n",
    ] {
        check(&with("Connection: Upgrade", connection), Err(E::NoConnectionUpgrade));
    }
}

#[test]
fn the_version_is_13() {
    let line = "Sec-WebSocket-Version: 13";
    check(&with(line, "sec-websocket-version:   13  \r\n"), Ok(()));
    for version in [
        "",
        "Sec-WebSocket-Version: 8\r\n",
        "Sec-WebSocket-Version: 013\r\n",
        "Sec-WebSocket-Version: 13, 8\r\n",
        "Sec-WebSocket-Version:\r\n",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Version: 1337\r\n",
    ] {
        check(&with(line, version), Err(HandshakeError::Version));
    }
}

#[test]
fn the_key_is_one_value_of_base64_characters() {
    let key = |key: &str| with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", key);
    let strict = HandshakeConfig { strict_key: true, ..HandshakeConfig::default() };
    let lenient = HandshakeConfig::default();
    let recipe = key("Sec-WebSocket-Key: SGVsbG8sIHdvcmxkIQ==\r\n");
    check_with(&lenient, &recipe, Ok(()));
    check_with(&strict, &recipe, Err(HandshakeError::Key));
    check_with(&strict, GOOD, Ok(()));
    for config in [&strict, &lenient] {
        check_with(config, &key("Sec-WebSocket-Key: +/+/AZaz09AZaz09AZazAQ==\r\n"), Ok(()));
        check_with(config, &key("Sec-WebSocket-Key: _-_-AZaz09AZaz09AZazAQ==\r\n"), Err(HandshakeError::Key));
    }
    // Its last character has bits that 16 bytes do not have.
    check_with(&strict, &key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n"), Err(HandshakeError::Key));
    check_with(&strict, &key("Sec-WebSocket-Key: ==\r\n"), Err(HandshakeError::Key));
    let long = "x".repeat(64);
    check_with(&lenient, &key(&format!("Sec-WebSocket-Key: {long}\r\n")), Ok(()));
    check_with(&lenient, &key(&format!("Sec-WebSocket-Key: {long}x\r\n")), Err(HandshakeError::Key));
    for bad in [
        "",
        "Sec-WebSocket-Key:\r\n",
        "Sec-WebSocket-Key: a b\r\n",
        "Sec-WebSocket-Key: a,b\r\n",
        "Sec-WebSocket-Key: a\r\nsec-websocket-key: a\r\n",
    ] {
        check_with(&lenient, &key(bad), Err(HandshakeError::Key));
        check_with(&strict, &key(bad), Err(HandshakeError::Key));
    }
}
