//! Refusals, keys, slow clients, and the command `healthcheck`.

use crate::{JSON, KEY, connect, wait_for};
use postern_tests::http::{self, Connection};
use postern_tests::postern::{API_KEY, Postern, Runtime, command};
use postern_tests::process::Process;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A request, and the expected status, `error.code` and `Allow` of its answer.
type Refused<'t> = (&'t str, &'t str, &'t [(&'t str, &'t str)], &'t str, u16, &'t str, Option<&'t str>);

#[test]
fn refusal_has_its_status_code_and_message() {
    const WRONG: (&str, &str) = ("X-API-Key", "0123456789abcdef-the-key-of-others");
    const TEXT: (&str, &str) = ("Content-Type", "text/plain");
    let refused: &[Refused<'_>] = &[
        ("POST", "/", &[JSON], "{}", 405, "method", Some("GET, HEAD")),
        ("GET", "/favicon.ico", &[], "", 404, "not_found", None),
        ("GET", "/ws", &[], "", 404, "not_found", None),
        ("GET", "/livez/", &[], "", 404, "not_found", None),
        ("POST", "/livez", &[], "", 405, "method", Some("GET, HEAD")),
        ("DELETE", "/metrics", &[], "", 405, "method", Some("GET, HEAD")),
        ("GET", "/api/info", &[], "", 401, "api_key", None),
        ("GET", "/api/info", &[WRONG], "", 401, "api_key", None),
        ("GET", "/api/info", &[KEY, KEY], "", 401, "api_key", None),
        ("GET", "/api/nothing", &[], "", 401, "api_key", None),
        ("GET", "/api", &[WRONG], "", 401, "api_key", None),
        ("GET", "/api/nothing", &[KEY], "", 404, "not_found", None),
        ("DELETE", "/api/info", &[KEY, JSON], "{}", 405, "method", Some("GET, HEAD, POST")),
        ("GET", "/api", &[KEY], "", 405, "method", Some("POST")),
        ("POST", "/api/publis", &[KEY, JSON], "{}", 404, "not_found", None),
        ("GET", "/api/send", &[KEY], "", 405, "method", Some("POST")),
        ("GET", "/api/disconnect", &[KEY], "", 405, "method", Some("POST")),
        ("POST", "/api/send", &[JSON], "{}", 401, "api_key", None),
        ("POST", "/api/send", &[KEY], "{}", 415, "content_type", None),
        ("POST", "/api/send", &[KEY, TEXT], "{}", 415, "content_type", None),
        ("POST", "/api/send", &[KEY, JSON], "", 400, "json", None),
        ("POST", "/api/send", &[KEY, JSON], "{\"user\":", 400, "json", None),
        ("GET", "/api/batch", &[KEY], "", 405, "method", Some("POST")),
        ("POST", "/api/batch", &[JSON], "{}", 401, "api_key", None),
        ("POST", "/api/batch", &[KEY, JSON], r#"{"commands":{}}"#, 400, "json", None),
        ("POST", "/api", &[KEY, JSON], r#"{"method":"nothing"}"#, 400, "json", None),
        ("GET", "/api/connections?user=1", &[KEY], "", 405, "method", Some("POST")),
    ];
    for postern in Postern::both_with_control(&[]) {
        for (method, target, headers, body, status, code, allow) in refused {
            let response = http::request(postern.control(), method, target, headers, body.as_bytes())
                .unwrap_or_else(|failure| panic!("{method} {target}: {failure}"));
            let what = format!("{method} {target} {headers:?} {body}: {response}");
            assert_eq!(response.status, *status, "{what}");
            assert_eq!(response.header("content-type"), "application/json", "{what}");
            let error = &response.json()["error"];
            assert_eq!(error["code"], *code, "{what}");
            assert!(error["message"].as_str().is_some_and(|message| message.len() > 5), "{what}");
            let said = response.headers.get("allow").map(|allow| allow.to_str().expect("ASCII"));
            assert_eq!(said, *allow, "{what}");
            assert_eq!(response.headers.contains_key("www-authenticate"), *status == 401, "{what}");
            assert!(!response.text().contains(API_KEY), "{what}");
        }
        assert!(!postern.log().join("\n").contains(API_KEY));
    }
}

#[test]
fn api_requires_one_of_its_keys() {
    for runtime in Runtime::BOTH {
        // An empty value is not a key.
        let postern = Postern::start_with_control(runtime, &[("POSTERN_API_KEY", "")]);
        for key in [&[KEY][..], &[]] {
            let response = http::request(postern.control(), "GET", "/api/info", key, b"").expect("an answer");
            assert_eq!(response.status, 403, "{runtime}: {response}");
            assert!(response.text().contains("POSTERN_API_KEY"), "{runtime}: {response}");
        }
        assert_eq!(postern.get("/metrics").status, 200, "{runtime}");

        let file = tempfile::NamedTempFile::new().expect("a file");
        let other = "fedcba9876543210";
        std::fs::write(file.path(), format!("{API_KEY},{other}\n")).expect("it is written");
        let path = file.path().to_str().expect("a path");
        let settings = [("POSTERN_API_KEY", ""), ("POSTERN_API_KEY_FILE", path)];
        let postern = Postern::start_with_control(runtime, &settings);
        for (key, status) in [(API_KEY, 200), (other, 200), ("fedcba987654321", 401)] {
            let key = [("x-api-key", key)];
            let response =
                http::request(postern.control(), "GET", "/api/info", &key, b"").expect("an answer");
            assert_eq!(response.status, status, "{runtime}: {response}");
        }
    }
}

#[test]
fn body_that_is_too_large_is_refused_before_it_is_read() {
    for postern in Postern::both_with_control(&[]) {
        let head = format!(
            "POST /api/send HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n"
        );
        let mut announced = Connection::open(postern.control()).expect("a connection");
        announced.send(format!("{head}Content-Length: 999999999\r\n\r\n").as_bytes()).expect("it is taken");
        let response = announced.response().expect("an answer");
        assert_eq!((response.status, &response.json()["error"]["code"]), (413, &json!("body_too_large")));
        assert!(announced.is_closed());

        let mut chunked = Connection::open(postern.control()).expect("a connection");
        chunked.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).expect("it is taken");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        // The limit is 64 KiB and twice the longest message. The fourth chunk exceeds it, and later bytes may cause a reset.
        for _ in 0..4 {
            let _ = chunked.send(chunk.as_bytes());
        }
        let response = chunked.response().expect("an answer");
        assert_eq!(response.status, 413, "{response}");
    }
}

#[test]
fn slow_clients_of_the_control_port_do_not_delay_others() {
    for postern in Postern::both_with_control(&[]) {
        let mut client = connect(&postern, "1", None);
        // Twice the limit of connections, half of them with an unfinished request.
        let idle: Vec<_> = (0..128)
            .map(|number| {
                let mut stream = TcpStream::connect(postern.control()).expect("a connection");
                if number % 2 == 0 {
                    stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").expect("it is taken");
                }
                stream
            })
            .collect();
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(postern.get("/livez").status, 200);
            assert_eq!(postern.get("/metrics").status, 200);
            client.echo("quick");
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        // Idle connections are closed after five seconds.
        for mut stream in idle {
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes a time limit");
            let mut answer = Vec::new();
            // The end, or a reset of an unfinished request.
            let _ = stream.read_to_end(&mut answer);
            assert!(!answer.starts_with(b"HTTP/1.1 200"));
        }
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(12), "{waited:?}");
        client.echo("still here");
    }
}

#[test]
fn connection_carries_several_requests_and_head_has_no_body() {
    for postern in Postern::both_with_control(&[]) {
        let mut connection = Connection::open(postern.control()).expect("a connection");
        for _ in 0..3 {
            connection.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is taken");
            assert_eq!(connection.response().expect("an answer").status, 200);
        }
        let mut stream = TcpStream::connect(postern.control()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes a time limit");
        stream
            .write_all(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

/// Runs `healthcheck` with these arguments. Returns its exit code and its lines.
#[track_caller]
fn healthcheck(runtime: Runtime, control: &str, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let (mut command, _folder) = command(runtime);
    command.arg("healthcheck").args(arguments).env("POSTERN_CONTROL", control);
    let mut process = Process::spawn("healthcheck", &mut command).expect("it starts");
    let status = process.wait(Duration::from_secs(20)).expect("it ends");
    (status.code(), process.lines())
}

#[test]
fn healthcheck_prints_one_line_and_exits_with_0_or_1() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start_with_control(runtime, &[("POSTERN_CLOSE_TIMEOUT", "60s")]);
        let control = postern.control().to_string();
        let live = vec![r#"{"status":"live"}"#.to_owned()];
        let ready = vec![r#"{"status":"ready"}"#.to_owned()];
        assert_eq!(healthcheck(runtime, &control, &[]), (Some(0), live.clone()), "{runtime}");
        assert_eq!(healthcheck(runtime, &control, &["--ready"]), (Some(0), ready), "{runtime}");
        // If it listens on all addresses, the command connects to this host.
        let everywhere = format!("0.0.0.0:{}", postern.control().port());
        assert_eq!(healthcheck(runtime, &everywhere, &[]), (Some(0), live.clone()), "{runtime}");
        // The flag has priority over the environment.
        assert_eq!(
            healthcheck(runtime, "off", &["--control", &control]),
            (Some(0), live.clone()),
            "{runtime}"
        );

        let _deaf = connect(&postern, "1", None);
        postern.process.signal(Signal::TERM).expect("a signal");
        let draining = json!({ "status": "not_ready", "reasons": ["draining"] });
        wait_for(&postern, "/readyz", &draining);
        let (code, lines) = healthcheck(runtime, &control, &["--ready"]);
        assert_eq!(code, Some(1), "{runtime}");
        let parsed: Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert_eq!((parsed, lines.len()), (draining, 1), "{runtime}");
        assert_eq!(healthcheck(runtime, &control, &[]), (Some(0), live), "{runtime}: it lives");
        drop(postern);

        let (code, lines) = healthcheck(runtime, &control, &[]);
        assert_eq!((code, lines.len()), (Some(1), 1), "{runtime}: {lines:?}");
        let (code, lines) = healthcheck(runtime, "off", &[]);
        assert_eq!((code, lines.len()), (Some(1), 1), "{runtime}: {lines:?}");
        assert!(lines[0].contains("POSTERN_CONTROL"), "{runtime}: {lines:?}");
        let (code, lines) = healthcheck(runtime, "nowhere", &[]);
        assert_eq!((code, lines.len()), (Some(2), 1), "{runtime}: {lines:?}");
    }
}

/// Requests that change something need a key and a content type that a page of another site cannot send without a
/// preflight request.
#[test]
fn page_of_another_site_cannot_change_anything() {
    for postern in Postern::both_with_control(&[]) {
        let control: SocketAddr = postern.control();
        let preflight = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
        let response = http::request(control, "OPTIONS", "/api/send", &preflight, b"").expect("an answer");
        assert_eq!(response.status, 401, "{response}");
        let is_cors = |name: &str| name.starts_with("access-control-");
        assert!(!response.headers.keys().any(|name| is_cors(name.as_str())), "{response}");
    }
}
