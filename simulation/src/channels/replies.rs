//! The replies and pushes that a connection of a client receives, and whether they keep the promises.

use centrifuge_client_core::proto;

use super::hooks::HookEnd;
use super::node::Node;
use super::session::{End, Pending, Session};
use super::subscription::{Active, Known, is_history};
use crate::trace::{Subject, Trace};

impl Session {
    /// Handles a reply.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(super) fn handle(
        &mut self,
        reply: proto::Reply,
        node: &mut Node,
        trace: &mut Trace,
    ) -> Result<(), &'static str> {
        if trace.is_printed() {
            println!("                  client {}: {reply:?}", self.client + 1);
        }
        if let Some(push) = reply.push {
            return self.handle_push(push, node, trace);
        }
        if reply.id == 0 {
            let is_ping = reply == proto::Reply::default();
            if !is_ping {
                return Err("a reply has no command");
            }
            if self.answers_pings && self.close.is_none() {
                self.send_message(&[proto::Command::default()]);
            }
            return Ok(());
        }
        let pending = self.pending.remove(&reply.id).ok_or("a command is answered twice")?;
        if let Some(error) = reply.error {
            trace.step(Subject::Client(self.client), "gets the error", error.code as usize);
            return self.handle_error(&error, &pending, node);
        }
        match (pending, reply) {
            (Pending::Connect(asked), proto::Reply { connect: Some(result), .. }) => {
                self.handle_connect(result, asked.as_ref(), node)
            }
            (
                Pending::Subscribe { channel, asked, number, .. },
                proto::Reply { subscribe: Some(result), .. },
            ) => {
                if node.plan(channel).options.subscribe_hook {
                    node.check_hook(number, HookEnd::Executed)?;
                }
                self.handle_subscribed(channel, &result, asked.as_ref(), node)
            }
            (Pending::Unsubscribe(channel), proto::Reply { unsubscribe: Some(_), .. }) => {
                if let Some(active) = self.subscription(channel).active.take() {
                    self.ended.push((channel, active.known, End::Asked));
                }
                Ok(())
            }
            (Pending::Publish { channel, number }, proto::Reply { id, publish: Some(_), .. }) => {
                if node.plan(channel).options.publish_hook {
                    node.check_hook(number, HookEnd::Executed)?;
                }
                self.handle_published(id, node)
            }
            (Pending::Rpc { number, data }, proto::Reply { rpc: Some(result), .. }) => {
                if result.data != data {
                    return Err("a procedure has the result of another call");
                }
                node.mail.marks.insert("a procedure has a result");
                node.check_hook(number, HookEnd::Executed)
            }
            (Pending::Presence, proto::Reply { presence: Some(_), .. })
            | (Pending::PresenceStats, proto::Reply { presence_stats: Some(_), .. }) => Ok(()),
            (Pending::History(channel), proto::Reply { history: Some(result), .. }) => {
                if is_history(&result, channel, node) {
                    Ok(())
                } else {
                    Err("a history has other publications")
                }
            }
            _ => Err("a reply has the result of another command"),
        }
    }

    fn handle_error(
        &mut self,
        error: &proto::Error,
        pending: &Pending,
        node: &mut Node,
    ) -> Result<(), &'static str> {
        match *pending {
            Pending::Rpc { number, .. } => return node.check_hook(number, HookEnd::Error(error.code)),
            Pending::Publish { channel, number } if node.plan(channel).options.publish_hook => {
                return node.check_hook(number, HookEnd::Error(error.code));
            }
            Pending::Subscribe { channel, number, .. }
                if node.plan(channel).options.subscribe_hook && error.code != UNRECOVERABLE =>
            {
                // The client tries again later.
                if self.subscription(channel).is_wanted && !self.has_later_subscribe(channel) {
                    self.subscription(channel).is_wanted = false;
                }
                return node.check_hook(number, HookEnd::Error(error.code));
            }
            Pending::Connect(_)
            | Pending::Subscribe { .. }
            | Pending::Unsubscribe(_)
            | Pending::Publish { .. }
            | Pending::Presence
            | Pending::PresenceStats
            | Pending::History(_) => {}
        }
        let Pending::Subscribe { channel, asked: Some(_), is_required: true, .. } = *pending else {
            return Err("a command is refused although it is allowed");
        };
        if error.code != UNRECOVERABLE {
            return Err("a subscription is refused although it is allowed");
        }
        node.mail.marks.insert("a recovery is refused");
        let _ = node.truth.take_start(self.connection, channel);
        if self.subscription(channel).is_wanted && !self.has_later_subscribe(channel) {
            self.subscription(channel).is_wanted = false;
            self.ended.push((channel, None, End::Gap));
        }
        Ok(())
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
        node: &mut Node,
    ) -> Result<(), &'static str> {
        if self.id.replace(result.client).is_some() {
            return Err("a client is connected twice");
        }
        for (name, result) in &result.subs {
            let channel = node.channel(name).ok_or("the server subscribes to an unknown channel")?;
            let asked = asked.filter(|(other, _)| *other == channel).map(|(_, known)| known);
            if asked.is_some() && result.recovered {
                node.mail.marks.insert("a connection recovers");
            }
            self.subscription(channel).is_wanted = true;
            self.handle_subscribed(channel, result, asked, node)?;
        }
        Ok(())
    }

    fn handle_subscribed(
        &mut self,
        channel: usize,
        result: &proto::SubscribeResult,
        asked: Option<&Known>,
        node: &mut Node,
    ) -> Result<(), &'static str> {
        let start = node.truth.take_start(self.connection, channel);
        let start = start.ok_or("a subscription is answered that was not executed")?;
        let active = Active::new(result, asked, channel, start, self.protocol, node)?;
        if result.id != 0 {
            node.mail.marks.insert("a channel has a number");
            self.numbers.insert(result.id, channel);
        }
        if result.recovered && !result.publications.is_empty() {
            node.mail.marks.insert("a subscription recovers");
        }
        if self.subscription(channel).active.replace(active).is_some() {
            return Err("a client is subscribed twice");
        }
        Ok(())
    }

    fn handle_published(&mut self, command: u32, node: &mut Node) -> Result<(), &'static str> {
        let published = node.truth.take_published(self.connection, command);
        let (channel, at) = published.ok_or("a publication is answered that was not executed")?;
        let worker = self.worker;
        let ends = |pending: &Pending| matches!(pending, Pending::Unsubscribe(other) if *other == channel);
        // After `unsubscribe` nothing more need arrive.
        if !self.pending.values().any(ends)
            && let Some(active) = &self.subscription(channel).active
        {
            node.mail.marks.insert("a publication precedes its reply");
            if !active.has_own(at, channel, worker, node) {
                return Err("the reply to a publication precedes the publication");
            }
        }
        Ok(())
    }

    fn handle_push(
        &mut self,
        push: proto::Push,
        node: &mut Node,
        trace: &mut Trace,
    ) -> Result<(), &'static str> {
        let channel = match push.id {
            0 => node.channel(&push.channel),
            number => self.numbers.get(&number).copied(),
        };
        let channel = channel.ok_or("a push has an unknown channel")?;
        let place = (self.worker, self.connection);
        let subscription = self.subscriptions.entry(channel).or_default();
        let Some(active) = &mut subscription.active else {
            return Err("a push arrives without a subscription");
        };
        if let Some(publication) = push.r#pub {
            trace.step(Subject::Client(self.client), "receives a publication", publication.offset as usize);
            return active.receive(&publication, channel, place, node);
        }
        if let Some(unsubscribe) = push.unsubscribe {
            let is_expected = active.is_positioned && unsubscribe.code == INSUFFICIENT_STATE;
            let known = subscription.active.take().and_then(|active| active.known);
            node.mail.marks.insert("a subscription ends with a gap");
            if !is_expected {
                return Err("a subscription ends without a cause");
            }
            // A client that has already asked for the end of the subscription does not subscribe again.
            if subscription.is_wanted && !self.has_later_subscribe(channel) {
                self.subscription(channel).is_wanted = false;
                self.ended.push((channel, known, End::Gap));
            }
            return Ok(());
        }
        if push.join.is_some() || push.leave.is_some() {
            return if node.plan(channel).options.join_leave { Ok(()) } else { Err("a join is not wanted") };
        }
        Err("a push has an unknown kind")
    }
}

/// The code of an error: a position cannot be recovered.
const UNRECOVERABLE: u32 = 112;

/// The code of the end of a subscription with a gap.
const INSUFFICIENT_STATE: u32 = 2500;
