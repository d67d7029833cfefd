//! The chain with real gateways, each in front of both binaries. A failure names its thread after the gateway and the binary.
//! `identity_table.rs` has the identities that a client claims.

use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use postern_tests::chain::{Chain, assert_logged_in_order, through_each};
use postern_tests::gateway::{Gateway, Running};
use postern_tests::identity::Identity;
use postern_tests::ports;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::{Process, Stream};
use postern_tests::ws::Handshake;
use rustix::process::Signal;
use serde_json::json;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

#[test]
fn token_in_each_place_admits_its_user() {
    through_each(|gateway, runtime| {
        let chain = Chain::start(gateway, runtime);
        let token = chain.login("john@example.com");
        let subprotocol = chain.handshake().subprotocols(&["bearer", &token]);
        for handshake in [
            chain.handshake().bearer(&token),
            chain.handshake().cookie(&token),
            chain.handshake().query(&token),
            subprotocol.clone(),
        ] {
            chain.visit_as_john(handshake.open());
        }
        // Chromium closes the connection if none of its subprotocols is selected. The token must not be in the response.
        let open = subprotocol.open();
        assert_eq!(open.response.header("sec-websocket-protocol"), "bearer");
        open.close();
        chain.assert_no_secrets_logged();
    });
}

/// No token, an expired one and one with a wrong signature. Postern receives no request.
#[test]
fn bad_token_is_refused_by_the_gateway() {
    through_each(|gateway, runtime| {
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
        // The same chain admits a valid token, so the refusals had no other reason.
        let token = chain.login("john@example.com");
        chain.visit_as_john(chain.handshake().bearer(&token).open());
        let log = chain.postern.log().join("\n");
        assert_eq!(log.matches("connection established").count(), 1, "only John was admitted:\n{log}");
        assert!(!log.contains("attacker"), "{log}");
        chain.assert_no_secrets_logged();
    });
}

#[test]
fn name_in_utf8_is_logged() {
    through_each(|gateway, runtime| {
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
    });
}

/// The curl command that most tutorials have. Its key has 13 bytes instead of 16, which HAProxy refuses, so that gateway
/// gets a key of the right length.
#[test]
fn curl_command_of_tutorials_is_admitted() {
    through_each(|gateway, runtime| {
        let chain = Chain::start(gateway, runtime);
        let token = chain.login("john@example.com");
        let key = match gateway {
            Gateway::Haproxy => "SGVsbG8sIHdvcmxkISEhIQ==",
            Gateway::Traefik | Gateway::Nginx | Gateway::Caddy | Gateway::Envoy => "SGVsbG8sIHdvcmxkIQ==",
        };
        let mut curl = Command::new("curl");
        curl.args(["-i", "-N", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"]);
        curl.args(["-H", "Sec-WebSocket-Version: 13", "-H", &format!("Sec-WebSocket-Key: {key}")]);
        curl.args([
            "-H",
            &format!("Authorization: Bearer {token}"),
            &format!("http://{}/ws", chain.address()),
        ]);
        // With a pipe as its output, curl prints the head only if it ends by itself.
        curl.args(["--max-time", "3"]);
        let mut curl = Process::spawn("curl", &mut curl).expect("curl starts");
        let status = curl.wait(Duration::from_secs(20)).expect("curl ends when its time is up");
        let lines = curl.lines_of(Stream::Out);
        assert!(lines.iter().any(|line| line.starts_with("HTTP/1.1 101 ")), "a 101 expected: {lines:?}");
        // 28: time-out, so the connection was open until then.
        assert_eq!(status.code(), Some(28), "{lines:?}");
        assert_logged_in_order(
            &chain.postern,
            &[
                "WebSocket connection established - User: John Doe (john@example.com) - ID: 123",
                "WebSocket connection closed for user John Doe (123)",
            ],
        );
        chain.assert_no_secrets_logged();
    });
}

/// Before 3.7.12 Traefik had no `aliasHeadersStrategy`, and its default is `keep`: it passes on `User_ID`.
#[test]
fn alias_that_a_gateway_passes_on_is_refused_by_postern() {
    let lenient = [("aliasHeadersStrategy: reject", "aliasHeadersStrategy: keep")];
    for runtime in Runtime::BOTH {
        let chain = Chain::start_with(Gateway::Traefik, runtime, &[], &lenient);
        let token = chain.login("john@example.com");
        for name in ["User_ID", "user_id", "User.ID", "User~Name", "USER_EMAIL"] {
            chain.handshake().bearer(&token).header(name, "attacker").refused_with(400, "identity_alias");
        }
        chain.visit_as_john(chain.handshake().bearer(&token).open());
        assert_eq!(chain.postern.count("attacker"), 0, "{runtime}");
    }
}

#[test]
fn client_without_the_gateway_is_refused() {
    for runtime in Runtime::BOTH {
        let chain = Chain::start(Gateway::Traefik, runtime);
        let token = chain.login("john@example.com");
        let refusal = chain.postern.handshake().bearer(&token).refused_with(401, "identity_missing");
        assert_eq!(refusal.header("www-authenticate"), "Bearer", "{runtime}");
        chain.assert_no_secrets_logged();
    }
}

#[test]
fn close_codes_and_reasons_pass_in_both_directions() {
    through_each(|gateway, runtime| {
        let postern = Postern::start_with_control(runtime, &[]);
        let chain = Chain::start_all(gateway, Identity::start(), postern, &[]);
        let token = chain.login("john@example.com");
        let mut open = chain.handshake().bearer(&token).open();
        let frame = CloseFrame { code: CloseCode::from(4001), reason: "bye".into() };
        open.socket.close(Some(frame)).expect("the Close is sent");
        assert_eq!(open.close_code(), 4001);
        let line = chain.postern.wait_for("WebSocket connection closed for user John Doe (123)");
        assert!(line.contains(", code: 4001, side: client, "), "{line}");

        let mut open = chain.handshake().bearer(&token).open();
        let body = json!({ "user": "123", "disconnect": { "code": 4403, "reason": "logged out, 再见" } });
        assert_eq!(chain.postern.post("/api/disconnect", &body).status, 200);
        assert_eq!(open.closed(), (4403, "logged out, 再见".to_owned()));
        let line = chain.postern.wait_for(", code: 4403, side: server, ");
        assert!(line.contains("closed for user John Doe (123)"), "{line}");
    });
}

#[test]
fn message_of_a_mebibyte_is_echoed_and_a_longer_one_is_refused() {
    const MEBIBYTE: usize = 1 << 20;
    through_each(|gateway, runtime| {
        let chain = Chain::start_with(gateway, runtime, &[("POSTERN_MAX_MESSAGE", "1MiB")], &[]);
        let token = chain.login("john@example.com");
        let mut open = chain.handshake().bearer(&token).open();
        let bytes: Vec<u8> = (0..=250).cycle().take(MEBIBYTE).collect();
        open.echo(bytes.clone());
        open.echo("x".repeat(MEBIBYTE));
        open.send([&bytes[..], &[0]].concat());
        assert_eq!(open.close_code(), 1009);
    });
}

#[test]
fn drain_closes_with_1012_and_the_next_postern_is_reached_at_once() {
    through_each(|gateway, runtime| {
        let address = ports::free();
        let also = format!(",{address}");
        let start = || Postern::with(runtime, &[]).listening(&also).start();
        let (mut postern, identity) = (start(), Identity::start());
        let running = Running::start(gateway, identity.address(), address, &[]);
        let token = identity.login("john@example.com");
        let handshake = Handshake::to(running.address()).bearer(&token);
        let mut open = handshake.open();
        open.echo("before");
        postern.process.signal(Signal::TERM).expect("it runs");
        assert_eq!(open.closed(), (1012, "service restart".to_owned()));
        assert!(postern.process.wait(PATIENCE).expect("it ends").success());
        let refusal = handshake.refused();
        assert!([502, 503].contains(&refusal.status), "{refusal}");

        let postern = start();
        // No gateway remembers the failure.
        let mut open = handshake.open();
        open.echo("after");
        postern.wait_for("Message from John Doe (123): after");
        // The end of the process without a drain: the gateway passes it on.
        drop(postern);
        let end = open.try_receive().expect_err("no Close");
        assert!(!is_time_out(&end), "{end}");
    });
}

/// A client sends nothing for longer than the gateway's limit for idle connections.
#[test]
fn pings_keep_an_idle_connection_open() {
    through_each(|gateway, runtime| {
        let limit: &[_] = match gateway {
            // They have none.
            Gateway::Traefik | Gateway::Caddy => &[],
            Gateway::Nginx => &[("proxy_read_timeout 60s", "proxy_read_timeout 2s")],
            Gateway::Haproxy => &[("timeout tunnel 60s", "timeout tunnel 2s")],
            Gateway::Envoy => &[("idle_timeout: 60s", "idle_timeout: 2s")],
        };
        let settings = [("POSTERN_PING_INTERVAL", "1s"), ("POSTERN_PONG_TIMEOUT", "5s")];
        let chain = Chain::start_with(gateway, runtime, &settings, limit);
        let token = chain.login("john@example.com");
        let mut open = chain.handshake().bearer(&token).open();
        for _ in 0..4 {
            let ping = open.socket.read().expect("a ping");
            assert!(matches!(ping, Message::Ping(_)), "{ping:?}");
            open.socket.flush().expect("the pong is sent");
        }
        open.echo("still here");

        if !limit.is_empty() {
            let chain = Chain::start_with(gateway, runtime, &[("POSTERN_PING_INTERVAL", "0")], limit);
            let token = chain.login("john@example.com");
            let mut open = chain.handshake().bearer(&token).open();
            let end = open.try_receive().expect_err("the gateway ends the connection without pings");
            assert!(!is_time_out(&end), "{end}");
        }
    });
}

fn is_time_out(error: &tungstenite::Error) -> bool {
    matches!(error, tungstenite::Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn caddy_reads_its_file_again_and_keeps_connections() {
    let mut chain = Chain::start(Gateway::Caddy, Runtime::Mio);
    let token = chain.login("john@example.com");
    let mut open = chain.handshake().bearer(&token).open();
    chain.gateway.process.signal(Signal::USR1).expect("it runs");
    let is_done = |line: &str| line.contains("successfully reloaded config");
    chain.gateway.process.wait_for_line(is_done, PATIENCE).expect("it reads the file");
    // A connection that is closed gets a Close first.
    chain.visit_as_john(chain.handshake().bearer(&token).open());
    open.echo("still here");
}

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);
