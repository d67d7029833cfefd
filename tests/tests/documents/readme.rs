//! The scenes of README.md.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use postern_tests::binaries::Binary;
use postern_tests::chain::Chain;
use postern_tests::documents::shell::Shell;
use postern_tests::gateway::Gateway;
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::process::{Ending, Stream, wait_until_listening};
use postern_tests::ws::Handshake;
use postern_tests::{documents, http, ports, provision, workspace};
use rustix::process::Signal;

use crate::Section;

/// The binary of the dev profile stands in for the one that `cargo run --release` would build for minutes; what Cargo runs
/// here without being told more is in Cargo.toml.
pub(crate) fn quick_start(section: &Section) {
    let [run, talk, log] = section.blocks();
    let manifest = fs::read_to_string(workspace::path("Cargo.toml")).expect("it is there");
    assert!(manifest.contains(r#"default-members = ["runtimes/mio"]"#), "it is not postern that is started");
    for runtime in Runtime::BOTH {
        let (address, control) = (ports::free(), ports::free());
        let shell = Shell::new()
            .replace("cargo run --release", &format!("exec {runtime}"))
            .port(8080, address)
            .set("PORT", &address.port().to_string())
            .set("POSTERN_CONTROL", &control.to_string());
        let mut postern = shell.start(run);
        postern.wait_until_listening(address, PATIENCE).expect("it listens");
        let answer = shell.succeed(talk);
        let first = answer.first().map(String::as_str).unwrap_or_default();
        assert_eq!(first, "HTTP/1.1 101 Switching Protocols", "{runtime}: {answer:?}");
        assert!(answer.iter().any(|line| line.contains("Hello")), "{runtime}: {answer:?}");
        shell.logged(&postern, log);
        postern.signal(Signal::INT).expect("it runs");
        assert_eq!(postern.wait(PATIENCE).expect("it ends").code(), Some(0), "{runtime}");
    }
}

/// `tests/tests/chain.rs` runs what it prints.
pub(crate) fn the_whole_chain(section: &Section) {
    let [start] = section.blocks();
    let addresses: [SocketAddr; 4] = [(); 4].map(|()| ports::free());
    let flags = ["--gateway-port", "--identity-port", "--port", "--control-port"].iter().zip(addresses);
    let flags: Vec<_> = flags.map(|(flag, address)| format!("{flag} {}", address.port())).collect();
    let (chain, postern) = (Binary::Chain.path().display(), Binary::Postern.path().display());
    let chain = format!("exec {chain} --postern {postern} {}", flags.join(" "));
    let shell = Shell::new().replace("cargo chain", &chain);
    let mut chain = shell.start(start).ending(Ending::Terminate);
    chain.wait_for_line(|line| line == "Ctrl-C ends everything.", STARTING).expect("it is ready");
    for user in ["john", "ann", "rene"] {
        let token = postern_tests::identity::login_at(addresses[0], &format!("{user}@example.com"));
        Handshake::to(addresses[0]).bearer(&token).open().echo("Hello World");
    }
    chain.signal(Signal::INT).expect("it runs");
    assert_eq!(chain.wait(PATIENCE).expect("it ends").code(), Some(0));
}

pub(crate) fn curl(section: &Section) {
    let [login_and_upgrade] = section.blocks();
    let (chain, control) = chain_with_control(Runtime::Mio);
    // A person presses Ctrl-C, after which curl would not print what it has. So it is the other side that ends.
    let shell = Shell::new().port(9191, chain.address());
    let curl = shell.start(login_and_upgrade);
    chain.postern.wait_for("WebSocket connection established - User: John Doe (john@example.com) - ID: 123");
    disconnect(control);
    let answer = documents::shell::finish(curl).expect("it ends when the connection does");
    assert!(answer.lines.iter().any(|line| line.starts_with("HTTP/1.1 101 ")), "{answer:?}");
}

/// A page has cookies and a console, and Node has not: `page.cjs` says what stands in for them.
pub(crate) fn javascript(section: &Section) {
    let [with_cookie, without] = section.blocks();
    assert!(with_cookie.is(&["js"]) && without.is(&["js"]), "{with_cookie}, {without}");
    let chain = Chain::start(Gateway::Traefik, Runtime::Smol);
    let shell = Shell::new().port(9191, chain.address());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = shell.command("node");
    // The gateway listens on IPv4 alone, and old versions of Node take the first address that `localhost` has.
    node.arg("--dns-result-order=ipv4first").arg(workspace::path("tests/tests/documents/page.cjs"));
    for (name, block) in [("with.js", with_cookie), ("without.js", without)] {
        fs::write(folder.path().join(name), shell.replaced(&block.text)).expect("a file");
        node.arg(folder.path().join(name));
    }
    node.env("NODE_PATH", provision::node_ws().expect("the Node client"));
    let mut node = postern_tests::process::Process::spawn("page", &mut node).expect("node starts");
    assert!(node.wait(PATIENCE).expect("it ends").success(), "{:?}", node.lines());
    assert_eq!(
        node.lines_of(Stream::Out),
        ["Received: Hello World", "Disconnected: 1000 ", "bySubprotocol: open, bearer", "byQuery: open, "]
    );
    postern_tests::chain::assert_john_logged(&chain.postern);
}

pub(crate) fn running_it(section: &Section) {
    let [requests] = section.blocks();
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let mut user = Handshake::to(postern.address()).as_john().open();
        user.echo("Hello");
        let shell = Shell::new().port(8081, postern.control()).set("POSTERN_API_KEY", API_KEY);
        let printed = shell.succeed(requests).join("\n");
        for part in [r#"{"status":"ready"}"#, r#""user":"123""#, r#"{"sent":1}"#] {
            assert!(printed.contains(part), "{runtime}: {part} is not in {printed}");
        }
        assert_eq!(user.socket.read().expect("a message").to_text().expect("a text"), "The report is ready");
    }
}

/// README.md is to be read in one go.
#[test]
fn the_readme_is_short() {
    let text = fs::read_to_string(workspace::path("README.md")).expect("it is there");
    assert!(
        text.lines().count() <= 240,
        "{} lines: move what is not for everybody to docs/",
        text.lines().count()
    );
}

/// Identity, Traefik and a Postern with a control port.
pub(crate) fn chain_with_control(runtime: Runtime) -> (Chain, SocketAddr) {
    let control = ports::free();
    let address = control.to_string();
    let mut settings = vec![("POSTERN_CONTROL", address.as_str()), ("POSTERN_API_KEY", API_KEY)];
    // curl does not answer a Close.
    settings.push(("POSTERN_CLOSE_TIMEOUT", "200ms"));
    let chain = Chain::start_with(Gateway::Traefik, runtime, &settings, &[]);
    wait_until_listening(control, PATIENCE).expect("the control port listens");
    (chain, control)
}

/// Ends John's connections.
fn disconnect(control: SocketAddr) {
    let headers = [("X-API-Key", API_KEY), ("Content-Type", "application/json")];
    let answer =
        http::request(control, "POST", "/api/disconnect", &headers, br#"{"user":"123","code":1000}"#);
    assert_eq!(answer.expect("an answer").status, 200);
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// In a clean clone this includes a download.
const STARTING: Duration = Duration::from_secs(600);
