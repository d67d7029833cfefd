//! Nodes of a cluster.

use serde_json::{Value, json};

use crate::channels::Client;
use crate::postern::{Postern, Runtime};
use crate::redis::Redis;

/// Channels with history, and the namespaces `live` without it, `open` with it and for publishers that do not subscribe, and `room` with
/// presence, joins and leaves.
pub const NAMESPACES: &str = r#"
[without_namespace]
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_history_for_subscriber = true
history_size = 1000
history_ttl = "5m"
force_recovery = true

[namespaces.live]
allow_subscribe_for_client = true
allow_publish_for_client = true

[namespaces.open]
allow_subscribe_for_client = true
allow_publish_for_client = true
history_size = 1000
history_ttl = "5m"
force_recovery = true

[namespaces.room]
allow_subscribe_for_client = true
allow_presence_for_subscriber = true
presence = true
join_leave = true
force_push_join_leave = true
"#;

/// Returns whether tests run with the numbers of docs/scale.md, or with every server: `CLUSTER=full`.
pub fn is_full() -> bool {
    std::env::var_os("CLUSTER").is_some_and(|value| value == "full")
}

/// The runtimes of two nodes.
pub const PAIRS: [[Runtime; 2]; 2] = [[Runtime::Mio, Runtime::Smol], [Runtime::Smol, Runtime::Mio]];

/// Starts a node, and waits until it is connected with Redis.
///
/// # Panics
///
/// If it does not start, or is not connected in time.
#[track_caller]
pub fn node(runtime: Runtime, redis: &Redis, settings: &[(&str, &str)]) -> Postern {
    let postern = unconnected(runtime, &redis.url(), settings);
    postern.wait_for("channels are connected with Redis");
    postern
}

/// Starts a node.
///
/// # Panics
///
/// If it does not start.
#[track_caller]
pub fn unconnected(runtime: Runtime, url: &str, settings: &[(&str, &str)]) -> Postern {
    // A gap in a server-side subscription closes its client (3010).
    let engine =
        [("POSTERN_ENGINE", "redis"), ("POSTERN_REDIS_URL", url), ("POSTERN_PERSONAL_CHANNEL", "off")];
    Postern::with(runtime, &[&engine[..], settings].concat()).channels(NAMESPACES).control().start()
}

/// Starts two nodes with a channels file of this text, and waits until they are connected with Redis.
///
/// # Panics
///
/// As [`node`].
#[track_caller]
pub fn pair(
    runtimes: [Runtime; 2],
    redis: &Redis,
    namespaces: &str,
    settings: &[(&str, &str)],
) -> [Postern; 2] {
    let url = redis.url();
    let engine = [("POSTERN_ENGINE", "redis"), ("POSTERN_REDIS_URL", url.as_str())];
    let settings = [&engine[..], settings].concat();
    let nodes =
        runtimes.map(|runtime| Postern::with(runtime, &settings).channels(namespaces).control().start());
    nodes.iter().for_each(|node| drop(node.wait_for("channels are connected with Redis")));
    nodes
}

/// Publishes by the server API, and returns the result.
///
/// # Panics
///
/// If it fails.
#[track_caller]
pub fn publish(postern: &Postern, body: &Value) -> Value {
    let response = postern.post("/api/publish", body).json();
    assert!(response["result"].is_object(), "{response}");
    response["result"].clone()
}

/// Returns the next publication that a client gets.
///
/// # Panics
///
/// If the next message is another one.
#[track_caller]
pub fn next_publication(client: &mut Client) -> Value {
    let push = client.next();
    assert!(push["push"]["pub"].is_object(), "{push}");
    push["push"]["pub"].clone()
}

/// Returns the command that recovers a channel.
pub fn recover(channel: &str, since: u64, epoch: &Value) -> Value {
    json!({ "id": 2, "subscribe": { "channel": channel, "recover": true, "offset": since, "epoch": epoch } })
}
