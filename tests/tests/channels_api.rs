//! The server API over real sockets, on both binaries: its effects on clients, and its answers.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use postern_tests::channels::Client;
use postern_tests::cluster::{self, PAIRS};
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::process::{Process, Stream};
use postern_tests::redis::Redis;
use postern_tests::{at_the_same_time, http, provision, wait_until, workspace};
use serde_json::{Value, json};
use tungstenite::Message;

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
fn start(runtime: Runtime) -> Postern {
    Postern::with(runtime, &[("LOG_LEVEL", "debug")]).channels(NAMESPACES).control().start()
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
        let postern = start(runtime);
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

        // A channel without history has no position.
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
        let postern = start(runtime);
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
        let postern = start(runtime);
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
        let postern = start(runtime);
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

#[test]
fn history_and_presence_are_those_of_clients() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime);
        let mut john = Client::connect(&postern, "123", "John Doe");
        let epoch = john.subscribe("news:1")["epoch"].clone();
        for data in [json!({ "n": 1.5 }), json!(2), json!(3)] {
            call(&postern, "publish", json!({ "channel": "news:1", "data": data, "tags": { "k": "v" } }));
            john.next();
        }
        john.send(&[json!({ "id": 3, "publish": { "channel": "news:1", "data": 4 } })]);
        john.next();
        john.next();
        let history = |more: Value| {
            let mut params = json!({ "channel": "news:1" });
            params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            call(&postern, "history", params)
        };
        let data = |result: &Value| -> Vec<Value> {
            let publications = result["publications"].as_array().expect("a list");
            publications.iter().map(|publication| publication["data"].clone()).collect()
        };
        assert_eq!(
            history(json!({})),
            json!({ "publications": [], "epoch": epoch, "offset": 4 }),
            "{runtime}"
        );
        let all = history(json!({ "limit": -1 }));
        assert_eq!(data(&all), [json!({ "n": 1.5 }), json!(2), json!(3), json!(4)], "{runtime}");
        let first = json!({ "data": { "n": 1.5 }, "offset": 1, "tags": { "k": "v" }, "epoch": epoch });
        assert_eq!(all["publications"][0], first, "{runtime}");
        assert_eq!(all["publications"][3]["info"]["user"], "123", "{runtime}");
        assert_eq!(data(&history(json!({ "limit": 2, "reverse": true }))), [4, 3], "{runtime}");
        let since = json!({ "limit": 1, "since": { "offset": 2, "epoch": epoch } });
        assert_eq!(data(&history(since)), [3], "{runtime}");
        let foreign =
            json!({ "channel": "news:1", "limit": 1, "since": { "offset": 2, "epoch": "aaaaaaaa" } });
        let said = fail(&postern, "history", &foreign, 112);
        assert!(said.contains("read the history without since"), "{runtime}: {said}");
        let nothing = json!({ "channel": "news:1", "reverse": true, "since": { "offset": 0, "epoch": "" } });
        fail(&postern, "history", &nothing, 107);

        // The position outlives the publications.
        assert_eq!(call(&postern, "history_remove", json!({ "channel": "news:1" })), json!({}), "{runtime}");
        let empty = json!({ "publications": [], "epoch": epoch, "offset": 4 });
        assert_eq!(history(json!({ "limit": -1 })), empty, "{runtime}");

        let presence = call(&postern, "presence", json!({ "channel": "news:1" }));
        let clients = presence["presence"].as_object().expect("an object");
        let (id, info) = clients.iter().next().expect("a client");
        let expected = json!({ "user": "123", "client": id, "conn_info": { "name": "John Doe" } });
        assert_eq!((clients.len(), info), (1, &expected), "{runtime}");
        let stats = call(&postern, "presence_stats", json!({ "channel": "news:1" }));
        assert_eq!(stats, json!({ "num_clients": 1, "num_users": 1 }), "{runtime}");

        // Data of a binary channel is base64.
        let binary = json!({ "channel": "binary:1", "b64data": "AP8=" });
        call(&postern, "publish", binary);
        let binary = call(&postern, "history", json!({ "channel": "binary:1", "limit": 1 }));
        assert_eq!(binary["publications"][0]["data"], "AP8=", "{runtime}");

        for (method, setting) in [
            ("presence", "presence = true"),
            ("presence_stats", "presence = true"),
            ("history", "history_size"),
            ("history_remove", "history_size"),
        ] {
            let said = fail(&postern, method, &json!({ "channel": "plain" }), 108);
            assert!(said.contains(setting), "{runtime}: {said}");
            fail(&postern, method, &json!({}), 107);
            fail(&postern, method, &json!({ "channel": "nosuch:1" }), 102);
        }
    }
}

#[test]
fn channels_and_the_node_are_described() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime);
        let mut john = Client::connect(&postern, "123", "John Doe");
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        john.subscribe("news:1");
        jane.subscribe("news:1");
        jane.subscribe("plain");
        let channels =
            |pattern: &str| call(&postern, "channels", json!({ "pattern": pattern }))["channels"].clone();
        let all = json!({
            "#123": { "num_clients": 1 }, "#7": { "num_clients": 1 },
            "news:1": { "num_clients": 2 }, "plain": { "num_clients": 1 },
        });
        assert_eq!(channels(""), all, "{runtime}");
        assert_eq!(channels("news:*"), json!({ "news:1": { "num_clients": 2 } }), "{runtime}");
        assert_eq!(channels("x*"), json!({}), "{runtime}");
        let info = call(&postern, "info", json!({}));
        let node = &info["nodes"][0];
        for (field, expected) in [("num_clients", 2), ("num_users", 2), ("num_channels", 4), ("num_subs", 5)]
        {
            assert_eq!(node[field], expected, "{runtime}: {field} in {node}");
        }
        assert!(node["uid"].as_str().is_some_and(|uid| uid.len() == 36), "{runtime}: {node}");
    }
}

#[test]
fn clients_are_unsubscribed_and_disconnected() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime);
        let mut john = Client::connect(&postern, "123", "John Doe");
        let mut other = Client::connect(&postern, "123", "John Doe");
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let mut echo = postern.handshake().header("User-ID", "123").open();
        for client in [&mut john, &mut other, &mut jane] {
            client.subscribe("news:1");
            client.subscribe("plain");
        }
        let ended = |channel: &str| {
            let unsubscribe = json!({ "code": 2000, "reason": "server unsubscribe" });
            json!({ "push": { "channel": channel, "unsubscribe": unsubscribe } })
        };
        let unsubscribe = json!({ "user": "123", "channel": "news:1" });
        assert_eq!(
            call(&postern, "unsubscribe", unsubscribe.clone()),
            json!({ "unsubscribed": 2 }),
            "{runtime}"
        );
        assert_eq!(call(&postern, "unsubscribe", unsubscribe), json!({ "unsubscribed": 0 }), "{runtime}");
        for client in [&mut john, &mut other] {
            assert_eq!(client.next(), ended("news:1"), "{runtime}");
        }
        // The subscription has ended when the answer is sent.
        let sent = call(&postern, "publish", json!({ "channel": "news:1", "data": 1 }));
        assert_eq!(sent["delivered"], 1, "{runtime}");
        assert_eq!(jane.next()["push"]["pub"]["data"], 1, "{runtime}");
        // All channels of one client, which keeps its connection.
        let presence = call(&postern, "presence", json!({ "channel": "news:1" }));
        let id =
            presence["presence"].as_object().expect("an object").keys().next().expect("a client").clone();
        assert_eq!(
            call(&postern, "unsubscribe", json!({ "client": id })),
            json!({ "unsubscribed": 1 }),
            "{runtime}"
        );
        let mut channels = [(); 3].map(|()| jane.next()["push"]["channel"].to_string());
        channels.sort();
        assert_eq!(channels, ["\"#7\"", "\"news:1\"", "\"plain\""], "{runtime}");
        jane.subscribe("news:1");

        // A message that was published before arrives before the Close.
        let commands = json!({ "commands": [
            { "publish": { "channel": "plain", "data": "bye" } },
            { "disconnect": { "user": "123" } },
            { "disconnect": { "user": "7", "whitelist": [id] } },
        ] });
        let replies = postern.post("/api/batch", &commands).json();
        let expected = json!({ "replies": [
            { "publish": { "delivered": 2 } }, { "disconnect": { "disconnected": 3 } }, { "disconnect": { "disconnected": 0 } },
        ] });
        assert_eq!(replies, expected, "{runtime}");
        for client in [&mut john, &mut other] {
            assert_eq!(client.next()["push"]["pub"]["data"], "bye", "{runtime}");
            assert_eq!(client.open.closed(), (3503, "force disconnect".to_owned()), "{runtime}");
        }
        assert_eq!(echo.closed(), (4403, "disconnected".to_owned()), "{runtime}");
        let close = json!({ "user": "7", "disconnect": { "code": 4001, "reason": "logged out" } });
        assert_eq!(call(&postern, "disconnect", close), json!({ "disconnected": 1 }), "{runtime}");
        assert_eq!(jane.open.closed(), (4001, "logged out".to_owned()), "{runtime}");
        postern.wait_for(
            r#"clients unsubscribed by the control port, of: user "123", channel: "news:1", count: 2"#,
        );
    }
}

#[test]
fn send_reaches_clients_of_echo_only() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime);
        let mut john = Client::connect(&postern, "123", "John Doe");
        let mut echo = postern.handshake().header("User-ID", "123").open();
        for target in [json!({ "all": true, "text": "a" }), json!({ "user": "123", "text": "a" })] {
            assert_eq!(call(&postern, "send", target), json!({ "sent": 1 }), "{runtime}");
            assert_eq!(echo.receive().into_text().expect("a text").as_str(), "a", "{runtime}");
        }
        // It would end the connection of an SDK.
        assert_eq!(john.call(json!({ "id": 9, "rpc": {} }))["error"]["code"], 108, "{runtime}");
    }
}

#[test]
fn older_sdks_send_a_command_in_each_line() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime);
        let headers = [("X-API-Key", API_KEY), ("Content-Type", "application/json")];
        let post = |body: &str| {
            http::request(postern.control(), "POST", "/api", &headers, body.as_bytes()).expect("a response")
        };
        let body = "{\"method\":\"publish\",\"params\":{\"channel\":\"plain\",\"data\":{\"a\":1.0}}}\n\
                    {\"method\":\"publish\",\"params\":{\"channel\":\"nosuch:1\",\"data\":1}}\n\
                    {\"method\":\"channels\",\"params\":{}}\n";
        let response = post(body);
        let lines = response.text().lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!((response.status, lines.len()), (200, 3), "{runtime}: {response}");
        assert_eq!(lines[0], r#"{"result":{"delivered":0}}"#, "{runtime}");
        assert!(
            lines[1].starts_with(r#"{"error":{"code":102,"message":"unknown channel: "#),
            "{runtime}: {response}"
        );
        assert_eq!(lines[2], r#"{"result":{"channels":{}}}"#, "{runtime}");
        // A line that is not a command refuses all of them.
        let response = post(
            "{\"method\":\"publish\",\"params\":{\"channel\":\"news:1\",\"data\":1}}\n{\"method\":\"x\"}",
        );
        assert_eq!(response.status, 400, "{runtime}: {response}");
        assert_eq!(call(&postern, "history", json!({ "channel": "news:1" }))["offset"], 0, "{runtime}");
    }
}

#[test]
fn clients_are_subscribed_by_the_server() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime);
        let mut john = Client::connect(&postern, "123", "John Doe");
        let mut other = Client::connect(&postern, "123", "John Doe");
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let epoch = other.subscribe("news:1")["epoch"].clone();
        for data in 1..=3 {
            call(&postern, "publish", json!({ "channel": "news:1", "data": data }));
            other.next();
        }
        // A client that is subscribed already is left out.
        let subscribe = json!({
            "user": "123", "channel": "news:1", "info": { "seat": 7 }, "data": { "hello": 1.0 },
            "recover_since": { "offset": 1, "epoch": epoch },
        });
        assert_eq!(call(&postern, "subscribe", subscribe), json!({ "subscribed": 1 }), "{runtime}");
        let body = json!({
            "recoverable": true, "epoch": epoch, "offset": 1, "positioned": true, "data": { "hello": 1.0 },
        });
        let push = json!({ "push": { "channel": "news:1", "subscribe": body } });
        assert_eq!(john.next(), push, "{runtime}");
        for data in [2, 3] {
            assert_eq!(john.next()["push"]["pub"], json!({ "data": data, "offset": data }), "{runtime}");
        }
        // The subscription exists when the answer is sent.
        let sent = call(&postern, "publish", json!({ "channel": "news:1", "data": 4 }));
        assert_eq!(sent["delivered"], 2, "{runtime}");
        assert_eq!(john.next()["push"]["pub"]["data"], 4, "{runtime}");
        let presence = call(&postern, "presence", json!({ "channel": "news:1" }));
        let seats = presence["presence"].as_object().expect("an object").values();
        assert_eq!(seats.filter(|info| info["chan_info"]["seat"] == 7).count(), 1, "{runtime}: {presence}");

        // Options of the namespace are replaced, also where no client may subscribe.
        let hidden =
            json!({ "user": "7", "channel": "object:1", "override": { "presence": { "value": true } } });
        assert_eq!(call(&postern, "subscribe", hidden), json!({ "subscribed": 1 }), "{runtime}");
        assert_eq!(jane.next(), json!({ "push": { "channel": "object:1", "subscribe": {} } }), "{runtime}");
        let publish = json!({ "channel": "object:1", "data": {} });
        assert_eq!(call(&postern, "publish", publish), json!({ "delivered": 1 }), "{runtime}");
        assert_eq!(jane.next()["push"]["pub"]["data"], json!({}), "{runtime}");
        // A client with JSON cannot get binary data.
        let binary = json!({ "user": "7", "channel": "binary:1" });
        assert_eq!(call(&postern, "subscribe", binary), json!({ "subscribed": 0 }), "{runtime}");

        let refresh = |more: Value| {
            let mut params = json!({ "user": "7" });
            params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            assert_eq!(call(&postern, "refresh", params), json!({ "refreshed": 1 }), "{runtime}");
        };
        refresh(json!({ "expire_at": 4_102_444_800_u64 }));
        let refreshed = &jane.next()["push"]["refresh"];
        assert_eq!(refreshed["expires"], true, "{runtime}");
        assert!(refreshed["ttl"].as_u64() > Some(1_000_000), "{runtime}: {refreshed}");
        refresh(json!({}));
        assert_eq!(jane.next(), json!({ "push": { "refresh": {} } }), "{runtime}");
        refresh(json!({ "expired": true }));
        assert_eq!(jane.open.closed(), (3005, "connection expired".to_owned()), "{runtime}");
        fail(&postern, "refresh", &json!({ "user": "7", "expire_at": 1 }), 107);
        fail(&postern, "subscribe", &json!({ "user": "7", "channel": "nosuch:1" }), 102);
    }
}

/// The SDK is unmodified.
#[test]
fn cent_calls_every_method() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime);
        run_cent([&postern; 2], 2);
    }
}

/// The clients are on one node, and the requests are sent to the other one.
#[test]
fn cent_calls_every_method_on_another_node() {
    for runtimes in PAIRS {
        let redis = Redis::start();
        let nodes = cluster::pair(runtimes, &redis, NAMESPACES, &[]);
        run_cent(nodes.each_ref(), 0);
    }
}

/// Connects two clients with the first node, and calls the methods of the second one. `local` is the number of clients there.
fn run_cent([node, answering]: [&Postern; 2], local: usize) {
    // It may be installed now, which can take longer than the clients may stay silent.
    let sdk = provision::cent().expect("the SDK");
    let mut clients = [(); 2].map(|()| Client::connect(node, "123", "John Doe"));
    for client in &mut clients {
        client.subscribe("news:1");
    }
    let presence = || call(answering, "presence", json!({ "channel": "news:1" }));
    let ids = || -> Vec<String> {
        presence()["presence"].as_object().expect("an object").keys().cloned().collect()
    };
    wait_until("both are present", || ids().len() == 2);
    let mut python = Command::new("python3");
    python.arg(workspace::path("tests/tests/peers/server_api.py"));
    python.arg(format!("http://{}/api", answering.control())).arg(API_KEY).args(ids()).arg(local.to_string());
    python.env("PYTHONPATH", sdk);
    let mut peer = Process::spawn("cent", &mut python).expect("Python starts");
    let status = peer.wait(Duration::from_secs(60)).expect("it ends");
    let output = peer.lines_of(Stream::Out);
    assert!(status.success() && output == ["done"], "{status}, {:?}", peer.lines());
    // One client was closed without a code, and then the other one with a code.
    let mut closed: Vec<(u16, String)> = clients.iter_mut().map(read_to_close).collect();
    closed.sort();
    assert_eq!(closed, [(3503, "force disconnect".to_owned()), (4000, "logged out".to_owned())]);
}

/// Returns the code and the reason of the Close that follows other messages.
fn read_to_close(client: &mut Client) -> (u16, String) {
    loop {
        if let Message::Close(frame) = client.open.receive() {
            let frame = frame.expect("a code");
            return (frame.code.into(), frame.reason.to_string());
        }
    }
}

/// Requests that the description allows, and others, have the answers that it describes, in both modes of errors.
#[test]
fn answers_are_those_of_the_description() {
    let description = workspace::path("docs/openapi.yaml");
    at_the_same_time([(Runtime::Mio, "transport"), (Runtime::Smol, "body")], |(runtime, mode)| {
        let (postern, folder) = (start(runtime), tempfile::tempdir().expect("a temporary folder"));
        let mut john = Client::connect(&postern, "123", "John Doe");
        john.subscribe("news:1");
        let mut python = Command::new("python3");
        python.current_dir(folder.path()).args(["-m", "schemathesis.cli", "run"]).arg(&description);
        python.args(["--url", &format!("http://{}", postern.control())]);
        python.args(["--header", &format!("X-API-Key: {API_KEY}")]);
        python.args(["--header", &format!("X-Centrifugo-Error-Mode: {mode}")]);
        python.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "30", "--max-time", "25"]);
        // It would end the process.
        python.args(["--exclude-operation-id", "drain"]);
        // Null is an absent member, and a valid request can concern a channel that does not exist.
        python.args(["--exclude-checks", "negative_data_rejection,positive_data_acceptance"]);
        python.args(["--seed", "1", "--no-color"]);
        python.env("PYTHONPATH", provision::schemathesis().expect("schemathesis"));
        let mut peer = Process::spawn("schemathesis", &mut python).expect("Python starts");
        let status = peer.wait(Duration::from_secs(120)).expect("it ends");
        assert!(status.success(), "{runtime}: {status}\n{}", peer.lines_of(Stream::Out).join("\n"));
    });
}

/// The description and the binaries have the same methods.
#[test]
fn description_has_every_method() {
    let description = fs::read_to_string(workspace::path("docs/openapi.yaml")).expect("the description");
    let described: BTreeSet<&str> = description
        .lines()
        .filter_map(|line| line.strip_prefix("  /api/")?.strip_suffix(':'))
        .filter(|name| *name != "batch")
        .collect();
    for postern in Postern::both_with_control(&[]) {
        let unknown = postern.post("/api/METHOD", &json!({})).json();
        let message = unknown["error"]["message"].as_str().expect("a message");
        let (_, methods) = message.split_once("with the methods ").expect("a list");
        assert_eq!(described, methods.split(", ").collect::<BTreeSet<_>>());
    }
}
