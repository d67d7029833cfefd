//! The tests of the SDK for Python, as it is published, against both binaries.
//!
//! A forwarder adds the identity of their user, as a gateway would. The channels file is the configuration of the SDK's own server
//! in these tests. One further test is about tokens that expire.
//!
//! They also run with Redis and two nodes, between which the connections alternate, so the client and the publisher of a test are on
//! different nodes: some tests of channels, or all with `CLUSTER=full`.

use std::process::Command;
use std::time::Duration;

use postern_tests::chain::{Chain, through_each};
use postern_tests::cluster::{self, PAIRS, is_full};
use postern_tests::identity::Identity;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::{Process, Stream};
use postern_tests::redis::Redis;
use postern_tests::{forwarder, provision, workspace};

#[test]
fn all_tests_pass_with_postern() {
    check(Runtime::Mio);
}

#[test]
fn all_tests_pass_with_postern_smol() {
    check(Runtime::Smol);
}

#[test]
fn tests_pass_on_two_nodes_with_redis() {
    for runtimes in PAIRS {
        let redis = Redis::start();
        let nodes = cluster::pair(runtimes, &redis, NAMESPACES, &[SECRET]);
        let tests = if is_full() { &ALL[..] } else { &OF_SEVERAL_CLIENTS[..] };
        run_tests(&nodes, tests, if is_full() { COUNT } else { OF_SEVERAL_CLIENTS.len() });
    }
}

fn check(runtime: Runtime) {
    let postern = Postern::with(runtime, &[SECRET]).channels(NAMESPACES).start();
    run_tests(&[postern], &ALL, COUNT);
}

/// Runs tests of the SDK, and checks that this number has passed.
fn run_tests(nodes: &[Postern], tests: &[&str], count: usize) {
    let (sources, packages) = provision::sdk_python().expect("the SDK and its packages");
    let addresses = nodes.iter().map(Postern::address).collect();
    let gateway = forwarder::alternating(addresses, &["User-ID: 42"]).expect("a forwarder");

    let customization = workspace::path("tests/tests/peers/sdk_python");
    let path = std::env::join_paths([customization, packages]).expect("folders without a colon");
    let mut python = Command::new("python3");
    python.args(["-m", "unittest"]).args(tests);
    python.current_dir(sources).env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1");
    python.env("SDK_PORT", gateway.port().to_string());
    let mut python = Process::spawn("python", &mut python).expect("python3 starts");
    let status = python.wait(TIMEOUT).expect("the tests end");
    let lines = python.lines();
    let shown = lines[lines.len().saturating_sub(100)..].join("\n");
    assert!(status.success(), "{status}\n{shown}");
    // None was skipped: the last line would say so.
    assert!(lines.iter().any(|line| line.starts_with(&format!("Ran {count} tests in "))), "{shown}");
    assert_eq!(lines.last().map(String::as_str), Some("OK"), "{shown}");
}

/// With `get_token`, the SDK refreshes its connection token before the connection is closed. Without a connection token it is closed
/// with 3005 when the token of the gateway has expired, and connects again through the gateway with another one.
#[test]
fn tokens_that_expire_are_refreshed_or_the_client_returns_through_the_gateway() {
    let package = provision::python_sdk().expect("the SDK");
    let settings =
        [("JWT_SECRET", Identity::SECRET), ("POSTERN_EXPIRY_GRACE", "2s"), ("POSTERN_EXPIRY_SPREAD", "0")];
    through_each(|gateway, runtime| {
        let chain = Chain::start_with(gateway, runtime, &settings, &[]);
        let mut command = Command::new("python3");
        command.arg(workspace::path("tests/tests/peers/credentials.py")).arg(chain.address().to_string());
        let mut python =
            Process::spawn("python", command.env("PYTHONPATH", &package)).expect("python3 starts");
        let status = python.wait(TIMEOUT).expect("the script ends");
        assert!(status.success(), "{status}: {:?}", python.lines());
        assert_eq!(python.lines_of(Stream::Out).last().map(String::as_str), Some("ok"));
        let line = chain.postern.wait_for("has expired, and the connection is closed");
        assert!(line.contains("WARN"), "{line}");
    });
}

/// The secret is part of the tests.
const SECRET: (&str, &str) = ("JWT_SECRET", "secret");

/// The arguments that select all tests, and their number.
const ALL: [&str; 5] = ["discover", "--start-directory", "tests", "--top-level-directory", "."];
const COUNT: usize = 185;

/// The tests in which clients depend on each other, or on an earlier connection.
const OF_SEVERAL_CLIENTS: [&str; 9] = [
    "tests.test_client.TestAutoRecovery",
    "tests.test_client.TestClientLevelOperations",
    "tests.test_client.TestHistoryPagination",
    "tests.test_client.TestJoinLeave",
    "tests.test_client.TestPresenceTwoClients",
    "tests.test_client.TestPubSub",
    "tests.test_client.TestRecoveryAfterUnsubscribeResubscribe",
    "tests.test_client.TestServerSideSubscriptions",
    "tests.test_client.TestSubscriptionOperations",
];

/// About three times what they take.
const TIMEOUT: Duration = Duration::from_secs(120);

const NAMESPACES: &str = r#"
[without_namespace]
allowed_delta_types = ["fossil"]
delta_publish = true
presence = true
join_leave = true
force_push_join_leave = true
history_size = 100
history_ttl = "300s"
force_recovery = true
allow_publish_for_subscriber = true
allow_presence_for_subscriber = true
allow_history_for_subscriber = true

[namespaces.smallhistory]
force_recovery = true
history_size = 2
history_ttl = "300s"
allow_publish_for_subscriber = true
allow_history_for_subscriber = true
"#;
