//! One message to many connections.

use std::collections::BTreeMap;
use std::net::TcpStream;

use flate2::{Decompress, FlushDecompress};
use postern_tests::frames::{TEXT, receive};
use postern_tests::postern::Postern;
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

/// Inflates a message without context takeover.
fn inflate(payload: &[u8], len: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(len + 1);
    let payload = [payload, &[0, 0, 0xff, 0xff]].concat();
    let inflated = Decompress::new(false).decompress_vec(&payload, &mut text, FlushDecompress::Sync);
    inflated.expect("DEFLATE");
    text
}
