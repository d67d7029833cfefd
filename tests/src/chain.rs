//! The whole chain as a test sees it: client, gateway, Identity, Postern.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::gateway::{Gateway, Running};
use crate::identity::{self, Identity};
use crate::postern::{Postern, Runtime};
use crate::ws::{Handshake, Open};

/// Identity, a gateway and Postern, each on a port of its own.
#[derive(Debug)]
pub struct Chain {
    /// The gateway: where clients connect.
    pub gateway: Running,
    /// Postern, behind the gateway.
    pub postern: Postern,
    /// The Identity service, asked by the gateway.
    pub identity: Identity,
    /// Secrets that must not be logged.
    secrets: RefCell<Vec<String>>,
}

impl Chain {
    /// Starts all three, each as it is shipped.
    ///
    /// # Panics
    ///
    /// If one of them does not start.
    #[track_caller]
    pub fn start(gateway: Gateway, runtime: Runtime) -> Self {
        Self::start_changed(gateway, runtime, &[])
    }

    /// Starts all three, with texts of the gateway's configuration replaced.
    ///
    /// # Panics
    ///
    /// If one of them does not start, or if one of the texts is not there.
    #[track_caller]
    pub fn start_changed(gateway: Gateway, runtime: Runtime, changes: &[(&str, &str)]) -> Self {
        Self::start_with(gateway, runtime, &[], changes)
    }

    /// Starts all three, with these settings of Postern, and texts of the gateway's configuration replaced.
    ///
    /// # Panics
    ///
    /// If one of them does not start, or if one of the texts is not there.
    #[track_caller]
    pub fn start_with(
        gateway: Gateway,
        runtime: Runtime,
        settings: &[(&str, &str)],
        changes: &[(&str, &str)],
    ) -> Self {
        let identity = Identity::start();
        let postern = Postern::start(runtime, settings);
        let gateway = Running::start(gateway, identity.address(), postern.address(), changes);
        Self { gateway, postern, identity, secrets: RefCell::default() }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// Logs in through the gateway, as every client does.
    ///
    /// # Panics
    ///
    /// If the login fails.
    #[track_caller]
    pub fn login(&self, email: &str) -> String {
        self.keep_secret(identity::login_at(self.address(), email))
    }

    /// Makes [`Chain::assert_no_secrets_logged`] look for this, too.
    pub fn keep_secret(&self, secret: String) -> String {
        self.secrets.borrow_mut().push(secret.clone());
        secret
    }

    /// A handshake for the gateway, without a token yet.
    pub fn handshake(&self) -> Handshake {
        Handshake::to(self.address())
    }

    /// John's whole visit on an open connection: text and binary come back, both sides close with 1000, and Postern
    /// logs the three sentences in their order.
    ///
    /// # Panics
    ///
    /// If anything of that does not happen.
    #[track_caller]
    pub fn visit_as_john(&self, mut open: Open) {
        open.echo("Hello World");
        open.echo(vec![0_u8, 1, 0xfe, 0xff]);
        open.close();
        assert_john_logged(&self.postern);
    }

    /// Checks that the log of Postern contains no token, cookie, query or `Authorization` of this test, and that the logs of
    /// the others contain no token.
    ///
    /// # Panics
    ///
    /// If one does.
    #[track_caller]
    pub fn assert_no_secrets_logged(&self) {
        let secrets = self.secrets.borrow();
        assert!(!secrets.is_empty(), "a test without a secret tests nothing here");
        let postern = self.postern.process.lines().join("\n");
        let gateway = self.gateway_log(postern.matches("connection established").count());
        for log in [&postern, &gateway, &self.identity.process.lines().join("\n")] {
            for secret in secrets.iter() {
                // The signature is the secret part, and the header the part that all tokens share.
                let part = secret.rsplit('.').next().unwrap_or(secret);
                assert!(!log.contains(part), "the token {secret} is logged:\n{log}");
            }
        }
        // Texts that `Handshake::cookie` and `Handshake::query` add to the token, and the beginning of every token.
        for text in ["theme=dark", "room=7", "Bearer ey", "eyJ"] {
            assert!(!postern.contains(text), "{text:?} is logged:\n{postern}");
        }
    }

    /// The log of the gateway with so many upgrades in it. Each gateway writes the line of an upgraded request when its
    /// connection has ended, and that may be after the test has seen the end.
    #[track_caller]
    fn gateway_log(&self, upgrades: usize) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let log = self.gateway.log();
            // Behind the quoted request line comes the status. For Traefik an upgraded request has none.
            let upgraded = |line: &&str| line.contains("\" 101 ") || line.contains("\" 0 ");
            if log.lines().filter(upgraded).count() >= upgrades {
                return log;
            }
            assert!(Instant::now() < deadline, "{upgrades} upgrades are not in the gateway's log:\n{log}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Postern's log has the three sentences of a visit by John who said `Hello World`, in their order.
///
/// # Panics
///
/// If it has not.
#[track_caller]
pub fn assert_john_logged(postern: &Postern) {
    assert_logged_in_order(
        postern,
        &[
            "WebSocket connection established - User: John Doe (john@example.com) - ID: 123",
            "Message from John Doe (123): Hello World",
            "WebSocket connection closed for user John Doe (123)",
        ],
    );
}

/// Waits until each of these texts is logged, and checks that the first lines with them come in this order.
///
/// # Panics
///
/// If one is not logged, or earlier than its predecessor.
#[track_caller]
pub fn assert_logged_in_order(postern: &Postern, texts: &[&str]) {
    for text in texts {
        postern.wait_for(text);
    }
    let log = postern.log();
    let place = |text: &&str| log.iter().position(|line| line.contains(*text));
    let places: Vec<_> = texts.iter().map(place).collect();
    assert!(places.iter().all(Option::is_some), "on standard error instead of standard output: {places:?}");
    assert!(places.is_sorted(), "out of order, in lines {places:?}:\n{}", log.join("\n"));
}
