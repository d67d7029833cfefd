//! Events that are sent to a real server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use slog::{Discard, Logger, o};

use super::*;
use crate::outbound::tests::server::{Reaction, Server};

const PATIENCE: Duration = Duration::from_secs(10);

fn start(server: &Server) -> Hooks {
    let settings = HookSettings {
        url: HttpUrl::parse(&server.url("/hook")).unwrap(),
        secrets: SigningSecrets::new(vec![vec![1; 24]]),
        timeout: Duration::from_secs(1),
        concurrency: 2,
    };
    Hooks::start(Some(&settings), 0xab, &Logger::root(Discard, o!())).unwrap()
}

fn finish(hooks: &Hooks) -> usize {
    hooks.finish(Instant::now() + PATIENCE, || false)
}

/// Returns the events of all requests.
fn events(server: &Server) -> Vec<Value> {
    let of_body = |body: String| match serde_json::from_str(&body) {
        Ok(events) => events,
        Err(_) => vec![serde_json::from_str(&body).unwrap()],
    };
    server.requests().into_iter().flat_map(|request| of_body(request.body)).collect()
}

#[test]
fn events_arrive_in_their_order_with_all_attributes() {
    let server = Server::start(|_| Reaction::ok(""));
    let hooks = start(&server);
    for index in 0..1_000 {
        hooks.channel(&format!("auction:{index} \"é\""), index % 2 == 0);
    }
    assert_eq!(finish(&hooks), 0);
    let events = events(&server);
    assert_eq!(events.len(), 1_000);
    for (index, event) in events.iter().enumerate() {
        let channel = format!("auction:{index} \"é\"");
        let kind = if index % 2 == 0 { "postern.channel.occupied" } else { "postern.channel.vacated" };
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["id"], format!("000000ab-{}", index + 1));
        assert_eq!(event["sequence"], format!("{:020}", index + 1));
        assert_eq!((&event["type"], &event["subject"]), (&kind.into(), &channel.as_str().into()));
        assert_eq!(event["data"], serde_json::json!({ "channel": channel }));
        assert!(event["source"].as_str().unwrap().starts_with("/postern/"), "{event}");
        assert!(event["source"].as_str().unwrap().ends_with("/000000ab"), "{event}");
    }
    assert_eq!(hooks.stats(), Some(HookStats { delivered: 1_000, ..HookStats::default() }));
    assert!(server.requests().len() >= 10 && server.connections() == 1);
}

#[test]
fn failed_request_is_repeated_with_the_same_id_before_the_next_events() {
    let attempts = AtomicUsize::new(0);
    let server = Server::start(move |_| match attempts.fetch_add(1, Ordering::SeqCst) {
        0 => Reaction::Last("HTTP/1.1 503 T\r\nContent-Length: 0\r\n\r\n".to_owned()),
        1 => Reaction::Last("junk\r\n\r\n".to_owned()),
        _ => Reaction::ok(""),
    });
    let hooks = start(&server);
    hooks.channel("a", true);
    while server.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    hooks.channel("b", true);
    // Attempts are less than 1 s and 2 s apart.
    assert_eq!(finish(&hooks), 0);
    let ids: Vec<_> = server.requests().iter().map(|request| request.header("webhook-id")).collect();
    assert_eq!(ids, ["msg_000000ab-1", "msg_000000ab-1", "msg_000000ab-1", "msg_000000ab-2"]);
    let stats = hooks.stats().unwrap();
    assert_eq!((stats.delivered, stats.failures, stats.queued), (2, 2, 0));
}

#[test]
fn refused_events_are_not_repeated() {
    let server = Server::start(|request| match request.body.contains("bad") {
        true => Reaction::Answer("HTTP/1.1 422 T\r\nContent-Length: 0\r\n\r\n".to_owned()),
        false => Reaction::ok(""),
    });
    let hooks = start(&server);
    hooks.channel("bad", true);
    while server.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    hooks.channel("good", true);
    assert_eq!(finish(&hooks), 0);
    let stats = hooks.stats().unwrap();
    assert_eq!((stats.refused, stats.delivered, server.requests().len()), (1, 1, 2));
}

#[test]
fn full_queue_drops_events_and_the_numbers_show_it() {
    let server = Server::start(|_| Reaction::Hang);
    let hooks = start(&server);
    let name = "a".repeat(255);
    let mut count = 0;
    while hooks.stats().unwrap().dropped < 3 {
        hooks.channel(&name, true);
        count += 1;
        assert!(count < 100_000);
    }
    let stats = hooks.stats().unwrap();
    assert_eq!(stats.queued + 3, count);
    assert!(count * 255 < queue::MAX_BYTES, "{count} events");
    let start = Instant::now();
    assert_eq!(hooks.finish(Instant::now() + Duration::from_millis(100), || false), stats.queued);
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(hooks.finish(Instant::now() + PATIENCE, || true), stats.queued);
}

#[test]
fn pauses_grow_and_are_random() {
    for (failures, most) in [(1, 1), (2, 2), (3, 4), (7, 60), (u32::MAX, 60)] {
        let most = Duration::from_secs(most);
        assert_eq!(sender::pause_after(failures, 0), most / 2);
        assert_eq!(sender::pause_after(failures, u64::MAX), most);
    }
}

#[test]
fn source_is_a_uri() {
    let mut text = String::new();
    Event::of_channel("a", true).write(u64::MAX, &Source::new("my host/é", 1), &mut text);
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(event["source"], "/postern/my-host--/00000001");
    assert_eq!(event["sequence"], "18446744073709551615");
}

#[test]
fn nothing_is_sent_without_settings() {
    let hooks = Hooks::start(None, 1, &Logger::root(Discard, o!())).unwrap();
    hooks.channel("a", true);
    assert_eq!((finish(&hooks), hooks.stats()), (0, None));
}
