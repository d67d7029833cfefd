//! `POSTERN_AUTH_URL`: tokens that clients send on open connections are checked by the service that the gateway asks.

use std::thread;
use std::time::{Duration, Instant};

use postern_tests::canary::{self, Kind};
use postern_tests::channels::Client;
use postern_tests::identity::Identity;
use postern_tests::issuer::unix_time;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::scripted_identity::Scripted;
use postern_tests::ws::Handshake;
use serde_json::{Value, json};

const CHANNELS: &str = "/connection/websocket";
const SETTINGS: [(&str, &str); 2] = [("POSTERN_EXPIRY_GRACE", "1s"), ("POSTERN_EXPIRY_SPREAD", "0")];

fn url(address: std::net::SocketAddr) -> String {
    format!("http://{address}/identity/validate")
}

/// Returns a handshake of a user whose token of the gateway expires at `exp`.
fn of_john(postern: &Postern, exp: u64) -> Handshake {
    let handshake = postern.handshake().target(CHANNELS).header("User-ID", "123");
    handshake.header("User-Token-Exp", &exp.to_string())
}

#[track_caller]
fn assert_error(reply: &Value, code: u64) {
    assert_eq!(reply["error"]["code"], code, "{reply}");
}

#[test]
fn connection_tokens_of_channels_are_checked_by_the_service() {
    let identity = Identity::start();
    for runtime in Runtime::BOTH {
        let url = url(identity.address());
        let settings = [&SETTINGS[..], &[("POSTERN_AUTH_URL", &*url)]].concat();
        let postern = Postern::start_with_control(runtime, &settings);
        let john = identity.login("john@example.com");
        let start = Instant::now();
        let (mut kept, reply) =
            Client::connect_with(of_john(&postern, unix_time() + 2), json!({ "token": john }));
        assert_eq!(reply["connect"]["expires"], true, "{runtime}: {reply}");
        assert!(reply["connect"]["ttl"].as_u64().is_some_and(|ttl| ttl > 3000), "{runtime}: {reply}");
        // Commands after `connect` wait for the check, and for the reply.
        let mut open = of_john(&postern, unix_time() + 2).open();
        let connect = json!({ "id": 1, "connect": { "token": identity.login("john@example.com") } });
        open.send(format!("{connect}\n{}", json!({ "id": 2, "presence": { "channel": "#123" } })));
        let reply = open.receive().into_text().expect("a text");
        let lines: Vec<Value> = reply.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((lines[0]["id"].as_u64(), lines.len() <= 2), (Some(1), true), "{runtime}: {reply}");

        // The token of the gateway has expired, and the one that was checked has not.
        let (mut refreshed, _) = Client::connect_with(of_john(&postern, unix_time() + 2), json!({}));
        let refresh = |token: &str| json!({ "id": 2, "refresh": { "token": token } });
        let reply = refreshed.call(refresh(&john));
        assert_eq!(reply["refresh"]["expires"], true, "{runtime}: {reply}");
        thread::sleep(Duration::from_secs(4).saturating_sub(start.elapsed()));
        kept.call(json!({ "id": 3, "presence_stats": { "channel": "#123" } }));
        refreshed.call(json!({ "id": 3, "presence_stats": { "channel": "#123" } }));

        // Another token is refused, and the connection stays as it was.
        let forged = identity.forged_token("john@example.com");
        assert_error(&refreshed.call(refresh(&forged)), 109);
        assert_error(&refreshed.call(refresh(&identity.expired_token("john@example.com"))), 109);
        // It is closed after the token of another user, as with keys.
        refreshed.send(&[refresh(&identity.login("ann@example.com"))]);
        assert_eq!(refreshed.open.closed(), (3500, "invalid token".to_owned()), "{runtime}");
        for (token, code) in [(forged, 109), (canary::mint(Kind::Token) + " a", 3500)] {
            let mut open = of_john(&postern, unix_time() + 60).open();
            open.send(json!({ "id": 1, "connect": { "token": token } }).to_string());
            if code < 1000 {
                let reply = open.receive().into_text().expect("a text");
                assert_error(&serde_json::from_str(&reply).expect("JSON"), code);
            } else {
                assert_eq!(open.close_code(), code as u16, "{runtime}");
            }
        }
        let checks = |outcome| {
            postern
                .metric(&format!("postern_token_checks_total{{outcome=\"{outcome}\"}}"))
                .unwrap_or_default()
        };
        assert!(checks("valid") >= 3.0 && checks("refused") >= 2.0, "{runtime}");
        assert_eq!(checks("unknown"), 0.0, "{runtime}");
        let requests = postern.metric("postern_auth_requests_total").unwrap_or_default();
        assert!(requests < checks("valid") + checks("refused"), "{runtime}: the cache is used");
    }
}

#[test]
fn service_that_gives_no_answer_refuses_for_the_moment() {
    let scripted = Scripted::start();
    for runtime in Runtime::BOTH {
        let token = canary::mint(Kind::Token);
        // No identity in the answer; an address at which nothing listens.
        for url in [url(scripted.address()), url(postern_tests::ports::free())] {
            let postern = Postern::start(runtime, &[("POSTERN_AUTH_URL", &url)]);
            let exp = unix_time() + 3600;
            let (mut client, _) = Client::connect_with(of_john(&postern, exp), json!({}));
            assert_error(&client.call(json!({ "id": 2, "refresh": { "token": token } })), 100);
            let (_, reply) = Client::connect_with(of_john(&postern, exp), json!({ "token": token }));
            assert_error(&reply, 100);
            let line = postern.wait_for("a token cannot be checked");
            assert!(line.contains(&url) && !line.contains(&token), "{line}");
            client.call(json!({ "id": 3, "presence_stats": { "channel": "#123" } }));
        }
    }
}
