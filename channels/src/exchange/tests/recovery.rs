//! Which publications a new subscription gets, and what a lagging worker gets.

use super::*;

fn ask(since: Since, mode: RecoveryMode) -> Option<Recovery> {
    Some(Recovery { since, mode, limit: 300, bytes: usize::MAX, is_required: false })
}

/// Subscribes with recovery; returns what was recovered, if anything was.
fn recover(it: &mut Fixture, recovery: Option<Recovery>) -> Option<String> {
    let subscribed = it.subscribe_with("a", recovery).unwrap();
    assert!(subscribed.is_recovered || subscribed.publications.is_empty());
    subscribed.is_recovered.then(|| texts(&subscribed.publications).concat())
}

#[test]
fn a_stream_is_recovered_if_nothing_is_missing() {
    let mut it = fixture();
    let epoch = ["1", "2", "3", "4", "5"].map(|data| it.publish("a", data))[0].epoch;
    let own = epoch.as_str();
    let cases = [
        (own, 5, Some("")),
        (own, 4, Some("5")),
        (own, 2, Some("345")),
        // Publication 2 is not kept.
        (own, 1, None),
        (own, 0, None),
        // The stream does not have a publication 6 yet.
        (own, 6, None),
        (own, u64::MAX, None),
        ("", 2, Some("345")),
        ("", 1, None),
        ("aaaaaaaa", 5, None),
        ("other", 5, None),
    ];
    for (epoch, offset, expected) in cases {
        let recovered = recover(&mut it, ask(Since::new(epoch, offset), RecoveryMode::Stream));
        assert_eq!(recovered.as_deref(), expected, "{epoch} {offset}");
    }
}

#[test]
fn a_recovery_has_limits() {
    let mut it = fixture();
    let positions = ["1", "2", "3"].map(|data| it.publish("a", data));
    let one = it.exchange.since("a", positions[1]).unwrap()[0].memory();
    let since = Since::from(positions[0]);
    for (limit, bytes, expected) in
        [(2, usize::MAX, Some("23")), (1, usize::MAX, None), (2, 2 * one, Some("23")), (2, 2 * one - 1, None)]
    {
        let recovery = Recovery { limit, bytes, ..ask(since, RecoveryMode::Stream).unwrap() };
        assert_eq!(recover(&mut it, Some(recovery)).as_deref(), expected, "{limit} {bytes}");
    }
}

#[test]
fn a_stream_without_publications_is_recovered_at_its_position_only() {
    let mut it = fixture();
    let position = it.publish("a", "1");
    it.pass(OPTIONS.ttl);
    assert_eq!(recover(&mut it, ask(position.into(), RecoveryMode::Stream)).as_deref(), Some(""));
    let earlier = Position { offset: 0, ..position };
    assert_eq!(recover(&mut it, ask(earlier.into(), RecoveryMode::Stream)), None);
}

#[test]
fn a_cache_is_recovered_by_its_last_publication() {
    let mut it = fixture();
    let start = Since::new("", 0);
    assert_eq!(recover(&mut it, ask(start, RecoveryMode::Cache)), None);
    let [first, last] = ["1", "2"].map(|data| it.publish("a", data));
    for since in
        [start, first.into(), Since::new("other", 2), Since::new("", 2), Since::new(last.epoch.as_str(), 9)]
    {
        assert_eq!(recover(&mut it, ask(since, RecoveryMode::Cache)).as_deref(), Some("2"), "{since:?}");
    }
    assert_eq!(recover(&mut it, ask(last.into(), RecoveryMode::Cache)).as_deref(), Some(""));
    it.exchange.remove_history("a", it.now);
    assert_eq!(recover(&mut it, ask(last.into(), RecoveryMode::Cache)), None);
}

#[test]
fn a_required_recovery_fails_without_a_subscription() {
    let mut it = fixture();
    let position = it.publish("a", "1");
    let required = |since| Some(Recovery { is_required: true, ..ask(since, RecoveryMode::Stream).unwrap() });
    assert_eq!(it.subscribe_with("a", required(Since::new("other", 1))), Err(Unrecoverable));
    assert_eq!(it.exchange.subscriptions("a"), 0);
    assert!(it.subscribe_with("a", required(position.into())).unwrap().is_recovered);
    // Without history nothing can be recovered.
    let subscribe = Subscribe { channel: "b".into(), history: None, recovery: required(position.into()) };
    assert_eq!(it.exchange.subscribe(it.worker, &subscribe, it.now), Err(Unrecoverable));
    assert_eq!(it.exchange.stats().channels, 1);
}

#[test]
fn a_subscription_starts_at_the_end_of_the_stream() {
    let mut it = fixture();
    let empty = it.subscribe("a").position.unwrap();
    assert_eq!(empty.offset, 0);
    let published = it.publish("a", "1");
    assert_eq!(published, Position { offset: 1, ..empty });
    assert_eq!(it.subscribe("a").position, Some(published));
    let plain = Subscribe { channel: "b".into(), history: None, recovery: None };
    assert_eq!(it.exchange.subscribe(it.worker, &plain, it.now).unwrap().position, None);
}

/// Publishes, and lets the inbox of the worker be full.
fn publish_to_full_inbox(it: &mut Fixture, data: &str) {
    let published = it.publish_with("a", data, |_| ());
    assert_eq!(workers(&published), [0]);
    it.exchange.mark_lagging(it.worker, "a", MissedEvent::Publication(published.position));
}

#[test]
fn a_lagging_worker_receives_nothing_until_it_has_caught_up() {
    let mut it = fixture();
    it.subscribe("a");
    assert_eq!(workers(&it.publish_with("a", "1", |_| ())), [0]);
    publish_to_full_inbox(&mut it, "2");
    assert_eq!(workers(&it.publish_with("a", "3", |_| ())), [0; 0]);
    assert_eq!(it.exchange.next_lagging(it.worker).as_deref(), Some("a"));
    let caught_up = it.exchange.catch_up(it.worker, "a").unwrap();
    assert_eq!(texts(&caught_up.publications), ["2", "3"]);
    assert!(caught_up.is_complete && caught_up.is_presence_complete);
    assert_eq!(caught_up.position.unwrap().offset, 3);
    assert_eq!(it.exchange.next_lagging(it.worker), None);
    assert_eq!(it.exchange.catch_up(it.worker, "a"), None);
    assert_eq!(workers(&it.publish_with("a", "4", |_| ())), [0]);
}

#[test]
fn a_gap_that_is_not_kept_is_reported() {
    let mut it = fixture();
    it.subscribe("a");
    for data in ["1", "2", "3", "4"] {
        if data == "1" {
            publish_to_full_inbox(&mut it, data);
        } else {
            it.publish("a", data);
        }
    }
    let caught_up = it.exchange.catch_up(it.worker, "a").unwrap();
    assert!(!caught_up.is_complete && caught_up.publications.is_empty());
    assert_eq!(caught_up.position.unwrap().offset, 4);
}

#[test]
fn missing_events_without_a_position_are_reported() {
    let mut it = fixture();
    it.subscribe("a");
    publish_to_full_inbox(&mut it, "1");
    it.exchange.add_presence(&"a".into(), client("u", 1));
    let caught_up = it.exchange.catch_up(it.worker, "a").unwrap();
    assert!(caught_up.is_complete && !caught_up.is_presence_complete);

    publish_to_full_inbox(&mut it, "2");
    it.publish_with("a", "3", |publish| publish.history = None);
    let caught_up = it.exchange.catch_up(it.worker, "a").unwrap();
    assert!(!caught_up.is_complete && caught_up.is_presence_complete);
    assert_eq!(texts(&caught_up.publications), ["2"]);
}

#[test]
fn a_subscription_ends_the_lag_of_its_worker() {
    let mut it = fixture();
    it.subscribe("a");
    publish_to_full_inbox(&mut it, "1");
    let subscribed = it.subscribe("a");
    assert_eq!(texts(&subscribed.catch_up.unwrap().publications), ["1"]);
    assert_eq!(subscribed.position.unwrap().offset, 1);
    assert_eq!(it.exchange.next_lagging(it.worker), None);
    // The lag ends also with the last subscription.
    publish_to_full_inbox(&mut it, "2");
    it.unsubscribe("a");
    assert_eq!(it.exchange.next_lagging(it.worker).as_deref(), Some("a"));
    it.unsubscribe("a");
    assert_eq!(it.exchange.next_lagging(it.worker), None);
    it.exchange.mark_lagging(it.worker, "a", MissedEvent::Presence);
    assert_eq!(it.exchange.next_lagging(it.worker), None);
}

#[test]
fn since_returns_a_gap_only_if_it_is_covered() {
    let mut it = fixture();
    let positions = ["1", "2", "3", "4"].map(|data| it.publish("a", data));
    let since = |position| it.exchange.since("a", position).map(|publications| texts(&publications).concat());
    assert_eq!(
        positions.map(since),
        [Some("234".into()), Some("34".into()), Some("4".into()), Some(String::new())]
    );
    assert_eq!(since(Position { offset: 0, ..positions[0] }), None);
    assert_eq!(since(Position { offset: 5, ..positions[0] }), None);
    assert_eq!(since(Position { epoch: Epoch::from_bits(0), ..positions[3] }), None);
    assert_eq!(it.exchange.since("unknown", positions[0]), None);
}
