//! One message to many connections.

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
            assert_eq!(sent, json!({ "sent": 1000 }));
            for connection in &mut connections {
                assert_eq!(connection.receive().into_text().expect("a text").as_str(), text);
            }
        }
        connections.iter_mut().for_each(|connection| connection.echo("still here"));
        assert_eq!(postern.metric("postern_memory_held_bytes"), Some(0.0));
    }
}
