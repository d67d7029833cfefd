//! What a history keeps, and what its queries return.

use super::*;

#[test]
fn offsets_count_from_1_per_channel() {
    let mut it = fixture();
    let [first, second, other] =
        [("a", "x"), ("a", "y"), ("b", "z")].map(|(channel, data)| it.publish(channel, data));
    assert_eq!((first.offset, second.offset, other.offset), (1, 2, 1));
    assert_eq!(first.epoch, second.epoch);
    assert_ne!(first.epoch, other.epoch);
}

#[test]
fn the_oldest_publications_above_the_size_are_removed() {
    let mut it = fixture();
    for data in ["1", "2", "3", "4", "5"] {
        it.publish("a", data);
    }
    assert_eq!(it.history("a"), ["3", "4", "5"]);
    let smaller = HistoryOptions { size: 1, ..OPTIONS };
    it.publish_with("a", "6", |publish| publish.history = Some(smaller));
    assert_eq!(it.history("a"), ["6"]);
}

#[test]
fn the_oldest_publications_above_the_bytes_are_removed() {
    let mut it = fixture();
    let data = "x".repeat(1_000);
    for (bytes, kept) in [(2_000, 2), (1_999, 1), (999, 0)] {
        let options = HistoryOptions { bytes, ..OPTIONS };
        for _ in 0..3 {
            it.publish_with("a", &data, |publish| publish.history = Some(options));
        }
        assert_eq!(it.history("a").len(), kept, "{bytes}");
    }
    // The offset counts also what was not kept.
    assert_eq!(it.publish("a", "").offset, 10);
}

#[test]
fn all_publications_expire_the_ttl_after_the_last_one() {
    let mut it = fixture();
    let first = it.publish("a", "1");
    it.pass(59 * SECOND);
    it.publish("a", "2");
    it.pass(59 * SECOND);
    assert_eq!(it.history("a"), ["1", "2"]);
    it.pass(SECOND);
    assert_eq!(it.history("a"), [""; 0]);
    // The position remains.
    assert_eq!(it.publish("a", "3"), Position { epoch: first.epoch, offset: 3 });
}

#[test]
fn expired_publications_are_not_returned_before_the_timeout_is_handled() {
    let mut it = fixture();
    it.publish("a", "1");
    it.now += OPTIONS.ttl;
    assert_eq!(it.history("a"), [""; 0]);
}

#[test]
fn a_channel_without_history_has_no_positions() {
    let mut it = fixture();
    let published = it.publish_with("a", "1", |publish| publish.history = None);
    assert_eq!(published.position, None);
    assert_eq!(it.exchange.stats().channels, 0);
    // A publication without history does not change the position of a stream.
    it.publish("a", "1");
    it.publish_with("a", "2", |publish| publish.history = None);
    assert_eq!(it.publish("a", "3").offset, 2);
    assert_eq!(it.history("a"), ["1", "3"]);
}

#[test]
fn a_namespace_has_history_with_a_size_and_a_time() {
    let options =
        |history_size, history_ttl| ChannelOptions { history_size, history_ttl, ..ChannelOptions::default() };
    for (size, ttl) in [(0, SECOND), (1, Duration::ZERO)] {
        assert_eq!(HistoryOptions::of(&options(size, ttl)), None);
    }
    let history = HistoryOptions::of(&options(2, SECOND)).unwrap();
    assert_eq!((history.size, history.ttl, history.bytes), (2, SECOND, usize::MAX));
    let limited = ChannelOptions { history_bytes: 9, ..options(2, SECOND) };
    assert_eq!(HistoryOptions::of(&limited).unwrap().bytes, 9);
}

#[test]
fn removing_the_history_keeps_the_position() {
    let mut it = fixture();
    let position = it.publish("a", "1");
    it.exchange.remove_history("a", it.now);
    assert_eq!(it.history("a"), [""; 0]);
    assert_eq!(it.publish("a", "2"), Position { offset: 2, ..position });
    it.exchange.remove_history("unknown", it.now);
}

#[test]
fn a_query_has_a_limit_a_start_and_a_direction() {
    let mut it = fixture();
    let epoch = ["1", "2", "3", "4"].map(|data| it.publish("a", data))[0].epoch;
    let mut ask = |limit: Option<usize>, since: Option<(&str, u64)>, is_reverse| {
        let since = since.map(|(epoch, offset)| Since::new(epoch, offset));
        let query = HistoryQuery { limit, since, is_reverse };
        let history = it.exchange.history(&"a".into(), &query, &OPTIONS, it.now)?;
        assert_eq!(history.position, Position { epoch, offset: 4 });
        Ok(texts(&history.publications).concat())
    };
    let own = epoch.as_str();
    let cases = [
        // Limits. The size of the history is 3.
        (Some(0), None, false, Ok("")),
        (Some(2), None, false, Ok("23")),
        (None, None, false, Ok("234")),
        (Some(9), None, false, Ok("234")),
        (Some(2), None, true, Ok("43")),
        (None, None, true, Ok("432")),
        // Forward from a position: what follows it and is kept.
        (None, Some((own, 0)), false, Ok("234")),
        (None, Some((own, 2)), false, Ok("34")),
        (Some(1), Some((own, 2)), false, Ok("3")),
        (None, Some((own, 4)), false, Ok("")),
        (None, Some((own, 9)), false, Ok("")),
        // Backward: what precedes it.
        (None, Some((own, 4)), true, Ok("32")),
        (Some(1), Some((own, 4)), true, Ok("3")),
        (None, Some((own, 2)), true, Ok("")),
        (None, Some((own, 1)), true, Ok("")),
        (None, Some((own, 9)), true, Ok("432")),
        (None, Some((own, u64::MAX)), true, Ok("432")),
        // An unknown epoch matches, another one does not.
        (None, Some(("", 3)), false, Ok("4")),
        (None, Some(("aaaaaaaa", 3)), false, Err(HistoryError::UnrecoverablePosition)),
        (Some(0), Some(("?", 3)), false, Err(HistoryError::UnrecoverablePosition)),
        (None, Some((own, 0)), true, Err(HistoryError::NothingBefore)),
        (None, Some(("aaaaaaaa", 0)), true, Err(HistoryError::NothingBefore)),
    ];
    for (limit, since, is_reverse, expected) in cases {
        assert_eq!(
            ask(limit, since, is_reverse),
            expected.map(str::to_owned),
            "{limit:?} {since:?} {is_reverse}"
        );
    }
}

#[test]
fn the_history_of_an_unused_channel_has_a_position_that_stays() {
    let mut it = fixture();
    let query = HistoryQuery { limit: Some(0), ..HistoryQuery::default() };
    let history = it.exchange.history(&"a".into(), &query, &OPTIONS, it.now).unwrap();
    assert_eq!(history.position.offset, 0);
    assert_eq!(it.publish("a", "1"), Position { offset: 1, ..history.position });
}

#[test]
fn the_publications_of_an_answer_share_memory_with_the_log() {
    let mut it = fixture();
    it.subscribe("a");
    let published = it.publish_with("a", "1", |_| ());
    let PublishOutcome::Published { delivery, .. } = published.outcome else { panic!("{published:?}") };
    let position = Position { offset: 0, ..published.position.unwrap() };
    let gap = it.exchange.since("a", position).unwrap();
    assert!(Arc::ptr_eq(&delivery.value, &gap[0]));
    let subscribed = it.subscribe("a");
    assert!(Arc::ptr_eq(&delivery.value.channel, &subscribed.channel));
}
