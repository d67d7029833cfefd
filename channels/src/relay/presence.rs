//! The presence of clients on all nodes.
//!
//! A node writes a client when it joins a channel, and removes it when it leaves. Nothing is refreshed for a client: all entries
//! of a node belong to its lease, which the node renews. If a lease expires, any other node removes its entries, and announces
//! that the clients have left. After each new connection a node has a new lease, under which it writes its clients again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::command::{AddPresence, Command, RemovePresence};
use super::message;
use super::{Asker, Call, Local, Relay, RelayEvent, ServerAnswer, answer, execute};
use crate::engine::{Answer, Operation, Request};
use crate::exchange::{PresenceChange, PresenceStats, WorkerId};
use crate::publication::{ClientId, ClientInfo};

/// The lease of a node, and the presence that it has yet to write.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// The number of the lease. `None`: not connected.
    pub(super) own: Option<u64>,
    /// Those before it, whose entries must be removed.
    old: Vec<u64>,
    /// Whether no renewal of it has a reply yet.
    is_new: bool,
    /// When to renew the lease.
    renewal: Option<Instant>,
    /// Channels whose clients must be written again.
    unwritten: VecDeque<Arc<str>>,
    /// Clients that must be removed, because that has failed.
    gone: VecDeque<(Arc<str>, Gone)>,
    /// When the engine is asked again after a failure.
    pause: Option<Instant>,
    /// Expired leases of other nodes that this one removes.
    reaped: BTreeSet<u64>,
}

/// A client that has left a channel.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    client: ClientId,
    /// The message to the subscribers of the channel.
    leave: Arc<[u8]>,
}

impl Leases {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.renewal.into_iter().chain(self.pause).min()
    }

    pub(super) fn handle_down(&mut self) {
        self.retire();
        self.renewal = None;
        self.unwritten.clear();
        // The lease that their entries belong to ends.
        self.gone.clear();
        self.pause = None;
        self.reaped.clear();
    }

    /// Ends the lease of this node.
    fn retire(&mut self) {
        self.old.extend(self.own.take());
        let excess = self.old.len().saturating_sub(MOST_OLD);
        self.old.drain(..excess);
    }
}

impl Relay {
    /// Takes a new lease, under which all clients are written again.
    pub(super) fn begin_lease(&mut self, now: Instant) {
        self.leases.retire();
        // 0 is the node of no lease.
        self.leases.own = Some(self.random.next() | 1);
        self.leases.is_new = true;
        self.leases.gone.clear();
        self.leases.unwritten = self.streams.keys().cloned().collect();
        self.users.begin();
        self.renew_lease([].into(), now);
        self.events.push_back(RelayEvent::Describe);
    }

    /// Renews the lease, and writes the description of this node.
    pub fn handle_description(&mut self, description: Arc<[u8]>, now: Instant) {
        if self.link.is_open() {
            self.renew_lease(description, now);
        }
    }

    fn renew_lease(&mut self, description: Arc<[u8]>, now: Instant) {
        let Some(lease) = self.leases.own else { return };
        self.leases.renewal = Some(now + RENEWAL);
        let command = Command::RenewLease { lease, time: LEASE, description };
        match self.link.submit(command, now) {
            Ok(ticket) => _ = self.calls.insert(ticket, Call::Lease(lease)),
            Err(_) => self.fail_lease(lease),
        }
    }

    /// A lease is not renewed. That is tried again, and then the server may not know it although clients are written already.
    pub(super) fn fail_lease(&mut self, lease: u64) {
        if self.leases.own == Some(lease) {
            self.leases.is_new = false;
        }
    }

    pub(super) fn handle_lease_timeout(&mut self, now: Instant) {
        if self.leases.renewal.is_some_and(|at| at <= now) {
            // The description may never arrive.
            self.renew_lease([].into(), now);
            self.events.push_back(RelayEvent::Describe);
        }
        self.leases.pause.take_if(|at| *at <= now);
    }

    /// A lease was renewed. If the server has not known it, its entries were removed.
    pub(super) fn handle_lease(&mut self, lease: u64, was_known: bool, expired: Vec<u64>, now: Instant) {
        if self.leases.own != Some(lease) {
            return;
        }
        let was_new = std::mem::take(&mut self.leases.is_new);
        if !was_known && !was_new {
            self.write_all_presence();
        }
        for lease in expired {
            let is_own = self.leases.own == Some(lease) || self.leases.old.contains(&lease);
            if !is_own && self.leases.reaped.insert(lease) {
                self.reap(lease, true, now);
            }
        }
    }

    /// Writes all clients again, because the server has lost their lease.
    pub(super) fn write_all_presence(&mut self) {
        self.users.begin();
        self.leases.unwritten = self.streams.keys().cloned().collect();
    }

    fn reap(&mut self, lease: u64, is_announced: bool, now: Instant) {
        match self.link.submit(Command::Reap { lease, is_announced }, now) {
            Ok(ticket) => _ = self.calls.insert(ticket, Call::Reap(lease, is_announced)),
            Err(_) => self.fail_reap(lease, is_announced, now),
        }
    }

    /// Some entries of an expired lease are removed.
    pub(super) fn handle_reaped(&mut self, lease: u64, is_announced: bool, is_done: bool, now: Instant) {
        if is_done {
            self.leases.reaped.remove(&lease);
        } else {
            self.reap(lease, is_announced, now);
        }
    }

    /// A lease keeps some of its entries. An expired one is found again at the next renewal.
    pub(super) fn fail_reap(&mut self, lease: u64, is_announced: bool, now: Instant) {
        self.leases.reaped.remove(&lease);
        if !is_announced {
            self.leases.old.push(lease);
            self.leases.pause = Some(now + RETRY);
        }
    }

    /// Clients of a channel are not written, or one is not removed. It is tried again.
    pub(super) fn fail_presence(&mut self, channel: Arc<str>, gone: Option<Gone>, now: Instant) {
        match gone {
            Some(gone) => self.leases.gone.push_back((channel, gone)),
            None => self.leases.unwritten.push_back(channel),
        }
        self.leases.pause = Some(now + RETRY);
    }

    /// Writes the clients of some channels again, and removes others again.
    pub(super) fn write_presence(&mut self, now: Instant, local: &mut impl Local) {
        let Some(lease) = self.leases.own.filter(|_| self.link.is_open() && self.leases.pause.is_none())
        else {
            return;
        };
        while let Some((channel, gone)) = self.leases.gone.pop_front() {
            let (is_back, is_last) = local.with(&channel, |exchange, _| {
                let is_back = exchange.present(&channel, gone.client).is_some();
                (is_back, exchange.presence_stats(&channel).clients == 0)
            });
            if !is_back && !self.remove_presence(&channel, lease, &gone, is_last, now) {
                return self.leases.gone.push_front((channel, gone));
            }
        }
        while let Some(channel) = self.leases.unwritten.pop_front() {
            let clients = local.with(&channel, |exchange, _| exchange.presence(&channel));
            if clients.is_empty() {
                continue;
            }
            let clients =
                clients.iter().map(|info| (info.client, message::encode_info(info).into())).collect();
            let add = AddPresence { channel: channel.clone(), lease, time: LEASE, clients, join: None };
            match self.link.submit(Command::AddPresence(Box::new(add)), now) {
                Ok(ticket) => _ = self.calls.insert(ticket, Call::WritePresence(channel, None)),
                // It is tried again with the next turn.
                Err(_) => return self.leases.unwritten.push_front(channel),
            }
        }
        // The clients are there under the new lease, so no client has left.
        for old in std::mem::take(&mut self.leases.old) {
            self.reap(old, false, now);
        }
    }

    /// Executes a subscription or its end, and writes how the presence changes by that.
    pub(super) fn execute_with_presence(
        &mut self,
        worker: WorkerId,
        request: Request,
        now: Instant,
        local: &mut impl Local,
    ) {
        let client = match &request.operation {
            Operation::Subscribe { presence: Some(info), .. } => Some(info.client),
            Operation::Unsubscribe { presence } => *presence,
            Operation::Subscribe { presence: None, .. }
            | Operation::Publish { .. }
            | Operation::Presence
            | Operation::PresenceStats
            | Operation::History(..)
            | Operation::CheckToken(_)
            | Operation::Close => None,
        };
        let Some(client) = client else { return execute(worker, request, now, local) };
        let channel = request.channel.clone();
        let before = local.with(&channel, |exchange, _| exchange.present(&channel, client));
        execute(worker, request, now, local);
        let after = local.with(&channel, |exchange, _| exchange.present(&channel, client));
        let Some(lease) = self.leases.own.filter(|_| self.link.is_open()) else { return };
        match (before, after) {
            (None, None) => {}
            (Some(before), Some(after)) if Arc::ptr_eq(&before, &after) => {}
            (before, Some(info)) => {
                let encoded: Arc<[u8]> = message::encode_info(&info).into();
                let join = before.is_none().then(|| self.presence_message(JOIN, &encoded));
                let clients = vec![(client, encoded)];
                let add = AddPresence { channel: channel.clone(), lease, time: LEASE, clients, join };
                match self.link.submit(Command::AddPresence(Box::new(add)), now) {
                    Ok(ticket) => _ = self.calls.insert(ticket, Call::WritePresence(channel, None)),
                    // All clients of the channel are written again, which also adds this one.
                    Err(_) => self.leases.unwritten.push_back(channel),
                }
            }
            (Some(info), None) => {
                let leave = self.presence_message(LEAVE, &message::encode_info(&info));
                let gone = Gone { client, leave };
                let is_last =
                    local.with(&channel, |exchange, _| exchange.presence_stats(&channel).clients == 0);
                if !self.remove_presence(&channel, lease, &gone, is_last, now) {
                    self.leases.gone.push_back((channel, gone));
                }
            }
        }
    }

    /// Removes a client that has left. Returns false if the command cannot be sent now.
    fn remove_presence(
        &mut self,
        channel: &Arc<str>,
        lease: u64,
        gone: &Gone,
        is_last: bool,
        now: Instant,
    ) -> bool {
        let Gone { client, leave } = gone.clone();
        let remove = RemovePresence { channel: channel.clone(), lease, client, is_last, leave };
        let sent = self.link.submit(Command::RemovePresence(Box::new(remove)), now);
        if let Ok(ticket) = sent {
            self.calls.insert(ticket, Call::WritePresence(channel.clone(), Some(gone.clone())));
        }
        sent.is_ok()
    }

    fn presence_message(&self, kind: u8, encoded: &[u8]) -> Arc<[u8]> {
        let mut message = vec![kind];
        message.extend(format!("{:016x}:", self.config.link.node).into_bytes());
        message.extend_from_slice(encoded);
        message.into()
    }

    /// Handles a join or a leave at another node. Returns false if the message is something else.
    pub(super) fn handle_presence_message(
        &mut self,
        channel: &Arc<str>,
        message: &[u8],
        local: &mut impl Local,
    ) -> bool {
        let change = match message.first() {
            Some(&JOIN) => PresenceChange::Join,
            Some(&LEAVE) => PresenceChange::Leave,
            Some(_) | None => return false,
        };
        let node = message.get(1..17).and_then(|node| str::from_utf8(node).ok());
        let node = node.and_then(|node| u64::from_str_radix(node, 16).ok());
        let info = message.get(18..).and_then(message::decode_info);
        let (Some(node), Some(info)) = (node, info) else {
            self.stats.foreign_messages += 1;
            return true;
        };
        // This node has delivered its own ones already.
        if node != self.config.link.node {
            local.with(channel, |exchange, inboxes| {
                exchange.deliver_remote_presence(channel, Arc::new(info), change, inboxes);
            });
        }
        true
    }

    /// Asks for the clients that are present on all nodes.
    pub(super) fn read_presence(
        &mut self,
        asker: Asker,
        channel: &Arc<str>,
        wants_stats: bool,
        now: Instant,
        local: &mut impl Local,
    ) {
        match self.link.submit(Command::ReadPresence { channel: channel.clone() }, now) {
            Ok(ticket) => {
                _ = self.calls.insert(ticket, Call::Presence(asker, channel.clone(), wants_stats));
            }
            Err(_) => self.answer_presence_here(&asker, channel, wants_stats, local),
        }
    }

    /// Answers with the clients of this node, because the engine cannot be reached.
    pub(super) fn answer_presence_here(
        &mut self,
        asker: &Asker,
        channel: &Arc<str>,
        wants_stats: bool,
        local: &mut impl Local,
    ) {
        let clients = local.with(channel, |exchange, _| exchange.presence(channel));
        self.answer_presence(asker, clients, wants_stats, local);
    }

    pub(super) fn handle_presence(
        &mut self,
        asker: &Asker,
        wants_stats: bool,
        entries: &[Vec<u8>],
        local: &mut impl Local,
    ) {
        // A client may be there under two leases for a moment.
        let mut clients: BTreeMap<_, Arc<ClientInfo>> = BTreeMap::new();
        for entry in entries {
            match message::decode_info(entry) {
                Some(info) => _ = clients.insert(info.client, Arc::new(info)),
                None => self.stats.foreign_messages += 1,
            }
        }
        self.answer_presence(asker, clients.into_values().collect(), wants_stats, local);
    }

    fn answer_presence(
        &mut self,
        asker: &Asker,
        clients: Vec<Arc<ClientInfo>>,
        wants_stats: bool,
        local: &mut impl Local,
    ) {
        match asker {
            Asker::Client { .. } if wants_stats => {
                let users: BTreeSet<&str> = clients.iter().map(|info| &*info.user).collect();
                let stats = PresenceStats { clients: clients.len(), users: users.len() };
                answer(asker, Answer::PresenceStats(stats), local);
            }
            Asker::Client { .. } => answer(asker, Answer::Presence(clients), local),
            Asker::Server(token) => {
                self.events.push_back(RelayEvent::Answer(*token, ServerAnswer::Presence(clients)));
            }
        }
    }
}

/// The first byte of a join.
pub(super) const JOIN: u8 = b'+';

/// The first byte of a leave. The script that removes an expired lease writes it, too.
pub(super) const LEAVE: u8 = b'~';

/// The time for which a lease holds.
pub(super) const LEASE: Duration = Duration::from_secs(15);

/// The time after which it is renewed.
const RENEWAL: Duration = Duration::from_secs(5);

/// The most earlier leases. Any node removes the entries of older ones, which have expired or will.
const MOST_OLD: usize = 16;

/// The time after which a write that has failed is repeated.
const RETRY: Duration = Duration::from_millis(100);
