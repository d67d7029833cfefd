//! `POSTERN_REJECT=close`: refusals that a page can see, with client libraries, on both binaries and through each gateway.

use std::process::Command;
use std::time::Duration;

use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::HeaderValue;
use postern_tests::chain::Chain;
use postern_tests::frames::rest;
use postern_tests::gateway::Gateway;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::{provision, workspace};
use smol::stream::StreamExt;

const CLOSE: (&str, &str) = ("POSTERN_REJECT", "close");

/// Returns the code and the reason of the Close that async-tungstenite receives for a request with these headers.
fn close_frame(postern: &Postern, headers: &[(&'static str, &'static str)]) -> (u16, String) {
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
        assert!(socket.next().await.is_none(), "nothing follows a Close");
        (frame.code.into(), frame.reason.as_str().to_owned())
    };
    let late = async {
        smol::Timer::after(Duration::from_secs(20)).await;
        panic!("the visit takes too long");
    };
    smol::block_on(smol::future::or(visit, late))
}

#[test]
fn async_tungstenite_gets_a_close_with_the_reason() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[CLOSE]);
        assert_eq!(close_frame(&postern, &[]), (4401, "identity_missing".to_owned()), "{runtime}");
        let foreign = [("user-id", "123"), ("origin", "https://evil.test")];
        assert_eq!(close_frame(&postern, &foreign), (4403, "origin_not_allowed".to_owned()), "{runtime}");
        // The log has the code of the Close instead of a status.
        for (code, why) in [(4401, "identity_missing"), (4403, "origin_not_allowed")] {
            let line = postern.wait_for(&format!("WebSocket upgrade refused - {code} "));
            assert!(line.contains(&format!(", close_code: {code}, code: {why}, ")), "{line}");
            assert!(!line.contains("status: "), "{line}");
        }

        let settings = [CLOSE, ("POSTERN_TRUSTED_PROXIES", "192.0.2.1")];
        let strict = Postern::start(runtime, &settings);
        assert_eq!(
            close_frame(&strict, &[("user-id", "123")]),
            (4403, "peer_not_trusted".to_owned()),
            "{runtime}"
        );
        for postern in [postern, strict] {
            assert_eq!((postern.count("established"), postern.count("closed")), (0, 0));
        }
    }
}

#[test]
fn node_client_with_a_subprotocol_gets_a_close_with_the_reason() {
    let package = provision::node_ws().expect("the Node client");
    for postern in Postern::both(&[CLOSE]) {
        let mut node = Command::new("node");
        node.arg(workspace::path("tests/tests/peers/refused.cjs"));
        node.args([format!("ws://{}/ws", postern.address()), "{}".to_owned()]);
        let mut node = Process::spawn("node", node.env("NODE_PATH", &package)).expect("the client starts");
        node.wait(Duration::from_secs(20)).expect("the visit ends");
        assert_eq!(node.lines(), ["4401 identity_missing"]);
        assert_eq!(postern.count("a.b.c"), 0);
    }
}

#[test]
fn other_refusals_have_a_status() {
    for postern in Postern::both(&[CLOSE, ("LOG_LEVEL", "debug")]) {
        let to = || postern.handshake();
        for (handshake, status) in [
            (to().without("Upgrade"), 400),
            (to().without("Sec-WebSocket-Key"), 400),
            (to().as_john().header("User_ID", "x"), 400),
            (to().as_john().target("/other"), 404),
            (to().instead("Sec-WebSocket-Version", "8"), 426),
        ] {
            assert_eq!(handshake.refused().status, status);
        }
        to().as_john().open().close();
    }
}

#[test]
fn gateways_pass_on_the_close() {
    for (gateway, runtime) in [
        (Gateway::Traefik, Runtime::Mio),
        (Gateway::Nginx, Runtime::Smol),
        (Gateway::Haproxy, Runtime::Mio),
        (Gateway::Haproxy, Runtime::Smol),
        (Gateway::Caddy, Runtime::Mio),
        (Gateway::Envoy, Runtime::Smol),
    ] {
        let chain = Chain::start_with(gateway, runtime, &[CLOSE], &[]);
        let token = chain.login("john@example.com");
        let handshake = chain.handshake().subprotocols(&["bearer", &token]);
        let mut open = handshake.clone().header("Origin", "https://evil.test").open();
        assert_eq!(open.response.header("sec-websocket-protocol"), "bearer");
        assert_eq!(open.closed(), (4403, "origin_not_allowed".to_owned()), "{gateway}");
        chain.visit_as_john(handshake.open());
        assert_eq!(chain.postern.count("established"), 1, "{gateway}");
        chain.assert_no_secrets_logged();
    }
}

#[test]
fn client_that_does_not_answer_the_close_is_dropped() {
    for mut postern in Postern::both(&[CLOSE, ("POSTERN_CLOSE_TIMEOUT", "200ms")]) {
        // The client does not end its side, and the time-out of its socket is ten seconds.
        rest(&mut postern.handshake().open().into_stream());
        assert!(postern.terminate().success());
        assert_eq!(postern.count("refused - 4401"), 1);
    }
}
