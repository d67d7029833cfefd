//! The client of channels: a handle, its events, and the driver that carries out what the state machine decides.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::Message;
use futures_util::Stream;
use serde::Serialize;
use serde_json::value::to_raw_value;
use smol::Timer;
use smol::channel::{Receiver, Sender, bounded};

use crate::backoff::Backoff;
use crate::close::codes;
use crate::event::{Answer, Event, Request, RequestError, TokenError};
use crate::link::{self, EventSender, Link};
use crate::machine::{Action, Machine, MachineConfig, RequestId, SubscribeOptions};
use crate::protocol::{ClientInfo, History, Json, Position, PresenceStats};
use crate::transport::{Arrival, InvalidTarget, Target};

/// A source of tokens: for the connection, if there is no channel, or for a channel.
type TokenSource = Arc<dyn Fn(Option<String>) -> TokenFuture + Send + Sync>;

type TokenFuture = Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>;

/// The settings of a client.
#[derive(Clone)]
pub struct Config {
    target: Target,
    machine: MachineConfig,
    tokens: Option<TokenSource>,
    events: usize,
}

impl fmt::Debug for Config {
    /// Prints no token and no header: they are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("url", &self.target.url).finish_non_exhaustive()
    }
}

impl Config {
    /// Creates the settings for an address, for example `wss://example.com/channels`.
    pub fn new(url: impl Into<String>) -> Config {
        Config {
            target: Target::new(url.into()),
            machine: MachineConfig::default(),
            tokens: None,
            events: 1024,
        }
    }

    /// Adds a header to the request of the connection, for example `Authorization` or `Cookie`, which the gateway checks.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Config {
        self.target.headers.push((name.into(), value.into()));
        self
    }

    /// Trusts these authorities, in PEM, in addition to the authorities of the system.
    ///
    /// # Errors
    /// The text has no certificate, or one that cannot be used.
    #[cfg(feature = "tls")]
    pub fn authorities(mut self, pem: &[u8]) -> Result<Config, InvalidTarget> {
        self.target.trust(pem)?;
        Ok(self)
    }

    /// Sets the token of the connection. It is not needed if the gateway states the user.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Config {
        self.machine.token = Some(token.into());
        self
    }

    /// Sets the source of tokens. It is called before the first attempt if there is no token, and when a token expires: with
    /// `None` for the connection, or with a channel whose [`SubscribeOptions::has_token_source`] is set.
    #[must_use]
    pub fn token_source<F>(mut self, source: impl Fn(Option<String>) -> F + Send + Sync + 'static) -> Config
    where
        F: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        self.tokens = Some(Arc::new(move |channel| Box::pin(source(channel))));
        self.machine.has_token_source = true;
        self
    }

    /// Sets the delays before another attempt.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Config {
        self.machine.backoff = backoff;
        self
    }

    /// Sets the time for an answer of the server. The default is 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Config {
        self.machine.timeout = timeout;
        self
    }

    /// Sets the time for an answer of the source of tokens, after which it is asked again. The default is 30 s.
    #[must_use]
    pub fn token_timeout(mut self, timeout: Duration) -> Config {
        self.machine.token_timeout = timeout;
        self
    }

    /// Sets the number of events that wait for the application, after which the client stops reading. The default is 1,024.
    #[must_use]
    pub fn events(mut self, events: usize) -> Config {
        self.events = events.max(1);
        self
    }

    /// Creates a client. It connects when its driver [runs](Driver::run).
    ///
    /// # Errors
    /// The URL or a header cannot be used.
    pub fn build(self) -> Result<(Client, Events, Driver), InvalidTarget> {
        self.target.check()?;
        let (command_sender, commands) = bounded(COMMANDS);
        let (events, event_receiver) = bounded(self.events);
        let driver = Driver {
            machine: Machine::new(self.machine, fastrand::u64(..)),
            link: Link::new(self.target),
            tokens: self.tokens,
            commands: Box::pin(commands),
            events: EventSender::new(events),
            token_requests: Vec::new(),
            outgoing: VecDeque::new(),
            answers: BTreeMap::new(),
            timer: None,
        };
        Ok((Client { commands: command_sender }, Events(event_receiver), driver))
    }
}

/// A handle of a client. The client ends with the last handle.
#[derive(Debug, Clone)]
pub struct Client {
    commands: Sender<Order>,
}

/// An order of a handle to the driver.
#[derive(Debug)]
enum Order {
    Connect,
    Disconnect,
    Subscribe(String, SubscribeOptions),
    Unsubscribe(String),
    Request(Request, Sender<Result<Answer, RequestError>>),
}

impl Client {
    /// Subscribes to a channel, and again after each loss of the connection. [`Event::Subscribed`] or [`Event::Unsubscribed`]
    /// follows. Does nothing if there is such a subscription.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn subscribe(
        &self,
        channel: impl Into<String>,
        options: SubscribeOptions,
    ) -> Result<(), RequestError> {
        self.order(Order::Subscribe(channel.into(), options)).await
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn unsubscribe(&self, channel: impl Into<String>) -> Result<(), RequestError> {
        self.order(Order::Unsubscribe(channel.into())).await
    }

    /// Publishes a message, and waits for the answer of the server.
    ///
    /// # Errors
    /// See [`RequestError`]. After [`Timeout`](RequestError::Timeout) and [`ConnectionLost`](RequestError::ConnectionLost) the
    /// message may be published.
    pub async fn publish(
        &self,
        channel: impl Into<String>,
        data: &impl Serialize,
    ) -> Result<(), RequestError> {
        let data = json(data)?;
        self.request(Request::Publish { channel: channel.into(), data }).await.map(drop)
    }

    /// Returns the clients in a channel, by the id of their connections.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn presence(
        &self,
        channel: impl Into<String>,
    ) -> Result<BTreeMap<String, ClientInfo>, RequestError> {
        let answer = self.request(Request::Presence { channel: channel.into() }).await?;
        if let Answer::Presence(clients) = answer { Ok(clients) } else { Err(RequestError::BadReply) }
    }

    /// Returns the number of clients in a channel.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn presence_stats(&self, channel: impl Into<String>) -> Result<PresenceStats, RequestError> {
        let answer = self.request(Request::PresenceStats { channel: channel.into() }).await?;
        if let Answer::PresenceStats(stats) = answer { Ok(stats) } else { Err(RequestError::BadReply) }
    }

    /// Returns at most `limit` publications after a position, or the oldest ones that the server keeps. A negative limit: as many
    /// as the server allows.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn history(
        &self,
        channel: impl Into<String>,
        limit: i32,
        since: Option<Position>,
    ) -> Result<History, RequestError> {
        let request = Request::History { channel: channel.into(), limit, since, reverse: false };
        let answer = self.request(request).await?;
        if let Answer::History(history) = answer { Ok(history) } else { Err(RequestError::BadReply) }
    }

    /// Calls a method of the backend.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn rpc(
        &self,
        method: impl Into<String>,
        data: &impl Serialize,
    ) -> Result<Option<Json>, RequestError> {
        let request = Request::Rpc { method: method.into(), data: json(data)? };
        let answer = self.request(request).await?;
        if let Answer::Rpc(data) = answer { Ok(data) } else { Err(RequestError::BadReply) }
    }

    /// Makes a request, and waits for the answer.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request(&self, request: Request) -> Result<Answer, RequestError> {
        let (sender, answer) = bounded(1);
        self.order(Order::Request(request, sender)).await?;
        answer.recv().await.unwrap_or(Err(RequestError::Disconnected))
    }

    /// Connects again after [`disconnect`](Client::disconnect) or [`Event::Disconnected`].
    ///
    /// # Errors
    /// The client has ended.
    pub async fn connect(&self) -> Result<(), RequestError> {
        self.order(Order::Connect).await
    }

    /// Disconnects. The subscriptions stay, for the next [`connect`](Client::connect).
    ///
    /// # Errors
    /// The client has ended.
    pub async fn disconnect(&self) -> Result<(), RequestError> {
        self.order(Order::Disconnect).await
    }

    async fn order(&self, order: Order) -> Result<(), RequestError> {
        self.commands.send(order).await.map_err(|_| RequestError::Disconnected)
    }
}

fn json(data: &impl Serialize) -> Result<Json, RequestError> {
    // A value that is not JSON, such as a map whose keys are not strings, is a fault of the caller.
    to_raw_value(data).map_err(|error| {
        RequestError::Server(crate::protocol::ServerError {
            code: 0,
            message: format!("the data is not JSON: {error}"),
            temporary: false,
        })
    })
}

/// The events of a client.
#[derive(Debug, Clone)]
pub struct Events(Receiver<Event>);

impl Events {
    /// Returns the next event. `None`: the client has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await.ok()
    }
}

/// The driver of a client.
pub struct Driver {
    machine: Machine,
    link: Link,
    tokens: Option<TokenSource>,
    commands: Pin<Box<Receiver<Order>>>,
    events: EventSender<Event>,
    /// The requests for tokens that are not answered, with their channels.
    token_requests: Vec<(Option<String>, TokenFuture)>,
    /// The messages that the socket has not accepted yet.
    outgoing: VecDeque<Message>,
    answers: BTreeMap<RequestId, Sender<Result<Answer, RequestError>>>,
    timer: Option<Timer>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("link", &self.link).finish_non_exhaustive()
    }
}

/// Something that the driver passes to the state machine.
enum Input {
    Order(Order),
    /// The last handle was dropped.
    Ended,
    Link(link::Input),
    Token(Option<String>, Result<String, TokenError>),
    Timeout,
}

impl Driver {
    /// Connects, and runs until the last [`Client`] is dropped. Spawn it on an executor.
    pub async fn run(mut self) {
        self.machine.connect(Instant::now());
        loop {
            self.settle().await;
            self.timer = self.machine.poll_timeout().map(Timer::at);
            let input = std::future::poll_fn(|cx| self.poll_input(cx)).await;
            if !self.handle(input) {
                self.machine.disconnect();
                self.settle().await;
                return;
            }
        }
    }

    /// Passes an input to the state machine. Returns false if the client ends.
    fn handle(&mut self, input: Input) -> bool {
        let now = Instant::now();
        match input {
            Input::Order(order) => self.handle_order(order, now),
            Input::Ended => return false,
            Input::Link(link::Input::Opened) => self.machine.handle_opened(now),
            Input::Link(link::Input::NotOpened(error)) => {
                self.machine.handle_open_error(&error.reason, error.is_unauthorized, now);
            }
            Input::Link(link::Input::Arrival(arrival)) => match arrival {
                Arrival::Message(Message::Text(text)) => self.machine.handle_message(text.as_str(), now),
                // The server sends JSON in text messages only. Pings are answered by tungstenite.
                Arrival::Message(_) => {}
                Arrival::Closed(code, reason) => self.handle_closed(code, &reason, now),
                Arrival::Lost(reason) => self.handle_closed(codes::LOST, &reason, now),
            },
            Input::Token(channel, result) => self.machine.handle_token(channel.as_deref(), result, now),
            Input::Timeout => self.machine.handle_timeout(now),
        }
        true
    }

    fn handle_order(&mut self, order: Order, now: Instant) {
        match order {
            Order::Connect => self.machine.connect(now),
            Order::Disconnect => self.machine.disconnect(),
            Order::Subscribe(channel, options) => _ = self.machine.subscribe(&channel, options, now),
            Order::Unsubscribe(channel) => self.machine.unsubscribe(&channel, now),
            Order::Request(request, answer) => {
                let id = self.machine.request(request, now);
                self.answers.insert(id, answer);
            }
        }
    }

    /// Performs the actions of the state machine, and passes on its answers.
    async fn settle(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Open => self.link.open(),
                Action::Send(text) => self.outgoing.push_back(Message::text(text)),
                Action::Close(code) => {
                    self.outgoing.clear();
                    self.link.close(code).await;
                }
                Action::GetToken(channel) => {
                    let request: TokenFuture = match &self.tokens {
                        Some(tokens) => tokens(channel.clone()),
                        None => Box::pin(async { Err(TokenError::Unauthorized) }),
                    };
                    self.token_requests.retain(|(other, _)| *other != channel);
                    self.token_requests.push((channel, request));
                }
            }
        }
        while let Some((id, answer)) = self.machine.poll_answer() {
            if let Some(sender) = self.answers.remove(&id) {
                // The caller may not wait any more.
                let _ = sender.try_send(answer);
            }
        }
    }

    fn handle_closed(&mut self, code: u16, reason: &str, now: Instant) {
        self.outgoing.clear();
        self.machine.handle_closed(code, reason, now);
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let has_room = self.events.poll(cx, || self.machine.poll_event());
        // A caller could otherwise fill the memory while the server does not read.
        if self.outgoing.len() < COMMANDS
            && let Poll::Ready(order) = self.commands.as_mut().poll_next(cx)
        {
            return Poll::Ready(order.map_or(Input::Ended, Input::Order));
        }
        for index in 0..self.token_requests.len() {
            if let Poll::Ready(result) = self.token_requests[index].1.as_mut().poll(cx) {
                let (channel, _) = self.token_requests.swap_remove(index);
                return Poll::Ready(Input::Token(channel, result));
            }
        }
        // Without room for events, the server is not read, and ends the connection if that lasts: then the client recovers.
        if let Poll::Ready(input) = self.link.poll(cx, || self.outgoing.pop_front(), has_room) {
            return Poll::Ready(Input::Link(input));
        }
        match &mut self.timer {
            Some(timer) => Pin::new(timer).poll(cx).map(|_| Input::Timeout),
            None => Poll::Pending,
        }
    }
}

/// The most orders that wait for the driver, and the number of messages that wait for the socket from which on it takes none.
const COMMANDS: usize = 64;
