//! `POSTERN_REJECT=close`: refusals that a page can see, with real clients, on both binaries and through both gateways.

use std::process::Command;
use std::time::Duration;

use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use postern_tests::chain::Chain;
use postern_tests::gateway::Gateway;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::{Process, Stream};
use postern_tests::{provision, workspace};
use smol::stream::StreamExt;

const CLOSE: (&str, &str) = ("POSTERN_REJECT", "close");

/// What async-tungstenite is told by a Postern that it asks with these headers.
fn told(postern: &Postern, headers: &[(&'static str, &'static str)]) -> (u16, String) {
    let url = format!("ws://{}/ws", postern.address());
    let mut request = url.into_client_request().expect("a good URL");
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    let visit = async {
        let stream = smol::net::TcpStream::connect(postern.address()).await.expect("it listens");
        let (mut socket, response) = async_tungstenite::client_async(request, stream).await.expect("a 101");
        assert_eq!(response.status(), 101);
        let message = socket.next().await.expect("a close frame").expect("a good one");
        let Message::Close(Some(frame)) = message else { panic!("not a close frame: {message:?}") };
        // The client has answered by now, and the server ends the connection at once.
        assert!(socket.next().await.is_none(), "nothing comes behind a close frame");
        (frame.code.into(), frame.reason.as_str().to_owned())
    };
    let late = async {
        smol::Timer::after(Duration::from_secs(20)).await;
        panic!("the visit takes too long");
    };
    smol::block_on(smol::future::or(visit, late))
}

#[test]
fn async_tungstenite_is_told_why_by_a_close_frame() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[CLOSE]);
        assert_eq!(told(&postern, &[]), (4401, "identity_missing".to_owned()), "{runtime}");
        let foreign = [("user-id", "123"), ("origin", "https://evil.test")];
        assert_eq!(told(&postern, &foreign), (4403, "origin_not_allowed".to_owned()), "{runtime}");
        // The log names what was said: nobody has seen a status.
        for (code, why) in [(4401, "identity_missing"), (4403, "origin_not_allowed")] {
            let line = postern.wait_for(&format!("WebSocket upgrade refused - {code} "));
            assert!(line.contains(&format!(", close_code: {code}, code: {why}, ")), "{line}");
            assert!(!line.contains("status: "), "{line}");
        }

        let settings = [CLOSE, ("POSTERN_TRUSTED_PROXIES", "192.0.2.1")];
        let strict = Postern::start(runtime, &settings);
        assert_eq!(told(&strict, &[("user-id", "123")]), (4403, "peer_not_trusted".to_owned()), "{runtime}");
        for postern in [postern, strict] {
            assert!(
                !postern.log().iter().any(|line| line.contains("established") || line.contains("closed"))
            );
        }
    }
}

#[test]
fn the_node_client_is_told_although_it_wants_a_subprotocol() {
    let package = provision::node_ws().expect("the Node client");
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[CLOSE]);
        let mut node = Command::new("node");
        node.arg(workspace::path("tests/tests/peers/refused.cjs"));
        node.args([format!("ws://{}/ws", postern.address()), "{}".to_owned()]);
        let mut node = Process::spawn("node", node.env("NODE_PATH", &package)).expect("the client starts");
        node.wait(Duration::from_secs(20)).expect("the visit ends");
        assert_eq!(node.lines(), ["4401 identity_missing"], "{runtime}");
        assert!(!postern.log().join("\n").contains("a.b.c"));
    }
}

#[test]
fn what_is_no_upgrade_or_not_about_the_user_stays_a_status() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[CLOSE, ("LOG_LEVEL", "debug")]);
        let to = || postern.handshake();
        for (handshake, status) in [
            (to().without("Upgrade"), 400),
            (to().without("Sec-WebSocket-Key"), 400),
            (to().as_john().header("User_ID", "x"), 400),
            (to().as_john().target("/other"), 404),
            (to().instead("Sec-WebSocket-Version", "8"), 426),
        ] {
            assert_eq!(handshake.refused().status, status, "{runtime}");
        }
        to().as_john().open().close();
    }
}

#[test]
fn a_gateway_passes_the_close_frame_on() {
    for (gateway, runtime) in [
        (Gateway::Traefik, Runtime::Mio),
        (Gateway::Nginx, Runtime::Smol),
        (Gateway::Haproxy, Runtime::Mio),
        (Gateway::Haproxy, Runtime::Smol),
    ] {
        let chain = Chain::start_with(gateway, runtime, &[CLOSE], &[]);
        let token = chain.login("john@example.com");
        let handshake = chain.handshake().subprotocols(&["bearer", &token]);
        let mut open = handshake.clone().header("Origin", "https://evil.test").open();
        assert_eq!(open.response.header("sec-websocket-protocol"), "bearer");
        let Message::Close(Some(frame)) = open.receive() else { panic!("{gateway}: a close frame expected") };
        assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::from(4403), "origin_not_allowed"));
        chain.visit_as_john(handshake.open());
        let log = chain.postern.log().join("\n");
        assert_eq!(log.matches("established").count(), 1, "{gateway}: {log}");
        chain.assert_no_secrets_logged();
    }
}

/// A page that never ends its side is not waited for longer than for any Close.
#[test]
fn a_client_that_does_not_answer_is_dropped() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[CLOSE, ("POSTERN_CLOSE_TIMEOUT", "200ms")]);
        let open = postern.handshake().open();
        let mut stream = open.socket.get_ref();
        let mut rest = Vec::new();
        // What is left of the frame, then the end, well within the ten seconds that a read may take.
        std::io::Read::read_to_end(&mut stream, &mut rest).expect("the end comes in time");
        drop(open);
        let mut postern = postern;
        assert!(postern.terminate().success());
        assert!(postern.process.lines_of(Stream::Out).iter().any(|line| line.contains("refused - 4401")));
    }
}
