//! What SECURITY.md shows of configurations, put into those that are shipped.

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
fn traefik_proves_itself_by_the_middleware_that_is_shown() {
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
    // What the client says is overwritten.
    let handshake = chain.handshake().header("X-Postern-Secret", "that of the client");
    chain.visit_as_john(handshake.bearer(&chain.login("john@example.com")).open());
}

#[test]
fn nginx_proves_itself_by_the_lines_that_are_shown() {
    let text = shown("nginx").replace('…', SECRET);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("postern.sock").display().to_string();
    // nginx's workers may be another user than the one who tests, and have to get there.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let secret = [("POSTERN_PROXY_SECRET", SECRET), ("POSTERN_LISTEN_MODE", "0666")];
    let postern = Postern::with(Runtime::Smol, &secret).listening(&format!(",unix:{socket}")).start();
    let identity = Identity::start();
    let lines = text.replace("/run/postern.sock", &socket);
    assert_ne!(lines, text);
    // Its own place in the configuration is that of the line which leads to Postern by an address.
    let address = format!("proxy_pass http://{};\n        }}", postern.address());
    let with_lines = format!("{lines}\n        }}");
    let changes = [(address.as_str(), with_lines.as_str())];
    let nginx = Running::start(Gateway::Nginx, identity.address(), postern.address(), &changes);
    let token = identity.login("john@example.com");
    Handshake::to(nginx.address()).bearer(&token).open().echo("Hello World");
    postern.wait_for("Message from John Doe (123): Hello World");
    assert!(postern.log().iter().any(|line| line.contains("peer: unix:")), "{:?}", postern.log());
}

#[test]
fn haproxy_proves_itself_by_the_lines_that_are_shown() {
    let text = shown("HAProxy").replace('…', SECRET);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("postern.sock").display().to_string();
    let postern = Postern::with(Runtime::Mio, &[("POSTERN_PROXY_SECRET", SECRET)])
        .listening(&format!(",unix:{socket}"))
        .start();
    let identity = Identity::start();
    let lines = text.replace("/run/postern.sock", &socket);
    assert_ne!(lines, text);
    let address = format!("server postern {}", postern.address());
    let changes = [(address.as_str(), lines.as_str())];
    let haproxy = Running::start(Gateway::Haproxy, identity.address(), postern.address(), &changes);
    let token = identity.login("john@example.com");
    // What the client says is overwritten.
    let handshake = Handshake::to(haproxy.address()).header("X-Postern-Secret", "that of the client");
    handshake.bearer(&token).open().echo("Hello World");
    postern.wait_for("Message from John Doe (123): Hello World");
    assert!(postern.log().iter().any(|line| line.contains("peer: unix:")), "{:?}", postern.log());
}
