//! The ends of subscriptions and of connections: gaps, expiry, time-outs, and the Close that a client gets.

use std::sync::Arc;

use postern_core::close_code;
use postern_core::worker::{Fanout, Outgoing};
use postern_core::{CloseCode, Key};

use super::Channels;
use crate::Disconnect;
use crate::client::{Client, Close, Expired};
use crate::engine::{ClientRef, Operation, Request};
use crate::exchange::CatchUp;
use crate::hub::{Form, Subscriber};
use crate::pings::Scheduled;
use crate::protocol::{PushBody, Topic};
use crate::publication::ClientId;
use crate::view;

impl Channels {
    /// Delivers what the worker has missed of a channel. Subscribers that follow offsets learn of a gap that cannot be filled.
    pub(super) fn catch_up(&mut self, catch_up: &CatchUp, fanout: &mut Fanout<'_, Channels>) {
        let excluded = self.excluded_publishers(catch_up, fanout);
        for publication in &catch_up.publications {
            let publisher = publication.info.as_ref().and_then(|info| excluded.get(&info.client).copied());
            self.deliver(publication, publisher, fanout);
        }
        if catch_up.is_complete {
            return;
        }
        let Some(slot) = self.hub.find(&catch_up.channel) else { return };
        let keys: Vec<u32> = self.hub.subscribers(slot).iter().map(Subscriber::connection).collect();
        for key in keys {
            // Clients that do not follow offsets have no gap.
            if self.hub.form(key, &catch_up.channel).is_some_and(|form| form.has(Form::POSITIONED)) {
                self.end_incomplete(key, &catch_up.channel, fanout);
            }
        }
    }

    /// Ends a subscription with a gap, after which the client subscribes again.
    pub(crate) fn end_incomplete(&mut self, key: u32, channel: &Arc<str>, fanout: &mut Fanout<'_, Channels>) {
        self.end(Key(key as usize), channel, INSUFFICIENT_STATE, fanout);
    }

    /// Ends a subscription, if there is one. A client with a server-side subscription is closed.
    fn end(&mut self, place: Key, channel: &Arc<str>, reason: End, fanout: &mut Fanout<'_, Channels>) {
        let Some((Some(client), _)) = fanout.client(place) else { return };
        let (id, key) = (client.id, client.hub_key());
        let Some(form) = self.hub.form(key, channel) else { return };
        if form.has(Form::SERVER_SIDE) {
            return self.close(place, &reason.disconnect.into(), fanout);
        }
        client.leave(channel, &mut self.hub);
        let client = client.place;
        self.requests.push_back(end(client, id, channel.clone(), form));
        let body = PushBody::Unsubscribe { code: reason.code, reason: reason.disconnect.reason() };
        view::write_push(form, &mut self.buffer, Topic::Channel(channel), body);
        self.send(place, form, fanout);
    }

    pub(super) fn close(&mut self, key: Key, close: &Close, fanout: &mut Fanout<'_, Channels>) {
        close_client(key, CloseCode(close.disconnect.code()), close.reason(), fanout);
    }

    /// Ends what has expired of a client: subscriptions, or the connection.
    pub(super) fn expire(&mut self, scheduled: Scheduled, fanout: &mut Fanout<'_, Channels>) {
        let (key, now, grace) = (scheduled.key(), fanout.now(), self.config.expiry_grace);
        loop {
            let Some((Some(client), _)) = fanout.client(key) else { return };
            if !scheduled.is_of(client.place.connection) {
                return;
            }
            match client.expired(now, grace) {
                Some(Expired::Connection) => {
                    let at = now + self.random.within(self.config.expiry_spread);
                    self.endings.add(scheduled, at);
                }
                Some(Expired::Subscription(channel)) => self.end(key, &channel, SUBSCRIPTION_EXPIRED, fanout),
                None => {
                    if let Some(at) = client.poll_expiry(grace) {
                        self.expiries.add(scheduled, at);
                    }
                    return;
                }
            }
        }
    }

    /// Closes a client whose connection has expired, unless it was refreshed in the meantime.
    pub(super) fn end_expired(&mut self, scheduled: Scheduled, fanout: &mut Fanout<'_, Channels>) {
        let key = scheduled.key();
        if let Some((Some(client), _)) = fanout.client(key)
            && scheduled.is_of(client.place.connection)
            && client.has_expired()
        {
            self.close(key, &Disconnect::ConnectionExpired.into(), fanout);
        }
    }

    /// Closes the clients that have not sent `connect` in time.
    pub(super) fn close_unconnected(&mut self, fanout: &mut Fanout<'_, Channels>) {
        while let Some(&(at, scheduled)) = self.unconnected.front()
            && at <= fanout.now()
        {
            self.unconnected.pop_front();
            let key = scheduled.key();
            if let Some((Some(client), _)) = fanout.client(key)
                && scheduled.is_of(client.place.connection)
                && client.is_unconnected()
            {
                self.close(key, &Disconnect::Stale.into(), fanout);
            }
        }
        // After many connections at once, most of the list is unused.
        if self.unconnected.len().max(64) < self.unconnected.capacity() / 4 {
            self.unconnected.shrink_to(self.unconnected.capacity() / 2);
        }
    }
}

/// Closes a client, after a push with the code and the reason if it sends no commands. Returns whether it was open.
pub(super) fn close_client(
    key: Key,
    code: CloseCode,
    reason: &str,
    fanout: &mut Fanout<'_, Channels>,
) -> bool {
    if let Some((Some(client), _)) = fanout.client(key) {
        client.end();
        if let Some(push) = last_push(client, code, reason) {
            fanout.send(key, Outgoing::Text(&push));
        }
    }
    fanout.close(key, code, reason)
}

/// Returns the last push of a client without commands.
pub(super) fn last_push(client: &Client, code: CloseCode, reason: &str) -> Option<String> {
    let mut push = Vec::new();
    let body = PushBody::Disconnect { code: code.0.into(), reason };
    view::write_push(client.form(), &mut push, Topic::Connection, body);
    String::from_utf8(push).ok().filter(|_| client.is_bare)
}

/// Returns the request that ends a subscription with this form, without a reply.
pub(super) fn end(client: ClientRef, id: ClientId, channel: Arc<str>, form: Form) -> Request {
    let operation = Operation::Unsubscribe { presence: form.has(Form::PRESENT).then_some(id) };
    Request { client, command: 0, channel, operation }
}

/// Returns the Close of the protocol for a code that the worker closes with. SDKs reconnect after codes from 4000 to 4499, so
/// causes that a new connection does not remove have other codes.
pub(super) fn translate(code: CloseCode) -> Option<Disconnect> {
    match code {
        CloseCode::GOING_AWAY | CloseCode::SERVICE_RESTART => Some(Disconnect::Shutdown),
        CloseCode(close_code::UNAUTHORIZED) => Some(Disconnect::ConnectionExpired),
        CloseCode(close_code::FORBIDDEN) => Some(Disconnect::ForceDisconnect),
        CloseCode(close_code::NO_PONG) => Some(Disconnect::NoPong),
        CloseCode(close_code::REPLACED | close_code::TOO_MANY_CONNECTIONS) => {
            Some(Disconnect::ConnectionLimit)
        }
        CloseCode(close_code::SLOW_CONSUMER) => Some(Disconnect::Slow),
        CloseCode(close_code::RATE_EXCEEDED) => Some(Disconnect::TooManyRequests),
        _ => None,
    }
}

/// Why the server ends a subscription.
#[derive(Debug, Clone, Copy)]
struct End {
    /// The code of the push. After codes from 2500, clients subscribe again.
    code: u32,
    /// The Close for a client with a server-side subscription. The push has the same reason.
    disconnect: Disconnect,
}

/// The client recovers.
const INSUFFICIENT_STATE: End = End { code: 2500, disconnect: Disconnect::InsufficientState };

/// The client gets another token.
const SUBSCRIPTION_EXPIRED: End = End { code: 2501, disconnect: Disconnect::SubscriptionExpired };
