//! What other threads send to a worker, and what it sends to them.
//!
//! Messages and effects are plain data, so that they can cross threads, be recorded, and be simulated.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check::{CheckRequest, CheckTicket};
use super::refresh::{Refresh, Refreshed};
use super::{Application, Worker};
use crate::bearer_token::Verdict;
use crate::policy::Replaced;
use crate::record::Recorder;

/// A message to a worker. A new connection is not among them, because its socket belongs to the runtime: see
/// [`Worker::open`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerMessage<I = Infallible> {
    /// A message of another worker.
    Peer(PeerMessage),
    /// Close all connections evenly over this time, then finish. No connection follows.
    Drain(Duration),
    /// Close all connections now, then finish. No connection follows.
    Close,
    /// An event for the application.
    Application(I),
    /// The verdict about a token of [`WorkerEffect::CheckToken`].
    TokenChecked(CheckTicket, Verdict),
}

/// A request of a worker to its process, for example to send a message to another worker. A runtime must perform every effect,
/// so new ones are breaking changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEffect<E = Infallible> {
    /// Send [`WorkerMessage::Peer`] to the worker with this number.
    ToPeer(usize, PeerMessage),
    /// A request of the application.
    Application(E),
    /// Check a token, and answer with [`WorkerMessage::TokenChecked`].
    CheckToken(Box<CheckRequest>),
}

/// A message of a worker to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerMessage {
    /// Close a connection, because its user has others.
    Replace(Replaced),
    /// Refresh the token of connections, and answer.
    Refresh(Arc<Refresh>),
    /// The answer to a refresh.
    Refreshed(Refreshed),
}

impl<A: Application> Worker<A> {
    /// Handles a message. The connections that it affects are [due](Worker::next_due) afterwards.
    pub fn handle_message(
        &mut self,
        message: WorkerMessage<A::Inbound>,
        now: Instant,
        recorder: &mut impl Recorder,
    ) {
        match message {
            WorkerMessage::Peer(PeerMessage::Replace(replaced)) => self.replace(&replaced, now),
            WorkerMessage::Peer(PeerMessage::Refresh(refresh)) => {
                self.refresh_for_peer(&refresh, now, recorder)
            }
            WorkerMessage::Peer(PeerMessage::Refreshed(refreshed)) => {
                self.handle_refreshed(&refreshed, now, recorder);
            }
            WorkerMessage::Drain(spread) => self.drain(now, spread),
            WorkerMessage::Close => self.shut_down(),
            WorkerMessage::TokenChecked(ticket, verdict) => {
                self.handle_verdict(ticket, &verdict, now, recorder);
            }
            WorkerMessage::Application(event) => {
                let (application, mut fanout) = self.fan_out(now);
                application.inbound(event, &mut fanout, recorder);
            }
        }
    }

    /// Returns the next effect. Call this when no connection is [due](Worker::next_due).
    pub fn poll_effect(&mut self) -> Option<WorkerEffect<A::Effect>> {
        self.effects.pop_front().or_else(|| self.application.poll_effect().map(WorkerEffect::Application))
    }
}
