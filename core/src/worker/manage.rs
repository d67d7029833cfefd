//! Operators' requests to a worker: list connections with their counts, disconnect, send.
//!
//! Messages are not affected. A search by user or by session takes time for each result. A search by connection, and
//! the totals, take one scan of all connections.

use std::time::Instant;

use crate::close_code::CloseCode;

use super::admin::{
    AdminReply, AdminRequest, ConnectionStatus, Outgoing, Selector, Status, Totals, WorkerLoad, WorkerTotals,
};
use super::connection::Connection;
use super::index::fingerprint;
use super::{Application, Fanout, Key, Worker};
use crate::handshake::Identity;
use crate::id::ConnectionId;
use crate::turn::Turn;

impl<A: Application> Worker<A> {
    /// Performs a request and returns the reply. The connections that it affects are [due](Worker::next_due) afterwards.
    pub fn handle_request(&mut self, request: &AdminRequest, now: Instant) -> AdminReply {
        match request {
            AdminRequest::Probe => AdminReply::Alive,
            AdminRequest::Load => AdminReply::Load(WorkerLoad {
                admitted: self.admitted(),
                is_nearly_out_of_memory: self.is_nearly_out_of_memory(),
                is_log_stalled: self.is_log_stalled(),
            }),
            AdminRequest::Totals => AdminReply::Totals(Box::new(WorkerTotals {
                totals: self.totals(),
                user_fingerprints: self.user_fingerprints(),
                is_log_stalled: self.is_log_stalled(),
                reads_paused_for: self.reads_paused_for(now),
            })),
            AdminRequest::List { selector, after, limit } => {
                AdminReply::Connections(self.list(selector, *after, *limit))
            }
            AdminRequest::Disconnect { selector, code, reason } => {
                AdminReply::Affected(self.disconnect(selector, *code, reason, now))
            }
            AdminRequest::Send { selector, message } => {
                AdminReply::Affected(self.send(selector, message.as_outgoing(), now))
            }
        }
    }

    /// Calls `act` with the application, and with what it sends with. The connections that it affects are
    /// [due](Worker::next_due) afterwards.
    pub fn act<R>(&mut self, now: Instant, act: impl FnOnce(&mut A, &mut Fanout<'_, A>) -> R) -> R {
        let (application, mut fanout) = self.fan_out(now);
        act(application, &mut fanout)
    }

    /// Lists the selected connections with the lowest numbers above `after`.
    fn list(&self, selector: &Selector, after: ConnectionId, limit: usize) -> Vec<ConnectionStatus> {
        let number = |key: Key| Some((self.status(key)?.id, key));
        let mut numbers: Vec<(ConnectionId, Key)> =
            self.find(selector).into_iter().filter_map(number).filter(|(id, _)| *id > after).collect();
        if numbers.len() > limit {
            numbers.select_nth_unstable(limit);
            numbers.truncate(limit);
        }
        let listed = numbers.into_iter().map(|(_, key)| Some(ConnectionStatus::new(key, &self.status(key)?)));
        listed.flatten().collect()
    }

    /// The admitted connections that `selector` selects, in no order. They may be closing.
    pub fn find(&self, selector: &Selector) -> Vec<Key> {
        let seed = self.config.hash_seed;
        let mut keys: Vec<Key> = match selector {
            Selector::All => self.keys(),
            Selector::User(id) => self.users.find(fingerprint(seed, id)).collect(),
            Selector::Session(id) => self.sessions.find(fingerprint(seed, id)).collect(),
            Selector::Connection(id) => {
                let mut connections = self.connections.iter();
                connections
                    .find(|(_, connection)| connection.id == *id)
                    .map(|(key, _)| Key(key))
                    .into_iter()
                    .collect()
            }
        };
        keys.retain(|&key| {
            self.user(key).is_some_and(|user| match selector {
                Selector::All | Selector::Connection(_) => true,
                Selector::User(id) => user.id() == id,
                Selector::Session(id) => user.session_id() == Some(id.as_str()),
            })
        });
        keys
    }

    /// The status of an admitted connection. `None` if the connection is not admitted or does not exist.
    pub fn status(&self, key: Key) -> Option<Status<'_>> {
        self.connections.get(key.0)?.status(self.shared.time_base, &self.config)
    }

    /// The sums over all connections.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            pending: self.pending_heads(),
            memory: self.memory_held(),
            max_memory: self.config.max_memory,
            ..Totals::default()
        };
        for (_, connection) in &self.connections {
            totals.backlog += connection.backlog_len();
            if let Some(status) = connection.status(self.shared.time_base, &self.config) {
                totals.connections += 1;
                totals.traffic += status.traffic;
            }
        }
        totals
    }

    /// The fingerprint of each connected user, once each, in ascending order. Workers with the same
    /// [`hash_seed`](super::WorkerConfig::hash_seed) have the same fingerprint for the same user, so that users with
    /// connections at several workers are counted once. About one of 2^32 pairs of users collides.
    pub fn user_fingerprints(&self) -> Vec<u32> {
        self.users.fingerprints()
    }

    /// Begins to close the selected connections, with this code and at most 123 bytes of this reason. Returns their number
    /// without those that were already closing. They are [due](Worker::next_due) afterwards.
    pub fn disconnect(&mut self, selector: &Selector, code: CloseCode, reason: &str, now: Instant) -> usize {
        self.command(selector, now, |connection, turn| connection.disconnect(turn, code, reason))
    }

    /// Sends a message to the selected connections, except those that are closing. Returns their number. They are
    /// [due](Worker::next_due) afterwards.
    ///
    /// A connection whose pending output exceeds [`max_backlog`](crate::SessionConfig::max_backlog) is closed.
    pub fn send(&mut self, selector: &Selector, message: Outgoing<'_>, now: Instant) -> usize {
        let (kind, payload) = message.parts();
        let keys = if *selector == Selector::All { Vec::new() } else { self.find(selector) };
        let (_, mut fanout) = self.fan_out(now);
        let frame = fanout.frame(kind, payload);
        if *selector == Selector::All {
            return fanout.deliver_to_all(frame);
        }
        fanout.deliver_to(keys, frame)
    }

    /// Executes a command for the selected connections. Returns the number of those that were open.
    fn command(
        &mut self,
        selector: &Selector,
        now: Instant,
        execute: impl Fn(&mut Connection<A>, &mut Turn<'_>) -> bool,
    ) -> usize {
        self.find(selector).into_iter().filter(|&key| self.command_one(key, now, &execute)).count()
    }

    /// Executes a command for one connection, which is [due](Worker::next_due) afterwards. Returns false if it is not open.
    fn command_one(
        &mut self,
        key: Key,
        now: Instant,
        execute: impl FnOnce(&mut Connection<A>, &mut Turn<'_>) -> bool,
    ) -> bool {
        let mut is_open = false;
        self.turn(key, now, |connection, _, turn| is_open = execute(connection, turn));
        if is_open {
            // Its output is in the cork, or in its queue, until the runtime writes it.
            self.due.push_back(key);
        }
        is_open
    }

    /// Adds the user of a connection that has just been admitted to the indices.
    pub(super) fn index_user(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key.0)
            && connection.user().is_some()
        {
            connection.flags.set_counted(self.config.users.is_some());
            // Its Close may have arrived in the same read.
            connection.release_user_if_closing(&self.config);
        }
        let Some(user) = self.connections.get(key.0).and_then(Connection::user) else { return };
        let seed = self.config.hash_seed;
        self.users.insert(fingerprint(seed, user.id()), key);
        if let Some(id) = user.session_id() {
            self.sessions.insert(fingerprint(seed, id), key);
        }
    }

    /// Removes the user of a removed connection from the indices.
    pub(super) fn unindex_user(&mut self, key: Key, user: &Identity) {
        let seed = self.config.hash_seed;
        self.users.remove(fingerprint(seed, user.id()), key);
        if let Some(id) = user.session_id() {
            self.sessions.remove(fingerprint(seed, id), key);
        }
    }

    pub(super) fn user(&self, key: Key) -> Option<&Identity> {
        self.connections.get(key.0)?.user()
    }
}
