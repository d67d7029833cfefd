//! The application of a worker: it receives the messages of all clients, and sends messages to them.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use super::{Fanout, Key, in_band};
use crate::bearer_token::BearerToken;
use crate::close_code::CloseCode;
use crate::frame::DataKind;
use crate::handshake::{Identity, Query};
use crate::id::ConnectionId;
use crate::input::Payload;
use crate::output::OutputSegments;
use crate::record::{Record, Recorder};
use crate::session::{Closing, Session};
use crate::turn::Turn;
use crate::wipe::Wipe;

/// The application of a [`Worker`](super::Worker): one value for all its connections, and one
/// [`Client`](Application::Client) for each.
///
/// The worker handles everything below messages: frames, pings, limits, the closing handshake, and pending output. It calls the
/// application
///
/// * for each connection, in this order: [`opened`](Application::opened), [`message`](Application::message) for each message,
///   and [`closed`](Application::closed). These have a [`Reply`] to the client.
/// * between the turns of connections: [`inbound`](Application::inbound) and
///   [`handle_timeout`](Application::handle_timeout). These have a [`Fanout`] to any clients.
///
/// A message that goes to other clients is kept until [`handle_timeout`](Application::handle_timeout), or it becomes an
/// [effect](Application::poll_effect) that the runtime sends to all workers as an inbound event.
///
/// [`Echo`](super::Echo) is the smallest application. The documentation of the [crate](crate#an-application-of-your-own) has
/// one whose clients send messages to each other.
pub trait Application: Debug + Sized {
    /// The state of an admitted connection. It is created before [`opened`](Application::opened).
    type Client: Debug + Default;
    /// An event from outside of the worker: the value of [`WorkerMessage::Application`](super::WorkerMessage::Application).
    /// [`Infallible`](std::convert::Infallible) if there are none.
    type Inbound: Debug;
    /// A request to the process around the worker: the value of
    /// [`WorkerEffect::Application`](super::WorkerEffect::Application). [`Infallible`](std::convert::Infallible) if there are
    /// none.
    type Effect: Debug;

    /// Returns the token in the first message of a client that has no identity yet: see
    /// [`HandshakeConfig::first_message_paths`](crate::handshake::HandshakeConfig::first_message_paths). `None` refuses the
    /// client. If the token holds, [`opened`](Application::opened) follows, and for a client without a [short
    /// path](Application::has_short_path) [`message`](Application::message) with this message.
    fn token_of(&self, message: &FirstMessage<'_>) -> Option<BearerToken> {
        in_band::token(message.payload).and_then(Result::ok).filter(|_| message.kind == DataKind::Text)
    }

    /// Handles that a user is admitted. The replies follow the 101.
    fn opened(
        &mut self,
        client: &mut Self::Client,
        opening: &Opening<'_>,
        reply: &mut Reply<'_, '_, '_>,
        recorder: &mut impl Recorder,
    ) {
        let _ = (client, opening, reply, recorder);
    }

    /// Handles a complete data message of a client.
    ///
    /// The worker records no messages: the application calls [`Message::record`], or makes another record.
    fn message<'b>(
        &mut self,
        client: &mut Self::Client,
        message: Message<'_, 'b>,
        reply: &mut Reply<'_, '_, 'b>,
        recorder: &mut impl Recorder,
    );

    /// Returns whether [`short_message`](Application::short_message) handles the messages of a client.
    #[inline(always)]
    fn has_short_path(client: &Self::Client) -> bool {
        let _ = client;
        true
    }

    /// Does the same as [`message`](Application::message), for a client with a [short path](Application::has_short_path). The
    /// worker inlines it, so an application with several kinds of clients handles
    /// only the simplest kind here.
    #[inline(always)]
    fn short_message<'b>(
        &mut self,
        client: &mut Self::Client,
        message: Message<'_, 'b>,
        reply: &mut Reply<'_, '_, 'b>,
        recorder: &mut impl Recorder,
    ) {
        self.message(client, message, reply, recorder);
    }

    /// Handles that a connection has ended. `key` may belong to another one afterwards.
    fn closed(&mut self, key: Key, client: Self::Client, identity: &Identity, fanout: &mut Fanout<'_, Self>) {
        let _ = (key, client, identity, fanout);
    }

    /// Handles that the server is about to close a connection, unless [`Reply::close`] or [`Fanout::close`] closes it, or the
    /// client has violated the protocol. The application may send a message first, and replace the code and the reason.
    ///
    /// It has no access to the application, because it is also called for connections to which the application is sending.
    fn closing(
        client: &mut Self::Client,
        identity: &Identity,
        close: &mut ServerClose<'_>,
        reply: &mut Reply<'_, '_, '_>,
    ) {
        let _ = (client, identity, close, reply);
    }

    /// Returns when the token expires that the client itself has presented, if it has. A connection does not end before the later
    /// one of this time and the expiry of its [identity](Identity::token_exp).
    fn token_expires_at(client: &Self::Client) -> Option<Instant> {
        let _ = client;
        None
    }

    /// Returns whether [`client_memory`](Application::client_memory) may return anything but 0 for this client. The worker calls
    /// it after each short message, and computes the memory if it returns `true`.
    #[inline(always)]
    fn has_client_memory(client: &Self::Client) -> bool {
        let _ = client;
        false
    }

    /// Returns the memory that a client can make its state occupy, in bytes, without the size of the value itself. It counts
    /// towards [`max_memory`](super::WorkerConfig::max_memory) until the connection begins to close, and a client with much of it
    /// may be evicted.
    ///
    /// The worker calls it after each turn of the connection, and after each use of [`Fanout::client`], so it must be fast. An
    /// application that overrides it overrides [`has_client_memory`](Application::has_client_memory) too.
    #[inline(always)]
    fn client_memory(client: &Self::Client) -> usize {
        let _ = client;
        0
    }

    /// Handles an event from outside of the worker.
    fn inbound(&mut self, event: Self::Inbound, fanout: &mut Fanout<'_, Self>, recorder: &mut impl Recorder);

    /// Returns the time at which [`handle_timeout`](Application::handle_timeout) must be called. A time that has passed, such
    /// as [`Reply::now`], calls it before the worker waits for further events.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Handles that the time of [`poll_timeout`](Application::poll_timeout) has passed. Afterwards that must return a later
    /// time, or none.
    fn handle_timeout(&mut self, fanout: &mut Fanout<'_, Self>, recorder: &mut impl Recorder) {
        let _ = (fanout, recorder);
    }

    /// Returns the next request to the process around the worker.
    fn poll_effect(&mut self) -> Option<Self::Effect> {
        None
    }
}

/// The first message of a client that has no identity yet, and its request.
#[derive(Debug)]
#[non_exhaustive]
pub struct FirstMessage<'m> {
    /// See [`Opening::path_index`].
    pub path_index: usize,
    /// The query of the request.
    pub query: Query<'m>,
    /// The subprotocol that was answered, if any.
    pub subprotocol: Option<&'m str>,
    /// Text or binary.
    pub kind: DataKind,
    /// The payload, unmasked; valid UTF-8 if `kind` is text.
    pub payload: &'m [u8],
}

/// An admitted connection, and its request.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opening<'o> {
    /// The key of the connection, for a [`Fanout`]. It is valid until [`Application::closed`].
    pub key: Key,
    /// The number of the connection.
    pub connection: ConnectionId,
    /// The user.
    pub identity: &'o Identity,
    /// The path of the request.
    pub path: &'o str,
    /// The index in [`HandshakeConfig::paths`](crate::handshake::HandshakeConfig::paths) of the first one that matches the path.
    pub path_index: usize,
    /// The query of the request.
    pub query: Query<'o>,
    /// The subprotocol that was answered, if any.
    pub subprotocol: Option<&'o str>,
    /// The channels that the gateway grants to the user, in the header
    /// [`IdentityHeaders::channels`](crate::handshake::IdentityHeaders::channels), if any.
    pub channels: Option<&'o str>,
}

/// A complete data message.
#[derive(Debug)]
pub struct Message<'m, 'b> {
    /// The number of the connection.
    pub connection: ConnectionId,
    /// The user that sent it.
    pub identity: &'m Identity,
    /// Text or binary.
    pub kind: DataKind,
    /// The payload, unmasked; valid UTF-8 if `kind` is text.
    pub payload: Payload<'b>,
    /// Whether the recorder wants messages.
    pub(super) is_recorded: bool,
}

impl Message<'_, '_> {
    /// Records the message, unless the recorder does not [want messages](Recorder::wants_messages).
    #[inline(always)]
    pub fn record(&self, recorder: &mut impl Recorder) {
        if self.is_recorded {
            let &Message { connection, identity, kind, ref payload, .. } = self;
            recorder.record(&Record::Message { connection, identity, kind, payload });
        }
    }
}

/// A Close that the server is about to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerClose<'c> {
    /// The code, which says the cause: see [`close_code`](crate::close_code).
    pub code: CloseCode,
    /// The reason, of which 123 bytes are sent.
    pub reason: &'c str,
    /// The time after which the client should reconnect, if the process stops. It spreads the clients over some seconds.
    pub reconnect_after: Option<Duration>,
}

/// Sends to the client whose event is handled. All output of a turn is sent by one write.
#[derive(Debug)]
pub struct Reply<'r, 't, 'b> {
    pub(super) session: &'r mut Session,
    pub(super) turn: &'r mut Turn<'t>,
    /// The large payloads of the turn, if it sends them without a copy.
    pub(super) segments: Option<&'r mut OutputSegments<'b>>,
}

impl<'b> Reply<'_, '_, 'b> {
    /// Returns the current time.
    pub fn now(&self) -> Instant {
        self.turn.now
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// [`Closing`] after a Close in either direction; nothing is sent then.
    pub fn text(&mut self, text: &str) -> Result<(), Closing> {
        self.session.send_text(self.turn, text)
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// [`Closing`] after a Close in either direction; nothing is sent then.
    pub fn binary(&mut self, payload: &[u8]) -> Result<(), Closing> {
        self.session.send_binary(self.turn, payload)
    }

    /// Sends a message whose payload may be the one that was received. A large payload is not copied. The payload of a text
    /// message must be UTF-8, which is not checked.
    ///
    /// # Errors
    /// [`Closing`] after a Close in either direction; nothing is sent then.
    #[inline(always)]
    pub fn send(&mut self, kind: DataKind, payload: Payload<'b>) -> Result<(), Closing> {
        self.session.send_payload(self.turn, kind, payload, self.segments.as_deref_mut())
    }

    /// Overwrites a message after it was handled, because it contains a credential: this payload, and the buffers in which it
    /// was received.
    pub fn wipe(&mut self, mut payload: Payload<'_>) {
        payload.wipe();
        self.turn.codec.wipe(Wipe::Buffers);
    }

    /// Begins to close the connection, with this code and at most 123 bytes of this reason. Further messages of the client are
    /// discarded.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.session.close(self.turn, code, reason);
    }
}
