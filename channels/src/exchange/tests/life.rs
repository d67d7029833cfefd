//! Idempotency, versions, presence, interest, and the life of a channel in the table.

use super::*;

fn keyed(it: &mut Fixture, channel: &str, key: &str) -> Published {
    it.publish_with(channel, "x", |publish| publish.key = Some(key.into()))
}

#[test]
fn a_key_is_published_once_in_five_minutes() {
    let mut it = fixture();
    let first = keyed(&mut it, "a", "k");
    assert_eq!(
        keyed(&mut it, "a", "k"),
        Published { position: first.position, outcome: PublishOutcome::Duplicate }
    );
    for (channel, key) in [("a", "l"), ("b", "k")] {
        assert!(
            matches!(keyed(&mut it, channel, key).outcome, PublishOutcome::Published { .. }),
            "{channel} {key}"
        );
    }
    assert_eq!(it.history("a").len(), 2);
    it.pass(Duration::from_secs(299));
    assert_eq!(keyed(&mut it, "a", "k").outcome, PublishOutcome::Duplicate);
    it.pass(SECOND);
    assert_eq!(it.exchange.stats().idempotency_keys, 0);
    assert!(matches!(keyed(&mut it, "a", "k").outcome, PublishOutcome::Published { .. }));
}

#[test]
fn a_key_counts_without_history_and_without_a_channel_in_the_table() {
    let mut it = fixture();
    for _ in 0..2 {
        let published = it.publish_with("a", "x", |publish| {
            publish.history = None;
            publish.key = Some("k".into());
        });
        assert_eq!(published.position, None);
    }
    assert_eq!(keyed(&mut it, "a", "k").outcome, PublishOutcome::Duplicate);
    assert_eq!(it.exchange.stats().channels, 0);
}

#[test]
fn the_oldest_keys_above_the_limit_are_forgotten() {
    let mut it = fixture();
    for key in ["1", "2", "3", "4"] {
        keyed(&mut it, "a", key);
    }
    let stats = it.exchange.stats();
    assert_eq!((stats.idempotency_keys, stats.forgotten_keys), (3, 1));
    assert_eq!(keyed(&mut it, "a", "2").outcome, PublishOutcome::Duplicate);
    assert!(matches!(keyed(&mut it, "a", "1").outcome, PublishOutcome::Published { .. }));
}

#[test]
fn a_version_that_is_not_newer_is_not_published() {
    let mut it = fixture();
    let mut publish = |number, epoch: &str| {
        let published = it.publish_with("a", "x", |publish| {
            publish.version = Some(Version { number, epoch: epoch.into() })
        });
        (published.position.unwrap().offset, published.outcome == PublishOutcome::Outdated)
    };
    let versions = [(5, ""), (5, ""), (4, ""), (7, ""), (1, "new"), (7, "")]
        .map(|(number, epoch)| publish(number, epoch));
    assert_eq!(versions, [(1, false), (1, true), (1, true), (2, false), (3, false), (4, false)]);
    // A publication without a version is always newer, and does not change the version.
    assert_eq!(it.publish("a", "y").offset, 5);
    let published =
        it.publish_with("a", "x", |publish| publish.version = Some(Version { number: 7, epoch: "".into() }));
    assert_eq!(published.outcome, PublishOutcome::Outdated);
}

#[test]
fn presence_counts_clients_and_users() {
    let mut it = fixture();
    let channel: Arc<str> = "a".into();
    it.subscribe("a");
    let join = it.exchange.add_presence(&channel, client("u", 1)).unwrap();
    assert_eq!((&*join.value.channel, join.value.change), ("a", PresenceChange::Join));
    assert_eq!(join.workers.iter().map(WorkerId::index).collect::<Vec<_>>(), [0]);
    it.exchange.add_presence(&channel, client("u", 2)).unwrap();
    it.exchange.add_presence(&channel, client("v", 3)).unwrap();
    assert_eq!(it.exchange.presence_stats("a"), PresenceStats { clients: 3, users: 2 });
    // A client that is present already does not join again.
    let changed = ClientInfo { conn_info: Some(b"{}".as_slice().into()), ..(*client("u", 1)).clone() };
    assert_eq!(it.exchange.add_presence(&channel, Arc::new(changed.clone())), None);
    assert_eq!(it.exchange.presence_stats("a"), PresenceStats { clients: 3, users: 2 });
    assert!(it.exchange.presence("a").iter().any(|info| **info == changed));

    let leave = it.exchange.remove_presence("a", changed.client, it.now).unwrap();
    assert_eq!((&*leave.value.info, leave.value.change), (&changed, PresenceChange::Leave));
    assert_eq!(it.exchange.remove_presence("a", changed.client, it.now), None);
    assert_eq!(it.exchange.presence_stats("a"), PresenceStats { clients: 2, users: 2 });
    it.exchange.remove_presence("a", client("u", 2).client, it.now);
    assert_eq!(it.exchange.presence_stats("a"), PresenceStats { clients: 1, users: 1 });
    assert_eq!(it.exchange.presence_stats("unknown"), PresenceStats::default());
}

#[test]
fn a_publication_is_for_the_workers_with_subscriptions() {
    let mut it = fixture();
    let other = WorkerId::new(9).unwrap();
    assert!(it.subscribe("a").is_occupied);
    assert!(!it.subscribe("a").is_occupied);
    it.worker = other;
    assert!(!it.subscribe("a").is_occupied);
    let published = it.publish_with("a", "x", |publish| publish.history = None);
    assert_eq!(workers(&published), [0, 9]);
    assert!(matches!(published.outcome, PublishOutcome::Published { subscriptions: 3, .. }));
    assert_eq!(it.exchange.channels().map(|(name, count)| (&**name, count)).collect::<Vec<_>>(), [("a", 3)]);
    assert!(!it.unsubscribe("a"));
    // A worker without subscriptions has none to remove.
    assert!(!it.unsubscribe("a"));
    it.worker = WorkerId::new(0).unwrap();
    assert_eq!(workers(&it.publish_with("a", "x", |_| ())), [0]);
    assert!(!it.unsubscribe("a"));
    assert!(it.unsubscribe("a"));
    assert_eq!(it.exchange.subscriptions("a"), 0);
}

#[test]
fn a_channel_without_subscriptions_presence_and_history_leaves_the_table() {
    let mut it = fixture();
    let plain = Subscribe { channel: "a".into(), history: None, recovery: None };
    it.exchange.subscribe(it.worker, &plain, it.now).unwrap();
    it.exchange.add_presence(&"a".into(), client("u", 1));
    it.unsubscribe("a");
    assert_eq!(it.exchange.stats().channels, 1);
    it.exchange.remove_presence("a", client("u", 1).client, it.now);
    assert_eq!(it.exchange.stats(), ExchangeStats::default());
    assert_eq!(it.exchange.poll_timeout(), None);
}

#[test]
fn a_stream_lives_for_its_meta_ttl_after_the_last_use() {
    let mut it = fixture();
    let first = it.publish("a", "1").epoch;
    // 60 seconds for the publication and 600 for the position.
    it.pass(659 * SECOND);
    assert_eq!(it.exchange.stats().channels, 1);
    assert_eq!(it.subscribe("a").position, Some(Position { epoch: first, offset: 1 }));
    // It does not expire while there is a subscriber.
    it.pass(10_000 * SECOND);
    assert_eq!(it.publish("a", "2"), Position { epoch: first, offset: 2 });
    it.pass(10_000 * SECOND);
    it.unsubscribe("a");
    it.pass(599 * SECOND);
    assert_eq!(it.exchange.stats().channels, 1);
    it.pass(SECOND);
    assert_eq!(it.exchange.stats().channels, 0);
    assert_ne!(it.publish("a", "3").epoch, first);
}

#[test]
fn an_expired_stream_is_not_used_before_the_timeout_is_handled() {
    let mut it = fixture();
    let first = it.publish("a", "1");
    it.now += OPTIONS.ttl + OPTIONS.meta_ttl;
    let again = it.publish("a", "1");
    assert!(again.epoch != first.epoch && again.offset == 1);
}

#[test]
fn many_channels_expire_in_several_steps() {
    let mut it = fixture();
    for number in 0..2_500 {
        it.publish(&number.to_string(), "x");
    }
    it.now += OPTIONS.ttl;
    for left in [1_500, 500, 0, 0] {
        it.exchange.handle_timeout(it.now);
        assert_eq!(it.exchange.stats().publications, left);
    }
}

#[test]
fn the_least_recently_used_stream_is_evicted_and_gets_another_epoch() {
    let data = "x".repeat(10_000);
    let mut it = with_memory(35_000);
    let epochs = ["a", "b", "c"].map(|channel| it.publish(channel, &data).epoch);
    assert_eq!(it.history("a").len(), 1);
    it.publish("d", &data);
    let stats = it.exchange.stats();
    assert_eq!((stats.channels, stats.publications, stats.evicted), (3, 3, 1));
    assert!(stats.history_bytes <= 35_000);
    // "b" was used before "c", and "a" was used again.
    assert_eq!(it.publish("a", "").epoch, epochs[0]);
    assert_eq!(it.publish("c", "").epoch, epochs[2]);
    let again = it.publish("b", "");
    assert!(again.epoch != epochs[1] && again.offset == 1);
    it.exchange.set_history_memory(0);
    assert_eq!(it.exchange.stats().channels, 0);
}

#[test]
fn an_evicted_stream_with_subscribers_keeps_its_position() {
    let data = "x".repeat(10_000);
    let mut it = with_memory(25_000);
    let position = it.publish("a", &data);
    it.subscribe("a");
    it.publish("b", &data);
    it.publish("c", &data);
    assert_eq!(it.history("a"), [""; 0]);
    let behind = Position { offset: 0, ..position };
    assert_eq!((it.exchange.since("a", behind), it.exchange.since("a", position)), (None, Some(vec![])));
    assert_eq!(it.publish("a", "y"), Position { offset: 2, ..position });
    // Later it can be evicted without subscribers.
    it.unsubscribe("a");
    it.exchange.set_history_memory(0);
    assert_ne!(it.publish("a", "z").epoch, position.epoch);
}

#[test]
fn one_large_stream_loses_its_oldest_publications() {
    let mut it = with_memory(30_000);
    let options = HistoryOptions { size: 100, ..OPTIONS };
    let positions = [(); 10].map(|()| {
        it.publish_with("a", &"x".repeat(5_000), |publish| publish.history = Some(options)).position.unwrap()
    });
    let stats = it.exchange.stats();
    assert_eq!((stats.publications, stats.evicted), (5, 0));
    assert!(stats.history_bytes <= 30_000);
    assert_eq!(positions[9], Position { offset: 10, ..positions[0] });
    assert_eq!(it.exchange.since("a", positions[4]).unwrap().len(), 5);
}

#[test]
fn streams_that_only_have_a_position_are_evicted_too() {
    let mut it = with_memory(100_000);
    for number in 0..10_000 {
        it.subscribe(&number.to_string());
        it.unsubscribe(&number.to_string());
    }
    let stats = it.exchange.stats();
    assert!(stats.history_bytes <= 100_000 && stats.channels > 100, "{stats:?}");
}
