//! The tokens of a client: when they expire, and what they add to the client and to its subscriptions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::handshake::Identity;
use postern_core::{BearerToken, TokenCheck, Verdict};

use super::commands::{Outcome, Turn};
use super::{Client, Close, Connecting, Stage, Waiting};
use crate::ErrorCode;
use crate::channel::ChannelName;
use crate::claims::{self, Fault, Overrides, Tokens};
use crate::engine::Operation;
use crate::namespaces::Pattern;
use crate::permissions::{self, Refusal};
use crate::protocol::{Answer, Commands, ConnectRequest, Encoding, Endpoint, Request, SubRefreshRequest};
use crate::publication::ClientInfo;

/// The contents of the tokens of a client, and of the header with its channels.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    /// When the connection expires.
    expires_at: Option<Instant>,
    /// The subscriptions about which a token says something.
    grants: Vec<(Arc<str>, Grant)>,
    /// The channels that the gateway grants to the user.
    patterns: Vec<Pattern>,
    /// Whether an expiry has changed since [`Client::poll_expiry`] was called.
    is_changed: bool,
    /// When the application asks for what has expired.
    scheduled: Option<Instant>,
    /// Whether the connection has expired, and was not refreshed since.
    has_expired: bool,
    /// The check of a token by the host.
    check: Check,
}

/// The check of a connection token by the host.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// None is in progress.
    #[default]
    None,
    /// The answer is awaited.
    InProgress,
    /// The token of `connect` holds.
    Passed,
}

/// The contents of a token about a subscription.
#[derive(Debug, Default)]
pub(super) struct Grant {
    /// When it expires.
    pub(super) expires_at: Option<Instant>,
    /// The information about it for other subscribers.
    pub(super) info: Option<Arc<[u8]>>,
    /// A value for the client, until it is pushed.
    pub(super) data: Option<Arc<[u8]>>,
    /// Options that replace options of the namespace.
    pub(super) overrides: Overrides,
}

impl Grant {
    /// Returns the number of bytes that it occupies in memory, including the parts that it may share.
    fn memory(&self) -> usize {
        let len = |bytes: &Option<Arc<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        size_of::<(Arc<str>, Grant)>() + len(&self.info) + len(&self.data)
    }
}

/// Something that has expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expired {
    Connection,
    /// The subscription to this channel.
    Subscription(Arc<str>),
}

impl Turn<'_> {
    /// Returns the time of an expiry in seconds since 1970, where `time` is now. A time that cannot be expressed is never.
    fn instant(&self, expires_at: Option<u64>, time: u64) -> Option<Instant> {
        self.now.checked_add(Duration::from_secs(expires_at?.saturating_sub(time)))
    }

    /// Returns whether the host checks connection tokens.
    pub(super) fn are_tokens_checked_by_host(&self) -> bool {
        self.config.tokens.as_deref().is_some_and(Tokens::are_checked_by_host)
    }

    /// Returns the seconds until an expiry, rounded up.
    pub(super) fn ttl(&self, expires_at: Option<Instant>) -> Option<u32> {
        let left = expires_at?.saturating_duration_since(self.now).as_nanos().div_ceil(1_000_000_000);
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }
}

impl Client {
    /// Takes over the channels that the gateway grants to the user. A text that is not a pattern grants nothing.
    pub(crate) fn add_patterns(&mut self, header: &str) {
        let (patterns, _) = permissions::parse_grants(header);
        if !patterns.is_empty() {
            self.credentials.get_or_insert_default().patterns = patterns;
        }
    }

    /// Returns the channels that the gateway grants to the user.
    pub(super) fn patterns(&self) -> &[Pattern] {
        self.credentials.as_ref().map_or(&[], |credentials| &credentials.patterns)
    }

    /// Verifies a connection token, and takes over its expiry and its information about the client.
    ///
    /// # Errors
    /// See [`claims`].
    pub(super) fn accept_connection_token(
        &mut self,
        token: &str,
        turn: &Turn<'_>,
    ) -> Result<claims::Connection, Refusal> {
        let tokens = turn.config.tokens.as_deref().ok_or(Fault::Invalid.refuse_connection())?;
        let time = tokens.time();
        let claims = tokens.connection(token).map_err(Fault::refuse_connection)?;
        let mut connection = claims::connection(claims, turn.identity.id(), time)?;
        if let Some(info) = connection.info.take() {
            let (user, client) = (turn.identity.id().into(), self.id);
            let info = ClientInfo { user, client, conn_info: Some(info.into()), chan_info: None };
            self.info = Some(Arc::new(info));
        }
        let expires_at = turn.instant(connection.expires_at, time);
        self.set_expiry(expires_at);
        Ok(connection)
    }

    /// Verifies a subscription token for a channel.
    ///
    /// # Errors
    /// See [`claims`].
    pub(super) fn verify_subscription_token(
        token: &str,
        channel: ChannelName<'_>,
        turn: &Turn<'_>,
    ) -> Result<Grant, Refusal> {
        let tokens = turn.config.tokens.as_deref().ok_or(Fault::Invalid.refuse_subscription())?;
        let time = tokens.time();
        let claims = tokens.subscription(token).map_err(Fault::refuse_subscription)?;
        let subscription = claims::subscription(claims, turn.identity.id(), channel, time)?;
        Ok(Grant {
            expires_at: turn.instant(subscription.expires_at, time),
            info: subscription.info.map(Arc::from),
            data: None,
            overrides: subscription.overrides,
        })
    }

    /// Sets what a token says about the subscription to a channel. `None` if it needs no token.
    pub(super) fn set_grant(&mut self, channel: &Arc<str>, grant: Option<Grant>) {
        self.forget_grant(channel);
        let says_something = |grant: &Grant| {
            grant.expires_at.is_some()
                || grant.info.is_some()
                || grant.data.is_some()
                || grant.overrides != Overrides::default()
        };
        if let Some(grant) = grant.filter(says_something) {
            let credentials = self.credentials.get_or_insert_default();
            credentials.is_changed |= grant.expires_at.is_some();
            let memory = grant.memory();
            credentials.grants.push((channel.clone(), grant));
            self.add_memory(memory);
        }
    }

    /// Takes the value for the client out of what the server has said about the subscription to a channel.
    pub(super) fn take_data(&mut self, channel: &str) -> Option<Arc<[u8]>> {
        let mut grants = self.credentials.as_mut()?.grants.iter_mut();
        let data = grants.find(|(of, _)| **of == *channel)?.1.data.take()?;
        self.remove_memory(data.len());
        Some(data)
    }

    /// Sets when the connection expires.
    pub(super) fn set_expiry(&mut self, expires_at: Option<Instant>) {
        if expires_at.is_some() || self.credentials.is_some() {
            let credentials = self.credentials.get_or_insert_default();
            (credentials.expires_at, credentials.is_changed) = (expires_at, true);
            credentials.has_expired = false;
        }
    }

    /// Removes what a token says about the subscription to a channel.
    pub(crate) fn forget_grant(&mut self, channel: &str) {
        let Some(credentials) = &mut self.credentials else { return };
        if let Some(at) = credentials.grants.iter().position(|(of, _)| **of == *channel) {
            let memory = credentials.grants.swap_remove(at).1.memory();
            self.remove_memory(memory);
        }
    }

    /// Returns what a token says about the subscription to a channel.
    pub(super) fn grant(&self, channel: &str) -> Option<&Grant> {
        let mut grants = self.credentials.as_ref()?.grants.iter();
        grants.find(|(of, _)| **of == *channel).map(|(_, grant)| grant)
    }

    /// Whether the connection has expired, and was not refreshed since.
    pub(crate) fn has_expired(&self) -> bool {
        self.credentials.as_ref().is_some_and(|credentials| credentials.has_expired)
    }

    /// Returns when the connection expires.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        self.credentials.as_ref()?.expires_at
    }

    /// Returns when the subscription to a channel expires.
    pub(super) fn subscription_expires_at(&self, channel: &str) -> Option<Instant> {
        self.grant(channel)?.expires_at
    }

    /// Returns the client as others in a channel see it.
    pub(super) fn info_in(
        &mut self,
        channel: &str,
        identity: &Identity,
        share_email: bool,
    ) -> Arc<ClientInfo> {
        let info = self.info(identity, share_email);
        match self.grant(channel).and_then(|grant| grant.info.clone()) {
            None => info,
            chan_info => Arc::new(ClientInfo { chan_info, ..ClientInfo::clone(&info) }),
        }
    }

    /// Returns the token in the first message of a client that has no identity yet, which must be a `connect`.
    pub(crate) fn token_of(endpoint: Endpoint, is_bare: bool, message: &[u8]) -> Option<BearerToken> {
        let mut request = if is_bare {
            Request::Connect(ConnectRequest::decode(Encoding::Json, message).ok()?)
        } else {
            Commands::new(endpoint.encoding, message).next()?.ok()?.request
        };
        let token = if let Request::Connect(request) = &request {
            BearerToken::new(request.token.as_bytes()).ok()
        } else {
            None
        };
        request.wipe_tokens();
        token
    }

    /// Returns whether the host must check the token of a `connect` before it is executed.
    pub(super) fn must_be_checked(&self, token: &str, turn: &Turn<'_>) -> bool {
        !token.is_empty() && !self.has_passed_check() && turn.are_tokens_checked_by_host()
    }

    /// Begins to check the token of a `connect`.
    ///
    /// # Errors
    /// As [`refuse_connect`](Client::refuse_connect).
    pub(super) fn check_connect(&mut self, id: u32, token: &str, turn: &mut Turn<'_>) -> Result<(), Close> {
        if let Err(refusal) = self.check_token(id, token, turn) {
            return self.refuse_connect(id, refusal, turn);
        }
        let connecting =
            Connecting { id, missing: 0, answers: Vec::new(), held: Vec::new(), waiting: Vec::new() };
        self.stage = Stage::Checking(Box::new(connecting));
        Ok(())
    }

    /// Keeps a message whose `connect` has a token that is being checked, and was executed up to this command. Returns whether it
    /// has.
    pub(super) fn keep_if_checking(&mut self, message: &[u8], executed: usize) -> bool {
        let Stage::Checking(connecting) = &mut self.stage else { return false };
        connecting.waiting.push(Waiting::new(message, executed));
        true
    }

    /// Asks the host about a connection token, one at a time.
    fn check_token(&mut self, command: u32, token: &str, turn: &mut Turn<'_>) -> Outcome {
        let token = BearerToken::new(token.as_bytes()).map_err(|_| Fault::Invalid.refuse_connection())?;
        let credentials = self.credentials.get_or_insert_default();
        if credentials.check == Check::InProgress {
            return Err(ErrorCode::TooManyRequests.into());
        }
        credentials.check = Check::InProgress;
        let check = TokenCheck::new(token, turn.identity);
        turn.request(command, "".into(), Operation::CheckToken(Box::new(check)));
        Ok(())
    }

    /// Handles the result of the check of a token.
    ///
    /// # Errors
    /// The Close that ends the connection.
    pub(super) fn handle_verdict(
        &mut self,
        command: u32,
        verdict: &Verdict,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        if let Some(credentials) = &mut self.credentials {
            credentials.check = Check::None;
        }
        let refusal = match verdict {
            Verdict::Valid(user) if user.id() == turn.identity.id() => {
                let time = turn.config.tokens.as_deref().map_or(0, Tokens::time);
                self.set_expiry(turn.instant(user.token_exp(), time));
                None
            }
            // As for a token that is verified here.
            Verdict::Valid(_) => Some(Fault::Invalid.refuse_connection()),
            // SDKs get another token then.
            Verdict::Refused => Some(ErrorCode::TokenExpired.into()),
            Verdict::Unknown => Some(Fault::Unavailable.refuse_connection()),
        };
        if !matches!(self.stage, Stage::Checking(_)) {
            return match refusal {
                None => {
                    self.answer_refresh(command, turn);
                    Ok(())
                }
                Some(Refusal::Error(error)) => {
                    turn.refuse(command, error);
                    Ok(())
                }
                Some(Refusal::Disconnect(disconnect)) => Err(disconnect.into()),
            };
        }
        match refusal {
            Some(refusal) => self.refuse_connect(command, refusal, turn),
            None => {
                self.credentials.get_or_insert_default().check = Check::Passed;
                Ok(())
            }
        }
    }

    /// Whether the token of `connect` holds, by the check of the host.
    pub(super) fn has_passed_check(&self) -> bool {
        self.credentials.as_ref().is_some_and(|known| known.check == Check::Passed)
    }

    /// Executes `refresh`.
    pub(super) fn refresh(&mut self, id: u32, token: &str, turn: &mut Turn<'_>) -> Outcome {
        if turn.are_tokens_checked_by_host() {
            return self.check_token(id, token, turn);
        }
        // Its channels count with `connect` only.
        self.accept_connection_token(token, turn)?;
        self.answer_refresh(id, turn);
        Ok(())
    }

    fn answer_refresh(&self, id: u32, turn: &mut Turn<'_>) {
        let (client, version, expires) =
            (self.id.to_string(), &*turn.config.version, turn.ttl(self.expires_at()));
        turn.answer(id, Answer::Refresh { client: &client, version, expires });
    }

    /// Executes `sub_refresh`.
    pub(super) fn sub_refresh(
        &mut self,
        id: u32,
        request: &SubRefreshRequest<'_>,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        let (channel, _) = permissions::find_channel(&turn.config.namespaces, &request.channel)?;
        if request.kind != 0 {
            return Err(ErrorCode::NotAvailable.into());
        }
        if !self.wants(&request.channel, turn.hub) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        if request.token.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        let grant = Client::verify_subscription_token(&request.token, channel, turn)?;
        let expires = turn.ttl(grant.expires_at);
        let known = self.grant(&request.channel).and_then(|grant| grant.info.clone());
        let grant = Grant { info: grant.info.or(known), ..grant };
        self.set_grant(&request.channel.as_ref().into(), Some(grant));
        turn.answer(id, Answer::SubRefresh { expires });
        Ok(())
    }

    /// Returns when to call [`expired`](Client::expired), if that is earlier than the last time that was returned.
    /// `grace` is the time that a client has for a new token after the old one has expired.
    pub(crate) fn poll_expiry(&mut self, grace: Duration) -> Option<Instant> {
        let credentials = self.credentials.as_deref_mut().filter(|credentials| credentials.is_changed)?;
        credentials.is_changed = false;
        let of_subscriptions = credentials.grants.iter().filter_map(|(_, grant)| grant.expires_at);
        let next = of_subscriptions.chain(credentials.expires_at).min()?.checked_add(grace)?;
        if credentials.scheduled.is_some_and(|at| at <= next) {
            return None;
        }
        credentials.scheduled = Some(next);
        Some(next)
    }

    /// Returns something that has expired, once. Afterwards [`poll_expiry`](Client::poll_expiry) has another time.
    pub(crate) fn expired(&mut self, now: Instant, grace: Duration) -> Option<Expired> {
        let credentials = self.credentials.as_deref_mut()?;
        let is_due = |expires_at: &mut Option<Instant>| {
            expires_at.take_if(|at| at.checked_add(grace).is_some_and(|at| at <= now)).is_some()
        };
        credentials.is_changed = true;
        credentials.scheduled.take_if(|at| *at <= now);
        if is_due(&mut credentials.expires_at) {
            credentials.has_expired = true;
            return Some(Expired::Connection);
        }
        let mut grants = credentials.grants.iter_mut();
        grants.find_map(|(channel, grant)| {
            is_due(&mut grant.expires_at).then(|| Expired::Subscription(channel.clone()))
        })
    }
}
