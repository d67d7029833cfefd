//! The application of a worker: it receives the messages of all clients and answers them.

use std::fmt::Debug;

use crate::close_code::CloseCode;
use crate::frame::DataKind;
use crate::handshake::Identity;
use crate::id::ConnectionId;
use crate::input::Payload;
use crate::output::OutputSegments;
use crate::record::{Record, Recorder};
use crate::session::{Closing, Session};
use crate::turn::Turn;

/// The application of a [`Worker`](super::Worker): one value for all its connections, and one [`Client`](Application::Client)
/// for each.
///
/// The worker handles everything below messages: frames, pings, limits, the closing handshake, and pending output.
/// [`Echo`](super::Echo) is the smallest application.
pub trait Application: Debug + Sized {
    /// The state of an admitted connection.
    type Client: Debug + Default;

    /// Handles a complete data message of a client.
    ///
    /// Large payloads that are sent by [`Reply::send`] are not copied. An application that wants the message in the log calls
    /// [`Message::record`].
    fn message<'b>(
        &mut self,
        client: &mut Self::Client,
        message: Message<'_, 'b>,
        reply: &mut Reply<'_, '_, 'b>,
        recorder: &mut impl Recorder,
    );
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

/// Sends to the client whose message is handled. All output of a turn is sent by one write.
#[derive(Debug)]
pub struct Reply<'r, 't, 'b> {
    pub(super) session: &'r mut Session,
    pub(super) turn: &'r mut Turn<'t>,
    /// The large payloads of the turn, if it sends them without a copy.
    pub(super) segments: Option<&'r mut OutputSegments<'b>>,
}

impl<'b> Reply<'_, '_, 'b> {
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

    /// Begins to close the connection, with this code and at most 123 bytes of this reason. Further messages of the client are
    /// discarded.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.session.close(self.turn, code, reason);
    }
}
