//! No secret is logged, on both binaries, in both formats, at the most verbose level: neither of valid and invalid requests nor
//! of the settings. Addresses and messages are logged as the settings say.
//!
//! `.ci/canary` searches the output of all other tests.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use postern_tests::canary::search::Search;
use postern_tests::canary::{self, Kind, Secret};
use postern_tests::http;
use postern_tests::issuer::{KeyServer, Signer, claims_of_john, key_set};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Handshake;
use serde_json::json;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Bytes, Message};

fn binaries_and_formats() -> impl Iterator<Item = (Runtime, &'static str)> {
    Runtime::BOTH.into_iter().flat_map(|runtime| ["term", "json"].map(|format| (runtime, format)))
}

/// The secrets of one test.
#[derive(Default)]
struct Secrets(Vec<Secret>);

impl Secrets {
    /// Creates and adds a secret.
    fn mint(&mut self, kind: Kind) -> String {
        self.keep(kind, canary::mint(kind))
    }

    /// Adds an existing secret.
    fn keep(&mut self, kind: Kind, secret: String) -> String {
        self.0.push(Secret { kind, bytes: secret.clone().into_bytes() });
        secret
    }

    /// Fails if these lines contain one of them, or a part of one.
    #[track_caller]
    fn assert_absent(&self, lines: &[String]) {
        let text = lines.join("\n");
        let search = Search::new(&self.0);
        assert_eq!(search.blind_spots(), [""; 0]);
        let leaks = search.leaks(text.as_bytes(), |_| true);
        assert!(leaks.is_empty(), "{leaks:#?}\n{text}");
    }
}

/// Returns a request with a secret in each place for one.
fn with_secrets(secrets: &mut Secrets, postern: SocketAddr) -> Handshake {
    let mut mint = |kind| secrets.mint(kind);
    let query = format!("access_token={}&room={}", mint(Kind::Token), mint(Kind::Query));
    Handshake::to(postern)
        .target(format!("/ws?{query}"))
        .header("Authorization", &format!("Bearer {}", mint(Kind::Token)))
        .header("Proxy-Authorization", &format!("Basic {}", mint(Kind::Credentials)))
        .header(
            "Cookie",
            &format!("theme=dark; access_token={}; session={}", mint(Kind::Token), mint(Kind::Cookie)),
        )
        .header("Sec-WebSocket-Protocol", &format!("chat, bearer, {}", mint(Kind::Token)))
        .header("X-Forwarded-Uri", &format!("/ws?token={}", mint(Kind::Token)))
        .header("X-Original-URI", &format!("/ws?{}", mint(Kind::Query)))
        .header("X-Forwarded-For", &format!("192.0.2.1, {}", mint(Kind::Query)))
        .header("X-Forwarded-Access-Token", &mint(Kind::Token))
        .header("X-Api-Key", &mint(Kind::Setting))
        .header("Referer", &format!("https://app.example/?code={}", mint(Kind::Query)))
}

/// Requests with a secret in an unusual place: in the path, a name, a method, an invalid line.
fn malformed(secrets: &mut Secrets, good: &Handshake) -> Vec<Vec<u8>> {
    let text = String::from_utf8(good.bytes()).expect("a head of ASCII");
    let mut mint = || secrets.mint(Kind::Token);
    let replace = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replacen(from, to, 1).into_bytes()
    };
    let with = |lines: &str| replace("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"));
    vec![
        replace("GET /ws", &format!("GET /ws/{}", mint())),
        replace("GET /ws", &format!("GET http://user:{}@app.example/ws", mint())),
        replace("GET /ws", &format!("GET /ws#{}", mint())),
        replace("GET ", &format!("POST /ws?{} HTTP/1.1\r\nGET ", mint())),
        replace("GET ", "POST "),
        replace("GET ", &format!("{} ", mint().to_uppercase())),
        replace(" HTTP/1.1", " HTTP/1.0"),
        replace(" HTTP/1.1", &format!(" {}", mint())),
        replace("\r\n", "\n"),
        replace("Sec-WebSocket-Version: 13", &format!("Sec-WebSocket-Version: {}", mint())),
        replace("Sec-WebSocket-Key: ", &format!("Sec-WebSocket-Key: {}", mint().repeat(3))),
        replace("Upgrade: websocket", &format!("Upgrade: {}", mint())),
        replace("Connection: Upgrade", &format!("Connection: {}", mint())),
        replace("Host: ", &format!("Host: {}@", mint())),
        with(&format!("Host: {}", mint())),
        with(&format!("Content-Length: {}", mint())),
        with(&format!("Transfer-Encoding: {}", mint())),
        with(&format!("Origin: https://{}.example", mint())),
        with(&mint()),
        with(&format!("{}: x", mint())),
        with(&format!(": {}", mint())),
        with(&format!("X: a\r\n {}", mint())),
        with(&format!("X: {}\0", mint())),
        with(&format!("X : {}", mint())),
        with(&format!("User_ID: {}", mint())),
        with(&format!("User-ID: {}", mint())),
        replace("User-ID: 123", &format!("User-ID: a b{}", mint())),
        with(&format!("User-Session-ID: {}\r\nUser-Session-ID: {}", mint(), mint())),
        with(&format!("User-Session-ID: {},", mint())),
        with(&format!("User-Token-Exp: {}", mint())),
        with(&format!("Sec-WebSocket-Protocol: {}, bearer", mint())),
        with(&format!("Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.{}", mint())),
        with(&format!("Sec-WebSocket-Extensions: permessage-deflate; {}={}", mint(), mint())),
        // Above the limits of a head.
        with(&format!("Cookie: access_token={}", mint().repeat(600))),
        with(&format!("X: {}\r\n", mint()).repeat(120)),
        // Bytes that are not a request: TLS, HTTP/2, the PROXY protocol, and noise.
        format!("\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03{}", mint()).into_bytes(),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{}", mint()).into_bytes(),
        format!("PROXY TCP4 {} 127.0.0.1 1 2\r\n{text}", mint()).into_bytes(),
        [&[0xff, 0xfe][..], mint().as_bytes()].concat(),
        mint().into_bytes(),
    ]
}

/// Sends bytes, and reads until the end.
#[track_caller]
fn send(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    canary::request(bytes);
    // After an early refusal, Postern may not read the rest, and the client may receive a reset.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Returns a Postern that logs as much as possible, with these settings.
fn verbose(runtime: Runtime, format: &str, settings: &[(&str, &str)]) -> Postern {
    let most = [("LOG_LEVEL", "trace"), ("LOG_FORMAT", format), ("POSTERN_LOG_MESSAGES", "full")];
    Postern::start(runtime, &[&most[..], settings].concat())
}

/// Stops it, and returns its output.
#[track_caller]
fn written(mut postern: Postern) -> Vec<String> {
    assert!(postern.terminate().success());
    postern.process.lines()
}

#[test]
fn secrets_of_a_request_are_not_logged() {
    for (runtime, format) in binaries_and_formats() {
        for reject in ["http", "close"] {
            let mut secrets = Secrets::default();
            let (old, new) = (secrets.mint(Kind::ProxySecret), secrets.mint(Kind::ProxySecret));
            let both = format!("{old},{new}");
            let settings = [
                ("POSTERN_PROXY_SECRET", both.as_str()),
                ("POSTERN_REJECT", reject),
                ("POSTERN_COMPRESSION", "on"),
                ("POSTERN_HANDSHAKE_TIMEOUT", "500ms"),
            ];
            let postern = verbose(runtime, format, &settings);
            let to = postern.address();
            let request = with_secrets(&mut secrets, to);
            let proved = request.clone().header("X-Postern-Secret", &new);

            let mut open = proved.clone().as_john().open();
            open.echo("Hello World");
            open.close();
            // Nearly all of these are refused, by a status or by a Close frame.
            let wrong = secrets.mint(Kind::ProxySecret);
            let mut refused: Vec<Vec<u8>> = [
                request.clone().as_john(),
                request.clone().as_john().header("X-Postern-Secret", &wrong),
                request.clone().as_john().header("X-Postern-Secret", &old.to_uppercase()),
                request.clone().as_john().header("X-Postern-Secret", &both),
                proved.clone().as_john().header("X-Postern-Secret", &old),
                proved.clone().as_john().header("X_Postern_Secret", &wrong),
                proved.clone(),
                proved.clone().as_john().as_john(),
                proved.clone().as_john().header("Origin", "https://evil.test"),
            ]
            .map(|handshake| handshake.bytes())
            .into();
            refused.extend(malformed(&mut secrets, &proved.clone().as_john()));
            for bytes in &refused {
                let answer = send(to, bytes);
                let is_answer = answer.is_empty() || answer.starts_with(b"HTTP/1.1 ");
                assert!(is_answer, "{runtime}: {}", answer.escape_ascii());
            }
            // An unfinished head: its sender disconnects, or waits for the time-out.
            let bytes = proved.bytes();
            let half = bytes.split_at(bytes.len() - 3).0;
            send(to, half);
            let mut slow = TcpStream::connect(to).expect("it listens");
            slow.write_all(half).expect("it is read");
            let mut answer = String::new();
            slow.read_to_string(&mut answer).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 408 "), "{runtime}: {answer}");
            drop(slow);

            let lines = written(postern);
            let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
            assert!(count("connection established") > 0, "{runtime}: {lines:#?}");
            assert!(count("upgrade refused") > 40, "{runtime}: {lines:#?}");
            assert!(count("upgrade abandoned") > 0, "{runtime}: {lines:#?}");
            secrets.assert_absent(&lines);
        }
    }
}

/// Only valid messages are logged.
#[test]
fn refused_messages_and_control_frames_are_not_logged() {
    for (runtime, format) in binaries_and_formats() {
        let mut secrets = Secrets::default();
        let postern = verbose(runtime, format, &[("POSTERN_MAX_MESSAGE", "1KiB")]);
        let mut mint = || secrets.mint(Kind::Message);
        let (ping, pong, reason) = (mint(), mint(), mint());
        let text = |text: String| Frame::message(text, OpCode::Data(Data::Text), true);
        let rsv = |mut frame: Frame| {
            frame.header_mut().rsv1 = true;
            frame
        };
        let part = |text: String| Frame::message(text, OpCode::Data(Data::Text), false);
        let broken = [mint().as_bytes(), b"\xff"].concat();
        for frames in [
            vec![Frame::message(broken, OpCode::Data(Data::Text), true)],
            vec![text(mint().repeat(40))],
            vec![rsv(text(mint()))],
            vec![part(mint()), text(mint())],
            vec![Frame::message(mint(), OpCode::Data(Data::Continue), true)],
            vec![Frame::message(mint(), OpCode::Data(Data::Reserved(5)), true)],
            vec![
                part(mint()),
                Frame::message(vec![0x03; 126], OpCode::Data(Data::Continue), false),
                part(mint()),
            ],
        ] {
            let mut open = postern.open();
            open.send(Message::Ping(Bytes::from(ping.clone())));
            open.send(Message::Pong(Bytes::from(pong.clone())));
            for frame in frames {
                // The first frame may have ended the connection.
                let _ = open.socket.send(Message::Frame(frame));
            }
            open.closed();
        }
        let mut open = postern.open();
        let frame = CloseFrame { code: CloseCode::Library(4999), reason: reason.into() };
        open.socket.close(Some(frame)).expect("it is open");
        open.closed();
        postern.wait_for("4999");

        let lines = written(postern);
        assert!(lines.iter().filter(|line| line.contains("connection closed")).count() >= 8, "{lines:#?}");
        secrets.assert_absent(&lines);
    }
}

#[test]
fn addresses_and_messages_are_logged_as_the_settings_say() {
    for (runtime, format) in binaries_and_formats() {
        for (messages, email) in
            [("full", "full"), ("truncated", "masked"), ("size", "off"), ("off", "masked")]
        {
            let mut nothing = Secrets::default();
            let mut mint = |kind| nothing.mint(kind);
            let address = format!("{}@{}.example", mint(Kind::Email), mint(Kind::Email));
            let (first, last, binary) = (mint(Kind::Message), mint(Kind::Message), mint(Kind::Message));
            let settings = [("POSTERN_LOG_MESSAGES", messages), ("POSTERN_LOG_EMAIL", email)];
            let postern = verbose(runtime, format, &settings);
            let user = postern.handshake().header("User-ID", "7").header("User-Email", &address);
            let mut open = user.open();
            open.echo(format!("{first}{}{last}", ".".repeat(256 - first.len())));
            // At most the first 16 bytes of a binary message are logged.
            open.echo([&[0; 16], binary.as_bytes()].concat());
            open.close();
            let lines = written(postern);

            let is_logged = |text: &str| {
                let secrets = [Secret { kind: Kind::Message, bytes: text.into() }];
                !Search::new(&secrets).leaks(lines.join("\n").as_bytes(), |_| true).is_empty()
            };
            let case = format!("{runtime}, {format}, {messages}, {email}: {lines:#?}");
            assert_eq!(is_logged(&address), email == "full", "{case}");
            assert_eq!(is_logged(&first), ["full", "truncated"].contains(&messages), "{case}");
            assert_eq!(is_logged(&last), messages == "full", "{case}");
            assert!(!is_logged(&binary), "{case}");
        }
    }
}

#[test]
fn of_a_refused_assertion_only_the_broken_rule_is_logged() {
    for (runtime, format) in binaries_and_formats() {
        // The header in which gateways pass on a token, and a separate header.
        let (header, scheme) =
            if format == "json" { ("Authorization", "Bearer ") } else { ("X-Assertion", "") };
        let mut secrets = Secrets::default();
        let (signer, attacker, unknown) = (Signer::new("a", 1), Signer::new("a", 2), Signer::new("b", 3));
        let server = KeyServer::start(key_set(&[&signer]));
        // The URL of the keys contains a secret.
        let url = format!("{}?key={}", server.url(), secrets.mint(Kind::Query));
        let settings = [
            ("POSTERN_ASSERTION", "custom"),
            ("POSTERN_ASSERTION_HEADER", header),
            ("POSTERN_ASSERTION_ISSUER", "https://issuer.example"),
            ("POSTERN_ASSERTION_AUDIENCE", "postern"),
            ("POSTERN_ASSERTION_JWKS", url.as_str()),
        ];
        let postern = verbose(runtime, format, &settings);
        postern.wait_for("assertion keys loaded");
        let claims = claims_of_john("https://issuer.example", "postern");
        let with = |claim: &str, value| {
            let mut claims = claims.clone();
            claims[claim] = value;
            claims
        };
        let mut mint = || secrets.mint(Kind::Token);
        let (issuer, audience, subject) = (mint(), mint(), format!("{{{}}}", mint()));
        let good = secrets.keep(Kind::Token, signer.token(&claims));
        let with_token = |token: &str| postern.handshake().header(header, &format!("{scheme}{token}"));
        with_token(&good).open().close();
        let tokens = [
            attacker.token(&claims),
            unknown.token(&claims),
            signer.token(&with("exp", json!(1))),
            signer.token(&with("exp", json!("4102444800"))),
            signer.token(&with("iss", json!(issuer))),
            signer.token(&with("aud", json!([audience]))),
            signer.token(&with("sub", json!(null))),
            signer.token(&with("sub", json!(subject))),
            format!("{good}."),
            good.replace('.', ":"),
            format!("Token {good}"),
            format!("{good},{good}"),
        ];
        for token in tokens {
            let token = secrets.keep(Kind::Token, token);
            let refusal = with_token(&token).refused();
            assert!([400, 401, 503].contains(&refusal.status), "{runtime}: {refusal}");
            assert!(!refusal.text().contains("detail"), "{runtime}: {refusal}");
        }
        server.fail();
        let lines = written(postern);
        let details = lines.iter().filter(|line| line.contains("detail")).count();
        assert!(details >= 11, "{runtime}: {lines:#?}");
        secrets.assert_absent(&lines);
    }
}

#[test]
fn secrets_of_a_request_to_the_control_port_are_not_logged() {
    for (runtime, format) in binaries_and_formats() {
        let mut secrets = Secrets::default();
        let (key, wrong) = (secrets.mint(Kind::Setting), secrets.mint(Kind::Setting));
        let settings = [("LOG_LEVEL", "trace"), ("LOG_FORMAT", format), ("POSTERN_API_KEY", key.as_str())];
        let postern = Postern::start_with_control(runtime, &settings);
        let mut mint = |kind| secrets.mint(kind);
        let bearer = format!("Bearer {}", mint(Kind::Token));
        let (cookie, query) = (format!("session={}", mint(Kind::Cookie)), mint(Kind::Query));
        for (target, keys, status) in [
            ("/api/info", &[key.as_str()][..], 200),
            ("/api/info", &[&wrong], 401),
            ("/api/info", &[&key, &wrong], 401),
            ("/api/info", &[], 401),
            ("/api/nothing", &[&key], 404),
            ("/api/connections", &[&key], 405),
            ("/metrics", &[&key], 200),
            ("/livez", &[&wrong], 200),
        ] {
            let mut headers = vec![("Authorization", bearer.as_str()), ("Cookie", &cookie)];
            headers.extend(keys.iter().map(|key| ("X-API-Key", *key)));
            let target = format!("{target}?api_key={query}&user={query}&cursor={query}");
            let response =
                http::request(postern.control(), "GET", &target, &headers, b"").expect("an answer");
            assert_eq!(response.status, status, "{runtime}, {target}: {response}");
        }
        for bytes in [
            format!("GET /api/{} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n", mint(Kind::Query)),
            format!("{} /livez HTTP/1.1\r\nX-API-Key: {key}\r\n\r\n", mint(Kind::Token)),
            format!("GET /livez\nX-API-Key {key}\n\n"),
            mint(Kind::Token),
        ] {
            send(postern.control(), bytes.as_bytes());
        }
        let lines = written(postern);
        assert!(lines.iter().any(|line| line.contains("control port listens on")), "{runtime}: {lines:#?}");
        secrets.assert_absent(&lines);
    }
}

#[test]
fn secrets_of_the_settings_are_not_shown() {
    for runtime in Runtime::BOTH {
        let mut secrets = Secrets::default();
        let mut mint = |kind| secrets.mint(kind);
        let (proxy, password, query) = (mint(Kind::ProxySecret), mint(Kind::Setting), mint(Kind::Query));
        let short = proxy.get(..15).expect("it has 32").to_owned();
        let url = format!("https://user:{password}@issuer.example/jwks.json?key={query}");
        for settings in [
            &[("POSTERN_PROXY_SECRET", short.as_str())][..],
            &[("POSTERN_PROXY_SECRET", &format!("{proxy},"))],
            &[("POSTERN_PROXY_SECRET", &proxy), ("POSTERN_PROXY_SECRET_FILE", "/dev/null")],
            &[("POSTERN_API_KEY", short.as_str())],
            &[("POSTERN_API_KEY", &proxy), ("POSTERN_API_KEY_FILE", "/dev/null")],
            &[("POSTERN_ASSERTION_JWKS", &url)],
            &[("POSTERN_ASSERTION", "cloudflare"), ("POSTERN_ASSERTION_ISSUER", &url)],
            &[("POSTERN_ASSERTION", &url)],
            &[("POSTERN_ALLOWED_ORIGINS", &url)],
            &[("POSTERN_ALLOWED_ORIGINS", "https://a.example"), ("POSTERN_PATH", &url)],
        ] {
            let (status, lines) = Postern::refuse(runtime, settings);
            assert_eq!((status.code(), lines.len()), (Some(2), 1), "{runtime}: {lines:?}");
            secrets.assert_absent(&lines);
        }
        let url = format!("https://issuer.example/jwks.json?key={query}");
        let settings = [
            ("POSTERN_PROXY_SECRET", proxy.as_str()),
            ("POSTERN_ASSERTION", "cloudflare"),
            ("POSTERN_ASSERTION_ISSUER", "https://team.cloudflareaccess.com"),
            ("POSTERN_ASSERTION_AUDIENCE", "a"),
            ("POSTERN_ASSERTION_JWKS", &url),
        ];
        let lines = Postern::print_config(runtime, &settings);
        assert!(
            lines.iter().any(|line| line.starts_with("POSTERN_PROXY_SECRET=***")),
            "{runtime}: {lines:#?}"
        );
        secrets.assert_absent(&lines);
    }
}
