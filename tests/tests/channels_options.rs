//! Options of channels over real sockets, on both binaries.

use std::thread;
use std::time::{Duration, Instant};

use centrifuge_client_core::codec::{self, Protocol};
use centrifuge_client_core::{delta, proto};
use postern_tests::channels::Client;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Open;
use serde_json::{Value, json};
use tungstenite::Message;

/// Starts a binary with a channels file.
fn start(runtime: Runtime, namespaces: &str, settings: &[(&str, &str)]) -> Postern {
    let settings = [&[("POSTERN_PERSONAL_CHANNEL", "off")], settings].concat();
    Postern::with(runtime, &settings).channels(namespaces).control().start()
}

#[test]
fn commands_that_end_and_begin_a_subscription_are_answered_in_their_order() {
    let namespaces = "[without_namespace]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\npresence = true\nallow_presence_for_client = true\n";
    for runtime in Runtime::BOTH {
        let postern = start(runtime, namespaces, &[]);
        let mut john = Client::connect(&postern, "123", "John Doe");
        let (subscribe, unsubscribe) = (
            |id| json!({ "id": id, "subscribe": { "channel": "a" } }),
            |id| json!({ "id": id, "unsubscribe": { "channel": "a" } }),
        );
        let publish = |id| json!({ "id": id, "publish": { "channel": "a", "data": id } });
        john.send(&[
            subscribe(10),
            subscribe(11),
            unsubscribe(12),
            publish(13),
            unsubscribe(14),
            subscribe(15),
            publish(16),
        ]);
        let mut replies: Vec<Value> = (0..8).map(|_| john.next()).collect();
        // These are answered without the channels of the node.
        let (early, late): (Vec<Value>, Vec<Value>) =
            replies.drain(..).partition(|reply| reply["id"] == 11 || reply["id"] == 14);
        assert_eq!(early[0]["error"]["code"], 105, "{runtime}");
        assert_eq!(early[1], json!({ "id": 14, "unsubscribe": {} }));
        let expected = [
            json!({ "id": 10, "subscribe": {} }),
            json!({ "id": 12, "unsubscribe": {} }),
            json!({ "id": 13, "publish": {} }),
            json!({ "id": 15, "subscribe": {} }),
        ];
        assert_eq!(late[..4], expected, "{runtime}");
        assert_eq!(late[4]["push"]["pub"]["data"], 16, "{runtime}");
        assert_eq!(late[5], json!({ "id": 16, "publish": {} }), "{runtime}");
        let stats =
            |client: &mut Client| client.call(json!({ "id": 17, "presence_stats": { "channel": "a" } }));
        assert_eq!(stats(&mut john)["presence_stats"]["num_clients"], 1);

        // A connection that ends leaves its channels.
        let mut jane = Client::connect(&postern, "7", "John Doe");
        jane.send(&[subscribe(10), unsubscribe(11), subscribe(12)]);
        drop(jane);
        let mut count = json!(2);
        for _ in 0..200 {
            count = stats(&mut john)["presence_stats"]["num_clients"].clone();
            if count == 1 {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(count, 1, "{runtime}");
    }
}

#[test]
fn a_connection_does_not_get_its_own_publications() {
    let namespaces = "[without_namespace]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\nexclude_publisher = true\n";
    for runtime in Runtime::BOTH {
        let postern = start(runtime, namespaces, &[]);
        // Two connections of the same user.
        let mut connections =
            [Client::connect(&postern, "123", "John Doe"), Client::connect(&postern, "123", "John Doe")];
        for client in &mut connections {
            client.subscribe_with(json!({ "channel": "a" }));
        }
        let [john, other] = &mut connections;
        assert_eq!(john.publish("a", json!(1)), Vec::<Value>::new(), "{runtime}");
        let received = other.publish("a", json!(2));
        assert_eq!(received.iter().map(|publication| &publication["data"]).collect::<Vec<_>>(), [1]);
        assert_eq!(john.next()["push"]["pub"]["data"], 2, "{runtime}");
    }
}

/// A client that has sent commands, in Protobuf. The codec is the one of an SDK.
struct ProtobufClient {
    open: Open,
    replies: Vec<proto::Reply>,
}

impl ProtobufClient {
    fn connect(postern: &Postern, id: &str) -> ProtobufClient {
        let handshake = postern.handshake().target("/connection/websocket?cf_protocol=protobuf");
        let open = handshake.header("User-ID", id).header("User-Name", "John Doe").open();
        let mut client = ProtobufClient { open, replies: Vec::new() };
        client.send(proto::Command { id: 1, connect: Some(Default::default()), ..Default::default() });
        assert!(client.next().connect.is_some());
        client
    }

    fn send(&mut self, command: proto::Command) {
        let mut message = Vec::new();
        codec::encode_commands(Protocol::Protobuf, &[command], &mut message).expect("a command");
        self.open.send(message);
    }

    fn next(&mut self) -> proto::Reply {
        if self.replies.is_empty() {
            let message = self.open.receive().into_data();
            self.replies = codec::decode_frame(Protocol::Protobuf, message, usize::MAX).expect("replies");
        }
        self.replies.remove(0)
    }

    fn subscribe(&mut self, subscribe: proto::SubscribeRequest) -> proto::SubscribeResult {
        self.send(proto::Command { id: 2, subscribe: Some(subscribe), ..Default::default() });
        let reply = self.next();
        reply.subscribe.unwrap_or_else(|| panic!("{:?}", reply.error))
    }

    fn publication(&mut self) -> proto::Publication {
        self.next().push.and_then(|push| push.r#pub).expect("a publication")
    }
}

/// The state of a subscriber with deltas.
#[derive(Default)]
struct Decoded {
    data: Vec<u8>,
    deltas: usize,
}

impl Decoded {
    /// Handles a publication as an SDK does. Returns its data.
    fn receive(&mut self, data: &[u8], is_delta: bool) -> Value {
        self.deltas += usize::from(is_delta);
        self.data =
            if is_delta { delta::apply(&self.data, data, 1 << 20).expect("a delta") } else { data.into() };
        serde_json::from_slice(&self.data).expect("JSON")
    }

    /// Handles a publication of a JSON connection, whose data is a string.
    fn receive_json(&mut self, publication: &Value) -> Value {
        let data = publication["data"].as_str().unwrap_or_else(|| panic!("no string: {publication}"));
        self.receive(data.as_bytes(), publication["delta"] == true)
    }
}

/// Returns a state of an auction that differs little from the others, and not only in ASCII characters.
fn state(bid: u32) -> Value {
    let who = ["Jörg", "Jürg", "漢字", "漣字"][bid as usize % 4];
    json!({ "auction": 42, "item": "Grüße aus dem Süden: \"Öl\" auf Leinwand \u{1f5bc}", "bid": bid, "bidder": who, "state": "open" })
}

#[test]
fn subscribers_that_ask_for_deltas_get_the_difference_to_the_publication_before() {
    let namespaces = "[without_namespace]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\nhistory_size = 10\nhistory_ttl = \"1m\"\nforce_recovery = true\nallow_history_for_client = true\nexclude_publisher = true\nallowed_delta_types = [\"fossil\"]\ndelta_publish = true\n";
    for runtime in Runtime::BOTH {
        let postern = start(runtime, namespaces, &[]);
        let fossil = || json!({ "channel": "a", "delta": "fossil" });
        let (mut john, mut jane) =
            (Client::connect(&postern, "1", "John Doe"), Client::connect(&postern, "2", "John Doe"));
        let mut plain = Client::connect(&postern, "3", "John Doe");
        let mut binary = ProtobufClient::connect(&postern, "4");
        let epoch = jane.subscribe_with(fossil())["epoch"].clone();
        let subscribed = john.subscribe_with(fossil());
        assert_eq!(subscribed["delta"], true, "{runtime}: {subscribed}");
        assert_eq!(plain.subscribe_with(json!({ "channel": "a" }))["delta"], Value::Null);
        let request = |delta: &str| proto::SubscribeRequest {
            channel: "a".to_owned(),
            delta: delta.to_owned(),
            ..Default::default()
        };
        assert!(binary.subscribe(request("fossil")).delta);
        let [mut at_john, mut at_jane, mut at_binary] = [(); 3].map(|()| Decoded::default());
        for bid in 1..=6 {
            // The connections take turns, and do not get their own publications.
            let publisher = if bid % 3 == 0 { &mut john } else { &mut plain };
            publisher.publish("a", state(bid));
            assert_eq!(at_jane.receive_json(&jane.next()["push"]["pub"]), state(bid), "{runtime}");
            let publication = binary.publication();
            assert_eq!(at_binary.receive(&publication.data, publication.delta), state(bid), "{runtime}");
            if bid % 3 == 0 {
                assert_eq!(plain.next()["push"]["pub"]["data"], state(bid));
            } else {
                let publication = john.next()["push"]["pub"].clone();
                // The publication after its own one is whole.
                assert_eq!(publication["delta"] == true, bid % 3 == 2, "{runtime}: {publication}");
                assert_eq!(at_john.receive_json(&publication), state(bid), "{runtime}");
            }
        }
        assert_eq!((at_jane.deltas, at_binary.deltas, at_john.deltas), (5, 5, 2), "{runtime}");

        // A recovery begins with a whole publication, and the next delta refers to its last one.
        drop(jane);
        let recover =
            json!({ "channel": "a", "delta": "fossil", "recover": true, "offset": 2, "epoch": epoch });
        let mut jane = Client::connect(&postern, "2", "John Doe");
        let result = jane.subscribe_with(recover);
        let publications = result["publications"].as_array().expect("publications").clone();
        let mut at_jane = Decoded::default();
        for (publication, bid) in publications.iter().zip(3..) {
            assert_eq!(at_jane.receive_json(publication), state(bid), "{runtime}: {publication}");
        }
        assert_eq!((publications.len(), at_jane.deltas), (4, 3), "{runtime}: {result}");
        plain.publish("a", state(7));
        assert_eq!(at_jane.receive_json(&jane.next()["push"]["pub"]), state(7), "{runtime}");
        assert_eq!(at_jane.deltas, 4);
        let history = jane.call(json!({ "id": 4, "history": { "channel": "a", "limit": 1 } }));
        assert!(history["history"]["publications"][0]["data"].is_object(), "{history}");

        // Another type does not exist.
        jane.send(&[json!({ "id": 5, "subscribe": { "channel": "b", "delta": "xdelta" } })]);
        assert_eq!(jane.open.close_code(), 3501, "{runtime}");
    }
}

#[test]
fn a_filter_selects_live_and_recovered_publications() {
    let namespaces = "[without_namespace]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\nhistory_size = 10\nhistory_ttl = \"1m\"\nforce_recovery = true\nallow_tags_filter = true\nallowed_delta_types = [\"fossil\"]\n[namespaces.plain]\nallow_subscribe_for_client = true\n";
    for runtime in Runtime::BOTH {
        let postern = start(runtime, namespaces, &[]);
        // Publications of clients have no tags.
        let has = json!({ "key": "lang", "cmp": "ex" });
        let has_not = json!({ "op": "or", "nodes": [has, { "key": "lang", "cmp": "nex" }] });
        let mut clients = [&has, &has_not].map(|filter| {
            let mut client = Client::connect(&postern, "1", "John Doe");
            client.subscribe_with(json!({ "channel": "a", "tf": filter }));
            client
        });
        let mut binary = ProtobufClient::connect(&postern, "2");
        let node = proto::FilterNode {
            key: "lang".into(),
            cmp: "neq".into(),
            val: "en".into(),
            ..Default::default()
        };
        let request = proto::SubscribeRequest { channel: "a".into(), tf: Some(node), ..Default::default() };
        binary.subscribe(request);
        let [none, all] = &mut clients;
        assert_eq!(none.publish("a", json!(1)), Vec::<Value>::new(), "{runtime}");
        assert_eq!(all.next()["push"]["pub"]["data"], 1, "{runtime}");
        assert_eq!(binary.publication().data.as_ref(), b"1", "{runtime}");
        for (filter, expected) in [(&has, 0), (&has_not, 1)] {
            let mut client = Client::connect(&postern, "1", "John Doe");
            let result = client.subscribe_with(json!({ "channel": "a", "tf": filter, "recover": true }));
            assert_eq!(result["recovered"], true, "{runtime}: {result}");
            assert_eq!(
                result["publications"].as_array().map_or(0, Vec::len),
                expected,
                "{runtime}: {result}"
            );
        }

        for request in [
            json!({ "channel": "plain:1", "tf": has }),
            json!({ "channel": "a", "tf": { "key": "lang", "cmp": "like", "val": "en" } }),
            json!({ "channel": "a", "tf": { "op": "not", "nodes": [] } }),
            json!({ "channel": "a", "tf": has, "delta": "fossil" }),
        ] {
            let mut client = Client::connect(&postern, "1", "John Doe");
            let reply = client.call(json!({ "id": 2, "subscribe": request }));
            assert_eq!(reply["error"]["code"], 107, "{runtime}: {request}: {reply}");
        }
    }
}

#[test]
fn a_number_takes_the_place_of_the_name_of_a_channel() {
    let namespaces = "[without_namespace]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\njoin_leave = true\nforce_push_join_leave = true\nallow_channel_compaction = true\n[namespaces.plain]\nallow_subscribe_for_client = true\n";
    for runtime in Runtime::BOTH {
        let postern = start(runtime, namespaces, &[]);
        let mut john = Client::connect(&postern, "1", "John Doe");
        let mut numbers = Vec::new();
        for channel in ["a", "b"] {
            let number = john.subscribe_with(json!({ "channel": channel, "flag": 1 }))["id"].clone();
            assert!(number.as_i64().is_some_and(|number| number > 0), "{runtime}: {number}");
            let join = john.next();
            assert_eq!(
                (&join["push"]["id"], &join["push"]["channel"]),
                (&number, &Value::Null),
                "{runtime}: {join}"
            );
            numbers.push(number);
        }
        assert_ne!(numbers[0], numbers[1]);
        // Without the flag or the option, the reply has no number.
        let mut jane = Client::connect(&postern, "2", "John Doe");
        assert_eq!(jane.subscribe_with(json!({ "channel": "b" }))["id"], Value::Null);
        assert_eq!(jane.next()["push"]["channel"], "b");
        assert_eq!(jane.subscribe_with(json!({ "channel": "plain:1", "flag": 1 }))["id"], Value::Null);
        assert_eq!(john.next()["push"]["id"], numbers[1]);
        let mut binary = ProtobufClient::connect(&postern, "3");
        let request = proto::SubscribeRequest { channel: "a".into(), flag: 1, ..Default::default() };
        let number = binary.subscribe(request).id;
        assert!(binary.next().push.is_some_and(|push| push.join.is_some() && push.id == number));
        john.next();
        jane.publish("a", json!(7));
        let pushed = john.next();
        assert_eq!(
            (&pushed["push"]["id"], &pushed["push"]["pub"]["data"]),
            (&numbers[0], &json!(7)),
            "{runtime}"
        );
        let push = binary.next().push.expect("a push");
        assert!(push.id == number && push.channel.is_empty() && push.r#pub.is_some(), "{push:?}");
    }
}

#[test]
fn a_client_that_publishes_too_often_gets_111() {
    let namespaces = "[namespaces.slow]\nallow_publish_for_client = true\nrate = 3\n[namespaces.fast]\nallow_publish_for_client = true\n";
    for runtime in Runtime::BOTH {
        let postern = start(runtime, namespaces, &[]);
        let mut john = Client::connect(&postern, "1", "John Doe");
        let publish = |channel: &str| json!({ "id": 3, "publish": { "channel": channel, "data": 1 } });
        john.send(&[(); 6].map(|()| publish("slow:1")));
        let refused = (0..6).map(|_| john.next()).filter(|reply| reply["error"]["code"] == 111).count();
        assert!((2..=3).contains(&refused), "{runtime}: {refused}");
        // The rate is of one connection and one namespace.
        assert_eq!(john.call(publish("fast:1")), json!({ "id": 3, "publish": {} }), "{runtime}");
        assert_eq!(
            Client::connect(&postern, "1", "John Doe").call(publish("slow:1")),
            json!({ "id": 3, "publish": {} })
        );
        let reply = john.call(publish("slow:2"));
        if reply["error"]["code"] == 111 {
            assert_eq!(reply["error"]["temporary"], true);
        }
        thread::sleep(Duration::from_millis(500));
        assert_eq!(john.call(publish("slow:1")), json!({ "id": 3, "publish": {} }), "{runtime}");
    }
}

#[test]
fn a_filter_compares_the_tags_of_publications_by_the_api() {
    let namespaces = "[without_namespace]\nallow_subscribe_for_client = true\nallow_tags_filter = true\nallowed_delta_types = [\"fossil\"]\n";
    for runtime in Runtime::BOTH {
        let postern = start(runtime, namespaces, &[]);
        let publish = |params: Value| assert_eq!(postern.post("/api/publish", &params).status, 200);
        let mut filtered = Client::connect(&postern, "1", "John Doe");
        let filter = json!({ "op": "and", "nodes": [
            { "key": "lang", "cmp": "in", "vals": ["en", "de"] }, { "key": "price", "cmp": "gte", "val": "100" } ] });
        filtered.subscribe_with(json!({ "channel": "a", "tf": filter }));
        let mut binary = ProtobufClient::connect(&postern, "2");
        let node =
            proto::FilterNode { key: "lang".into(), cmp: "sw".into(), val: "d".into(), ..Default::default() };
        binary.subscribe(proto::SubscribeRequest {
            channel: "a".into(),
            tf: Some(node),
            ..Default::default()
        });
        let mut fossil = Client::connect(&postern, "3", "John Doe");
        fossil.subscribe_with(json!({ "channel": "a", "delta": "fossil" }));
        for (number, lang, price) in
            [(1, "en", "99.9"), (2, "fr", "200"), (3, "de", "100.0"), (4, "en", "1e3"), (5, "de", "9")]
        {
            let tags = json!({ "lang": lang, "price": price });
            publish(json!({ "channel": "a", "data": state(number), "tags": tags, "delta": number % 2 == 0 }));
        }
        publish(
            json!({ "channel": "a", "data": 6, "tags": { "lang": "en", "price": "12345678901234567890" } }),
        );
        for expected in [state(3), json!(6)] {
            assert_eq!(filtered.next()["push"]["pub"]["data"], expected, "{runtime}");
        }
        for expected in [state(3), state(5)] {
            assert_eq!(binary.publication().data.as_ref(), expected.to_string().as_bytes(), "{runtime}");
        }
        // The publisher decides for each publication if the namespace does not.
        let mut decoded = Decoded::default();
        for number in 1..=5 {
            let publication = fossil.next()["push"]["pub"].clone();
            assert_eq!(publication["delta"] == true, number % 2 == 0, "{runtime}: {publication}");
            assert_eq!(decoded.receive_json(&publication), state(number), "{runtime}");
        }
    }
}

#[test]
fn subscribers_get_the_latest_publication_of_each_interval() {
    let namespaces = "[without_namespace]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\nconflate = \"latest\"\nconflate_interval = \"300ms\"\n";
    for runtime in Runtime::BOTH {
        let postern = start(runtime, namespaces, &[]);
        let (mut john, mut jane) =
            (Client::connect(&postern, "1", "John Doe"), Client::connect(&postern, "2", "John Doe"));
        john.subscribe_with(json!({ "channel": "a" }));
        let begun = Instant::now();
        for number in 1..=20 {
            jane.publish("a", json!(number));
        }
        if begun.elapsed() > Duration::from_millis(250) {
            // The machine is too busy to tell one interval from the next.
            continue;
        }
        let received = [john.next(), john.next()].map(|pushed| pushed["push"]["pub"]["data"].clone());
        assert_eq!(received, [json!(1), json!(20)], "{runtime}");
        assert!(begun.elapsed() >= Duration::from_millis(300), "{runtime}: {:?}", begun.elapsed());
        // After an interval without publications, the next one is delivered at once.
        thread::sleep(Duration::from_millis(700));
        let begun = Instant::now();
        jane.publish("a", json!(21));
        assert_eq!(john.next()["push"]["pub"]["data"], 21, "{runtime}");
        assert!(begun.elapsed() < Duration::from_millis(250), "{runtime}: {:?}", begun.elapsed());
    }
}

/// The number of publications to a client that does not read, each of 48 KiB: more than all buffers hold.
const UNREAD: u64 = 300;

/// Starts a binary with a policy, and publishes to a client that does not read and to one that does. Returns the first one, and
/// another client.
fn outrun(runtime: Runtime, policy: &str, more: &str) -> (Postern, Client, Client) {
    let namespaces = format!(
        "[without_namespace]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\nslow = \"{policy}\"\n{more}"
    );
    let postern =
        start(runtime, &namespaces, &[("POSTERN_MAX_BACKLOG", "256KiB"), ("POSTERN_LOG_MESSAGES", "off")]);
    let [mut slow, mut quick, mut publisher] =
        ["1", "2", "3"].map(|id| Client::connect(&postern, id, "John Doe"));
    let stream = slow.open.socket.get_ref();
    rustix::net::sockopt::set_socket_recv_buffer_size(stream, 16 << 10).expect("a small buffer");
    for client in [&mut slow, &mut quick] {
        client.subscribe_with(json!({ "channel": "a" }));
    }
    let text = "x".repeat(48 << 10);
    for number in 1..=UNREAD {
        publisher.publish("a", json!([number, text]));
        assert_eq!(quick.next()["push"]["pub"]["data"][0], number, "{runtime}, {policy}");
    }
    (postern, slow, publisher)
}

/// Reads the publications that follow each other from 1. Returns the number of the last one, and the first other push.
fn read_in_order(client: &mut Client) -> (u64, Value) {
    let mut last = 0;
    loop {
        let pushed = client.next();
        let number = pushed["push"]["pub"]["data"][0].as_u64();
        if number != Some(last + 1) {
            return (last, pushed);
        }
        last += 1;
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_with_3008() {
    for runtime in Runtime::BOTH {
        let (_postern, mut slow, _publisher) = outrun(runtime, "close", "");
        let close = loop {
            if let Message::Close(Some(frame)) = slow.open.receive() {
                break (u16::from(frame.code), frame.reason.to_string());
            }
        };
        assert_eq!(close, (3008, "slow".to_owned()), "{runtime}");
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_told_of_dropped_publications() {
    let history = "history_size = 1000\nhistory_ttl = \"1m\"\nforce_recovery = true\n";
    for (runtime, more) in Runtime::BOTH.into_iter().flat_map(|runtime| [(runtime, ""), (runtime, history)]) {
        let (_postern, mut slow, mut publisher) = outrun(runtime, "drop", more);
        let (last, pushed) = read_in_order(&mut slow);
        assert!(last > 0 && last < UNREAD, "{runtime}: {last}");
        assert_eq!(pushed["push"]["unsubscribe"]["code"], 2500, "{runtime}: {pushed}");
        // It is not subscribed any more, and can subscribe again.
        let result = slow.subscribe_with(json!({ "channel": "a", "recover": true, "offset": last }));
        assert_eq!(result["was_recovering"], true, "{runtime}: {result}");
        publisher.publish("a", json!([UNREAD + 1]));
        let pushed = slow.next();
        assert_eq!(pushed["push"]["pub"]["data"], json!([UNREAD + 1]), "{runtime}: {pushed}");
    }
}

#[test]
fn a_subscriber_that_does_not_read_gets_the_latest_publication() {
    for runtime in Runtime::BOTH {
        let (_postern, mut slow, mut publisher) = outrun(runtime, "conflate", "");
        // The buffers of the kernel may grow while the client does not read, and take a later one.
        let (mut last, mut count) = (0, 0);
        while last < UNREAD {
            let pushed = slow.next();
            let number = pushed["push"]["pub"]["data"][0].as_u64().expect("a number");
            assert!(number > last, "{runtime}: {number} after {last}");
            (last, count) = (number, count + 1);
        }
        assert!(count < UNREAD, "{runtime}");
        publisher.publish("a", json!([UNREAD + 1]));
        assert_eq!(slow.next()["push"]["pub"]["data"], json!([UNREAD + 1]), "{runtime}");
    }
}
