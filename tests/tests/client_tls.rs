//! The client for Rust by TLS, through nginx: a private authority, and certificates that must be refused.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use postern_client::plain::{self, Message};
use postern_client::{Backoff, Config, Event};
use postern_tests::authority::{Authority, Issued};
use postern_tests::gateway::{Addresses, Gateway, Running};
use postern_tests::identity::Identity;
use postern_tests::ports;
use postern_tests::postern::{Postern, Runtime};
use smol::Timer;

/// Starts nginx with a certificate. Returns the address by TLS, for the name `localhost`.
fn start(identity: &Identity, postern: SocketAddr, issued: &Issued) -> (Running, String) {
    let (plain, tls) = (ports::free(), ports::free());
    let listen = format!("listen {plain};");
    let (certificate, key) = (&issued.certificate, &issued.key);
    let with_tls =
        format!("{listen}\nlisten {tls} ssl;\nssl_certificate {certificate};\nssl_certificate_key {key};");
    let addresses = Addresses { gateway: plain, identity: identity.address(), postern };
    let gateway = Running::start_at(Gateway::Nginx, addresses, &[(&listen, &with_tls)]);
    (gateway, format!("wss://localhost:{}/ws", tls.port()))
}

fn in_time<T>(what: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(Duration::from_secs(60)).await;
        panic!("nothing has happened in a minute")
    };
    smol::block_on(smol::future::or(what, late))
}

#[test]
fn a_private_authority_is_trusted_if_the_application_says_so() {
    let (authority, identity) = (Authority::new("The Authority of the Tests"), Identity::start());
    let issued = authority.issue(&["localhost"]);
    let pem = fs::read(authority.file()).expect("a file");
    let token = format!("Bearer {}", identity.login("john@example.com"));
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let (_gateway, url) = start(&identity, postern.address(), &issued);
        let config = plain::Config::new(&url).header("Authorization", &token);
        let (client, mut events, driver) =
            config.authorities(&pem).expect("certificates").build().expect("a client");
        smol::spawn(driver.run()).detach();
        in_time(async {
            client.send(Message::Text("Hello".into())).await.expect("it is sent");
            assert_eq!(events.next().await, Some(plain::Event::Opened));
            let echo = plain::Event::Message(Message::Text("Hello".into()));
            assert_eq!(events.next().await, Some(echo));
        });
        // Longer than a record of TLS.
        let long = "x".repeat(50_000);
        in_time(async {
            client.send(Message::Text(long.clone())).await.expect("it is sent");
            assert_eq!(events.next().await, Some(plain::Event::Message(Message::Text(long))));
        });
    }
}

#[test]
fn a_certificate_that_cannot_be_trusted_is_named() {
    let (authority, identity) = (Authority::new("The Authority of the Tests"), Identity::start());
    let pem = fs::read(authority.file()).expect("a file");
    let other = fs::read(Authority::new("Another Authority").file()).expect("a file");
    let postern = Postern::start(Runtime::Mio, &[]);
    let wrong_name = authority.issue(&["other.example.com"]);
    let expired = authority.issue_expired(&["localhost"]);
    let good = authority.issue(&["localhost"]);
    for (issued, trusted, reasons) in [
        (&wrong_name, Some(&pem), &["not valid for name", "localhost", "other.example.com"][..]),
        (&expired, Some(&pem), &["certificate expired"]),
        (&good, Some(&other), &["UnknownIssuer"]),
        (&good, None, &["UnknownIssuer"]),
    ] {
        let (_gateway, url) = start(&identity, postern.address(), issued);
        let backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(10) };
        let mut config = Config::new(url).backoff(backoff);
        if let Some(trusted) = trusted {
            config = config.authorities(trusted).expect("certificates");
        }
        let (_client, mut events, driver) = config.build().expect("a client");
        smol::spawn(driver.run()).detach();
        // The certificate may be replaced, so the client makes further attempts.
        for _ in 0..2 {
            let event = in_time(events.next());
            let Some(Event::Reconnecting { reason, .. }) = event else { panic!("{event:?}") };
            assert!(reasons.iter().all(|part| reason.contains(part)), "{reason}");
        }
    }
}

#[test]
fn certificates_that_cannot_be_read_are_refused() {
    for (pem, reason) in [
        (&b"hello"[..], "there is no certificate in the PEM text"),
        (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "the certificates are not PEM"),
    ] {
        let error = Config::new("wss://localhost/").authorities(pem).expect_err("an error").to_string();
        assert!(error.contains(reason), "{error}");
    }
}
