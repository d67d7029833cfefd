//! Trusted peers: by address, by a secret, and by a Unix socket, on both binaries and through gateways.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use postern_tests::chain::Chain;
use postern_tests::gateway::{Gateway, Running};
use postern_tests::identity::Identity;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Stream;
use postern_tests::ws::Handshake;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

const SECRET: &str = "4f1c0c0b7a0b4f0e9d1a2b3c4d5e6f70";
const NEXT: &str = "9b2e6c1d8f3a4b5c6d7e8f9012345678";

/// Sends a handshake through a Unix socket. Returns the head of the response, and the socket.
#[track_caller]
fn through(path: &Path, handshake: &Handshake) -> (String, UnixStream) {
    let mut stream = UnixStream::connect(path).expect("Postern listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes a time limit");
    stream.write_all(&handshake.bytes()).expect("the request is taken");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a whole head");
        head.extend_from_slice(&byte);
    }
    (String::from_utf8(head).expect("ASCII"), stream)
}

/// Returns a handshake for a Unix socket. The address is used for `Host` only.
fn local() -> Handshake {
    Handshake::to(SocketAddr::from(([127, 0, 0, 1], 80)))
}

#[test]
fn unix_socket_is_trusted_and_serves_like_the_network() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("postern.sock");
        let settings = [("POSTERN_TRUSTED_PROXIES", "192.0.2.1"), ("POSTERN_LISTEN_MODE", "0600")];
        let unix = format!("unix:{}", path.display());
        let mut postern = Postern::with(runtime, &settings).listening(&format!(",{unix}")).start();
        postern.wait_for(&format!("and {unix}"));
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        postern.john().refused_with(403, "peer_not_trusted");

        let (head, stream) = through(&path, &local().as_john());
        assert!(head.starts_with("HTTP/1.1 101 "), "{runtime}: {head}");
        let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
        for message in [Message::text("Hello World"), Message::binary(vec![7; 60_000])] {
            socket.send(message.clone()).expect("it is open");
            assert_eq!(socket.read().expect("an echo"), message);
        }
        let line = postern.wait_for("connection established");
        assert!(line.contains("peer: unix:"), "{runtime}: {line}");
        socket.close(None).expect("it is open");
        while socket.read().is_ok() {}
        postern.wait_for("connection closed for user John Doe (123)");

        let (head, _) = through(&path, &local());
        assert!(head.starts_with("HTTP/1.1 401 "), "{runtime}: trusted, but without a user: {head}");
        assert!(postern.terminate().success());
        assert!(!path.exists(), "{runtime} does not remove its socket");
    }
}

#[test]
fn unix_socket_of_a_killed_process_is_replaced_and_one_in_use_is_not() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("postern.sock");
        let unix = format!("unix:{}", path.display());
        let mut killed = Postern::with(runtime, &[]).listening(&format!(",{unix}")).start();
        killed.process.kill();
        assert!(path.exists());
        let _living = Postern::with(runtime, &[]).listening(&format!(",{unix}")).start();
        let (status, _) = Postern::refuse(runtime, &[("POSTERN_LISTEN", &unix)]);
        assert_eq!(status.code(), Some(1), "{runtime}");
        let (head, _) = through(&path, &local().as_john());
        assert!(head.starts_with("HTTP/1.1 101 "), "{runtime}: {head}");
    }
}

#[test]
fn nginx_can_connect_to_a_unix_socket() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("postern.sock");
        let unix = format!(",unix:{}", path.display());
        // Only the socket is trusted.
        let settings = [("POSTERN_TRUSTED_PROXIES", "192.0.2.1"), ("POSTERN_LISTEN_MODE", "0666")];
        let postern = Postern::with(runtime, &settings).listening(&unix).start();
        postern.wait_for("POSTERN_LISTEN_MODE lets every user of this host connect");
        let identity = Identity::start();
        let over_tcp = format!("proxy_pass http://{};", postern.address());
        let over_unix = format!("proxy_pass http://unix:{};", path.display());
        let gateway =
            Running::start(Gateway::Nginx, identity.address(), postern.address(), &[(&over_tcp, &over_unix)]);
        let token = postern_tests::identity::login_at(gateway.address(), "john@example.com");
        let mut open = Handshake::to(gateway.address()).bearer(&token).open();
        open.echo("Hello World");
        open.close();
        let line = postern.wait_for("connection established");
        assert!(line.contains("John Doe") && line.contains("peer: unix:"), "{runtime}: {line}");
    }
}

#[test]
fn proxy_secret_must_be_in_exactly_one_line() {
    for runtime in Runtime::BOTH {
        let secrets = format!("{SECRET},{NEXT}");
        let settings = [("POSTERN_PROXY_SECRET", secrets.as_str()), ("LOG_LEVEL", "trace")];
        let postern = Postern::start(runtime, &settings);
        let john = || postern.john();
        for secret in [SECRET, NEXT] {
            john().header("x-postern-secret", secret).open().close();
        }
        for (case, handshake) in [
            ("none", john()),
            ("empty", john().header("X-Postern-Secret", "")),
            ("wrong", john().header("X-Postern-Secret", &SECRET.to_uppercase())),
            ("both in one line", john().header("X-Postern-Secret", &secrets)),
            ("twice", john().header("X-Postern-Secret", SECRET).header("X-Postern-Secret", SECRET)),
            ("an alias alone", john().header("X_Postern_Secret", SECRET)),
            (
                "an alias in addition",
                john().header("X-Postern-Secret", SECRET).header("X.Postern.Secret", "x"),
            ),
            (
                "nominated",
                john().header("X-Postern-Secret", SECRET).instead("Connection", "Upgrade, X-Postern-Secret"),
            ),
        ] {
            println!("{runtime}, {case}");
            handshake.refused_with(403, "proxy_secret");
        }
        postern.wait_for("code: proxy_secret");
        let said = postern.process.lines().join("\n");
        assert!(!said.contains(SECRET) && !said.contains(NEXT), "{runtime}: {said}");
    }
}

#[test]
fn proxy_secret_can_come_from_a_file_and_another_header() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("secret");
    fs::write(&path, format!("{SECRET}\n")).expect("it is writable");
    let path = path.to_str().expect("UTF-8");
    for runtime in Runtime::BOTH {
        let settings = [("POSTERN_PROXY_SECRET_FILE", path), ("POSTERN_PROXY_SECRET_HEADER", "X-Proof")];
        let postern = Postern::start(runtime, &settings);
        postern.john().header("X-Proof", SECRET).open().close();
        postern.john().header("X-Postern-Secret", SECRET).refused_with(403, "proxy_secret");
        let both = [("POSTERN_PROXY_SECRET_FILE", path), ("POSTERN_PROXY_SECRET", SECRET)];
        let (status, lines) = Postern::refuse(runtime, &both);
        assert_eq!(status.code(), Some(2));
        let expected = format!(
            "{runtime}: POSTERN_PROXY_SECRET_FILE={path}: POSTERN_PROXY_SECRET is set already; leave out one of the two"
        );
        assert_eq!(lines, [expected]);
    }
}

/// The gateways replace any secret that a client sends.
#[test]
fn gateways_can_send_the_proxy_secret_and_their_clients_cannot() {
    let traefik_middleware = format!(
        "    prove:\n      headers:\n        customRequestHeaders:\n          X-Postern-Secret: {SECRET}\n\n  routers:\n"
    );
    let traefik = [
        ("middlewares: [identity-jwt-validate]", "middlewares: [identity-jwt-validate, prove]"),
        ("  routers:\n", traefik_middleware.as_str()),
    ];
    let name = "            proxy_set_header User-Name  $identity_name;\n";
    let nginx_line = format!("{name}            proxy_set_header X-Postern-Secret {SECRET};\n");
    let nginx = [(name, nginx_line.as_str())];
    for (gateway, changes) in [(Gateway::Traefik, &traefik[..]), (Gateway::Nginx, &nginx[..])] {
        let settings = [("POSTERN_PROXY_SECRET", SECRET)];
        let chain = Chain::start_with(gateway, Runtime::Mio, &settings, changes);
        let token = chain.login("john@example.com");
        let handshake = || chain.handshake().bearer(&token);
        chain.visit_as_john(handshake().header("X-Postern-Secret", "guessed-guessed-guessed").open());
        // A client without the gateway does not know the secret.
        chain.postern.john().refused_with(403, "proxy_secret");
        chain.keep_secret(SECRET.to_owned());
        chain.assert_no_secrets_logged();
        // A gateway without the secret is refused, even with a valid token.
        let chain = Chain::start_with(gateway, Runtime::Smol, &settings, &[]);
        let token = chain.login("john@example.com");
        chain
            .handshake()
            .bearer(&token)
            .header("X-Postern-Secret", "guessed")
            .refused_with(403, "proxy_secret");
    }
}

#[test]
fn trust_in_every_peer_is_one_warning() {
    let everybody = "POSTERN_TRUSTED_PROXIES trusts every peer: any client";
    for runtime in Runtime::BOTH {
        for (proxies, secret, warnings) in [
            ("any", "", vec![format!("WARN {everybody} can be any user")]),
            ("10.0.0.0/8,::/0", "", vec![format!("WARN {everybody} can be any user")]),
            ("any", SECRET, vec![format!("WARN {everybody} that knows the proxy secret can be any user")]),
            ("private,loopback", "", vec![]),
        ] {
            let settings = [("POSTERN_TRUSTED_PROXIES", proxies), ("POSTERN_PROXY_SECRET", secret)];
            let mut postern = Postern::start(runtime, &settings);
            let handshake = postern.john();
            let proved = handshake.clone().header("X-Postern-Secret", SECRET);
            if !proxies.starts_with("10.") {
                for _ in 0..2 {
                    proved.open().close();
                }
            }
            assert!(postern.terminate().success());
            let lines = postern.process.lines_of(Stream::Out);
            let warned: Vec<_> = lines
                .iter()
                .filter(|line| line.contains("PROXIES"))
                .filter_map(|line| line.get(25..))
                .collect();
            assert_eq!(warned, warnings, "{runtime}, {proxies}: {lines:?}");
        }
    }
}

#[test]
fn preset_reads_only_the_headers_of_its_gateway() {
    for runtime in Runtime::BOTH {
        for (preset, id, email, name) in [
            ("user", "User-ID", "User-Email", "User-Name"),
            ("oauth2-proxy", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Preferred-Username"),
            ("authelia", "Remote-User", "Remote-Email", "Remote-Name"),
            ("authentik", "X-authentik-uid", "X-authentik-email", "X-authentik-name"),
            ("pomerium", "X-Pomerium-Claim-Sub", "X-Pomerium-Claim-Email", "X-Pomerium-Claim-Name"),
        ] {
            let postern = Postern::start(runtime, &[("POSTERN_IDENTITY", preset)]);
            let to = || postern.handshake();
            to().header(id, "u-7").header(email, "ann@example.com").header(name, "Ann").open().close();
            postern.wait_for("established - User: Ann (ann@example.com) - ID: u-7");
            assert_eq!(to().header(&id.replace('-', "_"), "u-7").refused().status, 400, "{preset}");
            if preset != "user" {
                // Its gateway does not remove these headers of a client, so they are ignored.
                let odd = to().header(id, "u-7").header("User-Token-Exp", "never").header("User_ID", "x");
                odd.open().close();
                assert_eq!(to().as_john().refused().status, 401, "{preset}");
            }
        }
    }
}
