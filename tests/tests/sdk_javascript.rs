//! The JavaScript SDK, unmodified, in Node and in a browser, through Traefik with the cookie of the login as the identity:
//! users talk to each other, the gateway is restarted, and the clients recover all publications. With Redis, the two users are on
//! different nodes.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use postern_tests::browser::Browser;
use postern_tests::cluster::{self, PAIRS};
use postern_tests::gateway::{Addresses, Gateway, Running};
use postern_tests::identity::{self, Identity};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::{Process, Stream};
use postern_tests::redis::Redis;
use postern_tests::{forwarder, ports, provision, wait_until, workspace};
use serde_json::{Value, json};

const NAMESPACES: &str = r#"
[without_namespace]
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_presence_for_subscriber = true
allow_history_for_subscriber = true
presence = true
join_leave = true
history_size = 10
history_ttl = "5m"
force_recovery = true
"#;

/// Identity, Traefik with the page of Identity, and one or two nodes with channels.
struct Chain {
    traefik: Option<Running>,
    addresses: Addresses,
    nodes: Vec<Postern>,
    _identity: Identity,
}

impl Chain {
    fn start(runtime: Runtime) -> Self {
        let postern = Postern::with(runtime, &[]).channels(NAMESPACES).control().start();
        Self::with(postern.address(), vec![postern])
    }

    /// Starts two nodes with Redis, which get connections in turn.
    fn start_pair(runtimes: [Runtime; 2], redis: &Redis) -> Self {
        let nodes = cluster::pair(runtimes, redis, NAMESPACES, &[]);
        let addresses = nodes.iter().map(Postern::address).collect();
        Self::with(forwarder::alternating(addresses, &[]).expect("a forwarder"), nodes.into())
    }

    fn with(postern: SocketAddr, nodes: Vec<Postern>) -> Self {
        let identity = Identity::start();
        let addresses = Addresses { gateway: ports::free(), identity: identity.address(), postern };
        let mut chain = Self { traefik: None, addresses, nodes, _identity: identity };
        chain.start_traefik();
        chain
    }

    /// Runs the conversation of two clients in Node, and checks what they have seen.
    fn check_in_node(mut self, build: &str) {
        let packages = provision::javascript_sdk().expect("the SDK");
        let mut command = Command::new("node");
        command.arg(workspace::path("tests/tests/peers/sdk.cjs"));
        command.args([&format!("ws://{}{PATH}", self.addresses.gateway), build, &MISSED.len().to_string()]);
        command.args([self.cookie("john@example.com"), self.cookie("ann@example.com")]);
        let mut node = Process::spawn("node", command.env("NODE_PATH", &packages)).expect("Node starts");
        node.wait_for_line(|line| line == "connected", PATIENCE).expect("both clients talk");
        self.restart_traefik_and_publish();
        let status = node.wait(PATIENCE).expect("the conversation ends");
        assert!(status.success(), "{build}: {status}, {:?}", node.lines());
        let seen = node.lines_of(Stream::Out).pop().expect("what they have seen");
        assert_eq!(serde_json::from_str::<Value>(&seen).expect("JSON"), everything(), "{build}");
        self.wait_for_record();
    }

    /// Runs the conversation of two clients in a page of Identity, and checks what they have seen.
    fn check_in_a_browser(mut self, browser: &mut Browser, build: &str) {
        let packages = provision::javascript_sdk().expect("the SDK");
        let conversation =
            fs::read_to_string(workspace::path("tests/tests/peers/sdk.js")).expect("a part of the tests");
        browser.open(&format!("http://localhost:{}/", self.addresses.gateway.port()));
        browser.value(
            "fetch('/identity/login', { method: 'POST', headers: { 'Content-Type': 'application/json' }, \
             body: JSON.stringify({ email: 'john@example.com', password: 'password123' }) }).then(() => 0)",
        );
        let (name, is_binary) = match build {
            "protobuf" => ("centrifuge/dist/centrifuge.protobuf.js", true),
            _ => ("centrifuge/dist/centrifuge.js", false),
        };
        let sdk = fs::read_to_string(packages.join(name)).expect("the SDK for pages");
        browser.value(&format!("{sdk};\n0"));
        browser.value(&format!("{conversation};\n0"));
        browser.value(&format!(
            "(async () => {{
                const client = () => new Centrifuge(`ws://${{location.host}}{PATH}`,
                    {{ minReconnectDelay: 100, maxReconnectDelay: 500 }});
                window.conversation = await converse([client(), client()], {is_binary});
                return 0;
            }})()"
        ));
        self.restart_traefik_and_publish();
        let seen = browser.value(&format!("conversation.recover({})", MISSED.len()));
        assert_eq!(seen, everything(), "{build}");
        self.wait_for_record();
    }

    fn start_traefik(&mut self) {
        let (from, to) = Gateway::Traefik.with_page(self.addresses);
        self.traefik = Some(Running::start_at(Gateway::Traefik, self.addresses, &[(&from, &to)]));
    }

    /// Ends Traefik, publishes, and starts Traefik again.
    fn restart_traefik_and_publish(&mut self) {
        self.traefik = None;
        for text in MISSED {
            let body = json!({ "channel": "news", "data": { "text": text } });
            let answer = self.nodes[self.nodes.len() - 1].post("/api/publish", &body);
            assert!(answer.status == 200 && answer.json()["result"].is_object(), "{}", answer.json());
        }
        self.start_traefik();
    }

    /// Waits until the first publication is in the log of a node.
    fn wait_for_record(&self) {
        let record = r#"Message from John Doe (123) in news: {"text":"one"}"#;
        wait_until("it is logged", || self.nodes.iter().any(|node| node.count(record) == 1));
    }

    /// Returns the Cookie header of a user.
    fn cookie(&self, email: &str) -> String {
        format!("access_token={}", identity::login_at(self.addresses.gateway, email))
    }
}

/// Returns what both clients see in the end.
fn everything() -> Value {
    let texts = [&["one"], MISSED.as_slice()].concat();
    json!([texts, texts])
}

#[test]
fn sdk_in_node_misses_nothing_while_the_gateway_is_restarted() {
    for (runtime, build) in Runtime::BOTH.into_iter().flat_map(|runtime| BUILDS.map(|build| (runtime, build)))
    {
        Chain::start(runtime).check_in_node(build);
    }
}

#[test]
fn sdk_in_node_misses_nothing_on_two_nodes_with_redis() {
    for (runtimes, build) in PAIRS.into_iter().zip(BUILDS) {
        let redis = Redis::start();
        let chain = Chain::start_pair(runtimes, &redis);
        chain.check_in_node(build);
    }
}

#[test]
fn sdk_in_a_browser_misses_nothing_while_the_gateway_is_restarted() {
    let mut browser = Browser::start();
    for (runtime, build) in Runtime::BOTH.into_iter().zip(BUILDS) {
        Chain::start(runtime).check_in_a_browser(&mut browser, build);
    }
}

#[test]
fn sdk_in_a_browser_misses_nothing_on_two_nodes_with_redis() {
    let mut browser = Browser::start();
    for (runtimes, build) in PAIRS.into_iter().zip(BUILDS) {
        let redis = Redis::start();
        let chain = Chain::start_pair(runtimes, &redis);
        chain.check_in_a_browser(&mut browser, build);
    }
}

/// The publications of the time without connections.
const MISSED: [&str; 3] = ["two", "three", "four"];

const BUILDS: [&str; 2] = ["json", "protobuf"];

const PATH: &str = "/connection/websocket";

const PATIENCE: Duration = Duration::from_secs(60);
