//! The development Identity service over real sockets.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use postern_tests::binaries::Binary;
use postern_tests::http::{Connection, Response, request};
use postern_tests::identity::Identity;
use postern_tests::process::{Process, Stream};

const PATIENCE: Duration = Duration::from_secs(10);

fn post_login(to: SocketAddr, body: &[u8]) -> Response {
    request(to, "POST", "/identity/login", &[("Content-Type", "application/json")], body).expect("an answer")
}

fn validate(to: SocketAddr, headers: &[(&str, &str)]) -> Response {
    request(to, "GET", "/identity/validate", headers, b"").expect("an answer")
}

#[test]
fn a_login_gives_a_token_that_is_valid_wherever_it_stands() {
    let identity = Identity::start();
    let token = identity.login("john@example.com");
    for (name, value) in [
        ("Authorization", format!("Bearer {token}")),
        ("Cookie", format!("theme=dark; access_token={token}")),
        ("X-Forwarded-Uri", format!("/ws?token={token}")),
        ("X-Original-URI", format!("/ws?token={token}")),
        ("Sec-WebSocket-Protocol", format!("bearer, {token}")),
    ] {
        let response = validate(identity.address(), &[(name, &value)]);
        assert_eq!(response.status, 200, "{name}: {response}");
        assert_eq!(response.header("user-id"), "123", "{name}");
        assert_eq!(response.header("user-email"), "john@example.com", "{name}");
        assert_eq!(response.header("user-name"), "John Doe", "{name}");
    }
}

#[test]
fn a_login_also_sets_the_cookie_for_browsers() {
    let identity = Identity::start();
    let response = post_login(identity.address(), br#"{"email":"ann@example.com","password":"password123"}"#);
    let token = response.json()["accessToken"].as_str().expect("a token").to_owned();
    assert_eq!(
        response.header("set-cookie"),
        format!("access_token={token}; HttpOnly; SameSite=Strict; Path=/")
    );
    let cookie = format!("access_token={token}");
    assert_eq!(validate(identity.address(), &[("Cookie", &cookie)]).header("user-id"), "u-1001");
}

#[test]
fn a_name_is_sent_as_raw_utf8() {
    let identity = Identity::start();
    let authorization = format!("Bearer {}", identity.login("rene@example.com"));
    let response = validate(identity.address(), &[("Authorization", &authorization)]);
    assert_eq!(response.headers["user-name"].as_bytes(), "Renée 李 Дима".as_bytes());
}

#[test]
fn a_token_that_proves_nothing_is_refused_with_its_reason() {
    let identity = Identity::start();
    for (token, code) in [
        (identity.expired_token("john@example.com"), "token_expired"),
        (identity.forged_token("john@example.com"), "token_invalid"),
        ("nonsense".to_owned(), "token_invalid"),
        (String::new(), "token_missing"),
    ] {
        let authorization = format!("Bearer {token}");
        let response = validate(identity.address(), &[("Authorization", &authorization)]);
        assert_eq!(response.status, 401, "{code}: {response}");
        assert_eq!(response.header("www-authenticate"), "Bearer");
        assert_eq!(response.json()["error"]["code"], code);
        assert!(!response.headers.contains_key("user-id"), "{response}");
    }
}

#[test]
fn a_token_lives_as_long_as_the_flag_says() {
    let identity = Identity::start_with(&["--token-ttl", "1s"]);
    let authorization = format!("Bearer {}", identity.login("john@example.com"));
    // The token's times are whole seconds, so it lives for one second at most.
    thread::sleep(Duration::from_millis(1100));
    let response = validate(identity.address(), &[("Authorization", &authorization)]);
    assert_eq!((response.status, &response.json()["error"]["code"]), (401, &"token_expired".into()));
}

#[test]
fn paths_below_validate_and_any_method_are_answered_too() {
    let identity = Identity::start();
    let authorization = format!("Bearer {}", identity.login("john@example.com"));
    for method in ["GET", "POST", "OPTIONS"] {
        let headers = [("Authorization", authorization.as_str())];
        let response = request(identity.address(), method, "/identity/validate/ws?x=1", &headers, b"");
        assert_eq!(response.expect("an answer").header("user-id"), "123", "{method}");
    }
}

#[test]
fn bad_requests_get_their_status_and_a_json_error() {
    let identity = Identity::start();
    for (method, path, body, status, code) in [
        ("POST", "/identity/login", "{}", 400, "bad_request"),
        ("POST", "/identity/login", "not json", 400, "bad_request"),
        ("POST", "/identity/login", r#"{"email":"john@example.com","password":"x"}"#, 401, "bad_credentials"),
        ("GET", "/identity/login", "", 405, "method_not_allowed"),
        ("GET", "/identity", "", 404, "not_found"),
        ("GET", "/other", "", 404, "not_found"),
    ] {
        let response = request(identity.address(), method, path, &[], body.as_bytes()).expect("an answer");
        assert_eq!(response.status, status, "{method} {path} {body}: {response}");
        assert_eq!(response.json()["error"]["code"], code, "{method} {path} {body}");
        assert_eq!(response.header("content-type"), "application/json");
    }
    let response = request(identity.address(), "PUT", "/identity/login", &[], b"").expect("an answer");
    assert_eq!((response.status, response.header("allow")), (405, "POST"));
}

#[test]
fn a_login_of_8_kib_is_read_and_one_byte_more_is_not() {
    let identity = Identity::start();
    for (size, status) in [(8 * 1024, 400), (8 * 1024 + 1, 413)] {
        let response = post_login(identity.address(), &vec![b' '; size]);
        assert_eq!(response.status, status, "{size} bytes: {response}");
    }
}

#[test]
fn one_connection_serves_many_requests() {
    let identity = Identity::start();
    let token = identity.login("john@example.com");
    let mut connection = Connection::open(identity.address()).expect("it listens");
    for (authorization, status) in [("", 401), (token.as_str(), 200), ("", 401)] {
        let request = format!(
            "GET /identity/validate HTTP/1.1\r\nHost: i\r\nAuthorization: Bearer {authorization}\r\n\r\n"
        );
        connection.send(request.as_bytes()).expect("the connection is open");
        assert_eq!(connection.response().expect("an answer").status, status);
    }
}

#[test]
fn the_log_has_a_line_per_request_and_no_token() {
    let identity = Identity::start();
    let token = identity.login("john@example.com");
    let target = format!("/identity/validate/ws?token={token}");
    let authorization = format!("Bearer {token}");
    request(identity.address(), "GET", &target, &[("Authorization", &authorization)], b"")
        .expect("an answer");
    request(identity.address(), "GET", &target, &[], b"").expect("an answer");
    let last = |line: &str| line == "GET /identity/validate/ws 401 -";
    identity.process.wait_for_line(last, PATIENCE).expect("the last request is logged");
    let lines = identity.process.lines_of(Stream::Out);
    assert_eq!(
        lines,
        [
            format!("Identity listens on {}", identity.address()).as_str(),
            "POST /identity/login 200 123",
            "GET /identity/validate/ws 200 123",
            "GET /identity/validate/ws 401 -",
        ]
    );
}

#[test]
fn it_does_not_start_without_a_secret() {
    for secret in [None, Some("")] {
        let mut command = Command::new(Binary::Identity.path());
        command.env_remove("JWT_SECRET").envs(secret.map(|secret| ("JWT_SECRET", secret)));
        let mut process = Process::spawn("identity", &mut command).expect("it starts");
        assert_eq!(process.wait(PATIENCE).expect("it ends").code(), Some(2));
        let lines = process.lines();
        assert!(lines.len() == 1 && lines[0].contains("JWT_SECRET"), "one clear line expected: {lines:?}");
    }
}

#[test]
fn it_says_so_when_its_port_is_taken() {
    let first = Identity::start();
    let mut command = Command::new(Binary::Identity.path());
    command.args(["--listen", &first.address().to_string()]).env("JWT_SECRET", "secret");
    let mut second = Process::spawn("identity", &mut command).expect("it starts");
    assert_eq!(second.wait(PATIENCE).expect("it ends").code(), Some(1));
    assert!(second.lines().concat().contains(&first.address().to_string()), "{:?}", second.lines());
}

#[test]
fn sigterm_ends_it_with_success() {
    let mut identity = Identity::start();
    assert!(identity.process.terminate(PATIENCE).expect("it ends").success());
}
