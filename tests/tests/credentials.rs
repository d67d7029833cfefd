//! Credentials on live connections: their expiry and their refresh, on both binaries and in both applications.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_tests::browser::Browser;
use postern_tests::canary::{self, Kind};
use postern_tests::chain::{Chain, through_each};
use postern_tests::channels::Client;
use postern_tests::gateway::{Addresses, Gateway};
use postern_tests::http::{self, Response};
use postern_tests::identity::Identity;
use postern_tests::issuer::{hs256, unix_time};
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::wait_until;
use postern_tests::ws::{Handshake, Open};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

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

const HEADERS: [(&str, &str); 2] = [
    ("POSTERN_USER_TOKEN_ID_HEADER", "User-Token-ID"),
    ("POSTERN_USER_TOKEN_ISSUED_AT_HEADER", "User-Token-Issued-At"),
];

/// Opens a connection of user 7 in both applications, with a header.
fn open_both(postern: &Postern, (name, value): (&str, &str)) -> [Open; 2] {
    ["/ws", CHANNELS].map(|path| {
        let handshake = postern.handshake().target(path).header("User-ID", "7").header(name, value);
        open(handshake, path)
    })
}

/// Checks that both connections are closed within a second, because their credentials are revoked.
#[track_caller]
fn assert_revoked(mut opened: [Open; 2]) {
    let start = Instant::now();
    let closes = opened.each_mut().map(Open::closed);
    assert_eq!(closes, [(4403, "revoked".to_owned()), (3503, "revoked".to_owned())]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[track_caller]
fn assert_refused(postern: &Postern, (name, value): (&str, &str)) {
    for path in ["/ws", CHANNELS] {
        let handshake = postern.handshake().target(path).header("User-ID", "7").header(name, value);
        handshake.refused_with(403, "revoked");
    }
}

#[track_caller]
fn revoke(postern: &Postern, what: &Value, count: usize) {
    assert_eq!(postern.post("/api/revoke", what).json(), json!({ "result": { "revoked": count } }), "{what}");
}

#[test]
fn revoked_credentials_end_their_connections_and_admit_no_user() {
    for postern in Postern::both_with_control(&HEADERS) {
        let headers = [
            ("User-Session-ID", "s-1"),
            ("User-Token-ID", "t-1"),
            ("User-Token-Issued-At", "100"),
            ("User-Token-Issued-At", "200"),
        ];
        let [session, token, old, new] = headers.map(|header| open_both(&postern, header));
        revoke(&postern, &json!({ "session": "s-2" }), 0);
        revoke(&postern, &json!({ "user": "8" }), 0);
        revoke(&postern, &json!({ "session": "s-1" }), 2);
        assert_revoked(session);
        assert_refused(&postern, headers[0]);
        revoke(&postern, &json!({ "token_id": "t-1", "user": "7" }), 2);
        assert_revoked(token);
        assert_refused(&postern, headers[1]);
        revoke(&postern, &json!({ "issued_before": 200, "user": "7" }), 2);
        assert_revoked(old);
        assert_refused(&postern, headers[2]);
        let [mut echo, channels] = new;
        echo.echo("still here");
        open_both(&postern, headers[3]).into_iter().for_each(Open::close);
        revoke(&postern, &json!({ "user": "7", "ttl": 1 }), 2);
        assert_revoked([echo, channels]);
        assert_refused(&postern, headers[3]);
        // The tokens have expired.
        thread::sleep(Duration::from_secs(2));
        open_both(&postern, headers[3]);
        assert_eq!(metric(&postern, "revoked"), 8.0);
        assert_eq!(postern.metric("postern_revocations"), Some(6.0));
        let refused = postern.post("/api/revoke", &json!({ "ttl": 1 })).json();
        assert_eq!(refused["error"]["code"], 107, "{refused}");
        let line = postern.wait_for("token_id: true");
        assert!(!line.contains("t-1"), "{line}");
    }
}

#[test]
fn revocations_are_passed_between_a_process_and_its_successor() {
    let settings = [("POSTERN_DRAIN_SPREAD", "600s"), ("POSTERN_DRAIN_HARD", "900s")];
    for runtime in Runtime::BOTH {
        let postern = Postern::with(runtime, &settings).control().leading().start();
        let of = |session| ("User-Session-ID", session);
        let [revoked, other] = ["s-1", "s-2"].map(|session| open_both(&postern, of(session)));
        revoke(&postern, &json!({ "session": "s-1" }), 2);
        assert_revoked(revoked);
        let process = Pid::from_raw(postern.id().cast_signed()).expect("a process");
        kill_process(process, Signal::USR2).expect("a signal");
        postern.wait_for("a successor is ready");
        assert_refused(&postern, of("s-1"));
        wait_until("the old process has given up the port", || {
            postern.post("/api/revoke", &json!({ "session": "s-3" })).status == 200
                && postern.get("/api/info").json()["pid"] != postern.id()
        });
        // The connections of the session belong to the old process.
        revoke(&postern, &json!({ "session": "s-2" }), 0);
        assert_revoked(other);
    }
}

/// Asks for a refresh as user 7 with a token that expires in an hour, and returns the answer.
fn refresh(postern: &Postern, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let exp = (unix_time() + 3600).to_string();
    let headers = [&[("User-ID", "7"), ("User-Token-Exp", &*exp)], headers].concat();
    http::request(postern.address(), method, target, &headers, b"").expect("an answer")
}

#[track_caller]
fn assert_answer(answer: &Response, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer}");
}

#[test]
fn a_refresh_through_the_gateway_keeps_connections_open() {
    let settings = [("POSTERN_EXPIRY_GRACE", "1s"), ("POSTERN_EXPIRY_SPREAD", "0"), ("POSTERN_WORKERS", "2")];
    for postern in Postern::both_with_control(&[&settings[..], &HEADERS[..]].concat()) {
        let exp = unix_time() + 3;
        let session = |path, session| {
            let handshake = handshake(&postern, path, "7", exp).header("User-Session-ID", session);
            open(handshake, path)
        };
        // Both workers have some of them.
        let mut kept: Vec<Open> = (0..6).map(|_| session("/ws", "s|1")).collect();
        let channels: Vec<Open> = (0..4).map(|_| session(CHANNELS, "s|1")).collect();
        let mut by_number = session("/ws", "s-2");
        let mut expired = session("/ws", "s-3");
        let listed = postern.post("/api/connections", &json!({ "session": "s-2" })).json();
        let number = listed["result"]["connections"][0]["connection"].as_u64().expect("a number");

        for (target, status, code) in [
            ("/ws/refresh", 400, "refresh_target"),
            ("/ws/refresh?session=s-2&connection=1", 400, "refresh_target"),
            ("/ws/refresh?connection=x", 400, "refresh_target"),
            ("/ws/refresh?session=unknown", 404, "refresh_not_found"),
            ("/ws/refresh?connection=999999", 404, "refresh_not_found"),
            ("/other/refresh?session=s-2", 404, "not_found"),
        ] {
            assert_answer(&refresh(&postern, "GET", target, &[]), status, code);
        }
        // The rules of trust and identity are the same as for an upgrade.
        let get = |headers: &[(&str, &str)]| {
            http::request(postern.address(), "GET", "/ws/refresh?session=s-2", headers, b"")
                .expect("an answer")
        };
        assert_answer(&get(&[]), 401, "identity_missing");
        assert_answer(&get(&[("User-ID", "7")]), 400, "refresh_without_expiry");
        assert_answer(&get(&[("User-ID", "7"), ("User-Token-Exp", "1")]), 401, "token_expired");
        assert_answer(&get(&[("User-ID", "7"), ("User_ID", "7")]), 400, "identity_alias");
        let later = (exp + 3600).to_string();
        let of_other = [("User-ID", "8"), ("User-Token-Exp", &*later)];
        assert_answer(&get(&of_other), 409, "refresh_other_user");
        let foreign = [("User-ID", "7"), ("User-Token-Exp", &*later), ("Origin", "https://evil.example")];
        assert_answer(&get(&foreign), 403, "origin_not_allowed");
        assert_answer(&refresh(&postern, "DELETE", "/ws/refresh", &[]), 405, "method_not_allowed");

        let answer = refresh(&postern, "POST", "/ws/refresh?session=s%7C1", &[("User-Token-ID", "t-2")]);
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer}");
        let answer =
            refresh(&postern, "GET", &format!("/connection/websocket/refresh?connection={number}"), &[]);
        assert_eq!(answer.status, 204, "{answer}");
        assert_eq!(postern.metric("postern_tokens_refreshed_total"), Some(11.0));
        assert_eq!(expired.closed(), (4401, "token expired".to_owned()));
        thread::sleep(Duration::from_secs(2));
        kept.iter_mut().chain([&mut by_number]).for_each(|open| open.echo("still here"));
        // The gateway names the session, and an older token does not shorten the time.
        let older = (unix_time() + 1).to_string();
        let answer = get(&[("User-ID", "7"), ("User-Token-Exp", &older), ("User-Session-ID", "s-2")]);
        assert_eq!(answer.status, 204, "{answer}");
        thread::sleep(Duration::from_secs(3));
        by_number.echo("still here");

        // The connections have the new token.
        revoke(&postern, &json!({ "token_id": "t-2" }), 10);
        for open in &mut kept {
            assert_eq!(open.close_code(), 4403);
        }
        drop(channels);
        assert_answer(
            &refresh(&postern, "GET", "/ws/refresh?session=s-2", &[("User-Token-ID", "t-2")]),
            403,
            "revoked",
        );
    }
}

/// A token of 5 s expires: the connection is closed after it, unless a newer token has refreshed it. A logout ends it at once.
#[test]
fn tokens_expire_and_are_refreshed_through_gateways() {
    let settings = [("POSTERN_EXPIRY_GRACE", "1s"), ("POSTERN_EXPIRY_SPREAD", "1s")];
    through_each(|gateway, runtime| {
        let postern = Postern::start_with_control(runtime, &settings);
        let identity = Identity::revoking(postern.control(), API_KEY);
        let chain = Chain::start_all(gateway, identity, postern, &[]);
        let post = |path: &str, token: &str, body: &str| {
            let bearer = format!("Bearer {token}");
            let headers = [("Authorization", &*bearer), ("Content-Type", "application/json")];
            http::request(chain.address(), "POST", path, &headers, body.as_bytes()).expect("an answer")
        };
        let credentials = json!({ "email": "john@example.com", "password": "password123", "ttl": 5 });
        let token = |answer: &Response| {
            assert_eq!(answer.status, 200, "{answer}");
            chain.keep_secret(answer.json()["accessToken"].as_str().expect("a token").to_owned())
        };
        let login = || token(&post("/identity/login", "none", &credentials.to_string()));
        let (first, second) = (login(), login());
        let start = Instant::now();
        let mut expiring = chain.handshake().bearer(&first).open();
        let mut refreshed = chain.handshake().bearer(&second).open();
        thread::sleep(Duration::from_secs(3));
        let newer = token(&post("/identity/refresh", &second, ""));
        let answer = post("/ws/refresh", &newer, "");
        assert_eq!(answer.status, 204, "{answer}");
        assert_eq!(expiring.closed(), (4401, "token expired".to_owned()));
        // A second is the most by which the times of the token are rounded.
        assert!((5..8).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        refreshed.echo("still here");
        assert_eq!(post("/identity/logout", &newer, "").status, 200);
        let start = Instant::now();
        assert_eq!(refreshed.closed(), (4403, "revoked".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(1));
        // Gateways log a connection at its end.
        drop((expiring, refreshed));
        chain.assert_no_secrets_logged();
    });
}

/// The ways in which a connection is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Message,
    Gateway,
    Api,
    /// It is not refreshed.
    None,
}

/// Returns the claims of a token.
fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("three parts");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
    serde_json::from_slice(&claims).expect("JSON")
}

/// Waits for the reply to a command of channels, and skips pushes.
#[track_caller]
fn reply(open: &mut Open, id: u64) -> Value {
    loop {
        let message = open.receive().into_text().expect("a text");
        let value: Value = serde_json::from_str(&message).expect("JSON");
        if value["id"] == id {
            return value;
        }
    }
}

#[test]
fn each_way_of_refresh_keeps_a_connection_open_through_gateways() {
    through_each(|gateway, runtime| {
        let identity = Identity::start();
        let url = format!("http://{}/identity/validate", identity.address());
        let settings = [
            ("POSTERN_EXPIRY_GRACE", "1s"),
            ("POSTERN_EXPIRY_SPREAD", "1s"),
            ("POSTERN_IN_BAND_AUTH", "on"),
            ("POSTERN_AUTH_URL", &*url),
        ];
        let postern = Postern::start_with_control(runtime, &settings);
        let chain = Chain::start_all(gateway, identity, postern, &[]);
        let login = |ttl: u64| {
            let body = json!({ "email": "john@example.com", "password": "password123", "ttl": ttl });
            let headers = [("Content-Type", "application/json")];
            let body = body.to_string();
            let answer = http::request(chain.address(), "POST", "/identity/login", &headers, body.as_bytes());
            let answer = answer.expect("an answer").json();
            chain.keep_secret(answer["accessToken"].as_str().expect("a token").to_owned())
        };

        let newer = login(3600);
        let mut exp = 0;
        let mut opened = Vec::new();
        for path in ["/ws", CHANNELS] {
            for way in [Way::Message, Way::Gateway, Way::Api, Way::None] {
                let token = login(5);
                let claims = claims(&token);
                exp = claims["exp"].as_u64().expect("a time");
                let session = claims["sid"].as_str().expect("a session").to_owned();
                let open = open(chain.handshake().target(path).bearer(&token), path);
                opened.push((path, way, session, exp, open));
            }
        }
        for (path, way, session, _, open) in &mut opened {
            match way {
                Way::Message if *path == CHANNELS => {
                    open.send(json!({ "id": 2, "refresh": { "token": newer } }).to_string());
                    let reply = reply(open, 2);
                    assert_eq!(reply["refresh"]["expires"], true, "{reply}");
                }
                Way::Message => {
                    open.send(json!({ "type": "refresh", "token": newer }).to_string());
                    let answer = open.receive().into_text().expect("a text");
                    assert!(answer.starts_with("{\"type\":\"refreshed\""), "{answer}");
                }
                Way::Gateway => {
                    let bearer = format!("Bearer {newer}");
                    // By its number: the search for secrets reads queries, and the id of a session is logged.
                    let listed =
                        chain.postern.post("/api/connections", &json!({ "session": session })).json();
                    let number = &listed["result"]["connections"][0]["connection"];
                    let target = format!("{path}/refresh?connection={number}");
                    let headers = [("Authorization", &*bearer)];
                    let answer = http::request(chain.address(), "POST", &target, &headers, b"");
                    let answer = answer.expect("an answer");
                    assert_eq!(answer.status, 204, "{answer}");
                }
                Way::Api => {
                    let body = json!({ "session": session, "expire_at": unix_time() + 3600 });
                    let answer = chain.postern.post("/api/refresh", &body);
                    assert_eq!(answer.json(), json!({ "result": { "refreshed": 1 } }));
                }
                Way::None => {}
            }
        }

        let (expired, mut kept): (Vec<_>, Vec<_>) =
            opened.into_iter().partition(|(_, way, ..)| *way == Way::None);
        for ((path, _, _, exp, mut open), (of, (code, reason))) in expired.into_iter().zip(EXPIRED) {
            assert_eq!(path, of);
            let (at, close) = closed(&mut open);
            assert_eq!(close, (code, reason.to_owned()));
            // Grace and spread, and the time of a busy machine.
            let first = Duration::from_secs(exp + 1);
            assert!((first..first + Duration::from_secs(4)).contains(&at), "{at:?} and not {first:?}");
        }
        // All tokens of 5 s would have ended their connections by now.
        let last = Duration::from_secs(exp + 2) + Duration::from_millis(500);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        thread::sleep(last.saturating_sub(now));
        for (path, way, _, _, open) in &mut kept {
            if *path == CHANNELS {
                open.send(json!({ "id": 3, "presence_stats": { "channel": "#123" } }).to_string());
                reply(open, 3);
            } else {
                open.echo(format!("still here: {way:?}"));
            }
        }
        assert_eq!(metric(&chain.postern, "expired"), 2.0);
        drop(kept);
        // The clients that were not refreshed log in again.
        let back = login(3600);
        open(chain.handshake().target(CHANNELS).bearer(&back), CHANNELS).close();
        let mut open = chain.handshake().bearer(&back).open();
        open.echo("back");
        open.close();
        chain.assert_no_secrets_logged();
    });
}

#[test]
fn a_logout_in_one_tab_closes_the_connection_of_another() {
    let mut browser = Browser::start();
    for (gateway, runtime) in [(Gateway::Traefik, Runtime::Mio), (Gateway::Nginx, Runtime::Smol)] {
        let postern = Postern::start_with_control(runtime, &[]);
        let identity = Identity::revoking(postern.control(), API_KEY);
        let addresses = Addresses {
            gateway: identity.address(),
            identity: identity.address(),
            postern: postern.address(),
        };
        let (from, to) = gateway.with_page(addresses);
        let chain = Chain::start_all(gateway, identity, postern, &[(&from, &to)]);
        let page = format!("http://{}/", chain.address());
        browser.open(&page);
        let mut other = browser.new_page();
        other.open(&page);
        let credentials = json!({ "email": "john@example.com", "password": "password123" });
        let login = format!(
            "fetch('/identity/login', {{ method: 'POST', headers: {{ 'Content-Type': 'application/json' }}, \
             body: JSON.stringify({credentials}) }}).then((answer) => answer.json()).then((body) => body.accessToken)"
        );
        let token = browser.value(&login);
        chain.keep_secret(canary::secret(Kind::Token, token.as_str().expect("a token").to_owned()));
        // The cookie of the login is sent by both tabs.
        let connect = "new Promise((done) => {
            window.ws = new WebSocket(`ws://${location.host}/ws`);
            ws.onmessage = ({ data }) => done(data);
            ws.onopen = () => ws.send('Hello World');
            ws.onclose = ({ code, reason }) => window.ended = { code, reason, at: Date.now() };
        })";
        for page in [&mut browser, &mut other] {
            assert_eq!(page.value(connect), "Hello World", "{gateway}");
        }
        let start =
            browser.value("{ const at = Date.now(); fetch('/identity/logout', { method: 'POST' }); at }");
        for page in [&mut browser, &mut other] {
            page.wait_for("window.ended !== undefined");
            let closed = page.value("window.ended");
            assert_eq!((&closed["code"], &closed["reason"]), (&json!(4403), &json!("revoked")), "{gateway}");
            let took = closed["at"].as_u64().expect("a time") - start.as_u64().expect("a time");
            assert!(took < 1_000, "{gateway}: {took} ms");
        }
        chain.assert_no_secrets_logged();
    }
}
