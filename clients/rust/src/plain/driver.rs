//! The plain client with sockets: a handle, its events, and the driver that carries out what the state machine decides.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite;
use futures_util::Stream;
use smol::Timer;
use smol::channel::{Receiver, Sender, bounded};

use super::{Action, Event, Machine, Message};
use crate::backoff::Backoff;
use crate::close::codes;
use crate::link::{self, EventSender, Link};
use crate::transport::{Arrival, InvalidTarget, Target};

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
        let driver = Driver {
            machine: Machine::new(self.backoff, self.timeout, fastrand::u64(..)),
            link: Link::new(self.target),
            messages: Box::pin(messages),
            events: EventSender::new(events),
            timer: None,
        };
        Ok((Client(sender), Events(event_receiver), driver))
    }
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
pub struct Driver {
    machine: Machine,
    link: Link,
    messages: Pin<Box<Receiver<Message>>>,
    events: EventSender<Event>,
    timer: Option<Timer>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("link", &self.link).finish_non_exhaustive()
    }
}

/// Something that the driver passes to the state machine.
enum Input {
    Link(link::Input),
    Timeout,
    /// The last handle was dropped, and the connection has taken the last message.
    Finished,
    /// The machine has ended, and its events are passed on.
    Ended,
}

impl Driver {
    /// Connects, and runs until the last [`Client`] is dropped, or the server ends the connection permanently. Spawn it on an
    /// executor.
    pub async fn run(mut self) {
        self.machine.connect(Instant::now());
        loop {
            while let Some(action) = self.machine.poll_action() {
                match action {
                    Action::Open => self.link.open(),
                    Action::Close(code) => self.link.close(code).await,
                }
            }
            self.timer = self.machine.poll_timeout().map(Timer::at);
            match std::future::poll_fn(|cx| self.poll_input(cx)).await {
                Input::Link(input) => self.handle(input),
                Input::Timeout => self.machine.handle_timeout(Instant::now()),
                Input::Finished => {}
                Input::Ended => return,
            }
        }
    }

    fn handle(&mut self, input: link::Input) {
        let now = Instant::now();
        match input {
            link::Input::Opened => self.machine.handle_opened(now),
            link::Input::NotOpened(error) => self.machine.handle_open_error(&error.reason, now),
            link::Input::Arrival(arrival) => match arrival {
                Arrival::Message(tungstenite::Message::Text(text)) => {
                    self.machine.handle_message(Message::Text(text.as_str().to_owned()));
                }
                Arrival::Message(tungstenite::Message::Binary(bytes)) => {
                    self.machine.handle_message(Message::Binary(bytes.to_vec()));
                }
                // Pings are answered by tungstenite.
                Arrival::Message(_) => {}
                Arrival::Closed(code, reason) => self.machine.handle_closed(code, &reason, now),
                Arrival::Lost(reason) => self.machine.handle_closed(codes::LOST, &reason, now),
            },
        }
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let has_room = self.events.poll(cx, || self.machine.poll_event());
        if self.machine.has_ended() {
            return if has_room { Poll::Ready(Input::Ended) } else { Poll::Pending };
        }
        loop {
            // The other messages wait in the queue of the handles, which has a limit.
            if self.machine.waiting() == 0
                && let Poll::Ready(message) = self.messages.as_mut().poll_next(cx)
            {
                match message {
                    Some(message) => self.machine.send(message),
                    None => self.machine.finish(),
                }
            }
            let had_message = self.machine.waiting() > 0;
            // Without room for events, the server is not read, and ends the connection if that lasts.
            let next = || self.machine.poll_message().map(encode);
            if let Poll::Ready(input) = self.link.poll(cx, next, has_room) {
                return Poll::Ready(Input::Link(input));
            }
            if self.machine.has_ended() {
                return Poll::Ready(Input::Finished);
            }
            if !had_message || self.machine.waiting() > 0 {
                break;
            }
        }
        match &mut self.timer {
            Some(timer) => Pin::new(timer).poll(cx).map(|_| Input::Timeout),
            None => Poll::Pending,
        }
    }
}

fn encode(message: Message) -> tungstenite::Message {
    match message {
        Message::Text(text) => tungstenite::Message::text(text),
        Message::Binary(bytes) => tungstenite::Message::binary(bytes),
    }
}
