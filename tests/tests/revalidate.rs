//! `POSTERN_REVALIDATE`: the token of a connection is checked again before messages.

use std::thread;
use std::time::{Duration, Instant};

use postern_tests::canary::{self, Kind};
use postern_tests::channels::Client;
use postern_tests::identity::Identity;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::{at_the_same_time, http};
use serde_json::json;

const CHANNELS: &str = "/connection/websocket";

/// Logs in as John for this number of seconds.
fn login(identity: &Identity, seconds: u64) -> String {
    let body = json!({ "email": "john@example.com", "password": "password123", "ttl": seconds }).to_string();
    let headers = [("Content-Type", "application/json")];
    let answer = http::request(identity.address(), "POST", "/identity/login", &headers, body.as_bytes());
    let token = answer.expect("an answer").json()["accessToken"].as_str().expect("a token").to_owned();
    canary::secret(Kind::Token, token)
}

#[test]
fn no_message_is_handled_after_the_token_has_ended() {
    let identity = Identity::start();
    at_the_same_time(Runtime::BOTH, |runtime| {
        for (when, cache) in [("message", "0"), ("1s", "0"), ("message", "1s")] {
            let url = format!("http://{}/identity/validate", identity.address());
            let settings =
                [("POSTERN_AUTH_URL", &*url), ("POSTERN_AUTH_CACHE", cache), ("POSTERN_REVALIDATE", when)];
            let postern = Postern::start_with_control(runtime, &settings);
            postern.handshake().header("User-ID", "123").refused_with(401, "token_missing");
            let token = login(&identity, 4);
            let start = Instant::now();
            let handshake = |path| postern.handshake().target(path).header("User-ID", "123").bearer(&token);
            let mut echo = handshake("/ws").open();
            let (mut channels, _) = Client::connect_with(handshake(CHANNELS), json!({}));
            for number in 0..20 {
                echo.echo(format!("message {number}"));
            }
            channels.call(json!({ "id": 2, "presence_stats": { "channel": "#123" } }));
            let requests = postern.metric("postern_auth_requests_total").unwrap_or_default();
            match (when, cache) {
                ("message", "0") => assert!(requests >= 22.0, "{runtime}: {requests}"),
                _ => assert!(requests <= 4.0, "{runtime}, {when}: {requests}"),
            }
            thread::sleep(Duration::from_secs(6).saturating_sub(start.elapsed()));
            echo.send("late");
            assert_eq!(echo.closed(), (4401, "token refused".to_owned()), "{runtime}, {when}");
            channels.send(&[json!({ "id": 3, "presence_stats": { "channel": "#123" } })]);
            assert_eq!(channels.open.closed(), (3005, "connection expired".to_owned()), "{runtime}, {when}");
            let cause = "postern_credentials_ended_total{cause=\"refused\"}";
            assert_eq!(postern.metric(cause), Some(2.0), "{runtime}, {when}");
            let line = postern.wait_for("does not hold any more, and the connection is closed");
            assert!(line.contains("WARN"), "{line}");
            let log = postern.log().join("\n");
            assert!(
                !log.contains(": late") && !log.contains(token.rsplit('.').next().unwrap_or(&token)),
                "{log}"
            );
        }
    });
}

#[test]
fn a_connection_is_closed_if_its_token_cannot_be_checked() {
    for runtime in Runtime::BOTH {
        let url = format!("http://{}/identity/validate", postern_tests::ports::free());
        let settings = [("POSTERN_AUTH_URL", &*url), ("POSTERN_REVALIDATE", "message")];
        let postern = Postern::start(runtime, &settings);
        let identity = Identity::start();
        let mut open = postern.handshake().header("User-ID", "123").bearer(&login(&identity, 60)).open();
        open.send("hello");
        assert_eq!(open.closed(), (1013, "token not checked".to_owned()), "{runtime}");
        assert!(!postern.log().iter().any(|line| line.contains("hello")), "{runtime}");
    }
}
