//! Clients without commands, over real sockets, on both binaries.

use std::time::Duration;

use postern_tests::canary::{self, Kind};
use postern_tests::channels::Client;
use postern_tests::issuer::hs256;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Open;
use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;

const NAMESPACES: &str = r#"
[without_namespace]
history_size = 10
history_ttl = "5m"
force_recovery = true
join_leave = true
force_push_join_leave = true

[namespaces.open]
allow_subscribe_for_client = true
allow_publish_for_client = true
"#;

const PATH: &str = "/connection/uni_websocket";

fn start(runtime: Runtime, secret: &str) -> Postern {
    let settings = [("POSTERN_CHANNELS_UNI_PATH", PATH), ("JWT_SECRET", secret)];
    Postern::with(runtime, &settings).channels(NAMESPACES).control().start()
}

fn open(postern: &Postern, query: &str) -> Open {
    postern.handshake().target(format!("{PATH}{query}")).as_john().open()
}

/// Returns the next push. Each is a separate message.
#[track_caller]
fn next(open: &mut Open) -> Value {
    let message = open.receive();
    assert!(message.is_text(), "{message:?}");
    serde_json::from_slice(&message.into_data()).expect("one JSON text")
}

/// Expects the last push and the Close with the same code and reason.
#[track_caller]
fn assert_ends(open: &mut Open, code: u16, reason: &str) {
    assert_eq!(next(open), json!({ "disconnect": { "code": code, "reason": reason } }));
    assert_eq!(open.closed(), (code, reason.to_owned()));
}

/// Expects the first push, and returns its subscriptions.
#[track_caller]
fn connected(open: &mut Open) -> Value {
    let push = next(open);
    let connect = &push["connect"];
    assert_eq!(connect["client"].as_str().map(str::len), Some(36), "{push}");
    assert_eq!((&connect["ping"], &connect["pong"]), (&json!(25), &Value::Null), "{push}");
    assert_eq!((&push["id"], &push["push"]), (&Value::Null, &Value::Null), "{push}");
    connect["subs"].clone()
}

/// Expects the first push with the personal channel, and the client's own join in another message.
#[track_caller]
fn assert_is_subscribed(open: &mut Open) {
    let subs = connected(open);
    assert_eq!(subs["#123"]["recoverable"], true, "{subs}");
    let join = next(open);
    assert_eq!((&join["channel"], &join["join"]["info"]["user"]), (&json!("#123"), &json!("123")));
}

#[test]
fn a_client_that_sends_its_fields_of_connect_gets_pushes_only() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &canary::mint(Kind::Setting));
        let call = |method: &str, params: Value| {
            let answer = postern.post(&format!("/api/{method}"), &params).json();
            assert!(answer["result"].is_object(), "{runtime}, {method}: {answer}");
        };
        let mut by_message = open(&postern, "");
        by_message.send("{}");
        assert_is_subscribed(&mut by_message);
        let mut by_query = open(&postern, "?cf_connect=%7B%22name%22:+%22page%22%7D");
        assert_is_subscribed(&mut by_query);
        // The join of the other connection.
        assert_eq!(next(&mut by_message)["join"]["info"]["user"], "123");
        let mut clients = [&mut by_message, &mut by_query];
        for client in &mut clients {
            // Further messages are ignored.
            client.send("Hello");
            client.send(r#"{"id":1,"rpc":{}}"#);
        }
        call("publish", json!({ "user": "123", "data": { "text": "Hello" } }));
        call("publish", json!({ "user": "123", "data": 2 }));
        call("subscribe", json!({ "user": "123", "channel": "open:1" }));
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        jane.publish("open:1", json!("to all"));
        call("unsubscribe", json!({ "user": "123", "channel": "open:1" }));
        for client in &mut clients {
            let first = next(client);
            assert_eq!(first["channel"], "#123", "{runtime}: {first}");
            assert_eq!(
                (&first["pub"]["data"], &first["pub"]["offset"]),
                (&json!({ "text": "Hello" }), &json!(1))
            );
            assert_eq!(next(client)["pub"]["data"], 2, "{runtime}");
            assert_eq!(next(client), json!({ "channel": "open:1", "subscribe": {} }), "{runtime}");
            let from_jane = next(client);
            assert_eq!(from_jane["pub"]["info"]["user"], "7", "{runtime}: {from_jane}");
            let unsubscribe = json!({ "code": 2000, "reason": "server unsubscribe" });
            assert_eq!(next(client), json!({ "channel": "open:1", "unsubscribe": unsubscribe }), "{runtime}");
        }
        call("disconnect", json!({ "user": "123" }));
        for client in clients {
            // One of them may get the leave of the other.
            let push = next(client);
            let push = if push["leave"].is_object() { next(client) } else { push };
            assert_eq!(push, json!({ "disconnect": { "code": 3503, "reason": "force disconnect" } }));
            assert_eq!(client.closed(), (3503, "force disconnect".to_owned()), "{runtime}");
        }
    }
}

#[test]
fn a_client_that_returns_gets_the_publications_that_it_has_missed() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &canary::mint(Kind::Setting));
        let mut first = open(&postern, "?cf_connect={}");
        let subs = connected(&mut first);
        drop(first);
        for number in 1..=3 {
            postern.post("/api/publish", &json!({ "user": "123", "data": number }));
        }
        let mut second = open(&postern, "");
        let known = json!({ "recover": true, "epoch": subs["#123"]["epoch"], "offset": 1 });
        second.send(json!({ "subs": { "#123": known } }).to_string());
        let result = connected(&mut second)["#123"].clone();
        assert_eq!(result["recovered"], true, "{runtime}: {result}");
        let publications = result["publications"].as_array().expect("publications");
        let data: Vec<&Value> = publications.iter().map(|publication| &publication["data"]).collect();
        assert_eq!(data, [&json!(2), &json!(3)], "{runtime}");
    }
}

#[test]
fn faults_end_the_connection_with_a_push_and_a_close() {
    for runtime in Runtime::BOTH {
        let secret = canary::mint(Kind::Setting);
        let mut postern = start(runtime, &secret);
        let token = |claims: Value| json!({ "token": hs256(&secret, &claims) }).to_string();
        let first = "bad request: first send {}, or the fields of connect in it";
        for (message, code, reason) in [
            ("Hello".to_owned(), 3501, first),
            ("[]".to_owned(), 3501, first),
            (r#"{"id":1,"connect":5}x"#.to_owned(), 3501, first),
            (r#"{"token":5}"#.to_owned(), 3501, first),
            (token(json!({ "sub": "7" })), 3500, "invalid token"),
            (token(json!({ "sub": "123", "exp": 1 })), 3005, "connection expired"),
            (token(json!({ "sub": "123", "channels": ["none:1"] })), 3004, "internal server error"),
        ] {
            let mut client = open(&postern, "");
            client.send(message);
            assert_ends(&mut client, code, reason);
        }
        let mut client = open(&postern, "?cf_connect=%7B");
        assert_ends(&mut client, 3501, first);
        // A binary message is JSON too.
        let mut client = open(&postern, "");
        client.send(Message::binary(b"{}".as_slice()));
        connected(&mut client);
        next(&mut client);
        postern.process.signal(Signal::TERM).expect("a signal");
        assert_ends(&mut client, 3001, "shutdown");
        let status = postern.process.wait(Duration::from_secs(20)).expect("it ends");
        assert!(status.success(), "{runtime}: {status}");
    }
}
