//! The JSON of a connection in the result of `connections`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_core::handshake::Peer;
use postern_core::worker::ConnectionStatus;
use serde_json::{Value, json};

use crate::log::rfc3339;

/// The current time of both clocks, to convert one into the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    now: Instant,
    wall: SystemTime,
}

impl Clock {
    pub(super) fn now() -> Clock {
        Clock { now: Instant::now(), wall: SystemTime::now() }
    }

    fn at(self, then: Instant) -> String {
        rfc3339(self.wall.checked_sub(self.now.saturating_duration_since(then)).unwrap_or(UNIX_EPOCH))
    }
}

/// Returns the line of a connection, which belongs to the worker with this number.
pub(super) fn as_json_line(
    status: &ConnectionStatus,
    peer: Option<Peer>,
    worker: usize,
    clock: Clock,
) -> Value {
    let ConnectionStatus { identity, traffic, .. } = status;
    let expiry = identity.token_exp().map(|exp| rfc3339(UNIX_EPOCH + Duration::from_secs(exp)));
    let exceeds_for = status.exceeds_since.map(|since| clock.now.saturating_duration_since(since));
    let mut line = json!({
        "connection": status.id.0,
        "request_id": status.request_id,
        "user": identity.id(),
        "session": identity.session_id(),
        "token_expires_at": expiry,
        "peer": peer.map(|peer| peer.to_string()),
        "client": identity.client(),
        "origin": identity.origin(),
        "subprotocol": identity.subprotocol(),
        "worker": worker,
        "opened_at": clock.at(status.since),
        "last_seen_at": clock.at(status.last_received),
        "rtt_ms": status.round_trip.map(|round_trip| round_trip.as_secs_f64() * 1e3),
        "closing": !status.is_open,
        "paused": exceeds_for.is_some(),
        "paused_ms": exceeds_for.map(|time| time.as_millis()),
        "messages_received": traffic.messages_received,
        "messages_sent": traffic.messages_sent,
        "bytes_received": traffic.bytes_received,
        "bytes_sent": traffic.bytes_sent,
        "send_queue_bytes": status.backlog,
    });
    // A value that the gateway has not sent is left out.
    for (name, text) in [("name", identity.name()), ("email", identity.email())] {
        if let Some(text) = text {
            line[name] = json!(text);
        }
    }
    line
}
