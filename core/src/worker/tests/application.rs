//! An application of a third party: a room, in which each message goes to all clients.

use std::collections::BTreeSet;
use std::mem;

use super::*;
use crate::frame::DataKind;
use crate::handshake::Identity;

/// A room. Text that begins with a slash is a command.
#[derive(Debug, Default)]
struct Room {
    keys: BTreeSet<Key>,
    /// The messages for all clients that are not sent yet, and when they are.
    said: Vec<(Instant, String)>,
    effects: VecDeque<String>,
    /// The events, as text.
    seen: Vec<String>,
}

#[derive(Debug, Default)]
struct Guest {
    key: Option<Key>,
    messages: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    Announce(&'static str),
    Whisper(Key, &'static [u8]),
    Expel(Key),
    /// Ask how many messages this client has sent.
    Count(Key),
}

impl Application for Room {
    type Client = Guest;
    type Inbound = Request;
    type Effect = String;

    fn opened(
        &mut self,
        client: &mut Guest,
        opening: &Opening<'_>,
        reply: &mut Reply<'_, '_, '_>,
        _: &mut impl Recorder,
    ) {
        let Opening { connection, identity, path, path_index, query, subprotocol, .. } = *opening;
        let format = query.get("format");
        self.seen.push(format!(
            "{connection} {} at {path} ({path_index}), {format:?}, {subprotocol:?}",
            identity.id()
        ));
        client.key = Some(opening.key);
        self.keys.insert(opening.key);
        if query.get("banned").is_some() {
            return reply.close(CloseCode(4001), "banned");
        }
        reply.text("welcome").expect("an open session");
    }

    fn message<'b>(
        &mut self,
        client: &mut Guest,
        message: Message<'_, 'b>,
        reply: &mut Reply<'_, '_, 'b>,
        recorder: &mut impl Recorder,
    ) {
        client.messages += 1;
        if message.kind == DataKind::Binary {
            // A large payload is sent from the read buffer, between two small messages.
            reply.binary(b"<").expect("an open session");
            reply.send(message.kind, message.payload).expect("an open session");
            return reply.binary(b">").expect("an open session");
        }
        let text = String::from_utf8(message.payload.to_vec()).expect("UTF-8");
        match text.strip_prefix('/').and_then(|command| command.split_once(' ')) {
            Some(("later", text)) => self.said.push((reply.now() + Duration::from_secs(5), text.to_owned())),
            Some(("effect", text)) => self.effects.push_back(text.to_owned()),
            Some(("leave", reason)) => reply.close(CloseCode(4000), reason),
            _ => {
                message.record(recorder);
                self.said.push((reply.now(), text));
            }
        }
    }

    fn closed(&mut self, key: Key, client: Guest, identity: &Identity, fanout: &mut Fanout<'_, Room>) {
        assert_eq!(client.key, Some(key));
        assert!(fanout.client(key).is_none() && self.keys.remove(&key));
        let left = format!("{} left after {} messages", identity.id(), client.messages);
        self.tell_all(&left, fanout);
    }

    fn closing(
        _: &mut Guest,
        identity: &Identity,
        close: &mut ServerClose<'_>,
        reply: &mut Reply<'_, '_, '_>,
    ) {
        reply.text(&format!("{}: {}", identity.id(), close.reason)).expect("an open session");
        close.code = CloseCode(3000 + u16::from(close.reconnect_after.is_some()));
        close.reason = "server";
    }

    fn inbound(&mut self, event: Request, fanout: &mut Fanout<'_, Room>, _: &mut impl Recorder) {
        let result = match event {
            Request::Announce(text) => self.tell_all(text, fanout),
            Request::Whisper(key, bytes) => usize::from(fanout.send(key, Outgoing::Binary(bytes))),
            Request::Expel(key) => usize::from(fanout.close(key, CloseCode(4002), "expelled")),
            Request::Count(key) => fanout.client(key).map_or(0, |(client, _)| client.messages),
        };
        self.seen.push(result.to_string());
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.said.iter().map(|(at, _)| *at).min()
    }

    fn handle_timeout(&mut self, fanout: &mut Fanout<'_, Room>, _: &mut impl Recorder) {
        let now = fanout.now();
        let (due, later) = mem::take(&mut self.said).into_iter().partition(|(at, _)| *at <= now);
        self.said = later;
        let due: Vec<(Instant, String)> = due;
        for (_, text) in due {
            self.tell_all(&text, fanout);
        }
    }

    fn poll_effect(&mut self) -> Option<String> {
        self.effects.pop_front()
    }
}

impl Room {
    /// Sends to all clients. Returns how many got it.
    fn tell_all(&self, text: &str, fanout: &mut Fanout<'_, Room>) -> usize {
        let frame = fanout.frame(DataKind::Text, text.as_bytes());
        self.keys.iter().filter(|&&key| fanout.deliver(key, frame)).count()
    }
}

fn room(config: WorkerConfig) -> Runtime<Room> {
    Runtime::with_application(Room::default(), config)
}

/// Admits a user with this target, and checks that the 101 and the welcome arrive.
fn enter(runtime: &mut Runtime<Room>, target: &str) -> Key {
    let key = runtime.open();
    runtime.feed(key, HEAD.replace("/ws", target).as_bytes());
    let wire = runtime.take_wire(key);
    assert!(wire.starts_with(b"HTTP/1.1 101 ") && wire.ends_with(b"\r\n\r\n\x81\x07welcome"));
    key
}

/// A room with three clients.
fn full_room() -> (Runtime<Room>, [Key; 3]) {
    let mut runtime = room(WorkerConfig::default());
    let keys = [(); 3].map(|()| enter(&mut runtime, "/ws"));
    (runtime, keys)
}

fn say(runtime: &mut Runtime<Room>, key: Key, text: &str) {
    runtime.feed(key, &frame(0x81, text.as_bytes()));
}

/// Handles what is due, and takes what each of the connections got.
fn heard<const N: usize>(runtime: &mut Runtime<Room>, keys: [Key; N]) -> [Vec<u8>; N] {
    runtime.wait(Duration::ZERO);
    keys.map(|key| runtime.take_wire(key))
}

/// Returns a frame of the server.
fn text(text: &str) -> Vec<u8> {
    [&[0x81, text.len() as u8], text.as_bytes()].concat()
}

#[test]
fn an_application_learns_what_the_request_said() {
    let handshake = HandshakeConfig {
        paths: vec!["/ws".to_owned(), "/rooms/*".to_owned()],
        subprotocols: vec!["room.v1".to_owned()],
        ..HandshakeConfig::default()
    };
    let mut runtime = room(WorkerConfig { handshake, ..WorkerConfig::default() });
    enter(&mut runtime, "/ws");
    enter(&mut runtime, "/rooms/a?x=1&format=protobuf");
    let key = runtime.open();
    let offer = "GET /ws?format HTTP/1.1\r\nSec-WebSocket-Protocol: other, room.v1\r\n";
    runtime.feed(key, HEAD.replace("GET /ws HTTP/1.1\r\n", offer).as_bytes());
    let seen = [
        "1 123 at /ws (0), None, None",
        r#"2 123 at /rooms/a (1), Some("protobuf"), None"#,
        r#"3 123 at /ws (0), Some(""), Some("room.v1")"#,
    ];
    assert_eq!(runtime.worker.application().seen, seen);
}

#[test]
fn a_client_that_is_not_welcome_gets_a_close_after_the_101() {
    let mut runtime = room(WorkerConfig::default());
    let key = runtime.open();
    let request = [HEAD.replace("/ws", "/ws?banned").as_bytes(), &frame(0x81, b"hello")].concat();
    runtime.feed(key, &request);
    assert!(runtime.wire(key).ends_with(b"\r\n\r\n\x88\x08\x0f\xa1banned"));
    assert!(runtime.worker.application().said.is_empty(), "its messages are discarded");
    runtime.end(key);
    assert_eq!(runtime.recorder.0.len(), 2);
    assert!(runtime.recorder.0[1].starts_with("closed 123 Closed(CloseCode(4001)) "));
    assert!(runtime.worker.is_empty() && runtime.worker.application().keys.is_empty());
}

#[test]
fn a_message_goes_to_all_clients_once_in_order() {
    let (mut runtime, keys) = full_room();
    say(&mut runtime, keys[0], "first");
    say(&mut runtime, keys[1], "second");
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now));
    let expected = [text("first"), text("second")].concat();
    assert_eq!(heard(&mut runtime, keys), [expected.clone(), expected.clone(), expected]);
    assert!(runtime.worker.frames.is_empty() && runtime.worker.memory_held() == 0);
    assert_ne!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now));
    let recorded = runtime.recorder.0.iter().filter(|note| note.starts_with("message"));
    assert_eq!(recorded.collect::<Vec<_>>(), ["message text first from 123", "message text second from 123"]);
}

#[test]
fn what_is_said_later_is_sent_when_its_time_has_come() {
    let (mut runtime, keys) = full_room();
    say(&mut runtime, keys[0], "/later hello");
    assert_eq!(runtime.worker.poll_timeout(runtime.now), Some(runtime.now + Duration::from_secs(5)));
    runtime.wait(Duration::from_millis(4999));
    assert!(heard(&mut runtime, keys).concat().is_empty());
    runtime.wait(Duration::from_millis(1));
    assert_eq!(heard(&mut runtime, keys), [(); 3].map(|()| text("hello")));
    assert!(!runtime.recorder.0.iter().any(|note| note.starts_with("message")), "it records what it wants");
}

#[test]
fn events_and_effects_pass_between_the_application_and_its_process() {
    let (mut runtime, keys) = full_room();
    say(&mut runtime, keys[0], "/effect a");
    say(&mut runtime, keys[0], "/effect b");
    let effects: Vec<_> = std::iter::from_fn(|| runtime.worker.poll_effect()).collect();
    let [a, b] = ["a", "b"].map(|effect| WorkerEffect::Application(effect.to_owned()));
    assert_eq!(effects, [a, b]);
    runtime.worker.application.seen.clear();
    let gone = Key(99);
    for event in [
        Request::Announce("x"),
        Request::Whisper(keys[1], b"y"),
        Request::Count(keys[0]),
        Request::Whisper(gone, b"z"),
        Request::Expel(gone),
        Request::Count(gone),
    ] {
        runtime.worker.handle_message(WorkerMessage::Application(event), runtime.now, &mut runtime.recorder);
    }
    assert_eq!(runtime.worker.application().seen, ["3", "1", "2", "0", "0", "0"]);
    let expected = [text("x"), [&text("x")[..], b"\x82\x01y"].concat(), text("x")];
    assert_eq!(heard(&mut runtime, keys), expected);
    assert!(runtime.worker.frames.is_empty(), "a frame without a receiver is removed");
}

#[test]
fn an_application_closes_with_a_code_of_its_own() {
    let (mut runtime, keys) = full_room();
    say(&mut runtime, keys[0], "/leave bye");
    assert_eq!(runtime.wire(keys[0]), b"\x88\x05\x0f\xa0bye");
    runtime.worker.application.seen.clear();
    for event in
        [Request::Announce("x"), Request::Expel(keys[1]), Request::Expel(keys[1]), Request::Announce("y")]
    {
        runtime.worker.handle_message(WorkerMessage::Application(event), runtime.now, &mut runtime.recorder);
    }
    assert_eq!(runtime.worker.application().seen, ["2", "1", "0", "1"], "nothing follows a Close");
    let [_, expelled, other] = heard(&mut runtime, keys);
    assert_eq!(expelled, [&text("x")[..], b"\x88\x0a\x0f\xa2expelled"].concat());
    assert_eq!(other, [text("x"), text("y")].concat());
    // They do not answer, and end after some time.
    (0..10).for_each(|_| runtime.wait(Duration::from_secs(1)));
    assert_eq!(runtime.worker.len(), 1);
    assert_eq!(
        heard(&mut runtime, [keys[2]])[0],
        [text("123 left after 1 messages"), text("123 left after 0 messages")].concat()
    );
}

#[test]
fn the_server_closes_as_the_application_says() {
    let (mut runtime, keys) = full_room();
    assert_eq!(runtime.worker.disconnect(&Selector::All, CloseCode(4403), "revoked", runtime.now), 3);
    let expected = [&text("123: revoked")[..], b"\x88\x08\x0b\xb8server"].concat();
    assert_eq!(heard(&mut runtime, keys), [(); 3].map(|()| expected.clone()));

    let (mut runtime, keys) = full_room();
    say(&mut runtime, keys[0], "/leave bye");
    runtime.worker.shut_down();
    let expected = [&text("123: going away")[..], b"\x88\x08\x0b\xb9server"].concat();
    assert_eq!(
        heard(&mut runtime, keys),
        [b"\x88\x05\x0f\xa0bye".to_vec(), expected.clone(), expected],
        "a Close is sent once"
    );
    for key in keys {
        runtime.feed(key, &frame(0x88, b""));
    }
    let ended = runtime.recorder.0.iter().filter(|note| note.starts_with("closed"));
    let codes: Vec<_> = ended.map(|note| note.split_once(" Traffic").expect("an end").0).collect();
    assert_eq!(
        codes,
        [
            "closed 123 Closed(CloseCode(4000))",
            "closed 123 Closed(CloseCode(3001))",
            "closed 123 Closed(CloseCode(3001))"
        ]
    );
}

#[test]
fn a_client_that_does_not_answer_pings_is_closed_as_the_application_says() {
    let (mut runtime, [key, ..]) = full_room();
    for _ in 0..80 {
        runtime.wait(Duration::from_millis(500));
    }
    let wire = runtime.wire(key);
    let end = [&text("123: no pong")[..], b"\x88\x08\x0b\xb8server"].concat();
    assert!(wire.ends_with(&end), "{}", wire.escape_ascii());
}

#[test]
fn a_slow_client_is_closed_as_the_application_says() {
    let session = Arc::new(SessionConfig { max_backlog: 100, ..SessionConfig::default() });
    let mut runtime = room(WorkerConfig { session, ..WorkerConfig::default() });
    let keys = [(); 2].map(|()| enter(&mut runtime, "/ws"));
    runtime.takes = 0;
    let long = "x".repeat(60);
    for _ in 0..3 {
        say(&mut runtime, keys[0], &long);
        runtime.wait(Duration::ZERO);
    }
    runtime.takes = usize::MAX;
    keys.iter().for_each(|&key| runtime.flush(key));
    let expected =
        [&text(&long)[..], &text(&long), &text("123: slow consumer"), b"\x88\x08\x0b\xb8server"].concat();
    assert_eq!(heard(&mut runtime, keys), [expected.clone(), expected]);
}

#[test]
fn a_client_that_leaves_in_the_middle_gets_nothing_and_its_key_belongs_to_another() {
    let (mut runtime, keys) = full_room();
    say(&mut runtime, keys[0], "before");
    // The message is in the room, and the socket of a receiver fails before the room sends it.
    runtime.fail(keys[1]);
    let again = enter(&mut runtime, "/ws");
    assert_eq!(again, keys[1], "the key is used again");
    let left = text("123 left after 0 messages");
    let both = [&left[..], &text("before")].concat();
    assert_eq!(heard(&mut runtime, keys), [both.clone(), text("before"), both]);
    // One leaves with output that its socket has not accepted.
    runtime.takes = 0;
    say(&mut runtime, keys[0], "lost");
    runtime.wait(Duration::ZERO);
    assert!(!runtime.worker.frames.is_empty());
    runtime.fail(keys[2]);
    runtime.takes = usize::MAX;
    runtime.flush(keys[0]);
    runtime.flush(again);
    let rest = [text("lost"), left].concat();
    assert_eq!(heard(&mut runtime, [keys[0], again]), [rest.clone(), rest]);
    assert!(runtime.worker.frames.is_empty() && runtime.worker.memory_held() == 0);
}

#[test]
fn each_client_has_its_own_state() {
    let (mut runtime, keys) = full_room();
    for (count, &key) in keys.iter().enumerate() {
        (0..count).for_each(|_| say(&mut runtime, key, "a"));
    }
    runtime.worker.application.seen.clear();
    for key in keys {
        runtime.worker.handle_message(
            WorkerMessage::Application(Request::Count(key)),
            runtime.now,
            &mut runtime.recorder,
        );
    }
    assert_eq!(runtime.worker.application().seen, ["0", "1", "2"]);
}

#[test]
fn compressed_and_plain_clients_get_the_same_message() {
    let handshake = HandshakeConfig { compression: true, ..HandshakeConfig::default() };
    let mut runtime = room(WorkerConfig { handshake, ..WorkerConfig::default() });
    let plain = enter(&mut runtime, "/ws");
    let compressed = runtime.open();
    let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    runtime.feed(compressed, HEAD.replace("\r\n\r\n", offer).as_bytes());
    runtime.take_wire(compressed);
    let long = "abc".repeat(40);
    for _ in 0..2 {
        say(&mut runtime, plain, &long);
    }
    let [whole, short] = heard(&mut runtime, [plain, compressed]);
    assert_eq!(whole, text(&long).repeat(2));
    let (first, second) = short.split_at(short.len() / 2);
    assert_eq!((first, first[0]), (second, 0xc1), "two equal frames with RSV1");
    assert!(usize::from(first[1]) == first.len() - 2 && first.len() < 20);
    assert_eq!(runtime.worker.memory_held(), 0);
}

#[test]
fn a_large_payload_is_shared_between_other_replies() {
    let (mut runtime, [key, ..]) = full_room();
    let large = vec![7; 10_000];
    let mut masked = frame(0x82, &large);
    masked.extend_from_slice(&frame(0x82, b"small"));
    let mut socket = ModelSocket::with(&masked);
    let now = runtime.now;
    runtime.worker.on_readable(key, now, &mut vec![0; 32_000], &mut socket, &mut runtime.recorder);
    let expected: &[&[u8]] =
        &[b"\x82\x01<\x82\x7e\x27\x10", &large, b"\x82\x01>\x82\x01<\x82\x05small\x82\x01>"];
    assert!(socket.sent == expected.concat());
    assert_eq!(socket.sends, 1);
}

#[test]
fn the_state_of_the_echo_application_takes_no_memory() {
    assert_eq!(size_of::<<Echo as Application>::Client>() + size_of::<Echo>(), 0);
    assert!(size_of::<Connection<Room>>() >= size_of::<Connection<Echo>>() + size_of::<Guest>());
}
