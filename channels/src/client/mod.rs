//! The connection of a client and its state. Its subscriptions are in the [hub](crate::hub::Hub).
//!
//! Commands that need the channels of the node become [`Request`](crate::engine::Request)s, whose answers arrive later and in
//! order. A subscription joins the hub with its request, and leaves the hub with the request that ends it.

mod answers;
mod backend;
mod commands;
mod connect;
mod credentials;
mod hooks;
mod rate;

pub(crate) use commands::Turn;
pub(crate) use credentials::Expired;
use rate::Rates;

use std::borrow::Cow;
use std::sync::Arc;

use postern_core::handshake::Identity;
use zeroize::Zeroizing;

use crate::Disconnect;
use crate::engine::ClientRef;
use crate::exchange::{PresenceEvent, Subscribed};
use crate::filter::Filter;
use crate::hub::{Form, Hub, JoinError};
use crate::protocol::{Encoding, Endpoint};
use crate::publication::{ClientId, ClientInfo, Publication, Since};

/// The state of a client that speaks the protocol of channels.
#[derive(Debug)]
pub struct Client {
    pub(crate) id: ClientId,
    pub(crate) place: ClientRef,
    pub(crate) encoding: Encoding,
    /// Whether the client sends no commands, and gets pushes without replies around them.
    pub(crate) is_bare: bool,
    /// Whether the server sends pings of the protocol, in place of pings of WebSocket.
    pub(crate) has_pings: bool,
    /// Whether the pong to the last ping is missing.
    pub(crate) awaits_pong: bool,
    /// The bytes of its subscriptions, of what tokens say about them, and of the commands that wait for hooks.
    memory: u32,
    pub(crate) stage: Stage,
    /// `None` for most clients, because there may be a million of them.
    occasional: Option<Box<Occasional>>,
    /// The client as others see it. It is created when it is needed.
    info: Option<Arc<ClientInfo>>,
    /// The contents of its tokens, and of the header with its channels. `None` without them.
    credentials: Option<Box<credentials::Credentials>>,
}

/// The state of a client that most clients do not have.
#[derive(Debug, Default)]
struct Occasional {
    /// The subscriptions that have ended before the answers to their requests, which still become replies.
    ended: Vec<(Arc<str>, Form)>,
    rates: Rates,
    /// The commands that wait for hooks.
    parked: hooks::Parked,
}

/// The progress of `connect`.
#[derive(Debug)]
pub(crate) enum Stage {
    /// No `connect` has arrived.
    New,
    /// The host checks the token of `connect`, which is executed again afterwards.
    Checking(Box<Connecting>),
    /// The server-side subscriptions are being made.
    Connecting(Box<Connecting>),
    /// `connect` was answered.
    Connected,
    /// `connect` got an error reply: no command is possible any more.
    Refused,
    /// The connection is closed when the commands before a fault are answered. Further ones are dropped.
    Closing(Box<Close>),
    /// A Close is on its way: commands are dropped.
    Closed,
}

/// A `connect` that is not answered yet.
#[derive(Debug)]
pub(crate) struct Connecting {
    /// The id of the command.
    id: u32,
    /// The number of server-side subscriptions without an answer.
    missing: usize,
    /// The answers, by channel.
    answers: Vec<(Arc<str>, Box<Subscribed>, Option<Since>)>,
    /// The publications, joins and leaves of subscriptions with an answer, which must follow the reply.
    held: Vec<Held>,
    /// The messages with the commands after `connect`; with `connect` itself while its token is checked.
    waiting: Vec<Waiting>,
}

/// An event of a channel that waits until `connect` is answered.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    Publication(Arc<Publication>),
    Presence(Arc<PresenceEvent>),
}

/// A message whose commands wait until `connect` is answered.
#[derive(Debug)]
struct Waiting {
    /// It may contain tokens, so its memory is overwritten when it is dropped.
    message: Zeroizing<Box<[u8]>>,
    /// The number of its commands that are executed already.
    executed: usize,
}

impl Waiting {
    fn new(message: &[u8], executed: usize) -> Waiting {
        Waiting { message: Zeroizing::new(message.into()), executed }
    }
}

impl Connecting {
    /// Returns the number of bytes of the messages that wait.
    fn waiting(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.message.len()).sum()
    }
}

/// A Close that a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) disconnect: Disconnect,
    /// In place of the usual reason.
    pub(crate) reason: Option<Cow<'static, str>>,
}

impl From<Disconnect> for Close {
    fn from(disconnect: Disconnect) -> Close {
        Close { disconnect, reason: None }
    }
}

impl Close {
    pub(crate) fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or(self.disconnect.reason())
    }
}

impl Client {
    pub(crate) fn new(id: ClientId, place: ClientRef, endpoint: Endpoint) -> Client {
        Client {
            id,
            place,
            encoding: endpoint.encoding,
            is_bare: false,
            has_pings: !endpoint.has_frame_pings,
            awaits_pong: false,
            memory: 0,
            stage: Stage::New,
            occasional: None,
            info: None,
            credentials: None,
        }
    }

    /// Creates a client without commands, which speaks JSON.
    pub(crate) fn bare(id: ClientId, place: ClientRef, endpoint: Endpoint) -> Client {
        Client { is_bare: true, encoding: Encoding::Json, ..Client::new(id, place, endpoint) }
    }

    /// Returns the form of all messages to the client.
    pub(crate) fn form(&self) -> Form {
        Form::of([(self.encoding == Encoding::Protobuf, Form::PROTOBUF), (self.is_bare, Form::BARE)])
    }

    /// Handles that the connection is being closed: commands that wait are not executed any more.
    pub(crate) fn end(&mut self) {
        self.stage = Stage::Closed;
    }

    /// Whether no `connect` has arrived, or it was refused.
    pub(crate) fn is_unconnected(&self) -> bool {
        matches!(self.stage, Stage::New | Stage::Checking(_) | Stage::Refused)
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Connected)
    }

    /// Returns the memory that commands have made the client occupy, in bytes: subscriptions, messages that wait until
    /// `connect` is answered, and commands that wait for hooks.
    #[inline]
    pub(crate) fn memory(&self) -> usize {
        let waiting = match &self.stage {
            Stage::Checking(connecting) | Stage::Connecting(connecting) => connecting.waiting(),
            Stage::New | Stage::Connected | Stage::Refused | Stage::Closing(_) | Stage::Closed => 0,
        };
        self.memory as usize + waiting
    }

    /// Adds a joining subscription. Its filter is part of its memory.
    fn join(
        &mut self,
        channel: &Arc<str>,
        form: Form,
        filter: Option<Filter>,
        hub: &mut Hub,
    ) -> Result<(), JoinError> {
        let slot = hub.join(self.hub_key(), channel, form | self.form())?;
        if let Some(filter) = filter {
            hub.set_filter(self.hub_key(), slot, filter);
        }
        self.add_memory(hub.memory(self.hub_key(), channel));
        Ok(())
    }

    /// Ends a subscription, with what a token says about it. Returns the same as [`Hub::leave`].
    pub(crate) fn leave(&mut self, channel: &str, hub: &mut Hub) -> Option<(Arc<str>, Form)> {
        self.remove_memory(hub.memory(self.hub_key(), channel));
        self.forget_grant(channel);
        hub.leave(self.hub_key(), channel)
    }

    fn add_memory(&mut self, bytes: usize) {
        self.memory = self.memory.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    fn remove_memory(&mut self, bytes: usize) {
        self.memory = self.memory.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Returns whether the client is subscribed to a channel, or will be when its requests are answered.
    fn wants(&self, channel: &str, hub: &Hub) -> bool {
        hub.form(self.hub_key(), channel).is_some()
    }

    fn occasional(&mut self) -> &mut Occasional {
        self.occasional.get_or_insert_default()
    }

    /// Removes a subscription that has ended before the answer to its request. Returns its form.
    fn take_ended(&mut self, channel: &str) -> Option<Form> {
        let ended = &mut self.occasional.as_mut()?.ended;
        let at = ended.iter().position(|(name, _)| **name == *channel)?;
        // The answers have the order of the requests.
        Some(ended.remove(at).1)
    }

    /// Returns the number of the connection in the hub.
    pub(crate) fn hub_key(&self) -> u32 {
        // A worker has fewer than 2^32 connections.
        self.place.key.0 as u32
    }

    /// Returns the client as others see it.
    pub(crate) fn info(&mut self, identity: &Identity, share_email: bool) -> Arc<ClientInfo> {
        let id = self.id;
        let info = self.info.get_or_insert_with(|| {
            let conn_info = conn_info(identity, share_email).map(Arc::from);
            Arc::new(ClientInfo { user: identity.id().into(), client: id, conn_info, chan_info: None })
        });
        info.clone()
    }
}

/// Returns the JSON object with the name of a user, and the e-mail address if it is shared.
fn conn_info(identity: &Identity, share_email: bool) -> Option<Vec<u8>> {
    let email = identity.email().filter(|_| share_email);
    let fields = [("name", identity.name()), ("email", email)];
    let mut object = Vec::new();
    for (name, value) in fields {
        let Some(value) = value else { continue };
        object.extend_from_slice(if object.is_empty() { b"{\"" } else { b",\"" });
        object.extend_from_slice(name.as_bytes());
        object.extend_from_slice(b"\":");
        crate::protocol::write_json_string(&mut object, value);
    }
    if object.is_empty() {
        return None;
    }
    object.push(b'}');
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be a million clients on a machine.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_client_takes_ninety_six_bytes_at_most() {
        assert!(size_of::<Client>() <= 96, "{}", size_of::<Client>());
    }
}
