//! The connection of a driver, and the events that it passes on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_tungstenite::tungstenite::Message;
use smol::Timer;
use smol::channel::{Sender, TrySendError};

use crate::transport::{Arrival, OpenError, Opening, Socket, Target};

/// The connection of a driver: none, one that is being opened, or an open one.
pub(crate) struct Link {
    target: Target,
    opening: Option<Opening>,
    socket: Option<Box<Socket>>,
}

/// Something that happens to a connection.
pub(crate) enum Input {
    Opened,
    NotOpened(OpenError),
    /// The link has dropped its connection after [`Arrival::Closed`] and [`Arrival::Lost`].
    Arrival(Arrival),
}

impl Link {
    pub(crate) fn new(target: Target) -> Link {
        Link { target, opening: None, socket: None }
    }

    /// Begins to open a connection.
    pub(crate) fn open(&mut self) {
        self.opening = Some(self.target.open());
    }

    /// Closes the connection, or gives up opening it.
    pub(crate) async fn close(&mut self, code: u16) {
        self.opening = None;
        if let Some(socket) = self.socket.take() {
            // The peer may not read.
            let late = async { _ = Timer::after(CLOSE_TIMEOUT).await };
            smol::future::or(socket.close(code), late).await;
        }
    }

    /// Sends messages, and receives if `may_read`. Each message is taken from `next` when the system accepts it.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        next: impl FnMut() -> Option<Message>,
        may_read: bool,
    ) -> Poll<Input> {
        if let Some(opening) = &mut self.opening
            && let Poll::Ready(result) = opening.as_mut().poll(cx)
        {
            self.opening = None;
            return Poll::Ready(match result {
                Ok(socket) => {
                    self.socket = Some(socket);
                    Input::Opened
                }
                Err(error) => Input::NotOpened(error),
            });
        }
        let Some(socket) = &mut self.socket else { return Poll::Pending };
        socket.poll_send(cx, next);
        if !may_read {
            return Poll::Pending;
        }
        socket.poll_receive(cx).map(|arrival| {
            if matches!(arrival, Arrival::Closed(..) | Arrival::Lost(_)) {
                self.socket = None;
            }
            Input::Arrival(arrival)
        })
    }
}

impl fmt::Debug for Link {
    /// Prints no header: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("url", &self.target.url).finish_non_exhaustive()
    }
}

/// The sender of events to an application.
pub(crate) struct EventSender<E> {
    events: Sender<E>,
    /// An event for which the queue has no room yet.
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<E: Send + 'static> EventSender<E> {
    pub(crate) fn new(events: Sender<E>) -> EventSender<E> {
        EventSender { events, waiting: None }
    }

    /// Passes on events. Returns whether all are passed on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, mut next: impl FnMut() -> Option<E>) -> bool {
        loop {
            if let Some(waiting) = &mut self.waiting {
                match waiting.as_mut().poll(cx) {
                    Poll::Ready(()) => self.waiting = None,
                    Poll::Pending => return false,
                }
            }
            let Some(event) = next() else { return true };
            match self.events.try_send(event) {
                // Without a receiver, events are dropped.
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(event)) => {
                    let events = self.events.clone();
                    self.waiting = Some(Box::pin(async move { drop(events.send(event).await) }));
                }
            }
        }
    }
}

/// The longest time to send a Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
