//! What this process does and says for the control port: its own part and that of its workers, put together.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use postern_core::handshake::{Peer, Secrets};
use postern_core::worker::Status;
use postern_core::{ConnectionId, Key};
use serde_json::{Value, json};
use slog::{Logger, debug, info};
use socket2::SockRef;

use super::health;
use super::query::{self, Disconnect, Listing, Send, Target};
use super::reply::{Refusal, Reply, as_json, as_text};
use super::router::Action;
use crate::log::{Losses, rfc3339};
use crate::metrics::{self, CONTENT_TYPE, Process, Sends, Snapshot, Sum, Usage};
use crate::phase::Phase;
use crate::settings::Program;
use crate::workers::{Answer, Desk, WorkerContext, Workers};

/// What the control port knows of its process from the start.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) program: Program,
    pub(super) started: SystemTime,
    /// Where users are served.
    pub(super) listen: Vec<String>,
    pub(super) max_connections: usize,
    /// How many connections the control port may have.
    pub(super) control_connections: usize,
    pub(super) max_message: usize,
    pub(super) trusts_any: bool,
    pub(super) api_keys: Secrets,
    /// The settings that hold, by their names, without anything secret.
    pub(super) settings: Vec<(&'static str, String)>,
    pub(super) phase: Phase,
    pub(super) losses: Losses,
    pub(super) log: Logger,
}

/// This process.
pub(super) struct Node {
    pub(super) facts: Facts,
    desk: Desk,
    /// What each worker said last, for when it has ended: what it has counted must not be missing in the sums.
    last: RefCell<Vec<Option<Snapshot>>>,
    sends: Cell<Sends>,
}

impl Node {
    pub(super) fn new(facts: Facts, workers: impl Workers + 'static) -> Node {
        let desk = Desk::new(workers);
        let last = (0..desk.count()).map(|_| None).collect();
        Node { facts, desk, last: RefCell::new(last), sends: Cell::default() }
    }

    /// The longest body that any request needs: a message, in base64 or with its special characters escaped, and what
    /// stands around it.
    pub(super) fn max_body(&self) -> usize {
        self.facts.max_message.saturating_mul(2).saturating_add(64 * 1024)
    }

    /// Does what a request asks for.
    ///
    /// # Errors
    /// It cannot be done, or the request does not say clearly what is to be done.
    pub(super) async fn perform(&self, action: Action, query: &str, body: &[u8]) -> Result<Reply, Refusal> {
        match action {
            Action::Livez => Ok(health::livez(&self.desk).await),
            Action::Readyz => {
                Ok(health::readyz(&self.desk, &self.facts.phase, self.facts.max_connections).await)
            }
            Action::Metrics => self.metrics().await,
            Action::Info => self.info().await,
            Action::Connections => self.connections(query::listing(query)?).await,
            Action::Disconnect => self.disconnect(query::disconnect(body)?).await,
            Action::Send => {
                let sent = match query::send(body, self.facts.max_message) {
                    Ok(send) => self.send(send).await,
                    Err(refusal) => Err(refusal),
                };
                self.count_send(sent.as_ref().ok().copied());
                sent.map(|sent| as_json(StatusCode::OK, &json!({ "sent": sent })))
            }
            Action::Drain => Ok(self.drain()),
        }
    }

    async fn metrics(&self) -> Result<Reply, Refusal> {
        let sum = self.sum().await?;
        let started = self.facts.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let process = Process {
            program: self.facts.program.name,
            version: self.facts.program.version,
            started: started.as_secs_f64(),
            workers: self.desk.count(),
            max_connections: self.facts.max_connections,
            trusts_any: self.facts.trusts_any,
            is_draining: self.facts.phase.is_draining(),
            records_dropped: self.facts.losses.count(),
            sends: self.sends.get(),
            usage: Usage::now(),
        };
        Ok(as_text(CONTENT_TYPE, metrics::encode(process, sum)))
    }

    async fn info(&self) -> Result<Reply, Refusal> {
        let sum = self.sum().await?;
        let Facts { program, started, listen, max_connections, phase, settings, .. } = &self.facts;
        let uptime = started.elapsed().unwrap_or_default();
        let body = json!({
            "program": program.name,
            "version": program.version,
            "pid": std::process::id(),
            "started_at": rfc3339(*started),
            "uptime_seconds": uptime.as_secs(),
            "listen": listen,
            "workers": self.desk.count(),
            "connections": sum.totals.connections,
            "max_connections": max_connections,
            "users": sum.users,
            "memory_held_bytes": sum.totals.memory,
            "memory_max_bytes": sum.totals.max_memory,
            "draining": phase.is_draining(),
            "settings": settings.iter().cloned().collect::<BTreeMap<_, _>>(),
        });
        Ok(as_json(StatusCode::OK, &body))
    }

    /// What the workers have counted. All of them or none: a sum without one of them would be less than the one before,
    /// which Prometheus takes for a restart.
    async fn sum(&self) -> Result<Sum, Refusal> {
        let take = |context: &mut dyn WorkerContext| {
            let (counts, now) = (context.counts().clone(), context.now());
            Snapshot::take(context.worker(), counts, now)
        };
        let answers = self.desk.ask(PATIENCE, || take).await;
        let mut last = self.last.borrow_mut();
        for (answer, last) in answers.into_iter().zip(last.iter_mut()) {
            match answer {
                Answer::Said(snapshot) => *last = Some(snapshot),
                Answer::Silent => return Err(silence()),
                Answer::Gone => *last = last.take().map(Snapshot::of_the_past),
            }
        }
        let known = last.iter().enumerate().filter_map(|(worker, last)| Some((worker, last.as_ref()?)));
        Ok(Snapshot::sum(known))
    }

    async fn connections(&self, listing: Listing) -> Result<Reply, Refusal> {
        let Listing { target, after, limit } = listing;
        let list = || {
            let target = target.clone();
            // One more than is wanted says whether there are more.
            move |context: &mut dyn WorkerContext| list(context, &target, ConnectionId(after), limit + 1)
        };
        let lines = self.all(list).await?;
        let workers = lines.into_iter().enumerate();
        let mut lines: Vec<_> =
            workers.flat_map(|(number, lines)| lines.into_iter().map(move |line| (number, line))).collect();
        lines.sort_unstable_by_key(|(_, line)| line.id);
        let has_more = lines.len() > limit;
        lines.truncate(limit);
        let next = lines.last().filter(|_| has_more).map(|(_, line)| line.id.0);
        let connections: Vec<Value> = lines.iter().map(|(worker, line)| line.json(*worker)).collect();
        Ok(as_json(StatusCode::OK, &json!({ "connections": connections, "next": next })))
    }

    async fn disconnect(&self, disconnect: Disconnect) -> Result<Reply, Refusal> {
        let Disconnect { target, code, reason } = disconnect;
        let close = || {
            let (target, reason) = (target.clone(), reason.clone());
            move |context: &mut dyn WorkerContext| {
                let now = context.now();
                context.worker().disconnect(target.whom(), code, &reason, now)
            }
        };
        let closed: usize = self.all(close).await?.into_iter().sum();
        info!(self.facts.log, # "api_disconnect", "connections closed by the control port";
            "of" => %Shown(&target), "code" => u16::from(code), "count" => closed);
        Ok(as_json(StatusCode::OK, &json!({ "disconnected": closed })))
    }

    /// Sends a message, and says to how many connections.
    async fn send(&self, send: Send) -> Result<usize, Refusal> {
        let send = std::sync::Arc::new(send);
        let tell = || {
            let send = send.clone();
            move |context: &mut dyn WorkerContext| {
                let now = context.now();
                context.worker().send(send.target.whom(), send.message.outgoing(), now)
            }
        };
        let sent: usize = self.all(tell).await?.into_iter().sum();
        debug!(self.facts.log, # "api_send", "message sent by the control port";
            "to" => %Shown(&send.target), "bytes" => send.message.len(), "count" => sent);
        Ok(sent)
    }

    /// Counts a message by the connections that it was sent to; `None` if it was refused.
    fn count_send(&self, connections: Option<usize>) {
        let mut sends = self.sends.get();
        let outcome = match connections {
            Some(0) => &mut sends.no_connection,
            Some(_) => &mut sends.delivered,
            None => &mut sends.refused,
        };
        *outcome += 1;
        self.sends.set(sends);
    }

    /// Begins the end of the process; it is said again as often as one likes.
    fn drain(&self) -> Reply {
        if !self.facts.phase.is_draining() {
            info!(self.facts.log, # "api_drain", "a drain is asked for by the control port");
        }
        self.desk.drain();
        // From this answer on nobody is told otherwise, however soon the process gets to it.
        self.facts.phase.drain();
        as_json(StatusCode::ACCEPTED, &json!({ "draining": true }))
    }

    /// Has all workers do something; those that have ended have nothing to do it to.
    async fn all<T: std::marker::Send + 'static, W>(&self, work: impl Fn() -> W) -> Result<Vec<T>, Refusal>
    where
        W: FnOnce(&mut dyn WorkerContext) -> T + std::marker::Send + 'static,
    {
        let answers = self.desk.ask(PATIENCE, work).await;
        let said = answers.into_iter().filter_map(|answer| match answer {
            Answer::Said(said) => Some(Ok(said)),
            Answer::Silent => Some(Err(silence())),
            Answer::Gone => None,
        });
        said.collect()
    }
}

/// Not all workers have answered.
fn silence() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "workers",
        "not all workers have answered; what was asked may have been done in part",
    )
}

/// A connection in a listing.
#[derive(Debug)]
struct Line {
    id: ConnectionId,
    user: String,
    name: Option<String>,
    email: Option<String>,
    session: Option<String>,
    /// When the user's token ends.
    token_exp: Option<SystemTime>,
    peer: Option<Peer>,
    client: Option<String>,
    origin: Option<String>,
    subprotocol: Option<String>,
    request_id: String,
    opened: SystemTime,
    seen: SystemTime,
    round_trip: Option<Duration>,
    traffic: postern_core::session::Traffic,
    backlog: usize,
    is_open: bool,
    /// For how long its client has been exceeding its rates.
    exceeds_for: Option<Duration>,
}

/// The first of those that are meant, by their numbers.
fn list(context: &mut dyn WorkerContext, target: &Target, after: ConnectionId, limit: usize) -> Vec<Line> {
    let now = context.now();
    let wall = SystemTime::now();
    let worker = context.worker();
    let number = |key: &Key| worker.status(*key).map(|status| (status.id, *key));
    let mut numbers: Vec<(ConnectionId, Key)> =
        worker.find(target.whom()).iter().filter_map(number).filter(|(id, _)| *id > after).collect();
    if numbers.len() > limit {
        numbers.select_nth_unstable(limit);
        numbers.truncate(limit);
    }
    let mut lines = Vec::with_capacity(numbers.len());
    for (_, key) in numbers {
        let peer = context.socket(key).and_then(|socket| peer(&SockRef::from(&socket)));
        lines.extend(context.worker().status(key).map(|status| Line::new(&status, peer, now, wall)));
    }
    lines
}

/// Who is at the other end, by the system's word: so no connection has to remember it.
fn peer(socket: &SockRef<'_>) -> Option<Peer> {
    let address = socket.peer_addr().ok()?;
    if address.is_unix() { Some(Peer::Unix) } else { address.as_socket().map(Peer::from) }
}

impl Line {
    fn new(status: &Status<'_>, peer: Option<Peer>, now: Instant, wall: SystemTime) -> Line {
        let at = |then: Instant| wall.checked_sub(now.saturating_duration_since(then)).unwrap_or(UNIX_EPOCH);
        Line {
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
            seen: at(status.heard),
            round_trip: status.round_trip,
            traffic: status.traffic,
            backlog: status.backlog,
            is_open: status.is_open,
            exceeds_for: status.exceeds_since.map(|since| now.saturating_duration_since(since)),
        }
    }

    fn json(&self, worker: usize) -> Value {
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
        // What the gateway did not say is left out.
        for (name, text) in [("name", &self.name), ("email", &self.email)] {
            if let Some(text) = text {
                line[name] = json!(text);
            }
        }
        line
    }
}

/// A target in the log.
struct Shown<'t>(&'t Target);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Target::Everybody => f.write_str("everybody"),
            Target::User(id) => write!(f, "user {}", crate::escape::Quoted(id)),
            Target::Session(id) => write!(f, "session {}", crate::escape::Quoted(id)),
            Target::Connection(id) => write!(f, "connection {id}"),
        }
    }
}

/// How long workers have for an answer. A turn takes less than a millisecond, so this is for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(2);
