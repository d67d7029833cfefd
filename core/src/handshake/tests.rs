//! Request heads and their verdicts.

mod admission;
mod request;

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

/// Returns the answer to a request, and the id of the admitted user.
fn answer(request: &[u8], peer: Peer, config: &HandshakeConfig) -> (String, Option<String>) {
    let mut bytes = request.to_vec();
    let mut input = Input::new(&mut bytes);
    let mut out = Vec::new();
    let admission = HeadReader::new(config.max_head).receive(&mut input).and_then(|head| {
        let mut head = head.expect("a whole head");
        // The request borrows the head, and the results used here are owned.
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
fn the_user_is_known_before_the_answer() {
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
            409 => "Conflict",
            410 => "Gone",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            other => panic!("{other} has no name here"),
        };
        assert!(head.starts_with(&format!("HTTP/1.1 {} {phrase}\r\n", error.status())), "{response}");
        assert_eq!(error.to_string(), error.message());
        // The texts are put into JSON without escaping.
        assert!(!format!("{}{}", error.code(), error.message()).contains(['"', '\\']) && response.is_ascii());
    }
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
