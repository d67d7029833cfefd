//! The client for Rust against both binaries: messages, recovery, reconnection, tokens.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postern_client::close::codes;
use postern_client::{
    Client, Config, Driver, Event, Events, Recovery, RequestError, SubscribeOptions, TokenError, plain,
};
use postern_tests::canary::{self, Kind};
use postern_tests::issuer::{hs256, unix_time};
use postern_tests::postern::{Postern, Runtime};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use smol::Timer;

const NAMESPACES: &str = r#"
[without_namespace]
allow_subscribe_for_client = true
allow_publish_for_client = true
allow_presence_for_client = true
allow_history_for_client = true
presence = true
history_size = 1000
history_ttl = "5m"
force_recovery = true
"#;

fn start(runtime: Runtime, settings: &[(&str, &str)]) -> Postern {
    let settings = [&[("POSTERN_PERSONAL_CHANNEL", "off")], settings].concat();
    Postern::with(runtime, &settings).channels(NAMESPACES).control().leading().start()
}

fn config(postern: &Postern, user: usize) -> Config {
    Config::new(format!("ws://{}/connection/websocket", postern.address()))
        .header("User-ID", user.to_string())
}

fn run((client, events, driver): (Client, Events, Driver)) -> (Client, Events) {
    smol::spawn(driver.run()).detach();
    (client, events)
}

/// Returns the next event that `select` selects.
async fn wait_for<T>(events: &mut Events, mut select: impl FnMut(&Event) -> Option<T>) -> T {
    in_time(async {
        loop {
            let event = events.next().await.expect("an event");
            if let Some(found) = select(&event) {
                return found;
            }
        }
    })
    .await
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(Duration::from_secs(60)).await;
        panic!("nothing has happened in a minute")
    };
    smol::future::or(what, late).await
}

fn publish(postern: &Postern, channel: &str, data: u64) {
    let body = json!({ "channel": channel, "data": data });
    let response = postern.post("/api/publish", &body).json();
    assert!(response["result"].is_object(), "{response}");
}

fn disconnect_all(postern: &Postern, users: usize) {
    for user in 0..users {
        let close = json!({ "code": 3011, "reason": "force reconnect" });
        let body = json!({ "user": user.to_string(), "disconnect": close });
        assert_eq!(postern.post("/api/disconnect", &body).status, 200);
    }
}

#[test]
fn users_talk_to_each_other() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &[]);
        smol::block_on(async {
            let (john, mut events) = run(config(&postern, 1).build().expect("a client"));
            let (jane, _events) = run(config(&postern, 2).build().expect("a client"));
            john.subscribe("news", SubscribeOptions::default()).await.expect("an answer");
            let subscribed = |event: &Event| matches!(event, Event::Subscribed { .. }).then_some(());
            wait_for(&mut events, subscribed).await;
            jane.publish("news", &json!({ "text": "Hello" })).await.expect("an answer");
            let received = wait_for(&mut events, |event| {
                if let Event::Publication { channel, publication } = event {
                    Some((channel.clone(), publication.clone()))
                } else {
                    None
                }
            });
            let (channel, publication) = received.await;
            assert_eq!((&*channel, publication.data.get()), ("news", r#"{"text":"Hello"}"#));
            assert_eq!(publication.info.expect("the publisher").user, "2");

            let present = jane.presence("news").await.expect("an answer");
            assert_eq!(present.values().map(|info| &*info.user).collect::<Vec<_>>(), ["1"]);
            let stats = jane.presence_stats("news").await.expect("an answer");
            assert_eq!((stats.num_clients, stats.num_users), (1, 1));
            let history = jane.history("news", -1, None).await.expect("an answer");
            assert_eq!((history.publications.len(), history.position.offset), (1, 1));
            assert!(
                jane.history("news", -1, Some(history.position))
                    .await
                    .expect("an answer")
                    .publications
                    .is_empty()
            );
            let RequestError::Server(error) = jane.rpc("method", &1).await.expect_err("an error") else {
                panic!("not an error")
            };
            assert_eq!(error.code, 108);
            let refused = jane.publish("unknown:news", &1).await;
            assert!(matches!(refused, Err(RequestError::Server(error)) if error.code == 102));

            // A Close without return, and the return that the application asks for.
            let close = json!({ "user": "1", "disconnect": { "code": 3503, "reason": "force disconnect" } });
            assert_eq!(postern.post("/api/disconnect", &close).status, 200);
            let code = wait_for(&mut events, |event| {
                if let Event::Disconnected { code, .. } = event { Some(*code) } else { None }
            });
            assert_eq!(code.await, 3503);
            assert_eq!(john.publish("news", &1).await, Err(RequestError::Disconnected));
            jane.publish("news", &"missed").await.expect("an answer");
            john.connect().await.expect("an answer");
            let recovery = wait_for(&mut events, |event| {
                if let Event::Subscribed { recovery, .. } = event { Some(*recovery) } else { None }
            });
            // The subscription does not ask for recovery, but its namespace enforces it.
            assert_eq!(recovery.await, Recovery::Complete);
            let missed = wait_for(&mut events, |event| {
                if let Event::Publication { publication, .. } = event {
                    Some(publication.data.get().to_owned())
                } else {
                    None
                }
            });
            assert_eq!(missed.await, r#""missed""#);
            john.unsubscribe("news").await.expect("an answer");
            let unsubscribed =
                |event: &Event| matches!(event, Event::Unsubscribed { code: 0, .. }).then_some(());
            wait_for(&mut events, unsubscribed).await;
        });
    }
}

/// The delays of attempts, in tenths of the longest one.
#[derive(Debug, Default)]
struct Delays([usize; 10]);

impl Delays {
    fn add(&mut self, delay: Duration) {
        let tenth = (delay.as_secs_f64() / 0.5 * 10.0) as usize;
        self.0[tenth.min(9)] += 1;
    }

    /// Checks that no tenth of the time has more than three times its share of the attempts.
    fn check(&self) {
        let mean = self.0.iter().sum::<usize>() / 10;
        assert!(self.0.iter().all(|&count| count <= 3 * mean.max(3)), "{self:?}");
    }
}

/// Receives until the publication `last`. Returns all publications, the recoveries of the subscriptions, and the first delay.
async fn collect(events: &mut Events, last: u64) -> (Vec<u64>, Vec<Recovery>, Option<Duration>) {
    let (mut received, mut recoveries, mut first) = (Vec::new(), Vec::new(), None);
    wait_for(events, |event| {
        if let Event::Publication { publication, .. } = event {
            received.push(publication.data.get().parse().expect("a number"));
        } else if let Event::Subscribed { recovery, .. } = event {
            recoveries.push(*recovery);
        } else if let Event::Reconnecting { delay, .. } = event {
            first = first.or(Some(*delay));
        }
        received.last().is_some_and(|&data| data >= last).then_some(())
    })
    .await;
    (received, recoveries, first)
}

#[test]
fn clients_whose_connections_are_cut_return_one_by_one_and_miss_nothing() {
    const CLIENTS: usize = 500;
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &[]);
        smol::block_on(async {
            let mut clients = Vec::new();
            for user in 0..CLIENTS {
                let (client, mut events) = run(config(&postern, user % 50).build().expect("a client"));
                let options = SubscribeOptions { recoverable: true, ..SubscribeOptions::default() };
                client.subscribe("news", options).await.expect("an answer");
                let subscribed = |event: &Event| matches!(event, Event::Subscribed { .. }).then_some(());
                wait_for(&mut events, subscribed).await;
                clients.push((client, events));
            }
            publish(&postern, "news", 1);
            disconnect_all(&postern, 50);
            for data in 2..=20 {
                publish(&postern, "news", data);
                Timer::after(Duration::from_millis(50)).await;
            }
            let (mut delays, mut complete) = (Delays::default(), 0);
            for (_client, events) in &mut clients {
                let (received, recoveries, delay) = collect(events, 20).await;
                assert_eq!(received, (1..=20).collect::<Vec<_>>());
                delays.add(delay.expect("the connection was cut"));
                complete += usize::from(recoveries == [Recovery::Complete]);
            }
            assert_eq!(complete, CLIENTS);
            delays.check();
        });
    }
}

#[test]
fn clients_return_after_a_restart_and_are_told_what_cannot_be_recovered() {
    const CLIENTS: usize = 200;
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &[("POSTERN_DRAIN_GRACE", "0"), ("POSTERN_DRAIN_SPREAD", "1s")]);
        smol::block_on(async {
            let mut clients = Vec::new();
            for user in 0..CLIENTS {
                let (client, mut events) = run(config(&postern, user).build().expect("a client"));
                let options = SubscribeOptions { recoverable: true, ..SubscribeOptions::default() };
                client.subscribe("news", options).await.expect("an answer");
                let subscribed = |event: &Event| matches!(event, Event::Subscribed { .. }).then_some(());
                wait_for(&mut events, subscribed).await;
                clients.push((client, events));
            }
            let process = Pid::from_raw(i32::try_from(postern.id()).expect("an id")).expect("an id");
            kill_process(process, Signal::USR2).expect("a signal");
            let mut codes = BTreeMap::new();
            for (_client, events) in &mut clients {
                // The new process keeps its history in memory, which begins empty.
                let mut code = 0;
                let recovery = wait_for(events, |event| {
                    if let Event::Reconnecting { code: lost, .. } = event {
                        code = *lost;
                    }
                    if let Event::Subscribed { recovery, .. } = event { Some(*recovery) } else { None }
                });
                assert_eq!(recovery.await, Recovery::Incomplete);
                *codes.entry(code).or_insert(0) += 1;
            }
            assert_eq!(codes, BTreeMap::from([(3001, CLIENTS)]));
            let (first, events) = &mut clients[0];
            first.publish("news", &7).await.expect("an answer");
            assert_eq!(collect(events, 7).await.0, [7]);
        });
    }
}

#[test]
fn a_token_is_refreshed_and_its_absence_ends_the_client() {
    let secret = canary::mint(Kind::Setting);
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &[("JWT_SECRET", &secret)]);
        smol::block_on(async {
            let (asked, key) = (Arc::new(AtomicU32::new(0)), secret.clone());
            let count = asked.clone();
            let tokens = move |channel: Option<String>| {
                assert_eq!(channel, None);
                let number = count.fetch_add(1, Ordering::Relaxed);
                let token = hs256(&key, &json!({ "sub": "1", "exp": unix_time() + 2 }));
                async move { if number < 3 { Ok(token) } else { Err(TokenError::Unauthorized) } }
            };
            let started = Instant::now();
            let (client, mut events) =
                run(config(&postern, 1).token_source(tokens).build().expect("a client"));
            let (code, connections) = {
                let mut connections = 0;
                let code = wait_for(&mut events, |event| {
                    connections += usize::from(matches!(event, Event::Connected { .. }));
                    if let Event::Disconnected { code, .. } = event { Some(*code) } else { None }
                })
                .await;
                (code, connections)
            };
            assert_eq!((code, connections), (codes::UNAUTHORIZED, 1));
            assert_eq!(asked.load(Ordering::Relaxed), 4);
            assert!(started.elapsed() > Duration::from_secs(4));
            drop(client);
        });
    }
}

#[test]
fn plain_messages_are_echoed_before_and_after_a_restart() {
    for runtime in Runtime::BOTH {
        let postern = Postern::with(runtime, &[("POSTERN_DRAIN_GRACE", "0"), ("POSTERN_DRAIN_SPREAD", "0")]);
        let postern = postern.leading().start();
        smol::block_on(async {
            let config = plain::Config::new(format!("ws://{}/ws", postern.address())).header("User-ID", "1");
            let (client, mut events, driver) = config.build().expect("a client");
            smol::spawn(driver.run()).detach();
            let message = plain::Message::Text("before".into());
            client.send(message.clone()).await.expect("an answer");
            assert_eq!(in_time(events.next()).await, Some(plain::Event::Opened));
            assert_eq!(in_time(events.next()).await, Some(plain::Event::Message(message)));
            let process = Pid::from_raw(i32::try_from(postern.id()).expect("an id")).expect("an id");
            kill_process(process, Signal::USR2).expect("a signal");
            let lost = in_time(events.next()).await;
            assert!(matches!(lost, Some(plain::Event::Reconnecting { code: 1001 | 1012, .. })), "{lost:?}");
            let message = plain::Message::Binary(vec![1, 2, 3]);
            client.send(message.clone()).await.expect("an answer");
            while in_time(events.next()).await != Some(plain::Event::Message(message.clone())) {}
            drop(client);
            assert_eq!(in_time(events.next()).await, None);
        });
    }
}

#[test]
fn a_user_without_identity_is_told_the_reason() {
    for runtime in Runtime::BOTH {
        let postern = start(runtime, &[]);
        smol::block_on(async {
            let config = Config::new(format!("ws://{}/connection/websocket", postern.address()));
            let (_client, mut events) = run(config.build().expect("a client"));
            let (code, reason) = wait_for(&mut events, |event| {
                if let Event::Reconnecting { code, reason, .. } = event {
                    Some((*code, reason.clone()))
                } else {
                    None
                }
            })
            .await;
            assert_eq!(code, codes::NOT_CONNECTED);
            assert!(reason.contains("401"), "{reason}");
        });
    }
    for url in ["", "http://localhost/", "ws//localhost", "ws://local host/"] {
        assert!(Config::new(url).build().is_err(), "{url}");
    }
    let value: Value = json!("line\nbreak");
    let config = Config::new("ws://localhost/").header("Cookie", value.as_str().unwrap_or_default());
    assert!(config.build().is_err());
}
