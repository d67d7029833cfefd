//! A client as a state machine, without sockets, threads and clocks: its driver carries messages, and passes the time.
//!
//! After each call, the driver performs the [actions](Machine::poll_action), and takes the [events](Machine::poll_event) and the
//! [answers](Machine::poll_answer). It calls [`handle_timeout`](Machine::handle_timeout) at
//! [`poll_timeout`](Machine::poll_timeout). [`Client`](crate::Client) is such a driver.

mod connection;
mod replies;
mod requests;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::event::{Answer, Event, RequestError};
use crate::protocol::{Json, Position};

pub use requests::RequestId;
pub use subscriptions::SubscribeOptions;

use connection::State;
use requests::{Pending, Waiting};
use subscriptions::Subscription;

/// The settings of a [`Machine`].
#[derive(Debug, Clone)]
pub struct MachineConfig {
    /// The delays before another attempt, of the connection and of a subscription.
    pub backoff: Backoff,
    /// The time for an answer of the server, and for opening a connection.
    pub timeout: Duration,
    /// The time for a token of the driver. Then it counts as unavailable, and is asked for again.
    pub token_timeout: Duration,
    /// The time after a ping is due, after which the connection counts as lost.
    pub max_ping_delay: Duration,
    /// The first token of the connection. Without one, the gateway states the user.
    pub token: Option<String>,
    /// Whether the driver can get tokens: see [`Action::GetToken`].
    pub has_token_source: bool,
    /// Data for the server, in `connect`.
    pub data: Option<Json>,
    /// The name of the application, which the server logs.
    pub name: String,
    /// The version of the application.
    pub version: String,
    /// The most requests that wait for answers.
    pub max_requests: usize,
}

impl Default for MachineConfig {
    fn default() -> MachineConfig {
        MachineConfig {
            backoff: Backoff::default(),
            timeout: Duration::from_secs(5),
            token_timeout: Duration::from_secs(30),
            max_ping_delay: Duration::from_secs(10),
            token: None,
            has_token_source: false,
            data: None,
            name: "rust".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            max_requests: 1024,
        }
    }
}

/// An action of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open a connection, and call [`Machine::handle_opened`] or [`Machine::handle_open_error`].
    Open,
    /// Send a text message.
    Send(String),
    /// Close the connection with this code, or give up opening it. Nothing of it must be reported any more.
    Close(u16),
    /// Get a token for the connection, or for a channel, and call [`Machine::handle_token`]. It replaces an earlier action for
    /// the same token.
    GetToken(Option<String>),
}

/// A client as a state machine.
#[derive(Debug)]
pub struct Machine {
    config: MachineConfig,
    random: fastrand::Rng,
    state: State,
    /// The number of failed attempts since the last connection that lasted longer than the delay before another attempt.
    failed: u32,
    token: Option<String>,
    /// The id of the last command.
    last_id: u32,
    subscriptions: BTreeMap<String, Subscription>,
    /// The subscriptions that the server has made, with their positions.
    server_subscriptions: BTreeMap<String, Option<Position>>,
    /// The channels whose positions do not hold any more, until they are subscribed again.
    forgotten: BTreeSet<String>,
    /// The commands without a reply, by id.
    pending: BTreeMap<u32, Pending>,
    /// The requests that wait for a connection.
    waiting: VecDeque<Waiting>,
    last_request: u64,
    /// The commands of the next message, one on each line.
    outgoing: String,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    answers: VecDeque<(RequestId, Result<Answer, RequestError>)>,
}

impl Machine {
    /// Creates a client that is not connected. `seed` is random.
    pub fn new(config: MachineConfig, seed: u64) -> Machine {
        Machine {
            token: config.token.clone(),
            config,
            random: fastrand::Rng::with_seed(seed),
            state: State::Disconnected,
            failed: 0,
            last_id: 0,
            subscriptions: BTreeMap::new(),
            server_subscriptions: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            pending: BTreeMap::new(),
            waiting: VecDeque::new(),
            last_request: 0,
            outgoing: String::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }

    /// Returns the next action of the driver.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front().or_else(|| {
            let text = std::mem::take(&mut self.outgoing);
            (!text.is_empty()).then_some(Action::Send(text))
        })
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns the next answer to a request.
    pub fn poll_answer(&mut self) -> Option<(RequestId, Result<Answer, RequestError>)> {
        self.answers.pop_front()
    }

    /// Returns when [`handle_timeout`](Machine::handle_timeout) must be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.pending.values().map(Pending::deadline);
        let waiting = self.waiting.front().map(Waiting::deadline);
        let subscriptions = self.subscriptions.values().filter_map(Subscription::deadline);
        // A subscription waits for the connection, too.
        let subscriptions = subscriptions.filter(|_| self.state.is_connected());
        self.state.deadlines().chain(pending).chain(waiting).chain(subscriptions).min()
    }

    /// Handles that the time is `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire_requests(now);
        self.handle_connection_timeout(now);
        if self.state.is_connected() {
            self.handle_subscription_timeouts(now);
        }
    }

    /// Returns whether the server has answered `connect`.
    pub fn is_connected(&self) -> bool {
        self.state.is_connected()
    }

    /// Adds an action, after a message with the commands that precede it.
    fn act(&mut self, action: Action) {
        let text = std::mem::take(&mut self.outgoing);
        if !text.is_empty() {
            self.actions.push_back(Action::Send(text));
        }
        self.actions.push_back(action);
    }
}

#[cfg(test)]
mod tests;
