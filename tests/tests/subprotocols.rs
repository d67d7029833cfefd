//! The answers to the subprotocols that clients offer. A browser closes a connection without an answer, so each form of a token
//! or a protocol that products offer must have one. The log marks connections without an answer.

use std::process::Command;
use std::time::Duration;

use postern_tests::chain::Chain;
use postern_tests::gateway::Gateway;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::workspace;
use postern_tests::ws::Open;

const OURS: (&str, &str) =
    ("POSTERN_SUBPROTOCOLS", "graphql-transport-ws,ocpp1.6,v4.channel.k8s.io,phoenix,chat");

/// Offers, and their answers. `s3cret-token` is the token. The unit tests of the core have all forms.
const OFFERS: [(&[&str], &str); 6] = [
    (&["Bearer", "s3cret-token"], "Bearer"),
    (&["access_token", "s3cret-token", "chat"], "chat"),
    (&["ocpp2.0.1", "chat", "ocpp1.6"], "ocpp1.6"),
    (&["base64url.bearer.authorization.k8s.io.s3cret-token", "v4.channel.k8s.io"], "v4.channel.k8s.io"),
    (&["postern.v1.json", "bearer", "s3cret-token"], "postern.v1.json"),
    (&["mqtt", "CHAT", "base64url.bearer.phx.s3cret-token"], ""),
];

/// Returns the subprotocol of the 101; empty if there is none.
fn answered(open: &Open) -> String {
    let value = open.response.headers.get("sec-websocket-protocol");
    value.map(|value| value.to_str().expect("ASCII").to_owned()).unwrap_or_default()
}

#[test]
fn offer_is_answered_or_marked_in_the_log() {
    for postern in Postern::both(&[OURS, ("LOG_LEVEL", "trace")]) {
        for (index, (offers, answer)) in OFFERS.iter().enumerate() {
            let user = format!("u-{index}");
            let handshake = postern.handshake().header("User-ID", &user).subprotocols(offers);
            let mut open = handshake.open();
            assert_eq!(answered(&open), *answer, "{offers:?}");
            open.echo("hello");
            let line = postern.wait_for(&format!(" - ID: {user},"));
            let is_marked = line.contains("subprotocol_unanswered: true");
            assert_eq!(is_marked, answer.is_empty(), "{line}");
            open.close();
        }
        postern.handshake().header("User-ID", "without").open().close();
        let line = postern.wait_for(" - ID: without,");
        assert!(!line.contains("subprotocol"), "{line}");
        assert_eq!(postern.count("s3cret-token"), 0);
    }
}

/// Returns the result of an offer by the WebSocket of a browser, through a gateway.
fn browser(chain: &Chain, token: &str, offers: &[&str]) -> Vec<String> {
    let url = format!("ws://{}/ws?token={token}", chain.address());
    let mut node = Command::new("node");
    node.arg("--experimental-websocket").arg(workspace::path("tests/tests/peers/browser.cjs"));
    node.args([url, serde_json::json!(offers).to_string()]);
    let mut node = Process::spawn("node", &mut node).expect("Node starts");
    node.wait(Duration::from_secs(30)).expect("the visit ends");
    node.lines().into_iter().filter(|line| line.starts_with("open") || line.starts_with("failed")).collect()
}

#[test]
fn browser_stays_connected_through_traefik() {
    for runtime in Runtime::BOTH {
        let chain = Chain::start_with(Gateway::Traefik, runtime, &[OURS], &[]);
        let token = chain.login("john@example.com");
        for (offers, line) in [
            (&["Bearer", &token][..], "open Bearer"),
            (&["access_token", &token], "open access_token"),
            (&["chat", "graphql-transport-ws"], "open graphql-transport-ws"),
            (
                &["base64url.bearer.authorization.k8s.io.YS5iLmM", "v4.channel.k8s.io"],
                "open v4.channel.k8s.io",
            ),
            (&["mqtt"], "failed"),
        ] {
            assert_eq!(browser(&chain, &token, offers), [line], "{runtime}: {offers:?}");
        }
        chain.postern.wait_for("subprotocol_unanswered: true");
        chain.assert_no_secrets_logged();
    }
}
