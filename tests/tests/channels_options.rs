//! Options of channels over real sockets, on both binaries.

use std::fs;

use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Open;
use serde_json::{Value, json};

/// A client that has sent commands, in JSON.
struct Client {
    open: Open,
    replies: Vec<Value>,
}

impl Client {
    fn connect(postern: &Postern, id: &str) -> Client {
        let handshake = postern.handshake().target("/connection/websocket");
        let open = handshake.header("User-ID", id).header("User-Name", "John Doe").open();
        let mut client = Client { open, replies: Vec::new() };
        let reply = client.call(json!({ "id": 1, "connect": {} }));
        assert!(reply["connect"].is_object(), "{reply}");
        client
    }

    fn send(&mut self, commands: &[Value]) {
        let lines: Vec<String> = commands.iter().map(Value::to_string).collect();
        self.open.send(lines.join("\n"));
    }

    /// Returns the next reply or push.
    fn next(&mut self) -> Value {
        if self.replies.is_empty() {
            let message = self.open.receive().into_text().expect("a text");
            self.replies = message.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        }
        self.replies.remove(0)
    }

    /// Sends a command, and returns the next reply or push.
    fn call(&mut self, command: Value) -> Value {
        self.send(&[command]);
        self.next()
    }

    /// Subscribes, and returns the result.
    fn subscribe(&mut self, request: Value) -> Value {
        let reply = self.call(json!({ "id": 2, "subscribe": request }));
        assert!(reply["subscribe"].is_object(), "{reply}");
        reply["subscribe"].clone()
    }

    /// Publishes, and waits for the reply. Returns the publications that precede it.
    fn publish(&mut self, channel: &str, data: Value) -> Vec<Value> {
        self.send(&[json!({ "id": 3, "publish": { "channel": channel, "data": data } })]);
        let mut publications = Vec::new();
        loop {
            let reply = self.next();
            if reply["id"] == 3 {
                assert_eq!(reply, json!({ "id": 3, "publish": {} }));
                return publications;
            }
            publications.push(reply["push"]["pub"].clone());
        }
    }
}

/// Starts a binary with a channels file.
fn start(runtime: Runtime, namespaces: &str, settings: &[(&str, &str)]) -> (Postern, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("channels.toml");
    fs::write(&file, namespaces).expect("the file is written");
    let file = file.to_str().expect("UTF-8");
    let settings =
        [&[("POSTERN_CHANNELS_FILE", file), ("POSTERN_PERSONAL_CHANNEL", "off")], settings].concat();
    (Postern::start(runtime, &settings), folder)
}

#[test]
fn commands_that_end_and_begin_a_subscription_are_answered_in_their_order() {
    let namespaces = "[without_namespace]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\npresence = true\nallow_presence_for_client = true\n";
    for runtime in Runtime::BOTH {
        let (postern, _folder) = start(runtime, namespaces, &[]);
        let mut john = Client::connect(&postern, "123");
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
        let mut jane = Client::connect(&postern, "7");
        jane.send(&[subscribe(10), unsubscribe(11), subscribe(12)]);
        drop(jane);
        let mut count = json!(2);
        for _ in 0..200 {
            count = stats(&mut john)["presence_stats"]["num_clients"].clone();
            if count == 1 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(count, 1, "{runtime}");
    }
}

#[test]
fn a_connection_does_not_get_its_own_publications() {
    let namespaces = "[without_namespace]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\nexclude_publisher = true\n";
    for runtime in Runtime::BOTH {
        let (postern, _folder) = start(runtime, namespaces, &[]);
        // Two connections of the same user.
        let mut connections = [Client::connect(&postern, "123"), Client::connect(&postern, "123")];
        for client in &mut connections {
            client.subscribe(json!({ "channel": "a" }));
        }
        let [john, other] = &mut connections;
        assert_eq!(john.publish("a", json!(1)), Vec::<Value>::new(), "{runtime}");
        let received = other.publish("a", json!(2));
        assert_eq!(received.iter().map(|publication| &publication["data"]).collect::<Vec<_>>(), [1]);
        assert_eq!(john.next()["push"]["pub"]["data"], 2, "{runtime}");
    }
}
