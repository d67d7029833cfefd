//! One message to many connections.
//!
//! `FANOUT=full` runs the tests of memory and latency with 10,000 connections, and `--nocapture` prints their figures.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use std::{env, thread};

use flate2::{Decompress, FlushDecompress};
use postern_tests::frames::{TEXT, client, receive, server};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Open;
use serde_json::json;

/// A message of 1 KiB to 1,000 connections of one user was once kept 999 times until it was written. With a limit of 512 KiB,
/// 574 of the connections were evicted, although their clients read everything.
#[test]
fn a_message_to_a_thousand_connections_evicts_none() {
    for postern in Postern::both_with_control(&[("POSTERN_MAX_MEMORY", "512KiB")]) {
        let mut connections: Vec<Open> = (0..1000).map(|_| postern.open()).collect();
        let text = "x".repeat(1024);
        for _ in 0..3 {
            let sent = postern.post("/api/send", &json!({ "all": true, "text": text })).json();
            assert_eq!(sent, json!({ "result": { "sent": 1000 } }));
            for connection in &mut connections {
                assert_eq!(connection.receive().into_text().expect("a text").as_str(), text);
            }
        }
        connections.iter_mut().for_each(|connection| connection.echo("still here"));
        assert_eq!(postern.metric("postern_memory_held_bytes"), Some(0.0));
    }
}

/// The message is compressed once for each window: a test of the core counts that. Here all clients of a window get the same
/// bytes, and the others the message itself.
#[test]
fn connections_with_the_same_window_share_one_compressed_message() {
    let settings =
        [("POSTERN_COMPRESSION", "on"), ("POSTERN_MAX_MEMORY", "512KiB"), ("POSTERN_WORKERS", "1")];
    for postern in Postern::both_with_control(&settings) {
        let offer = |bits: usize| format!("permessage-deflate; server_max_window_bits={bits}");
        let mut connections: Vec<(usize, TcpStream)> = (0..240)
            .map(|number| {
                let bits = 8 + number % 8;
                let handshake = postern.john().header("Sec-WebSocket-Extensions", &offer(bits));
                (bits, handshake.open().into_stream())
            })
            .collect();
        let mut plain: Vec<Open> = (0..20).map(|_| postern.open()).collect();
        // About half of its length remains, in each window.
        let bids =
            (0..300_u32).map(|n| n.wrapping_mul(0x9e37_79b9)).map(|n| json!({ "bid": n, "lot": n % 97 }));
        let text = json!(bids.collect::<Vec<_>>()).to_string();
        let sent = postern.post("/api/send", &json!({ "all": true, "text": text })).json();
        assert_eq!(sent, json!({ "result": { "sent": 260 } }));

        let mut forms = BTreeMap::<usize, Vec<u8>>::new();
        for (bits, stream) in &mut connections {
            let header = receive(stream, 4);
            assert_eq!((header[0], header[1]), (TEXT | 0x40, 126), "a compressed text of some KiB");
            let payload = receive(stream, usize::from(u16::from_be_bytes([header[2], header[3]])));
            let form = forms.entry(*bits).or_insert_with(|| payload.clone());
            assert!(*form == payload, "two forms in a window of 2^{bits} bytes");
        }
        assert_eq!(forms.len(), 8);
        for (bits, form) in &forms {
            assert!(form.len() < text.len() * 3 / 4, "{bits}: {} bytes", form.len());
            assert_eq!(inflate(form, text.len()), text.as_bytes(), "{bits}");
        }
        for open in &mut plain {
            assert_eq!(open.receive().into_text().expect("a text").as_str(), text);
            open.echo("still here");
        }
        assert_eq!(postern.metric("postern_memory_held_bytes"), Some(0.0));
        assert_eq!(postern.count("WebSocket connection closed"), 0, "no client is slow");
    }
}

/// While the clients read, a message to them is held once.
#[test]
fn a_large_message_is_held_once_while_its_clients_read() {
    let count = if is_full() { 10_000 } else { 1_000 };
    for postern in Postern::both_with_control(&LARGE) {
        let mut streams: Vec<TcpStream> = (0..count).map(|_| postern.open_stream()).collect();
        let mut highest = 0;
        // The first message makes the buffers of the process as large as they become.
        for _ in 0..3 {
            let before = postern.reset_peak_memory();
            highest = broadcast(&postern, &mut streams) - before;
            assert_eq!(postern.metric("postern_memory_held_bytes"), Some(0.0));
        }
        println!("{count} connections that read 64 KiB: {highest} bytes of resident memory");
        assert!(highest <= FRAME + 1024 * 1024, "{highest} bytes");
        assert_eq!(postern.metric("postern_memory_held_bytes"), Some(0.0));
        assert_eq!(postern.count("WebSocket connection closed"), 0);
    }
}

/// Clients that stop reading hold a position in the shared messages, and no copies. Only they are evicted when memory is short.
#[test]
fn clients_that_stop_reading_hold_little_and_close_no_other() {
    let count = if is_full() { 5_000 } else { 500 };
    for (runtime, limit) in
        Runtime::BOTH.into_iter().flat_map(|runtime| [(runtime, 64 << 10), (runtime, 512)])
    {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("postern.sock");
        let (unix, memory) = (format!(",unix:{}", path.display()), format!("{limit}KiB"));
        let settings = [LARGE[0], LARGE[1], ("POSTERN_MAX_MEMORY", &memory), ("POSTERN_WRITE_TIMEOUT", "1m")];
        let postern = Postern::with(runtime, &settings).listening(&unix).control().start();
        let mut readers: Vec<TcpStream> = (0..100).map(|_| postern.open_stream()).collect();
        // The kernel takes three messages and a part of the fourth for each of them. A network socket would take more.
        let stalled: Vec<UnixStream> = (0..count)
            .map(|_| {
                let mut stream = UnixStream::connect(&path).expect("it listens");
                stream.write_all(&postern.john().bytes()).expect("the request is taken");
                let mut head = [0; 12];
                stream.read_exact(&mut head).expect("an answer");
                assert_eq!(head, *b"HTTP/1.1 101");
                stream
            })
            .collect();
        broadcast(&postern, &mut readers);
        let (before, messages) = (postern.reset_peak_memory(), 6);
        for _ in 1..messages {
            broadcast(&postern, &mut readers);
        }
        let held = || postern.metric("postern_memory_held_bytes").expect("a metric") as usize;
        let shared = (messages - 3) * FRAME;
        if limit > 512 {
            let end = Instant::now() + Duration::from_secs(10);
            while held() < FRAME + 100 * count && Instant::now() < end {
                thread::sleep(Duration::from_millis(10));
            }
            let (held, growth) = (held(), postern.peak_memory() - before);
            println!("{runtime}, {count} connections that read nothing: {growth} bytes, {held} are counted");
            assert!(held >= FRAME + 100 * count, "they have accepted all of it: {held} bytes");
            assert!(held <= shared + 200 * count, "{held} bytes");
            // Buffers of the test's other clients matter less if there are many.
            let other = if is_full() { 1 << 17 } else { 1 << 20 };
            assert!(growth <= shared + 200 * count + other, "{growth} bytes");
            assert_eq!(postern.count("WebSocket connection closed"), 0);
        }
        // All clients that read are still connected.
        broadcast(&postern, &mut readers);
        readers.iter_mut().for_each(|stream| {
            stream.write_all(&client(TEXT, b"still here")).expect("it is open");
            assert_eq!(receive(stream, 12), server(TEXT, b"still here"));
        });
        assert!(held() <= limit * 1024, "{} bytes", held());
        drop(stalled);
    }
}

/// Between two slices of a message to many connections, the others have their turn.
#[test]
fn an_echo_is_fast_during_large_messages_to_many() {
    // Other processes delay it on a busy machine.
    let (count, limit) = if is_full() { (10_000, 5) } else { (500, 250) };
    for postern in Postern::both_with_control(&LARGE) {
        let mut streams: Vec<TcpStream> = (0..count).map(|_| postern.open_stream()).collect();
        // It would get the messages too, so it counts only the echoes.
        let mut quiet = postern.open();
        let mut latencies = Vec::new();
        thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                for _ in 0..10 {
                    let start = Instant::now();
                    broadcast(&postern, &mut streams);
                    thread::sleep(Duration::from_millis(200).saturating_sub(start.elapsed()));
                }
            });
            while !publisher.is_finished() {
                let start = Instant::now();
                quiet.send("an echo");
                while quiet.receive().into_text().expect("a text").as_str() != "an echo" {}
                latencies.push(start.elapsed());
                thread::sleep(Duration::from_millis(2));
            }
        });
        latencies.sort_unstable();
        let p99 = latencies[latencies.len() * 99 / 100];
        println!("{count} connections, 5 messages of 64 KiB a second: p99 of an echo {p99:?}");
        assert!(p99 <= Duration::from_millis(limit), "{p99:?}");
    }
}

/// The settings of the tests with large messages.
const LARGE: [(&str, &str); 3] =
    [("POSTERN_WORKERS", "1"), ("POSTERN_PING_INTERVAL", "0"), ("POSTERN_MAX_MEMORY", "512KiB")];

/// The length of a large message with its header.
const FRAME: usize = 64 * 1024 + 10;

/// Whether to run the tests with as many connections as the issue of fan-out asks for.
fn is_full() -> bool {
    env::var_os("FANOUT").is_some_and(|value| value == "full")
}

/// Sends 64 KiB to all connections, and reads it from these. Returns the highest resident memory of the server.
#[track_caller]
fn broadcast(postern: &Postern, streams: &mut [TcpStream]) -> usize {
    let text = "x".repeat(64 * 1024);
    let frame = server(TEXT, text.as_bytes());
    thread::scope(|scope| {
        scope.spawn(|| postern.post("/api/send", &json!({ "all": true, "text": text })).json());
        for stream in streams {
            assert!(receive(stream, frame.len()) == frame, "a message arrives whole");
        }
    });
    postern.peak_memory()
}

/// Inflates a message without context takeover.
fn inflate(payload: &[u8], len: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(len + 1);
    let payload = [payload, &[0, 0, 0xff, 0xff]].concat();
    let inflated = Decompress::new(false).decompress_vec(&payload, &mut text, FlushDecompress::Sync);
    inflated.expect("DEFLATE");
    text
}
