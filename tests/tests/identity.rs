//! The development Identity service over real sockets. Its unit tests have the requests and responses, and `gateways.rs` has
//! the places of a token.

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
fn token_expires_after_the_time_of_the_flag() {
    let identity = Identity::start_with(&["--token-ttl", "1s"]);
    let authorization = format!("Bearer {}", identity.login("john@example.com"));
    // The token's times are whole seconds, so it lives for one second at most.
    thread::sleep(Duration::from_millis(1100));
    let response = validate(identity.address(), &[("Authorization", &authorization)]);
    assert_eq!((response.status, &response.json()["error"]["code"]), (401, &"token_expired".into()));
}

#[test]
fn login_above_8_kib_is_refused() {
    let identity = Identity::start();
    for (size, status) in [(8 * 1024, 400), (8 * 1024 + 1, 413)] {
        let response = post_login(identity.address(), &vec![b' '; size]);
        assert_eq!(response.status, status, "{size} bytes: {response}");
    }
}

#[test]
fn connection_serves_several_requests() {
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
fn log_has_a_line_for_each_request_and_no_token() {
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
fn start_without_a_secret_fails() {
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
fn start_on_a_port_in_use_fails() {
    let first = Identity::start();
    let mut command = Command::new(Binary::Identity.path());
    command.args(["--listen", &first.address().to_string()]).env("JWT_SECRET", "secret");
    let mut second = Process::spawn("identity", &mut command).expect("it starts");
    assert_eq!(second.wait(PATIENCE).expect("it ends").code(), Some(1));
    assert!(second.lines().concat().contains(&first.address().to_string()), "{:?}", second.lines());
}

#[test]
fn sigterm_ends_the_service_with_success() {
    let mut identity = Identity::start();
    assert!(identity.process.terminate(PATIENCE).expect("it ends").success());
}
