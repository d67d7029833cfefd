//! The execution of a backend's commands.

use std::sync::Arc;

use postern_core::frame::DataKind;
use postern_core::worker::{Fanout, OutgoingMessage, SharedFrame};
use postern_core::{CloseCode, Key, close_code};

use super::Channels;
use crate::backend::{ClientCommand, ClientFilter};
use crate::client::{Client, Turn};
use crate::protocol::{PushBody, Topic};
use crate::{Disconnect, view};

impl Channels {
    /// Returns whether no connection is one of channels.
    pub fn serves_only_echo(&self) -> bool {
        self.clients == 0
    }

    /// Executes a command for the connections that `filter` selects among `keys`. Returns the number of connections that were
    /// affected. `None` selects all, which [`ClientCommand::Send`] supports if the worker [serves only
    /// echo](Channels::serves_only_echo).
    pub fn command(
        &mut self,
        keys: Option<&[Key]>,
        filter: &ClientFilter,
        command: &ClientCommand,
        fanout: &mut Fanout<'_, Channels>,
    ) -> usize {
        if let (None, ClientCommand::Send(message)) = (keys, command) {
            let frame = frame(message, fanout);
            return fanout.deliver_to_all(frame);
        }
        let mut selected: Vec<Key> = keys.unwrap_or_default().to_vec();
        selected.retain(|&key| {
            let client = fanout.client(key);
            client.is_some_and(|(client, identity)| filter.matches(client.as_deref(), identity))
        });
        match command {
            ClientCommand::Subscribe(subscription) => {
                let subscribe =
                    |client: &mut Client, turn: &mut Turn<'_>| client.subscribe_by_server(subscription, turn);
                selected.retain(|&key| self.change(key, subscribe, fanout));
            }
            ClientCommand::Refresh { expires_at, info } => {
                let refresh = |client: &mut Client, turn: &mut Turn<'_>| {
                    client.refresh_by_server(*expires_at, info.as_ref(), turn)
                };
                selected.retain(|&key| {
                    let is_echo = matches!(fanout.client(key), Some((None, _)));
                    (is_echo || self.change(key, refresh, fanout))
                        && fanout.set_token_expiry(key, *expires_at)
                });
            }
            ClientCommand::Expire => {
                let disconnect = Disconnect::ConnectionExpired;
                let channels = (CloseCode(disconnect.code()), disconnect.reason());
                let echo = (CloseCode(close_code::UNAUTHORIZED), disconnect.reason());
                selected.retain(|&key| close(key, channels, echo, fanout));
            }
            ClientCommand::Unsubscribe { channel } => {
                selected.retain(|&key| self.unsubscribe(key, channel.as_ref(), fanout));
            }
            ClientCommand::Disconnect { close } => {
                let disconnect = Disconnect::ForceDisconnect;
                let given = close.as_ref().map(|(code, reason)| (*code, &**reason));
                let channels = given.unwrap_or((CloseCode(disconnect.code()), disconnect.reason()));
                let echo = given.unwrap_or((CloseCode(close_code::FORBIDDEN), "disconnected"));
                selected.retain(|&key| self::close(key, channels, echo, fanout));
            }
            ClientCommand::Send(message) => {
                selected.retain(|&key| matches!(fanout.client(key), Some((None, _))));
                let frame = frame(message, fanout);
                return fanout.deliver_to(selected, frame);
            }
        }
        selected.len()
    }

    /// Changes a client of channels. Returns what `change` returns; false for a client of echo.
    fn change(
        &mut self,
        key: Key,
        change: impl FnOnce(&mut Client, &mut Turn<'_>) -> bool,
        fanout: &mut Fanout<'_, Channels>,
    ) -> bool {
        let now = fanout.now();
        let Some((Some(client), identity)) = fanout.client(key) else { return false };
        let form = client.form();
        let is_changed = self.act(client, identity, now, change);
        self.send(key, form, fanout);
        is_changed
    }

    /// Ends the subscription of a client to a channel, or all of its subscriptions. Returns whether there was one.
    fn unsubscribe(
        &mut self,
        key: Key,
        channel: Option<&Arc<str>>,
        fanout: &mut Fanout<'_, Channels>,
    ) -> bool {
        let Some((Some(client), _)) = fanout.client(key) else { return false };
        let (id, place, hub_key) = (client.id, client.place, client.hub_key());
        let mut is_subscribed = false;
        loop {
            let last = || self.hub.name(self.hub.channels_of(hub_key).last()?).cloned();
            let Some(channel) = channel.cloned().or_else(last) else { return is_subscribed };
            let Some((Some(client), _)) = fanout.client(key) else { return is_subscribed };
            let Some((channel, form)) = client.leave(&channel, &mut self.hub) else { return is_subscribed };
            is_subscribed = true;
            let body = PushBody::Unsubscribe { code: UNSUBSCRIBED, reason: "server unsubscribe" };
            view::write_push(form, &mut self.buffer, Topic::Channel(&channel), body);
            self.send(key, form, fanout);
            self.requests.push_back(super::ends::end(place, id, channel, form));
        }
    }
}

/// Closes a connection as a client of channels or of echo. Returns whether it was open.
fn close(
    key: Key,
    channels: (CloseCode, &str),
    echo: (CloseCode, &str),
    fanout: &mut Fanout<'_, Channels>,
) -> bool {
    let Some((client, _)) = fanout.client(key) else { return false };
    let (code, reason) = if client.is_some() { channels } else { echo };
    super::ends::close_client(key, code, reason, fanout)
}

fn frame<'w>(message: &OutgoingMessage, fanout: &mut Fanout<'w, Channels>) -> SharedFrame<'w> {
    match message {
        OutgoingMessage::Text(text) => fanout.frame(DataKind::Text, text.as_bytes()),
        OutgoingMessage::Binary(payload) => fanout.frame(DataKind::Binary, payload),
    }
}

/// The code of an unsubscription by the server after which a client does not subscribe again.
const UNSUBSCRIBED: u32 = 2000;
