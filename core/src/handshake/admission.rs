//! An upgrade that passed all checks, and the answer to it.

use std::borrow::Cow;

use super::config::HandshakeConfig;
use super::identity::Identity;
use super::request_id::RequestId;
use super::respond;
use super::subprotocol::OfferedSubprotocols;
use crate::deflate::Deflate;
use crate::id::ConnectionId;

/// An upgrade request that passed all checks and can be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission<'h> {
    pub(super) key: &'h [u8],
    pub(super) subprotocols: OfferedSubprotocols<'h>,
    pub(super) deflate: Option<Deflate>,
    pub(super) identity: Identity,
}

/// The outcome of an accepted upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<'c> {
    /// The admitted user.
    pub identity: Identity,
    /// The subprotocol that was answered.
    pub subprotocol: Option<Cow<'c, str>>,
    /// Whether the client offered subprotocols and none of them was answered. A browser fails the connection then.
    pub is_offer_unanswered: bool,
    /// The negotiated compression, if any. Pass it to [`Session::with_deflate`](crate::Session::with_deflate).
    pub deflate: Option<Deflate>,
}

impl Admission<'_> {
    /// Returns the user, as the gateway has identified it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Appends the 101 to `out` and returns the user. Everything after it is frames, in both directions. `connection` is
    /// the one on which the request arrived.
    pub fn accept<'c>(
        self,
        out: &mut Vec<u8>,
        config: &'c HandshakeConfig,
        connection: ConnectionId,
    ) -> Accepted<'c> {
        let subprotocol = self.subprotocols.answer(config);
        let request_id = RequestId::new(self.identity.request_id(), config.instance, connection);
        respond::switch_protocols(
            out,
            self.key,
            subprotocol.as_deref(),
            self.deflate,
            (&config.request_id, request_id),
        );
        let is_offer_unanswered = self.subprotocols.is_unanswered();
        Accepted { identity: self.identity, subprotocol, is_offer_unanswered, deflate: self.deflate }
    }
}
