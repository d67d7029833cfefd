//! Subscriptions of the application, and subscriptions that the server has made.

use std::collections::BTreeMap;
use std::time::Instant;

use super::connection::refresh_at;
use super::requests::Kind;
use super::{Action, Machine};
use crate::event::{Event, Recovery, TokenError};
use crate::protocol::{
    ChannelRequest, Command, Expiry, Json, Method, Position, Publication, ServerError, SubRefreshRequest,
    SubscribePush, SubscribeRequest, SubscribeResult, UnsubscribePush,
};

/// The options of a subscription.
#[derive(Debug, Clone, Default)]
pub struct SubscribeOptions {
    /// A token for the channel.
    pub token: Option<String>,
    /// Whether the driver gets tokens for the channel: see [`Action::GetToken`].
    pub has_token_source: bool,
    /// Data for the server.
    pub data: Option<Json>,
    /// Whether the client recovers publications that it has missed, if the channel has a history. The server may enforce it.
    pub recoverable: bool,
    /// Whether the client wants to know when others join and leave.
    pub join_leave: bool,
    /// The position after which the first subscription begins: the client recovers what follows it.
    pub since: Option<Position>,
}

/// A subscription of the application.
#[derive(Debug)]
pub(super) struct Subscription {
    options: SubscribeOptions,
    state: SubscriptionState,
    token: Option<String>,
    position: Option<Position>,
    /// The number of failed attempts since the last successful one.
    failed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SubscriptionState {
    /// It is made at this time, or when the client is connected.
    Waiting(Option<Instant>),
    /// The driver gets a token.
    Token { deadline: Instant },
    /// The server has not answered the command with this id.
    Subscribing { id: u32 },
    Subscribed {
        /// The token is refreshed at this time, or the driver is asked for it again.
        refresh_at: Option<Instant>,
    },
}

impl Subscription {
    /// Returns when something must be done, if the client is connected.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            SubscriptionState::Waiting(at) | SubscriptionState::Subscribed { refresh_at: at } => at,
            SubscriptionState::Token { deadline } => Some(deadline),
            SubscriptionState::Subscribing { .. } => None,
        }
    }
}

impl Machine {
    /// Subscribes to a channel, now or when the client is connected, and again after each loss of the connection. Returns false
    /// if the client has such a subscription already.
    pub fn subscribe(&mut self, channel: &str, options: SubscribeOptions, now: Instant) -> bool {
        if self.subscriptions.contains_key(channel) {
            return false;
        }
        let subscription = Subscription {
            state: SubscriptionState::Waiting(None),
            token: options.token.clone(),
            position: options.since.clone(),
            failed: 0,
            options,
        };
        self.subscriptions.insert(channel.into(), subscription);
        if self.state.is_connected() {
            self.begin_subscription(channel, now);
        }
        true
    }

    /// Ends a subscription. Nothing of the channel follows.
    pub fn unsubscribe(&mut self, channel: &str, now: Instant) {
        let Some(subscription) = self.subscriptions.remove(channel) else { return };
        self.forgotten.remove(channel);
        let is_known = match subscription.state {
            SubscriptionState::Subscribing { .. } | SubscriptionState::Subscribed { .. } => true,
            SubscriptionState::Waiting(_) | SubscriptionState::Token { .. } => false,
        };
        if is_known && self.state.is_connected() {
            self.send_unsubscribe(channel, now);
        }
        let (channel, reason) = (channel.into(), "unsubscribed by the application".into());
        self.events.push_back(Event::Unsubscribed { channel, code: 0, reason });
    }

    /// Returns whether the client is subscribed to a channel, by itself or by the server.
    pub fn is_subscribed(&self, channel: &str) -> bool {
        let own = self.subscriptions.get(channel);
        let is_own = |own: &Subscription| matches!(own.state, SubscriptionState::Subscribed { .. });
        own.is_some_and(is_own) || self.server_subscriptions.contains_key(channel)
    }

    pub(super) fn subscribe_all(&mut self, now: Instant) {
        let channels: Vec<String> = self.subscriptions.keys().cloned().collect();
        for channel in channels {
            self.begin_subscription(&channel, now);
        }
    }

    pub(super) fn handle_subscription_timeouts(&mut self, now: Instant) {
        let is_due = |subscription: &Subscription| subscription.deadline().is_some_and(|at| at <= now);
        let due = self.subscriptions.iter().filter(|(_, subscription)| is_due(subscription));
        for channel in due.map(|(channel, _)| channel.clone()).collect::<Vec<_>>() {
            let Some(subscription) = self.subscriptions.get_mut(&channel) else { continue };
            match &mut subscription.state {
                SubscriptionState::Waiting(_) => self.begin_subscription(&channel, now),
                SubscriptionState::Token { .. } => self.retry_subscription(&channel, now),
                SubscriptionState::Subscribed { refresh_at } => {
                    let has_source = subscription.options.has_token_source;
                    *refresh_at = has_source.then(|| now + self.config.token_timeout);
                    if has_source {
                        self.act(Action::GetToken(Some(channel)));
                    }
                }
                SubscriptionState::Subscribing { .. } => {}
            }
        }
    }

    pub(super) fn handle_subscription_token(
        &mut self,
        channel: &str,
        result: Result<String, TokenError>,
        now: Instant,
    ) {
        let is_connected = self.state.is_connected();
        // The application may have unsubscribed and subscribed again without a source of tokens.
        let subscription = self.subscriptions.get_mut(channel).filter(|it| it.options.has_token_source);
        let Some(subscription) = subscription else { return };
        match (&mut subscription.state, result) {
            (SubscriptionState::Token { .. }, Ok(token)) => {
                subscription.token = Some(token);
                // Otherwise it is sent after the reply to `connect`.
                if is_connected {
                    self.send_subscribe(channel, now);
                }
            }
            (SubscriptionState::Subscribed { refresh_at }, Ok(token)) => {
                *refresh_at = None;
                let id = self.begin(Kind::SubRefresh(channel.into()), now);
                self.push(id, Method::SubRefresh(SubRefreshRequest { channel, token: &token }));
                if let Some(subscription) = self.subscriptions.get_mut(channel) {
                    subscription.token = Some(token);
                }
            }
            (
                SubscriptionState::Token { .. } | SubscriptionState::Subscribed { .. },
                Err(TokenError::Unavailable),
            ) => self.retry_subscription(channel, now),
            (state, Err(TokenError::Unauthorized)) => {
                if let SubscriptionState::Subscribing { .. } | SubscriptionState::Subscribed { .. } = state {
                    self.send_unsubscribe(channel, now);
                }
                let message = "no token is granted".into();
                self.end_subscription(channel, ServerError { code: 101, message, temporary: false });
            }
            // An earlier request was answered late.
            (SubscriptionState::Waiting(_) | SubscriptionState::Subscribing { .. }, Ok(token)) => {
                subscription.token = Some(token);
            }
            (
                SubscriptionState::Waiting(_) | SubscriptionState::Subscribing { .. },
                Err(TokenError::Unavailable),
            ) => {}
        }
    }

    pub(super) fn handle_subscribe(
        &mut self,
        channel: String,
        id: u32,
        result: Result<SubscribeResult, ServerError>,
        now: Instant,
    ) {
        let Some(subscription) = self.subscriptions.get_mut(&channel) else { return };
        // The application may have unsubscribed and subscribed again: the answer to the second command follows.
        if subscription.state != (SubscriptionState::Subscribing { id }) {
            return;
        }
        match result {
            Ok(result) => {
                let expiry = Expiry { expires: result.expires, ttl: result.ttl };
                subscription.state = SubscriptionState::Subscribed { refresh_at: refresh_at(expiry, now) };
                subscription.failed = 0;
                subscription.position = result.position();
                self.report_subscription(channel, result);
            }
            Err(error) => {
                if error.code == ServerError::TOKEN_EXPIRED {
                    subscription.token = None;
                    if !subscription.options.has_token_source {
                        return self.end_subscription(&channel, error);
                    }
                }
                match error.may_retry() {
                    true => {
                        let (code, reason) = (error.code, error.message);
                        self.retry_subscription(&channel, now);
                        self.events.push_back(Event::Resubscribing { channel, code, reason });
                    }
                    false => self.end_subscription(&channel, error),
                }
            }
        }
    }

    pub(super) fn handle_sub_refresh(
        &mut self,
        channel: String,
        result: Result<Expiry, ServerError>,
        now: Instant,
    ) {
        let Some(subscription) = self.subscriptions.get_mut(&channel) else { return };
        match (result, &mut subscription.state) {
            (Ok(expiry), SubscriptionState::Subscribed { refresh_at }) => {
                *refresh_at = self::refresh_at(expiry, now);
            }
            (Err(error), SubscriptionState::Subscribed { refresh_at }) if error.may_retry() => {
                *refresh_at = Some(now + self.config.backoff.most.mul_f64(self.random.f64()));
            }
            (Err(error), SubscriptionState::Subscribed { .. }) => {
                self.send_unsubscribe(&channel, now);
                self.end_subscription(&channel, error);
            }
            (_, _) => {}
        }
    }

    pub(super) fn handle_publication(&mut self, channel: String, publication: Publication) {
        if !self.is_subscribed(&channel) {
            return;
        }
        let own = self.subscriptions.get_mut(&channel).map(|subscription| &mut subscription.position);
        let position = own.or_else(|| self.server_subscriptions.get_mut(&channel));
        if let Some(Some(position)) = position
            && publication.offset > 0
        {
            position.offset = publication.offset;
        }
        self.events.push_back(Event::Publication { channel, publication });
    }

    pub(super) fn handle_unsubscribe(&mut self, channel: String, push: UnsubscribePush, now: Instant) {
        let UnsubscribePush { code, reason } = push;
        if self.server_subscriptions.remove(&channel).is_some() {
            self.events.push_back(Event::Unsubscribed { channel, code: code.into(), reason });
            return;
        }
        let Some(subscription) = self.subscriptions.get_mut(&channel) else { return };
        // The application may have unsubscribed and subscribed again: then the server has ended the subscription before.
        if !matches!(subscription.state, SubscriptionState::Subscribed { .. }) {
            return;
        }
        if code < 2500 {
            let error = ServerError { code: code.into(), message: reason, temporary: false };
            return self.end_subscription(&channel, error);
        }
        // 2501: the token has expired. 2502: the state that the client keeps does not hold any more.
        if code == 2502 && subscription.position.take().is_some() {
            self.forgotten.insert(channel.clone());
        }
        if matches!(code, 2501 | 2502) && subscription.options.has_token_source {
            subscription.token = None;
        }
        self.events.push_back(Event::Resubscribing { channel: channel.clone(), code: code.into(), reason });
        self.begin_subscription(&channel, now);
    }

    pub(super) fn handle_server_subscriptions(&mut self, subs: BTreeMap<String, SubscribeResult>) {
        let gone = std::mem::take(&mut self.server_subscriptions);
        for channel in gone.into_keys().filter(|channel| !subs.contains_key(channel)) {
            let reason = "the server has not made the subscription again".into();
            self.events.push_back(Event::Unsubscribed { channel, code: 0, reason });
        }
        for (channel, result) in subs {
            self.server_subscriptions.insert(channel.clone(), result.position());
            self.report_subscription(channel, result);
        }
    }

    pub(super) fn handle_server_subscription(&mut self, channel: String, push: SubscribePush) {
        let SubscribePush { recoverable, epoch, offset, data } = push;
        let position = recoverable.then_some(Position { offset, epoch });
        self.server_subscriptions.insert(channel.clone(), position.clone());
        self.events.push_back(Event::Subscribed { channel, recovery: Recovery::None, position, data });
    }

    /// Makes the subscriptions wait for the next connection.
    pub(super) fn interrupt_subscriptions(&mut self) {
        for subscription in self.subscriptions.values_mut() {
            subscription.state = SubscriptionState::Waiting(None);
        }
    }

    /// Forgets positions, which do not hold any more.
    pub(super) fn forget_positions(&mut self) {
        for (channel, subscription) in &mut self.subscriptions {
            if subscription.position.take().is_some() {
                self.forgotten.insert(channel.clone());
            }
        }
        for (channel, position) in &mut self.server_subscriptions {
            if position.take().is_some() {
                self.forgotten.insert(channel.clone());
            }
        }
    }

    pub(super) fn forget_subscription_tokens(&mut self) {
        for subscription in self.subscriptions.values_mut().filter(|it| it.options.has_token_source) {
            subscription.token = None;
        }
    }

    fn begin_subscription(&mut self, channel: &str, now: Instant) {
        let Some(subscription) = self.subscriptions.get_mut(channel) else { return };
        if subscription.token.is_none() && subscription.options.has_token_source {
            subscription.state = SubscriptionState::Token { deadline: now + self.config.token_timeout };
            self.act(Action::GetToken(Some(channel.into())));
        } else {
            self.send_subscribe(channel, now);
        }
    }

    fn send_subscribe(&mut self, channel: &str, now: Instant) {
        let id = self.begin(Kind::Subscribe(channel.into()), now);
        let Some(subscription) = self.subscriptions.get_mut(channel) else { return };
        subscription.state = SubscriptionState::Subscribing { id };
        let options = &subscription.options;
        // The server states a position also if it enforces the recovery.
        let position = subscription.position.as_ref();
        let subscribe = SubscribeRequest {
            channel,
            token: subscription.token.as_deref(),
            data: options.data.as_deref(),
            recover: position.is_some(),
            position,
            recoverable: options.recoverable,
            join_leave: options.join_leave,
        };
        let command = Command { id, method: Method::Subscribe(subscribe) };
        let text = serde_json::to_string(&command).unwrap_or_default();
        self.push_line(&text);
    }

    fn retry_subscription(&mut self, channel: &str, now: Instant) {
        let Some(subscription) = self.subscriptions.get_mut(channel) else { return };
        let delay = self.config.backoff.delay(subscription.failed, &mut self.random);
        if let SubscriptionState::Subscribed { refresh_at } = &mut subscription.state {
            // Only a token for the refresh is missing.
            *refresh_at = Some(now + delay);
        } else {
            subscription.failed = subscription.failed.saturating_add(1);
            subscription.state = SubscriptionState::Waiting(Some(now + delay));
        }
    }

    fn send_unsubscribe(&mut self, channel: &str, now: Instant) {
        let id = self.begin(Kind::Unsubscribe, now);
        self.push(id, Method::Unsubscribe(ChannelRequest { channel }));
    }

    fn end_subscription(&mut self, channel: &str, error: ServerError) {
        self.subscriptions.remove(channel);
        self.forgotten.remove(channel);
        let (channel, code, reason) = (channel.into(), error.code, error.message);
        self.events.push_back(Event::Unsubscribed { channel, code, reason });
    }

    /// Reports a subscription and the publications that come with it.
    fn report_subscription(&mut self, channel: String, result: SubscribeResult) {
        let is_forgotten = self.forgotten.remove(&channel);
        let recovery = match (result.was_recovering, result.recovered) {
            (false, _) if is_forgotten => Recovery::Incomplete,
            (false, _) => Recovery::None,
            (true, true) => Recovery::Complete,
            (true, false) => Recovery::Incomplete,
        };
        let (position, data) = (result.position(), result.data);
        self.events.push_back(Event::Subscribed { channel: channel.clone(), recovery, position, data });
        for publication in result.publications {
            self.handle_publication(channel.clone(), publication);
        }
    }
}
