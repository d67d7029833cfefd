//! Plain messages: a client of `echo`, or of any other service without channels, that connects again.
//!
//! Without a protocol above WebSocket, nothing acknowledges a message: one that was sent shortly before the connection was lost
//! may be lost with it.

use std::fmt;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite;
use futures_util::Stream;
use smol::Timer;
use smol::channel::{Receiver, Sender, bounded};

use crate::backoff::Backoff;
use crate::close::{codes, may_reconnect};
use crate::transport::{Arrival, InvalidTarget, OpenError, Socket, Target};

/// The settings of a plain client.
#[derive(Clone)]
pub struct Config {
    target: Target,
    backoff: Backoff,
    timeout: Duration,
    queue: usize,
}

impl fmt::Debug for Config {
    /// Prints no header: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("url", &self.target.url).finish_non_exhaustive()
    }
}

impl Config {
    /// Creates the settings for an address, for example `wss://example.com/ws`.
    pub fn new(url: impl Into<String>) -> Config {
        Config {
            target: Target::new(url.into()),
            backoff: Backoff::default(),
            timeout: Duration::from_secs(5),
            queue: 64,
        }
    }

    /// Adds a header to the request of the connection.
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

    /// Sets the delays before another attempt.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Config {
        self.backoff = backoff;
        self
    }

    /// Sets the time for opening a connection. The default is 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Config {
        self.timeout = timeout;
        self
    }

    /// Sets the number of messages, and of events, that wait. The default is 64.
    #[must_use]
    pub fn queue(mut self, queue: usize) -> Config {
        self.queue = queue.max(1);
        self
    }

    /// Creates a client. It connects when its driver [runs](Driver::run).
    ///
    /// # Errors
    /// The URL or a header cannot be used.
    pub fn build(self) -> Result<(Client, Events, Driver), InvalidTarget> {
        self.target.check()?;
        let (sender, messages) = bounded(self.queue);
        let (events, event_receiver) = bounded(self.queue);
        let driver = Driver { config: self, messages: Box::pin(messages), events };
        Ok((Client(sender), Events(event_receiver), driver))
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// An event of a plain client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A connection is open.
    Opened,
    /// A message has arrived.
    Message(Message),
    /// The connection is lost, or could not be opened. Another attempt follows.
    Reconnecting {
        /// The close code of the server, or one of [`codes`].
        code: u16,
        /// The reason.
        reason: String,
        /// The delay before the next attempt.
        delay: Duration,
    },
    /// The client does not connect again.
    Closed {
        /// The close code of the server.
        code: u16,
        /// The reason.
        reason: String,
    },
}

/// A handle of a plain client. The client ends with the last handle.
#[derive(Debug, Clone)]
pub struct Client(Sender<Message>);

impl Client {
    /// Sends a message. It waits for a connection if there is none, and for room in the queue.
    ///
    /// # Errors
    /// The client has ended. The error returns the message.
    pub async fn send(&self, message: Message) -> Result<(), Message> {
        self.0.send(message).await.map_err(|error| error.0)
    }
}

/// The events of a plain client.
#[derive(Debug, Clone)]
pub struct Events(Receiver<Event>);

impl Events {
    /// Returns the next event. `None`: the client has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await.ok()
    }
}

/// The driver of a plain client.
#[derive(Debug)]
pub struct Driver {
    config: Config,
    messages: Pin<Box<Receiver<Message>>>,
    events: Sender<Event>,
}

/// The end of a connection.
enum End {
    /// The last handle was dropped.
    Dropped,
    Lost(u16, String),
}

impl Driver {
    /// Connects, and runs until the last [`Client`] is dropped, or the server ends the connection permanently. Spawn it on an
    /// executor.
    pub async fn run(mut self) {
        let mut failed = 0;
        loop {
            let started = Instant::now();
            let (code, reason) = match self.open().await {
                Ok(socket) => {
                    self.report(Event::Opened).await;
                    match self.carry(socket).await {
                        End::Dropped => return,
                        End::Lost(code, reason) => (code, reason),
                    }
                }
                Err(error) => (codes::NOT_CONNECTED, error.reason),
            };
            if code >= 1000 && !may_reconnect(code, true) {
                return self.report(Event::Closed { code, reason }).await;
            }
            // A server that accepts connections and ends them at once is not reached more often than one that refuses them.
            if started.elapsed() > self.config.backoff.most {
                failed = 0;
            }
            let delay = self.config.backoff.delay(failed, &mut fastrand::Rng::new());
            failed += 1;
            self.report(Event::Reconnecting { code, reason, delay }).await;
            Timer::after(delay).await;
            if self.messages.is_closed() && self.messages.is_empty() {
                return;
            }
        }
    }

    async fn open(&self) -> Result<Box<Socket>, OpenError> {
        let late = async {
            Timer::after(self.config.timeout).await;
            let reason = "the connection was not opened in time".into();
            Err(OpenError { reason, is_unauthorized: false })
        };
        smol::future::or(self.config.target.open(), late).await
    }

    async fn report(&self, event: Event) {
        // Without a receiver, events are dropped.
        let _ = self.events.send(event).await;
    }

    /// Carries messages until the connection ends.
    async fn carry(&mut self, mut socket: Box<Socket>) -> End {
        let mut next = None;
        loop {
            let input = std::future::poll_fn(|cx| {
                loop {
                    if next.is_none() {
                        match self.messages.as_mut().poll_next(cx) {
                            Poll::Ready(Some(message)) => next = Some(encode(message)),
                            Poll::Ready(None) => return Poll::Ready(None),
                            Poll::Pending => {}
                        }
                    }
                    let had_message = next.is_some();
                    socket.poll_send(cx, || next.take());
                    if !had_message || next.is_some() {
                        break;
                    }
                }
                socket.poll_receive(cx).map(Some)
            });
            match input.await {
                None => {
                    socket.close(1000).await;
                    return End::Dropped;
                }
                Some(Arrival::Message(tungstenite::Message::Text(text))) => {
                    self.report(Event::Message(Message::Text(text.as_str().to_owned()))).await;
                }
                Some(Arrival::Message(tungstenite::Message::Binary(bytes))) => {
                    self.report(Event::Message(Message::Binary(bytes.to_vec()))).await;
                }
                // Pings are answered by tungstenite.
                Some(Arrival::Message(_)) => {}
                Some(Arrival::Closed(code, reason)) => return End::Lost(code, reason),
                Some(Arrival::Lost(reason)) => return End::Lost(codes::LOST, reason),
            }
        }
    }
}

fn encode(message: Message) -> tungstenite::Message {
    match message {
        Message::Text(text) => tungstenite::Message::text(text),
        Message::Binary(bytes) => tungstenite::Message::binary(bytes),
    }
}
