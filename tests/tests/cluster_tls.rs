//! Redis by TLS: both binaries as nodes of one cluster, and certificates that are not accepted.

use postern_tests::authority::{Authority, Issued};
use postern_tests::channels::Client;
use postern_tests::cluster::{PAIRS, next_publication, publish, recover, unconnected};
use postern_tests::ports;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::redis::Redis;
use serde_json::json;

const PASSWORD: &str = "a-password-of-redis-by-tls";

/// A server with a port for TLS.
struct TlsRedis {
    redis: Redis,
    port: u16,
}

impl TlsRedis {
    fn start(authority: &Authority, own: &Issued, more: &[&str]) -> TlsRedis {
        let port = ports::free().port();
        let (text, file) = (port.to_string(), authority.file());
        let tls = ["--tls-port", &text, "--tls-cert-file", &own.certificate, "--tls-key-file", &own.key];
        let redis = Redis::with(&[&tls[..], &["--tls-ca-cert-file", &file], more].concat());
        TlsRedis { redis, port }
    }

    fn url(&self, host: &str) -> String {
        format!("rediss://:{PASSWORD}@{host}:{}", self.port)
    }
}

#[test]
fn a_publication_reaches_all_nodes_by_tls() {
    let authority = Authority::new("one");
    let redis = TlsRedis::start(&authority, &authority.issue(&["127.0.0.1"]), &["--requirepass", PASSWORD]);
    let (file, own) = (authority.file(), authority.issue(&["postern"]));
    // Redis asks for a certificate by default.
    let settings = [
        ("POSTERN_REDIS_CA_FILE", file.as_str()),
        ("POSTERN_REDIS_CERT_FILE", &own.certificate),
        ("POSTERN_REDIS_KEY_FILE", &own.key),
    ];
    for (index, runtimes) in PAIRS.into_iter().enumerate() {
        let prefix = format!("pair-{index}");
        let settings = [&settings[..], &[("POSTERN_REDIS_PREFIX", prefix.as_str())]].concat();
        let [first, second] =
            runtimes.map(|runtime| unconnected(runtime, &redis.url("127.0.0.1"), &settings));
        for node in [&first, &second] {
            let line = node.wait_for("channels are connected with Redis");
            assert!(line.contains(&format!("rediss://***@127.0.0.1:{}", redis.port)), "{line}");
        }
        let mut john = Client::connect(&first, "123", "John Doe");
        let mut jane = Client::connect(&second, "7", "Jane Roe");
        for channel in ["news", "live:1"] {
            john.subscribe(channel);
            jane.subscribe(channel);
            assert_eq!(john.publish(channel, json!(0)).len(), 1);
            assert_eq!(next_publication(&mut jane)["data"], 0);
            // Larger than a record of TLS, and than the buffers of a socket.
            let long = "x".repeat(40_000);
            for number in 1..=200 {
                let node = if number % 2 == 0 { &first } else { &second };
                publish(node, &json!({ "channel": channel, "data": [number, long] }));
                for client in [&mut john, &mut jane] {
                    assert_eq!(next_publication(client)["data"], json!([number, long]), "{channel}");
                }
            }
        }
        for node in [&first, &second] {
            assert_eq!(node.count(PASSWORD), 0);
        }
        drop((first, john));
        let epoch = publish(&second, &json!({ "channel": "news", "data": "last" }))["epoch"].clone();
        let third = unconnected(runtimes[0], &redis.url("127.0.0.1"), &settings);
        third.wait_for("channels are connected with Redis");
        let mut john = Client::connect(&third, "123", "John Doe");
        let result = john.call(recover("news", 201, &epoch))["subscribe"].clone();
        assert_eq!(result["recovered"], true, "{result}");
        assert_eq!(result["publications"][0]["data"], "last");
    }
}

#[test]
fn connections_that_are_cut_are_opened_again_by_tls() {
    let authority = Authority::new("one");
    let no_clients = ["--tls-auth-clients", "no", "--requirepass", PASSWORD];
    let mut redis = TlsRedis::start(&authority, &authority.issue(&["127.0.0.1"]), &no_clients);
    let file = authority.file();
    for runtime in Runtime::BOTH {
        let node = unconnected(runtime, &redis.url("127.0.0.1"), &[("POSTERN_REDIS_CA_FILE", &file)]);
        node.wait_for("channels are connected with Redis");
        let mut john = Client::connect(&node, "123", "John Doe");
        john.subscribe("live:1");
        redis.redis.kill();
        node.wait_for("Redis");
        redis.redis.start_again();
        node.wait_for_count("channels are connected with Redis", 2);
        assert_eq!(john.publish("live:1", json!(1)).len(), 1);
    }
}

#[test]
fn a_certificate_that_is_not_accepted_is_named_and_nothing_else_suffers() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    // An authority that was created again has another key.
    let later = Authority::new("one");
    let no_clients = ["--tls-auth-clients", "no", "--requirepass", PASSWORD];
    let start = |own: &Issued, more: &[&str]| TlsRedis::start(&authority, own, more);
    let right = start(&authority.issue(&["127.0.0.1"]), &no_clients);
    let named = start(&authority.issue(&["redis.example"]), &no_clients);
    let expired = start(&authority.issue_expired(&["127.0.0.1"]), &no_clients);
    let asking = start(&authority.issue(&["127.0.0.1"]), &["--requirepass", PASSWORD]);
    let files = [&authority, &other, &later].map(Authority::file);
    let [file, of_other, of_later] = files.each_ref().map(|file| Some(file.as_str()));
    for (url, file, error) in [
        (named.url("127.0.0.1"), file, "is not for this host"),
        (right.url("127.0.0.1"), of_other, "neither known to the system nor in the CA file"),
        (right.url("127.0.0.1"), of_later, "is of another authority with the same name as a known one"),
        (right.url("127.0.0.1"), None, "neither known to the system nor in the CA file"),
        (expired.url("127.0.0.1"), file, "has expired"),
        (asking.url("127.0.0.1"), file, "asks for a certificate of this client"),
    ] {
        for runtime in Runtime::BOTH {
            let settings: Vec<_> = file.iter().map(|file| ("POSTERN_REDIS_CA_FILE", *file)).collect();
            let node = unconnected(runtime, &url, &settings);
            let line = node.wait_for("the TLS connection to Redis fails; trying again each 30 s");
            assert!(line.contains(error), "{error}: {line}");
            let host = url.rsplit_once('@').map_or("", |(_, host)| host);
            assert!(line.contains(&format!("rediss://***@{host}")), "{line}");
            check_local(&node);
        }
    }
}

#[test]
fn a_port_without_tls_is_reported() {
    let authority = Authority::new("one");
    let file = authority.file();
    let redis = Redis::start();
    for runtime in Runtime::BOTH {
        let settings = [("POSTERN_REDIS_CA_FILE", file.as_str()), ("POSTERN_REDIS_TIMEOUT", "500ms")];
        let node = unconnected(runtime, &redis.url().replace("redis:", "rediss:"), &settings);
        // Redis answers only if it finds the end of a line among the bytes of TLS, which are random.
        let line = node.wait_for("without TLS");
        assert!(line.contains(&format!("url: rediss://{}", redis.address())), "{line}");
        assert_eq!(node.metric("postern_engine_up"), Some(0.0));
    }
}

/// Checks that the node serves its own clients, counts the failure, and has not logged the password.
#[track_caller]
fn check_local(node: &Postern) {
    assert_eq!(node.get("/readyz").status, 200);
    assert_eq!(node.metric("postern_engine_up"), Some(0.0));
    assert_eq!(node.metric("postern_engine_failures_total{reason=\"tls\"}"), Some(1.0));
    let mut john = Client::connect(node, "123", "John Doe");
    john.subscribe("live:1");
    assert_eq!(john.publish("live:1", json!(1)).len(), 1);
    assert_eq!(node.count(PASSWORD), 0);
}

#[test]
fn files_that_cannot_be_used_end_the_start() {
    let authority = Authority::new("one");
    let (one, other) = (authority.issue(&["postern"]), authority.issue(&["postern"]));
    let base = [("POSTERN_ENGINE", "redis"), ("POSTERN_REDIS_URL", "rediss://redis.example")];
    for (settings, expected) in [
        (
            vec![("POSTERN_REDIS_CA_FILE", "/no/such/file")],
            "POSTERN_REDIS_CA_FILE=/no/such/file: cannot read the file: there is no such file; create it",
        ),
        (
            vec![("POSTERN_REDIS_CA_FILE", one.key.as_str())],
            "has no certificate that can be read; write a file in PEM",
        ),
        (
            vec![("POSTERN_REDIS_CERT_FILE", &one.certificate)],
            "it has no effect without POSTERN_REDIS_KEY_FILE; write both",
        ),
        (
            vec![("POSTERN_REDIS_CERT_FILE", &one.certificate), ("POSTERN_REDIS_KEY_FILE", &one.certificate)],
            "has no private key that can be read; write a file in PEM",
        ),
        (
            vec![("POSTERN_REDIS_CERT_FILE", &one.certificate), ("POSTERN_REDIS_KEY_FILE", &other.key)],
            "it is not the key of the certificate",
        ),
    ] {
        for runtime in Runtime::BOTH {
            let (status, lines) = Postern::refuse(runtime, &[&base[..], &settings].concat());
            assert_eq!(status.code(), Some(2));
            let [line] = &lines[..] else { panic!("{lines:?}") };
            assert!(line.contains(expected), "{line}");
        }
    }
}
