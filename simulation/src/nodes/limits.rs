//! The limit of connections of each user on all nodes: connections above it end, and no others.

use std::collections::BTreeMap;
use std::time::Duration;

use postern_core::policy::Replaced;
use postern_core::worker::PeerMessage;
use postern_core::{CloseCode, ConnectionId, close_code};

use super::engine::milliseconds;
use super::node::Input;
use super::plan::user_name;
use super::world::{Broken, World};
use crate::fault::Fault;

/// The users with too many connections.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Whether a user has too many connections, and when that was last so.
    over: BTreeMap<String, (bool, Duration)>,
    /// Connections that have ended, and may still count.
    ended: Vec<Ended>,
}

/// A connection that has ended.
#[derive(Debug)]
struct Ended {
    user: String,
    at: Duration,
    /// Its node, and the life of that.
    place: (usize, u64),
}

impl World {
    /// Informs the relay of a node about users whose connections have changed.
    pub(super) fn note_users(&mut self, node: usize) {
        let Some(users) = &self.nodes[node].shards.users else { return };
        let changed = users.take_changed();
        if changed.is_empty() {
            return;
        }
        let place = (node, self.nodes[node].life);
        for (user, ended) in changed {
            self.note_ended(&user, ended, place);
            self.note_count(&user);
            self.nodes[node].queue.inputs.push_back(Input::User(user));
        }
        self.wake_relay(node, self.trace.now);
    }

    /// Notes whether a user has too many connections now.
    fn note_count(&mut self, user: &str) {
        let Some(limit) = self.plan.relay.user_limit else { return };
        let now = self.trace.now;
        let nodes = self.nodes.iter().filter(|node| !node.is_down);
        let counted = nodes.filter_map(|node| Some(node.shards.users.as_ref()?.of(user).len()));
        let ended = self.limits.ended.iter().filter(|it| it.user == user && self.may_count(it)).count();
        let is_over = counted.sum::<usize>() + ended > limit.most;
        let (was_over, at) = self.limits.over.entry(user.to_owned()).or_default();
        if *was_over || is_over {
            *at = now;
        }
        *was_over = is_over;
    }

    /// A node is killed, and cannot write that its connections have ended.
    pub(super) fn note_killed(&mut self, node: usize) {
        let Some(users) = self.nodes[node].shards.users.clone() else { return };
        let place = (node, self.nodes[node].life);
        for user in users.all() {
            self.note_ended(&user, users.of(&user).len(), place);
            self.note_count(&user);
        }
    }

    fn note_ended(&mut self, user: &str, count: usize, place: (usize, u64)) {
        let at = self.trace.now;
        self.limits.ended.extend((0..count).map(|_| Ended { user: user.to_owned(), at, place }));
    }

    /// Whether a connection that has ended may still count: its node has yet to write that, or could not, so a lease must end.
    fn may_count(&self, ended: &Ended) -> bool {
        let (node, life) = ended.place;
        let node = &self.nodes[node];
        let is_lost = node.life != life || node.is_down || !node.is_live || node.lost_at >= ended.at;
        ended.at + if is_lost { LEASE } else { WRITE } >= self.trace.now
    }

    /// A relay has found a connection above the limit. Its worker closes it.
    pub(super) fn close_excess(&mut self, node: usize, user: &str, connection: u64) {
        let (Some(limit), Some(users)) = (self.plan.relay.user_limit, &self.nodes[node].shards.users) else {
            return self.truth.report("a connection is closed although there is no limit");
        };
        if self.is_planted(Fault::KeptConnection) {
            return;
        }
        let Some(worker) = users.remove(user, ConnectionId(connection)) else { return };
        let (is_over, at) = self.limits.over.get(user).copied().unwrap_or_default();
        if !is_over && (at == Duration::ZERO || at + LEASE < self.trace.now) {
            self.truth.report("a connection is closed although its user has not too many");
        }
        self.truth.mark("a connection above the limit is closed");
        let code = if limit.closes_newest { close_code::TOO_MANY_CONNECTIONS } else { close_code::REPLACED };
        let closed = Replaced {
            worker,
            user: user.into(),
            connection: ConnectionId(connection),
            code: CloseCode(code),
        };
        self.nodes[node].stations[worker].letters.push(PeerMessage::Replace(closed));
        self.wake_worker(node, worker, self.trace.now);
    }

    /// A client learns that its user has too many connections. An SDK does not connect again. While there are faults, its
    /// application does.
    pub(super) fn end_excess(&mut self, client: usize) {
        self.clients[client].session = None;
        if self.is_chaos() {
            let at = self.trace.now + self.random.micros(1000..=3_000_000);
            self.connect_at(client, at);
        }
    }

    /// Checks that no user has too many connections, and that the server has an entry for each one.
    pub(super) fn check_limit(&mut self) -> Result<(), Broken> {
        let Some(limit) = self.plan.relay.user_limit else { return Ok(()) };
        let now = milliseconds(self.trace.now);
        for user in 0..self.plan.users {
            let clients = self.clients.iter().filter(|client| client.user == user);
            let open = clients.filter(|client| client.session.is_some()).count();
            if open > limit.most {
                return Err((None, "a user keeps more connections than the limit"));
            }
            let key = format!("u:{{{}}}", user_name(user));
            let fields = self.engine.master().server.fields(&key, now);
            if fields.iter().filter(|(field, _)| field != b"since").count() != open {
                return Err((None, "the entries of a user are never the open connections"));
            }
        }
        Ok(())
    }
}

/// The longest time until a node has written that a connection has ended.
const WRITE: Duration = Duration::from_secs(2);

/// The longest time for which a connection counts if its node cannot write that it has ended.
const LEASE: Duration = Duration::from_secs(20);
