//! Request heads in, verdicts out: each row of the design's table, and the cases at its limits.

use super::*;
use crate::id::ConnectionId;
use crate::input::Input;

/// A request that gets its 101; tests change one thing in it.
const GOOD: &str = "GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-ID: 123\r\n\
    User-Name: John Doe\r\nUser-Email: john@example.com\r\n\r\n";

fn loopback() -> Peer {
    Peer::from(std::net::SocketAddr::from(([127, 0, 0, 1], 40_000)))
}

/// The answer to a request, and the id of the admitted user.
fn answer(request: &[u8], peer: Peer, config: &HandshakeConfig) -> (String, Option<String>) {
    let mut bytes = request.to_vec();
    let mut input = Input::new(&mut bytes);
    let mut out = Vec::new();
    let admission = HeadReader::new(config.max_head).receive(&mut input).and_then(|head| {
        let mut head = head.expect("a whole head");
        // The request borrows the head; what is asked of it here is owned.
        let admission = UpgradeRequest::parse(&mut head, config)?.identify(peer, config)?;
        let accepted = admission.accept(&mut out, config, ConnectionId(42));
        Ok(accepted.identity.id().to_owned())
    });
    let id =
        admission.map_err(|error| reject(&mut out, error, Reply { retry_after: 7, ..Reply::default() })).ok();
    (String::from_utf8(out).expect("ASCII"), id)
}

#[track_caller]
fn check_with(config: &HandshakeConfig, request: &str, verdict: Result<(), HandshakeError>) {
    check_bytes(config, request.as_bytes(), verdict);
}

#[track_caller]
fn check_bytes(config: &HandshakeConfig, request: &[u8], verdict: Result<(), HandshakeError>) {
    let (answer, id) = answer(request, loopback(), config);
    let expected = match verdict {
        Ok(()) => "HTTP/1.1 101 ".to_owned(),
        Err(error) => format!("HTTP/1.1 {} {}\r\n", error.status(), error.reason_phrase()),
    };
    let request = request.escape_ascii();
    assert!(answer.starts_with(&expected), "{request}\n{answer}\nexpected {expected}");
    match verdict {
        Ok(()) => assert!(id.is_some()),
        Err(error) => {
            let code = format!(r#""code":"{}""#, error.code());
            assert!(answer.contains(&code), "{request}\n{answer}\nexpected {code}");
        }
    }
}

#[track_caller]
fn check(request: &str, verdict: Result<(), HandshakeError>) {
    check_with(&HandshakeConfig::default(), request, verdict);
}

/// Replaces one line of the good request, or adds lines where `line` is empty.
fn with(line: &str, instead: &str) -> String {
    let changed = match line {
        "" => GOOD.replacen("\r\n\r\n", &format!("\r\n{instead}\r\n\r\n"), 1),
        line => GOOD.replacen(&format!("{line}\r\n"), instead, 1),
    };
    assert_ne!(changed, GOOD, "{line}");
    changed
}

#[test]
fn the_101_is_this() {
    let (answer, id) = answer(GOOD.as_bytes(), loopback(), &HandshakeConfig::default());
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Request-Id: 00000000-42\r\n\r\n"
    );
    assert_eq!(id.as_deref(), Some("123"));
}

#[test]
fn who_is_admitted_is_known_before_the_answer() {
    let config = HandshakeConfig::default();
    let mut head = GOOD.as_bytes().to_vec();
    let request = UpgradeRequest::parse(&mut head, &config).expect("a request");
    let admission = request.identify(loopback(), &config).expect("an admission");
    assert_eq!(admission.identity().name(), Some("John Doe"));
}

#[test]
fn a_head_is_parsed_whole_and_alone() {
    let config = HandshakeConfig::default();
    for head in [&GOOD[..GOOD.len() - 1], &format!("{GOOD}x"), "", "GET"] {
        let mut head = head.as_bytes().to_vec();
        assert_eq!(UpgradeRequest::parse(&mut head, &config), Err(HandshakeError::NotHttp));
    }
}

#[test]
fn a_refusal_is_this() {
    let (answer, _) = answer(with("User-ID: 123", "").as_bytes(), loopback(), &HandshakeConfig::default());
    assert_eq!(
        answer,
        "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: 98\r\nWWW-Authenticate: Bearer\r\n\r\n\
         {\"error\":{\"code\":\"identity_missing\",\"message\":\"no user id: the gateway did not vouch for a user\"}}"
    );
}

#[test]
fn every_refusal_is_framed_and_closes() {
    use HandshakeError as E;
    for error in E::all() {
        let mut out = Vec::new();
        reject(&mut out, error, Reply { retry_after: 7, ..Reply::default() });
        let response = String::from_utf8(out).expect("ASCII");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{response}");
        assert!(head.contains("\r\nConnection: close"), "{response}");
        assert_eq!(head.contains("\r\nRetry-After: 7"), error.is_temporary(), "{response}");
        assert_eq!(head.contains("\r\nSec-WebSocket-Version: 13"), error == E::Version, "{response}");
        assert_eq!(head.contains("\r\nUpgrade:"), error == E::Version, "{response}");
        assert_eq!(head.contains("\r\nAllow: GET"), error == E::Method, "{response}");
        assert_eq!(head.contains("\r\nWWW-Authenticate: Bearer"), error.status() == 401, "{response}");
        let phrase = match error.status() {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            other => panic!("{other} has no name here"),
        };
        assert!(head.starts_with(&format!("HTTP/1.1 {} {phrase}\r\n", error.status())), "{response}");
        assert_eq!(error.to_string(), error.message());
        // The texts are put into JSON as they are.
        assert!(!format!("{}{}", error.code(), error.message()).contains(['"', '\\']) && response.is_ascii());
    }
}

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

/// The good request with this target and this `Host`.
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
    // Its last character carries bits that 16 bytes do not have.
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
    // 401 would tell a prober that only the id is missing; the forgery is reported first.
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

/// What gateways write that cannot leave a header out. A client gains nothing by it: it could leave out each of them. A page
/// cannot leave out `Origin`, so an empty one of that is refused.
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
        // Without a page there is nothing to compare.
        check_with(&config, &with("", several), Ok(()));
    }
    // It is not read unless it is set, nor from a peer that is not trusted.
    check(&page("X-Forwarded-Host: page.example"), Err(E::OriginNotAllowed));
    let stranger = Peer::from(std::net::SocketAddr::from(([10, 0, 0, 7], 1)));
    let (refusal, _) = answer(page("X-Forwarded-Host: page.example").as_bytes(), stranger, &config);
    assert!(refusal.contains("peer_not_trusted"), "{refusal}");
}

#[test]
fn subprotocols() {
    #[track_caller]
    fn check(offers: &str, chosen: Option<&str>) {
        let subprotocols = vec!["postern.v2".to_owned(), "postern.v1".to_owned()];
        let config = HandshakeConfig { subprotocols, ..HandshakeConfig::default() };
        let (answer, _) = answer(with("", offers).as_bytes(), loopback(), &config);
        let line = answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!(line, chosen, "{offers}");
        assert!(!answer.contains("a.b.c"), "a token must not come back");
    }
    check("Sec-WebSocket-Protocol: bearer, a.b.c", Some("bearer"));
    check("Sec-WebSocket-Protocol: bearer, a.b.c, postern.v1", Some("postern.v1"));
    check(
        "Sec-WebSocket-Protocol: postern.v1\r\nSec-WebSocket-Protocol: postern.v2,bearer",
        Some("postern.v2"),
    );
    check("Sec-WebSocket-Protocol: chat", None);
    check("Sec-WebSocket-Protocol: Postern.V1", None);
    check("Sec-WebSocket-Protocol:", None);
}

#[test]
fn compression_is_agreed_on_only_if_it_is_switched_on() {
    let offer = "Sec-WebSocket-Extensions: permessage-bzip2\r\n\
        sec-websocket-extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=12";
    let line = |compression| {
        let config = HandshakeConfig { compression, ..HandshakeConfig::default() };
        let (answer, _) = answer(with("", offer).as_bytes(), loopback(), &config);
        answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: ").map(str::to_owned))
    };
    assert_eq!(line(false), None);
    let expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12";
    assert_eq!(line(true).as_deref(), Some(expected));
}
