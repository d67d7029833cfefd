//! Channels over real sockets, on both binaries: the client protocol in JSON.

use std::fs;

use postern_tests::channels::{Client, handshake};
use postern_tests::postern::{CHANNELS_FILE, Postern, Runtime};
use serde_json::{Value, json};

const NAMESPACES: &str = r#"
[without_namespace]
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_presence_for_subscriber = true
allow_history_for_subscriber = true
presence = true
history_size = 10
history_ttl = "5m"
force_recovery = true

[namespaces.room]
allow_subscribe_for_client = true
allow_publish_for_client = true
join_leave = true
force_push_join_leave = true
"#;

/// Makes Postern read its files again.
fn hang_up(postern: &Postern) {
    let id = i32::try_from(postern.id()).expect("a process id");
    let id = rustix::process::Pid::from_raw(id).expect("a process id");
    rustix::process::kill_process(id, rustix::process::Signal::HUP).expect("a signal");
}

fn start(runtime: Runtime, settings: &[(&str, &str)]) -> Postern {
    Postern::with(runtime, settings).channels(NAMESPACES).start()
}

#[test]
fn a_client_is_subscribed_to_the_personal_channel_of_its_user_unless_that_is_off() {
    for (setting, is_subscribed) in [("on", true), ("off", false)] {
        for runtime in Runtime::BOTH {
            let postern = start(runtime, &[("POSTERN_PERSONAL_CHANNEL", setting)]);
            let (_client, reply) = Client::connect_with(handshake(&postern, "123", "John Doe"), json!({}));
            assert_eq!(reply["connect"]["subs"]["#123"].is_object(), is_subscribed, "{setting}: {reply}");
        }
    }
}

#[test]
fn users_talk_to_each_other() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &[]);
        let mut john = Client::connect(&postern, "123", "John Doe");
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let subscribed = john.subscribe("news");
        assert_eq!((&subscribed["recoverable"], &subscribed["offset"]), (&json!(true), &Value::Null));
        jane.subscribe("news");

        // The own publication precedes the reply.
        john.send(&[json!({ "id": 3, "publish": { "channel": "news", "data": { "text": "Hello" } } })]);
        let pushed = john.next();
        assert_eq!(pushed["push"]["pub"]["data"], json!({ "text": "Hello" }), "{pushed}");
        assert_eq!(john.next(), json!({ "id": 3, "publish": {} }));
        let pushed = jane.next();
        let publication = &pushed["push"]["pub"];
        assert_eq!((&pushed["push"]["channel"], &publication["offset"]), (&json!("news"), &json!(1)));
        assert_eq!(publication["info"]["user"], "123");
        assert_eq!(publication["info"]["conn_info"], json!({ "name": "John Doe" }));
        postern.wait_for(r#"Message from John Doe (123) in news: {"text":"Hello"}"#);

        let presence = jane.call(json!({ "id": 4, "presence": { "channel": "news" } }));
        assert_eq!(presence["presence"]["presence"].as_object().map(serde_json::Map::len), Some(2));
        let stats = jane.call(json!({ "id": 5, "presence_stats": { "channel": "news" } }));
        assert_eq!(stats["presence_stats"], json!({ "num_clients": 2, "num_users": 2 }));
        let history = jane.call(json!({ "id": 6, "history": { "channel": "news", "limit": -1 } }));
        assert_eq!(history["history"]["publications"][0]["data"], json!({ "text": "Hello" }));

        // Nothing of a channel follows the reply to unsubscribe.
        assert_eq!(
            jane.call(json!({ "id": 7, "unsubscribe": { "channel": "news" } })),
            json!({ "id": 7, "unsubscribe": {} })
        );
        john.send(&[json!({ "id": 8, "publish": { "channel": "news", "data": 2 } })]);
        john.next();
        john.next();
        assert_eq!(jane.call(json!({ "id": 9, "rpc": { "method": "x" } }))["error"]["code"], 108);
        let refused = jane.call(json!({ "id": 10, "publish": { "channel": "news", "data": 3 } }));
        assert_eq!(refused["error"]["code"], 103);
    }
}

#[test]
fn a_client_that_comes_back_misses_nothing() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &[]);
        let mut john = Client::connect(&postern, "123", "John Doe");
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let epoch = john.subscribe("news")["epoch"].clone();
        jane.subscribe("news");
        drop(jane);
        for number in 1..=3 {
            john.send(&[json!({ "id": number, "publish": { "channel": "news", "data": number } })]);
            john.next();
            john.next();
        }
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let recover = |offset: u64, epoch: &Value| json!({ "id": 2, "subscribe": { "channel": "news", "recover": true, "offset": offset, "epoch": epoch } });
        let reply = jane.call(recover(1, &epoch));
        let result = &reply["subscribe"];
        assert_eq!(
            (&result["recovered"], &result["was_recovering"], &result["offset"]),
            (&json!(true), &json!(true), &json!(1))
        );
        let data: Vec<&Value> = result["publications"]
            .as_array()
            .expect("publications")
            .iter()
            .map(|entry| &entry["data"])
            .collect();
        assert_eq!(data, [&json!(2), &json!(3)]);

        // Another stream is not recovered, and the client learns of it.
        jane.call(json!({ "id": 3, "unsubscribe": { "channel": "news" } }));
        let reply = jane.call(recover(1, &json!("aaaaaaaa")));
        let result = &reply["subscribe"];
        assert_eq!(
            (&result["recovered"], &result["was_recovering"], &result["offset"]),
            (&Value::Null, &json!(true), &json!(3))
        );
    }
}

#[test]
fn subscribers_learn_who_comes_and_who_leaves() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &[]);
        let mut john = Client::connect(&postern, "123", "John Doe");
        john.subscribe("room:1");
        assert_eq!(john.next()["push"]["join"]["info"]["user"], "123");
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        jane.subscribe("room:1");
        assert_eq!(john.next()["push"]["join"]["info"]["user"], "7");
        drop(jane);
        assert_eq!(john.next()["push"]["leave"]["info"]["user"], "7");
    }
}

#[test]
fn a_message_that_is_no_command_ends_the_connection_with_3501() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &[]);
        let handshake = postern.handshake().target("/connection/websocket").as_john();
        let mut open = handshake.open();
        open.send("Hello");
        let (code, reason) = open.closed();
        assert_eq!(code, 3501, "{runtime}");
        assert!(reason.contains(r#"{"id":1,"connect":{}}"#), "{reason}");

        // The commands before the fault are executed and answered.
        let mut john = Client::connect(&postern, "123", "John Doe");
        john.send(&[json!({ "id": 3, "rpc": {} }), json!([])]);
        assert_eq!(john.next()["error"]["code"], 108);
        assert_eq!(john.open.close_code(), 3501, "{runtime}");
    }
}

#[test]
fn the_channels_file_is_read_again_and_a_bad_one_changes_nothing() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &[]);
        let file = postern.folder().join(CHANNELS_FILE);
        let mut john = Client::connect(&postern, "123", "John Doe");
        let publish = json!({ "id": 3, "publish": { "channel": "other:1", "data": 1 } });
        assert_eq!(john.call(publish.clone())["error"]["code"], 102);
        fs::write(&file, format!("{NAMESPACES}\n[namespaces.other]\nallow_publish_for_everybody = true\n"))
            .expect("written");
        hang_up(&postern);
        postern.wait_for("SIGHUP: the channels file cannot be used");
        assert_eq!(john.call(publish.clone())["error"]["code"], 102);
        fs::write(&file, format!("{NAMESPACES}\n[namespaces.other]\nallow_publish_for_client = true\n"))
            .expect("written");
        hang_up(&postern);
        postern.wait_for("settings: POSTERN_CHANNELS_FILE");
        assert_eq!(john.call(publish), json!({ "id": 3, "publish": {} }));
    }
}

#[test]
fn publications_at_once_are_delivered_in_parts_and_in_order() {
    const COUNT: usize = 5_000;
    for runtime in Runtime::BOTH {
        let settings = [("POSTERN_MAX_BACKLOG", "64MiB")];
        let postern = Postern::with(runtime, &settings).channels(NAMESPACES).control().start();
        let mut clients = ["1", "2", "3"].map(|id| {
            let mut client = Client::connect(&postern, id, "John Doe");
            client.subscribe("news");
            client
        });
        let body = json!({ "channels": vec!["news"; COUNT], "data": "Hello" });
        let responses = postern.post("/api/broadcast", &body).json()["result"]["responses"].clone();
        assert_eq!(responses.as_array().map(Vec::len), Some(COUNT), "{runtime}");
        // A request overtakes no publication.
        postern.post("/api/disconnect", &json!({ "user": "3" }));
        for client in &mut clients {
            for offset in 1..=COUNT {
                assert_eq!(client.next()["push"]["pub"]["offset"], offset, "{runtime}");
            }
        }
        let [first, _, last] = &mut clients;
        assert_eq!(last.open.close_code(), 3503, "{runtime}");
        first.publish("news", json!("after"));
    }
}
