//! The connections of a worker as `/api/connections` lists them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_core::handshake::Peer;
use postern_core::session::Traffic;
use postern_core::worker::{Selector, Status};
use postern_core::{ConnectionId, Key};
use serde_json::{Value, json};
use socket2::SockRef;

use crate::log::rfc3339;
use crate::workers::WorkerContext;

/// A connection in a listing.
#[derive(Debug)]
pub(super) struct ListedConnection {
    pub(super) id: ConnectionId,
    user: String,
    name: Option<String>,
    email: Option<String>,
    session: Option<String>,
    /// The time at which the user's token expires.
    token_exp: Option<SystemTime>,
    peer: Option<Peer>,
    client: Option<String>,
    origin: Option<String>,
    subprotocol: Option<String>,
    request_id: String,
    opened: SystemTime,
    seen: SystemTime,
    round_trip: Option<Duration>,
    traffic: Traffic,
    backlog: usize,
    is_open: bool,
    /// How long its client has been exceeding its rates.
    exceeds_for: Option<Duration>,
}

/// Returns the first `limit` of the selected connections after the number `after`.
pub(super) fn list(
    context: &mut dyn WorkerContext,
    selector: &Selector,
    after: ConnectionId,
    limit: usize,
) -> Vec<ListedConnection> {
    let now = context.now();
    let wall = SystemTime::now();
    let worker = context.worker();
    let number = |key: &Key| worker.status(*key).map(|status| (status.id, *key));
    let mut numbers: Vec<(ConnectionId, Key)> =
        worker.find(selector).iter().filter_map(number).filter(|(id, _)| *id > after).collect();
    if numbers.len() > limit {
        numbers.select_nth_unstable(limit);
        numbers.truncate(limit);
    }
    let mut lines = Vec::with_capacity(numbers.len());
    for (_, key) in numbers {
        let peer = context.socket(key).and_then(|socket| peer(&SockRef::from(&socket)));
        lines.extend(
            context.worker().status(key).map(|status| ListedConnection::new(&status, peer, now, wall)),
        );
    }
    lines
}

/// Returns the peer of a socket from the kernel, so that a connection need not store it.
fn peer(socket: &SockRef<'_>) -> Option<Peer> {
    let address = socket.peer_addr().ok()?;
    if address.is_unix() { Some(Peer::Unix) } else { address.as_socket().map(Peer::from) }
}

impl ListedConnection {
    fn new(status: &Status<'_>, peer: Option<Peer>, now: Instant, wall: SystemTime) -> ListedConnection {
        let at = |then: Instant| wall.checked_sub(now.saturating_duration_since(then)).unwrap_or(UNIX_EPOCH);
        ListedConnection {
            id: status.id,
            user: status.identity.id().to_owned(),
            name: status.identity.name().map(str::to_owned),
            email: status.identity.email().map(str::to_owned),
            session: status.identity.session_id().map(str::to_owned),
            token_exp: status.identity.token_exp().map(|exp| UNIX_EPOCH + Duration::from_secs(exp)),
            peer,
            client: status.identity.client().map(str::to_owned),
            origin: status.identity.origin().map(str::to_owned),
            subprotocol: status.identity.subprotocol().map(str::to_owned),
            request_id: status.request_id.to_string(),
            opened: at(status.since),
            seen: at(status.last_received),
            round_trip: status.round_trip,
            traffic: status.traffic,
            backlog: status.backlog,
            is_open: status.is_open,
            exceeds_for: status.exceeds_since.map(|since| now.saturating_duration_since(since)),
        }
    }

    pub(super) fn json(&self, worker: usize) -> Value {
        let mut line = json!({
            "connection": self.id.0,
            "request_id": self.request_id,
            "user": self.user,
            "session": self.session,
            "token_expires_at": self.token_exp.map(rfc3339),
            "peer": self.peer.map(|peer| peer.to_string()),
            "client": self.client,
            "origin": self.origin,
            "subprotocol": self.subprotocol,
            "worker": worker,
            "opened_at": rfc3339(self.opened),
            "last_seen_at": rfc3339(self.seen),
            "rtt_ms": self.round_trip.map(|round_trip| round_trip.as_secs_f64() * 1e3),
            "closing": !self.is_open,
            "paused": self.exceeds_for.is_some(),
            "paused_ms": self.exceeds_for.map(|time| time.as_millis()),
            "messages_received": self.traffic.messages_received,
            "messages_sent": self.traffic.messages_sent,
            "bytes_received": self.traffic.bytes_received,
            "bytes_sent": self.traffic.bytes_sent,
            "send_queue_bytes": self.backlog,
        });
        // A value that the gateway has not sent is left out.
        for (name, text) in [("name", &self.name), ("email", &self.email)] {
            if let Some(text) = text {
                line[name] = json!(text);
            }
        }
        line
    }
}
