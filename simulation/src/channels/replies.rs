//! The replies and pushes that a connection of a client receives, and whether they keep the promises.

use std::time::Duration;

use centrifuge_client_core::proto;

use super::hooks::HookEnd;
use super::node::Node;
use super::session::{Pending, Session};
use super::subscription::{Active, Request, is_history};
use super::tokens::Outcome;
use crate::sdk::{End, Known};
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
            if self.answers_pings && self.transport.close.is_none() {
                self.transport.send(&[proto::Command::default()]);
            }
            return Ok(());
        }
        let pending = self.pending.remove(&reply.id).ok_or("a command is answered twice")?;
        if let Some(error) = reply.error {
            trace.step(Subject::Client(self.client), "gets the error", error.code as usize);
            return self.handle_error((reply.id, &error), &pending, node, trace);
        }
        match (pending, reply) {
            (Pending::Connect { asked, token }, proto::Reply { connect: Some(result), .. }) => {
                node.issuer.check_reply(token, (result.expires, result.ttl))?;
                self.refreshes_at = self.plan_refresh(result.expires, result.ttl, trace);
                self.handle_connect(result, asked.as_ref(), node, trace)
            }
            (
                Pending::Subscribe { channel, request, number, has_bad_filter, .. },
                proto::Reply { subscribe: Some(result), .. },
            ) => {
                let plan = node.plan(channel);
                if plan.is_private && request.token.is_none() {
                    return Err("a private channel is open without a token");
                }
                if has_bad_filter {
                    return Err("a filter is accepted that must be refused");
                }
                if plan.options.subscribe_hook && request.token.is_none() {
                    node.check_hook(number, HookEnd::Executed)?;
                }
                self.handle_subscribed(channel, &result, &request, node, trace)
            }
            (Pending::Refresh { token }, proto::Reply { refresh: Some(result), .. }) => {
                node.mail.marks.insert("a connection is refreshed");
                node.issuer.check_reply(Some(token), (result.expires, result.ttl))?;
                self.refreshes_at = self.plan_refresh(result.expires, result.ttl, trace);
                Ok(())
            }
            (Pending::SubRefresh { channel, token }, proto::Reply { sub_refresh: Some(result), .. }) => {
                node.mail.marks.insert("a subscription is refreshed");
                node.issuer.check_reply(Some(token), (result.expires, result.ttl))?;
                let refreshes_at = self.plan_refresh(result.expires, result.ttl, trace);
                if let Some(active) = &mut self.subscription(channel).active {
                    active.refreshes_at = refreshes_at;
                }
                Ok(())
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
            (Pending::Presence(_), proto::Reply { presence: Some(_), .. })
            | (Pending::PresenceStats(_), proto::Reply { presence_stats: Some(_), .. }) => Ok(()),
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

    /// Returns when the client refreshes something that expires: mostly before that, and sometimes in the grace period.
    fn plan_refresh(&mut self, expires: bool, ttl: u32, trace: &Trace) -> Option<Duration> {
        let time = Duration::from_millis(u64::from(ttl) * self.transport.random.within(300..=1200) as u64);
        (expires && self.has_refreshes).then(|| trace.now + time + Duration::from_millis(1))
    }

    fn handle_error(
        &mut self,
        (id, error): (u32, &proto::Error),
        pending: &Pending,
        node: &mut Node,
        trace: &Trace,
    ) -> Result<(), &'static str> {
        if error.code == TOO_MANY && pending.waits_for_hooks(node) {
            // Too many commands of the client wait for one before them whose hook has not answered.
            if pending.subscription().is_some() {
                // An SDK tries again on a new connection.
                self.transport.send_close(None);
            }
            return Ok(());
        }
        match pending {
            Pending::Connect { token: Some(token), .. } => {
                node.issuer.check_error(*token, error.code)?;
                node.mail.marks.insert("a connection is refused");
                self.is_refused = true;
                self.transport.send_close(None);
                Ok(())
            }
            Pending::Refresh { token } => {
                node.issuer.check_error(*token, error.code)?;
                self.refreshes_at = Some(trace.now + RETRY);
                Ok(())
            }
            Pending::SubRefresh { channel, token } => {
                // The subscription may have ended in the meantime, and then the token is not verified.
                if error.code != DENIED || !self.is_outside(*channel) {
                    node.issuer.check_error(*token, error.code)?;
                }
                if let Some(active) = &mut self.subscription(*channel).active {
                    active.refreshes_at = Some(trace.now + RETRY);
                }
                Ok(())
            }
            Pending::Subscribe { channel, .. } => self.handle_refused((id, error), pending, *channel, node),
            Pending::Publish { channel, .. }
            | Pending::Presence(channel)
            | Pending::PresenceStats(channel)
            | Pending::History(channel)
                if error.code == DENIED && node.plan(*channel).is_private && self.is_outside(*channel) =>
            {
                Ok(())
            }
            Pending::Rpc { number, .. } => node.check_hook(*number, HookEnd::Error(error.code)),
            Pending::Publish { channel, number } if node.plan(*channel).options.publish_hook => {
                node.check_hook(*number, HookEnd::Error(error.code))
            }
            Pending::Connect { token: None, .. }
            | Pending::Unsubscribe(_)
            | Pending::Publish { .. }
            | Pending::Presence(_)
            | Pending::PresenceStats(_)
            | Pending::History(_) => Err("a command is refused although it is allowed"),
        }
    }

    /// Whether the server may see the client outside of a channel, at the time of a reply that has just arrived.
    fn is_outside(&self, channel: usize) -> bool {
        let is_active = self.subscriptions.get(&channel).is_some_and(|it| it.active.is_some());
        !is_active || self.is_ending(channel)
    }

    /// Whether an `unsubscribe` for the channel is not answered yet.
    fn is_ending(&self, channel: usize) -> bool {
        let ends = |pending: &Pending| matches!(pending, Pending::Unsubscribe(other) if *other == channel);
        self.pending.values().any(ends)
    }

    /// Checks the error of a subscription. The client tries again later.
    fn handle_refused(
        &mut self,
        (id, error): (u32, &proto::Error),
        pending: &Pending,
        channel: usize,
        node: &mut Node,
    ) -> Result<(), &'static str> {
        let Pending::Subscribe { request, is_required, number, has_bad_filter, .. } = pending else {
            return Ok(());
        };
        let plan = node.plan(channel);
        let has_hook = plan.options.subscribe_hook && request.token.is_none() && !plan.is_private;
        let is_accepted = match request.token {
            Some(token) => matches!(node.issuer.outcome(token), Some(Outcome::Accepted(_))),
            None => !plan.is_private,
        };
        let mut end = None;
        match error.code {
            UNRECOVERABLE if is_accepted && *is_required && !has_bad_filter => {
                node.mail.marks.insert("a recovery is refused");
                let _ = node.truth.take_start(self.connection, channel);
                end = Some((channel, None, End::Gap));
            }
            BAD_REQUEST if is_accepted && *has_bad_filter => {
                node.mail.marks.insert("a filter is refused");
                if has_hook {
                    node.check_hook(*number, HookEnd::Executed)?;
                }
            }
            code if has_hook => node.check_hook(*number, HookEnd::Error(code))?,
            code => match request.token {
                Some(token) => {
                    node.issuer.check_error(token, code)?;
                    node.mail.marks.insert("a subscription token is refused");
                }
                None if plan.is_private && code == DENIED => {}
                None => return Err("a subscription is refused although it is allowed"),
            },
        }
        if self.subscription(channel).is_wanted && !self.has_later_subscribe(channel, id) {
            self.subscription(channel).is_wanted = false;
            self.ended.extend(end);
        }
        Ok(())
    }

    /// Whether a `subscribe` for the channel after the command with this number is not answered yet.
    fn has_later_subscribe(&self, channel: usize, number: u32) -> bool {
        let is_one = |pending: &Pending| matches!(pending, Pending::Subscribe { channel: other, .. } if *other == channel);
        self.pending.range(number + 1..).any(|(_, pending)| is_one(pending))
    }

    fn handle_connect(
        &mut self,
        result: proto::ConnectResult,
        asked: Option<&(usize, Known)>,
        node: &mut Node,
        trace: &Trace,
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
            let request = Request { known: asked.cloned(), ..Request::default() };
            self.handle_subscribed(channel, result, &request, node, trace)?;
        }
        Ok(())
    }

    fn handle_subscribed(
        &mut self,
        channel: usize,
        result: &proto::SubscribeResult,
        request: &Request,
        node: &mut Node,
        trace: &Trace,
    ) -> Result<(), &'static str> {
        let start = node.truth.take_start(self.connection, channel);
        let start = start.ok_or("a subscription is answered that was not executed")?;
        let is_ending = self.is_ending(channel);
        // The reply to a subscription that has ended in the meantime has no details of its token.
        if !is_ending || result.expires {
            node.issuer.check_reply(request.token, (result.expires, result.ttl))?;
        }
        let mut active = Active::new(result, request, channel, start, self.transport.protocol, node)?;
        active.refreshes_at = self.plan_refresh(result.expires, result.ttl, trace);
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
        let place = (self.worker, self.connection);
        // After `unsubscribe` nothing more need arrive.
        if !self.is_ending(channel)
            && let Some(active) = &mut self.subscription(channel).active
        {
            node.mail.marks.insert("a publication precedes its reply");
            if !active.has_own(at, channel, place, node) {
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
            let is_expected = match unsubscribe.code {
                INSUFFICIENT_STATE => active.is_positioned,
                SUBSCRIPTION_EXPIRED => node.issuer.may_have_ended(&active.grants),
                _ => false,
            };
            let known = subscription.active.take().and_then(|active| active.known);
            node.mail.marks.insert(match unsubscribe.code {
                SUBSCRIPTION_EXPIRED => "a subscription expires",
                _ => "a subscription ends with a gap",
            });
            if !is_expected {
                return Err("a subscription ends without a cause");
            }
            // A client that has already asked for the end of the subscription does not subscribe again.
            if subscription.is_wanted && !self.has_later_subscribe(channel, 0) {
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

/// The codes of other errors: the client may not do this, the request is malformed, or too many commands wait.
const DENIED: u32 = 103;
const BAD_REQUEST: u32 = 107;
const TOO_MANY: u32 = 111;

/// The codes of the end of a subscription: with a gap, or because its token has expired.
const INSUFFICIENT_STATE: u32 = 2500;
const SUBSCRIPTION_EXPIRED: u32 = 2501;

/// The time after which a client that was refused asks for another token.
const RETRY: Duration = Duration::from_millis(200);
