//! The chain with real gateways: Traefik, nginx and HAProxy, each in front of both binaries.
//!
//! Every case is a module with six tests, so a failure names the gateway and the binary:
//! `token_in_cookie::nginx_postern_smol`.

use std::process::Command;
use std::time::Duration;

use postern_tests::chain::{Chain, assert_logged_in_order};
use postern_tests::gateway::Gateway;
use postern_tests::postern::Runtime;
use postern_tests::process::{Process, Stream};
use postern_tests::ws::{Handshake, Outcome};

macro_rules! through_every_gateway {
    ($($case:ident)*) => {
        $(
            mod $case {
                use super::*;

                #[test]
                fn traefik_postern() {
                    super::$case(Gateway::Traefik, Runtime::Mio);
                }

                #[test]
                fn traefik_postern_smol() {
                    super::$case(Gateway::Traefik, Runtime::Smol);
                }

                #[test]
                fn nginx_postern() {
                    super::$case(Gateway::Nginx, Runtime::Mio);
                }

                #[test]
                fn nginx_postern_smol() {
                    super::$case(Gateway::Nginx, Runtime::Smol);
                }

                #[test]
                fn haproxy_postern() {
                    super::$case(Gateway::Haproxy, Runtime::Mio);
                }

                #[test]
                fn haproxy_postern_smol() {
                    super::$case(Gateway::Haproxy, Runtime::Smol);
                }
            }
        )*
    };
}

through_every_gateway! {
    token_in_header
    token_in_cookie
    token_in_query
    token_in_subprotocol
    bad_token
    spoofed_identity
    non_ascii_name
    curl_recipe
}

fn token_in_header(gateway: Gateway, runtime: Runtime) {
    let chain = Chain::start(gateway, runtime);
    let token = chain.login("john@example.com");
    chain.visit_as_john(chain.handshake().bearer(&token).open());
    chain.assert_no_secrets_logged();
}

fn token_in_cookie(gateway: Gateway, runtime: Runtime) {
    let chain = Chain::start(gateway, runtime);
    let token = chain.login("john@example.com");
    chain.visit_as_john(chain.handshake().cookie(&token).open());
    chain.assert_no_secrets_logged();
}

fn token_in_query(gateway: Gateway, runtime: Runtime) {
    let chain = Chain::start(gateway, runtime);
    let token = chain.login("john@example.com");
    chain.visit_as_john(chain.handshake().query(&token).open());
    chain.assert_no_secrets_logged();
}

fn token_in_subprotocol(gateway: Gateway, runtime: Runtime) {
    let chain = Chain::start(gateway, runtime);
    let token = chain.login("john@example.com");
    let open = chain.handshake().subprotocols(&["bearer", &token]).open();
    // Chromium closes the connection if none of its subprotocols is chosen; and the token must not come back.
    assert_eq!(open.response.header("sec-websocket-protocol"), "bearer");
    chain.visit_as_john(open);
    chain.assert_no_secrets_logged();
}

/// None, an expired and a wrongly signed one: refused at the gateway, and Postern never hears of it.
fn bad_token(gateway: Gateway, runtime: Runtime) {
    let chain = Chain::start(gateway, runtime);
    let expired = chain.keep_secret(chain.identity.expired_token("john@example.com"));
    let forged = chain.keep_secret(chain.identity.forged_token("john@example.com"));
    let handshake = || chain.handshake();
    for (case, handshake) in [
        ("no token", handshake()),
        ("no token and a spoofed identity", handshake().header("User-ID", "attacker")),
        ("expired, in the header", handshake().bearer(&expired)),
        ("expired, in the cookie", handshake().cookie(&expired)),
        ("expired, in the query", handshake().query(&expired)),
        ("expired, as a subprotocol", handshake().subprotocols(&["bearer", &expired])),
        ("wrongly signed, in the header", handshake().bearer(&forged)),
        ("wrongly signed, in the cookie", handshake().cookie(&forged)),
        ("wrongly signed, in the query", handshake().query(&forged)),
        ("wrongly signed, as a subprotocol", handshake().subprotocols(&["bearer", &forged])),
    ] {
        let refusal = handshake.refused();
        assert_eq!(refusal.status, 401, "{case}: {refusal}");
        assert_eq!(refusal.header("www-authenticate"), "Bearer", "{case}");
    }
    // The same chain admits a good one: the refusals above were not for another reason.
    let token = chain.login("john@example.com");
    chain.visit_as_john(chain.handshake().bearer(&token).open());
    let log = chain.postern.log().join("\n");
    assert_eq!(log.matches("connection established").count(), 1, "only John was admitted:\n{log}");
    assert!(!log.contains("attacker"), "{log}");
    chain.assert_no_secrets_logged();
}

/// What a client says about its own identity never wins. Either the request is refused, or the identity that the
/// gateway injected stands.
fn spoofed_identity(gateway: Gateway, runtime: Runtime) {
    let chain = Chain::start(gateway, runtime);
    let token = chain.login("john@example.com");
    let handshake = || chain.handshake().bearer(&token);
    let mut admitted = 0;
    for (case, handshake) in [
        ("User-ID", handshake().header("User-ID", "attacker")),
        ("user-id", handshake().header("user-id", "attacker")),
        ("USER-ID", handshake().header("USER-ID", "attacker")),
        ("uSeR-iD", handshake().header("uSeR-iD", "attacker")),
        ("User-ID twice", handshake().header("User-ID", "attacker").header("User-ID", "attacker2")),
        ("empty User-ID", handshake().header("User-ID", "")),
        ("User-Name", handshake().header("User-Name", "attacker")),
        ("User-Email", handshake().header("User-Email", "attacker@example.com")),
        ("User_ID", handshake().header("User_ID", "attacker")),
        ("user_id", handshake().header("user_id", "attacker")),
        ("User.ID", handshake().header("User.ID", "attacker")),
        ("User~ID", handshake().header("User~ID", "attacker")),
        ("User_Name", handshake().header("User_Name", "attacker")),
        ("User-ID with a space before the colon", handshake().header("User-ID ", "attacker")),
        ("Connection names it", handshake().instead("Connection", "Upgrade, User-ID")),
        ("Connection names it in lower case", handshake().instead("Connection", "user-id, upgrade")),
        ("a second Connection names it", handshake().header("Connection", "User-ID")),
        (
            "Connection names it, and it is there",
            handshake().instead("Connection", "Upgrade, User-ID").header("User-ID", "attacker"),
        ),
    ] {
        match handshake.send().unwrap_or_else(|failure| panic!("{case}: {failure}")) {
            Outcome::Open(open) => {
                open.close();
                admitted += 1;
            }
            Outcome::Refused(refusal) => {
                assert!((400..500).contains(&refusal.status), "{case}: {refusal}");
            }
        }
    }
    assert!(admitted >= 4, "a plain spoofed header is overwritten, not refused; {admitted} were admitted");

    // Everything above is in the log when a later visit is.
    let later = chain.login("ann@example.com");
    chain.handshake().bearer(&later).open().close();
    chain.postern.wait_for("WebSocket connection closed for user Ann Example (u-1001)");
    let log = chain.postern.log().join("\n");
    assert!(!log.contains("attacker"), "{log}");
    let john = "WebSocket connection established - User: John Doe (john@example.com) - ID: 123";
    assert_eq!(log.matches(john).count(), admitted, "each one admitted is John:\n{log}");
    chain.assert_no_secrets_logged();
}

fn non_ascii_name(gateway: Gateway, runtime: Runtime) {
    let chain = Chain::start(gateway, runtime);
    let token = chain.login("rene@example.com");
    let mut open = chain.handshake().bearer(&token).open();
    open.echo("Grüße, 你好");
    open.close();
    for part in ["connection established", "Grüße, 你好", "connection closed"] {
        let line = chain.postern.wait_for(part);
        for identity in ["Renée 李 Дима", "u-1002"] {
            assert!(line.contains(identity), "{identity:?} is not in {line:?}");
        }
    }
    chain.assert_no_secrets_logged();
}

/// The curl command that most tutorials have. Its key has 13 bytes instead of 16, which HAProxy refuses, so that gateway
/// gets a key of the right length.
fn curl_recipe(gateway: Gateway, runtime: Runtime) {
    let chain = Chain::start(gateway, runtime);
    let token = chain.login("john@example.com");
    let key = match gateway {
        Gateway::Haproxy => "SGVsbG8sIHdvcmxkISEhIQ==",
        Gateway::Traefik | Gateway::Nginx => "SGVsbG8sIHdvcmxkIQ==",
    };
    let mut curl = Command::new("curl");
    curl.args(["-i", "-N", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"]);
    curl.args(["-H", "Sec-WebSocket-Version: 13", "-H", &format!("Sec-WebSocket-Key: {key}")]);
    curl.args(["-H", &format!("Authorization: Bearer {token}"), &format!("http://{}/ws", chain.address())]);
    // A person presses Ctrl-C. Into a pipe curl prints the head only when it ends by itself.
    curl.args(["--max-time", "3"]);
    let mut curl = Process::spawn("curl", &mut curl).expect("curl starts");
    let status = curl.wait(Duration::from_secs(20)).expect("curl ends when its time is up");
    let lines = curl.lines_of(Stream::Out);
    assert!(lines.iter().any(|line| line.starts_with("HTTP/1.1 101 ")), "a 101 expected: {lines:?}");
    // 28: the time was up, so the connection stayed open until then.
    assert_eq!(status.code(), Some(28), "{lines:?}");
    assert_logged_in_order(
        &chain.postern,
        &[
            "WebSocket connection established - User: John Doe (john@example.com) - ID: 123",
            "WebSocket connection closed for user John Doe (123)",
        ],
    );
    chain.assert_no_secrets_logged();
}

/// Before 3.7.12 Traefik had no `aliasHeadersStrategy`, and `keep` is the default to this day: `User_ID` gets
/// through. Then Postern refuses it.
#[test]
fn an_alias_that_the_gateway_lets_through_is_refused_by_postern() {
    let lenient = [("aliasHeadersStrategy: reject", "aliasHeadersStrategy: keep")];
    for runtime in Runtime::BOTH {
        let chain = Chain::start_changed(Gateway::Traefik, runtime, &lenient);
        let token = chain.login("john@example.com");
        for name in ["User_ID", "user_id", "User.ID", "User~Name", "USER_EMAIL"] {
            let refusal = chain.handshake().bearer(&token).header(name, "attacker").refused();
            assert_eq!(refusal.status, 400, "{runtime}, {name}: {refusal}");
            assert_eq!(refusal.json()["error"]["code"], "identity_alias", "{runtime}, {name}");
        }
        chain.visit_as_john(chain.handshake().bearer(&token).open());
        let log = chain.postern.log().join("\n");
        assert!(!log.contains("attacker"), "{runtime}: {log}");
    }
}

/// Without a gateway nobody has vouched for anybody.
#[test]
fn a_client_that_goes_around_the_gateway_is_refused() {
    for runtime in Runtime::BOTH {
        let chain = Chain::start(Gateway::Traefik, runtime);
        let token = chain.login("john@example.com");
        let refusal = Handshake::to(chain.postern.address()).bearer(&token).refused();
        assert_eq!(refusal.status, 401, "{runtime}: {refusal}");
        assert_eq!(refusal.header("www-authenticate"), "Bearer", "{runtime}");
        assert_eq!(refusal.json()["error"]["code"], "identity_missing", "{runtime}");
        chain.assert_no_secrets_logged();
    }
}
