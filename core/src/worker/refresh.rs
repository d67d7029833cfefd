//! Refreshes: a user whose gateway has validated a newer token keeps connections open.
//!
//! The request arrives at any worker, as an ordinary HTTP request. That worker asks the others, and answers when all have.

use std::sync::Arc;
use std::time::Instant;

use super::admin::Selector;
use super::check::CheckRequest;
use super::message::{PeerMessage, WorkerEffect};
use super::{Application, Key, Worker};
use crate::bearer_token::BearerToken;
use crate::handshake::{HandshakeError, Identity, Query};
use crate::id::ConnectionId;
use crate::policy::Replaced;
use crate::record::{Record, Recorder};

/// A refresh of the token of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The worker that has the request, and the connection on which it arrived.
    place: (usize, Key, ConnectionId),
    target: Target,
    /// The user and the new token.
    identity: Identity,
    exp: u64,
    /// The new token, if it is checked again.
    token: Option<BearerToken>,
}

/// The connections that a refresh names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// The connections of a session.
    Session(String),
    /// One connection.
    Connection(ConnectionId),
}

/// The outcome of a refresh at a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refreshed {
    /// The worker that has the request, and the connection on which it arrived.
    place: (usize, Key, ConnectionId),
    outcome: RefreshOutcome,
}

/// The result of a refresh at a worker. Of several outcomes, the last one in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RefreshOutcome {
    /// No connection.
    NotFound,
    /// A connection that is closing.
    Closing,
    /// A connection of another user.
    OtherUser,
    /// At least one connection, which has the new token.
    Refreshed,
}

/// A request of a connection that may concern other workers, or the process.
#[derive(Debug)]
pub(super) enum PeerRequest {
    /// Close the older connection of a user.
    Replace(Replaced),
    /// Refresh other connections.
    Refresh(Refresh),
    /// Check a token.
    Check(Box<CheckRequest>),
}

impl Refresh {
    /// Creates the refresh that a request asks for. `place` is the worker and the connection on which it arrived.
    ///
    /// # Errors
    /// [`HandshakeError::RefreshTarget`], [`HandshakeError::RefreshWithoutExpiry`].
    pub(super) fn new(
        identity: &Identity,
        token: Option<BearerToken>,
        query: Query<'_>,
        place: (usize, Key, ConnectionId),
    ) -> Result<Refresh, HandshakeError> {
        let target = match (query.get("session"), query.get("connection")) {
            (Some(_), None) => {
                Target::Session(query.decoded("session").ok_or(HandshakeError::RefreshTarget)?)
            }
            (None, Some(number)) => {
                let number = number.parse().map_err(|_| HandshakeError::RefreshTarget)?;
                Target::Connection(ConnectionId(number))
            }
            (Some(_), Some(_)) => return Err(HandshakeError::RefreshTarget),
            (None, None) => {
                let session = identity.session_id().ok_or(HandshakeError::RefreshTarget)?;
                Target::Session(session.to_owned())
            }
        };
        let exp = identity.token_exp().ok_or(HandshakeError::RefreshWithoutExpiry)?;
        Ok(Refresh { place, target, identity: identity.clone(), exp, token })
    }
}

impl<A: Application> Worker<A> {
    /// Performs a refresh whose request has arrived here, and asks the other workers. Returns the connection of the request, if
    /// it was answered.
    pub(super) fn begin_refresh(
        &mut self,
        refresh: Refresh,
        now: Instant,
        recorder: &mut impl Recorder,
    ) -> Option<Key> {
        let outcome = self.refresh_here(&refresh, now, recorder);
        // No two connections have the same number.
        let is_complete =
            matches!(refresh.target, Target::Connection(_)) && outcome != RefreshOutcome::NotFound;
        let refreshed = Refreshed { place: refresh.place, outcome };
        let (refresh, mut asked) = (Arc::new(refresh), 0);
        let others = (0..self.config.workers).filter(|worker| *worker != self.config.number);
        for worker in others.filter(|_| !is_complete) {
            let message = PeerMessage::Refresh(refresh.clone());
            self.effects.push_back(WorkerEffect::ToPeer(worker, message));
            asked += 1;
        }
        self.add_refreshed(&refreshed, Some(asked), now, recorder);
        (asked == 0).then_some(refreshed.place.1)
    }

    /// Performs a refresh whose request has arrived at another worker, and answers it.
    pub(super) fn refresh_for_peer(&mut self, refresh: &Refresh, now: Instant, recorder: &mut impl Recorder) {
        let outcome = self.refresh_here(refresh, now, recorder);
        let message = PeerMessage::Refreshed(Refreshed { place: refresh.place, outcome });
        self.effects.push_back(WorkerEffect::ToPeer(refresh.place.0, message));
    }

    /// Handles the answer of another worker.
    pub(super) fn handle_refreshed(
        &mut self,
        refreshed: &Refreshed,
        now: Instant,
        recorder: &mut impl Recorder,
    ) {
        self.add_refreshed(refreshed, None, now, recorder);
        self.due.push_back(refreshed.place.1);
    }

    fn add_refreshed(
        &mut self,
        refreshed: &Refreshed,
        asked: Option<u32>,
        now: Instant,
        recorder: &mut impl Recorder,
    ) {
        let (_, key, id) = refreshed.place;
        // The client may have gone.
        if self.connections.get(key.0).is_none_or(|connection| connection.id != id) {
            return;
        }
        self.turn(key, now, |connection, context, turn| {
            connection.add_refreshed(context, turn, (refreshed.outcome, asked), recorder);
        });
    }

    /// Refreshes the connections of this worker.
    fn refresh_here(
        &mut self,
        refresh: &Refresh,
        now: Instant,
        recorder: &mut impl Recorder,
    ) -> RefreshOutcome {
        let selector = match &refresh.target {
            Target::Session(id) => Selector::Session(id.clone()),
            Target::Connection(id) => Selector::Connection(*id),
        };
        let mut outcome = RefreshOutcome::NotFound;
        for key in self.find(&selector) {
            outcome = self.refresh_one(key, refresh, now, recorder).max(outcome);
        }
        outcome
    }

    fn refresh_one(
        &mut self,
        key: Key,
        refresh: &Refresh,
        now: Instant,
        recorder: &mut impl Recorder,
    ) -> RefreshOutcome {
        let is_revoked = self.expiries.is_revoked(key);
        let Some(connection) = self.connections.get_mut(key.0) else { return RefreshOutcome::NotFound };
        let is_open = connection.is_open() && !is_revoked;
        let Some(user) = connection.user() else { return RefreshOutcome::NotFound };
        if user.id() != refresh.identity.id() {
            return RefreshOutcome::OtherUser;
        }
        if !is_open {
            return RefreshOutcome::Closing;
        }
        // An older token does not shorten the time.
        if user.token_exp().is_none_or(|exp| exp < refresh.exp) {
            connection.set_token(refresh.identity.token());
            if let Some(token) = &refresh.token {
                connection.keep_token(token.clone(), now, &self.config);
            }
            self.schedule_expiry(key, now);
        }
        if let Some(connection) = self.connections.get(key.0)
            && let Some(identity) = connection.user()
        {
            recorder.record(&Record::TokenRefreshed { connection: connection.id, identity });
        }
        RefreshOutcome::Refreshed
    }
}
