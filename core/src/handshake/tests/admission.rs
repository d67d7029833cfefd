//! The user, the peer that identifies the user, and the origin of the page.

use super::*;

#[test]
fn the_user() {
    use HandshakeError as E;
    let line = "User-ID: 123";
    check(&with(line, "user-id: u-1001\r\n"), Ok(()));
    for missing in ["", "User-ID:\r\n", "User-ID: \t \r\n"] {
        check(&with(line, missing), Err(E::IdentityMissing));
    }
    for bad in [
        "1,2",
        "1 2",
        "1\t2",
        "{http.reverse_proxy.header.User-Id}",
        "$id",
        "\"1\"",
        "a\u{200b}b",
        &"x".repeat(256),
    ] {
        check(&with(line, &format!("User-ID: {bad}\r\n")), Err(E::IdentityInvalid));
    }
    for good in ["o'brien@example.com", "john%40example.com", "DOMAIN\\john", "1;2", "é", "张三", "(1)"] {
        let request = with(line, &format!("User-ID: {good}\r\n"));
        let (_, id) = answer(request.as_bytes(), loopback(), &HandshakeConfig::default());
        assert_eq!(id.as_deref(), Some(good));
    }
    check(&with("", "User-Id: 123"), Err(E::IdentityTwice));
    check(&with("", "User-Name: John Doe"), Err(E::IdentityTwice));
    check(&with("", "User_ID: attacker"), Err(E::IdentityAlias));
    check(&with("", "user.email: attacker"), Err(E::IdentityAlias));
    check(&with("Connection: Upgrade", "Connection: Upgrade, User-ID\r\n"), Err(E::IdentityNominated));
    check(&with("", "Connection: x, user-name"), Err(E::IdentityNominated));
    // 401 would reveal to an attacker that only the id is missing, so the forgery is reported first.
    check(&with(line, "User_ID: 123\r\n"), Err(E::IdentityAlias));
}

#[test]
fn a_bad_name_never_breaks_a_handshake() {
    for bad in [&b"\x01"[..], b"a\x00b", b"\x1b[2J", b"\x7f", b"\xff\xfe", b"", b"\t", &[b'x'; 5000]] {
        for header in ["User-Name: John Doe", "User-Email: john@example.com"] {
            let (before, after) = GOOD.split_once(header).expect("the header");
            let name = header.split_once(' ').expect("a value").0;
            let request = [before.as_bytes(), name.as_bytes(), b" ", bad, after.as_bytes()].concat();
            check_bytes(&HandshakeConfig::default(), &request, Ok(()));
        }
    }
}

#[test]
fn identity_headers_can_have_other_names() {
    let identity = IdentityHeaders {
        id: "X-Auth-User".to_owned(),
        email: "X-Auth-Email".to_owned(),
        name: "X-Auth-Name".to_owned(),
        ..IdentityHeaders::default()
    };
    let config = HandshakeConfig { identity, ..HandshakeConfig::default() };
    check_with(&config, GOOD, Err(HandshakeError::IdentityMissing));
    check_with(&config, &with("", "x-auth-user: ann"), Ok(()));
    check_with(&config, &with("", "X_Auth_User: ann"), Err(HandshakeError::IdentityAlias));
}

#[test]
fn only_a_trusted_peer_may_vouch() {
    let config = HandshakeConfig::default();
    let stranger = Peer::from(std::net::SocketAddr::from(([10, 0, 0, 7], 1)));
    let (refusal, id) = answer(GOOD.as_bytes(), stranger, &config);
    assert!(refusal.starts_with("HTTP/1.1 403 ") && refusal.contains("not a trusted proxy"), "{refusal}");
    assert_eq!(id, None);
    let mapped = Peer::Tcp { ip: "::ffff:127.0.0.1".parse().expect("an address"), port: 1 };
    assert_eq!(answer(GOOD.as_bytes(), mapped, &config).1.as_deref(), Some("123"));
    let config = HandshakeConfig { trusted_proxies: TrustedProxies::private(), ..config };
    assert_eq!(answer(GOOD.as_bytes(), stranger, &config).1.as_deref(), Some("123"));
    assert_eq!(answer(GOOD.as_bytes(), loopback(), &config).1, None);
}

#[test]
fn origin() {
    use HandshakeError as E;
    check(&with("", "Origin: https://app.example"), Ok(()));
    check(&with("", "origin: http://APP.example:5173"), Ok(()));
    check(&with("", "Origin: https://evil.test"), Err(E::OriginNotAllowed));
    check(&with("", "Origin: null"), Err(E::OriginNotAllowed));
    check(&with("", "Origin:"), Err(E::OriginNotAllowed));
    check(&with("", "Origin: https://app.example\r\nOrigin: https://app.example"), Err(E::OriginTwice));
    check(&with("", "Origin: https://app.example\r\nOrigin:"), Err(E::OriginTwice));
    check(&with("", "Origin: https://app.example."), Ok(()));
    check(&with("Host: app.example", "Host: app.example.\r\nOrigin: https://app.example:8443\r\n"), Ok(()));
    let pattern = OriginPattern::parse("https://evil.test").expect("an origin");
    let allowed = AllowedOrigins::These(vec![pattern]);
    let config = HandshakeConfig { allowed_origins: allowed, ..HandshakeConfig::default() };
    check_with(&config, &with("", "Origin: https://evil.test"), Ok(()));
}

/// Empty headers, as gateways write them that cannot leave a header out. A client has no advantage by them: it could
/// leave out each of them. A page cannot leave out `Origin`, so an empty `Origin` is refused.
#[test]
fn an_optional_header_without_a_value_is_an_absent_one() {
    let config = HandshakeConfig {
        host_header: "X-Forwarded-Host".to_owned(),
        compression: true,
        ..HandshakeConfig::default()
    };
    for header in [
        "User-Token-Exp",
        "User-Session-ID",
        "X-Request-Id",
        "traceparent",
        "X-Forwarded-Host",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "X-Postern-Secret",
    ] {
        let plain = answer(GOOD.as_bytes(), loopback(), &config);
        for value in ["", " ", " \t "] {
            let request = with("", &format!("{header}:{value}"));
            assert_eq!(answer(request.as_bytes(), loopback(), &config), plain, "{header}:{value:?}");
        }
    }
}

#[test]
fn the_host_of_a_page_can_come_from_a_header_of_the_gateway() {
    use HandshakeError as E;
    let config = HandshakeConfig { host_header: "X-Forwarded-Host".to_owned(), ..HandshakeConfig::default() };
    let page = |lines: &str| with("", &format!("Origin: https://page.example\r\n{lines}"));
    check_with(&config, &page("X-Forwarded-Host: page.example"), Ok(()));
    check_with(&config, &page("x-forwarded-host: PAGE.example.:443"), Ok(()));
    check_with(&config, &page("X-Forwarded-Host: app.example"), Err(E::OriginNotAllowed));
    // Without the header, and only then, `Host` counts.
    check_with(&config, &page("Accept: */*"), Err(E::OriginNotAllowed));
    check_with(&config, &with("", "Origin: https://app.example"), Ok(()));
    check_with(&config, &with("", "Origin: https://app.example\r\nX-Forwarded-Host:"), Ok(()));
    check_with(
        &config,
        &with("", "Origin: https://app.example\r\nX-Forwarded-Host: page.example"),
        Err(E::OriginNotAllowed),
    );
    for several in [
        "X-Forwarded-Host: page.example, page.example",
        "X-Forwarded-Host: page.example,other.example",
        "X-Forwarded-Host: page.example\r\nX-Forwarded-Host: page.example",
        "X-Forwarded-Host: page.example\r\nX-Forwarded-Host:",
        "X-Forwarded-Host: https://page.example",
        "X-Forwarded-Host: page.example/",
    ] {
        check_with(&config, &page(several), Err(E::Host));
        // Without a page, no hosts are compared.
        check_with(&config, &with("", several), Ok(()));
    }
    // It is not read unless it is set, nor from a peer that is not trusted.
    check(&page("X-Forwarded-Host: page.example"), Err(E::OriginNotAllowed));
    let stranger = Peer::from(std::net::SocketAddr::from(([10, 0, 0, 7], 1)));
    let (refusal, _) = answer(page("X-Forwarded-Host: page.example").as_bytes(), stranger, &config);
    assert!(refusal.contains("peer_not_trusted"), "{refusal}");
}
