//! RabbitMQ as a source of publications, with a real broker and both binaries.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use postern_tests::channels::Client;
use postern_tests::documents::document;
use postern_tests::postern::{Launch, Postern, Runtime};
use postern_tests::rabbitmq::{Broker, Publisher, headers};
use postern_tests::{ports, provision, wait_until};
use serde_json::{Value, json};

const CHANNELS: &str = r#"
[without_namespace]
allow_subscribe_for_client = true

[namespaces.news]
allow_subscribe_for_client = true
history_size = 1000
history_ttl = "5m"
max_publication = 100

[namespaces.auction]
allow_subscribe_for_client = true

[namespaces.room]
allow_subscribe_for_client = true
allow_recovery = true
history_size = 100000
history_ttl = "1h"

[namespaces.object]
publication_data_format = "json_object"
"#;

/// The settings of a node whose exchange and queues have names that begin with `name`.
fn settings(url: &str, name: &str) -> Vec<(&'static str, String)> {
    vec![
        ("POSTERN_AMQP_URL", url.to_owned()),
        ("POSTERN_AMQP_EXCHANGE", name.to_owned()),
        ("POSTERN_AMQP_QUEUE", format!("{name}.source")),
        ("POSTERN_AMQP_DEAD_LETTER", format!("{name}.dead")),
        ("LOG_LEVEL", "debug".to_owned()),
    ]
}

/// Starts a node, and waits until it receives messages.
#[track_caller]
fn start(runtime: Runtime, settings: &[(&'static str, String)]) -> Postern {
    let postern = launch(runtime, &borrowed(settings)).start();
    postern.wait_for("receiving messages from RabbitMQ");
    postern
}

fn launch<'s>(runtime: Runtime, settings: &[(&'s str, &'s str)]) -> Launch<'s> {
    Postern::with(runtime, settings).channels(CHANNELS).control()
}

fn borrowed<'s>(settings: &'s [(&'static str, String)]) -> Vec<(&'static str, &'s str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// Returns the channel and the data of the next publication.
#[track_caller]
fn next(client: &mut Client) -> (String, Value) {
    let mut reply = client.next();
    while reply == json!({}) {
        // A ping, which has to be answered.
        client.open.send("{}");
        reply = client.next();
    }
    let push = reply["push"].clone();
    let channel = push["channel"].as_str().unwrap_or_else(|| panic!("a publication: {push}")).to_owned();
    (channel, push["pub"]["data"].clone())
}

/// Waits until a metric has this value.
#[track_caller]
fn wait_for_metric(postern: &Postern, sample: &str, value: f64) {
    wait_until(&format!("{sample} is {value}"), || postern.metric(sample) == Some(value));
}

fn outcome(postern: &Postern, outcome: &str) -> f64 {
    postern
        .metric(&format!("postern_source_messages_total{{broker=\"rabbitmq\",outcome=\"{outcome}\"}}"))
        .expect("a sample")
}

fn with_headers(texts: &[(&str, &str)]) -> BasicProperties {
    BasicProperties::default().with_headers(headers(texts))
}

#[test]
fn messages_reach_the_subscribers_of_channels_and_users() {
    let broker = Broker::shared();
    for runtime in Runtime::BOTH {
        let name = format!("reach-{runtime}");
        let postern = start(runtime, &settings(&broker.url(), &name));
        let backend = Publisher::connect(&broker.url(), &name);
        let mut john = Client::connect(&postern, "john.doe", "John Doe");
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        john.subscribe("news:1");
        jane.subscribe("plain");

        let none = BasicProperties::default;
        backend.send("channel.news:1", b"{ \"bid\": 1.50 }", none());
        assert_eq!(next(&mut john), ("news:1".to_owned(), json!({ "bid": 1.5 })), "{runtime}");
        backend.send("channel.plain", b"a \"text\"", none().with_content_type("text/plain".into()));
        assert_eq!(next(&mut jane), ("plain".to_owned(), json!("a \"text\"")));
        backend.send("user.john.doe", b"1", none());
        assert_eq!(next(&mut john), ("#john.doe".to_owned(), json!(1)));

        // Headers replace the routing key.
        backend.send("channel", b"2", with_headers(&[("x-postern-channel", "news:1, plain")]));
        assert_eq!(next(&mut john), ("news:1".to_owned(), json!(2)));
        assert_eq!(next(&mut jane), ("plain".to_owned(), json!(2)));
        backend.send("user.9", b"3", with_headers(&[("x-postern-user", "7")]));
        assert_eq!(next(&mut jane), ("#7".to_owned(), json!(3)));
        let tagged = [("x-postern-tag-color", "red"), ("x-postern-skip-history", "true")];
        backend.send("channel.news:1", b"4", with_headers(&tagged));
        let publication = john.next()["push"]["pub"].clone();
        assert_eq!(publication, json!({ "data": 4, "tags": { "color": "red" } }), "{runtime}");

        postern.wait_for("message published by RabbitMQ, channel: \"plain\", bytes: 12, subscriptions: 1");
        assert_eq!(outcome(&postern, "published"), 6.0, "{runtime}");
        wait_for_metric(&postern, "postern_source_unacked{broker=\"rabbitmq\"}", 0.0);
        assert_eq!(postern.metric("postern_source_up{broker=\"rabbitmq\"}"), Some(1.0));
        assert_eq!(backend.length(&format!("{name}.source")), 0);
    }
}

#[test]
fn message_with_a_known_id_is_published_once() {
    let broker = Broker::shared();
    for runtime in Runtime::BOTH {
        let name = format!("once-{runtime}");
        let postern = start(runtime, &settings(&broker.url(), &name));
        let backend = Publisher::connect(&broker.url(), &name);
        let mut client = Client::connect(&postern, "1", "");
        client.subscribe("plain");
        let of = |id: &str| BasicProperties::default().with_message_id(id.into());
        for (id, body) in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("b", "5"), ("c", "6")] {
            backend.send("channel.plain", body.as_bytes(), of(id));
        }
        let received = [(); 3].map(|()| next(&mut client).1);
        assert_eq!(received, [json!(1), json!(3), json!(6)], "{runtime}");
        wait_until("all messages are handled", || outcome(&postern, "duplicate") == 3.0);
        // The id belongs to the channel, and the server API uses the same keys.
        client.subscribe("other");
        backend.send("channel.other", b"7", of("a"));
        assert_eq!(next(&mut client).1, json!(7));
        let params = json!({ "channel": "other", "data": 8, "idempotency_key": "a" });
        postern.post("/api/publish", &params);
        backend.send("channel.other", b"9", BasicProperties::default());
        assert_eq!(next(&mut client).1, json!(9), "{runtime}");
    }
}

#[test]
fn messages_that_can_never_be_published_become_dead_letters() {
    let broker = Broker::shared();
    let long = format!("\"{}\"", "x".repeat(100));
    for runtime in Runtime::BOTH {
        let name = format!("poison-{runtime}");
        let postern = start(runtime, &settings(&broker.url(), &name));
        let backend = Publisher::connect(&broker.url(), &name);
        let mut client = Client::connect(&postern, "1", "");
        client.subscribe("plain");
        let mut flag = FieldTable::default();
        flag.insert("x-postern-channel".into(), AMQPValue::Boolean(true));
        let none = BasicProperties::default;
        let secret = "hunter2-in-a-payload";
        let poison = [
            ("channel", secret, none(), "no_target"),
            ("channel.", "1", none(), "channel"),
            ("user.", "1", none(), "user"),
            ("channel.nosuch:1", "1", none(), "unknown_namespace"),
            ("channel.plain", secret, none(), "not_json"),
            ("channel.object:1", "[1]", none(), "not_an_object"),
            ("channel.news:1", &long, none(), "too_large"),
            ("channel.plain", "1", with_headers(&[("x-postern-version", "1")]), "version"),
            ("channel.plain", "1", none().with_headers(flag), "header"),
        ];
        for (key, body, properties, _) in &poison {
            backend.send(key, body.as_bytes(), properties.clone());
        }
        let not_utf8 = none().with_content_type("text/plain".into());
        backend.send("channel.plain", b"\xff", not_utf8);
        backend.send("channel.plain", b"1", none());
        assert_eq!(next(&mut client).1, json!(1), "{runtime}: other messages are published");

        let dead = format!("{name}.dead");
        let mut bodies: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for _ in 0..=poison.len() {
            let (body, properties) = backend.wait_for(&dead);
            let headers = properties.headers().as_ref().expect("headers").inner();
            assert!(headers.contains_key("x-death"), "{headers:?}");
            *bodies.entry(body).or_default() += 1;
        }
        assert_eq!(bodies[secret.as_bytes()], 2, "{runtime}");
        assert_eq!(backend.take(&dead), None);
        assert_eq!(backend.length(&format!("{name}.source")), 0);
        for reason in poison.iter().map(|(.., reason)| *reason).chain(["not_utf8"]) {
            let sample = format!("postern_source_dead_total{{broker=\"rabbitmq\",reason=\"{reason}\"}}");
            assert_eq!(postern.metric(&sample), Some(1.0), "{runtime}: {reason}");
        }
        assert_eq!(outcome(&postern, "dead"), 10.0);
        postern.wait_for("a message from RabbitMQ is rejected: it names no channel and no user");
        assert_eq!(postern.count("hunter2"), 0, "{runtime}: {:?}", postern.log());
    }
}

/// Publishes `count` messages with numbers from `first`, whose ids are their numbers.
fn send_numbers(backend: &Publisher, channel: &str, first: usize, count: usize) {
    let messages = (first..first + count).map(|number| (number.to_string(), number.to_string()));
    backend.send_all(&format!("channel.{channel}"), messages);
}

/// Checks that a client gets the numbers in their order.
#[track_caller]
fn expect_numbers(client: &mut Client, first: usize, count: usize) {
    for number in first..first + count {
        assert_eq!(next(client).1, json!(number));
    }
}

#[test]
fn connection_that_the_operator_closes_is_opened_again_without_loss() {
    let broker = Broker::shared();
    for runtime in Runtime::BOTH {
        let name = format!("closed-{runtime}");
        let url = broker.add_host(&name);
        let postern = start(runtime, &settings(&url, &name));
        let mut client = Client::connect(&postern, "1", "");
        client.subscribe("news:1");
        let mut first = 0;
        for _ in 0..2 {
            let backend = Publisher::connect(&url, &name);
            send_numbers(&backend, "news:1", first, 500);
            // It may close the connection at any message.
            broker.control(&["close_all_connections", "--vhost", &name, "maintenance"]);
            let backend = Publisher::connect(&url, &name);
            send_numbers(&backend, "news:1", first + 500, 10);
            expect_numbers(&mut client, first, 510);
            first += 510;
        }
        postern.wait_for("messages from RabbitMQ are received again");
        assert_eq!(
            postern.metric("postern_source_failures_total{broker=\"rabbitmq\"}"),
            Some(2.0),
            "{runtime}"
        );
    }
}

#[test]
fn broker_that_ends_and_starts_again_is_found() {
    let broker = Broker::start();
    let mut nodes = Runtime::BOTH.map(|runtime| {
        let name = format!("restart-{runtime}");
        let postern = start(runtime, &settings(&broker.url(), &name));
        let mut client = Client::connect(&postern, "1", "");
        client.subscribe("news:1");
        send_numbers(&Publisher::connect(&broker.url(), &name), "news:1", 0, 10);
        expect_numbers(&mut client, 0, 10);
        (name, postern, client)
    });
    broker.stop();
    for (_, postern, client) in &mut nodes {
        wait_for_metric(postern, "postern_source_up{broker=\"rabbitmq\"}", 0.0);
        postern.wait_for("cannot receive messages from RabbitMQ; trying again");
        // The node still serves its clients.
        postern.post("/api/publish", &json!({ "channel": "news:1", "data": "local" }));
        assert_eq!(next(client).1, json!("local"));
    }
    broker.restart();
    for (name, postern, client) in &mut nodes {
        // The queues may need some time after a crash, and an attempt to connect 10 seconds.
        let deadline = Instant::now() + Duration::from_secs(90);
        while postern.metric("postern_source_up{broker=\"rabbitmq\"}") != Some(1.0) {
            assert!(Instant::now() < deadline, "{name} does not receive messages");
            thread::sleep(Duration::from_millis(100));
        }
        send_numbers(&Publisher::connect(&broker.url(), name), "news:1", 10, 10);
        expect_numbers(client, 10, 10);
    }
}

#[test]
fn another_node_continues_when_one_is_killed() {
    let broker = Broker::shared();
    for (first, second) in [(Runtime::Mio, Runtime::Smol), (Runtime::Smol, Runtime::Mio)] {
        let name = format!("killed-{first}");
        let settings = settings(&broker.url(), &name);
        let nodes = [first, second].map(|runtime| start(runtime, &settings));
        let mut clients = nodes.each_ref().map(|node| Client::connect(node, "1", ""));
        clients.iter_mut().for_each(|client| drop(client.subscribe("news:1")));
        let backend = Publisher::connect(&broker.url(), &name);
        send_numbers(&backend, "news:1", 0, 50);
        expect_numbers(&mut clients[0], 0, 50);
        let [mut killed, next] = nodes;
        assert_eq!(outcome(&next, "published"), 0.0, "{first}: one node consumes");
        wait_for_metric(&killed, "postern_source_unacked{broker=\"rabbitmq\"}", 0.0);
        killed.process.kill();
        send_numbers(&backend, "news:1", 50, 50);
        expect_numbers(&mut clients[1], 50, 50);
        // They are counted after they have been delivered.
        wait_for_metric(
            &next,
            "postern_source_messages_total{broker=\"rabbitmq\",outcome=\"published\"}",
            50.0,
        );
    }
}

#[test]
fn each_node_gets_all_messages_from_a_separate_queue() {
    let broker = Broker::shared();
    let mut settings = settings(&broker.url(), "each");
    settings.push(("POSTERN_AMQP_MODE", "each".to_owned()));
    let nodes = Runtime::BOTH.map(|runtime| start(runtime, &settings));
    let mut clients = nodes.each_ref().map(|node| Client::connect(node, "1", ""));
    clients.iter_mut().for_each(|client| drop(client.subscribe("news:1")));
    let backend = Publisher::connect(&broker.url(), "each");
    send_numbers(&backend, "news:1", 0, 50);
    // A rejected message is dropped.
    backend.send("channel.nosuch:1", b"1", BasicProperties::default());
    send_numbers(&backend, "news:1", 50, 50);
    for client in &mut clients {
        expect_numbers(client, 0, 100);
    }
    for node in &nodes {
        assert_eq!(outcome(node, "dead"), 1.0);
    }
    let queues = || broker.control(&["list_queues", "name", "exclusive", "auto_delete", "arguments"]);
    let of_nodes: Vec<String> =
        queues().lines().filter(|line| line.starts_with("each.source.")).map(str::to_owned).collect();
    assert_eq!(of_nodes.len(), 2, "{of_nodes:?}");
    for queue in of_nodes {
        assert!(queue.contains("true\ttrue") && queue.contains("drop-head"), "{queue}");
        assert!(queue.contains("67108864"), "{queue}");
    }
    drop(nodes);
    wait_until("the queues are deleted", || !queues().contains("each.source."));
}

#[test]
fn node_that_stops_leaves_the_other_messages_to_the_next_one() {
    let broker = Broker::shared();
    for runtime in Runtime::BOTH {
        let name = format!("stop-{runtime}");
        let settings = settings(&broker.url(), &name);
        let mut first = start(runtime, &settings);
        let backend = Publisher::connect(&broker.url(), &name);
        let sender = thread::spawn(move || {
            send_numbers(&backend, "news:1", 0, 5000);
            backend
        });
        wait_until("it has published some", || outcome(&first, "published") > 100.0);
        assert!(first.terminate().success(), "{runtime}");
        first.wait_for("no more messages are received from RabbitMQ");
        let backend = sender.join().expect("all messages are sent");
        let published = first.count("message published by RabbitMQ");
        assert!((100..5000).contains(&published), "{runtime}: {published}");
        // The first node has acknowledged the messages that it has published, and all others are in the queue. The broker may
        // have missed the last acknowledgements.
        let left = backend.length(&format!("{name}.source"));
        let total = published + left as usize;
        assert!((5000..=5200).contains(&total), "{runtime}: {published} published, {left} left");
        let next = start(runtime, &settings);
        wait_until("the next node has published the rest", || outcome(&next, "published") == f64::from(left));
    }
}

#[test]
fn what_the_broker_refuses_is_reported_with_the_setting_and_without_the_password() {
    let broker = Broker::shared();
    let address = broker.url().replace("amqp://guest:guest@", "");
    broker.control(&["add_user", "reader", "correct-horse-battery"]);
    broker.control(&["set_permissions", "reader", "nothing", "nothing", "nothing"]);
    let nowhere = ports::free();
    for runtime in Runtime::BOTH {
        let name = format!("refused-{runtime}");
        // A node that gives the exchange and the queues their properties.
        drop(start(runtime, &settings(&broker.url(), &name)));
        let with = |name: &'static str, value: &str| (name, value.to_owned());
        for (change, expected) in [
            (
                with("POSTERN_AMQP_URL", &format!("amqp://guest:correct-horse-battery@{address}")),
                "POSTERN_AMQP_URL: RabbitMQ refuses it: write the user and the password of the broker",
            ),
            (
                with("POSTERN_AMQP_URL", &broker.url().replace("%2f", "nosuch")),
                "POSTERN_AMQP_URL: RabbitMQ refuses it: write a virtual host that exists",
            ),
            (
                with("POSTERN_AMQP_URL", &format!("amqp://reader:correct-horse-battery@{address}")),
                "POSTERN_AMQP_EXCHANGE: RabbitMQ refuses it: allow the user to configure",
            ),
            (
                with("POSTERN_AMQP_EXCHANGE", "amq.direct"),
                "POSTERN_AMQP_EXCHANGE: RabbitMQ refuses it: it exists with other properties",
            ),
            (
                with("POSTERN_AMQP_DEAD_LETTER", "off"),
                "POSTERN_AMQP_QUEUE: RabbitMQ refuses it: it exists with other properties",
            ),
            (
                with("POSTERN_AMQP_DEAD_LETTER", &name),
                "POSTERN_AMQP_DEAD_LETTER: RabbitMQ refuses it: it exists with other properties",
            ),
            (
                with("POSTERN_AMQP_URL", &format!("amqp://guest:correct-horse-battery@{nowhere}")),
                "cannot receive messages from RabbitMQ; trying again",
            ),
        ] {
            let mut all = settings(&broker.url(), &name);
            all.retain(|(name, _)| *name != change.0);
            all.push(change);
            let postern = launch(runtime, &borrowed(&all)).start();
            postern.wait_for(expected);
            assert_eq!(
                postern.metric("postern_source_up{broker=\"rabbitmq\"}"),
                Some(0.0),
                "{runtime}: {expected}"
            );
            assert_eq!(postern.count("correct-horse"), 0, "{:?}", postern.log());
            // The node serves its clients.
            let mut client = Client::connect(&postern, "1", "");
            client.subscribe("plain");
            postern.post("/api/publish", &json!({ "channel": "plain", "data": 1 }));
            assert_eq!(next(&mut client).1, json!(1));
        }
    }
}

#[test]
fn settings_that_cannot_be_used_end_the_start() {
    let long = "x".repeat(128);
    for runtime in Runtime::BOTH {
        for (settings, expected) in [
            (vec![("POSTERN_AMQP_URL", "http://u:correct-horse-battery@h/")], "not an amqp URL"),
            (vec![("POSTERN_AMQP_URL", "correct-horse-battery")], "not a URL"),
            (vec![("POSTERN_AMQP_URL_FILE", "/no/such/file")], "cannot read the file"),
            (vec![("POSTERN_AMQP_URL_FILE", "/dev/null")], "in the file: not a URL"),
            (
                vec![("POSTERN_AMQP_URL", "amqp://h"), ("POSTERN_AMQP_URL_FILE", "/dev/null")],
                "in the file: not a URL",
            ),
            (vec![("POSTERN_AMQP_MODE", "some")], "must be one of shared, each"),
            (vec![("POSTERN_AMQP_PREFETCH", "0")], "1"),
            (vec![("POSTERN_AMQP_PREFETCH", "65536")], "65535"),
            (vec![("POSTERN_AMQP_EXCHANGE", long.as_str())], "a name must have 1 to 127 bytes"),
        ] {
            let (status, lines) = Postern::refuse(runtime, &settings);
            assert_eq!(status.code(), Some(2), "{runtime}: {lines:?}");
            let text = lines.concat();
            assert!(text.contains(expected) && !text.contains("correct-horse"), "{runtime}: {lines:?}");
            assert!(text.contains(settings[0].0), "{runtime}: {lines:?}");
        }
    }
}

#[test]
fn url_comes_from_a_file() {
    let broker = Broker::shared();
    for runtime in Runtime::BOTH {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("{}\n", broker.url())).expect("the file is written");
        let name = format!("file-{runtime}");
        let mut settings = settings(&broker.url(), &name);
        settings[0] = ("POSTERN_AMQP_URL_FILE", file.path().display().to_string());
        let postern = start(runtime, &settings);
        assert_eq!(postern.metric("postern_source_up{broker=\"rabbitmq\"}"), Some(1.0));
    }
}

#[test]
fn backend_of_the_documentation_publishes() {
    let broker = Broker::shared();
    let packages = provision::pika().expect("pika");
    let code = document("docs/sources.md").block("import pika").text.clone();
    for runtime in Runtime::BOTH {
        // The documentation uses the names of the defaults, in a virtual host of this test.
        let url = broker.add_host(&format!("documented-{runtime}"));
        let postern = start(runtime, &[("POSTERN_AMQP_URL", url.clone())]);
        let mut client = Client::connect(&postern, "123", "John Doe");
        client.subscribe("auction:42");
        let mut python = Command::new("python3");
        python.args(["-c", &code]).env("PYTHONPATH", &packages).env("POSTERN_AMQP_URL", &url);
        let output = python.output().expect("Python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(next(&mut client), ("auction:42".to_owned(), json!({ "bid": 120 })), "{runtime}");
        assert_eq!(next(&mut client), ("#123".to_owned(), json!({ "text": "You have been outbid" })));
    }
}

/// The numbers that the client of one process has received, in their order.
type Received = Arc<Mutex<Vec<usize>>>;

/// Subscribes to a channel with all that the history has, and keeps the numbers that arrive until the connection is lost.
fn watch(postern: &Postern, channel: &str) -> (Received, JoinHandle<()>) {
    let mut client = Client::connect(postern, "1", "");
    let result =
        client.subscribe_with(json!({ "channel": channel, "recover": true, "epoch": "", "offset": 0 }));
    assert_eq!(result["recovered"], true, "{result}");
    let number = |publication: &Value| {
        let number = publication["data"].as_u64().unwrap_or_else(|| panic!("a number: {publication}"));
        usize::try_from(number).expect("a small number")
    };
    let recovered = result["publications"].as_array().map(|all| all.iter().map(number).collect());
    let received: Received = Arc::new(Mutex::new(recovered.unwrap_or_default()));
    let kept = received.clone();
    let reader = thread::spawn(move || {
        loop {
            let message = match client.open.try_receive() {
                Ok(message) => message,
                // The broker may take longer than the time-out of the socket.
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(_) => break,
            };
            let Ok(text) = message.into_text() else { break };
            for line in text.lines() {
                let reply: Value = serde_json::from_str(line).expect("JSON");
                let publication = &reply["push"]["pub"];
                if publication.is_null() {
                    // A ping, which has to be answered.
                    client.open.send("{}");
                } else {
                    kept.lock().expect("numbers").push(number(publication));
                }
            }
        }
    });
    (received, reader)
}

/// 4,000 messages while connections are closed 4 times and the node is killed twice; with `RABBITMQ=full` in the environment
/// 100,000 messages, 50 closed connections and 10 killed nodes.
#[test]
fn every_message_arrives_once_and_in_order_while_connections_and_nodes_end() {
    let is_full = std::env::var_os("RABBITMQ").is_some_and(|value| value == "full");
    let (count, closes, kills) = if is_full { (100_000, 50, 10) } else { (4_000, 4, 2) };
    let broker = Broker::shared();
    for runtime in Runtime::BOTH {
        let name = format!("faults-{runtime}");
        let backend_url = broker.add_host(&name);
        // The node is another user, so that its connections can be closed.
        broker.control(&["add_user", &name, "correct-horse-battery"]);
        broker.control(&["set_permissions", "--vhost", &name, &name, ".*", ".*", ".*"]);
        let url = backend_url.replace("guest:guest", &format!("{name}:correct-horse-battery"));
        let mut settings = settings(&url, &name);
        settings.retain(|(name, _)| *name != "LOG_LEVEL");

        let mut node = start(runtime, &settings);
        let (mut received, mut reader) = watch(&node, "room:1");
        let mut lives = Vec::new();
        let backend = Publisher::connect(&backend_url, &name);
        let poison = count / 500;
        let sender = thread::spawn(move || {
            // About as long as the faults.
            let pause = Duration::from_millis(800 * closes as u64 / (count as u64 / 50));
            for first in (0..count - 50).step_by(50) {
                send_numbers(&backend, "room:1", first, 50);
                if first % 500 == 0 {
                    backend.send("channel.room:1", b"poison", BasicProperties::default());
                }
                thread::sleep(pause);
            }
            backend
        });
        for close in 1..=closes {
            broker.control(&["close_all_user_connections", &name, "maintenance"]);
            if close % (closes / kills) == 0 {
                node.process.kill();
                reader.join().expect("all publications are numbers");
                lives.push(received);
                node = start(runtime, &settings);
                (received, reader) = watch(&node, "room:1");
            }
        }
        let backend = sender.join().expect("all messages are sent");
        // The last node gets these, also if the one before it has got all others.
        send_numbers(&backend, "room:1", count - 50, 50);
        let deadline = Instant::now() + Duration::from_secs(120);
        while received.lock().expect("numbers").last() != Some(&(count - 1)) {
            assert!(Instant::now() < deadline, "{runtime}: {:?}", received.lock().expect("numbers").last());
            thread::sleep(Duration::from_millis(10));
        }
        // Some acknowledgements may still be on their way.
        wait_until("all messages are acknowledged", || {
            node.metric("postern_source_unacked{broker=\"rabbitmq\"}") == Some(0.0)
        });
        node.process.kill();
        reader.join().expect("all publications are numbers");
        lives.push(received);

        let (mut next, mut lost, mut repeated) = (0, 0, 0);
        for life in &lives {
            let life = life.lock().expect("numbers");
            // A process publishes each message once, in the order in which it was sent.
            assert!(life.is_sorted_by(|one, other| *other == one + 1), "{runtime}: {:?}", gaps(&life));
            let Some((first, last)) = life.first().zip(life.last()) else { continue };
            // A killed process had published some messages and not acknowledged them, or acknowledged them and not sent them.
            lost += first.saturating_sub(next);
            repeated += next.saturating_sub(*first);
            next = last + 1;
        }
        assert_eq!(next, count, "{runtime}");
        println!(
            "{runtime}: {count} messages, {closes} closed connections, {kills} kills: {lost} not sent, {repeated} repeated after a kill"
        );
        assert!(
            lost <= kills * 200 && repeated <= kills * 200,
            "{runtime}: {lost} lost, {repeated} repeated"
        );
        assert_eq!(backend.length(&format!("{name}.source")), 0);
        wait_until("all poison is in the queue of dead letters", || {
            backend.length(&format!("{name}.dead")) as usize == poison
        });
        while let Some((body, _)) = backend.take(&format!("{name}.dead")) {
            assert_eq!(body, b"poison");
        }
    }
}

/// Returns the places where a number does not follow the one before it.
fn gaps(numbers: &[usize]) -> Vec<(usize, usize)> {
    let pairs = numbers.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(|(one, other)| *other != one + 1).take(10).collect()
}
