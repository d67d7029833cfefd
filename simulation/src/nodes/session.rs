//! One connection of a client, which speaks the protocol by the codec of an SDK.

use std::collections::BTreeMap;
use std::time::Duration;

use centrifuge_client_core::proto;
use postern_core::ConnectionId;

use super::subscription::{Active, Subscription};
use super::truth::{Truth, number};
use crate::random::Random;
use crate::sdk::{Arrival, End, Known, Transport};
use crate::trace::{Subject, Trace};

/// A connection of a client.
#[derive(Debug)]
pub(crate) struct Session {
    /// The number of the client.
    pub(crate) client: usize,
    pub(crate) connection: ConnectionId,
    /// The node and its worker.
    pub(crate) place: (usize, usize),
    pub(crate) transport: Transport,
    /// The id in the reply to `connect`.
    pub(crate) id: Option<String>,
    last_command: u32,
    pub(crate) pending: BTreeMap<u32, Pending>,
    pub(crate) subscriptions: BTreeMap<usize, Subscription>,
    /// Positions that are known at the end of a subscription, for its client.
    pub(crate) ended: Vec<(usize, Option<Known>, End)>,
    /// Whether a command was refused for now. The client waits before it tries again.
    pub(crate) is_refused: bool,
    /// If its node was killed: when the node may last have lost messages. Bytes may arrive after a new node has its place.
    pub(crate) lost_at: Option<Duration>,
}

/// A command without a reply.
#[derive(Debug, Clone)]
pub(crate) enum Pending {
    Connect(Option<(usize, Known)>),
    Subscribe { channel: usize, asked: Option<Known>, is_required: bool },
    Unsubscribe(usize),
    Publish,
    Presence,
    History(usize),
}

/// The parts of the world that a reply is compared with.
pub(crate) struct View<'w> {
    pub(crate) truth: &'w mut Truth,
    pub(crate) trace: &'w mut Trace,
    /// When the node may last have lost messages.
    pub(crate) lost_at: Duration,
    /// Whether the node serves some things without the engine, or has just begun to use it.
    pub(crate) may_be_local: bool,
}

impl Session {
    pub(crate) fn new(
        client: usize,
        user: &str,
        connection: ConnectionId,
        place: (usize, usize),
        socket_buffer: usize,
        random: Random,
    ) -> Session {
        Session {
            client,
            connection,
            place,
            transport: Transport::new(client, user, socket_buffer, false, random),
            id: None,
            last_command: 0,
            pending: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            ended: Vec::new(),
            is_refused: false,
            lost_at: None,
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

    /// Reads at most `portion` bytes, and handles them.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn read(&mut self, portion: usize, view: &mut View<'_>) -> Result<(), &'static str> {
        self.transport.read(portion, view.trace);
        while let Some(arrival) = self.transport.next(view.trace)? {
            match arrival {
                Arrival::Replies(replies) => {
                    replies.into_iter().try_for_each(|reply| self.handle(reply, view))?;
                }
                Arrival::Ping(payload) => self.transport.send_pong(&payload),
                Arrival::Close(code) => self.transport.accept_close(code),
            }
        }
        Ok(())
    }

    fn handle(&mut self, reply: proto::Reply, view: &mut View<'_>) -> Result<(), &'static str> {
        if view.trace.is_printed() {
            println!("                  client {}: {reply:?}", self.client + 1);
        }
        if let Some(push) = reply.push {
            return self.handle_push(push, view);
        }
        if reply.id == 0 {
            if reply != proto::Reply::default() {
                return Err("a reply has no command");
            }
            if self.transport.close.is_none() {
                self.transport.send(&[proto::Command::default()]);
            }
            return Ok(());
        }
        let pending = self.pending.remove(&reply.id).ok_or("a command is answered twice")?;
        if let Some(error) = reply.error {
            view.trace.step(Subject::Client(self.client), "gets the error", error.code as usize);
            return self.handle_error(&error, &pending, view);
        }
        match (pending, reply) {
            (Pending::Connect(asked), proto::Reply { connect: Some(result), .. }) => {
                self.handle_connect(result, asked.as_ref(), view)
            }
            (Pending::Subscribe { channel, asked, .. }, proto::Reply { subscribe: Some(result), .. }) => {
                self.handle_subscribed(channel, &result, asked.as_ref(), view)
            }
            (Pending::Unsubscribe(channel), proto::Reply { unsubscribe: Some(_), .. }) => {
                if let Some(active) = self.subscription(channel).active.take() {
                    self.ended.push((channel, active.known, End::Asked));
                }
                Ok(())
            }
            (Pending::Publish, proto::Reply { publish: Some(_), .. })
            | (Pending::Presence, proto::Reply { presence: Some(_), .. }) => Ok(()),
            (Pending::History(channel), proto::Reply { history: Some(result), .. }) => {
                let is_there = |publication: &proto::Publication| {
                    let there = view.truth.at(channel, &result.epoch, publication.offset);
                    there.is_some() && there == number(&publication.data)
                };
                if !result.publications.iter().all(is_there) {
                    return Err("a history has other publications");
                }
                Ok(())
            }
            _ => Err("a reply has the result of another command"),
        }
    }

    fn handle_error(
        &mut self,
        error: &proto::Error,
        pending: &Pending,
        view: &mut View<'_>,
    ) -> Result<(), &'static str> {
        let is_temporary = error.code == INTERNAL && error.temporary;
        match *pending {
            Pending::Publish | Pending::History(_) if is_temporary => {
                view.truth.mark("a command is refused for now");
                Ok(())
            }
            Pending::Subscribe { channel, is_required, .. } => {
                let is_unrecoverable = error.code == UNRECOVERABLE && is_required;
                if !is_temporary && !is_unrecoverable {
                    return Err("a subscription is refused although it is allowed");
                }
                view.truth.mark(if is_temporary {
                    "a subscription is refused for now"
                } else {
                    "a recovery is refused"
                });
                self.is_refused |= is_temporary;
                if self.subscription(channel).is_wanted && !self.has_later_subscribe(channel) {
                    self.subscription(channel).is_wanted = false;
                    if is_unrecoverable {
                        self.ended.push((channel, None, End::Gap));
                    }
                }
                Ok(())
            }
            Pending::Connect(_)
            | Pending::Unsubscribe(_)
            | Pending::Publish
            | Pending::Presence
            | Pending::History(_) => Err("a command is refused although it is allowed"),
        }
    }

    /// Whether a `subscribe` for the channel is not answered yet.
    fn has_later_subscribe(&self, channel: usize) -> bool {
        let is_one = |pending: &Pending| matches!(pending, Pending::Subscribe { channel: other, .. } if *other == channel);
        self.pending.values().any(is_one)
    }

    fn handle_connect(
        &mut self,
        result: proto::ConnectResult,
        asked: Option<&(usize, Known)>,
        view: &mut View<'_>,
    ) -> Result<(), &'static str> {
        if self.id.replace(result.client).is_some() {
            return Err("a client is connected twice");
        }
        for (name, result) in &result.subs {
            let channel = view.truth.channel(name).ok_or("the server subscribes to an unknown channel")?;
            let asked = asked.filter(|(other, _)| *other == channel).map(|(_, known)| known);
            self.subscription(channel).is_wanted = true;
            self.handle_subscribed(channel, result, asked, view)?;
        }
        Ok(())
    }

    fn handle_subscribed(
        &mut self,
        channel: usize,
        result: &proto::SubscribeResult,
        asked: Option<&Known>,
        view: &mut View<'_>,
    ) -> Result<(), &'static str> {
        let active = Active::new(result, asked, channel, view)?;
        if self.subscription(channel).active.replace(active).is_some() {
            return Err("a client is subscribed twice");
        }
        Ok(())
    }

    fn handle_push(&mut self, push: proto::Push, view: &mut View<'_>) -> Result<(), &'static str> {
        let channel = view.truth.channel(&push.channel).ok_or("a push has an unknown channel")?;
        let subscription = self.subscriptions.entry(channel).or_default();
        let Some(active) = &mut subscription.active else {
            return Err("a push arrives without a subscription");
        };
        if let Some(publication) = push.r#pub {
            let offset = publication.offset as usize;
            view.trace.step(Subject::Client(self.client), "receives a publication", offset);
            return active.receive(&publication, channel, view);
        }
        if let Some(unsubscribe) = push.unsubscribe {
            if unsubscribe.code != INSUFFICIENT_STATE || !view.truth.has_history(channel) {
                return Err("a subscription ends without a cause");
            }
            let known = subscription.active.take().and_then(|active| active.known);
            view.truth.mark("a subscription ends with a gap");
            // A client that has already asked for the end of the subscription does not subscribe again.
            if subscription.is_wanted && !self.has_later_subscribe(channel) {
                self.subscription(channel).is_wanted = false;
                self.ended.push((channel, known, End::Gap));
            }
            return Ok(());
        }
        if push.join.is_some() || push.leave.is_some() {
            let is_wanted = view.truth.plans[channel].options.join_leave;
            return if is_wanted { Ok(()) } else { Err("a join is not wanted") };
        }
        Err("a push has an unknown kind")
    }
}

/// The code of a temporary error.
const INTERNAL: u32 = 100;

/// The code of an error: a position cannot be recovered.
const UNRECOVERABLE: u32 = 112;

/// The code of the end of a subscription with a gap.
const INSUFFICIENT_STATE: u32 = 2500;
