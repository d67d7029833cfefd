//! Malformed, hostile and unusual messages of clients of channels, over real sockets, on both binaries and in both encodings.
//!
//! Each row of the table has a message, the exact replies, and the Close if there is one. Two other clients, one for each encoding,
//! are subscribed to a channel. After each row the next publication that they get is the one of the test: they neither notice the
//! message nor miss anything.

use centrifuge_client_core::codec::{Protocol, decode_frame};
use centrifuge_client_core::proto::Reply;
use postern_tests::canary::{self, Kind};
use postern_tests::issuer::hs256;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Open;
use serde_json::json;
use tungstenite::Message;

const NAMESPACES: &str = r#"
[without_namespace]
allow_subscribe_for_client = true
allow_publish_for_client = true

[namespaces.small]
allow_publish_for_client = true
max_publication = 10

[namespaces.object]
allow_publish_for_client = true
publication_data_format = "json_object"
"#;

#[test]
fn every_message_has_its_outcome_and_no_other_client_notices_it() {
    for runtime in Runtime::BOTH {
        let secret = canary::mint(Kind::Setting);
        let settings = [
            ("POSTERN_PERSONAL_CHANNEL", "off"),
            ("POSTERN_MAX_CHANNELS", "2"),
            ("POSTERN_MAX_MESSAGE", "64KiB"),
            ("JWT_SECRET", &secret),
        ];
        let postern = Postern::with(runtime, &settings).channels(NAMESPACES).start();
        let mut neighbours = Protocols::BOTH.map(|protocol| {
            let mut neighbour = Client::connected(&postern, protocol);
            neighbour.send(protocol.choose(&json_bytes(SUBSCRIBE_N), &subscribe(2, "n")));
            neighbour.expect(r#"{"id":2,"subscribe":{}}"#, "subscribing");
            neighbour
        });
        let mut publisher = Client::connected(&postern, Protocols::Json);
        let mut probe = 0;
        let rows = rows(&hs256(&secret, &json!({ "sub": "another user" })));
        assert!(rows.len() > 60, "{}", rows.len());
        for row in &rows {
            for (protocol, message) in [(Protocols::Json, &row.json), (Protocols::Protobuf, &row.protobuf)] {
                let Some(message) = message else { continue };
                let name = format!("{runtime}, {protocol:?}: {}", row.name);
                row.check(&postern, protocol, message, &name);
                for data in row.delivered {
                    neighbours.iter_mut().for_each(|it| it.expect_data(data, &name));
                }
                probe += 1;
                publisher
                    .send(&json_bytes(&format!(r#"{{"id":3,"publish":{{"channel":"n","data":{probe}}}}}"#)));
                publisher.expect(r#"{"id":3,"publish":{}}"#, &name);
                neighbours.iter_mut().for_each(|it| it.expect_data(&probe.to_string(), &name));
            }
        }
    }
}

/// A message of a client, and what follows it.
struct Row {
    name: &'static str,
    /// The message in JSON. `None` if there is none with this fault.
    json: Option<Vec<u8>>,
    /// The message in Protobuf.
    protobuf: Option<Vec<u8>>,
    /// Whether the client has connected before.
    is_connected: bool,
    /// The replies, in JSON.
    replies: &'static str,
    /// The code and the reason of the Close.
    close: Option<(u16, &'static str)>,
    /// The data of the publications that the other clients get.
    delivered: &'static [&'static str],
}

impl Row {
    fn new(name: &'static str, json: Option<Vec<u8>>, protobuf: Option<Vec<u8>>) -> Row {
        Row { name, json, protobuf, is_connected: true, replies: "", close: None, delivered: &[] }
    }

    fn both(name: &'static str, json: &str, protobuf: &[u8]) -> Row {
        Row::new(name, Some(json_bytes(json)), Some(protobuf.to_vec()))
    }

    fn json(name: &'static str, json: &str) -> Row {
        Row::new(name, Some(json_bytes(json)), None)
    }

    fn protobuf(name: &'static str, protobuf: &[u8]) -> Row {
        Row::new(name, None, Some(protobuf.to_vec()))
    }

    /// Sends it as the first message of the connection.
    fn first(self) -> Row {
        Row { is_connected: false, ..self }
    }

    fn replies(self, replies: &'static str) -> Row {
        Row { replies, ..self }
    }

    fn closes(self, code: u16, reason: &'static str) -> Row {
        Row { close: Some((code, reason)), ..self }
    }

    /// The connection ends with 3501.
    fn bad_request(self, reason: &'static str) -> Row {
        self.closes(3501, reason)
    }

    fn delivers(self, delivered: &'static [&'static str]) -> Row {
        Row { delivered, ..self }
    }

    fn check(&self, postern: &Postern, protocol: Protocols, message: &[u8], name: &str) {
        let mut client = if self.is_connected {
            Client::connected(postern, protocol)
        } else {
            Client::open(postern, protocol)
        };
        client.send(message);
        if self.close.is_none() {
            // Its reply follows all others, because it comes from the channels of the node.
            let json = br#"{"id":99,"publish":{"channel":"small:last","data":1}}"#;
            client.send(protocol.choose(json, &publish(99, "small:last", b"1")));
        }
        let (mut replies, mut close) = (Vec::new(), None);
        while close.is_none() && replies.last().is_none_or(|reply: &Reply| reply.id != 99) {
            match client.open.receive() {
                Message::Close(frame) => {
                    close = frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                }
                message @ (Message::Text(_) | Message::Binary(_)) => replies.extend(protocol.decode(message)),
                other @ (Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => panic!("{other:?}"),
            }
        }
        let mut expected = decode_lines(self.replies);
        if self.close.is_none() {
            expected.extend(decode_lines(r#"{"id":99,"publish":{}}"#));
        }
        assert_eq!(replies, expected, "{name}");
        assert_eq!(close, self.close.map(|(code, reason)| (code, reason.to_owned())), "{name}");
    }
}

/// Returns the table. `token` is the connection token of another user.
fn rows(token: &str) -> Vec<Row> {
    let long = "c".repeat(255);
    let longer = "c".repeat(256);
    let large = format!("\"{}\"", "d".repeat(70_000));
    vec![
        // The messages that end the connection.
        Row::both("a text that is not a command", "Hello", b"\x05Hello").first().bad_request(FIRST),
        Row::both("a command before connect", RPC_1, &command(1, RPC, b"")).first().bad_request(FIRST),
        Row::both("a pong before connect", "{}", b"\x00").first().bad_request(FIRST),
        Row::both("an empty message before connect", "", b"").first().bad_request(FIRST),
        Row::both("invalid syntax", "{", b"\x05\x08").bad_request(SYNTAX),
        Row::both("an empty message", "", b"").bad_request(EMPTY),
        Row::json("a line feed alone", "\n").bad_request(EMPTY),
        Row::json("spaces alone", " \r\n").bad_request(EMPTY),
        Row::json("an empty line after a command", "{\"id\":1,\"rpc\":{}}\n\n").replies(NOT_AVAILABLE).bad_request(EMPTY),
        Row::json("an empty line between commands", "{\"id\":1,\"rpc\":{}}\n\n{\"id\":2,\"rpc\":{}}")
            .replies(NOT_AVAILABLE)
            .bad_request(EMPTY),
        Row::json("an array", "[]").bad_request(SYNTAX),
        Row::json("a number", "5").bad_request(SYNTAX),
        Row::json("null", "null").bad_request(SYNTAX),
        Row::json("a string", r#""a""#).bad_request(SYNTAX),
        Row::new("bytes that are not UTF-8", Some(b"{\"id\":1,\"rpc\":{},\"a\":\"\xff\"}".to_vec()), None)
            .bad_request(SYNTAX),
        Row::both(
            "a channel of another type",
            r#"{"id":1,"subscribe":{"channel":5}}"#,
            &command(1, SUBSCRIBE, b"\x08\x05"),
        )
        .bad_request(SYNTAX),
        Row::both(
            "a request of another type",
            r#"{"id":1,"subscribe":"a"}"#,
            &delimited(&[number(1, 1), number(SUBSCRIBE, 5)].concat()),
        )
        .bad_request(SYNTAX),
        Row::both("an unknown request", r#"{"id":1,"foo":{}}"#, &command(1, 16, b"")).bad_request(REQUEST),
        Row::both("an id alone", r#"{"id":1}"#, &delimited(&number(1, 1))).bad_request(REQUEST),
        Row::json("a request that is null", r#"{"id":1,"subscribe":null}"#).bad_request(REQUEST),
        Row::both("no id", r#"{"rpc":{}}"#, &delimited(&bytes(RPC, b""))).bad_request(ID),
        Row::both("the id 0", r#"{"id":0,"rpc":{}}"#, &command(0, RPC, b"")).bad_request(ID),
        Row::both(
            "an id of another type",
            r#"{"id":"1","rpc":{}}"#,
            &delimited(&[bytes(1, b"1"), bytes(RPC, b"")].concat()),
        )
        .bad_request(SYNTAX),
        Row::json("a negative id", r#"{"id":-1,"rpc":{}}"#).bad_request(SYNTAX),
        Row::json("an id with a fraction", r#"{"id":1.5,"rpc":{}}"#).bad_request(SYNTAX),
        Row::json("an id of 33 bits", r#"{"id":4294967296,"rpc":{}}"#).bad_request(SYNTAX),
        Row::both("a second connect", r#"{"id":1,"connect":{}}"#, &command(1, CONNECT, b"")).bad_request(CONNECTED),
        Row::both("a pong without a ping", "{}", b"\x00").bad_request("bad request: no ping to answer"),
        Row::both("ping", r#"{"id":1,"ping":{}}"#, &command(1, 11, b"")).bad_request(REQUEST),
        Row::both(
            "an empty channel",
            r#"{"id":1,"subscribe":{"channel":""}}"#,
            &command(1, SUBSCRIBE, &bytes(1, b"")),
        )
        .bad_request(CHANNEL),
        Row::both("no channel", r#"{"id":1,"publish":{"data":1}}"#, &command(1, PUBLISH, &bytes(2, b"1")))
            .bad_request(CHANNEL),
        Row::both("a refresh without a token", r#"{"id":1,"refresh":{}}"#, &command(1, 14, b""))
            .bad_request("bad request: token missing"),
        Row::both(
            "an unknown kind of deltas",
            r#"{"id":1,"subscribe":{"channel":"a","delta":"x"}}"#,
            &command(1, SUBSCRIBE, &[bytes(1, b"a"), bytes(12, b"x")].concat()),
        )
        .bad_request("bad request: unknown delta type"),
        Row::protobuf("a truncated command", b"\x07\x08\x01\x2a\x03\x0aa").bad_request(SYNTAX),
        Row::protobuf("a truncated length", b"\x80").bad_request(SYNTAX),
        Row::protobuf("bytes after a command", &[command(1, RPC, b""), vec![5]].concat())
            .replies(NOT_AVAILABLE)
            .bad_request(SYNTAX),
        Row::both(
            "commands before the fault are executed",
            "{\"id\":1,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":2,\"publish\":{\"channel\":\"n\",\"data\":\"before\"}}\n{",
            &[subscribe(1, "a"), publish(2, "n", b"\"before\""), vec![5]].concat(),
        )
        .delivers(&["\"before\""])
        .replies("{\"id\":1,\"subscribe\":{}}\n{\"id\":2,\"publish\":{}}")
        .bad_request(SYNTAX),
        Row::both(
            "commands after the fault are not executed",
            "{\"id\":1,\"rpc\":{}}\n{\"id\":0,\"rpc\":{}}\n{\"id\":2,\"publish\":{\"channel\":\"n\",\"data\":1}}",
            &[command(1, RPC, b""), command(0, RPC, b""), publish(2, "n", b"1")].concat(),
        )
        .replies(NOT_AVAILABLE)
        .bad_request(ID),
        Row::both("send without a handler", r#"{"send":{"data":1}}"#, &delimited(&bytes(12, &bytes(1, b"1"))))
            .closes(3508, "not available"),
        // Names are exact, and a line has one command.
        Row::json("a name in upper case", r#"{"ID":1,"rpc":{}}"#).bad_request(ID),
        Row::json("a request in upper case", r#"{"id":1,"Rpc":{}}"#).bad_request(REQUEST),
        Row::json("two objects on a line", r#"{"id":1,"rpc":{}}{"id":2,"rpc":{}}"#).bad_request(SYNTAX),
        Row::json("two objects with a space", r#"{"id":1,"rpc":{}} {"id":2,"rpc":{}}"#).bad_request(SYNTAX),
        // The identity of the gateway counts.
        Row::both(
            "the token of another user",
            &format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#),
            &command(1, CONNECT, &bytes(1, token.as_bytes())),
        )
        .first()
        .closes(3500, "invalid token"),
        // The messages that are tolerated.
        Row::both(
            "unknown members",
            r#"{"id":1,"x":[{"y":null}],"rpc":{"z":{}}}"#,
            &delimited(&[number(1, 1), bytes(16, b"x"), number(17, 5), bytes(RPC, &bytes(9, b"x"))].concat()),
        )
        .replies(NOT_AVAILABLE),
        Row::both(
            "repeated members, of which the last counts",
            r#"{"id":5,"id":1,"subscribe":{"channel":"a","channel":"none:a"}}"#,
            &delimited(
                &[number(1, 5), number(1, 1), bytes(SUBSCRIBE, &[bytes(1, b"a"), bytes(1, b"none:a")].concat())]
                    .concat(),
            ),
        )
        .replies(UNKNOWN),
        Row::both(
            "repeated ids",
            "{\"id\":1,\"rpc\":{}}\n{\"id\":1,\"rpc\":{}}",
            &[command(1, RPC, b""), command(1, RPC, b"")].concat(),
        )
        .replies("{\"id\":1,\"error\":{\"code\":108,\"message\":\"not available\"}}\n{\"id\":1,\"error\":{\"code\":108,\"message\":\"not available\"}}"),
        Row::both(
            "several requests, of which one counts",
            r#"{"id":1,"rpc":{},"subscribe":{"channel":"none:a"}}"#,
            &delimited(&[number(1, 1), bytes(RPC, b""), bytes(SUBSCRIBE, &bytes(1, b"none:a"))].concat()),
        )
        .replies(UNKNOWN),
        Row::json("lines that end with CR LF", "{\"id\":1,\"rpc\":{}}\r\n").replies(NOT_AVAILABLE),
        Row::both(
            "unsubscribe from an unknown channel",
            r#"{"id":1,"unsubscribe":{"channel":"a"}}"#,
            &command(1, 6, &bytes(1, b"a")),
        )
        .replies(r#"{"id":1,"unsubscribe":{}}"#),
        // The messages with an error reply.
        Row::both(
            "a channel of 256 bytes",
            &format!(r#"{{"id":1,"subscribe":{{"channel":"{longer}"}}}}"#),
            &subscribe(1, &longer),
        )
        .replies(BAD_REQUEST),
        Row::both(
            "a channel of 255 bytes",
            &format!(r#"{{"id":1,"subscribe":{{"channel":"{long}"}}}}"#),
            &subscribe(1, &long),
        )
        .replies(r#"{"id":1,"subscribe":{}}"#),
        Row::both("a channel that is not ASCII", r#"{"id":1,"subscribe":{"channel":"é"}}"#, &subscribe(1, "é"))
            .replies(BAD_REQUEST),
        Row::both("an unknown namespace", r#"{"id":1,"subscribe":{"channel":"none:a"}}"#, &subscribe(1, "none:a"))
            .replies(UNKNOWN),
        Row::both(
            "a channel more than allowed",
            "{\"id\":1,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":2,\"subscribe\":{\"channel\":\"b\"}}\n{\"id\":3,\"subscribe\":{\"channel\":\"c\"}}",
            &[subscribe(1, "a"), subscribe(2, "b"), subscribe(3, "c")].concat(),
        )
        .replies("{\"id\":3,\"error\":{\"code\":106,\"message\":\"limit exceeded\"}}\n{\"id\":1,\"subscribe\":{}}\n{\"id\":2,\"subscribe\":{}}"),
        Row::both(
            "a second subscribe",
            "{\"id\":1,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}",
            &[subscribe(1, "a"), subscribe(2, "a")].concat(),
        )
        .replies("{\"id\":2,\"error\":{\"code\":105,\"message\":\"already subscribed\"}}\n{\"id\":1,\"subscribe\":{}}"),
        Row::both("no permission", r#"{"id":1,"subscribe":{"channel":"$a"}}"#, &subscribe(1, "$a")).replies(DENIED),
        Row::both(
            "a subscription token that is not one",
            r#"{"id":1,"subscribe":{"channel":"a","token":"x"}}"#,
            &command(1, SUBSCRIBE, &[bytes(1, b"a"), bytes(2, b"x")].concat()),
        )
        .replies(DENIED),
        Row::both(
            "a subscription of another type",
            r#"{"id":1,"subscribe":{"channel":"a","type":1}}"#,
            &command(1, SUBSCRIBE, &[bytes(1, b"a"), number(15, 1)].concat()),
        )
        .replies(NOT_AVAILABLE),
        Row::both(
            "a filter that is not allowed",
            r#"{"id":1,"subscribe":{"channel":"a","tf":{"key":"k","cmp":"ex"}}}"#,
            &command(1, SUBSCRIBE, &[bytes(1, b"a"), bytes(13, &[bytes(2, b"k"), bytes(3, b"ex")].concat())].concat()),
        )
        .replies(BAD_REQUEST),
        Row::both(
            "presence that is off",
            r#"{"id":1,"presence":{"channel":"a"}}"#,
            &command(1, 8, &bytes(1, b"a")),
        )
        .replies(NOT_AVAILABLE),
        Row::both(
            "history that is off",
            r#"{"id":1,"history":{"channel":"a"}}"#,
            &command(1, 10, &bytes(1, b"a")),
        )
        .replies(NOT_AVAILABLE),
        Row::both("a publication without data", r#"{"id":1,"publish":{"channel":"n"}}"#, &publish(1, "n", b""))
            .replies(BAD_REQUEST),
        Row::both(
            "sub_refresh of a channel that is not subscribed",
            r#"{"id":1,"sub_refresh":{"channel":"a","token":"x"}}"#,
            &command(1, 15, &[bytes(1, b"a"), bytes(2, b"x")].concat()),
        )
        .replies(DENIED),
        // Values that would change the replies around them, or that subscribers could not read.
        Row::json(
            "data that closes the command around it",
            r#"{"id":1,"publish":{"channel":"n","data":1}},"push":{"channel":"n","pub":{"data":2}}}"#,
        )
        .bad_request(SYNTAX),
        Row::protobuf(
            "data that closes and reopens the publication around it",
            &publish(1, "n", br#"1}},"push":{"channel":"n","pub":{"data":2"#),
        )
        .replies(BAD_REQUEST),
        Row::protobuf("data that begins another line", &publish(1, "n", b"1}}}\n{\"id\":7,\"rpc\":{}")).replies(BAD_REQUEST),
        Row::protobuf("data that is not JSON", &publish(1, "n", b"Hello")).replies(BAD_REQUEST),
        Row::protobuf("data of two values", &publish(1, "n", b"1 2")).replies(BAD_REQUEST),
        Row::protobuf("data that is not UTF-8", &publish(1, "n", b"\"\xff\"")).replies(BAD_REQUEST),
        Row::protobuf("data of white space", &publish(1, "n", b" ")).replies(BAD_REQUEST),
        Row::both(
            "data of 129 levels",
            &format!(r#"{{"id":1,"publish":{{"channel":"n","data":{}{}}}}}"#, "[".repeat(129), "]".repeat(129)),
            &publish(1, "n", format!("{}{}", "[".repeat(129), "]".repeat(129)).as_bytes()),
        )
        .replies(BAD_REQUEST),
        Row::both(
            "data that is not an object",
            r#"{"id":1,"publish":{"channel":"object:a","data":[1]}}"#,
            &publish(1, "object:a", b"[1]"),
        )
        .replies(BAD_REQUEST),
        Row::json("white space of JSON data", "{\"id\":1,\"publish\":{\"channel\":\"n\",\"data\": { \"a b\" :\t[ 1 ,\r2 ] } }}")
            .replies(PUBLISHED)
            .delivers(&[r#"{"a b":[1,2]}"#]),
        Row::protobuf("white space of Protobuf data", &publish(1, "n", b"{ \"a b\" : [ 1 ] }"))
            .replies(PUBLISHED)
            .delivers(&[r#"{ "a b" : [ 1 ] }"#]),
        Row::protobuf("line breaks of Protobuf data", &publish(1, "n", b"{\r\n \"a b\" : 1\n}"))
            .replies(PUBLISHED)
            .delivers(&[r#"{"a b":1}"#]),
        Row::both(
            "a line separator of Unicode",
            "{\"id\":1,\"publish\":{\"channel\":\"n\",\"data\":\"a\u{2028}b\"}}",
            &publish(1, "n", "\"a\u{2028}b\"".as_bytes()),
        )
        .replies(PUBLISHED)
        .delivers(&["\"a\u{2028}b\""]),
        // The codec of the SDK decodes it as no data.
        Row::both("null is data", r#"{"id":1,"publish":{"channel":"small:a","data":null}}"#, &publish(1, "small:a", b"null"))
            .replies(PUBLISHED),
        Row::both("an empty string is data", r#"{"id":1,"publish":{"channel":"n","data":""}}"#, &publish(1, "n", b"\"\""))
            .replies(PUBLISHED)
            .delivers(&["\"\""]),
        // Limits.
        Row::both(
            "a publication over its limit",
            r#"{"id":1,"publish":{"channel":"small:a","data":"12345678 "}}"#,
            &publish(1, "small:a", br#""12345678 ""#),
        )
        .replies(r#"{"id":1,"error":{"code":106,"message":"limit exceeded"}}"#),
        Row::both(
            "a publication at its limit",
            r#"{"id":1,"publish":{"channel":"small:a","data":"12345678"}}"#,
            &publish(1, "small:a", br#""12345678""#),
        )
        .replies(PUBLISHED),
        Row::both(
            "a message over its limit",
            &format!(r#"{{"id":1,"publish":{{"channel":"n","data":{large}}}}}"#),
            &publish(1, "n", large.as_bytes()),
        )
        .closes(1009, "message too big"),
    ]
}

const SUBSCRIBE_N: &str = r#"{"id":2,"subscribe":{"channel":"n"}}"#;
const RPC_1: &str = r#"{"id":1,"rpc":{}}"#;

const FIRST: &str = r#"bad request: first send {"id":1,"connect":{}}"#;
const EMPTY: &str = "bad request: empty message or line";
const SYNTAX: &str = "bad request: not a command";
const ID: &str = "bad request: id missing";
const REQUEST: &str = "bad request: no request in the command";
const CHANNEL: &str = "bad request: channel missing";
const CONNECTED: &str = "bad request: already connected";

const UNKNOWN: &str = r#"{"id":1,"error":{"code":102,"message":"unknown channel"}}"#;
const DENIED: &str = r#"{"id":1,"error":{"code":103,"message":"permission denied"}}"#;
const BAD_REQUEST: &str = r#"{"id":1,"error":{"code":107,"message":"bad request"}}"#;
const NOT_AVAILABLE: &str = r#"{"id":1,"error":{"code":108,"message":"not available"}}"#;
const PUBLISHED: &str = r#"{"id":1,"publish":{}}"#;

// The fields of commands.
const CONNECT: u8 = 4;
const SUBSCRIBE: u8 = 5;
const PUBLISH: u8 = 7;
const RPC: u8 = 13;

fn json_bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// Returns a command in Protobuf, after its length.
fn command(id: u8, request: u8, body: &[u8]) -> Vec<u8> {
    delimited(&[number(1, id), bytes(request, body)].concat())
}

fn subscribe(id: u8, channel: &str) -> Vec<u8> {
    command(id, SUBSCRIBE, &bytes(1, channel.as_bytes()))
}

fn publish(id: u8, channel: &str, data: &[u8]) -> Vec<u8> {
    command(id, PUBLISH, &[bytes(1, channel.as_bytes()), bytes(2, data)].concat())
}

fn number(field: u8, value: u8) -> Vec<u8> {
    [varint(usize::from(field) << 3), varint(value.into())].concat()
}

fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [varint(usize::from(field) << 3 | 2), delimited(value)].concat()
}

fn delimited(message: &[u8]) -> Vec<u8> {
    [varint(message.len()), message.to_vec()].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The encoding of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocols {
    Json,
    Protobuf,
}

impl Protocols {
    const BOTH: [Protocols; 2] = [Protocols::Json, Protocols::Protobuf];

    fn choose<'m>(self, json: &'m [u8], protobuf: &'m [u8]) -> &'m [u8] {
        match self {
            Protocols::Json => json,
            Protocols::Protobuf => protobuf,
        }
    }

    /// Decodes a message of the server with the codec of an SDK.
    fn decode(self, message: Message) -> Vec<Reply> {
        let protocol = match self {
            Protocols::Json => Protocol::Json,
            Protocols::Protobuf => Protocol::Protobuf,
        };
        assert_eq!(message.is_text(), self == Protocols::Json, "{message:?}");
        decode_frame(protocol, message.into_data(), usize::MAX).expect("replies")
    }
}

fn decode_lines(replies: &str) -> Vec<Reply> {
    if replies.is_empty() { Vec::new() } else { Protocols::Json.decode(Message::text(replies)) }
}

/// A client that sends any bytes.
struct Client {
    open: Open,
    protocol: Protocols,
}

impl Client {
    fn open(postern: &Postern, protocol: Protocols) -> Client {
        let target = match protocol {
            Protocols::Json => "/connection/websocket",
            Protocols::Protobuf => "/connection/websocket?cf_protocol=protobuf",
        };
        let open = postern.handshake().target(target).as_john().open();
        Client { open, protocol }
    }

    fn connected(postern: &Postern, protocol: Protocols) -> Client {
        let mut client = Client::open(postern, protocol);
        client.send(protocol.choose(br#"{"id":1,"connect":{}}"#, &command(1, CONNECT, b"")));
        let replies = protocol.decode(client.open.receive());
        assert!(matches!(&replies[..], [reply] if reply.id == 1 && reply.connect.is_some()), "{replies:?}");
        client
    }

    /// Sends a message, as text if it is UTF-8: the type does not matter.
    fn send(&mut self, message: &[u8]) {
        match std::str::from_utf8(message) {
            Ok(text) if self.protocol == Protocols::Json => self.open.send(text),
            _ => self.open.send(message.to_vec()),
        }
    }

    #[track_caller]
    fn expect(&mut self, replies: &str, name: &str) {
        let message = self.open.receive();
        assert_eq!(self.protocol.decode(message), decode_lines(replies), "{name}");
    }

    /// Expects a publication with this data.
    #[track_caller]
    fn expect_data(&mut self, data: &str, name: &str) {
        let replies = self.protocol.decode(self.open.receive());
        let [Reply { push: Some(push), .. }] = &replies[..] else { panic!("{name}: {replies:?}") };
        let publication = push.r#pub.as_ref().unwrap_or_else(|| panic!("{name}: {push:?}"));
        assert_eq!(
            publication.data.escape_ascii().to_string(),
            data.as_bytes().escape_ascii().to_string(),
            "{name}"
        );
    }
}
