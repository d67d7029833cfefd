//! Commands of clients about which a backend decides, on both binaries.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::backend::{Answer, Backend, Received};
use postern_tests::channels::Client;
use postern_tests::documents::document;
use postern_tests::ports;
use postern_tests::postern::{Launch, Postern, Runtime};
use postern_tests::process::{Process, wait_until_listening};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const NAMESPACES: &str = r#"
[without_namespace]
rpc_hook = true

[namespaces.auction]
subscribe_hook = true
publish_hook = true
presence = true
allow_presence_for_subscriber = true

[namespaces.open]
allow_subscribe_for_client = true
allow_publish_for_client = true
"#;

fn with<'s>(runtime: Runtime, url: &'s str, timeout: &'s str) -> Launch<'s> {
    let settings = [
        ("POSTERN_HOOK_URL", url),
        ("POSTERN_HOOK_SECRET", SECRET),
        ("POSTERN_HOOK_TIMEOUT", timeout),
        ("POSTERN_PERSONAL_CHANNEL", "off"),
    ];
    Postern::with(runtime, &settings).channels(NAMESPACES).control()
}

/// Returns the requests for decisions.
fn decisions(received: &[Received]) -> Vec<&Received> {
    let is_decision = |request: &&Received| {
        request.body["type"].as_str().is_some_and(|kind| kind.starts_with("postern.hook."))
    };
    received.iter().filter(is_decision).collect()
}

/// Returns a metric of decisions.
fn outcome(postern: &Postern, hook: &str, outcome: &str) -> f64 {
    let sample = format!(r#"postern_hook_decisions_total{{hook="{hook}",outcome="{outcome}"}}"#);
    postern.metric(&sample).expect("the metric")
}

/// A backend that sells to the user 123 in the auction 42, and knows one procedure.
fn decide(request: &Received) -> Option<Answer> {
    let data = &request.body["data"];
    let answer = match request.body["type"].as_str()? {
        "postern.hook.subscribe" if data["channel"] == "auction:42" => {
            json!({ "result": { "info": { "role": "seller" }, "data": { "highest": 10, "asked": data["data"] } } })
        }
        "postern.hook.publish" if data["user"] == "123" => {
            json!({ "result": { "data": { "bid": data["data"]["bid"], "by": data["name"] } } })
        }
        "postern.hook.rpc" if data["method"] == "time" => json!({ "result": { "data": data["data"] } }),
        "postern.hook.rpc" => json!({ "error": { "code": 404, "message": "no such procedure" } }),
        kind if kind.starts_with("postern.hook.") => json!({ "error": {} }),
        _ => return Some(Answer::Status(204)),
    };
    Some(Answer::Json(answer.to_string()))
}

#[test]
fn a_backend_decides_about_subscriptions_publications_and_procedures() {
    for runtime in Runtime::BOTH {
        let backend = Backend::with(decide, Answer::Status(500));
        let postern = with(runtime, &backend.url(), "5s").start();
        let mut john = Client::connect(&postern, "123", "John Doe");
        let result = john.subscribe_with(json!({ "channel": "auction:42", "data": [1] }));
        assert_eq!(result["data"], json!({ "highest": 10, "asked": [1] }), "{runtime}");
        let reply = john.call(json!({ "id": 4, "presence": { "channel": "auction:42" } }));
        let presence = reply["presence"]["presence"].as_object().expect("clients");
        let info = presence.values().next().expect("a client");
        assert_eq!(info["chan_info"], json!({ "role": "seller" }), "{runtime}: {reply}");
        let refused = json!({ "code": 103, "message": "permission denied" });
        let reply = john.call(json!({ "id": 5, "subscribe": { "channel": "auction:43" } }));
        assert_eq!(reply, json!({ "id": 5, "error": refused }), "{runtime}");

        let publications = john.publish("auction:42", json!({ "bid": 12 }));
        assert_eq!(publications[0]["data"], json!({ "bid": 12, "by": "John Doe" }), "{runtime}");
        postern.wait_for(r#"Message from John Doe (123) in auction:42: {"bid":12,"by":"John Doe"}"#);
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let reply =
            jane.call(json!({ "id": 6, "publish": { "channel": "auction:42", "data": { "bid": 13 } } }));
        assert_eq!(reply, json!({ "id": 6, "error": refused }), "{runtime}");

        let reply = jane.call(json!({ "id": 7, "rpc": { "method": "time", "data": { "zone": "UTC" } } }));
        assert_eq!(reply, json!({ "id": 7, "rpc": { "data": { "zone": "UTC" } } }), "{runtime}");
        let reply = jane.call(json!({ "id": 8, "rpc": { "method": "data", "data": 1 } }));
        let error = json!({ "code": 404, "message": "no such procedure" });
        assert_eq!(reply, json!({ "id": 8, "error": error }), "{runtime}");

        let received = backend.received();
        let first = decisions(&received)[0];
        assert!(first.head.contains("webhook-signature: v1,"), "{}", first.head);
        assert!(first.head.contains("application/cloudevents+json"), "{}", first.head);
        let event = &first.body;
        assert_eq!((&event["specversion"], &event["subject"]), (&json!("1.0"), &json!("auction:42")));
        let data = &event["data"];
        assert_eq!((&data["user"], &data["name"]), (&json!("123"), &json!("John Doe")));
        assert_eq!((&data["encoding"], &data["data"]), (&json!("json"), &json!([1])));
        assert!(presence.contains_key(data["client_id"].as_str().expect("an id")), "{event}");
        for (hook, allowed, refused) in [("subscribe", 1.0, 1.0), ("publish", 1.0, 1.0), ("rpc", 1.0, 1.0)] {
            let found = (outcome(&postern, hook, "allowed"), outcome(&postern, hook, "refused"));
            assert_eq!(found, (allowed, refused), "{runtime}: {hook}");
        }
        assert_eq!(postern.metric("postern_hook_decisions_in_flight"), Some(0.0));
        assert_eq!(postern.metric("postern_hook_decision_seconds_count"), Some(6.0));
    }
}

#[test]
fn backend_of_the_documentation_decides() {
    let document = document("docs/channels.md");
    let expected: Vec<&str> = document.block("the bid is too low\"}}").text.trim_end().lines().collect();
    let namespaces = document.block("subscribe_hook = true").text.clone();
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = ports::free();
        let code = document.block("class Hooks").text.replace("3000", &address.port().to_string());
        let script = folder.path().join("hooks.py");
        fs::write(&script, code).expect("the script is written");
        let mut command = Command::new("python3");
        command.arg(&script).env("POSTERN_HOOK_SECRET", SECRET);
        let _python = Process::spawn("python", &mut command).expect("Python starts");
        wait_until_listening(address, Duration::from_secs(20)).expect("it listens");
        let url = format!("http://{address}/");
        let postern = with(runtime, &url, "10s").channels(&namespaces).start();
        let mut client = Client::connect(&postern, "123", "John Doe");
        client.send(&[
            json!({ "id": 2, "subscribe": { "channel": "sale:42" } }),
            json!({ "id": 3, "publish": { "channel": "sale:42", "data": { "bid": 90 } } }),
            json!({ "id": 4, "publish": { "channel": "sale:42", "data": { "bid": 120 } } }),
        ]);
        let mut received: Vec<Value> = (0..4).map(|_| client.next()).collect();
        received.push(
            client.call(json!({ "id": 5, "rpc": { "method": "sale:highest", "data": { "sale": "42" } } })),
        );
        if let Some(publication) = received[2]["push"]["pub"].as_object_mut() {
            publication.remove("info");
        }
        let lines: Vec<Value> =
            expected.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(received, lines, "{runtime}");
    }
}

#[test]
fn a_backend_without_a_usable_answer_leads_to_a_temporary_error() {
    for runtime in Runtime::BOTH {
        let backend = Backend::start(Answer::Status(204));
        let postern = with(runtime, &backend.url(), "300ms").start();
        let mut client = Client::connect(&postern, "123", "John Doe");
        let elsewhere = "HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        for (answer, is_timeout) in [
            (Answer::Status(204), false),
            (Answer::Status(200), false),
            (Answer::Status(403), false),
            (Answer::Status(500), false),
            (Answer::Bytes("junk\r\n\r\n"), false),
            (Answer::Bytes(""), false),
            (Answer::Bytes(elsewhere), false),
            (Answer::Json("{}".to_owned()), false),
            (Answer::Json(r#"{"result":{"info":1}} "#.replace('1', "secret")), false),
            (Answer::Endless, false),
            (Answer::Hang, true),
            (Answer::Late(Duration::from_millis(600), r#"{"result":{}}"#.to_owned()), true),
        ] {
            backend.answer(answer.clone());
            let failed = outcome(&postern, "subscribe", "failed");
            let timeout = outcome(&postern, "subscribe", "timeout");
            let reply = client.call(json!({ "id": 2, "subscribe": { "channel": "auction:42" } }));
            assert_eq!(
                reply["error"],
                json!({ "code": 100, "message": "internal server error", "temporary": true }),
                "{runtime}: {answer:?}"
            );
            let more = if is_timeout { (0.0, 1.0) } else { (1.0, 0.0) };
            let now = (
                outcome(&postern, "subscribe", "failed") - failed,
                outcome(&postern, "subscribe", "timeout") - timeout,
            );
            assert_eq!(now, more, "{runtime}: {answer:?}");
        }
        postern.wait_for("the backend has not decided about a command, and the client gets error 100");
        backend.answer(Answer::Json(r#"{"result":{}}"#.to_owned()));
        assert_eq!(client.subscribe("auction:42"), json!({}), "{runtime}");
        postern.wait_for("the backend decides about commands again");
        assert!(!postern.log().iter().any(|line| line.contains("secret") || line.contains("whsec_")));
    }
}

#[test]
fn a_slow_backend_does_not_affect_other_channels() {
    const CLIENTS: usize = 1_000;
    for runtime in Runtime::BOTH {
        let late = Answer::Late(Duration::from_millis(100), r#"{"result":{}}"#.to_owned());
        let backend = Backend::start(late);
        let postern = with(runtime, &backend.url(), "30s").start();
        let clients: Vec<_> =
            (0..CLIENTS).map(|id| Client::connect(&postern, &id.to_string(), "A")).collect();
        let mut other = Client::connect(&postern, "other", "B");
        other.subscribe("open:1");
        let start = Instant::now();
        let mut clients: Vec<Client> = clients;
        for client in &mut clients {
            client.send(&[json!({ "id": 2, "subscribe": { "channel": "auction:42" } })]);
        }
        let mut slowest = Duration::ZERO;
        while decisions(&backend.received()).len() < CLIENTS {
            let sent = Instant::now();
            assert_eq!(other.publish("open:1", json!(1)).len(), 1, "{runtime}");
            slowest = slowest.max(sent.elapsed());
            thread::sleep(Duration::from_millis(10));
        }
        for client in &mut clients {
            assert_eq!(client.next(), json!({ "id": 2, "subscribe": {} }), "{runtime}");
        }
        // 64 at a time.
        assert!(start.elapsed() > Duration::from_millis(100 * (CLIENTS as u64 / 64)), "{runtime}");
        assert!(slowest < Duration::from_secs(1), "{runtime}: {slowest:?}");
        assert_eq!(outcome(&postern, "subscribe", "allowed"), CLIENTS as f64, "{runtime}");
    }
}

#[test]
fn a_client_that_leaves_and_a_process_that_ends_do_not_wait_for_the_backend() {
    for runtime in Runtime::BOTH {
        let backend = Backend::start(Answer::Hang);
        let mut postern = with(runtime, &backend.url(), "30s").start();
        let mut client = Client::connect(&postern, "123", "John Doe");
        client.send(&[json!({ "id": 2, "subscribe": { "channel": "auction:42" } })]);
        backend.wait_for(|received| decisions(received).len() == 1);
        drop(client);
        let start = Instant::now();
        while postern.metric("postern_connections") != Some(0.0) {
            assert!(start.elapsed() < Duration::from_secs(10), "{runtime}");
            thread::sleep(Duration::from_millis(10));
        }
        let mut client = Client::connect(&postern, "123", "John Doe");
        client.send(&[json!({ "id": 2, "subscribe": { "channel": "auction:42" } })]);
        backend.wait_for(|received| decisions(received).len() == 2);
        assert!(postern.terminate().success(), "{runtime}");
        assert!(start.elapsed() < Duration::from_secs(20), "{runtime}");
    }
}

#[test]
fn the_secret_of_a_file_is_replaced_at_sighup() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("secret");
        fs::write(&file, SECRET).expect("the file is written");
        let backend = Backend::start(Answer::Json(r#"{"result":{}}"#.to_owned()));
        let (url, path) = (backend.url(), file.to_str().expect("UTF-8"));
        let settings = [("POSTERN_HOOK_URL", url.as_str()), ("POSTERN_HOOK_SECRET_FILE", path)];
        let postern = Postern::with(runtime, &settings).channels(NAMESPACES).start();
        let mut client = Client::connect(&postern, "123", "John Doe");
        let mut signatures = || {
            client.call(json!({ "id": 2, "rpc": {} }));
            let received = backend.received();
            let last = *decisions(&received).last().expect("a request");
            last.head.matches("v1,").count()
        };
        assert_eq!(signatures(), 1, "{runtime}");
        fs::write(&file, format!("{SECRET},whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS0")).expect("it is written");
        let process = rustix::process::Pid::from_raw(postern.id().try_into().expect("an id")).expect("an id");
        rustix::process::kill_process(process, rustix::process::Signal::HUP).expect("a signal");
        postern.wait_for("keys and secrets are read again");
        assert_eq!(signatures(), 2, "{runtime}");
    }
}

#[test]
fn a_namespace_with_a_hook_needs_a_backend() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("channels.toml");
    fs::write(&file, "[namespaces.auction]\nsubscribe_hook = true\n").expect("the file is written");
    let file = file.to_str().expect("a path in UTF-8");
    for runtime in Runtime::BOTH {
        let (status, lines) = Postern::refuse(runtime, &[("POSTERN_CHANNELS_FILE", file)]);
        assert_eq!(status.code(), Some(2), "{runtime}: {lines:?}");
        let expected = "namespaces.auction: subscribe_hook asks the backend of POSTERN_HOOK_URL, which is not set; \
                        set it, or leave out subscribe_hook";
        assert!(lines.concat().contains(expected), "{runtime}: {lines:?}");
    }
}
