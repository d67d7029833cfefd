//! NATS as a source of publications, with a real server and both binaries.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use postern_tests::authority::Authority;
use postern_tests::canary::{self, Kind};
use postern_tests::channels::Client;
use postern_tests::cluster::{PAIRS, next_publication, pair};
use postern_tests::nats::{Backend, Server};
use postern_tests::ports;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::redis::Redis;
use postern_tests::wait_until;
use serde_json::{Value, json};

const CHANNELS: &str = r#"
[without_namespace]
allow_subscribe_for_client = true

[namespaces.news]
allow_subscribe_for_client = true
history_size = 1000
history_ttl = "5m"
max_publication = 100

[namespaces.object]
publication_data_format = "json_object"
"#;

fn launch(runtime: Runtime, url: &str, settings: &[(&str, &str)]) -> Postern {
    let all = [&[("POSTERN_NATS_URL", url), ("LOG_LEVEL", "debug")], settings].concat();
    Postern::with(runtime, &all).channels(CHANNELS).control().start()
}

/// Starts a node, and waits until it receives messages.
#[track_caller]
fn start(runtime: Runtime, url: &str, settings: &[(&str, &str)]) -> Postern {
    let postern = launch(runtime, url, settings);
    postern.wait_for("receiving messages from NATS");
    postern
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

fn outcome(postern: &Postern, outcome: &str) -> f64 {
    let sample = format!("postern_source_messages_total{{broker=\"nats\",outcome=\"{outcome}\"}}");
    postern.metric(&sample).expect("a sample")
}

fn up(postern: &Postern) -> Option<f64> {
    postern.metric("postern_source_up{broker=\"nats\"}")
}

#[test]
fn messages_reach_the_subscribers_of_channels_and_users() {
    let server = Server::start();
    let mut backend = Backend::connect(server.address(), "");
    for runtime in Runtime::BOTH {
        // The longest message is shorter than the default.
        let mut postern = start(runtime, &server.url(), &[("POSTERN_MAX_MESSAGE", "10KiB")]);
        let mut john = Client::connect(&postern, "john.doe", "John Doe");
        let mut jane = Client::connect(&postern, "7", "Jane Roe");
        john.subscribe("news:1");
        jane.subscribe("plain.a");

        backend.send("postern.channel.news:1", &[], b"{ \"bid\": 1.50 }");
        assert_eq!(next(&mut john), ("news:1".to_owned(), json!({ "bid": 1.5 })), "{runtime}");
        backend.send("postern.channel.plain.a", &[("content-type", "text/plain")], b"a \"text\"");
        assert_eq!(next(&mut jane), ("plain.a".to_owned(), json!("a \"text\"")));
        backend.send("postern.user.john.doe", &[], b"1");
        assert_eq!(next(&mut john), ("#john.doe".to_owned(), json!(1)));

        // Headers replace the subject, and their names may have any case.
        backend.send("postern.channel.none", &[("X-Postern-Channel", "news:1, plain.a")], b"2");
        assert_eq!(next(&mut john), ("news:1".to_owned(), json!(2)));
        assert_eq!(next(&mut jane), ("plain.a".to_owned(), json!(2)));
        let tagged = [("x-postern-tag-color", "red"), ("x-postern-skip-history", "true")];
        backend.send("postern.channel.news:1", &tagged, b"4");
        let publication = john.next()["push"]["pub"].clone();
        assert_eq!(publication, json!({ "data": 4, "tags": { "color": "red" } }), "{runtime}");
        // Other subjects are not received.
        backend.send("other.channel.news:1", &[], b"5");

        // A message that is known is published once, and each request is answered.
        let id = [("nats-msg-id", "a")];
        let two = [("Nats-Msg-Id", "b"), ("x-postern-channel", "news:1"), ("x-postern-user", "john.doe")];
        for (headers, expected) in [(&id[..], 1), (&id, 0), (&two, 2), (&two, 0)] {
            let answer = backend.request("postern.channel.plain.a", headers, b"6");
            assert_eq!(answer, json!({ "result": { "channels": expected } }), "{runtime}: {headers:?}");
        }
        assert_eq!(next(&mut jane).1, 6);
        assert_eq!([next(&mut john).0, next(&mut john).0], ["news:1", "#john.doe"]);
        let long = format!("\"{}\"", "x".repeat(9000));
        backend.send("postern.channel.plain.a", &[], long.as_bytes());
        assert_eq!(next(&mut jane).1, long.trim_matches('"'));

        postern.wait_for("message published by NATS, channel: \"plain.a\", bytes: 12, subscriptions: 1");
        assert_eq!((outcome(&postern, "published"), outcome(&postern, "duplicate")), (8.0, 2.0), "{runtime}");
        assert_eq!(up(&postern), Some(1.0));
        assert_eq!(postern.metric("postern_source_failures_total{broker=\"nats\"}"), Some(0.0));
        assert!(postern.terminate().success());
        postern.wait_for("no more messages are received from NATS");
    }
}

#[test]
fn messages_that_can_never_be_published_are_counted_and_answered() {
    let server = Server::start();
    let mut backend = Backend::connect(server.address(), "");
    let long = format!("\"{}\"", "x".repeat(100));
    let huge = "x".repeat(20_000);
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &server.url(), &[("POSTERN_MAX_MESSAGE", "10KiB")]);
        let mut client = Client::connect(&postern, "1", "");
        client.subscribe("plain");
        let secret = canary::secret(Kind::Message, "hunter2-in-a-payload");
        let version = [("x-postern-version", "1")];
        let flag = [("x-postern-delta", "maybe")];
        let none: &[(&str, &str)] = &[];
        let poison = [
            (format!("channel.{}", "x".repeat(256)), "1", none, "channel", 107),
            ("user.7".to_owned(), "1", &[("x-postern-user", "")], "user", 107),
            ("user.7".to_owned(), "1", &[("x-postern-channel", "")], "channel", 107),
            ("channel.nosuch:1".to_owned(), "1", none, "unknown_namespace", 102),
            ("channel.plain".to_owned(), secret, none, "not_json", 107),
            ("channel.object:1".to_owned(), "[1]", none, "not_an_object", 107),
            ("channel.news:1".to_owned(), &long, none, "too_large", 107),
            ("channel.plain".to_owned(), &huge, none, "too_large", 107),
            ("channel.plain".to_owned(), "1", &version, "version", 108),
            ("channel.plain".to_owned(), "1", &flag, "header", 107),
        ];
        for (key, body, headers, reason, code) in &poison {
            let answer = backend.request(&format!("postern.{key}"), headers, body.as_bytes());
            assert_eq!(answer["error"]["code"], *code, "{runtime}: {reason}: {answer}");
            assert!(answer["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
        }
        backend.send("postern.channel.plain", &[("Content-Type", "text/plain")], b"\xff");
        backend.send("postern.channel.plain", &[], b"1");
        assert_eq!(next(&mut client).1, json!(1), "{runtime}: other messages are published");
        for reason in
            ["user", "unknown_namespace", "not_json", "not_an_object", "version", "header", "not_utf8"]
        {
            let sample = format!("postern_source_dead_total{{broker=\"nats\",reason=\"{reason}\"}}");
            assert_eq!(postern.metric(&sample), Some(1.0), "{runtime}: {reason}");
        }
        assert_eq!(outcome(&postern, "dead"), 11.0);
        postern.wait_for("a message from NATS is rejected: the name of a channel may have 255");
        assert_eq!(postern.count("hunter2"), 0, "{runtime}: {:?}", postern.log());
    }
}

#[test]
fn server_that_ends_and_starts_again_is_found() {
    let mut server = Server::start();
    let mut nodes = Runtime::BOTH.map(|runtime| {
        // Each node gets all messages.
        let postern = start(runtime, &server.url(), &[("POSTERN_NATS_MODE", "each")]);
        let mut client = Client::connect(&postern, "1", "");
        client.subscribe("plain");
        (postern, client)
    });
    let mut backend = Backend::connect(server.address(), "");
    for number in 0..100 {
        backend.send("postern.channel.plain", &[], number.to_string().as_bytes());
    }
    for (_, client) in &mut nodes {
        for number in 0..100 {
            assert_eq!(next(client).1, number);
        }
    }
    server.kill();
    for (postern, client) in &mut nodes {
        postern.wait_for("cannot receive messages from NATS; trying again");
        wait_until("it is down", || up(postern) == Some(0.0));
        // The node still serves its clients.
        assert_eq!(postern.get("/readyz").status, 200);
        postern.post("/api/publish", &json!({ "channel": "plain", "data": "local" }));
        assert_eq!(next(client).1, "local");
    }
    server.restart();
    for (postern, _) in &nodes {
        postern.wait_for("messages from NATS are received again");
        wait_until("it is up", || up(postern) == Some(1.0));
    }
    Backend::connect(server.address(), "").send("postern.channel.plain", &[], b"\"again\"");
    for (_, client) in &mut nodes {
        assert_eq!(next(client).1, "again");
    }
}

#[test]
fn nodes_with_redis_share_the_messages_and_a_lost_one_is_answered() {
    let server = Server::start();
    for runtimes in PAIRS {
        let mut redis = Redis::start();
        let url = server.url();
        let settings = [("POSTERN_NATS_URL", url.as_str()), ("POSTERN_REDIS_FAILOVER", "trust")];
        let nodes = pair(runtimes, &redis, CHANNELS, &settings);
        nodes.iter().for_each(|node| drop(node.wait_for("receiving messages from NATS")));
        let mut clients = nodes.each_ref().map(|node| {
            let mut client = Client::connect(node, "1", "");
            client.subscribe("plain");
            client
        });
        let mut backend = Backend::connect(server.address(), "");
        for number in 0..20 {
            let answer = backend.request("postern.channel.plain", &[], number.to_string().as_bytes());
            assert_eq!(answer, json!({ "result": { "channels": 1 } }));
        }
        for client in &mut clients {
            for number in 0..20 {
                assert_eq!(next_publication(client)["data"], number);
            }
        }
        let published = nodes.each_ref().map(|node| outcome(node, "published"));
        assert_eq!(published[0] + published[1], 20.0, "{published:?}");
        assert!(published[0] > 0.0 && published[1] > 0.0, "{published:?}");

        redis.kill();
        let answer = backend.request("postern.channel.news:1", &[], b"1");
        assert_eq!(answer["error"]["code"], 100, "{answer}");
        assert_eq!(nodes.iter().map(|node| outcome(node, "lost")).sum::<f64>(), 1.0);
        assert_eq!(nodes.each_ref().map(up), [Some(1.0); 2]);
    }
}

#[test]
fn logins_are_used_and_refusals_name_the_setting() {
    let password = canary::mint(Kind::Setting);
    let wrong = canary::mint(Kind::Setting);
    let token = canary::mint(Kind::Setting);
    let reader = "permissions: {subscribe: \"nothing\"}";
    let users = format!(
        "authorization {{ users: [ {{user: \"postern\", password: \"{password}\"}}, {{user: \"reader\", password: \"{password}\", {reader}}} ] }}\n"
    );
    let server = Server::configured(&users);
    let by_token = Server::configured(&format!("authorization {{ token: \"{token}\" }}\n"));
    let (address, nowhere) = (server.address(), ports::free());
    for runtime in Runtime::BOTH {
        for (url, server, login) in [
            (
                format!("nats://postern:{password}@{address}"),
                &server,
                format!("\"user\":\"postern\",\"pass\":\"{password}\""),
            ),
            (
                format!("nats://{token}@{}", by_token.address()),
                &by_token,
                format!("\"auth_token\":\"{token}\""),
            ),
        ] {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), format!("{url}\n")).expect("the file is written");
            let path = file.path().display().to_string();
            let postern = start(runtime, "", &[("POSTERN_NATS_URL_FILE", &path)]);
            let mut client = Client::connect(&postern, "1", "");
            client.subscribe("plain");
            Backend::connect(server.address(), &login).send("postern.channel.plain", &[], b"1");
            assert_eq!(next(&mut client).1, 1, "{runtime}");
        }
        let login = "POSTERN_NATS_URL: NATS refuses it: write the user and the password, or the token";
        for (url, expected) in [
            (format!("nats://postern:{wrong}@{address}"), login),
            (format!("nats://{address}"), login),
            (
                format!("nats://reader:{password}@{address}"),
                "POSTERN_NATS_SUBJECT: NATS refuses it: allow the user to subscribe",
            ),
            (format!("tls://postern:{password}@{address}"), "write a URL that begins with nats://"),
            (
                format!("nats://postern:{password}@{nowhere}"),
                "cannot receive messages from NATS; trying again",
            ),
        ] {
            let postern = launch(runtime, &url, &[]);
            postern.wait_for(expected);
            assert_eq!(up(&postern), Some(0.0), "{runtime}: {expected}");
            assert_eq!(postern.get("/readyz").status, 200);
            for secret in [&password, &wrong] {
                assert_eq!(postern.count(secret), 0, "{:?}", postern.log());
            }
        }
    }
}

#[test]
fn messages_arrive_by_tls_and_certificates_are_checked() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let (issued, own) = (authority.issue(&["127.0.0.1"]), authority.issue(&["postern"]));
    let (file, of_other) = (authority.file(), other.file());
    let lines = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{file}\", verify: true }}\n",
        issued.certificate, issued.key
    );
    let server = Server::configured(&lines);
    // The backend is without TLS.
    let mixed = Server::configured(&format!("{lines}allow_non_tls: true\n"));
    let mut backend = Backend::connect(mixed.address(), "");
    let url = format!("tls://{}", server.address());
    let files = [
        ("POSTERN_NATS_CA_FILE", file.as_str()),
        ("POSTERN_NATS_CERT_FILE", &own.certificate),
        ("POSTERN_NATS_KEY_FILE", &own.key),
    ];
    let unknown = [("POSTERN_NATS_CA_FILE", of_other.as_str()), files[1], files[2]];
    for runtime in Runtime::BOTH {
        assert_eq!(up(&start(runtime, &url, &files)), Some(1.0));
        let subject = [("POSTERN_NATS_SUBJECT", "a.b")];
        let node = start(runtime, &format!("tls://{}", mixed.address()), &[&files[..], &subject].concat());
        let mut client = Client::connect(&node, "1", "");
        client.subscribe("plain");
        let long = "x".repeat(50_000);
        for number in 0..20 {
            let body = json!([number, long]);
            backend.send("a.b.channel.plain", &[], body.to_string().as_bytes());
            assert_eq!(next(&mut client).1, body, "{runtime}");
        }
        for (url, files, error) in [
            (url.clone(), &unknown[..], "neither known to the system nor in the CA file"),
            (url.replace("127.0.0.1", "localhost"), &files, "is not for this host"),
            (url.clone(), &files[..1], ""),
        ] {
            let node = launch(runtime, &url, files);
            let line = node.wait_for("cannot receive messages from NATS; trying again");
            assert!(line.contains(error), "{error}: {line}");
            assert_eq!(up(&node), Some(0.0));
        }
        let node = launch(runtime, &server.url(), &[]);
        node.wait_for("POSTERN_NATS_URL: NATS refuses it: write a URL that begins with tls://");
    }
}

#[test]
fn server_that_is_not_nats_is_left() {
    let endless = [b"INFO ".to_vec(), vec![b'x'; 1_000_000]].concat();
    for (bytes, expected) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "a line that NATS does not have"),
        (endless, "a line that is too long"),
        (
            b"INFO {}\r\nPONG\r\nMSG postern.channel.a 1 1\r\nxxx".to_vec(),
            "another length than it has announced",
        ),
        (
            b"INFO {}\r\nPONG\r\n-ERR 'Maximum Connections Exceeded'\r\n".to_vec(),
            "Maximum Connections Exceeded",
        ),
        (b"INFO {}\r\nPONG\r\n".to_vec(), "the server has closed the connection"),
        (b"INFO {\"tls_required\":true}\r\nPING\r\n".to_vec(), "the server requires TLS"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                // The client may close it at any byte.
                let _ = stream.write_all(&bytes);
                let _ = BufReader::new(&stream).read_line(&mut String::new());
            }
        });
        for runtime in Runtime::BOTH {
            let postern = launch(runtime, &format!("nats://{address}"), &[]);
            let line = postern.wait_for(expected);
            assert!(line.contains("failures: 1"), "{line}");
            assert_eq!(postern.get("/readyz").status, 200);
        }
    }
}

#[test]
fn settings_that_cannot_be_used_end_the_start() {
    let secret = canary::mint(Kind::Setting);
    let (http, long) = (format!("http://u:{secret}@h/"), "x".repeat(128));
    for runtime in Runtime::BOTH {
        for (settings, expected) in [
            (vec![("POSTERN_NATS_URL", http.as_str())], "not a nats URL"),
            (vec![("POSTERN_NATS_URL", secret.as_str())], "not a URL of one server"),
            (vec![("POSTERN_NATS_URL_FILE", "/no/such/file")], "cannot read the file"),
            (vec![("POSTERN_NATS_URL_FILE", "/dev/null")], "in the file: not a URL"),
            (vec![("POSTERN_NATS_MODE", "some")], "must be one of shared, each"),
            (vec![("POSTERN_NATS_SUBJECT", "a..b")], "a subject must have"),
            (vec![("POSTERN_NATS_SUBJECT", "a.*")], "a subject must have"),
            (vec![("POSTERN_NATS_QUEUE", long.as_str())], "a name must have 1 to 127"),
        ] {
            let (status, lines) = Postern::refuse(runtime, &settings);
            assert_eq!(status.code(), Some(2), "{runtime}: {lines:?}");
            let text = lines.concat();
            assert!(text.contains(expected) && !text.contains(&secret), "{runtime}: {lines:?}");
            assert!(text.contains(settings[0].0), "{runtime}: {lines:?}");
        }
    }
}
