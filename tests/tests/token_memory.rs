//! No copy of a token stays in the memory of Postern after its use, in whichever way a client has sent it.
//!
//! Each test searches all writable memory of the process for the signature of the token, of which 16 bytes in a row are a copy. A
//! token without its signature is refused. Its claims are not secret, and the user that they name stays in memory as long as the
//! connection. docs/credentials.md has the limits.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};
use postern_tests::at_the_same_time;
use postern_tests::canary::{self, Kind};
use postern_tests::channels::Client;
use postern_tests::frames::{FIRST, LAST, TEXT, client};
use postern_tests::http;
use postern_tests::identity::Identity;
use postern_tests::issuer::{Signer, claims_of_john, hs256, key_set, unix_time};
use postern_tests::memory::{self, Copy};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Open};
use serde_json::{Value, json};

const CHANNELS: &str = "/connection/websocket";
/// A path at which a client of echo, or of channels, identifies itself by its first message.
const FIRST_ECHO: &str = "/open";
const FIRST_CHANNELS: &str = "/first";

const SETTINGS: [(&str, &str); 5] = [
    ("JWT_SECRET", Identity::SECRET),
    ("POSTERN_IN_BAND_AUTH", "on"),
    ("POSTERN_COMPRESSION", "on"),
    ("POSTERN_FIRST_MESSAGE_PATH", "/open,/first"),
    ("POSTERN_CHANNELS_PATH", "/connection/websocket,/first"),
];

/// The tokens of a test.
#[derive(Default)]
struct Tokens(RefCell<Vec<String>>);

impl Tokens {
    /// Returns a new token of John, which differs from all others.
    fn next(&self) -> String {
        self.of(&claims(&[]))
    }

    /// Returns a new subscription token of John.
    fn of_channel(&self, channel: &str) -> String {
        self.of(&claims(&[("channel", json!(channel))]))
    }

    fn of(&self, claims: &Value) -> String {
        self.add(hs256(Identity::SECRET, claims))
    }

    fn add(&self, token: String) -> String {
        self.0.borrow_mut().push(token.clone());
        token
    }

    /// Returns the copies of the signatures in the memory of a process.
    #[track_caller]
    fn copies(&self, postern: &Postern) -> Vec<Copy> {
        memory::copies(
            postern.id(),
            &self.0.borrow().iter().map(|token| signature(token)).collect::<Vec<_>>(),
        )
    }
}

fn signature(token: &str) -> Vec<u8> {
    token.rsplit('.').next().unwrap_or_default().as_bytes().to_vec()
}

fn claims(more: &[(&str, Value)]) -> Value {
    let mut claims = json!({
        "sub": "123", "email": "john@example.com", "name": "John Doe", "sid": "s-1", "jti": canary::mint(Kind::Token),
        "iat": unix_time(), "exp": unix_time() + 3600,
    });
    more.iter().for_each(|(name, value)| claims[name] = value.clone());
    claims
}

/// A way to send a token, until the end of its use.
type Way = fn(&Postern, &Tokens);

fn john(postern: &Postern) -> Handshake {
    postern.handshake().as_john().header("User-Session-ID", "s-1")
}

/// Opens a connection for echo, uses it, and closes it.
#[track_caller]
fn use_once(handshake: &Handshake) {
    let mut open = handshake.open();
    open.echo("hello");
    open.close();
}

fn message(kind: &str, token: &str) -> String {
    json!({ "type": kind, "token": token }).to_string()
}

/// Sends a message in these pieces, and expects an answer of this type.
#[track_caller]
fn send_in_pieces(open: &mut Open, pieces: &[&[u8]], answer: &str) {
    let mut stream = open.socket.get_ref();
    for piece in pieces {
        stream.write_all(piece).expect("it is open");
        thread::sleep(Duration::from_millis(20));
    }
    assert_answer(open, answer);
}

#[track_caller]
fn assert_answer(open: &mut Open, expected: &str) {
    let answer = open.receive().into_text().expect("a text");
    assert!(answer.contains(&format!(r#""type":"{expected}""#)), "{answer}");
}

/// Connects a client of channels, lets it execute a command, and closes it.
#[track_caller]
fn call(handshake: Handshake, connect: Value, commands: &[Value]) {
    let (mut client, reply) = Client::connect_with(handshake, connect);
    assert!(reply["connect"].is_object(), "{reply}");
    for command in commands {
        let reply = client.call(command.clone());
        assert!(reply["error"].is_null(), "{reply}");
    }
    client.open.close();
}

fn subscribe(tokens: &Tokens) -> Value {
    json!({ "id": 2, "subscribe": { "channel": "news", "token": tokens.of_channel("news") } })
}

/// In the request of an upgrade, or of a refresh.
const IN_REQUESTS: &[(&str, Way)] = &[
    ("authorization", |postern, tokens| use_once(&john(postern).bearer(&tokens.next()))),
    ("cookie", |postern, tokens| use_once(&john(postern).cookie(&tokens.next()))),
    ("query", |postern, tokens| use_once(&john(postern).query(&tokens.next()))),
    ("subprotocol", |postern, tokens| {
        use_once(&john(postern).subprotocols(&["bearer", &tokens.next()]));
    }),
    ("channels", |postern, tokens| {
        call(john(postern).target(CHANNELS).bearer(&tokens.next()), json!({}), &[]);
    }),
    ("query of a first message", |postern, tokens| {
        let mut open = postern.handshake().target(FIRST_ECHO).query(&tokens.next()).open();
        open.send(message("auth", &tokens.next()));
        assert_answer(&mut open, "authenticated");
        open.close();
    }),
    ("refused", |postern, tokens| _ = postern.handshake().bearer(&tokens.next()).refused()),
    ("in pieces", |postern, tokens| {
        let head = john(postern).bearer(&tokens.next()).header("X-More", &"x".repeat(300)).bytes();
        let mut stream = TcpStream::connect(postern.address()).expect("it listens");
        for piece in head.chunks(250) {
            stream.write_all(piece).expect("it is open");
            thread::sleep(Duration::from_millis(20));
        }
    }),
    ("incomplete", |postern, tokens| {
        let head = john(postern).bearer(&tokens.next()).bytes();
        let mut stream = TcpStream::connect(postern.address()).expect("it listens");
        stream.write_all(&head[..head.len() - 2]).expect("it is open");
        thread::sleep(Duration::from_millis(20));
    }),
    ("refresh through the gateway", |postern, tokens| {
        let exp = |seconds: u64| (unix_time() + seconds).to_string();
        let open = john(postern).bearer(&tokens.next()).header("User-Token-Exp", &exp(60)).open();
        refresh(postern, &tokens.next(), &exp(600));
        open.close();
    }),
];

fn refresh(postern: &Postern, token: &str, exp: &str) {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("User-ID", "123"),
        ("User-Session-ID", "s-1"),
        ("User-Token-Exp", exp),
        ("Authorization", &authorization),
    ];
    let answer = http::request(postern.address(), "POST", "/ws/refresh", &headers, b"").expect("an answer");
    assert_eq!(answer.status, 204, "{answer}");
}

/// In a message. The token is checked with keys, or by a service.
const IN_MESSAGES: &[(&str, Way)] = &[
    ("first message of echo", |postern, tokens| {
        let mut open = postern.handshake().target(FIRST_ECHO).open();
        open.send(message("auth", &tokens.next()));
        assert_answer(&mut open, "authenticated");
        open.echo("hello");
        open.close();
    }),
    ("first message in pieces", |postern, tokens| {
        let mut open = postern.handshake().target(FIRST_ECHO).open();
        let frame = client(TEXT, message("auth", &tokens.next()).as_bytes());
        send_in_pieces(&mut open, &frame.chunks(150).collect::<Vec<_>>(), "authenticated");
        open.close();
    }),
    ("incomplete first message", |postern, tokens| {
        let open = postern.handshake().target(FIRST_ECHO).open();
        let frame = client(TEXT, message("auth", &tokens.next()).as_bytes());
        open.socket.get_ref().write_all(&frame[..frame.len() - 5]).expect("it is open");
        thread::sleep(Duration::from_millis(20));
    }),
    ("malformed first message", |postern, tokens| {
        let mut open = postern.handshake().target(FIRST_ECHO).open();
        open.send(message("auth", &format!("{} ", tokens.next())));
        assert_eq!(open.closed(), (4401, "first_message".to_owned()));
    }),
    ("refused first message", |postern, tokens| {
        let mut open = postern.handshake().target(FIRST_ECHO).open();
        open.send(message("auth", &tokens.add(hs256("another secret", &claims(&[])))));
        assert_eq!(open.closed(), (4401, "token_refused".to_owned()));
    }),
    ("first message of channels", |postern, tokens| {
        call(postern.handshake().target(FIRST_CHANNELS), json!({ "token": tokens.next() }), &[]);
    }),
    ("messages after the first one", |postern, tokens| {
        let mut open = postern.handshake().target(FIRST_CHANNELS).open();
        let connect = json!({ "id": 1, "connect": { "token": tokens.next() } }).to_string();
        let frames = [&connect, &subscribe(tokens).to_string()].map(|text| client(TEXT, text.as_bytes()));
        open.socket.get_ref().write_all(&frames.concat()).expect("it is open");
        let replies = open.receive().into_text().expect("a text");
        if !replies.contains(r#""id":2"#) {
            open.receive();
        }
        open.close();
    }),
    ("connect", |postern, tokens| {
        call(john(postern).target(CHANNELS), json!({ "token": tokens.next() }), &[]);
    }),
    ("escaped token of connect", |postern, tokens| {
        let mut open = john(postern).target(CHANNELS).open();
        let token = tokens.next().replace('e', "\\u0065");
        open.send(format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
        let reply = open.receive().into_text().expect("a text");
        assert!(reply.contains("version"), "{reply}");
        open.close();
    }),
    ("refused connect", |postern, tokens| {
        let mut open = john(postern).target(CHANNELS).open();
        let token = tokens.add(hs256("another secret", &claims(&[])));
        open.send(json!({ "id": 1, "connect": { "token": token } }).to_string());
        open.receive();
    }),
    ("refresh of channels", |postern, tokens| {
        let refresh = json!({ "id": 2, "refresh": { "token": tokens.next() } });
        call(john(postern).target(CHANNELS), json!({}), &[refresh]);
    }),
    ("subscribe", |postern, tokens| {
        call(john(postern).target(CHANNELS), json!({}), &[subscribe(tokens)]);
    }),
    ("sub_refresh", |postern, tokens| {
        let refresh =
            json!({ "id": 3, "sub_refresh": { "channel": "news", "token": tokens.of_channel("news") } });
        call(john(postern).target(CHANNELS), json!({}), &[subscribe(tokens), refresh]);
    }),
    ("commands in one message", |postern, tokens| {
        let mut open = john(postern).target(CHANNELS).open();
        let connect = json!({ "id": 1, "connect": { "token": tokens.next() } });
        open.send(format!("{connect}\n{}", subscribe(tokens)));
        open.receive();
    }),
    ("message of echo", |postern, tokens| {
        let mut open = john(postern).open();
        open.send(message("refresh", &tokens.next()));
        assert_answer(&mut open, "refreshed");
        open.close();
    }),
    ("malformed message of echo", |postern, tokens| {
        let mut open = john(postern).open();
        open.send(message("refresh", &format!("{} ", tokens.next())));
        assert_answer(&mut open, "refresh_refused");
        open.close();
    }),
    ("fragments", |postern, tokens| {
        let mut open = john(postern).open();
        let text = message("refresh", &tokens.next());
        let (first, last) = text.as_bytes().split_at(200);
        send_in_pieces(&mut open, &[&client(FIRST, first), &client(LAST, last)], "refreshed");
        open.close();
    }),
    ("compressed", |postern, tokens| {
        let mut open = john(postern).header("Sec-WebSocket-Extensions", "permessage-deflate").open();
        let frame = client(TEXT | RSV1, &deflated(&message("refresh", &tokens.next())));
        // The answer is too short to be compressed.
        send_in_pieces(&mut open, &[&frame], "refreshed");
    }),
];

/// The bit of a compressed message (RFC 7692 §6).
const RSV1: u8 = 0x40;

/// Compresses a message (RFC 7692 §7.2.1).
fn deflated(text: &str) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(text.len() + 64);
    let mut deflater = Compress::new(Compression::best(), false);
    deflater.compress_vec(text.as_bytes(), &mut compressed, FlushCompress::Sync).expect("it compresses");
    compressed.truncate(compressed.len() - 4);
    compressed
}

/// Sends a token in each way, and checks after each that no copy is left.
fn check(runtime: Runtime, postern: &Postern, ways: &[(&str, Way)]) {
    let mut failures = String::new();
    for (name, way) in ways {
        let tokens = Tokens::default();
        way(postern, &tokens);
        assert!(!tokens.0.borrow().is_empty());
        for copy in left(|| tokens.copies(postern)) {
            failures.push_str(&format!("\n{runtime}, {name}: {copy}"));
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// Waits until there are no copies, and returns those that are left. The process may not have noticed yet that a connection is closed.
fn left(copies: impl Fn() -> Vec<Copy>) -> Vec<Copy> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let copies = copies();
        if copies.is_empty() || Instant::now() > deadline {
            return copies;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn assert_none(what: &str, copies: impl Fn() -> Vec<Copy>) {
    let left = left(copies);
    assert!(left.is_empty(), "{what}: {}", lines(&left));
}

fn lines(copies: &[Copy]) -> String {
    copies.iter().map(Copy::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_token_stays_in_memory() {
    let identity = Identity::start();
    let url = format!("http://{}/identity/validate", identity.address());
    at_the_same_time(Runtime::BOTH, |runtime| {
        thread::scope(|scope| {
            scope.spawn(|| check(runtime, &start(runtime, &[]), IN_REQUESTS));
            scope.spawn(|| check(runtime, &start(runtime, &[]), IN_MESSAGES));
            scope.spawn(|| check(runtime, &start(runtime, &[("POSTERN_AUTH_URL", &url)]), IN_MESSAGES));
        });
    });
}

fn start(runtime: Runtime, more: &[(&str, &str)]) -> Postern {
    // The channels file is empty: a client needs a token to subscribe.
    Postern::with(runtime, &[&SETTINGS, more].concat()).channels("").start()
}

#[test]
fn a_token_that_is_checked_again_is_in_memory_once() {
    let identity = Identity::start();
    let url = format!("http://{}/identity/validate", identity.address());
    at_the_same_time(Runtime::BOTH, |runtime| {
        for source in [&[][..], &[("POSTERN_AUTH_URL", &*url)]] {
            let postern = start(runtime, &[&[("POSTERN_REVALIDATE", "message")], source].concat());
            let tokens = [(); 4].map(|()| Tokens::default());
            let [first, second, third, channels] = &tokens;
            // A refresh by an older token has no effect.
            let exp = (unix_time() + 7200).to_string();
            let mut open = john(&postern).bearer(&first.next()).open();
            open.echo("checked");
            assert_kept_once(runtime, first, &postern);
            // By a message, and through the gateway.
            open.send(message("refresh", &second.next()));
            assert_answer(&mut open, "refreshed");
            assert_none(&format!("{runtime}, the first token"), || first.copies(&postern));
            open.echo("checked");
            assert_kept_once(runtime, second, &postern);
            refresh(&postern, &third.next(), &exp);
            open.echo("checked");
            assert_none(&format!("{runtime}, the second token"), || second.copies(&postern));
            assert_kept_once(runtime, third, &postern);
            let handshake = john(&postern).target(CHANNELS).cookie(&channels.next());
            let (mut client, _) = Client::connect_with(handshake, json!({}));
            client.call(json!({ "id": 2, "presence_stats": { "channel": "#123" } }));
            assert_kept_once(runtime, channels, &postern);
            client.open.close();
            open.close();
            for tokens in &tokens {
                assert_none(&format!("{runtime}, after the end"), || tokens.copies(&postern));
            }
        }
    });
}

/// Checks that the search finds the copy that is kept, and no other one.
#[track_caller]
fn assert_kept_once(runtime: Runtime, tokens: &Tokens, postern: &Postern) {
    // The check of the last message may be ending on another thread.
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let copies = tokens.copies(postern);
        if copies.len() == 1 && copies[0].len == signature(&tokens.0.borrow()[0]).len() {
            return;
        }
        assert!(Instant::now() < deadline, "{runtime}: {} copies\n{}", copies.len(), lines(&copies));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_signed_identity_does_not_stay_in_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let keys = folder.path().join("jwks.json");
    let signer = Signer::new("a", 1);
    fs::write(&keys, key_set(&[&signer])).expect("a file");
    let settings = [
        ("POSTERN_ASSERTION", "custom"),
        ("POSTERN_ASSERTION_HEADER", "X-Assertion"),
        ("POSTERN_ASSERTION_ISSUER", "https://issuer.example"),
        ("POSTERN_ASSERTION_AUDIENCE", "postern"),
        ("POSTERN_ASSERTION_JWKS", keys.to_str().expect("UTF-8")),
    ];
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &settings);
        let tokens = Tokens::default();
        let token = signer.token(&claims_of_john("https://issuer.example", "postern"));
        use_once(&postern.handshake().header("X-Assertion", &tokens.add(token)));
        assert_none(&format!("{runtime}"), || tokens.copies(&postern));
    }
}

/// The control: the search finds what Postern does not overwrite, in the memory of both binaries and in each form.
#[test]
fn an_ordinary_message_stays_in_memory_until_the_next_one() {
    at_the_same_time(Runtime::BOTH, |runtime| {
        // The token is an ordinary text here, which belongs into the log. The search for secrets would find it there.
        let postern = start(runtime, &[("POSTERN_LOG_MESSAGES", "size")]);
        let tokens = Tokens::default();
        let text = json!({ "type": "chat", "token": tokens.next() }).to_string();
        let mut open = john(&postern).open();
        open.echo(text);
        assert!(!tokens.copies(&postern).is_empty(), "{runtime}");
        let hexadecimal: String = tokens.0.borrow()[0].bytes().map(|byte| format!("{byte:02x}")).collect();
        open.echo(hexadecimal);
        assert!(tokens.copies(&postern).iter().any(|copy| copy.form == "in hexadecimal"), "{runtime}");
    });
}
