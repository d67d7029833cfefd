//! The server API over real sockets, on both binaries: its effects on clients, and its answers.

use std::fs;

use postern_tests::channels::Client;
use postern_tests::http;
use postern_tests::postern::{API_KEY, Postern, Runtime};
use serde_json::{Value, json};

const NAMESPACES: &str = r#"
[without_namespace]
allow_subscribe_for_client = true

[namespaces.news]
allow_subscribe_for_client = true
allow_publish_for_client = true
presence = true
history_size = 10
history_ttl = "5m"
force_recovery = true
max_publication = 50

[namespaces.object]
publication_data_format = "json_object"

[namespaces.binary]
publication_data_format = "binary"
history_size = 1
history_ttl = "5m"
"#;

/// Starts a binary with channels and the control port.
fn start(runtime: Runtime) -> (Postern, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("channels.toml");
    fs::write(&file, NAMESPACES).expect("the file is written");
    let settings = [("POSTERN_CHANNELS_FILE", file.to_str().expect("UTF-8")), ("LOG_LEVEL", "debug")];
    (Postern::start_with_control(runtime, &settings), folder)
}

/// Calls a method, and returns its result.
#[track_caller]
fn call(postern: &Postern, method: &str, params: Value) -> Value {
    let response = postern.post(&format!("/api/{method}"), &params);
    let body = response.json();
    assert!(response.status == 200 && body["result"].is_object(), "{method} {params}: {body}");
    body["result"].clone()
}

/// Calls a method that fails, and checks the number of the error. Returns its message.
#[track_caller]
fn fail(postern: &Postern, method: &str, params: &Value, code: u32) -> String {
    let response = postern.post(&format!("/api/{method}"), params);
    let error = response.json()["error"].clone();
    assert_eq!((response.status, &error["code"]), (200, &json!(code)), "{method} {params}: {error}");
    error["message"].as_str().expect("a message").to_owned()
}

#[test]
fn publications_reach_the_subscribers_in_order() {
    for runtime in Runtime::BOTH {
        let (postern, _folder) = start(runtime);
        let mut john = Client::connect(&postern, "123", "John Doe");
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let epoch = john.subscribe("news:1")["epoch"].clone();
        jane.subscribe("news:1");
        // White space outside of strings is removed, and nothing else is changed.
        let body = "{\"channel\":\"news:1\", \"data\": {\"text\": \"a  \\u00e9\\n\", \"n\": 1.50},\r\n \"tags\":{\"k\":\"v\"}}";
        let headers =
            [("Authorization", format!("apikey {API_KEY}")), ("Content-Type", "application/json".into())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let response = http::request(postern.control(), "POST", "/api/publish", &headers, body.as_bytes())
            .expect("a response");
        let result = json!({ "result": { "offset": 1, "epoch": epoch, "delivered": 2 } });
        assert_eq!((response.status, response.json()), (200, result), "{runtime}");
        let second = call(&postern, "publish", json!({ "channel": "news:1", "data": null }));
        assert_eq!(second, json!({ "offset": 2, "epoch": epoch, "delivered": 2 }));
        for client in [&mut john, &mut jane] {
            let message = client.open.receive().into_text().expect("a text");
            let [first, more @ ..] = &message.lines().collect::<Vec<_>>()[..] else { panic!("{message}") };
            let expected = r#"{"push":{"channel":"news:1","pub":{"data":{"text":"a  \u00e9\n","n":1.50},"offset":1,"tags":{"k":"v"},"epoch":""#;
            assert!(first.starts_with(expected), "{runtime}: {first}");
            let second = match more {
                [] => client.next(),
                [second, ..] => serde_json::from_str(second).expect("JSON"),
            };
            assert_eq!(second["push"]["pub"], json!({ "data": null, "offset": 2 }), "{runtime}");
        }
        postern.wait_for(
            "message published by the control port, channel: \"news:1\", bytes: 31, subscriptions: 2",
        );

        // Without history there is no position.
        john.subscribe("plain");
        let plain = json!({ "channel": "plain", "data": [1, 2] });
        assert_eq!(call(&postern, "publish", plain), json!({ "delivered": 1 }));
        assert_eq!(john.next()["push"]["pub"], json!({ "data": [1, 2] }));
        let skipped = json!({ "channel": "news:1", "data": 3, "skip_history": true });
        assert_eq!(call(&postern, "publish", skipped), json!({ "delivered": 2 }));
        assert_eq!(john.next()["push"]["pub"], json!({ "data": 3 }));
        assert_eq!(jane.next()["push"]["pub"], json!({ "data": 3 }));
    }
}

#[test]
fn a_user_is_a_target_by_the_personal_channel() {
    for runtime in Runtime::BOTH {
        let (postern, _folder) = start(runtime);
        let mut devices = [(); 2].map(|()| Client::connect(&postern, "123", "John Doe"));
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let sent = call(&postern, "publish", json!({ "user": "123", "data": "for you" }));
        assert_eq!(sent["delivered"], 2, "{runtime}");
        for device in &mut devices {
            let push = &device.next()["push"];
            assert_eq!((&push["channel"], &push["pub"]["data"]), (&json!("#123"), &json!("for you")));
        }
        let body = json!({ "channels": ["#7", "nosuch:1"], "users": ["123", "9"], "data": 1 });
        let sent = call(&postern, "broadcast", body);
        let delivered: Vec<_> = sent["responses"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|response| &response["result"]["delivered"])
            .collect();
        assert_eq!(delivered, [&json!(1), &Value::Null, &json!(2), &json!(0)], "{runtime}: {sent}");
        assert_eq!(sent["responses"][1]["error"]["code"], 102, "{runtime}");
        assert_eq!(jane.next()["push"]["pub"]["data"], 1);
    }
}

#[test]
fn a_repeated_publication_is_published_once() {
    for runtime in Runtime::BOTH {
        let (postern, _folder) = start(runtime);
        let mut john = Client::connect(&postern, "123", "John Doe");
        john.subscribe("news:1");
        let publish = |data: u32, key: &str| {
            call(&postern, "publish", json!({ "channel": "news:1", "data": data, "idempotency_key": key }))
        };
        let first = publish(1, "a");
        let again = publish(1, "a");
        assert_eq!((&again["offset"], &again["epoch"]), (&first["offset"], &first["epoch"]), "{runtime}");
        assert_eq!(publish(2, "b")["offset"], 2, "{runtime}");
        for data in [1, 2] {
            assert_eq!(john.next()["push"]["pub"]["data"], data, "{runtime}");
        }
        // Of publications with a version, only newer ones are published.
        for (version, epoch, offset) in [(5, "x", 3), (5, "x", 3), (4, "x", 3), (6, "x", 4), (1, "y", 5)] {
            let body =
                json!({ "channel": "news:1", "data": version, "version": version, "version_epoch": epoch });
            assert_eq!(call(&postern, "publish", body)["offset"], offset, "{runtime}: {version} {epoch}");
        }
        for data in [5, 6, 1] {
            assert_eq!(john.next()["push"]["pub"]["data"], data, "{runtime}");
        }
    }
}

#[test]
fn a_publication_that_is_refused_has_an_error_that_says_what_to_do() {
    for runtime in Runtime::BOTH {
        let (postern, _folder) = start(runtime);
        for (params, code, message) in [
            (json!({}), 107, "data is missing; send any JSON value, or bytes in b64data"),
            (json!({ "data": 1 }), 107, "channel is missing; name one"),
            (json!({ "channel": "news:1" }), 107, "data is missing"),
            (json!({ "channel": 1, "data": 1 }), 107, "channel must be a string"),
            (json!({ "channel": "a".repeat(256), "data": 1 }), 107, "has 256 bytes; it may have 255"),
            (json!({ "channel": "é", "data": 1 }), 107, "visible ASCII"),
            (
                json!({ "channel": "nosuch:1", "data": 1 }),
                102,
                "add [namespaces.nosuch] to the file of POSTERN_CHANNELS_FILE",
            ),
            (json!({ "channel": "a", "user": "1", "data": 1 }), 107, "name one of them"),
            (json!({ "user": "a\n", "data": 1 }), 107, "the id of a user must not"),
            (json!({ "channel": "a", "data": 1, "b64data": "MQ==" }), 107, "send one of them"),
            (json!({ "channel": "a", "b64data": "?" }), 107, "b64data must be base64"),
            (json!({ "channel": "a", "b64data": "/w==" }), 107, "not one JSON text in UTF-8"),
            (json!({ "channel": "object:1", "data": [] }), 107, "must be a JSON object"),
            (
                json!({ "channel": "news:1", "data": "x".repeat(49) }),
                107,
                "data has 51 bytes; the channel accepts 50",
            ),
            (json!({ "channel": "a", "data": 1, "version": 1 }), 107, "set history_size and history_ttl"),
            (json!({ "channel": "a", "data": 1, "version": -1 }), 107, "version must be a whole number"),
            (
                json!({ "channel": "a", "data": 1, "tags": { "a": 1 } }),
                107,
                "tags must be an object whose values",
            ),
            (
                json!({ "channel": "a", "data": 1, "skip_history": "yes" }),
                107,
                "skip_history must be true or false",
            ),
        ] {
            let said = fail(&postern, "publish", &params, code);
            assert!(said.contains(message), "{runtime}: {params}: {said}");
        }
        let said = fail(&postern, "broadcast", &json!({ "data": 1 }), 107);
        assert!(said.contains("channels is missing"), "{runtime}: {said}");

        // Clients that ask for it get the error as a status.
        let headers = [
            ("X-API-Key", API_KEY),
            ("Content-Type", "application/json"),
            ("X-Centrifugo-Error-Mode", "transport"),
        ];
        for (body, status, code) in
            [(r#"{"channel":"nosuch:1","data":1}"#, 404, 102), (r#"{"channel":"a"}"#, 400, 107)]
        {
            let response =
                http::request(postern.control(), "POST", "/api/publish", &headers, body.as_bytes())
                    .expect("a response");
            assert_eq!(
                (response.status, &response.json()["code"]),
                (status, &json!(code)),
                "{runtime}: {body}"
            );
        }
        let deep = format!(r#"{{"channel":"a","data":{}{}}}"#, "[".repeat(129), "]".repeat(129));
        let response =
            http::request(postern.control(), "POST", "/api/publish", &headers[..2], deep.as_bytes())
                .expect("a response");
        let said = response.json()["error"]["message"].to_string();
        assert!(said.contains("the data has more than 128 levels"), "{runtime}: {said}");
        // What is not JSON is refused by the status in both modes.
        for body in ["", "[]", "{\"channel\":\"a\",\"data\":}", "{} {}", "null"] {
            let response =
                http::request(postern.control(), "POST", "/api/publish", &headers[..2], body.as_bytes())
                    .expect("a response");
            assert_eq!((response.status, &response.json()["error"]["code"]), (400, &json!("json")), "{body}");
        }
    }
}
