//! Events for a backend, from both binaries.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::backend::{Answer, Backend, Received};
use postern_tests::channels::Client;
use postern_tests::documents::document;
use postern_tests::ports;
use postern_tests::postern::{Launch, Postern, Runtime};
use postern_tests::process::{Process, Stream, wait_until_listening};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CHANNELS: &str = "[namespaces.auction]\nallow_subscribe_for_client = true\n";
const PATIENCE: Duration = Duration::from_secs(20);

fn with<'s>(runtime: Runtime, url: &'s str) -> Launch<'s> {
    let settings = [
        ("POSTERN_HOOK_URL", url),
        ("POSTERN_HOOK_SECRET", SECRET),
        ("POSTERN_PERSONAL_CHANNEL", "off"),
        ("POSTERN_DRAIN_GRACE", "0"),
        ("POSTERN_DRAIN_SPREAD", "0"),
    ];
    Postern::with(runtime, &settings).channels(CHANNELS).control()
}

/// Waits until a metric has this value.
#[track_caller]
fn wait_for_metric(postern: &Postern, sample: &str, value: f64) {
    let start = Instant::now();
    while postern.metric(sample) != Some(value) {
        assert!(start.elapsed() < PATIENCE, "{sample} is {:?}", postern.metric(sample));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the events of requests.
fn events(received: &[Received]) -> Vec<Value> {
    let of_body = |body: &Value| body.as_array().cloned().unwrap_or_else(|| vec![body.clone()]);
    received.iter().flat_map(|request| of_body(&request.body)).collect()
}

fn types(received: &[Received]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    events(received).iter().map(|event| (text(&event["type"]), text(&event["subject"]))).collect()
}

#[test]
fn connections_of_echo_are_reported_with_the_user_and_the_end() {
    for runtime in Runtime::BOTH {
        let backend = Backend::start(Answer::Status(204));
        let postern = with(runtime, &backend.url()).start();
        let mut client = postern.john().open();
        client.echo("Hello");
        client.close();
        let received = backend.wait_for(|received| events(received).len() == 2);
        let events = events(&received);
        let (opened, closed) = (&events[0], &events[1]);
        assert_eq!(opened["type"], "postern.client.connected", "{runtime}");
        assert_eq!((&opened["specversion"], &opened["subject"]), (&json!("1.0"), &json!("123")));
        assert_eq!(opened["data"]["name"], "John Doe");
        assert_eq!(opened["data"]["email"], "john@example.com");
        assert_eq!(closed["type"], "postern.client.disconnected", "{runtime}");
        assert_eq!(closed["source"], opened["source"]);
        assert_eq!(closed["data"]["connection"], opened["data"]["connection"]);
        assert_eq!((&closed["data"]["code"], &closed["data"]["initiator"]), (&json!(1000), &json!("client")));
        assert!(closed["data"]["duration_ms"].is_u64());
        for request in &received {
            assert!(request.head.starts_with("POST /hooks HTTP/1.1\r\n"), "{}", request.head);
        }
        wait_for_metric(&postern, r#"postern_hook_events_total{outcome="delivered"}"#, 2.0);
    }
}

#[test]
fn backend_of_the_documentation_verifies_signatures_and_prints_events_of_channels() {
    let channels = document("docs/channels.md");
    let expected: Vec<&str> =
        channels.block("postern.channel.vacated auction:42").text.trim_end().lines().collect();
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = ports::free();
        let code = channels.block("class Hooks").text.replace("3000", &address.port().to_string());
        let script = folder.path().join("hooks.py");
        fs::write(&script, code).expect("the script is written");
        for (secret, accepted) in [(SECRET, true), ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS0", false)] {
            let mut command = Command::new("python3");
            command.arg(&script).env("POSTERN_HOOK_SECRET", secret);
            let mut python = Process::spawn("python", &mut command).expect("Python starts");
            wait_until_listening(address, PATIENCE).expect("it listens");
            let url = format!("http://{address}/");
            let mut postern = with(runtime, &url).start();
            let mut client = Client::connect(&postern, "123", "John Doe");
            client.subscribe("auction:42");
            drop(client);
            if accepted {
                let start = Instant::now();
                while python.lines_of(Stream::Out).len() < expected.len() {
                    assert!(start.elapsed() < PATIENCE, "{:?}", python.lines());
                    thread::sleep(Duration::from_millis(10));
                }
                let mut lines = python.lines_of(Stream::Out);
                // The last two are not ordered.
                lines[2..].sort();
                let mut expected = expected.clone();
                expected[2..].sort_unstable();
                assert_eq!(lines, expected, "{runtime}");
            } else {
                postern.wait_for("the answer has the status 401");
                assert_eq!(python.lines_of(Stream::Out), [""; 0]);
                postern.terminate();
            }
            python.kill();
        }
    }
}

#[test]
fn events_wait_for_a_backend_that_fails_and_arrive_in_their_order() {
    for runtime in Runtime::BOTH {
        for answer in [
            Answer::Status(503),
            Answer::Status(404),
            Answer::Bytes("junk\r\n\r\n"),
            Answer::Bytes("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
        ] {
            let backend = Backend::start(answer.clone());
            let postern = with(runtime, &backend.url()).start();
            let john = postern.handshake().header("User-ID", "1").open();
            let failed = backend.wait_for(|received| !received.is_empty());
            let jane = postern.handshake().header("User-ID", "2").open();
            john.close();
            jane.close();
            backend.answer(Answer::Status(200));
            // The first request is repeated until it succeeds.
            let accepted = |received: &[Received]| {
                let last = received.iter().rposition(|request| request.body == failed[0].body);
                types(&received[last.expect("the first request")..])
            };
            let received = backend.wait_for(|received| accepted(received).len() >= 4);
            let [opened, closed] = ["postern.client.connected", "postern.client.disconnected"];
            let expected = [(opened, "1"), (opened, "2"), (closed, "1"), (closed, "2")];
            let expected = expected.map(|(kind, user)| (kind.to_owned(), user.to_owned()));
            let mut found = accepted(&received);
            // The workers are two.
            found[2..].sort();
            assert_eq!(found, expected, "{runtime}: {answer:?}");
            postern.wait_for("cannot send events to the backend; trying again");
            postern.wait_for("events can be sent again");
        }
    }
}

#[test]
fn backend_that_hangs_affects_neither_clients_nor_the_end_of_the_process() {
    for runtime in Runtime::BOTH {
        let backend = Backend::start(Answer::Hang);
        let mut postern = with(runtime, &backend.url()).start();
        for _ in 0..20 {
            let mut client = postern.john().open();
            client.echo("Hello");
            client.close();
        }
        let mut client = Client::connect(&postern, "123", "John Doe");
        client.subscribe("auction:42");
        wait_for_metric(&postern, "postern_hook_queued_events", 42.0);
        drop(client);
        let start = Instant::now();
        assert!(postern.terminate().success(), "{runtime}");
        assert!(start.elapsed() < PATIENCE, "{runtime}");
        postern.wait_for("events for the backend are lost, because the process ends");
    }
}

#[test]
fn events_of_the_drain_arrive_before_the_process_ends() {
    for runtime in Runtime::BOTH {
        let backend = Backend::start(Answer::Status(200));
        let mut postern = with(runtime, &backend.url()).start();
        let clients: Vec<_> = (0..10).map(|_| postern.john().open()).collect();
        let ends: Vec<_> =
            clients.into_iter().map(|mut client| thread::spawn(move || client.close_code())).collect();
        assert!(postern.terminate().success());
        let received = backend.received();
        let closed =
            events(&received).into_iter().filter(|event| event["type"] == "postern.client.disconnected");
        let closed: Vec<_> = closed.collect();
        assert_eq!(closed.len(), 10, "{runtime}");
        for event in closed {
            assert_eq!(
                (&event["data"]["code"], &event["data"]["initiator"]),
                (&json!(1012), &json!("server"))
            );
        }
        for end in ends {
            assert_eq!(end.join().expect("a Close"), 1012, "{runtime}");
        }
    }
}

#[test]
fn settings_that_cannot_be_used_end_the_start() {
    for runtime in Runtime::BOTH {
        let url = ("POSTERN_HOOK_URL", "http://127.0.0.1:3000/");
        for (settings, expected) in [
            (vec![url], "set POSTERN_HOOK_SECRET"),
            (vec![url, ("POSTERN_HOOK_SECRET", "short")], "shorter than 24 bytes"),
            (
                vec![("POSTERN_HOOK_URL", "127.0.0.1:3000"), ("POSTERN_HOOK_SECRET", SECRET)],
                "not an http or https URL",
            ),
        ] {
            let (status, lines) = Postern::refuse(runtime, &settings);
            assert_eq!(status.code(), Some(2), "{runtime}: {lines:?}");
            assert!(
                lines.concat().contains(expected) && !lines.concat().contains("short,"),
                "{runtime}: {lines:?}"
            );
        }
    }
}
