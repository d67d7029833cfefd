//! The connection: opening, `connect`, pings, tokens, and its loss.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::requests::Kind;
use super::{Action, Machine};
use crate::close::{codes, may_reconnect};
use crate::event::{Event, RequestError, TokenError};
use crate::protocol::{
    Command, ConnectRequest, ConnectResult, Expiry, Method, RefreshRequest, ServerError, SubscribeRequest,
};

/// The state of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Disconnected,
    /// The next attempt is made at this time.
    Waiting {
        until: Instant,
    },
    /// The driver gets a token.
    Token {
        deadline: Instant,
    },
    /// The driver opens a connection.
    Opening {
        deadline: Instant,
    },
    /// `connect` is not answered yet.
    Connecting,
    Connected {
        since: Instant,
        /// The time between two pings of the server, and before the connection counts as lost. `None`: it sends no pings.
        silence: Option<Duration>,
        /// The connection is lost if nothing arrives until then.
        deadline: Option<Instant>,
        /// Whether pings are answered.
        pong: bool,
        /// The token is refreshed at this time, or the driver is asked for it again.
        refresh_at: Option<Instant>,
    },
}

impl State {
    pub(super) fn is_connected(self) -> bool {
        matches!(self, State::Connected { .. })
    }

    pub(super) fn deadlines(self) -> impl Iterator<Item = Instant> {
        let (first, second) = match self {
            State::Waiting { until } => (Some(until), None),
            State::Token { deadline } | State::Opening { deadline } => (Some(deadline), None),
            State::Connected { deadline, refresh_at, .. } => (deadline, refresh_at),
            State::Disconnected | State::Connecting => (None, None),
        };
        first.into_iter().chain(second)
    }
}

impl Machine {
    /// Connects, and connects again after each loss of the connection. Does nothing unless the client is disconnected.
    pub fn connect(&mut self, now: Instant) {
        if self.state == State::Disconnected {
            self.failed = 0;
            self.open(now);
        }
    }

    /// Disconnects. Subscriptions stay, and are made again by [`connect`](Machine::connect).
    pub fn disconnect(&mut self) {
        if self.state != State::Disconnected {
            self.act(Action::Close(1000));
            self.end(codes::DISCONNECTED, "disconnected by the application".into());
        }
    }

    /// Handles that the driver has opened a connection.
    pub fn handle_opened(&mut self, now: Instant) {
        if !matches!(self.state, State::Opening { .. }) {
            return;
        }
        self.state = State::Connecting;
        let id = self.begin(Kind::Connect, now);
        let subs: BTreeMap<&str, SubscribeRequest<'_>> = self
            .server_subscriptions
            .iter()
            .filter_map(|(channel, position)| {
                let position = Some(position.as_ref()?);
                Some((
                    &**channel,
                    SubscribeRequest { recover: true, position, ..SubscribeRequest::default() },
                ))
            })
            .collect();
        let connect = ConnectRequest {
            token: self.token.as_deref(),
            data: self.config.data.as_deref(),
            subs,
            name: &self.config.name,
            version: &self.config.version,
        };
        let command = Command { id, method: Method::Connect(connect) };
        let text = serde_json::to_string(&command).unwrap_or_default();
        self.push_line(&text);
    }

    /// Handles that the driver could not open a connection. `is_unauthorized`: the answer was 401, so another token may help.
    pub fn handle_open_error(&mut self, reason: &str, is_unauthorized: bool, now: Instant) {
        if matches!(self.state, State::Opening { .. }) {
            if is_unauthorized && self.config.has_token_source {
                self.token = None;
            }
            self.lose(codes::NOT_CONNECTED, reason.into(), now);
        }
    }

    /// Handles the end of the connection: with the code and the reason of a Close, or [`codes::LOST`].
    pub fn handle_closed(&mut self, code: u16, reason: &str, now: Instant) {
        match self.state {
            State::Connecting | State::Connected { .. } => {}
            State::Disconnected | State::Waiting { .. } | State::Token { .. } | State::Opening { .. } => {
                return;
            }
        }
        // 3014: the state that the client keeps does not hold any more. 3500: one of the tokens is invalid.
        if code == 3014 {
            self.forget_positions();
        }
        if matches!(code, 3014 | 3500) {
            self.forget_tokens();
        }
        if code >= 1000 && !may_reconnect(code, false) {
            self.end(code, reason.into());
        } else {
            self.lose(code, reason.into(), now);
        }
    }

    /// Handles the result of [`Action::GetToken`] for the connection, or for a channel.
    pub fn handle_token(&mut self, channel: Option<&str>, result: Result<String, TokenError>, now: Instant) {
        if let Some(channel) = channel {
            return self.handle_subscription_token(channel, result, now);
        }
        match (self.state, result) {
            (State::Token { .. }, Ok(token)) => {
                self.token = Some(token);
                self.open(now);
            }
            (State::Token { .. }, Err(TokenError::Unavailable)) => {
                self.lose(codes::NOT_CONNECTED, "no token is available".into(), now);
            }
            (State::Connected { .. }, Ok(token)) => {
                self.set_refresh(None);
                let id = self.begin(Kind::Refresh, now);
                self.push(id, Method::Refresh(RefreshRequest { token: &token }));
                self.token = Some(token);
            }
            (State::Connected { .. }, Err(TokenError::Unavailable)) => self.refresh_later(now),
            (State::Token { .. } | State::Connected { .. }, Err(TokenError::Unauthorized)) => {
                self.act(Action::Close(1000));
                self.end(codes::UNAUTHORIZED, "no token is granted".into());
            }
            (
                State::Disconnected | State::Waiting { .. } | State::Opening { .. } | State::Connecting,
                result,
            ) => self.token = result.ok().or(self.token.take()),
        }
    }

    pub(super) fn handle_connection_timeout(&mut self, now: Instant) {
        match self.state {
            State::Waiting { until } if until <= now => self.open(now),
            State::Token { deadline } if deadline <= now => {
                self.lose(codes::TIMEOUT, "no token has arrived in time".into(), now);
            }
            State::Opening { deadline } if deadline <= now => {
                self.act(Action::Close(1000));
                self.lose(codes::TIMEOUT, "the connection was not opened in time".into(), now);
            }
            State::Connected { deadline: Some(deadline), .. } if deadline <= now => {
                self.act(Action::Close(1000));
                self.lose(codes::NO_PING, "no ping has arrived in time".into(), now);
            }
            State::Connected { refresh_at: Some(at), .. } if at <= now => {
                let has_source = self.config.has_token_source;
                self.set_refresh(has_source.then(|| now + self.config.token_timeout));
                if has_source {
                    self.act(Action::GetToken(None));
                }
            }
            State::Disconnected
            | State::Waiting { .. }
            | State::Token { .. }
            | State::Opening { .. }
            | State::Connecting
            | State::Connected { .. } => {}
        }
    }

    pub(super) fn handle_connect(&mut self, result: Result<ConnectResult, ServerError>, now: Instant) {
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                self.act(Action::Close(1000));
                // An expired token is replaced only if there is a source of tokens.
                let is_expired = error.code == ServerError::TOKEN_EXPIRED;
                let is_final = !error.may_retry() || is_expired && !self.config.has_token_source;
                if (is_expired || is_final) && self.config.has_token_source {
                    self.token = None;
                }
                let reason = error.to_string();
                return match is_final {
                    true => self.end(codes::UNAUTHORIZED, reason),
                    false => self.lose(codes::NOT_CONNECTED, reason, now),
                };
            }
        };
        let silence = (result.ping > 0)
            .then(|| Duration::from_secs(u64::from(result.ping)) + self.config.max_ping_delay);
        self.state = State::Connected {
            since: now,
            silence,
            deadline: silence.map(|silence| now + silence),
            pong: result.pong,
            refresh_at: refresh_at(result.expiry, now),
        };
        self.events.push_back(Event::Connected { client: result.client, data: result.data });
        self.handle_server_subscriptions(result.subs);
        self.subscribe_all(now);
        self.send_waiting(now);
    }

    pub(super) fn handle_refresh(&mut self, result: Result<Expiry, ServerError>, now: Instant) {
        match (result, &mut self.state) {
            (Ok(expiry), State::Connected { refresh_at, .. }) => *refresh_at = self::refresh_at(expiry, now),
            (Err(error), State::Connected { .. }) if error.may_retry() => self.refresh_later(now),
            (Err(error), _) => {
                self.act(Action::Close(1000));
                self.end(codes::UNAUTHORIZED, error.to_string());
            }
            (Ok(_), _) => {}
        }
    }

    /// Notes that something has arrived.
    pub(super) fn note_arrival(&mut self, now: Instant) {
        if let State::Connected { silence, deadline, .. } = &mut self.state {
            *deadline = silence.map(|silence| now + silence);
        }
    }

    pub(super) fn handle_ping(&mut self) {
        if let State::Connected { pong: true, .. } = self.state {
            self.push_line("{}");
        }
    }

    /// Ends the connection because of a fault of the server or of the network, and makes another attempt later.
    pub(super) fn reconnect(&mut self, code: u16, reason: &str, now: Instant) {
        self.act(Action::Close(1000));
        self.lose(code, reason.into(), now);
    }

    fn open(&mut self, now: Instant) {
        if self.token.is_none() && self.config.has_token_source {
            self.state = State::Token { deadline: now + self.config.token_timeout };
            self.act(Action::GetToken(None));
        } else {
            self.state = State::Opening { deadline: now + self.config.timeout };
            self.act(Action::Open);
        }
    }

    fn refresh_later(&mut self, now: Instant) {
        let delay = Duration::from_secs(5).mul_f64(1.0 + self.random.f64());
        self.set_refresh(Some(now + delay));
    }

    fn set_refresh(&mut self, at: Option<Instant>) {
        if let State::Connected { refresh_at, .. } = &mut self.state {
            *refresh_at = at;
        }
    }

    fn lose(&mut self, code: u16, reason: String, now: Instant) {
        // A server that accepts connections and ends them at once is not reached more often than one that refuses them.
        if let State::Connected { since, .. } = self.state
            && now >= since + self.config.backoff.bound(self.failed)
        {
            self.failed = 0;
        }
        let failed = self.failed;
        let delay = self.config.backoff.delay(failed, &mut self.random);
        self.failed = failed.saturating_add(1);
        self.state = State::Waiting { until: now + delay };
        self.abandon(&RequestError::ConnectionLost);
        // While the application takes no events, only the last one of several attempts waits.
        if let Some(Event::Reconnecting { .. }) = self.events.back() {
            self.events.pop_back();
        }
        self.events.push_back(Event::Reconnecting { code, reason, delay, failed });
    }

    fn end(&mut self, code: u16, reason: String) {
        self.state = State::Disconnected;
        self.abandon(&RequestError::Disconnected);
        self.refuse_waiting();
        self.events.push_back(Event::Disconnected { code, reason });
    }

    /// Forgets the tokens that the driver can replace.
    fn forget_tokens(&mut self) {
        if self.config.has_token_source {
            self.token = None;
        }
        self.forget_subscription_tokens();
    }

    /// Forgets what belonged to the connection.
    fn abandon(&mut self, error: &RequestError) {
        self.outgoing.clear();
        self.abandon_requests(error);
        self.interrupt_subscriptions();
    }
}

/// Returns when a token is refreshed: when it expires, as the SDKs of other languages do. The server accepts it for some time
/// more. Tokens that expire at once are not refreshed more often than each second.
pub(super) fn refresh_at(expiry: Expiry, now: Instant) -> Option<Instant> {
    expiry.expires.then(|| now + Duration::from_secs(u64::from(expiry.ttl.max(1))))
}
