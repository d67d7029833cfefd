//! RabbitMQ by TLS as a source of publications, with a real broker and both binaries.

use lapin::BasicProperties;
use postern_tests::authority::Authority;
use postern_tests::channels::Client;
use postern_tests::cluster::{NAMESPACES, next_publication};
use postern_tests::ports;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::rabbitmq::{Broker, Publisher};
use postern_tests::wait_until;
use serde_json::json;

fn start(runtime: Runtime, url: &str, settings: &[(&str, &str)]) -> Postern {
    let url = [("POSTERN_AMQP_URL", url), ("POSTERN_PERSONAL_CHANNEL", "off")];
    Postern::with(runtime, &[&url[..], settings].concat()).channels(NAMESPACES).control().start()
}

#[test]
fn messages_arrive_by_tls_and_certificates_are_checked() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let (server, own) = (authority.issue(&["127.0.0.1"]), authority.issue(&["postern"]));
    let (address, wrong, file) = (ports::free(), ports::free(), authority.file());
    let broker = Broker::configured(&format!(
        "listeners.ssl.1 = {address}\nlisteners.ssl.2 = 127.0.0.2:{}\nssl_options.cacertfile = {file}\n\
         ssl_options.certfile = {}\nssl_options.keyfile = {}\nssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = true\n",
        wrong.port(),
        server.certificate,
        server.key,
    ));
    let url = format!("amqps://guest:guest@{address}/%2f");
    let files = [
        ("POSTERN_AMQP_CA_FILE", file.as_str()),
        ("POSTERN_AMQP_CERT_FILE", &own.certificate),
        ("POSTERN_AMQP_KEY_FILE", &own.key),
    ];
    let backend = Publisher::connect(&broker.url(), "postern");
    // Each node gets all messages.
    let mode = [("POSTERN_AMQP_MODE", "each")];
    let mut nodes = Runtime::BOTH.map(|runtime| {
        let node = start(runtime, &url, &[&files[..], &mode].concat());
        node.wait_for("receiving messages from RabbitMQ");
        let mut client = Client::connect(&node, "1", "");
        client.subscribe("news");
        (node, client)
    });
    let long = "x".repeat(50_000);
    for number in 0..100 {
        let body = json!([number, long]);
        backend.send("channel.news", body.to_string().as_bytes(), BasicProperties::default());
        for (_, client) in &mut nodes {
            assert_eq!(next_publication(client)["data"], body);
        }
    }
    broker.stop();
    for (node, _) in &nodes {
        node.wait_for("cannot receive messages from RabbitMQ; trying again");
    }
    broker.restart();
    for (node, _) in &nodes {
        node.wait_for("messages from RabbitMQ are received again");
        wait_until("it is up", || node.metric("postern_source_up{broker=\"rabbitmq\"}") == Some(1.0));
    }
    drop(backend);
    let backend = Publisher::connect(&broker.url(), "postern");
    // The earlier clients were sent pings while they waited.
    let mut clients = nodes.each_ref().map(|(node, _)| {
        let mut client = Client::connect(node, "1", "");
        client.subscribe("news");
        (node, client)
    });
    backend.send("channel.news", b"1", BasicProperties::default());
    for (node, client) in &mut clients {
        assert_eq!(next_publication(client)["data"], 1);
        assert_eq!(node.count("guest"), 0);
    }
    drop(clients);
    drop(nodes);

    let of_other = other.file();
    let unknown = [("POSTERN_AMQP_CA_FILE", of_other.as_str()), files[1], files[2]];
    let elsewhere = format!("amqps://guest:guest@127.0.0.2:{}/%2f", wrong.port());
    let plain = broker.url().replace("amqp:", "amqps:");
    for (url, files, error) in [
        (&url, &unknown[..], "neither known to the system nor in the CA file"),
        (&elsewhere, &files, "is not for this host"),
        (&plain, &files, "does not answer by TLS"),
        (&url, &files[..1], ""),
    ] {
        for runtime in Runtime::BOTH {
            let node = start(runtime, url, files);
            let line = node.wait_for("cannot receive messages from RabbitMQ; trying again");
            assert!(line.contains(error), "{error}: {line}");
            let (_, host) = url.split_once('@').expect("a user");
            let (host, _) = host.split_once('/').expect("a virtual host");
            assert!(line.contains(&format!("amqps://{host}/")), "{line}");
            assert_eq!(node.metric("postern_source_up{broker=\"rabbitmq\"}"), Some(0.0));
            assert_eq!(node.get("/readyz").status, 200);
            assert_eq!(node.count("guest"), 0);
        }
    }
}
