//! Probes, queries, and the operations on connections.

use crate::{connect, listed, wait_for};
use postern_tests::frames::{BINARY, client as client_frame};
use postern_tests::postern::{API_KEY, Postern, Runtime};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;
use tungstenite::Message;

#[test]
fn probes_report_liveness_and_readiness() {
    for mut postern in Postern::both_with_control(&[("POSTERN_CLOSE_TIMEOUT", "60s")]) {
        let live = json!({ "status": "live" });
        let ready = json!({ "status": "ready" });
        for (path, expected) in [("/livez", &live), ("/readyz", &ready)] {
            // Without a key: probes have none.
            let response = postern.get(path);
            assert_eq!((response.status, &response.json()), (200, expected));
            assert_eq!(response.header("content-type"), "application/json");
            assert_eq!(response.header("cache-control"), "no-store");
        }
        let _deaf = connect(&postern, "1", None);
        postern.process.signal(Signal::TERM).expect("a signal");
        let draining = json!({ "status": "not_ready", "reasons": ["draining"] });
        assert_eq!(wait_for(&postern, "/readyz", &draining).status, 503);
        assert_eq!((postern.get("/livez").status, postern.get("/livez").json()), (200, live));
        assert_eq!(postern.get("/api/info").json()["draining"], true);
    }
}

#[test]
fn full_process_is_not_ready() {
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
        // Three quarters of two messages of 60,000 bytes: less than the limit, and more than seven eighths of it.
        let mut others: Vec<_> = (0..2).map(|_| connect(&postern, "2", None)).collect();
        for other in &mut others {
            let unfinished = &client_frame(BINARY, &[0; 60_000])[..45_008];
            other.socket.get_mut().write_all(unfinished).expect("it is taken");
        }
        let short = json!({ "status": "not_ready", "reasons": ["memory"] });
        assert_eq!(wait_for(&postern, "/readyz", &short).status, 503, "{runtime}");
        drop(others);
        wait_for(&postern, "/readyz", &ready);
        client.close();
    }
}

#[test]
fn info_describes_the_process() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[("POSTERN_MAX_CONNECTIONS", "77")]);
        let _clients =
            [connect(&postern, "1", None), connect(&postern, "1", None), connect(&postern, "2", None)];
        let info = postern.get("/api/info").json();
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
fn connections_are_listed_with_their_traffic() {
    for postern in Postern::both_with_control(&[]) {
        let mut first = connect(&postern, "a@b.example", Some("s-1"));
        let mut clients = vec![connect(&postern, "2", None)];
        clients.extend((0..3).map(|_| connect(&postern, "2", None)));
        first.echo("Hello");
        first.echo(vec![1_u8, 2, 3]);

        let all = listed(&postern, &json!({}));
        assert_eq!(all.len(), 5, "{all:?}");
        let id = |connection: &Value| connection["connection"].as_u64().expect("a number");
        assert!(all.is_sorted_by_key(id), "{all:?}");
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
            assert_eq!(line[name], expected, "{name} in {line}");
        }
        assert!(line["opened_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert!(!line.to_string().contains("email"), "{line}");

        for (params, expected) in [
            (json!({ "user": "a@b.example" }), vec![id(&all[0])]),
            (json!({ "user": "2" }), all[1..].iter().map(id).collect()),
            (json!({ "user": "3" }), vec![]),
            (json!({ "session": "s-1" }), vec![id(&all[0])]),
            (json!({ "connection": id(&all[2]) }), vec![id(&all[2])]),
            (json!({ "connection": 999_999 }), vec![]),
            (json!({ "limit": 2 }), all[..2].iter().map(id).collect()),
            (json!({ "limit": 2, "after": id(&all[1]) }), all[2..4].iter().map(id).collect()),
            (json!({ "user": "2", "after": id(&all[3]) }), vec![id(&all[4])]),
        ] {
            let found: Vec<u64> = listed(&postern, &params).iter().map(id).collect();
            assert_eq!(found, expected, "{params}");
        }
        let next = |limit: u64| {
            postern.post("/api/connections", &json!({ "limit": limit })).json()["result"]["next"].clone()
        };
        assert_eq!(next(2), json!(id(&all[1])));
        assert_eq!(next(5), Value::Null);

        first.close();
        postern.wait_for("closed for user - (a@b.example)");
        assert_eq!(listed(&postern, &json!({ "session": "s-1" })).len(), 0);
    }
}

#[test]
fn connections_have_user_session_and_expiry() {
    for runtime in Runtime::BOTH {
        // The setting affects the log only.
        let postern = Postern::start_with_control(runtime, &[("POSTERN_LOG_EMAIL", "off")]);
        let john = postern.john().subprotocols(&["postern.v1.json"]);
        let page = format!("http://{}", postern.address());
        let john = john.header("Origin", &page).header("X-Forwarded-For", "203.0.113.7");
        let _known = john.header("User-Session-ID", "s-1").header("User-Token-Exp", "4102444800").open();
        let _bare = connect(&postern, "9", None);
        let [known, bare] = &listed(&postern, &json!({}))[..] else {
            panic!("{:?}", listed(&postern, &json!({})))
        };
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
fn info_has_the_settings_without_secrets() {
    for runtime in Runtime::BOTH {
        let settings = [
            ("POSTERN_MAX_MESSAGE", "1MiB"),
            ("POSTERN_PROXY_SECRET", "hunter2-hunter2-hunter2"),
            ("LOG_FORMAT", "json"),
        ];
        let postern = Postern::start_with_control(runtime, &settings);
        let info = postern.get("/api/info");
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
fn disconnect_closes_with_its_code_and_reason() {
    for postern in Postern::both_with_control(&[]) {
        let mut of_user = [connect(&postern, "1", None), connect(&postern, "1", None)];
        let mut of_session = connect(&postern, "2", Some("s-1"));
        let mut of_number = connect(&postern, "3", None);
        let mut bystander = connect(&postern, "4", Some("s-2"));
        bystander.echo("here");
        let number = listed(&postern, &json!({ "user": "3" }))[0]["connection"].clone();

        let disconnected = |body: &Value, count: u32| {
            let response = postern.post("/api/disconnect", body);
            let result = json!({ "result": { "disconnected": count } });
            assert_eq!((response.status, response.json()), (200, result), "{body}");
        };
        disconnected(&json!({ "user": "1" }), 2);
        for client in &mut of_user {
            assert_eq!(client.closed(), (4403, "disconnected".to_owned()));
        }
        disconnected(&json!({ "session": "s-1", "disconnect": { "code": 1008, "reason": "policy é" } }), 1);
        assert_eq!(of_session.closed(), (1008, "policy é".to_owned()));
        disconnected(&json!({ "connection": number, "user": "2" }), 0);
        disconnected(&json!({ "connection": number, "disconnect": { "code": 4999 } }), 1);
        assert_eq!(of_number.closed(), (4999, "disconnected".to_owned()));
        for body in [json!({ "user": "5" }), json!({ "session": "1" }), json!({ "connection": 999_999 })] {
            disconnected(&body, 0);
        }
        bystander.echo("still here");
        postern.wait_for("code: 4403, side: server, reason: disconnected");
        postern.wait_for("code: 1008, side: server, reason: policy é");
        postern.wait_for(r#"connections closed by the control port, of: user "1", code: 0, count: 2"#);
    }
}

#[test]
fn message_is_sent_to_the_selected_connections() {
    for postern in Postern::both_with_control(&[("POSTERN_MAX_MESSAGE", "100000")]) {
        let mut of_user = [connect(&postern, "1", None), connect(&postern, "1", Some("s-1"))];
        let mut bystander = connect(&postern, "2", None);
        let response = postern.post("/api/send", &json!({ "user": "1", "text": "to both, é" }));
        assert_eq!((response.status, response.json()), (200, json!({ "result": { "sent": 2 } })));
        for client in &mut of_user {
            assert_eq!(client.receive(), Message::text("to both, é"));
        }
        let body = json!({ "session": "s-1", "binary": "AAH+/w==" });
        assert_eq!(postern.post("/api/send", &body).json(), json!({ "result": { "sent": 1 } }));
        assert_eq!(of_user[1].receive(), Message::binary(vec![0, 1, 0xfe, 0xff]));

        // As long as a message may be, each character escaped; one more is one too many.
        let number = listed(&postern, &json!({ "user": "2" }))[0]["connection"].clone();
        let long = "\"".repeat(100_000);
        let body = json!({ "connection": number, "text": long });
        assert_eq!(postern.post("/api/send", &body).json(), json!({ "result": { "sent": 1 } }));
        assert_eq!(bystander.receive(), Message::text(long.clone()));
        let response = postern.post("/api/send", &json!({ "user": "1", "text": format!("{long}x") }));
        let message = "bad request: a message has at most 100000 bytes (POSTERN_MAX_MESSAGE)";
        let error = json!({ "error": { "code": 107, "message": message } });
        assert_eq!((response.status, response.json()), (200, error));

        let missing = postern.post("/api/send", &json!({ "user": "3", "text": "hello?" }));
        assert_eq!((missing.status, missing.json()), (200, json!({ "result": { "sent": 0 } })));
        // Each message was received by its recipients only.
        bystander.echo("alone");
        of_user[0].echo("alone");
    }
}

#[test]
fn message_to_all_is_sent_to_every_open_connection() {
    for postern in Postern::both_with_control(&[("LOG_LEVEL", "debug")]) {
        let everyone = json!({ "all": true, "text": "to all, é" });
        assert_eq!(postern.post("/api/send", &everyone).json(), json!({ "result": { "sent": 0 } }));
        let users = [("1", None), ("1", Some("s-1")), ("2", None), ("3", None)];
        let mut clients = users.map(|(user, session)| connect(&postern, user, session));
        let mut closing = connect(&postern, "4", None);
        postern.post("/api/disconnect", &json!({ "user": "4" }));
        let response = postern.post("/api/send", &everyone);
        assert_eq!((response.status, response.json()), (200, json!({ "result": { "sent": 4 } })));
        for client in &mut clients {
            assert_eq!(client.receive(), Message::text("to all, é"));
        }
        assert_eq!(closing.closed(), (4403, "disconnected".to_owned()));
        postern.wait_for("message sent by the control port, to: all connections, bytes: 10, count: 4");
        // No target, or `all` with another one, does not select all connections.
        for target in [json!({}), json!({ "all": false }), json!({ "all": true, "user": "1" })] {
            let mut body = json!({ "text": "unwanted" });
            body.as_object_mut().expect("an object").extend(target.as_object().expect("an object").clone());
            let refused = postern.post("/api/send", &body);
            assert_eq!((refused.status, &refused.json()["error"]["code"]), (200, &json!(107)), "{body}");
        }
        clients.iter_mut().for_each(|client| client.echo("nothing else"));
    }
}

#[test]
fn batch_is_performed_in_its_order() {
    for postern in Postern::both_with_control(&[]) {
        let mut first = connect(&postern, "1", None);
        let mut second = connect(&postern, "2", None);
        let text = |text: &str| json!({ "send": { "all": true, "text": text } });
        let commands = json!({ "commands": [
            text("one"),
            { "send": { "user": "2", "binary": "Ag==" } },
            text("three"),
            { "disconnect": { "user": "1", "disconnect": { "code": 4401 } } },
            text("five"),
            { "disconnect": { "user": "3" } },
        ] });
        let response = postern.post("/api/batch", &commands);
        let replies = json!([
            { "send": { "sent": 2 } },
            { "send": { "sent": 1 } },
            { "send": { "sent": 2 } },
            { "disconnect": { "disconnected": 1 } },
            { "send": { "sent": 1 } },
            { "disconnect": { "disconnected": 0 } },
        ]);
        assert_eq!((response.status, response.json()), (200, json!({ "replies": replies })));
        for message in ["one", "three"] {
            assert_eq!(first.receive(), Message::text(message));
        }
        assert_eq!(first.closed().0, 4401);
        for message in [Message::text("one"), Message::binary(vec![2]), "three".into(), "five".into()] {
            assert_eq!(second.receive(), message);
        }
        // An invalid command does not prevent the others.
        let commands = json!({ "commands": [{ "send": { "text": "a" } }, { "nothing": {} }, text("six")] });
        let replies = postern.post("/api/batch", &commands).json()["replies"].clone();
        assert_eq!((&replies[0]["error"]["code"], &replies[1]["error"]["code"]), (&json!(107), &json!(107)));
        assert_eq!(replies[2], json!({ "send": { "sent": 1 } }));
        assert_eq!(second.receive(), Message::text("six"));
        assert_eq!(postern.post("/api/batch", &json!({ "commands": [] })).json(), json!({ "replies": [] }));
        second.echo("nothing else");
        let delivered = r#"postern_api_sends_total{outcome="delivered"}"#;
        assert_eq!(postern.metric(delivered), Some(5.0));
    }
}

#[test]
fn slow_recipient_is_closed_with_4413_and_does_not_delay_others() {
    let settings =
        [("POSTERN_MAX_BACKLOG", "64KiB"), ("POSTERN_WRITE_TIMEOUT", "0"), ("POSTERN_WORKERS", "1")];
    for postern in Postern::both_with_control(&settings) {
        let mut slow = connect(&postern, "1", None);
        let mut other = connect(&postern, "2", None);
        let body = json!({ "user": "1", "text": "x".repeat(60_000) });
        // The kernels' buffers take some of it first.
        let mut sent = 0;
        while postern.post("/api/send", &body).json() == json!({ "result": { "sent": 1 } }) {
            sent += 1;
            assert!(sent < 1_000, "sockets take 60 MB");
            other.echo("quick");
        }
        assert_eq!(listed(&postern, &json!({ "user": "1" }))[0]["closing"], true);
        // It receives all messages before the Close.
        for _ in 0..sent {
            let message = slow.receive();
            assert!(matches!(&message, Message::Text(text) if text.len() == 60_000), "{message:?}");
        }
        assert_eq!(slow.closed(), (4413, "slow consumer".to_owned()));
        postern.wait_for("code: 4413, side: server, reason: slow consumer");
        assert_eq!(postern.metric("postern_slow_consumer_closes_total"), Some(1.0));
        other.echo("still here");
    }
}
