use std::time::Duration;

use super::*;
use crate::namespaces::ChannelOptions;
use crate::namespaces::options::DataFormat;

fn namespaces() -> Namespaces {
    let of =
        |publication_data_format| ChannelOptions { publication_data_format, ..ChannelOptions::default() };
    let kept = ChannelOptions {
        history_size: 10,
        history_ttl: Duration::from_secs(60),
        max_publication: 20,
        ..ChannelOptions::default()
    };
    let named = [
        ("kept".into(), kept),
        ("object".into(), of(DataFormat::JsonObject)),
        ("binary".into(), of(DataFormat::Binary)),
    ];
    Namespaces::new(ChannelOptions::default(), named)
}

/// The time of all tests, in milliseconds.
const NOW: i64 = 1_700_000_000_000;

const SECONDS: u64 = 1_700_000_000;

const EMPTY: Delivery<'_> = Delivery {
    routing_key: "channel.news",
    headers: &[],
    content_type: None,
    message_id: None,
    timestamp: None,
    expiration: None,
    body: b"1",
};

/// Returns the channels with the data.
fn published(delivery: Delivery<'_>) -> Vec<(String, String)> {
    let outcome = map(&delivery, &namespaces(), NOW);
    let Outcome::Publish(publications) = outcome else { panic!("{delivery:?}: {outcome:?}") };
    let text = |publish: &Publish| String::from_utf8_lossy(&publish.data).into_owned();
    publications.iter().map(|publish| (publish.channel.to_string(), text(publish))).collect()
}

#[track_caller]
fn check_channels(routing_key: &str, headers: &[(&str, Header<'_>)], expected: &[&str]) {
    let published = published(Delivery { routing_key, headers, ..EMPTY });
    let channels: Vec<&str> = published.iter().map(|(channel, _)| channel.as_str()).collect();
    assert_eq!(channels, expected, "{routing_key}, {headers:?}");
}

#[track_caller]
fn check_poison(delivery: Delivery<'_>, expected: Poison) {
    let outcome = map(&delivery, &namespaces(), NOW);
    assert_eq!(outcome, Outcome::DeadLetter(expected), "{delivery:?}");
}

#[test]
fn routing_key_names_a_channel_or_a_user() {
    check_channels("channel.news", &[], &["news"]);
    check_channels("channel.kept:a.b.c", &[], &["kept:a.b.c"]);
    check_channels("channel.channel.user.1", &[], &["channel.user.1"]);
    check_channels("user.42", &[], &["#42"]);
    check_channels("user.john.doe#1,2%", &[], &["#john.doe%231%2C2%25"]);
    check_channels("user.jos\u{e9}", &[], &["#jos\u{e9}"]);
}

#[test]
fn headers_replace_the_routing_key() {
    let text = |name, value| (name, Header::Text(value));
    check_channels("channel.x", &[text("x-postern-channel", "a, kept:b")], &["a", "kept:b"]);
    check_channels("anything", &[text("x-postern-channel", "a")], &["a"]);
    check_channels("user.1", &[text("x-postern-user", "2,3")], &["#2", "#3"]);
    let both = [text("x-postern-user", "2"), text("x-postern-channel", "a")];
    check_channels("channel.x", &both, &["a", "#2"]);
    // A list can have names with commas.
    let list = [("x-postern-channel", Header::List(vec!["a#1,2", "b"]))];
    check_channels("channel.x", &list, &["a#1,2", "b"]);
    // Each channel gets the message once.
    check_channels("", &[text("x-postern-channel", "a,#2,a"), text("x-postern-user", "2")], &["a", "#2"]);
    // Other headers have no effect.
    check_channels("channel.x", &[text("x-other", "a"), text("x-postern-unknown", "a")], &["x"]);
}

#[test]
fn content_type_says_whether_the_body_is_a_text() {
    let form = |content_type, routing_key, body| {
        published(Delivery { routing_key, content_type, body, ..EMPTY })[0].1.clone()
    };
    assert_eq!(form(None, "channel.a", b"{ }"), "{}");
    assert_eq!(form(Some("application/json"), "channel.a", b"[1, 2]"), "[1,2]");
    assert_eq!(form(Some("text/json; charset=utf-8"), "channel.a", b"[1, 2]"), "[1,2]");
    assert_eq!(form(Some("application/octet-stream"), "channel.a", b"1"), "1");
    for content_type in ["text/plain", "TEXT/Plain; charset=utf-8", " text/html"] {
        assert_eq!(form(Some(content_type), "channel.a", b"a \"b\""), r#""a \"b\"""#);
        assert_eq!(form(Some(content_type), "channel.binary:a", b"a \"b\""), "a \"b\"");
    }
    assert_eq!(form(Some("application/json"), "channel.binary:a", b"[1, 2]"), "[1, 2]");
}

#[test]
fn properties_and_headers_are_those_of_the_server_api() {
    let headers = [
        ("x-postern-delta", Header::Flag(true)),
        ("x-postern-version", Header::Number(7)),
        ("x-postern-version-epoch", Header::Text("e")),
        ("x-postern-tag-color", Header::Text("red")),
        ("x-postern-tag-size", Header::Number(-1)),
        ("x-postern-tag-new", Header::Flag(false)),
    ];
    let delivery = Delivery {
        routing_key: "channel.kept:a",
        headers: &headers,
        message_id: Some("id-1"),
        timestamp: Some(SECONDS),
        ..EMPTY
    };
    let Outcome::Publish(publications) = map(&delivery, &namespaces(), NOW) else { panic!("{delivery:?}") };
    let [publish] = &publications[..] else { panic!("{publications:?}") };
    assert_eq!(publish.key.as_deref(), Some("id-1"));
    assert_eq!(publish.version, Some(Version { number: 7, epoch: "e".into() }));
    assert_eq!((publish.delta, publish.time, publish.history.is_some()), (true, NOW, true));
    let tags: Vec<_> = publish.tags.iter().collect();
    assert_eq!(tags, [("color", "red"), ("size", "-1"), ("new", "false")]);

    let headers = [
        ("x-postern-skip-history", Header::Text("true")),
        ("x-postern-delta", Header::Text("false")),
        ("x-postern-version", Header::Text("0")),
    ];
    let delivery =
        Delivery { routing_key: "channel.kept:a", headers: &headers, message_id: Some(""), ..EMPTY };
    let Outcome::Publish(publications) = map(&delivery, &namespaces(), NOW) else { panic!("{delivery:?}") };
    let publish = &publications[0];
    assert_eq!((publish.history, publish.delta, &publish.key, &publish.version), (None, false, &None, &None));
}

#[test]
fn delivery_that_can_never_be_published_is_a_dead_letter() {
    let of_key = |routing_key| Delivery { routing_key, ..EMPTY };
    for key in ["", "news", "channel", "Channel.a", "channels.a", "user", "users.1"] {
        check_poison(of_key(key), Poison::NoTarget);
    }
    let long = format!("channel.{}", "a".repeat(256));
    for key in ["channel.", "channel.a\n", "channel.\u{e9}", &long] {
        check_poison(of_key(key), Poison::Channel);
    }
    let long = format!("user.{}", "#".repeat(100));
    for key in ["user.", "user.\n", &long] {
        check_poison(of_key(key), Poison::User);
    }
    check_poison(of_key("channel.nosuch:a"), Poison::UnknownNamespace);
    let of_body = |routing_key, body| Delivery { routing_key, body, ..EMPTY };
    let deep = "[".repeat(200);
    for body in [&b""[..], b"{", b"\xff", b"1 2", deep.as_bytes()] {
        check_poison(of_body("channel.a", body), Poison::NotJson);
    }
    check_poison(of_body("channel.object:a", b"[]"), Poison::NotAnObject);
    check_poison(of_body("channel.kept:a", b"\"1234567890123456789\""), Poison::TooLarge);
    check_poison(Delivery { content_type: Some("text/plain"), body: b"\xff", ..EMPTY }, Poison::NotUtf8);
    for (name, value) in [
        ("x-postern-channel", Header::Number(1)),
        ("x-postern-channel", Header::Other),
        ("x-postern-user", Header::Flag(true)),
        ("x-postern-version", Header::Number(-1)),
        ("x-postern-version", Header::Text("one")),
        ("x-postern-version", Header::Flag(true)),
        ("x-postern-version-epoch", Header::Number(1)),
        ("x-postern-delta", Header::Text("yes")),
        ("x-postern-delta", Header::Number(1)),
        ("x-postern-skip-history", Header::Other),
        ("x-postern-tag-a", Header::List(Vec::new())),
    ] {
        check_poison(Delivery { headers: &[(name, value)], ..EMPTY }, Poison::Header);
    }
    let header = |name, value| [(name, Header::Text(value))];
    check_poison(Delivery { headers: &header("x-postern-channel", ""), ..EMPTY }, Poison::Channel);
    check_poison(Delivery { headers: &header("x-postern-channel", "a,,b"), ..EMPTY }, Poison::Channel);
    check_poison(Delivery { headers: &header("x-postern-user", "1,"), ..EMPTY }, Poison::User);
    check_poison(Delivery { headers: &header("x-postern-version", "1"), ..EMPTY }, Poison::Version);
    let list = [("x-postern-channel", Header::List(Vec::new()))];
    check_poison(Delivery { headers: &list, ..EMPTY }, Poison::NoTarget);
}

#[test]
fn message_for_several_channels_is_published_to_all_or_none() {
    let headers = [("x-postern-channel", Header::Text("a,nosuch:b"))];
    check_poison(Delivery { headers: &headers, ..EMPTY }, Poison::UnknownNamespace);
    let headers = [("x-postern-channel", Header::Text("a,object:b"))];
    check_poison(Delivery { headers: &headers, ..EMPTY }, Poison::NotAnObject);
}

#[test]
fn old_message_is_dropped() {
    let of = |routing_key, timestamp, expiration| {
        let delivery = Delivery { routing_key, timestamp, expiration, ..EMPTY };
        match map(&delivery, &namespaces(), NOW) {
            Outcome::Publish(_) => true,
            Outcome::Expired => false,
            other @ Outcome::DeadLetter(_) => panic!("{other:?}"),
        }
    };
    // History is kept for a minute.
    assert!(of("channel.kept:a", Some(SECONDS - 60), None));
    assert!(!of("channel.kept:a", Some(SECONDS - 61), None));
    assert!(of("channel.a", Some(0), None));
    assert!(of("channel.a", Some(SECONDS - 1), Some("1000")));
    assert!(!of("channel.a", Some(SECONDS - 2), Some("1000")));
    // Without a timestamp, the broker alone knows the age.
    assert!(of("channel.kept:a", None, Some("0")));
    // Clocks differ, and some clients send milliseconds.
    for timestamp in [SECONDS + 60, SECONDS * 1000, u64::MAX] {
        assert!(of("channel.kept:a", Some(timestamp), Some("0")), "{timestamp}");
    }
    assert!(of("channel.a", Some(0), Some("soon")));
    // A channel without history still gets it.
    let headers = [("x-postern-channel", Header::Text("kept:a,b"))];
    let published = published(Delivery { headers: &headers, timestamp: Some(SECONDS - 61), ..EMPTY });
    assert_eq!(published, [("b".to_owned(), "1".to_owned())]);
}

#[test]
fn reasons_have_distinct_labels_and_texts() {
    for (index, one) in Poison::ALL.iter().enumerate() {
        assert_eq!(*one as usize, index);
        for other in &Poison::ALL[..index] {
            assert_ne!(one.label(), other.label());
            assert_ne!(one.to_string(), other.to_string());
        }
    }
}
