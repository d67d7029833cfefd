//! The parts that the tests of this workspace share: real processes, real gateways, real sockets.
//!
//! There are no mocks. A test starts the binaries and the gateway configurations that are shipped, and checks what a client
//! receives and what Postern logs. No test is skipped: a missing gateway or client is downloaded once into
//! `target/provision/`, and if that fails, the test fails and says what to do.
//!
//! All calls are blocking and have a time limit, so that a test reads from top to bottom and cannot hang.
//!
//! In reading order:
//!
//! * [`ports`], [`process`]: free ports, and child processes that end with the test;
//! * [`canary`]: the search for secrets in their output;
//! * [`memory`]: the search for secrets in their memory;
//! * [`binaries`], [`provision`]: programs that Cargo has built, and those that are downloaded on demand;
//! * [`postern`], [`identity`], [`gateway`]: the three members of the chain;
//! * [`scripted_identity`]: an Identity service with scripted answers;
//! * [`backend`]: a backend that receives the requests of Postern;
//! * [`issuer`]: a gateway that signs identities;
//! * [`http`], [`ws`], [`frames`]: clients that can send invalid requests and frames;
//! * [`channels`]: a client of the protocol of channels;
//! * [`redis`], [`switch`], [`sentinel`], [`redis_cluster`]: Redis servers, one address for several of them, their sentinels, a Redis
//!   Cluster;
//! * [`cluster`], [`watcher`]: nodes that use them, and subscribers that check what they receive;
//! * [`authority`]: certificates of a private authority;
//! * [`forwarder`]: adds a user to the requests of clients that cannot;
//! * [`browser`]: Chromium without a window;
//! * [`chain`]: all of them together;
//! * [`systemd`], [`kubernetes`]: the shipped units and manifests, judged by the tools that read them;
//! * [`documents`]: README.md and the other documents, parsed, and their commands, run.

pub mod canary;
pub mod memory;
pub mod ports;
pub mod process;

pub mod binaries;
pub mod nats;
pub mod provision;
pub mod rabbitmq;

pub mod gateway;
pub mod identity;
pub mod issuer;
pub mod postern;
pub mod scripted_identity;

pub mod backend;

pub mod authority;
pub mod cluster;
pub mod redis;
pub mod redis_cluster;
pub mod sentinel;
pub mod switch;
pub mod watcher;

pub mod browser;
pub mod channels;
pub mod forwarder;
pub mod frames;
pub mod http;
pub mod ws;

pub mod chain;

pub mod kubernetes;
pub mod systemd;

pub mod documents;

pub use postern_chain::{Failure, workspace};

/// Returns the settings in a file of lines `NAME=value`, such as `deploy/production.env`.
///
/// # Panics
///
/// If it cannot be read.
#[track_caller]
pub fn settings_in(path: &str) -> Vec<(&'static str, &'static str)> {
    let text =
        std::fs::read_to_string(workspace::path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    // A test process reads few such files.
    let lines = text.leak().lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"))).collect()
}

/// Runs a test with each of these at the same time, because it waits most of the time.
///
/// # Panics
///
/// If one of them panics.
pub fn at_the_same_time<T: Send>(all: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for item in all {
            scope.spawn(|| test(item));
        }
    });
}

/// Waits until a condition is true.
///
/// # Panics
///
/// If it is not within 20 seconds.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "not within 20 seconds: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
