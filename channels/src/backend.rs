//! Commands of a backend to clients: plain data that crosses threads.

use std::sync::Arc;
use std::time::Instant;

use postern_core::CloseCode;
use postern_core::handshake::Identity;
use postern_core::worker::OutgoingMessage;

use crate::claims::Overrides;
use crate::client::Client;
use crate::protocol::StreamPosition;
use crate::publication::ClientId;

/// A command to clients, in addition to those that [`Exchange`](crate::exchange::Exchange) executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCommand {
    /// Subscribes clients of channels, with a push. Clients that are subscribed already, or that cannot be, are left out.
    Subscribe(Box<ServerSubscription>),
    /// Changes when the tokens of clients expire. Clients of channels get a push.
    Refresh {
        /// When they expire. `None`: never.
        expires_at: Option<Instant>,
        /// The new information about clients of channels for subscribers: a compact JSON text. `None`: as before.
        info: Option<Arc<[u8]>>,
    },
    /// Closes connections, because their credentials have expired.
    Expire,
    /// Ends subscriptions, with a push.
    Unsubscribe {
        /// The channel. `None`: all channels of the client.
        channel: Option<Arc<str>>,
    },
    /// Closes connections. Without a code and a reason, a client of channels gets
    /// [`Disconnect::ForceDisconnect`](crate::Disconnect::ForceDisconnect), and a client of echo
    /// [`FORBIDDEN`](postern_core::close_code::FORBIDDEN).
    Disconnect {
        /// The code and the reason of the Close.
        close: Option<(CloseCode, Box<str>)>,
    },
    /// Sends a message to clients of echo.
    Send(OutgoingMessage),
}

/// A subscription that the server makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerSubscription {
    /// The channel.
    pub channel: Box<str>,
    /// The information about the subscription for other subscribers: a compact JSON text.
    pub info: Option<Arc<[u8]>>,
    /// A value for the client: a compact JSON text.
    pub data: Option<Arc<[u8]>>,
    /// When it expires. `None`: never.
    pub expires_at: Option<Instant>,
    /// The position after which the client gets the publications that are kept.
    pub recover_since: Option<StreamPosition<'static>>,
    /// Options that replace options of the namespace.
    pub overrides: Overrides,
}

/// Selects among the clients of a [`Selector`](postern_core::worker::Selector). All conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientFilter {
    /// The id of the user.
    pub user: Option<Box<str>>,
    /// The id of the session that the gateway has sent.
    pub session: Option<Box<str>>,
    /// The id that the client got with the answer to `connect`.
    pub client: Option<ClientId>,
    /// The ids of clients that are not selected.
    pub except: Vec<ClientId>,
}

impl ClientFilter {
    /// Returns whether a client is selected. Clients of echo have no id.
    pub(crate) fn matches(&self, client: Option<&Client>, identity: &Identity) -> bool {
        let id = client.map(|client| client.id);
        self.user.as_deref().is_none_or(|user| user == identity.id())
            && self.session.as_deref().is_none_or(|session| identity.session_id() == Some(session))
            && self.client.is_none_or(|selected| id == Some(selected))
            && id.is_none_or(|id| !self.except.contains(&id))
    }
}
