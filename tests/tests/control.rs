//! The control port, on both binaries: each route, each refusal, what operators do to connections and what clients see of
//! it, and that clients of the control port who take their time disturb nobody.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::http::{self, Connection, Response};
use postern_tests::postern::{API_KEY, Postern, Runtime, command};
use postern_tests::process::Process;
use postern_tests::ws::{Handshake, Open};
use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;

const KEY: (&str, &str) = ("X-API-Key", API_KEY);
const JSON: (&str, &str) = ("Content-Type", "application/json");

#[track_caller]
fn get(postern: &Postern, target: &str) -> Response {
    http::request(postern.control(), "GET", target, &[KEY], b"").expect("an answer")
}

#[track_caller]
fn post(postern: &Postern, path: &str, body: &Value) -> Response {
    let body = body.to_string();
    http::request(postern.control(), "POST", path, &[KEY, JSON], body.as_bytes()).expect("an answer")
}

/// A connection of this user, in a session if there is one.
#[track_caller]
fn connect(postern: &Postern, user: &str, session: Option<&str>) -> Open {
    let handshake = Handshake::to(postern.address()).header("User-ID", user);
    match session {
        Some(session) => handshake.header("User-Session-ID", session).open(),
        None => handshake.open(),
    }
}

/// The connections that a query lists.
#[track_caller]
fn listed(postern: &Postern, query: &str) -> Vec<Value> {
    let response = get(postern, &format!("/api/connections{query}"));
    assert_eq!(response.status, 200, "{response}");
    response.json()["connections"].as_array().cloned().expect("a list")
}

/// The answers to a probe, until it is this.
#[track_caller]
fn wait_for(postern: &Postern, path: &str, expected: &Value) -> Response {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let response = get(postern, path);
        if response.json() == *expected {
            return response;
        }
        assert!(Instant::now() < deadline, "{expected} is expected, not {response}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The code and the reason of the Close that comes next.
#[track_caller]
fn closed(client: &mut Open) -> (u16, String) {
    let message = client.receive();
    let Message::Close(Some(frame)) = message else { panic!("a Close is expected, not {message:?}") };
    (frame.code.into(), frame.reason.to_string())
}

#[test]
fn probes_say_whether_it_lives_and_whether_it_takes_more_users() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start_with_control(runtime, &[("POSTERN_CLOSE_TIMEOUT", "60s")]);
        let live = json!({ "status": "live" });
        let ready = json!({ "status": "ready" });
        for (path, expected) in [("/livez", &live), ("/readyz", &ready)] {
            // Without a key: probes have none.
            let response = http::request(postern.control(), "GET", path, &[], b"").expect("an answer");
            assert_eq!((response.status, &response.json()), (200, expected), "{runtime}");
            assert_eq!(response.header("content-type"), "application/json");
            assert_eq!(response.header("cache-control"), "no-store");
        }
        let _deaf = connect(&postern, "1", None);
        postern.process.signal(Signal::TERM).expect("a signal");
        let draining = json!({ "status": "not_ready", "reasons": ["draining"] });
        assert_eq!(wait_for(&postern, "/readyz", &draining).status, 503, "{runtime}");
        assert_eq!(
            (get(&postern, "/livez").status, get(&postern, "/livez").json()),
            (200, live),
            "{runtime}"
        );
        assert_eq!(get(&postern, "/api/info").json()["draining"], true, "{runtime}");
        // Two signals within 100 ms would be one.
        thread::sleep(Duration::from_millis(400));
        postern.process.signal(Signal::TERM).expect("a signal");
        assert!(postern.process.wait(Duration::from_secs(5)).expect("it ends").success(), "{runtime}");
    }
}

#[test]
fn who_is_full_is_not_ready() {
    for runtime in Runtime::BOTH {
        let settings =
            [("POSTERN_MAX_CONNECTIONS", "1"), ("POSTERN_MAX_MEMORY", "100KiB"), ("POSTERN_WORKERS", "1")];
        let postern = Postern::start_with_control(runtime, &settings);
        let ready = json!({ "status": "ready" });
        wait_for(&postern, "/readyz", &ready);
        let client = connect(&postern, "1", None);
        let full = json!({ "status": "not_ready", "reasons": ["connections"] });
        assert_eq!(wait_for(&postern, "/readyz", &full).status, 503, "{runtime}");
        client.close();
        wait_for(&postern, "/readyz", &ready);

        let postern = Postern::start_with_control(runtime, &settings[1..]);
        let client = connect(&postern, "1", None);
        // Of two messages of 60,000 bytes three quarters each: together less than may be held, and more than seven eighths.
        let mut others: Vec<_> = (0..2).map(|_| connect(&postern, "2", None)).collect();
        for other in &mut others {
            let mut unfinished = vec![0x82, 0x80 | 126, 0xea, 0x60, 0, 0, 0, 0];
            unfinished.resize(8 + 45_000, 0);
            other.socket.get_mut().write_all(&unfinished).expect("it is taken");
        }
        let short = json!({ "status": "not_ready", "reasons": ["memory"] });
        assert_eq!(wait_for(&postern, "/readyz", &short).status, 503, "{runtime}");
        drop(others);
        wait_for(&postern, "/readyz", &ready);
        client.close();
    }
}

#[test]
fn info_says_what_the_process_is() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[("POSTERN_MAX_CONNECTIONS", "77")]);
        let _clients =
            [connect(&postern, "1", None), connect(&postern, "1", None), connect(&postern, "2", None)];
        let info = get(&postern, "/api/info").json();
        for (name, expected) in [
            ("program", json!(runtime.to_string())),
            ("pid", json!(postern.id())),
            ("listen", json!([postern.address().to_string()])),
            ("connections", json!(3)),
            ("max_connections", json!(77)),
            ("users", json!(2)),
            ("memory_held_bytes", json!(0)),
            ("draining", json!(false)),
        ] {
            assert_eq!(info[name], expected, "{runtime}: {name} in {info}");
        }
        let version = info["version"].as_str().expect("a version");
        assert!(version.split('.').count() == 3, "{info}");
        assert!(info["started_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{info}");
        assert!(info["workers"].as_u64() >= Some(1) && info["memory_max_bytes"].as_u64() > Some(0), "{info}");
    }
}

#[test]
fn connections_are_listed_with_what_they_have_carried() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let mut first = connect(&postern, "a@b.example", Some("s-1"));
        let mut clients = vec![connect(&postern, "2", None)];
        clients.extend((0..3).map(|_| connect(&postern, "2", None)));
        first.echo("Hello");
        first.echo(vec![1_u8, 2, 3]);

        let all = listed(&postern, "");
        assert_eq!(all.len(), 5, "{runtime}: {all:?}");
        let id = |connection: &Value| connection["connection"].as_u64().expect("a number");
        assert!(all.is_sorted_by_key(id), "{runtime}: {all:?}");
        let line = &all[0];
        let peer = first.socket.get_ref().local_addr().expect("an address").to_string();
        for (name, expected) in [
            ("user", json!("a@b.example")),
            ("session", json!("s-1")),
            ("peer", json!(peer)),
            ("closing", json!(false)),
            ("messages_received", json!(2)),
            ("messages_sent", json!(2)),
            ("bytes_received", json!(8)),
            ("bytes_sent", json!(8)),
            ("send_queue_bytes", json!(0)),
        ] {
            assert_eq!(line[name], expected, "{runtime}: {name} in {line}");
        }
        assert!(line["opened_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert!(!line.to_string().contains("email"), "{line}");

        for (query, expected) in [
            ("?user=a%40b.example", vec![id(&all[0])]),
            ("?user=a@b.example", vec![id(&all[0])]),
            ("?user=2", all[1..].iter().map(id).collect()),
            ("?user=3", vec![]),
            ("?session=s-1", vec![id(&all[0])]),
            (&format!("?connection={}", id(&all[2])), vec![id(&all[2])]),
            ("?connection=999999", vec![]),
            ("?limit=2", all[..2].iter().map(id).collect()),
            (&format!("?limit=2&after={}", id(&all[1])), all[2..4].iter().map(id).collect()),
            (&format!("?user=2&after={}", id(&all[3])), vec![id(&all[4])]),
        ] {
            let found: Vec<u64> = listed(&postern, query).iter().map(id).collect();
            assert_eq!(found, expected, "{runtime}: {query}");
        }
        let next = |query: &str| get(&postern, &format!("/api/connections{query}")).json()["next"].clone();
        assert_eq!(next("?limit=2"), json!(id(&all[1])), "{runtime}");
        assert_eq!(next("?limit=5"), Value::Null, "{runtime}");

        first.close();
        postern.wait_for("closed for user - (a@b.example)");
        assert_eq!(listed(&postern, "?session=s-1").len(), 0, "{runtime}");
    }
}

/// Whether John is connected can be found out without his id.
#[test]
fn connections_say_whose_they_are_and_until_when() {
    for runtime in Runtime::BOTH {
        // What the log leaves out, an operator is told all the same.
        let postern = Postern::start_with_control(runtime, &[("POSTERN_LOG_EMAIL", "off")]);
        let john = Handshake::to(postern.address()).as_john().subprotocols(&["postern.v1.json"]);
        let page = format!("http://{}", postern.address());
        let john = john.header("Origin", &page).header("X-Forwarded-For", "203.0.113.7");
        let _known = john.header("User-Session-ID", "s-1").header("User-Token-Exp", "4102444800").open();
        let _bare = connect(&postern, "9", None);
        let [known, bare] = &listed(&postern, "")[..] else { panic!("{:?}", listed(&postern, "")) };
        for (field, expected, without) in [
            ("user", json!("123"), json!("9")),
            ("name", json!("John Doe"), json!(null)),
            ("email", json!("john@example.com"), json!(null)),
            ("session", json!("s-1"), json!(null)),
            ("token_expires_at", json!("2100-01-01T00:00:00.000Z"), json!(null)),
            ("client", json!("203.0.113.7"), json!(null)),
            ("origin", json!(page), json!(null)),
            ("subprotocol", json!("postern.v1.json"), json!(null)),
        ] {
            assert_eq!((&known[field], &bare[field]), (&expected, &without), "{runtime}: {field}");
        }
    }
}

#[test]
fn info_says_which_settings_hold_and_nothing_secret() {
    for runtime in Runtime::BOTH {
        let settings = [
            ("POSTERN_MAX_MESSAGE", "1MiB"),
            ("POSTERN_PROXY_SECRET", "hunter2-hunter2-hunter2"),
            ("LOG_FORMAT", "json"),
        ];
        let postern = Postern::start_with_control(runtime, &settings);
        let info = get(&postern, "/api/info");
        let settings = &info.json()["settings"];
        for (name, value) in [
            ("POSTERN_MAX_MESSAGE", "1MiB"),
            ("POSTERN_MAX_FRAME", "1MiB"),
            ("POSTERN_PATH", "/ws"),
            ("POSTERN_PROXY_SECRET", "***"),
            ("POSTERN_API_KEY", "***"),
            ("LOG_FORMAT", "json"),
        ] {
            assert_eq!(settings[name], value, "{runtime}: {name}");
        }
        let printed = Postern::print_config(runtime, &[]);
        let count = printed.iter().filter(|line| line.contains('=')).count();
        assert_eq!(settings.as_object().map(serde_json::Map::len), Some(count), "{runtime}: {info}");
        assert!(!info.text().contains("hunter2") && !info.text().contains(API_KEY), "{runtime}: {info}");
    }
}

#[test]
fn a_disconnect_gives_the_client_its_code_and_reason() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let mut of_user = [connect(&postern, "1", None), connect(&postern, "1", None)];
        let mut of_session = connect(&postern, "2", Some("s-1"));
        let mut of_number = connect(&postern, "3", None);
        let mut bystander = connect(&postern, "4", Some("s-2"));
        bystander.echo("here");
        let number = listed(&postern, "?user=3")[0]["connection"].clone();

        let response = post(&postern, "/api/disconnect", &json!({ "user": "1" }));
        assert_eq!((response.status, response.json()), (200, json!({ "disconnected": 2 })), "{runtime}");
        for client in &mut of_user {
            assert_eq!(closed(client), (4403, "disconnected".to_owned()), "{runtime}");
        }
        let body = json!({ "session": "s-1", "code": 1008, "reason": "policy é" });
        assert_eq!(
            post(&postern, "/api/disconnect", &body).json(),
            json!({ "disconnected": 1 }),
            "{runtime}"
        );
        assert_eq!(closed(&mut of_session), (1008, "policy é".to_owned()), "{runtime}");
        let body = json!({ "connection": number, "code": 4999, "reason": "" });
        assert_eq!(
            post(&postern, "/api/disconnect", &body).json(),
            json!({ "disconnected": 1 }),
            "{runtime}"
        );
        assert_eq!(closed(&mut of_number), (4999, String::new()), "{runtime}");
        for body in [json!({ "user": "5" }), json!({ "session": "1" }), json!({ "connection": 999_999 })] {
            let response = post(&postern, "/api/disconnect", &body);
            assert_eq!((response.status, response.json()), (200, json!({ "disconnected": 0 })), "{runtime}");
        }
        bystander.echo("still here");
        postern.wait_for("code: 4403, side: server");
        postern.wait_for(r#"connections closed by the control port, of: user "1", code: 4403, count: 2"#);
    }
}

#[test]
fn a_message_arrives_at_those_who_are_meant() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[("POSTERN_MAX_MESSAGE", "100000")]);
        let mut of_user = [connect(&postern, "1", None), connect(&postern, "1", Some("s-1"))];
        let mut bystander = connect(&postern, "2", None);
        let response = post(&postern, "/api/send", &json!({ "user": "1", "text": "to both, é" }));
        assert_eq!((response.status, response.json()), (200, json!({ "sent": 2 })), "{runtime}");
        for client in &mut of_user {
            assert_eq!(client.receive(), Message::text("to both, é"), "{runtime}");
        }
        let body = json!({ "session": "s-1", "binary": "AAH+/w==" });
        assert_eq!(post(&postern, "/api/send", &body).json(), json!({ "sent": 1 }), "{runtime}");
        assert_eq!(of_user[1].receive(), Message::binary(vec![0, 1, 0xfe, 0xff]), "{runtime}");

        // As long as a message may be, each character escaped; one more is one too many.
        let number = listed(&postern, "?user=2")[0]["connection"].clone();
        let long = "\"".repeat(100_000);
        let body = json!({ "connection": number, "text": long });
        assert_eq!(post(&postern, "/api/send", &body).json(), json!({ "sent": 1 }), "{runtime}");
        assert_eq!(bystander.receive(), Message::text(long.clone()), "{runtime}");
        let response = post(&postern, "/api/send", &json!({ "user": "1", "text": format!("{long}x") }));
        assert_eq!(response.status, 413, "{runtime}");
        assert_eq!(response.json()["error"]["code"], "message_too_large", "{runtime}");

        let nobody = post(&postern, "/api/send", &json!({ "user": "3", "text": "hello?" }));
        assert_eq!((nobody.status, nobody.json()), (200, json!({ "sent": 0 })), "{runtime}");
        // Each went to whom it was meant for, and nothing else did.
        bystander.echo("alone");
        of_user[0].echo("alone");
    }
}

#[test]
fn who_does_not_take_what_is_sent_is_closed_with_4413_and_delays_nobody() {
    for runtime in Runtime::BOTH {
        let settings =
            [("POSTERN_MAX_BACKLOG", "64KiB"), ("POSTERN_WRITE_TIMEOUT", "0"), ("POSTERN_WORKERS", "1")];
        let postern = Postern::start_with_control(runtime, &settings);
        let mut slow = connect(&postern, "1", None);
        let mut other = connect(&postern, "2", None);
        let body = json!({ "user": "1", "text": "x".repeat(60_000) });
        // The kernels' buffers take some of it first.
        let mut sent = 0;
        while post(&postern, "/api/send", &body).json() == json!({ "sent": 1 }) {
            sent += 1;
            assert!(sent < 1_000, "{runtime}: nobody takes 60 MB");
            other.echo("quick");
        }
        assert_eq!(listed(&postern, "?user=1")[0]["closing"], true, "{runtime}");
        // It gets all that was sent before, and then why there is no more.
        for _ in 0..sent {
            let message = slow.receive();
            assert!(
                matches!(&message, Message::Text(text) if text.len() == 60_000),
                "{runtime}: {message:?}"
            );
        }
        assert_eq!(closed(&mut slow), (4413, "slow consumer".to_owned()), "{runtime}");
        while slow.socket.read().is_ok() {}
        postern.wait_for("code: 4413, side: server, reason: slow consumer");
        let metrics = get(&postern, "/metrics").text();
        assert!(metrics.contains("\npostern_slow_consumer_closes_total 1\n"), "{runtime}: {metrics}");
        other.echo("still here");
    }
}

/// A request, and what is expected of its answer: status, `error.code`, and `Allow`.
type Refused<'t> = (&'t str, &'t str, &'t [(&'t str, &'t str)], &'t str, u16, &'t str, Option<&'t str>);

#[test]
fn each_refusal_has_its_status_its_code_and_its_sentence() {
    const WRONG: (&str, &str) = ("X-API-Key", "0123456789abcdef-the-key-of-others");
    const TEXT: (&str, &str) = ("Content-Type", "text/plain");
    let refused: &[Refused<'_>] = &[
        ("GET", "/", &[], "", 404, "not_found", None),
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
        ("POST", "/api/info", &[KEY, JSON], "{}", 405, "method", Some("GET, HEAD")),
        ("GET", "/api/send", &[KEY], "", 405, "method", Some("POST")),
        ("GET", "/api/disconnect", &[KEY], "", 405, "method", Some("POST")),
        ("POST", "/api/send", &[JSON], "{}", 401, "api_key", None),
        ("POST", "/api/send", &[KEY], "{}", 415, "content_type", None),
        ("POST", "/api/send", &[KEY, TEXT], "{}", 415, "content_type", None),
        ("POST", "/api/send", &[KEY, JSON], "", 400, "json", None),
        ("POST", "/api/send", &[KEY, JSON], "{\"user\":", 400, "json", None),
        ("POST", "/api/send", &[KEY, JSON], "{}", 400, "target", None),
        ("POST", "/api/send", &[KEY, JSON], r#"{"user":"1"}"#, 400, "message", None),
        ("POST", "/api/send", &[KEY, JSON], r#"{"user":"1","binary":"?"}"#, 400, "message", None),
        ("POST", "/api/disconnect", &[KEY, JSON], r#"{"user":"1","code":1006}"#, 400, "close_code", None),
        ("POST", "/api/disconnect", &[KEY, JSON], r#"{"users":["1"]}"#, 400, "json", None),
        ("GET", "/api/connections?name=John", &[KEY], "", 400, "query", None),
        ("GET", "/api/connections?limit=0", &[KEY], "", 400, "query", None),
        ("GET", "/api/connections?user=1&session=2", &[KEY], "", 400, "query", None),
    ];
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        for (method, target, headers, body, status, code, allow) in refused {
            let response = http::request(postern.control(), method, target, headers, body.as_bytes())
                .unwrap_or_else(|failure| panic!("{runtime}: {method} {target}: {failure}"));
            let what = format!("{runtime}: {method} {target} {headers:?} {body}: {response}");
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
        assert!(!postern.log().join("\n").contains(API_KEY), "{runtime}");
    }
}

#[test]
fn the_api_is_closed_without_a_key_and_opens_to_each_of_several() {
    for runtime in Runtime::BOTH {
        // An empty value is none.
        let postern = Postern::start_with_control(runtime, &[("POSTERN_API_KEY", "")]);
        for key in [&[KEY][..], &[]] {
            let response = http::request(postern.control(), "GET", "/api/info", key, b"").expect("an answer");
            assert_eq!(response.status, 403, "{runtime}: {response}");
            assert!(response.text().contains("POSTERN_API_KEY"), "{runtime}: {response}");
        }
        assert_eq!(get(&postern, "/metrics").status, 200, "{runtime}");

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
fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let head = format!(
            "POST /api/send HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n"
        );
        let mut announced = Connection::open(postern.control()).expect("a connection");
        announced.send(format!("{head}Content-Length: 999999999\r\n\r\n").as_bytes()).expect("it is taken");
        let response = announced.response().expect("an answer");
        assert_eq!((response.status, &response.json()["error"]["code"]), (413, &json!("body_too_large")));
        assert!(announced.is_closed(), "{runtime}");

        let mut chunked = Connection::open(postern.control()).expect("a connection");
        chunked.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).expect("it is taken");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        // 64 KiB and twice the longest message: the fourth is one too many, and what comes then may meet a reset.
        for _ in 0..4 {
            let _ = chunked.send(chunk.as_bytes());
        }
        let response = chunked.response().expect("an answer");
        assert_eq!(response.status, 413, "{runtime}: {response}");
    }
}

#[test]
fn clients_that_take_their_time_disturb_nobody() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let mut client = connect(&postern, "1", None);
        // Twice as many as there may be, half of them with half a request.
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
            assert_eq!(get(&postern, "/livez").status, 200, "{runtime}");
            assert_eq!(get(&postern, "/metrics").status, 200, "{runtime}");
            client.echo("quick");
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "{runtime}: {:?}", begun.elapsed());
        // Those who say nothing are gone after five seconds.
        for mut stream in idle {
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes a time limit");
            let mut answer = Vec::new();
            // The end, or a reset of what was half said.
            let _ = stream.read_to_end(&mut answer);
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "{runtime}");
        }
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(12), "{runtime}: {waited:?}");
        client.echo("still here");
    }
}

#[test]
fn a_connection_carries_several_requests_and_a_head_has_no_body() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let mut connection = Connection::open(postern.control()).expect("a connection");
        for _ in 0..3 {
            connection.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is taken");
            assert_eq!(connection.response().expect("an answer").status, 200, "{runtime}");
        }
        let mut stream = TcpStream::connect(postern.control()).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes a time limit");
        stream
            .write_all(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"),
            "{runtime}: {answer}"
        );
    }
}

#[test]
fn a_control_port_that_is_taken_ends_the_start_with_one_line() {
    for runtime in Runtime::BOTH {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address").to_string();
        let (mut command, _folder) = command(runtime);
        command.env("POSTERN_LISTEN", "127.0.0.1:0").env("POSTERN_CONTROL", &address);
        let mut postern = Process::spawn(&runtime.to_string(), &mut command).expect("it starts");
        let status = postern.wait(Duration::from_secs(20)).expect("it ends");
        assert_eq!(status.code(), Some(1), "{runtime}");
        let lines = postern.lines();
        assert_eq!(lines.len(), 1, "{runtime}: {lines:?}");
        let expected = format!("POSTERN_CONTROL: cannot listen on {address}: address in use");
        assert!(lines[0].contains(&expected), "{runtime}: {lines:?}");
    }
}

/// Runs `healthcheck` with these arguments. Gives its exit code and its lines.
#[track_caller]
fn healthcheck(runtime: Runtime, control: &str, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let (mut command, _folder) = command(runtime);
    command.arg("healthcheck").args(arguments).env("POSTERN_CONTROL", control);
    let mut process = Process::spawn("healthcheck", &mut command).expect("it starts");
    let status = process.wait(Duration::from_secs(20)).expect("it ends");
    (status.code(), process.lines())
}

#[test]
fn a_healthcheck_is_one_line_and_0_or_1() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start_with_control(runtime, &[("POSTERN_CLOSE_TIMEOUT", "60s")]);
        let control = postern.control().to_string();
        let live = vec![r#"{"status":"live"}"#.to_owned()];
        let ready = vec![r#"{"status":"ready"}"#.to_owned()];
        assert_eq!(healthcheck(runtime, &control, &[]), (Some(0), live.clone()), "{runtime}");
        assert_eq!(healthcheck(runtime, &control, &["--ready"]), (Some(0), ready), "{runtime}");
        // Where it listens on all addresses, it is asked on this host.
        let everywhere = format!("0.0.0.0:{}", postern.control().port());
        assert_eq!(healthcheck(runtime, &everywhere, &[]), (Some(0), live.clone()), "{runtime}");
        // The flag goes before the environment.
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

/// Whoever reaches the control port by a name that is not its own is no browser of an operator: what changes something
/// needs a key and a content type that a page of another site cannot send unasked.
#[test]
fn a_page_of_another_site_can_change_nothing() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let control: SocketAddr = postern.control();
        let preflight = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
        let response = http::request(control, "OPTIONS", "/api/send", &preflight, b"").expect("an answer");
        assert_eq!(response.status, 401, "{runtime}: {response}");
        let is_cors = |name: &str| name.starts_with("access-control-");
        assert!(!response.headers.keys().any(|name| is_cors(name.as_str())), "{runtime}: {response}");
    }
}
