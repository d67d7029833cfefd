//! `POSTERN_AUTH_URL`: tokens that clients send on open connections are checked by the service that the gateway asks.

use std::thread;
use std::time::{Duration, Instant};

use postern_tests::canary::{self, Kind};
use postern_tests::channels::Client;
use postern_tests::identity::Identity;
use postern_tests::issuer::unix_time;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::scripted_identity::Scripted;
use postern_tests::ws::{Handshake, Open};
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

/// Sends a text message, and returns the answer.
#[track_caller]
fn ask(open: &mut Open, message: &str) -> Value {
    open.send(message);
    serde_json::from_str(&open.receive().into_text().expect("a text")).expect("JSON")
}

fn refresh(token: &str) -> String {
    json!({ "type": "refresh", "token": token }).to_string()
}

/// With the service, and with the secret of Identity.
fn by_each(runtime: Runtime, identity: &Identity, check: impl Fn(&Postern)) {
    let url = url(identity.address());
    for source in [("POSTERN_AUTH_URL", &*url), ("JWT_SECRET", Identity::SECRET)] {
        let settings = [&SETTINGS[..], &[source, ("POSTERN_IN_BAND_AUTH", "on")]].concat();
        check(&Postern::start_with_control(runtime, &settings));
    }
}

#[test]
fn a_client_of_echo_refreshes_its_token_by_a_message() {
    let identity = Identity::start();
    for runtime in Runtime::BOTH {
        by_each(runtime, &identity, |postern| {
            let exp = unix_time() + 2;
            let open = || {
                let handshake = postern.handshake().header("User-ID", "123");
                handshake.header("User-Token-Exp", &exp.to_string()).open()
            };
            let (mut kept, mut expired) = (open(), open());
            let john = identity.login("john@example.com");
            let answer = ask(&mut kept, &refresh(&john));
            assert_eq!(answer["type"], "refreshed", "{answer}");
            assert!(answer["expires_at"].as_u64().is_some_and(|at| at > exp + 3000), "{answer}");
            kept.echo("hello");
            // None of these refreshes the connection.
            let forged = identity.forged_token("john@example.com");
            let ann = identity.login("ann@example.com");
            for (message, code) in [
                (refresh(&ann), "other_user"),
                (refresh(&forged), "token_refused"),
                (refresh(&john[..john.len() - 1]), "token_refused"),
                (refresh(&identity.expired_token("john@example.com")), "token_refused"),
                (refresh(&format!("{john} {john}")), "malformed"),
                (refresh(&john)[..40].to_owned(), "malformed"),
                (refresh(&"a".repeat(8193)), "too_long"),
            ] {
                let answer = ask(&mut expired, &message);
                assert_eq!(
                    answer,
                    json!({ "type": "refresh_refused", "code": code }),
                    "{runtime}: {message:.60}"
                );
                thread::sleep(Duration::from_millis(200));
            }
            assert_eq!(expired.closed(), (4401, "token expired".to_owned()));
            kept.echo("still here");
            let line = postern.wait_for("Refresh of the token of");
            assert!(line.contains("WARN") && line.contains("code: other_user"), "{line}");
            assert_eq!(postern.metric("postern_refreshes_refused_total"), Some(7.0));
            assert_eq!(postern.metric("postern_tokens_refreshed_total"), Some(1.0));
            for token in [&john, &forged, &ann] {
                let log = postern.log().join("\n");
                assert!(!log.contains(token.rsplit('.').next().unwrap_or(token)), "{token} is logged");
            }
        });
    }
}
