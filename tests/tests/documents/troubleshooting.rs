//! The scenes of docs/troubleshooting.md: each check where all is well, and again with what it looks for broken.

use std::fs;
use std::net::SocketAddr;

use postern_tests::chain::Chain;
use postern_tests::documents::markdown::Block;
use postern_tests::documents::shell::Shell;
use postern_tests::gateway::Gateway;
use postern_tests::identity::Identity;
use postern_tests::ports;
use postern_tests::postern::{Postern, Runtime};
use rustix::process::Signal;

use crate::Section;

/// A shell into which has been pasted what the checks use.
fn shell() -> Shell {
    let mut shell = Shell::new();
    let section = Section::of("docs/troubleshooting.md", "Before you begin");
    let [function] = section.blocks();
    shell.remember(function);
    shell
}

/// The same for the addresses of a chain, with a token of John.
fn shell_for(chain: &Chain) -> Shell {
    shell().port(9191, chain.address()).port(9292, chain.identity.address()).set("TOKEN", &chain.login(JOHN))
}

/// The check of the fifth section, which others refer to.
fn asks_with_a_token() -> Block {
    Section::of("docs/troubleshooting.md", "5. Does the gateway add the headers?").blocks[0].clone()
}

pub(crate) fn is_postern_running(section: &Section) {
    let [check, ready, nobody, not_ready, start, bad_setting, taken] = section.blocks();
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start_with_control(runtime, &[("POSTERN_DRAIN_GRACE", "60s")]);
        let control = postern.control();
        let shell = || Shell::new().port(8081, control).replace("postern ", &format!("{runtime} "));
        let probing = shell().set("POSTERN_CONTROL", &control.to_string());
        probing.prints(check, 0, ready);
        postern.process.signal(Signal::TERM).expect("it runs");
        probing.prints(check, 1, not_ready);
        drop(postern);
        probing.prints(check, 1, nobody);

        let starting = Shell::new();
        let starting =
            if runtime == Runtime::Smol { starting.replace("postern", "postern-smol") } else { starting };
        starting.prints(start, 2, bad_setting);
        // All addresses, so that of the one that has the port, too.
        let holder = Postern::start(runtime, &[]);
        let port = holder.address().port().to_string();
        let plain = Block { text: format!("{runtime}\n"), ..start.clone() };
        let shell =
            Shell::new().port(8080, holder.address()).set("PORT", &port).set("POSTERN_CONTROL", "off");
        shell.replace("postern: ", &format!("{runtime}: ")).prints(&plain, 1, taken);
    }
}

pub(crate) fn is_identity_running(section: &Section) {
    let [check, runs, nobody] = section.blocks();
    let identity = Identity::start();
    let shell = Shell::new().port(9292, identity.address());
    shell.prints(check, 0, runs);
    drop(identity);
    // curl says so on standard error, in words that change with its version.
    shell.replace(" http:", " 2>/dev/null http:").prints(check, 7, nobody);
}

pub(crate) fn is_the_token_valid(section: &Section) {
    let [check, valid, invalid, look, inside] = section.blocks();
    let identity = Identity::start();
    let shell = |identity: &Identity| Shell::new().port(9292, identity.address());
    shell(&identity).prints(check, 0, valid);
    // As it would be of an Identity service with another secret.
    let forged = shell(&identity).set("FORGED", &identity.forged_token(JOHN));
    forged.replace("Bearer $TOKEN", "Bearer $FORGED").prints(check, 0, invalid);
    let expired = shell(&identity).set("EXPIRED", &identity.expired_token(JOHN));
    let outcome = expired.replace("Bearer $TOKEN", "Bearer $EXPIRED").run(check);
    assert!(outcome.lines.iter().any(|line| line.contains("token_expired")), "{outcome:?}");
    let looking = Shell::new().set("TOKEN", &identity.login(JOHN));
    looking.prints(look, 0, inside);
}

pub(crate) fn is_traefik_running(section: &Section) {
    let [check, asks, nobody, no_router, look, router, no_middleware, no_identity] = section.blocks();
    let chain = Chain::start(Gateway::Traefik, Runtime::Mio);
    let shell = shell().port(9191, chain.address());
    shell.prints(check, 0, asks);
    shell.prints(look, 0, router);
    let Chain { gateway, postern: _postern, identity, .. } = chain;
    // It reads its routes again when the file changes.
    let (traefik, folder) = gateway.into_parts();
    let routes = folder.path().join("dynamic.yaml");
    let shipped = fs::read_to_string(&routes).expect("its routes");
    for (from, to, shown) in [
        ("rule: \"Path(`/ws`)\"", "rule: \"Path(`/elsewhere`)\"", no_router),
        ("      middlewares: [identity-jwt-validate]\n", "", no_middleware),
    ] {
        assert!(shipped.contains(from), "{from} is not in {shipped}");
        fs::write(&routes, shipped.replace(from, to)).expect("routes");
        shell.prints(check, 0, shown);
    }
    fs::write(&routes, shipped).expect("routes");
    shell.prints(check, 0, asks);
    drop(identity);
    shell.prints(check, 0, no_identity);
    drop(traefik);
    shell.prints(check, 0, nobody);
}

pub(crate) fn does_the_gateway_add_the_headers(section: &Section) {
    let [check, adds, does_not, no_postern] = section.blocks();
    for runtime in Runtime::BOTH {
        let chain = Chain::start(Gateway::Traefik, runtime);
        let shell = shell_for(&chain);
        shell.prints(check, 0, adds);
        let Chain { postern, gateway: _gateway, identity: _identity, .. } = chain;
        drop(postern);
        shell.prints(check, 0, no_postern);
    }
    let changes = [("          - User-ID\n", "")];
    let chain = Chain::start_changed(Gateway::Traefik, Runtime::Mio, &changes);
    shell_for(&chain).prints(check, 0, does_not);
}

pub(crate) fn is_the_proxy_trusted(section: &Section) {
    let [not_trusted, no_secret, look, counted] = section.blocks();
    let check = asks_with_a_token();
    for (setting, value, shown) in [
        ("POSTERN_TRUSTED_PROXIES", "10.0.0.0/8", not_trusted),
        ("POSTERN_PROXY_SECRET", "a-secret-that-Traefik-does-not-know", no_secret),
    ] {
        let control = ports::free().to_string();
        let settings = [(setting, value), ("POSTERN_CONTROL", control.as_str())];
        let chain = Chain::start_with(Gateway::Traefik, Runtime::Mio, &settings, &[]);
        let address: SocketAddr = control.parse().expect("it is one");
        let shell = shell_for(&chain).port(8081, address);
        shell.prints(&check, 0, shown);
        if setting == "POSTERN_TRUSTED_PROXIES" {
            chain.postern.wait_for("peer: 127.0.0.1:");
            shell.prints(look, 0, counted);
        }
    }
}

pub(crate) fn does_the_origin_fit(section: &Section) {
    let [same, fits, other, does_not] = section.blocks();
    for (runtime, gateway) in [(Runtime::Mio, Gateway::Traefik), (Runtime::Smol, Gateway::Nginx)] {
        let chain = Chain::start(gateway, runtime);
        let shell = shell_for(&chain);
        shell.prints(same, 0, fits);
        shell.prints(other, 0, does_not);
    }
}

pub(crate) fn does_the_message_come_back(section: &Section) {
    let [check, comes_back, log] = section.blocks();
    for (runtime, gateway) in [(Runtime::Mio, Gateway::Traefik), (Runtime::Smol, Gateway::Nginx)] {
        let chain = Chain::start(gateway, runtime);
        let shell = shell_for(&chain);
        shell.prints(check, 0, comes_back);
        shell.logged(&chain.postern.process, log);
    }
}

const JOHN: &str = "john@example.com";
