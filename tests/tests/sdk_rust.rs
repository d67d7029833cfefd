//! The SDK for Rust, `centrifuge-client`, against both binaries, in both encodings: with one node, and with Redis and two nodes, of
//! which the second one has the client that publishes.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use centrifuge::{
    Client, DeltaType, Error, HistoryOptions, Protocol, StreamPosition, Subscription, SubscriptionEvent,
};
use hyper::HeaderMap;
use postern_tests::backend::{Answer, Backend, Received};
use postern_tests::cluster::{self, PAIRS};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::redis::Redis;
use serde_json::json;
use smol::channel::Receiver;
use smol::stream::StreamExt;

const NAMESPACES: &str = r#"
[namespaces.room]
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_presence_for_subscriber = true
allow_history_for_subscriber = true
presence = true
join_leave = true
history_size = 100
history_ttl = "5m"
force_recovery = true
allowed_delta_types = ["fossil"]
delta_publish = true
rpc_hook = true
"#;

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test for each binary, for two nodes, and for each encoding, with a backend that returns the arguments of procedures. The two
/// nodes are the same one without Redis.
fn for_each(test: impl AsyncFn([&Postern; 2], Protocol)) {
    let backend = Backend::with(decide, Answer::Status(204));
    let url = backend.url();
    let settings = [
        ("POSTERN_HOOK_URL", url.as_str()),
        ("POSTERN_HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ];
    for runtime in Runtime::BOTH {
        let postern = Postern::with(runtime, &settings).channels(NAMESPACES).start();
        in_each_encoding(&test, [&postern; 2], runtime);
    }
    for runtimes in PAIRS {
        let redis = Redis::start();
        let nodes = cluster::pair(runtimes, &redis, NAMESPACES, &settings);
        in_each_encoding(&test, nodes.each_ref(), runtimes);
    }
}

fn in_each_encoding(test: &impl AsyncFn([&Postern; 2], Protocol), nodes: [&Postern; 2], what: impl Debug) {
    for protocol in [Protocol::Protobuf, Protocol::Json] {
        println!("{what:?}, {protocol:?}");
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build();
        threads.expect("a runtime").block_on(within(test(nodes, protocol)));
    }
}

fn decide(request: &Received) -> Option<Answer> {
    let data = &request.body["data"];
    (request.body["type"] == "postern.hook.rpc").then(|| match data["method"].as_str() {
        Some("room:echo") => Answer::Json(json!({ "result": { "data": data["data"] } }).to_string()),
        _ => Answer::Json(json!({ "error": { "code": 404, "message": "no such procedure" } }).to_string()),
    })
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it does not take longer")
}

/// Connects as a user.
async fn connect(postern: &Postern, id: &str, protocol: Protocol) -> Client {
    let mut headers = HeaderMap::new();
    headers.insert("User-ID", id.parse().expect("a value"));
    let url = format!("ws://{}/connection/websocket", postern.address());
    let client = Client::builder(url).protocol(protocol).http_headers(headers).build().expect("a client");
    client.connect().expect("it connects");
    client.ready(Some(PATIENCE)).await.expect("it is connected");
    client
}

/// Returns the events of a subscription. Its client waits until an event is taken from its own stream, so a task does that.
fn events(subscription: &Subscription) -> Receiver<SubscriptionEvent> {
    let (sender, receiver) = smol::channel::unbounded();
    let mut events = subscription.events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            // The test may have ended.
            drop(sender.send(event).await);
        }
    });
    receiver
}

/// Returns the data of the next publication, its offset, and the user who has published it.
async fn publication(received: &Receiver<SubscriptionEvent>) -> (String, u64, String) {
    loop {
        if let SubscriptionEvent::Publication(event) = within(received.recv()).await.expect("an event") {
            let data = String::from_utf8(event.data.to_vec()).expect("UTF-8");
            let user = event.info.as_ref().map(|info| info.user.clone()).unwrap_or_default();
            return (data, event.offset, user);
        }
    }
}

#[test]
fn users_talk_and_see_each_other() {
    for_each(async |[node, other_node], protocol| {
        let channel = format!("room:{protocol:?}");
        let john = connect(node, "123", protocol).await;
        let subscription = john.new_subscription(&channel).join_leave(true).build().expect("a subscription");
        let received = events(&subscription);
        subscription.subscribe();
        subscription.ready(Some(PATIENCE)).await.expect("it is subscribed");
        let jane = connect(other_node, "7", protocol).await;
        let other = jane.new_subscription(&channel).build().expect("a subscription");
        other.subscribe();
        other.ready(Some(PATIENCE)).await.expect("it is subscribed");
        loop {
            if let SubscriptionEvent::Join(join) = within(received.recv()).await.expect("an event")
                && join.info.user == "7"
            {
                break;
            }
        }
        other.publish(r#"{"text":"Hello"}"#).await.expect("it is published");
        let expected = (r#"{"text":"Hello"}"#.to_owned(), 1, "7".to_owned());
        assert_eq!(publication(&received).await, expected);
        let presence = subscription.presence().await.expect("the presence");
        let mut users: Vec<_> = presence.clients.values().map(|client| client.user.clone()).collect();
        users.sort();
        assert_eq!(users, ["123", "7"]);
        let stats = subscription.presence_stats().await.expect("the numbers");
        assert_eq!((stats.num_clients, stats.num_users), (2, 2));
        let history = subscription.history(HistoryOptions::new().limit(10)).await.expect("the history");
        assert_eq!((history.publications.len(), history.offset), (1, 1));
        jane.close().await;
        loop {
            if let SubscriptionEvent::Leave(leave) = within(received.recv()).await.expect("an event") {
                assert_eq!(leave.info.user, "7");
                break;
            }
        }
        john.close().await;
    });
}

#[test]
fn a_client_that_was_away_recovers_what_it_has_missed() {
    for_each(async |[node, other_node], protocol| {
        let channel = format!("room:away-{protocol:?}");
        let john = connect(node, "123", protocol).await;
        let subscription =
            john.new_subscription(&channel).delta(DeltaType::Fossil).build().expect("a subscription");
        let received = events(&subscription);
        subscription.subscribe();
        subscription.ready(Some(PATIENCE)).await.expect("it is subscribed");
        let jane = connect(other_node, "7", protocol).await;
        let other = jane.new_subscription(&channel).build().expect("a subscription");
        other.subscribe();
        other.ready(Some(PATIENCE)).await.expect("it is subscribed");
        // Long enough for differences.
        let data =
            |number: u32| format!(r#"{{"number":{number},"text":"{}"}}"#, "the same in all ".repeat(20));
        for number in 1..=3 {
            other.publish(data(number)).await.expect("it is published");
            assert_eq!(publication(&received).await, (data(number), number.into(), "7".to_owned()));
        }
        john.disconnect();
        for number in 4..=6 {
            other.publish(data(number)).await.expect("it is published");
        }
        john.connect().expect("it connects");
        let mut recovered = false;
        for number in 4..=6 {
            loop {
                let event = within(received.recv()).await.expect("an event");
                if let SubscriptionEvent::Subscribed(event) = event {
                    recovered = event.was_recovering && event.recovered;
                } else if let SubscriptionEvent::Publication(event) = event {
                    assert_eq!((&*event.data, event.offset), (data(number).as_bytes(), number.into()));
                    break;
                }
            }
        }
        assert!(recovered);
        // From a position that the application has kept.
        let history = other.history(HistoryOptions::new()).await.expect("the position");
        let late = connect(node, "8", protocol).await;
        let since = StreamPosition::new(4, history.epoch);
        let subscription = late.new_subscription(&channel).since(since).build().expect("a subscription");
        let received = events(&subscription);
        subscription.subscribe();
        for number in 5..=6 {
            assert_eq!(publication(&received).await, (data(number), number.into(), "7".to_owned()));
        }
        for client in [john, jane, late] {
            client.close().await;
        }
    });
}

#[test]
fn procedures_are_answered_by_the_backend_and_errors_are_those_of_the_protocol() {
    for_each(async |[node, _], protocol| {
        let client = connect(node, "123", protocol).await;
        let result = client.rpc("room:echo", r#"{"a":[1,"é"]}"#).await.expect("a result");
        assert_eq!(&*result.data, r#"{"a":[1,"é"]}"#.as_bytes());
        let code = |error: Error| {
            let Error::Server(error) = error else { panic!("{error}") };
            error.code
        };
        assert_eq!(code(client.rpc("room:other", "1").await.expect_err("an error")), 404);
        assert_eq!(code(client.rpc("echo", "1").await.expect_err("an error")), 108);
        assert_eq!(code(client.publish("room:1", "1").await.expect_err("an error")), 103);
        assert_eq!(code(client.publish("lobby:1", "1").await.expect_err("an error")), 102);
        client.close().await;
    });
}
