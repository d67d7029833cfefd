//! The configurations in SECURITY.md, inserted into those in `deploy`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use postern_tests::chain::Chain;
use postern_tests::documents::document;
use postern_tests::gateway::{Gateway, Running};
use postern_tests::identity::Identity;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Handshake;

/// Returns the only block under a heading of SECURITY.md.
#[track_caller]
fn shown(heading: &str) -> String {
    let document = document("SECURITY.md");
    let blocks: Vec<_> = document.blocks.iter().filter(|block| block.heading == heading).collect();
    let [block] = blocks[..] else { panic!("{} blocks under `{heading}` instead of one", blocks.len()) };
    block.text.clone()
}

const SECRET: &str = "a-secret-of-the-documents-test";

#[test]
fn traefik_sends_the_secret_with_the_middleware_of_security_md() {
    let text = shown("Traefik").replace('…', SECRET);
    let (first, middleware) = text.split_once('\n').expect("several lines");
    assert_eq!(first, "middlewares:");
    let middleware: String = middleware.lines().map(|line| format!("  {line}\n")).collect();
    let changes = [
        ("  middlewares:\n", format!("  middlewares:\n{middleware}")),
        ("middlewares: [identity-jwt-validate]", "middlewares: [identity-jwt-validate, prove]".to_owned()),
    ];
    let changes = changes.each_ref().map(|(from, to)| (*from, to.as_str()));
    let secret = [("POSTERN_PROXY_SECRET", SECRET)];
    let chain = Chain::start_with(Gateway::Traefik, Runtime::Mio, &secret, &changes);
    // The gateway replaces the value that the client sends.
    let handshake = chain.handshake().header("X-Postern-Secret", "that of the client");
    chain.visit_as_john(handshake.bearer(&chain.login("john@example.com")).open());
}

/// Replaces the line of a configuration that leads to Postern by the lines under a heading of SECURITY.md, which send the secret
/// through a Unix socket. `after` is the text after the line, where the line occurs more than once.
fn check_lines(gateway: Gateway, runtime: Runtime, heading: &str, line: &str, after: &str) {
    let lines = shown(heading);
    check_changes(gateway, runtime, &[(&format!("{line}{after}"), &format!("{lines}{after}"))]);
}

/// Starts a gateway with these changes, which make it send the secret through a Unix socket. `ADDRESS` and `PORT` in a text that is
/// replaced are the address and the port of Postern.
fn check_changes(gateway: Gateway, runtime: Runtime, changes: &[(&str, &str)]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("postern.sock").display().to_string();
    // The workers of nginx may run as another user than the test.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let settings = [("POSTERN_PROXY_SECRET", SECRET), ("POSTERN_LISTEN_MODE", "0666")];
    let postern = Postern::with(runtime, &settings).listening(&format!(",unix:{socket}")).start();
    let identity = Identity::start();
    let (address, port) = (postern.address().to_string(), postern.address().port().to_string());
    let changes: Vec<_> = changes
        .iter()
        .map(|(from, to)| {
            let to = to.replace('…', SECRET).replace("/run/postern.sock", &socket);
            (from.replace("ADDRESS", &address).replace("PORT", &port), to)
        })
        .collect();
    let texts: String = changes.iter().map(|(_, to)| to.as_str()).collect();
    assert!(texts.contains(SECRET) && texts.contains(&socket), "{texts}");
    let changes: Vec<_> = changes.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let gateway = Running::start(gateway, identity.address(), postern.address(), &changes);
    let token = identity.login("john@example.com");
    // The gateway replaces the value that the client sends.
    let handshake = Handshake::to(gateway.address()).header("X-Postern-Secret", "that of the client");
    handshake.bearer(&token).open().echo("Hello World");
    postern.wait_for("Message from John Doe (123): Hello World");
    assert!(postern.log().iter().any(|line| line.contains("peer: unix:")), "{:?}", postern.log());
}

#[test]
fn nginx_sends_the_secret_with_the_lines_of_security_md() {
    check_lines(Gateway::Nginx, Runtime::Smol, "nginx", "proxy_pass http://ADDRESS;", "\n        }");
}

#[test]
fn haproxy_sends_the_secret_with_the_lines_of_security_md() {
    check_lines(Gateway::Haproxy, Runtime::Mio, "HAProxy", "server postern ADDRESS", "");
}

#[test]
fn caddy_sends_the_secret_with_the_lines_of_security_md() {
    check_lines(Gateway::Caddy, Runtime::Smol, "Caddy", "reverse_proxy ADDRESS {", "");
}

#[test]
fn envoy_sends_the_secret_with_the_lines_of_security_md() {
    let text = shown("Envoy");
    let (header, address) = text.trim_end().split_once('\n').expect("two lines");
    // Lines of YAML, which have their place by their indentation.
    let route = "request_headers_to_remove: [x-forwarded-uri]\n";
    let header = format!("{route}{}{header}\n", " ".repeat(26));
    let socket = "address: { socket_address: { address: 127.0.0.1, port_value: PORT } }";
    check_changes(Gateway::Envoy, Runtime::Mio, &[(route, &header), (socket, address)]);
}
