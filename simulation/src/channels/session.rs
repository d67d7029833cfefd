//! One connection of a client, which speaks the protocol by the codec of an SDK.

use std::collections::BTreeMap;
use std::time::Duration;

use centrifuge_client_core::{Bytes, proto};
use postern_core::ConnectionId;

use super::node::Node;
use super::subscription::{Request, Subscription};
use super::tokens::Serial;
use crate::random::Random;
use crate::sdk::{Arrival, End, Known, Transport};
use crate::trace::Trace;

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Session {
    /// The number of the client.
    pub(crate) client: usize,
    pub(crate) connection: ConnectionId,
    pub(crate) worker: usize,
    pub(crate) transport: Transport,
    pub(super) answers_pings: bool,
    /// The id in the reply to `connect`.
    pub(crate) id: Option<String>,
    last_command: u32,
    pub(crate) pending: BTreeMap<u32, Pending>,
    pub(crate) subscriptions: BTreeMap<usize, Subscription>,
    /// The channels whose pushes have a number.
    pub(super) numbers: BTreeMap<i64, usize>,
    /// When its client refreshes it.
    pub(crate) refreshes_at: Option<Duration>,
    /// Whether the client refreshes what expires.
    pub(crate) has_refreshes: bool,
    /// Whether its `connect` was refused.
    pub(super) is_refused: bool,
    /// Positions that are known at the end of a subscription, for its client.
    pub(crate) ended: Vec<(usize, Option<Known>, End)>,
}

/// A command without a reply.
#[derive(Debug, Clone)]
pub(crate) enum Pending {
    Connect {
        /// A server-side subscription that recovers.
        asked: Option<(usize, Known)>,
        token: Option<Serial>,
    },
    Subscribe {
        channel: usize,
        request: Box<Request>,
        is_required: bool,
        number: u64,
        /// Whether the filter must be refused.
        has_bad_filter: bool,
    },
    Refresh {
        token: Serial,
    },
    SubRefresh {
        channel: usize,
        token: Serial,
    },
    Unsubscribe(usize),
    Publish {
        channel: usize,
        number: u64,
    },
    /// A call of a procedure, whose result is this data.
    Rpc {
        number: u64,
        data: Bytes,
    },
    Presence(usize),
    PresenceStats(usize),
    History(usize),
}

impl Pending {
    /// Returns the channel of a subscription that begins, ends or is refreshed.
    pub(super) fn subscription(&self) -> Option<usize> {
        match self {
            Pending::Subscribe { channel, .. }
            | Pending::SubRefresh { channel, .. }
            | Pending::Unsubscribe(channel) => Some(*channel),
            Pending::Connect { .. }
            | Pending::Refresh { .. }
            | Pending::Publish { .. }
            | Pending::Rpc { .. }
            | Pending::Presence(_)
            | Pending::PresenceStats(_)
            | Pending::History(_) => None,
        }
    }

    /// Whether the command has no hook, and may have to wait for the hook of one before it.
    pub(super) fn waits_for_hooks(&self, node: &Node) -> bool {
        let (channel, has_hook) = match *self {
            Pending::Subscribe { channel, ref request, .. } => {
                let plan = node.plan(channel);
                let is_asked = request.token.is_none() && !plan.is_private;
                (channel, plan.options.subscribe_hook && is_asked)
            }
            Pending::Publish { channel, .. } => (channel, node.plan(channel).options.publish_hook),
            Pending::SubRefresh { channel, .. }
            | Pending::Unsubscribe(channel)
            | Pending::Presence(channel)
            | Pending::PresenceStats(channel)
            | Pending::History(channel) => (channel, false),
            Pending::Connect { .. } | Pending::Refresh { .. } | Pending::Rpc { .. } => return false,
        };
        !has_hook && node.plan(channel).has_hook()
    }

    /// Returns the token of the command.
    pub(super) fn token(&self) -> Option<Serial> {
        match self {
            Pending::Connect { token, .. } => *token,
            Pending::Subscribe { request, .. } => request.token,
            Pending::Refresh { token } | Pending::SubRefresh { token, .. } => Some(*token),
            Pending::Unsubscribe(_)
            | Pending::Publish { .. }
            | Pending::Rpc { .. }
            | Pending::Presence(_)
            | Pending::PresenceStats(_)
            | Pending::History(_) => None,
        }
    }
}

impl Session {
    pub(crate) fn new(
        client: usize,
        user: &str,
        connection: ConnectionId,
        worker: usize,
        socket_buffer: usize,
        has_compression: bool,
        random: Random,
    ) -> Session {
        let mut transport = Transport::new(client, user, socket_buffer, has_compression, random);
        let answers_pings = !transport.random.one_in(10);
        Session {
            client,
            connection,
            worker,
            transport,
            answers_pings,
            id: None,
            last_command: 0,
            pending: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            numbers: BTreeMap::new(),
            refreshes_at: None,
            has_refreshes: false,
            is_refused: false,
            ended: Vec::new(),
        }
    }

    /// Whether commands can be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.transport.is_open()
    }

    pub(crate) fn subscription(&mut self, channel: usize) -> &mut Subscription {
        self.subscriptions.entry(channel).or_default()
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.transport.is_at_rest() && self.id.is_some() && self.pending.is_empty() && self.ended.is_empty()
    }

    /// Sends commands in one message. Each is numbered, and its reply is expected.
    pub(crate) fn send(&mut self, commands: Vec<(proto::Command, Pending)>, trace: &Trace) {
        let mut numbered = Vec::new();
        for (mut command, pending) in commands {
            self.last_command += 1;
            command.id = self.last_command;
            if let Pending::Subscribe { channel, .. } | Pending::Unsubscribe(channel) = &pending {
                let is_wanted = matches!(pending, Pending::Subscribe { .. });
                self.subscription(*channel).is_wanted = is_wanted;
            }
            if trace.is_printed() {
                println!("                  client {}: {command:?}", self.client + 1);
            }
            self.pending.insert(command.id, pending);
            numbered.push(command);
        }
        self.transport.send(&numbered);
    }

    /// Whether a command for the subscription to a channel is not answered.
    pub(super) fn is_changing(&self, channel: usize) -> bool {
        self.pending.values().any(|pending| pending.subscription() == Some(channel))
    }

    /// Returns when the client refreshes the connection or a subscription.
    pub(crate) fn next_refresh(&self) -> Option<Duration> {
        let actives = self.subscriptions.values().filter_map(|it| it.active.as_ref()?.refreshes_at);
        actives.chain(self.refreshes_at).min()
    }

    /// Returns the channels whose subscriptions are refreshed now.
    pub(crate) fn due_refreshes(&self, now: Duration) -> Vec<usize> {
        let channels: Vec<usize> = self.subscriptions.keys().copied().collect();
        let is_due = |channel: &usize| {
            !self.is_changing(*channel)
                && self.subscriptions[channel]
                    .active
                    .as_ref()
                    .is_some_and(|active| active.refreshes_at.is_some_and(|at| at <= now))
        };
        channels.into_iter().filter(is_due).collect()
    }

    /// Whether a Close with this code has a cause.
    fn explains(&self, code: Option<u16>, node: &Node) -> bool {
        let tokens = || self.pending.values().filter_map(Pending::token);
        match code {
            Some(CONNECTION_EXPIRED) => node.issuer.may_have_ended(node.credentials(self.connection)),
            Some(INVALID_TOKEN) => node.issuer.has_invalid(tokens()),
            // It has sent more after `connect` was refused, or does not read that.
            Some(BAD_REQUEST | STALE) => self.is_refused,
            // The others are not caused by tokens. A client that gets one from 3500 on has done something wrong.
            Some(code) => code < 3500,
            None => true,
        }
    }

    /// Reads at most `portion` bytes, and handles them.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn read(
        &mut self,
        portion: usize,
        node: &mut Node,
        trace: &mut Trace,
    ) -> Result<(), &'static str> {
        self.transport.read(portion, trace);
        while let Some(arrival) = self.transport.next(trace)? {
            match arrival {
                Arrival::Replies(replies) => {
                    replies.into_iter().try_for_each(|reply| self.handle(reply, node, trace))?;
                }
                Arrival::Ping(payload) => {
                    if self.answers_pings {
                        self.transport.send_pong(&payload);
                    }
                }
                Arrival::Close(code) => {
                    if !self.explains(code, node) {
                        return Err("the code of the Close has no cause");
                    }
                    self.transport.accept_close(code);
                }
            }
        }
        Ok(())
    }
}

/// The codes of a Close: the token has expired, or is invalid.
const CONNECTION_EXPIRED: u16 = 3005;
const INVALID_TOKEN: u16 = 3500;

/// The codes of a Close after `connect` was refused.
const BAD_REQUEST: u16 = 3501;
const STALE: u16 = 3502;
