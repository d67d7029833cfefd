//! The connection of a client: its state, and its subscriptions.
//!
//! Commands that need the channels of the node become [`Request`](crate::engine::Request)s, whose answers arrive later and in
//! order. So a subscription has two states: the one that the client has asked for, and the one of the requests that are answered.

mod answers;
mod commands;
mod connect;

pub(crate) use answers::HubChange;
pub(crate) use commands::Turn;

use std::borrow::Cow;
use std::sync::Arc;

use postern_core::handshake::Identity;
use postern_core::{ConnectionId, Key};

use crate::Disconnect;
use crate::engine::ClientRef;
use crate::exchange::Subscribed;
use crate::protocol::{Encoding, Endpoint};
use crate::publication::{ClientId, ClientInfo, Since};

/// The state of a client that speaks the protocol of channels.
#[derive(Debug)]
pub struct Client {
    pub(crate) id: ClientId,
    pub(crate) key: Key,
    pub(crate) connection: ConnectionId,
    pub(crate) encoding: Encoding,
    /// Whether the server sends pings of the protocol, in place of pings of WebSocket.
    pub(crate) has_pings: bool,
    /// Whether the pong to the last ping is missing.
    pub(crate) awaits_pong: bool,
    pub(crate) stage: Stage,
    pub(crate) subscriptions: Vec<Subscription>,
    /// The client as others see it. It is created when it is needed.
    info: Option<Arc<ClientInfo>>,
}

/// The progress of `connect`.
#[derive(Debug)]
pub(crate) enum Stage {
    /// No `connect` has arrived.
    New,
    /// The server-side subscriptions are being made.
    Connecting(Box<Connecting>),
    /// `connect` was answered.
    Connected,
    /// `connect` was refused, or a Close is on its way: commands are dropped.
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
    /// The messages with the commands after `connect`.
    waiting: Vec<Waiting>,
}

/// A message whose commands wait until `connect` is answered.
#[derive(Debug)]
pub(crate) struct Waiting {
    message: Box<[u8]>,
    /// The number of its commands that are executed already.
    executed: usize,
}

/// A subscription of a client.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: Arc<str>,
    pub(crate) flags: Flags,
    /// Whether the client is subscribed once all requests are answered.
    pub(crate) is_wanted: bool,
    /// The number of requests without an answer.
    pub(crate) in_flight: u16,
}

/// The agreed properties of a subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// The server has subscribed the client.
    pub(crate) is_server_side: bool,
    pub(crate) is_positioned: bool,
    pub(crate) is_recoverable: bool,
    pub(crate) has_join_leave: bool,
    /// The client is present in the channel.
    pub(crate) is_present: bool,
    /// The client has asked for a recovery.
    pub(crate) was_recovering: bool,
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
            key: place.key,
            connection: place.connection,
            encoding: endpoint.encoding,
            has_pings: !endpoint.has_frame_pings,
            awaits_pong: false,
            stage: Stage::New,
            subscriptions: Vec::new(),
            info: None,
        }
    }

    /// Whether no `connect` has arrived.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.stage, Stage::New)
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Connected)
    }

    /// Returns the subscription to a channel, which may not be wanted any more.
    pub(crate) fn subscription(&mut self, channel: &str) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| *subscription.channel == *channel)
    }

    /// Returns whether the client is subscribed to a channel, or will be when its requests are answered.
    fn wants(&self, channel: &str) -> bool {
        self.subscriptions
            .iter()
            .any(|subscription| subscription.is_wanted && *subscription.channel == *channel)
    }

    /// Removes the subscription to a channel, unless requests are on their way.
    fn forget_if_settled(&mut self, channel: &str) {
        let is_settled = |subscription: &Subscription| !subscription.is_wanted && subscription.in_flight == 0;
        if let Some(at) = self.subscriptions.iter().position(|subscription| *subscription.channel == *channel)
            && self.subscriptions.get(at).is_some_and(is_settled)
        {
            self.subscriptions.swap_remove(at);
        }
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
