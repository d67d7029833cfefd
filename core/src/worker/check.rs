//! Checks of tokens that clients send on open connections.
//!
//! The worker verifies no token. It emits [`WorkerEffect::CheckToken`](super::WorkerEffect::CheckToken), and gets the verdict as
//! [`WorkerMessage::TokenChecked`](super::WorkerMessage::TokenChecked).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::in_band;
use super::{Application, Key, Worker};
use crate::bearer_token::{TokenCheck, Verdict};
use crate::handshake::{HandshakeError, Identity};
use crate::id::ConnectionId;
use crate::record::{CredentialsEnd, Record, Recorder, RefreshRefusal};
use crate::session::SessionConfig;

/// The messages of clients of [`Echo`](super::Echo) that contain tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InBandConfig {
    /// Whether a text message `{"type":"refresh","token":…}` refreshes the token of its connection. Default false: it is a
    /// message like any other.
    pub refresh: bool,
}

/// Connections whose clients identify themselves by their first message: see
/// [`HandshakeConfig::first_message_paths`](crate::handshake::HandshakeConfig::first_message_paths).
#[derive(Debug, Clone)]
pub struct FirstMessageConfig {
    /// The limits until the user is known. Default: as of other sessions, with a message of at most
    /// [`MAX_MESSAGE`](FirstMessageConfig::MAX_MESSAGE).
    pub session: Arc<SessionConfig>,
    /// The longest time from the 101 to the verdict about the token. Default 10 s.
    pub timeout: Duration,
    /// The most such connections of a worker. One more is refused with 503. Default 1,000.
    pub max_waiting: usize,
}

impl FirstMessageConfig {
    /// The longest first message, in bytes: a token of [`BearerToken::MAX`](crate::BearerToken::MAX), and as much around it.
    pub const MAX_MESSAGE: usize = 16 * 1024;

    /// Returns the limits until the user is known, for sessions with these limits.
    pub fn session(limits: &SessionConfig) -> Arc<SessionConfig> {
        let max_message = limits.max_message.min(FirstMessageConfig::MAX_MESSAGE);
        let max_frame = limits.max_frame.min(FirstMessageConfig::MAX_MESSAGE);
        Arc::new(SessionConfig { max_message, max_frame, ..limits.clone() })
    }
}

impl Default for FirstMessageConfig {
    fn default() -> FirstMessageConfig {
        FirstMessageConfig {
            session: FirstMessageConfig::session(&SessionConfig::default()),
            timeout: Duration::from_secs(10),
            max_waiting: 1_000,
        }
    }
}

/// A token to be checked for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRequest {
    /// The connection that waits for the verdict.
    pub ticket: CheckTicket,
    /// The token.
    pub check: TokenCheck,
}

/// The connection that waits for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckTicket {
    pub(super) key: Key,
    pub(super) id: ConnectionId,
    pub(super) purpose: CheckPurpose,
}

/// Why a token is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckPurpose {
    /// Its client wants to refresh the token of its connection.
    Refresh,
    /// It identifies its client.
    FirstMessage,
    /// A message of its client waits.
    Revalidation,
}

/// When the token of a connection is checked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revalidate {
    /// Before each message.
    EachMessage,
    /// Before the first message that arrives this time after the last check.
    After(Duration),
}

impl<A: Application> Worker<A> {
    /// Handles the verdict about a token. The connection may have gone.
    pub(super) fn handle_verdict(
        &mut self,
        ticket: CheckTicket,
        verdict: &Verdict,
        now: Instant,
        recorder: &mut impl Recorder,
    ) {
        let CheckTicket { key, id, purpose } = ticket;
        if self.connections.get(key.0).is_none_or(|connection| connection.id != id) {
            return;
        }
        match purpose {
            CheckPurpose::Refresh => self.finish_in_band_refresh(key, verdict, now, recorder),
            CheckPurpose::FirstMessage => self.turn(key, now, |connection, context, turn| {
                connection.identify(context, turn, verdict, recorder);
            }),
            CheckPurpose::Revalidation => self.finish_revalidation(key, verdict, now, recorder),
        }
        // The messages that have waited for the verdict.
        if self.wants_read(key) && !self.is_read_blocked(key, recorder) {
            self.turn(key, now, |connection, context, turn| {
                connection.handle_deferred(context, turn, recorder);
            });
        }
        self.due.push_back(key);
    }

    fn finish_in_band_refresh(
        &mut self,
        key: Key,
        verdict: &Verdict,
        now: Instant,
        recorder: &mut impl Recorder,
    ) {
        let refreshed = match verdict {
            Verdict::Valid(user) => self.refresh_in_band(key, user, now),
            Verdict::Refused => Err(RefreshRefusal::TokenRefused),
            Verdict::Unknown => Err(RefreshRefusal::Unavailable),
        };
        self.turn(key, now, |connection, context, turn| {
            connection.finish_refresh(turn, refreshed, context.config, recorder);
        });
    }

    fn finish_revalidation(
        &mut self,
        key: Key,
        verdict: &Verdict,
        now: Instant,
        recorder: &mut impl Recorder,
    ) {
        let end = match verdict {
            Verdict::Valid(user) => match self.refresh_in_band(key, user, now) {
                Ok(_) => None,
                Err(_) => Some(CredentialsEnd::Refused),
            },
            Verdict::Refused => Some(CredentialsEnd::Refused),
            Verdict::Unknown => Some(CredentialsEnd::Unchecked),
        };
        self.turn(key, now, |connection, context, turn| match end {
            None => connection.pass_check(now, context.config),
            Some(cause) => connection.end_credentials(turn, cause, recorder),
        });
    }

    /// Refreshes the token of an open connection. Returns when it expires.
    fn refresh_in_band(
        &mut self,
        key: Key,
        user: &Identity,
        now: Instant,
    ) -> Result<Option<u64>, RefreshRefusal> {
        let known = self.connections.get(key.0).and_then(|connection| connection.user());
        if known.is_none_or(|known| known.id() != user.id()) {
            return Err(RefreshRefusal::OtherUser);
        }
        super::connection::check_token(user, &self.config).map_err(|error| {
            let is_revoked = matches!(error, HandshakeError::Revoked);
            if is_revoked { RefreshRefusal::Revoked } else { RefreshRefusal::Expired }
        })?;
        // An older token does not shorten the time.
        let exp = known.and_then(Identity::token_exp);
        if exp.is_none_or(|exp| user.token_exp().is_some_and(|new| exp < new)) {
            if let Some(connection) = self.connections.get_mut(key.0) {
                connection.set_token(user.token());
            }
            self.schedule_expiry(key, now);
        }
        Ok(self.connections.get(key.0).and_then(|connection| connection.user()?.token_exp()))
    }
}

/// Records a refresh, or its refusal, and returns the answer.
pub(super) fn answer(
    connection: ConnectionId,
    identity: &Identity,
    refreshed: Result<Option<u64>, RefreshRefusal>,
    recorder: &mut impl Recorder,
) -> String {
    match refreshed {
        Ok(exp) => {
            recorder.record(&Record::TokenRefreshed { connection, identity });
            in_band::accepted("refreshed", exp)
        }
        Err(refusal) => {
            recorder.record(&Record::RefreshRefused { connection, identity, refusal });
            in_band::refused(refusal)
        }
    }
}
