//! Client libraries, connected to both binaries directly and through Traefik. `gateways.rs` has curl.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::handshake::client::Request;
use async_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{self, Message};
use postern_tests::chain::{Chain, assert_john_logged};
use postern_tests::gateway::Gateway;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::{Process, Stream};
use postern_tests::{provision, workspace};
use smol::stream::StreamExt;

/// The way in which a client reaches Postern.
enum Way {
    /// Without a gateway: it sends the three identity headers itself.
    Direct(Postern),
    /// Through Traefik, with a token.
    Traefik(Box<Chain>),
}

impl Way {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Direct(postern) => postern.address(),
            Self::Traefik(chain) => chain.address(),
        }
    }

    fn url(&self) -> String {
        format!("ws://{}/ws", self.address())
    }

    /// Returns the headers with which the client is John.
    fn headers(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Direct(_) => {
                [("User-ID", "123"), ("User-Name", "John Doe"), ("User-Email", "john@example.com")]
                    .map(|(name, value)| (name, value.to_owned()))
                    .into()
            }
            Self::Traefik(chain) => {
                vec![("Authorization", format!("Bearer {}", chain.login("john@example.com")))]
            }
        }
    }

    fn headers_as_json(&self) -> String {
        let headers = self.headers().into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        serde_json::Value::Object(headers.collect()).to_string()
    }

    fn postern(&self) -> &Postern {
        match self {
            Self::Direct(postern) => postern,
            Self::Traefik(chain) => &chain.postern,
        }
    }

    /// Checks that the log has the connection and no secret.
    fn assert_visit_logged(&self) {
        assert_john_logged(self.postern());
        if let Self::Traefik(chain) = self {
            chain.assert_no_secrets_logged();
        }
    }
}

/// Checks a client in each way, with both binaries.
fn on_each_way(check: fn(&Way)) {
    for runtime in Runtime::BOTH {
        check(&Way::Direct(Postern::start(runtime, &[])));
        check(&Way::Traefik(Box::new(Chain::start(Gateway::Traefik, runtime))));
    }
}

#[test]
fn tungstenite_sends_receives_and_closes() {
    on_each_way(|way| {
        let stream = TcpStream::connect(way.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
        let (mut socket, response) = tungstenite::client(request(way), stream).expect("a 101");
        assert_eq!(response.status(), 101);
        for message in messages() {
            socket.send(message.clone()).expect("the connection is open");
            assert_eq!(socket.read().expect("an answer"), message);
        }
        socket.close(Some(normal_close())).expect("the connection is open");
        assert_eq!(
            socket.read().expect("the answer to the close frame"),
            Message::Close(Some(normal_close()))
        );
        assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
        // The server ends the TCP connection first, then the client: a gateway waits for both.
        drop(socket);
        way.assert_visit_logged();
    });
}

#[test]
fn async_tungstenite_sends_receives_and_closes() {
    on_each_way(|way| {
        let visit = async {
            let stream = smol::net::TcpStream::connect(way.address()).await.expect("it listens");
            let (mut socket, response) =
                async_tungstenite::client_async(request(way), stream).await.expect("a 101");
            assert_eq!(response.status(), 101);
            for message in messages() {
                socket.send(message.clone()).await.expect("the connection is open");
                assert_eq!(socket.next().await.expect("an answer").expect("a good answer"), message);
            }
            socket.close(Some(normal_close())).await.expect("the connection is open");
            let close = socket.next().await.expect("the answer to the close frame").expect("a good answer");
            assert_eq!(close, Message::Close(Some(normal_close())));
            assert!(socket.next().await.is_none(), "nothing follows a Close");
        };
        let late = async {
            smol::Timer::after(PATIENCE).await;
            panic!("the visit takes longer than {PATIENCE:?}");
        };
        smol::block_on(smol::future::or(visit, late));
        way.assert_visit_logged();
    });
}

#[test]
fn python_websockets_sends_receives_and_closes() {
    on_each_way(|way| {
        let package = provision::python_websockets().expect("the Python client");
        let mut python = Command::new("python3");
        python.arg(workspace::path("tests/tests/peers/echo.py")).args([way.url(), way.headers_as_json()]);
        run_peer("python", python.env("PYTHONPATH", package));
        way.assert_visit_logged();
    });
}

#[test]
fn node_ws_sends_receives_and_closes() {
    on_each_way(|way| {
        let package = provision::node_ws().expect("the Node client");
        let mut node = Command::new("node");
        node.arg(workspace::path("tests/tests/peers/echo.cjs")).args([way.url(), way.headers_as_json()]);
        run_peer("node", node.env("NODE_PATH", package));
        way.assert_visit_logged();
    });
}

/// Returns an upgrade request of tungstenite with the headers of this way.
fn request(way: &Way) -> Request {
    let mut request = way.url().into_client_request().expect("a good URL");
    for (name, value) in way.headers() {
        let value = HeaderValue::from_str(&value).expect("a good header value");
        request.headers_mut().insert(HeaderName::from_bytes(name.as_bytes()).expect("a good name"), value);
    }
    request
}

fn messages() -> [Message; 5] {
    [
        Message::text("Hello World"),
        Message::text("Grüße, 你好"),
        Message::text(""),
        Message::binary(vec![0, 1, 0xfe, 0xff]),
        Message::binary(vec![b'x'; 60_000]),
    ]
}

fn normal_close() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: "".into() }
}

fn run_peer(name: &str, command: &mut Command) {
    let mut peer = Process::spawn(name, command).expect("the client starts");
    let status = peer.wait(PATIENCE).expect("the visit ends");
    assert!(
        status.success() && peer.lines_of(Stream::Out) == ["done"],
        "{name}: {status}, {:?}",
        peer.lines()
    );
}

const PATIENCE: Duration = Duration::from_secs(20);
