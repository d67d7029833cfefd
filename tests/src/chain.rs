//! The whole chain: client, gateway, Identity, Postern.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::thread;

use crate::gateway::{Gateway, Running};
use crate::identity::{self, Identity};
use crate::postern::{Postern, Runtime};
use crate::wait_until;
use crate::ws::{Handshake, Open};

/// Identity, a gateway and Postern, each on its own port.
#[derive(Debug)]
pub struct Chain {
    /// The gateway, to which clients connect.
    pub gateway: Running,
    /// Postern, to which the gateway connects.
    pub postern: Postern,
    /// The Identity service, asked by the gateway.
    pub identity: Identity,
    /// Secrets that must not be logged.
    secrets: RefCell<Vec<String>>,
}

impl Chain {
    /// Starts all three with their shipped configuration.
    ///
    /// # Panics
    ///
    /// If one of them does not start.
    #[track_caller]
    pub fn start(gateway: Gateway, runtime: Runtime) -> Self {
        Self::start_with(gateway, runtime, &[], &[])
    }

    /// Starts all three, with these settings of Postern, and texts of the gateway's configuration replaced.
    ///
    /// # Panics
    ///
    /// If one of them does not start, or if one of the texts is missing.
    #[track_caller]
    pub fn start_with(
        gateway: Gateway,
        runtime: Runtime,
        settings: &[(&str, &str)],
        changes: &[(&str, &str)],
    ) -> Self {
        Self::start_all(gateway, Identity::start(), Postern::start(runtime, settings), changes)
    }

    /// Starts the gateway in front of these.
    ///
    /// # Panics
    ///
    /// If it does not start, or if one of the texts is missing.
    #[track_caller]
    pub fn start_all(
        gateway: Gateway,
        identity: Identity,
        postern: Postern,
        changes: &[(&str, &str)],
    ) -> Self {
        let gateway = Running::start(gateway, identity.address(), postern.address(), changes);
        Self { gateway, postern, identity, secrets: RefCell::default() }
    }

    /// Returns the address of the gateway.
    pub fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// Logs in through the gateway.
    ///
    /// # Panics
    ///
    /// If the login fails.
    #[track_caller]
    pub fn login(&self, email: &str) -> String {
        self.keep_secret(identity::login_at(self.address(), email))
    }

    /// Makes [`Chain::assert_no_secrets_logged`] search for this secret, too.
    pub fn keep_secret(&self, secret: String) -> String {
        self.secrets.borrow_mut().push(secret.clone());
        secret
    }

    /// Returns a handshake for the gateway, without a token yet.
    pub fn handshake(&self) -> Handshake {
        Handshake::to(self.address())
    }

    /// Sends messages on John's connection and closes it: text and binary are echoed, both sides close with 1000, and
    /// Postern logs the three sentences in their order.
    ///
    /// # Panics
    ///
    /// If one of these fails.
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
        assert!(!secrets.is_empty(), "a test needs a secret");
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

    /// Returns the log of the gateway with this number of upgrades. Each gateway writes the line of an upgrade after
    /// the end of its connection, which may be later than the end that the test sees.
    #[track_caller]
    fn gateway_log(&self, upgrades: usize) -> String {
        // The status follows the quoted request line. Traefik writes 0 for an upgraded request, and Caddy writes JSON.
        let forms = ["\" 101 ", "\" 0 ", "\"status\":101"];
        let is_upgrade = |line: &&str| forms.iter().any(|form| line.contains(form));
        wait_until(&format!("{upgrades} upgrades are in the gateway's log"), || {
            self.gateway.log().lines().filter(is_upgrade).count() >= upgrades
        });
        self.gateway.log()
    }
}

/// Checks that Postern's log has the three sentences of a connection of John with the message `Hello World`, in their order.
///
/// # Panics
///
/// If it does not.
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
/// If one is not logged, or earlier than the one before it.
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

/// Checks each gateway with each binary, at the same time.
///
/// # Panics
///
/// If a check does.
pub fn through_each(check: impl Fn(Gateway, Runtime) + Sync) {
    thread::scope(|scope| {
        for gateway in Gateway::ALL {
            for runtime in Runtime::BOTH {
                let check = &check;
                // A panic names its thread.
                let thread = thread::Builder::new().name(format!("{gateway}, {runtime}"));
                thread.spawn_scoped(scope, move || check(gateway, runtime)).expect("a thread");
            }
        }
    });
}
