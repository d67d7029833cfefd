//! `POSTERN_AUTH_URL`: tokens that clients send on open connections are checked by the service that the gateway asks.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::canary::{self, Kind};
use postern_tests::channels::Client;
use postern_tests::frames::{TEXT, client, receive};
use postern_tests::http;
use postern_tests::identity::Identity;
use postern_tests::issuer::unix_time;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::{Process, Stream};
use postern_tests::provision;
use postern_tests::scripted_identity::Scripted;
use postern_tests::workspace;
use postern_tests::ws::{Handshake, Open};
use serde_json::{Value, json};

const CHANNELS: &str = "/connection/websocket";
const SETTINGS: [(&str, &str); 2] = [("POSTERN_EXPIRY_GRACE", "1s"), ("POSTERN_EXPIRY_SPREAD", "0")];

fn url(address: SocketAddr) -> String {
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
            let exp = unix_time() + 5;
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
                thread::sleep(Duration::from_millis(500));
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

#[test]
fn the_sdk_keeps_its_connection_with_newer_tokens_and_returns_without_them() {
    let packages = provision::javascript_sdk().expect("the SDK");
    let identity = Identity::start();
    let url = url(identity.address());
    for runtime in Runtime::BOTH {
        let settings = [&SETTINGS[..], &[("POSTERN_AUTH_URL", &*url)]].concat();
        let postern = Postern::start_with_control(runtime, &settings);
        let body = json!({ "email": "john@example.com", "password": "password123", "ttl": 5 }).to_string();
        let headers = [("Content-Type", "application/json")];
        let answer = http::request(identity.address(), "POST", "/identity/login", &headers, body.as_bytes());
        let token = answer.expect("an answer").json()["accessToken"].as_str().expect("a token").to_owned();
        let mut command = Command::new("node");
        command.arg(workspace::path("tests/tests/peers/credentials.cjs"));
        command.arg(format!("ws://{}{CHANNELS}", postern.address()));
        command.args([identity.address().to_string(), canary::secret(Kind::Token, token)]);
        let mut node = Process::spawn("node", command.env("NODE_PATH", &packages)).expect("Node starts");
        let status = node.wait(Duration::from_secs(60)).expect("it ends");
        assert!(status.success(), "{runtime}: {:?}", node.lines());
        assert_eq!(
            node.lines_of(Stream::Out).pop().as_deref(),
            Some("true"),
            "{runtime}: {:?}",
            node.lines()
        );
    }
}

/// A service that answers each request after a fifth of a second. Returns its address, and the most requests at the same time.
fn slow_service() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (current, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = most.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (current, peak) = (current.clone(), peak.clone());
            thread::spawn(move || {
                let stream = stream.expect("a connection");
                let mut lines = BufReader::new(&stream).lines();
                while lines.by_ref().map_while(Result::ok).any(|line| line.is_empty()) {
                    peak.fetch_max(current.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(200));
                    current.fetch_sub(1, Ordering::SeqCst);
                    let answer = "HTTP/1.1 200 OK\r\nUser-ID: 7\r\nUser-Token-Exp: 4102444800\r\nContent-Length: 0\r\n\r\n";
                    if (&stream).write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, most)
}

/// The number of requests at the same time is bounded, each refresh is answered in time, and other clients do not notice it.
#[test]
fn slow_service_under_load_delays_no_other_client() {
    for runtime in Runtime::BOTH {
        let (address, most) = slow_service();
        let url = url(address);
        let settings =
            [("POSTERN_AUTH_URL", &*url), ("POSTERN_IN_BAND_AUTH", "on"), ("POSTERN_LOG_MESSAGES", "off")];
        let postern = Postern::start_with_control(runtime, &settings);
        let mut streams: Vec<TcpStream> = (0..1_000)
            .map(|number| {
                // Half of them, on each worker, belong to a user that the service does not name.
                let user = ["7", "8"][number / 2 % 2];
                postern.handshake().header("User-ID", user).open().into_stream()
            })
            .collect();
        let mut quiet = postern.open();
        let mut measure = |count: usize| {
            let mut latencies: Vec<Duration> = (0..count)
                .map(|_| {
                    let start = Instant::now();
                    quiet.echo("an echo");
                    thread::sleep(Duration::from_millis(1));
                    start.elapsed()
                })
                .collect();
            latencies.sort_unstable();
            latencies[latencies.len() * 99 / 100]
        };
        let before = measure(500);
        let start = Instant::now();
        for (number, stream) in streams.iter_mut().enumerate() {
            let token = canary::secret(Kind::Token, format!("slow.{number:06}.{}", "a".repeat(20)));
            stream.write_all(&client(TEXT, refresh(&token).as_bytes())).expect("it is open");
        }
        let during = measure(1_000);
        let mut outcomes = BTreeMap::<String, usize>::new();
        for (number, stream) in streams.iter_mut().enumerate() {
            let header = receive(stream, 2);
            let answer: Value =
                serde_json::from_slice(&receive(stream, usize::from(header[1]))).expect("JSON");
            let outcome = answer["code"].as_str().or(answer["type"].as_str()).expect("a code").to_owned();
            // A user is refreshed only if the service names it.
            assert!(number / 2 % 2 == 0 || outcome != "refreshed", "{runtime}: {answer}");
            *outcomes.entry(outcome).or_default() += 1;
        }
        println!(
            "{runtime}: {outcomes:?} in {:?}, with at most {most:?} requests at the same time; p99 of an echo {before:?}, then {during:?}",
            start.elapsed()
        );
        assert!(start.elapsed() < Duration::from_secs(10), "{runtime}: {:?}", start.elapsed());
        assert_eq!(most.load(Ordering::SeqCst), 8, "{runtime}");
        assert!(outcomes["refreshed"] >= 20 && outcomes["unavailable"] >= 500, "{runtime}: {outcomes:?}");
        assert_eq!(
            outcomes.keys().collect::<Vec<_>>(),
            ["other_user", "refreshed", "unavailable"],
            "{runtime}"
        );
        // The machine may be busy.
        assert!(during < 2 * before + Duration::from_millis(50), "{runtime}: {before:?}, then {during:?}");
    }
}
