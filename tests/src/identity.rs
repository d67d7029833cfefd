//! The development Identity service as a child of a test. See [`postern_identity`].

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, SystemTime};

use postern_identity::tokens::Tokens;
use postern_identity::users::{PASSWORD, by_email};

use crate::binaries::Binary;
use crate::canary::{self, Kind};
use crate::process::Process;
use crate::{http, ports};

/// A running Identity service. It also makes tokens that the service would not issue.
#[derive(Debug)]
pub struct Identity {
    /// Its process: the request log is on its standard output.
    pub process: Process,
    address: SocketAddr,
}

impl Identity {
    /// The secret of every Identity service that a test starts.
    pub const SECRET: &str = "a secret for tests, and only for tests";

    /// Starts it on a free port.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts it with further arguments, such as `["--token-ttl", "1s"]`.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::spawn(arguments, &[])
    }

    /// Starts one that ends the connections of a session at its logout, by this control port and key.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[track_caller]
    pub fn revoking(control: SocketAddr, key: &str) -> Self {
        Self::spawn(&["--revoke-at", &control.to_string()], &[("POSTERN_API_KEY", key)])
    }

    #[track_caller]
    fn spawn(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let address = ports::free();
        let mut command = Command::new(Binary::Identity.path());
        command.envs(environment.iter().copied());
        command.args(["--listen", &address.to_string()]).args(arguments).env("JWT_SECRET", Self::SECRET);
        let mut process = Process::spawn("identity", &mut command).expect("the Identity service starts");
        process.wait_until_listening(address, Duration::from_secs(10)).expect("the Identity service listens");
        Self { process, address }
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Logs in directly at the service. All demo users have the same password.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    #[track_caller]
    pub fn login(&self, email: &str) -> String {
        login_at(self.address, email)
    }

    /// Returns a token of this user that has expired.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    #[track_caller]
    pub fn expired_token(&self, email: &str) -> String {
        issue(Self::SECRET, email, SystemTime::now() - 2 * LIFETIME)
    }

    /// Returns a token of this user that is signed with another secret.
    ///
    /// # Panics
    ///
    /// If there is no such user.
    #[track_caller]
    pub fn forged_token(&self, email: &str) -> String {
        issue("not the secret", email, SystemTime::now())
    }
}

/// Logs in at the service, or at a gateway in front of it.
///
/// # Panics
///
/// If the login fails.
#[track_caller]
pub fn login_at(address: SocketAddr, email: &str) -> String {
    let body = serde_json::json!({ "email": email, "password": PASSWORD }).to_string();
    let headers = [("Content-Type", "application/json")];
    let response = http::request(address, "POST", "/identity/login", &headers, body.as_bytes())
        .unwrap_or_else(|failure| panic!("logging in as {email}: {failure}"));
    assert_eq!(response.status, 200, "logging in as {email}: {response}");
    let token = response.json()["accessToken"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("logging in as {email}: no accessToken in {response}"))
}

#[track_caller]
fn issue(secret: &str, email: &str, at: SystemTime) -> String {
    let user = by_email(email).unwrap_or_else(|| panic!("no user {email}"));
    let token = Tokens::new(secret.as_bytes(), LIFETIME).issue(user, at).expect("HS256 signs anything");
    canary::secret(Kind::Token, token)
}

const LIFETIME: Duration = Duration::from_secs(3600);
