//! What does a subscription cost, a publication, and a visit of a subscriber?
//!
//! `cargo run --release -p postern-channels --example measure` prints a table. Memory is the growth of the resident set of the
//! process, so it includes what the allocator wastes. Nothing is sent: `benches/fanout` measures deliveries to sockets.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, clippy::disallowed_types)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_channels::exchange::{
    Exchange, ExchangeConfig, HistoryOptions, Publish, Published, Subscribe, WorkerId,
};
use postern_channels::hub::{Form, Hub};
use postern_channels::publication::Tags;

const MILLION: u32 = 1_000_000;

fn main() {
    let parts: [fn(); 5] = [
        || subscriptions(MILLION, 1, "one after the other", leave_each),
        || subscriptions(MILLION, 1, "all of a connection", leave_all),
        || subscriptions(10_000, 100, "one after the other", leave_each),
        || subscriptions(10_000, 100, "all of a connection", leave_all),
        deliveries,
    ];
    // Each part has its own process, because memory that another one has freed would be used again.
    if let Some(part) = std::env::args().nth(1) {
        let part: usize = part.parse().expect("the number of a part");
        return parts.get(part).expect("a part with this number")();
    }
    println!("{:<72} {:>12} {:>12}", "hub of one worker, 10^6 subscriptions", "bytes each", "ns each");
    for part in 0..parts.len() {
        let program = std::env::current_exe().expect("the path of this program");
        let status =
            std::process::Command::new(program).arg(part.to_string()).status().expect("this program runs");
        assert!(status.success());
    }

    println!();
    println!("{:<72} {:>12} {:>12}", "exchange", "", "ns each");
    publications("publication of 100 bytes, without history, 1 interested worker", 1, |publish, _| {
        publish.history = None
    });
    publications("the same, 100,000 channels", 100_000, |publish, _| publish.history = None);
    publications("publication with a history of 100", 1, |_, _| ());
    publications("the same, 100,000 channels", 100_000, |_, _| ());
    publications("the same, each with an idempotency key", 100_000, |publish, number| {
        publish.key = Some(number.to_string().into())
    });
    exchange_subscriptions();
}

fn leave_each(hub: &mut Hub, names: &[Arc<str>], connection: u32) {
    for name in names {
        hub.leave(connection, name);
    }
}

fn leave_all(hub: &mut Hub, _: &[Arc<str>], connection: u32) {
    while hub.leave_any(connection).is_some() {}
}

/// Subscribes, and ends all subscriptions.
fn subscriptions(connections: u32, channels: usize, way: &str, leave: impl Fn(&mut Hub, &[Arc<str>], u32)) {
    let names: Vec<Arc<str>> = (0..channels).map(|number| format!("auction:{number}").into()).collect();
    let total = connections as usize * channels;
    let mut hub = Hub::new(1, 128);
    let before = resident_bytes();
    let ((), took) = timed(|| {
        for connection in 0..connections {
            for name in &names {
                hub.join(connection, name, Form::default()).expect("a connection joins each channel once");
                hub.admit(connection, name, None);
            }
        }
    });
    let each = format!("{connections} connections x {channels} channels");
    report(&format!("{each}: subscribe"), Some(resident_bytes().saturating_sub(before) / total), took, total);
    assert_eq!(hub.counts(), (channels, total));
    let ((), took) = timed(|| {
        for connection in 0..connections {
            leave(&mut hub, &names, connection);
        }
    });
    report(&format!("{each}: unsubscribe, {way}"), None, took, total);
    assert_eq!(hub.counts(), (0, 0));
}

/// Visits the subscribers of a channel.
fn deliveries() {
    let mut hub = Hub::new(1, 128);
    for connection in 0..10_000 {
        hub.join(connection, &"news".into(), Form::default()).expect("a connection joins once");
        hub.admit(connection, "news", None);
    }
    let slot = hub.find("news").expect("a channel with subscribers");
    let rounds = 1_000;
    let ((), took) = timed(|| {
        for _ in 0..rounds {
            for subscriber in hub.subscribers(slot) {
                black_box((subscriber.connection(), subscriber.form().frame()));
            }
        }
    });
    report("visit of a subscriber of 10,000", None, took, rounds * 10_000);
}

fn exchange() -> Exchange {
    Exchange::new(ExchangeConfig {
        seed: 1,
        history_memory: 64 << 20,
        idempotency_ttl: Duration::from_secs(300),
        max_idempotency_keys: 100_000,
    })
}

const HISTORY: HistoryOptions = HistoryOptions {
    size: 100,
    ttl: Duration::from_secs(60),
    bytes: usize::MAX,
    meta_ttl: Duration::from_secs(3_600),
};

fn publications(what: &str, channels: usize, change: impl Fn(&mut Publish, usize)) {
    let mut exchange = exchange();
    let worker = WorkerId::new(0).expect("a node has a worker");
    let now = Instant::now();
    let names: Vec<Arc<str>> = (0..channels).map(|number| format!("auction:{number}").into()).collect();
    for name in &names {
        let subscribe = Subscribe { channel: Arc::clone(name), history: Some(HISTORY), recovery: None };
        exchange.subscribe(worker, &subscribe, now).expect("nothing must be recovered");
    }
    let data: Arc<[u8]> = vec![b'x'; 100].into();
    let count = 1_000_000;
    let ((), took) = timed(|| {
        for (number, name) in names.iter().cycle().take(count).enumerate() {
            let mut publish = Publish {
                channel: Arc::clone(name),
                data: Arc::clone(&data),
                info: None,
                tags: Tags::default(),
                delta: false,
                time: 0,
                history: Some(HISTORY),
                key: None,
                version: None,
            };
            change(&mut publish, number);
            let published: Published = exchange.publish(publish, now);
            black_box(published);
        }
    });
    report(what, None, took, count);
}

fn exchange_subscriptions() {
    let mut exchange = exchange();
    let worker = WorkerId::new(0).expect("a node has a worker");
    let now = Instant::now();
    let subscribe = Subscribe { channel: "auction:42".into(), history: Some(HISTORY), recovery: None };
    let count = 1_000_000;
    let ((), took) = timed(|| {
        for _ in 0..count {
            black_box(exchange.subscribe(worker, &subscribe, now)).expect("nothing must be recovered");
        }
    });
    report("subscription to a channel with history", None, took, count);
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (run(), start.elapsed())
}

fn report(what: &str, bytes: Option<usize>, took: Duration, count: usize) {
    let bytes = bytes.map_or_else(String::new, |bytes| bytes.to_string());
    println!("{what:<72} {bytes:>12} {:>12.1}", took.as_secs_f64() * 1e9 / count as f64);
}

/// Returns the resident memory of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a Linux kernel");
    let pages: usize =
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number");
    pages * 4_096
}
