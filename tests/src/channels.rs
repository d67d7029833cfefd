//! A client of the protocol of channels, in JSON.

use serde_json::{Value, json};

use crate::postern::Postern;
use crate::ws::{Handshake, Open};

/// A client that has sent commands.
#[derive(Debug)]
pub struct Client {
    /// Its connection.
    pub open: Open,
    replies: Vec<Value>,
}

impl Client {
    /// Connects as a user.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn connect(postern: &Postern, id: &str, name: &str) -> Client {
        let (client, reply) = Client::connect_with(handshake(postern, id, name), json!({}));
        assert!(!reply["connect"]["version"].as_str().unwrap_or_default().is_empty(), "{reply}");
        client
    }

    /// Connects as a user, without pings of the protocol. The client may then stop reading, if `POSTERN_PING_INTERVAL=0` turns the
    /// pings of WebSocket off.
    ///
    /// # Panics
    ///
    /// As [`connect`](Client::connect).
    #[track_caller]
    pub fn without_pings(postern: &Postern, id: &str, name: &str) -> Client {
        let target = "/connection/websocket?cf_ws_frame_ping_pong=true";
        Client::connect_with(handshake(postern, id, name).target(target), json!({})).0
    }

    /// Opens a connection, sends `connect` with these fields, and returns the reply.
    ///
    /// # Panics
    ///
    /// If no reply arrives.
    #[track_caller]
    pub fn connect_with(handshake: Handshake, fields: Value) -> (Client, Value) {
        let mut client = Client { open: handshake.open(), replies: Vec::new() };
        let reply = client.call(json!({ "id": 1, "connect": fields }));
        assert_eq!(reply["id"], 1, "{reply}");
        (client, reply)
    }

    /// Sends commands in one message.
    pub fn send(&mut self, commands: &[Value]) {
        let lines: Vec<String> = commands.iter().map(Value::to_string).collect();
        self.open.send(lines.join("\n"));
    }

    /// Returns the next reply or push. Pings of the protocol are answered.
    ///
    /// # Panics
    ///
    /// If there is none, or it is not JSON.
    #[track_caller]
    #[expect(clippy::should_implement_trait, reason = "a client is not an iterator: it waits")]
    pub fn next(&mut self) -> Value {
        loop {
            if self.replies.is_empty() {
                let message = self.open.receive().into_text().expect("a text");
                self.replies =
                    message.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            }
            let message = self.replies.remove(0);
            if message != json!({}) {
                return message;
            }
            self.send(&[json!({})]);
        }
    }

    /// Makes messages the next ones that [`next`](Client::next) returns.
    pub fn put_back(&mut self, messages: Vec<Value>) {
        self.replies.splice(0..0, messages);
    }

    /// Sends a command, and returns the next reply or push.
    ///
    /// # Panics
    ///
    /// As [`next`](Client::next).
    #[track_caller]
    pub fn call(&mut self, command: Value) -> Value {
        self.send(&[command]);
        self.next()
    }

    /// Subscribes to a channel, and returns the result.
    ///
    /// # Panics
    ///
    /// If the next message is not the reply.
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str) -> Value {
        self.subscribe_with(json!({ "channel": channel }))
    }

    /// Subscribes with these fields, and returns the result.
    ///
    /// # Panics
    ///
    /// If the next message is not the reply.
    #[track_caller]
    pub fn subscribe_with(&mut self, fields: Value) -> Value {
        let reply = self.call(json!({ "id": 2, "subscribe": fields }));
        assert_eq!(reply["id"], 2, "{reply}");
        reply["subscribe"].clone()
    }

    /// Publishes, and waits for the reply. Returns the publications that precede it.
    ///
    /// # Panics
    ///
    /// If the publication is refused, or as [`next`](Client::next).
    #[track_caller]
    pub fn publish(&mut self, channel: &str, data: Value) -> Vec<Value> {
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

/// Returns the handshake of a user at the path of channels.
pub fn handshake(postern: &Postern, id: &str, name: &str) -> Handshake {
    let handshake = postern.handshake().target("/connection/websocket");
    handshake.header("User-ID", id).header("User-Name", name)
}
