//! The metrics of both binaries, read by a real Prometheus and checked by its `promtool`; and the shipped alerts and dashboard,
//! which name existing metrics only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::channels::Client;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::ws::Open;
use postern_tests::{http, ports, provision, workspace};
use serde_json::{Value, json};

/// The metrics of a Postern: the value of each sample, whose name includes its labels.
#[derive(Debug)]
struct Metrics {
    text: String,
    samples: BTreeMap<String, f64>,
}

#[track_caller]
fn scrape(postern: &Postern) -> Metrics {
    let response = http::request(postern.control(), "GET", "/metrics", &[], b"").expect("a response");
    assert_eq!(response.status, 200, "{response}");
    assert_eq!(response.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text();
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    Metrics { samples: samples.collect(), text }
}

impl Metrics {
    #[track_caller]
    fn value(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("{sample} is missing in\n{}", self.text))
    }

    /// Returns all names that an expression can use.
    fn names(&self) -> BTreeSet<String> {
        let families = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        families
            .flat_map(|(name, kind)| {
                let suffixes: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                suffixes.iter().map(move |suffix| format!("{name}{suffix}"))
            })
            .collect()
    }
}

/// Scrapes until a sample has this value.
#[track_caller]
fn wait_for(postern: &Postern, sample: &str, expected: f64) -> Metrics {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = scrape(postern);
        if metrics.samples.get(sample) == Some(&expected) {
            return metrics;
        }
        assert!(Instant::now() < deadline, "{sample} is not {expected}:\n{}", metrics.text);
        thread::sleep(Duration::from_millis(20));
    }
}

fn connect(postern: &Postern, user: &str) -> Open {
    postern.handshake().header("User-ID", user).open()
}

/// Returns a Postern with connections, messages and refusals to count.
fn busy(runtime: Runtime) -> (Postern, Vec<Open>) {
    let postern = Postern::start_with_control(runtime, &[("POSTERN_MAX_CONNECTIONS", "100")]);
    let mut clients = vec![connect(&postern, "1"), connect(&postern, "1"), connect(&postern, "2")];
    clients[0].echo("Hello");
    clients[1].echo(vec![7_u8; 100_000 / 2]);
    connect(&postern, "3").close();
    let mut lost = connect(&postern, "4");
    lost.echo("1234567890");
    drop(lost);
    assert_eq!(postern.handshake().refused().status, 401);
    assert_eq!(postern.handshake().target("/").refused().status, 404);
    (postern, clients)
}

#[test]
fn connections_messages_and_refusals_are_counted() {
    for runtime in Runtime::BOTH {
        let (postern, clients) = busy(runtime);
        let metrics =
            wait_for(&postern, r#"postern_connections_closed_total{code="1006",initiator="client"}"#, 1.0);
        for (sample, expected) in [
            ("postern_connections", 3.0),
            ("postern_connections_max", 100.0),
            ("postern_users", 2.0),
            ("postern_connections_opened_total", 5.0),
            (r#"postern_connections_closed_total{code="1000",initiator="client"}"#, 1.0),
            (r#"postern_handshakes_rejected_total{reason="identity_missing"}"#, 1.0),
            (r#"postern_handshakes_rejected_total{reason="not_found"}"#, 1.0),
            ("postern_handshake_duration_seconds_count", 5.0),
            ("postern_messages_received_total", 3.0),
            ("postern_messages_sent_total", 3.0),
            ("postern_bytes_received_total", 50_015.0),
            ("postern_bytes_sent_total", 50_015.0),
            ("postern_send_queue_bytes", 0.0),
            ("postern_memory_held_bytes", 0.0),
            ("postern_log_records_dropped_total", 0.0),
            ("postern_worker_inbox_refusals_total", 0.0),
            ("postern_trusts_any_proxy", 0.0),
            ("postern_draining", 0.0),
            (&format!(r#"postern_build_info{{program="{runtime}",version="{}"}}"#, version()), 1.0),
        ] {
            assert_eq!(metrics.value(sample), expected, "{runtime}: {sample}\n{}", metrics.text);
        }
        let started = metrics.value("postern_start_time_seconds");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        assert!((now.as_secs_f64() - started).abs() < 60.0, "{runtime}: {started}");

        // Counters keep the values of ended connections.
        clients.into_iter().for_each(Open::close);
        let metrics = wait_for(&postern, "postern_connections", 0.0);
        assert_eq!(metrics.value("postern_users"), 0.0, "{runtime}");
        assert_eq!(metrics.value("postern_messages_received_total"), 3.0, "{runtime}");
        assert_eq!(metrics.value("postern_bytes_sent_total"), 50_015.0, "{runtime}");
    }
}

/// Returns the version, which all crates of the workspace share.
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The names equal the names in Prometheus's client libraries.
#[test]
fn process_metrics_have_the_resources_of_the_process() {
    for runtime in Runtime::BOTH {
        let (postern, clients) = busy(runtime);
        let metrics = scrape(&postern);
        let files = metrics.value("process_open_fds");
        assert!(files > 3.0 && files < metrics.value("process_max_fds"), "{runtime}: {files}");
        assert!(metrics.value("process_resident_memory_bytes") > 1e6, "{runtime}");
        assert!(metrics.value("process_virtual_memory_bytes") > 1e6, "{runtime}");
        assert!(metrics.value("process_threads") >= 1.0, "{runtime}");
        let started = metrics.value("process_start_time_seconds");
        assert_eq!(started, metrics.value("postern_start_time_seconds"), "{runtime}");
        for (name, kind) in [("process_cpu_seconds_total", "counter"), ("process_open_fds", "gauge")] {
            assert!(
                metrics.text.contains(&format!("\n# TYPE {name} {kind}\n")),
                "{runtime}: {}",
                metrics.text
            );
        }
        assert!(metrics.value("process_cpu_seconds_total") > 0.0, "{runtime}");

        // A connection is a descriptor.
        let more: Vec<_> = (0..20).map(|_| connect(&postern, "5")).collect();
        let grown = scrape(&postern).value("process_open_fds");
        // The three standard streams are descriptors, too. Closed connections of `busy` may count in the first scrape.
        let known = clients.len() + more.len() + 3;
        assert!(grown >= known as f64, "{runtime}: {files}, then {grown}, with {known} known ones");
        drop((clients, more));
    }
}

/// The values of the workers differ, and their sums are the values of the process.
#[test]
fn worker_metrics_have_the_load_of_each_worker() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[("POSTERN_WORKERS", "2")]);
        let workers = if runtime == Runtime::Mio { vec!["0", "1"] } else { vec!["0"] };
        let mut clients = [connect(&postern, "1"), connect(&postern, "2")];
        // Only the first client sends messages.
        (0..50).for_each(|_| clients[0].echo("Hello"));
        let metrics = wait_for(&postern, "postern_messages_received_total", 50.0);
        let of = |metric: &str| -> Vec<f64> {
            workers.iter().map(|worker| metrics.value(&format!("{metric}{{worker=\"{worker}\"}}"))).collect()
        };
        let sum = |metric: &str| of(metric).iter().sum::<f64>();
        assert_eq!(sum("postern_worker_connections"), 2.0, "{runtime}");
        let messages = of("postern_worker_messages_received_total");
        assert!(
            messages.contains(&50.0) && sum("postern_worker_messages_received_total") == 50.0,
            "{messages:?}"
        );
        let cpu = of("postern_worker_cpu_seconds_total");
        assert!(cpu.iter().all(|seconds| *seconds > 0.0), "{runtime}: {cpu:?}");
        let process = scrape(&postern).value("process_cpu_seconds_total");
        assert!(cpu.iter().sum::<f64>() <= process, "{runtime}: {cpu:?} of {process}");
    }
}

#[test]
fn messages_of_the_api_are_counted_by_outcome() {
    for postern in Postern::both_with_control(&[]) {
        let _clients = [connect(&postern, "1"), connect(&postern, "1")];
        for (body, status) in [
            (json!({ "user": "1", "text": "a" }), 200),
            (json!({ "user": "9", "text": "a" }), 200),
            (json!({ "user": "9", "text": "a" }), 200),
            (json!({ "user": "1" }), 200),
            (json!({ "text": "a" }), 200),
            (json!([]), 400),
        ] {
            assert_eq!(postern.post("/api/send", &body).status, status, "{body}");
        }
        for (outcome, count) in [("delivered", 1.0), ("no_connection", 2.0), ("refused", 3.0)] {
            let sample = format!("postern_api_sends_total{{outcome=\"{outcome}\"}}");
            assert_eq!(postern.metric(&sample), Some(count), "{outcome}");
        }
    }
}

#[test]
fn channels_are_counted() {
    let namespaces = r#"
        [without_namespace]
        allow_subscribe_for_client = true
        allow_publish_for_client = true
        presence = true
        history_size = 10
        history_ttl = "5m"
        force_recovery = true
    "#;
    for runtime in Runtime::BOTH {
        let postern = Postern::with(runtime, &[]).channels(namespaces).control().start();
        let mut john = Client::connect(&postern, "123", "John Doe");
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        let epoch = john.subscribe("news")["epoch"].clone();
        jane.subscribe("news");
        john.send(&[json!({ "id": 3, "publish": { "channel": "news", "data": "Hello" } })]);
        jane.next();
        drop(jane);
        let recover =
            |offset: u64| json!({ "channel": "news", "recover": true, "offset": offset, "epoch": epoch });
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        assert_eq!(jane.call(json!({ "id": 2, "subscribe": recover(0) }))["subscribe"]["recovered"], true);
        jane.call(json!({ "id": 3, "unsubscribe": { "channel": "news" } }));
        jane.call(json!({ "id": 4, "subscribe": recover(9) }));
        assert_eq!(jane.call(json!({ "id": 5, "rpc": { "method": "x" } }))["error"]["code"], 108);

        // Both clients are in their personal channels too.
        let metrics = wait_for(&postern, "postern_subscriptions", 4.0);
        for (sample, expected) in [
            ("postern_channels", 3.0),
            ("postern_presence_clients", 4.0),
            ("postern_history_publications", 1.0),
            ("postern_history_evictions_total", 0.0),
            ("postern_inbox_overflows_total", 0.0),
            (r#"postern_publications_total{source="client"}"#, 1.0),
            (r#"postern_publications_total{source="api"}"#, 0.0),
            ("postern_deliveries_total", 2.0),
            (r#"postern_recoveries_total{outcome="complete"}"#, 1.0),
            (r#"postern_recoveries_total{outcome="lost"}"#, 1.0),
            (r#"postern_gaps_total{outcome="lost"}"#, 0.0),
            (r#"postern_commands_total{method="connect"}"#, 3.0),
            (r#"postern_commands_total{method="subscribe"}"#, 4.0),
            (r#"postern_command_errors_total{code="108"}"#, 1.0),
        ] {
            assert_eq!(metrics.value(sample), expected, "{sample}\n{}", metrics.text);
        }
        assert!(metrics.value("postern_history_bytes") > 100.0);
    }
}

#[test]
fn trust_in_every_peer_is_a_metric() {
    for postern in Postern::both_with_control(&[("POSTERN_TRUSTED_PROXIES", "any")]) {
        assert_eq!(postern.metric("postern_trusts_any_proxy"), Some(1.0));
    }
}

#[test]
fn exceeded_limits_are_counted() {
    let settings = [
        ("POSTERN_MAX_CONNECTIONS_PER_USER", "1"),
        ("POSTERN_MESSAGE_RATE", "1"),
        ("POSTERN_MESSAGE_BURST", "1"),
        ("POSTERN_RATE_POLICY", "close"),
    ];
    for postern in Postern::both_with_control(&settings) {
        let mut client = connect(&postern, "1");
        let second = postern.handshake().header("User-ID", "1").refused();
        assert_eq!(second.status, 429);
        (0..3).for_each(|_| client.send("too much"));
        while client.socket.read().is_ok() {}
        let metrics = wait_for(&postern, r#"postern_rate_limited_total{scope="messages"}"#, 1.0);
        assert_eq!(metrics.value(r#"postern_rate_limited_total{scope="user"}"#), 1.0);
        assert_eq!(metrics.value(r#"postern_rate_limited_total{scope="connect"}"#), 0.0);
        let closed = r#"postern_connections_closed_total{code="4429",initiator="server"}"#;
        assert_eq!(metrics.value(closed), 1.0);
    }
}

/// No label names a user, and the number of time series does not depend on the number of users.
#[test]
fn number_of_time_series_does_not_depend_on_users() {
    for postern in Postern::both_with_control(&[]) {
        let count = |expected: f64| {
            let metrics = wait_for(&postern, "postern_connections", expected);
            metrics.samples.len()
        };
        let first = connect(&postern, "user-0");
        let few = count(1.0);
        let others: Vec<_> = (1..30).map(|number| connect(&postern, &format!("user-{number}"))).collect();
        assert_eq!(count(30.0), few);
        assert!(!scrape(&postern).text.contains("user-"));
        drop((first, others));
    }
}

#[test]
fn promtool_accepts_the_metrics() {
    let promtool = provision::prometheus().expect("promtool").join("promtool");
    for runtime in Runtime::BOTH {
        let (postern, _clients) = busy(runtime);
        let mut checker = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool starts");
        let mut input = checker.stdin.take().expect("a pipe");
        input.write_all(scrape(&postern).text.as_bytes()).expect("it reads");
        drop(input);
        let output = checker.wait_with_output().expect("it ends");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{runtime}: {}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn alerts_fire_as_their_unit_tests_say() {
    let promtool = provision::prometheus().expect("promtool").join("promtool");
    for arguments in [
        ["check", "rules", "deploy/prometheus/alerts.yml"],
        ["check", "config", "deploy/prometheus/prometheus.yml"],
        ["test", "rules", "tests/tests/prometheus/alerts.yml"],
    ] {
        let output = Command::new(&promtool)
            .current_dir(workspace::root())
            .args(arguments)
            .output()
            .expect("promtool starts");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn alerts_and_dashboard_name_existing_metrics() {
    // A broker that does not answer has all of its metrics.
    let settings = [("POSTERN_AMQP_URL", "amqp://127.0.0.1:1")];
    let names = scrape(&Postern::start_with_control(Runtime::Mio, &settings)).names();
    assert_eq!(names, scrape(&Postern::start_with_control(Runtime::Smol, &settings)).names());
    let mut used = BTreeSet::new();
    for file in ["deploy/prometheus/alerts.yml", "deploy/grafana/postern.json"] {
        let text = fs::read_to_string(workspace::path(file)).expect("it is there");
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let found: Vec<_> = text
            .split(|c| !is_part(c))
            .filter(|word| word.starts_with("postern_") || word.starts_with("process_"))
            .map(str::to_owned)
            .collect();
        for name in &found {
            assert!(names.contains(name), "{file} uses {name}; there are {names:?}");
        }
        used.extend(found);
    }
    assert!(used.len() > 15, "{used:?}");
    let dashboard = fs::read(workspace::path("deploy/grafana/postern.json")).expect("it is there");
    let dashboard: Value = serde_json::from_slice(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has its own id");
    assert!(panels.iter().all(|panel| panel["targets"][0]["expr"].is_string()));
}

/// Queries Prometheus until the result has a value.
#[track_caller]
fn query(prometheus: std::net::SocketAddr, expression: &str) -> f64 {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let target = format!("/api/v1/query?query={encoded}");
        let answer = http::request(prometheus, "GET", &target, &[], b"");
        let value = answer.as_ref().ok().and_then(|answer| {
            let answer: Value = serde_json::from_slice(&answer.body).ok()?;
            answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
        });
        match value {
            Some(value) => return value,
            None => assert!(Instant::now() < deadline, "{expression}: {answer:?}"),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn real_prometheus_scrapes_both_binaries_with_the_shipped_configuration() {
    let program = provision::prometheus().expect("Prometheus").join("prometheus");
    let posterns = Runtime::BOTH.map(busy);
    let folder = tempfile::tempdir().expect("a folder");
    let shipped =
        fs::read_to_string(workspace::path("deploy/prometheus/prometheus.yml")).expect("it is there");
    let targets: Vec<_> = posterns.iter().map(|(postern, _)| format!("\"{}\"", postern.control())).collect();
    let config = change(&shipped, "[\"127.0.0.1:8081\"]", &format!("[{}]", targets.join(", ")));
    let config = change(&config, "scrape_interval: 15s", "scrape_interval: 500ms");
    fs::write(folder.path().join("prometheus.yml"), config).expect("it is written");
    let alerts = folder.path().join("alerts.yml");
    fs::copy(workspace::path("deploy/prometheus/alerts.yml"), alerts).expect("it is copied");

    let address = ports::free();
    let mut command = Command::new(program);
    command.current_dir(folder.path());
    command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]);
    command.arg(format!("--web.listen-address={address}"));
    let mut prometheus = Process::spawn("prometheus", &mut command).expect("it starts");
    prometheus.wait_until_listening(address, Duration::from_secs(30)).expect("it listens");

    for (postern, _) in &posterns {
        let of = |metric: &str| format!("{metric}{{instance=\"{}\"}}", postern.control());
        for (metric, expected) in [
            ("up", 1.0),
            ("postern_connections", 3.0),
            ("postern_users", 2.0),
            ("postern_messages_received_total", 3.0),
            ("postern_handshake_duration_seconds_count", 5.0),
        ] {
            assert_eq!(query(address, &of(metric)), expected, "{metric}");
        }
    }
    assert_eq!(query(address, "sum(postern_connections_opened_total)"), 10.0);
    assert_eq!(query(address, "count(postern_build_info)"), 2.0);
    drop(prometheus);
    assert!(Path::new(folder.path()).join("data").exists());
}

/// Replaces a part of a text.
#[track_caller]
fn change(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in\n{text}");
    text.replace(from, to)
}
