//! `POSTERN_FIRST_MESSAGE_PATH`: clients send their token in the first message, on a path that the gateway passes on without
//! asking for an identity.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::browser::Browser;
use postern_tests::canary::{self, Kind};
use postern_tests::chain::Chain;
use postern_tests::channels::Client;
use postern_tests::gateway::{Addresses, Gateway};
use postern_tests::identity::Identity;
use postern_tests::postern::{Postern, Runtime};
use serde_json::{Value, json};

const CHANNELS: &str = "/connection/websocket";

fn settings(url: &str) -> Vec<(&str, &str)> {
    vec![
        ("POSTERN_AUTH_URL", url),
        ("POSTERN_FIRST_MESSAGE_PATH", "/ws,/open,/connection/websocket"),
        ("POSTERN_EXPIRY_GRACE", "1s"),
        ("POSTERN_EXPIRY_SPREAD", "0"),
        ("POSTERN_IN_BAND_AUTH", "on"),
    ]
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/identity/validate")
}

fn auth(token: &str) -> String {
    json!({ "type": "auth", "token": token }).to_string()
}

#[test]
fn a_token_in_the_first_message_identifies_the_client() {
    let identity = Identity::start();
    for runtime in Runtime::BOTH {
        let url = url(identity.address());
        let postern = Postern::start_with_control(runtime, &settings(&url));
        let john = identity.login("john@example.com");
        for path in ["/ws", "/open"] {
            // The client's own headers do not count.
            let mut open = postern.handshake().target(path).header("User-ID", "admin").open();
            assert_eq!(postern.metric("postern_connections"), Some(0.0), "{runtime}");
            open.send(auth(&john));
            let answer: Value =
                serde_json::from_str(&open.receive().into_text().expect("a text")).expect("JSON");
            assert_eq!(answer["type"], "authenticated", "{runtime}: {answer}");
            assert!(answer["expires_at"].is_u64(), "{runtime}: {answer}");
            open.echo("Hello World");
            let listed = postern.post("/api/connections", &json!({ "user": "123" })).json();
            assert_eq!(listed["result"]["connections"][0]["name"], "John Doe", "{runtime}: {listed}");
            open.close();
        }
        postern.wait_for("WebSocket connection established - User: John Doe (john@example.com) - ID: 123");
        let log = postern.log().join("\n");
        assert!(!log.contains("admin") && !log.contains(john.rsplit('.').next().unwrap_or(&john)), "{log}");

        // On channels it is a `connect` with a token.
        let handshake = postern.handshake().target(CHANNELS);
        let (mut client, reply) = Client::connect_with(handshake, json!({ "token": john }));
        assert!(reply["connect"]["subs"]["#123"].is_object(), "{runtime}: {reply}");
        client.call(json!({ "id": 2, "presence_stats": { "channel": "#123" } }));

        let refused = |path: &str, message: &str| {
            let start = Instant::now();
            let mut open = postern.handshake().target(path).open();
            open.send(message);
            let close = open.closed();
            assert!(start.elapsed() < Duration::from_secs(2), "{runtime}: {:?}", start.elapsed());
            close
        };
        let connect = |token: &str| json!({ "id": 1, "connect": { "token": token } }).to_string();
        for token in [identity.forged_token("john@example.com"), identity.expired_token("john@example.com")] {
            for (path, message) in [("/ws", auth(&token)), (CHANNELS, connect(&token))] {
                assert_eq!(refused(path, &message), (4401, "token_refused".to_owned()), "{runtime}: {path}");
            }
        }
        for (path, message) in [
            ("/ws", "hello".to_owned()),
            ("/ws", auth(&format!("{john} {john}"))),
            ("/ws", auth(&john)[..30].to_owned()),
            ("/ws", connect(&john)),
            (CHANNELS, auth(&john)),
            (CHANNELS, json!({ "id": 1, "connect": {} }).to_string()),
        ] {
            assert_eq!(
                refused(path, &message),
                (4401, "first_message".to_owned()),
                "{runtime}: {path} {message:.20}"
            );
        }
        let (code, _) = refused("/ws", &auth(&"a".repeat(20_000)));
        assert_eq!(code, 1009, "{runtime}");
        // The identity headers are read on no such path.
        postern.handshake().target("/ws/refresh").header("User-ID", "123").refused_with(404, "not_found");
        assert_eq!(postern.metric("postern_connections"), Some(1.0), "{runtime}");
    }
}

#[test]
fn nothing_is_admitted_while_the_service_gives_no_answer() {
    for runtime in Runtime::BOTH {
        let url = url(postern_tests::ports::free());
        let postern = Postern::start(runtime, &settings(&url));
        let mut open = postern.handshake().open();
        open.send(auth(&canary::mint(Kind::Token).replace(|c: char| !c.is_ascii_alphanumeric(), "a")));
        assert_eq!(open.closed(), (1013, "token_unchecked".to_owned()), "{runtime}");
        postern.wait_for("a token cannot be checked");
        assert!(!postern.log().iter().any(|line| line.contains("connection established")), "{runtime}");
    }
}

/// The script of the service that Postern replaces, word for word except for the e-mail address, which its text has lost.
const SCRIPT: &str = "// 1. Get token from Identity service
const loginResponse = await fetch('http://localhost:9191/identity/login', {
method: 'POST',
headers: { 'Content-Type': 'application/json' },
body: JSON.stringify({
email: 'john@example.com',
password: 'password123'
})
});
const { accessToken } = await loginResponse.json();
// 2. Establish WebSocket connection with Authorization header
// NOTE: Standard WebSocket API doesn't support custom headers
// Use query string, subprotocol, or send token in first message
const ws = new WebSocket('ws://localhost:9191/ws');
ws.onopen = () => {
console.log('Connected to WebSocket');
ws.send(JSON.stringify({ type: 'auth', token: accessToken }));
};
ws.onmessage = (event) => {
console.log('Received:', event.data);
};
ws.onerror = (error) => {
console.error('WebSocket error:', error);
};
ws.onclose = () => {
console.log('Disconnected');
};";

/// Returns the changes of a gateway's configuration that route `/ws` without asking for an identity.
fn without_identity(gateway: Gateway, postern: SocketAddr) -> Vec<(String, String)> {
    match gateway {
        Gateway::Traefik => {
            let router = "    # Without the middleware: a client that logs in has no token yet.\n    identity-router:\n";
            let open = "    open-router:\n      entryPoints: [web]\n      rule: \"Path(`/ws`)\"\n      service: websocket\n\n";
            vec![
                ("rule: \"Path(`/ws`) || ".to_owned(), "rule: \"".to_owned()),
                (router.to_owned(), format!("{open}{router}")),
            ]
        }
        Gateway::Nginx => {
            let before = "        location = /identity-jwt-validate {";
            let open = format!(
                "        location = /ws {{\n            proxy_http_version 1.1;\n            \
                 proxy_set_header Upgrade $http_upgrade;\n            proxy_set_header Connection $connection_upgrade;\n            \
                 proxy_set_header Host $http_host;\n            proxy_pass http://{postern};\n        }}\n\n"
            );
            vec![(before.to_owned(), format!("{open}{before}"))]
        }
        Gateway::Haproxy | Gateway::Caddy | Gateway::Envoy => Vec::new(),
    }
}

#[test]
fn the_script_of_the_seed_works_word_for_word_in_a_browser() {
    for (gateway, runtime) in [(Gateway::Traefik, Runtime::Mio), (Gateway::Nginx, Runtime::Smol)] {
        let identity = Identity::start();
        let url = url(identity.address());
        let postern = Postern::start(runtime, &settings(&url));
        let addresses = Addresses {
            gateway: identity.address(),
            identity: identity.address(),
            postern: postern.address(),
        };
        let mut changes = without_identity(gateway, postern.address());
        changes.push(gateway.with_page(addresses));
        let changes: Vec<_> = changes.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        let chain = Chain::start_all(gateway, identity, postern, &changes);
        let rules = format!("--host-resolver-rules=MAP localhost:9191 {}", chain.address());
        let mut browser = Browser::start_with(&[&rules]);
        // Not the page of the gateway, which declares `accessToken`, too.
        browser.open("http://localhost:9191/none");
        browser.value("window.logged = []; console.log = (...texts) => logged.push(texts.join(' '))");
        let parameters = json!({ "expression": SCRIPT, "awaitPromise": true, "replMode": true });
        let answer = browser.ask("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{gateway}: {answer}");
        let read = json!({ "expression": "accessToken", "replMode": true, "returnByValue": true });
        let token =
            browser.ask("Runtime.evaluate", &read)["result"]["value"].as_str().expect("a token").to_owned();
        chain.keep_secret(canary::secret(Kind::Token, token));
        browser.wait_for("logged.some((line) => line.startsWith('Received: {\"type\":\"authenticated\"'))");
        let send = json!({ "expression": "ws.send('Hello World')", "replMode": true });
        browser.ask("Runtime.evaluate", &send);
        browser.wait_for("logged.includes('Received: Hello World')");
        assert_eq!(browser.value("logged[0]"), "Connected to WebSocket", "{gateway}");
        chain
            .postern
            .wait_for("WebSocket connection established - User: John Doe (john@example.com) - ID: 123");
        chain.postern.wait_for("Message from John Doe (123): Hello World");
        let close = json!({ "expression": "ws.close()", "replMode": true });
        browser.ask("Runtime.evaluate", &close);
        browser.wait_for("logged.includes('Disconnected')");
        thread::sleep(Duration::from_millis(100));
        chain.assert_no_secrets_logged();
    }
}
