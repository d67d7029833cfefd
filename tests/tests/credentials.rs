//! Credentials on live connections: their expiry and their refresh, on both binaries and in both applications.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_tests::canary::{self, Kind};
use postern_tests::channels::Client;
use postern_tests::issuer::{hs256, unix_time};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Open};
use serde_json::json;

const CHANNELS: &str = "/connection/websocket";
const EXPIRED: [(&str, (u16, &str)); 2] =
    [("/ws", (4401, "token expired")), (CHANNELS, (3005, "connection expired"))];

fn handshake(postern: &Postern, path: &str, user: &str, exp: u64) -> Handshake {
    postern.handshake().target(path).header("User-ID", user).header("User-Token-Exp", &exp.to_string())
}

/// Opens a connection, and connects a client of channels.
fn open(handshake: Handshake, path: &str) -> Open {
    if path == CHANNELS { Client::connect_with(handshake, json!({})).0.open } else { handshake.open() }
}

/// Returns the time since 1970 at which the connection is closed, and the Close.
fn closed(open: &mut Open) -> (Duration, (u16, String)) {
    let close = open.closed();
    (SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), close)
}

fn metric(postern: &Postern, cause: &str) -> f64 {
    postern.metric(&format!("postern_credentials_ended_total{{cause=\"{cause}\"}}")).unwrap_or_default()
}

#[test]
fn a_connection_is_closed_after_its_token_has_expired() {
    for postern in
        Postern::both_with_control(&[("POSTERN_EXPIRY_GRACE", "1s"), ("POSTERN_EXPIRY_SPREAD", "1s")])
    {
        let exp = unix_time() + 2;
        let opened = EXPIRED.map(|(path, close)| {
            let handshake = handshake(&postern, path, "7", exp).header("User-Session-ID", "s-7");
            (open(handshake, path), close)
        });
        let unlimited = postern.open();
        for (mut open, (code, reason)) in opened {
            let (at, close) = closed(&mut open);
            assert_eq!(close, (code, reason.to_owned()));
            let exp = Duration::from_secs(exp);
            let most = exp + Duration::from_secs(2) + Duration::from_millis(500);
            assert!((exp + Duration::from_secs(1)..most).contains(&at), "{at:?} and not {exp:?}");
        }
        let line = postern.wait_for("has expired, and the connection is closed");
        assert!(line.contains("WARN") && line.contains(&format!("token_exp: {exp}")), "{line}");
        assert!(postern.wait_for("connection established").contains("user_session: s-7"));
        assert_eq!(metric(&postern, "expired"), 2.0);
        unlimited.close();
    }
}

#[test]
fn a_token_that_has_expired_admits_no_user() {
    for postern in Postern::both(&[("POSTERN_EXPIRY_GRACE", "1s")]) {
        for (path, _) in EXPIRED {
            let refusal = handshake(&postern, path, "7", unix_time() - 1).refused_with(401, "token_expired");
            assert_eq!(refusal.header("www-authenticate"), "Bearer");
            handshake(&postern, path, "7", unix_time() + 2).open();
        }
    }
}

#[test]
fn a_backend_refreshes_a_connection() {
    for postern in
        Postern::both_with_control(&[("POSTERN_EXPIRY_GRACE", "1s"), ("POSTERN_EXPIRY_SPREAD", "0")])
    {
        let exp = unix_time() + 2;
        let mut opened = EXPIRED.map(|(path, _)| open(handshake(&postern, path, "7", exp), path));
        let later = exp + 3600;
        let response = postern.post("/api/refresh", &json!({ "user": "7", "expire_at": later }));
        assert_eq!(response.json(), json!({ "result": { "refreshed": 2 } }));
        let listed = postern.post("/api/connections", &json!({ "user": "7" })).json();
        let listed = listed["result"]["connections"].as_array().expect("connections");
        assert_eq!(listed.len(), 2);
        let expiry = listed[0]["token_expires_at"].as_str().expect("a time").to_owned();
        assert!(listed.iter().all(|line| line["token_expires_at"] == expiry), "{listed:?}");
        thread::sleep(Duration::from_secs(4));
        opened[0].echo("still here");
        // A backend can also shorten the time.
        postern.post("/api/refresh", &json!({ "user": "7", "expire_at": unix_time() + 1 }));
        assert_eq!(opened[0].close_code(), 4401);
        // A client of channels gets a push for each refresh.
        for _ in 0..2 {
            let push = opened[1].receive().into_text().expect("a text");
            assert!(push.contains("\"refresh\""), "{push}");
        }
        assert_eq!(opened[1].close_code(), 3005);
    }
}

#[test]
fn a_connection_token_of_channels_refreshes_the_identity_of_the_gateway() {
    for runtime in Runtime::BOTH {
        let secret = canary::mint(Kind::Setting);
        let settings =
            [("JWT_SECRET", &*secret), ("POSTERN_EXPIRY_GRACE", "1s"), ("POSTERN_EXPIRY_SPREAD", "0")];
        let postern = Postern::start_with_control(runtime, &settings);
        let exp = unix_time() + 2;
        let token = hs256(&secret, &json!({ "sub": "7", "exp": exp + 4 }));
        let fields = json!({ "token": token });
        let (mut with, _) = Client::connect_with(handshake(&postern, CHANNELS, "7", exp), fields);
        let start = Instant::now();
        assert_eq!(with.open.closed(), (3005, "connection expired".to_owned()));
        assert!(start.elapsed() > Duration::from_secs(5), "{runtime}: {:?}", start.elapsed());
    }
}
