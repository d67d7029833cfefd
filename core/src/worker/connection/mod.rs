//! One connection from accept to close: handshake, session, or refusal.
//!
//! `admission` handles the request, `receive` the messages, `deadlines` the passing of time, `pacing` the rates. `flags` has
//! small fields in four bytes.

mod admission;
mod deadlines;
mod first_message;
mod flags;
mod pacing;
mod receive;
mod watch;

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use crate::close_code::CloseCode;

use super::admin::Status;
use super::application::{Application, Reply, ServerClose};
use super::config::WorkerConfig;
use super::jitter::Jitter;
use super::refresh::{PeerRequest, RefreshOutcome};
use super::{Key, NewConnection};
use crate::close_code;
use crate::compact_instant::{CompactInstant, TimeBase};
use crate::handshake::{EmptyBody, HandshakeError, HeadReader, Identity, Peer, RequestId, TokenDetails};
use crate::id::ConnectionId;
use crate::output::{Output, OutputQueue};
use crate::policy::KeepAlive;
use crate::record::{CredentialsEnd, Record, Recorder, Summary};
use crate::session::{Ending, Session, SharedForm, Transport};
use crate::turn::{Codec, Turn};
pub(super) use admission::check_token;
use first_message::Unidentified;
use flags::Flags;
use pacing::Pacing;

#[derive(Debug)]
pub(super) struct Connection<A: Application> {
    pub(super) id: ConnectionId,
    /// When it was accepted, and later when it was admitted.
    since: CompactInstant,
    keep_alive: KeepAlive,
    stage: Stage<A::Client>,
    /// The pending output.
    pub(super) output: Output,
    /// Its rates, after its admission and if there are any.
    pace: Option<Box<Pacing>>,
    pub(super) flags: Flags,
    /// Its [memory](Connection::memory) when that was last counted, in bytes.
    pub(super) held: u32,
    /// The time of this connection's timer entry.
    pub(super) armed: Option<CompactInstant>,
}

#[derive(Debug)]
enum Stage<C> {
    /// The request is arriving. A `refusal` is sent when the head is complete.
    Handshake {
        reader: HeadReader,
        /// The partial body, and since when it is awaited. `reader` keeps the complete head.
        body: Option<(EmptyBody, CompactInstant)>,
        peer: Peer,
        refusal: Option<HandshakeError>,
        is_aborted: bool,
    },
    /// The 101 was sent, and the first message identifies the user.
    Unidentified { session: Session, unidentified: Box<Unidentified> },
    /// The 101 was sent.
    Admitted { session: Session, identity: Identity, client: C },
    /// The refusal was sent, or the answer to a health check. The peer has until the given time to close its side.
    Refused { until: Instant, is_aborted: bool },
    /// A refresh of other connections is performed, by this number of other workers. The outcome is the best one so far.
    Refreshing { peer: Peer, missing: u32, outcome: RefreshOutcome, is_aborted: bool },
    /// The refusal was sent as a 101 and a Close frame. The session is for the closing handshake alone.
    RejectedByClose { session: Session },
}

/// Whether a connection is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AdmissionState {
    /// Its request head is arriving, and it may be admitted.
    Pending,
    /// Its request head is arriving, and it will be refused.
    Refusing,
    /// Its user is admitted.
    Admitted,
    /// It is refused.
    Refused,
}

/// The end of a connection when the process stops. A connection that is not admitted always gets 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShutdownKind {
    /// An admitted connection stays open.
    Refusal,
    /// An admitted connection is closed with 1001.
    Away,
    /// An admitted connection is closed with 1012.
    Restart,
}

/// The state that the connections of a worker share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The length of the longest message in a single frame.
    pub(super) longest_whole: usize,
    /// The base of all [`CompactInstant`]s.
    pub(super) time_base: TimeBase,
    pub(super) jitter: Jitter,
    /// Has one reference more for each connection whose user is not known.
    pub(super) unidentified: Arc<()>,
    /// Requests of connections that may concern other workers, or the process.
    pub(super) requests: RefCell<Vec<PeerRequest>>,
    /// The log has stalled for more than a second, so new connections are refused.
    pub(super) is_stalled: Cell<bool>,
    /// The worker drains, so new connections are refused. They would not be in the schedule of the drain.
    pub(super) is_draining: Cell<bool>,
}

/// The configuration and the shared state of a turn.
pub(super) struct Context<'c, A> {
    pub(super) key: Key,
    pub(super) config: &'c WorkerConfig,
    pub(super) application: &'c mut A,
    pub(super) shared: &'c Shared,
}

impl<A: Application> Connection<A> {
    pub(super) fn new(
        arrival: NewConnection,
        now: Instant,
        time_base: TimeBase,
        config: &WorkerConfig,
    ) -> Connection<A> {
        Connection {
            id: arrival.id,
            since: time_base.compact(now),
            keep_alive: KeepAlive::new(now),
            stage: Stage::Handshake {
                reader: HeadReader::new(config.handshake.max_head),
                body: None,
                peer: arrival.peer,
                refusal: arrival.refusal,
                is_aborted: false,
            },
            output: Output::Empty,
            pace: None,
            flags: Flags::default(),
            held: 0,
            armed: None,
        }
    }

    /// Handles the end of the peer's side.
    pub(super) fn handle_eof(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Admitted { session, .. }
            | Stage::Unidentified { session, .. }
            | Stage::RejectedByClose { session } => session.handle_eof(now),
            // A refusal that the peer has not accepted is given up.
            Stage::Handshake { .. } | Stage::Refreshing { .. } | Stage::Refused { .. } => {
                self.abort(Ending::Eof)
            }
        }
    }

    /// Ends the connection at once. Pending output is lost.
    pub(super) fn abort(&mut self, ending: Ending) {
        self.output.abandon();
        match &mut self.stage {
            Stage::Handshake { is_aborted, .. }
            | Stage::Refreshing { is_aborted, .. }
            | Stage::Refused { is_aborted, .. } => *is_aborted = true,
            Stage::Admitted { session, .. }
            | Stage::Unidentified { session, .. }
            | Stage::RejectedByClose { session } => session.abort(ending),
        }
    }

    /// Whether it was ended at once, so that no bytes are sent or received.
    pub(super) fn is_aborted(&self) -> bool {
        match &self.stage {
            Stage::Handshake { is_aborted, .. }
            | Stage::Refreshing { is_aborted, .. }
            | Stage::Refused { is_aborted, .. } => *is_aborted,
            Stage::Admitted { session, .. }
            | Stage::Unidentified { session, .. }
            | Stage::RejectedByClose { session } => session.is_aborted(),
        }
    }

    /// Closes it because the process stops.
    pub(super) fn shut_down(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        kind: ShutdownKind,
        recorder: &mut impl Recorder,
    ) {
        let code = match kind {
            ShutdownKind::Refusal => None,
            ShutdownKind::Away => Some(CloseCode::GOING_AWAY),
            ShutdownKind::Restart => Some(CloseCode::SERVICE_RESTART),
        };
        match (&self.stage, code) {
            (Stage::Handshake { .. } | Stage::Unidentified { .. }, _) => {
                self.refuse(context, turn, HandshakeError::Draining, recorder);
            }
            (Stage::Admitted { .. }, Some(code)) => {
                let reconnect_after = Some(context.shared.jitter.reconnect_after());
                self.close(turn, ServerClose { code, reason: code.reason(), reconnect_after });
            }
            (
                Stage::Admitted { .. }
                | Stage::Refreshing { .. }
                | Stage::Refused { .. }
                | Stage::RejectedByClose { .. },
                _,
            ) => {}
        }
    }

    /// Begins to close it, because the server does. Returns whether it was open.
    pub(super) fn disconnect(&mut self, turn: &mut Turn<'_>, code: CloseCode, reason: &str) -> bool {
        self.close(turn, ServerClose { code, reason, reconnect_after: None })
    }

    /// Begins to close it, because the credentials of its user no longer hold.
    pub(super) fn end_credentials(
        &mut self,
        turn: &mut Turn<'_>,
        cause: CredentialsEnd,
        recorder: &mut impl Recorder,
    ) {
        let is_open = self.disconnect(turn, cause.close_code(), cause.reason());
        if let (true, Some(identity)) = (is_open, self.user()) {
            recorder.record(&Record::CredentialsEnded { connection: self.id, identity, cause });
        }
    }

    /// Begins to close it, after the application has changed the Close. Returns whether it was open.
    fn close(&mut self, turn: &mut Turn<'_>, mut close: ServerClose<'_>) -> bool {
        let Stage::Admitted { session, identity, client } = &mut self.stage else { return false };
        if !session.is_open() {
            return false;
        }
        A::closing(client, identity, &mut close, &mut Reply { session, turn, segments: None });
        session.close(turn, close.code, close.reason);
        true
    }

    /// Fails it with this code, because its client is slow or does not respond: see [`Session::fail_with`].
    fn fail(&mut self, turn: &mut Turn<'_>, code: CloseCode) {
        let mut close = ServerClose { code, reason: code.reason(), reconnect_after: None };
        match &mut self.stage {
            Stage::Admitted { session, identity, client } => {
                if session.is_open() {
                    A::closing(client, identity, &mut close, &mut Reply { session, turn, segments: None });
                }
                session.fail_with(turn, close.code, close.reason);
            }
            Stage::RejectedByClose { session } | Stage::Unidentified { session, .. } => {
                session.fail_with(turn, code, code.reason());
            }
            Stage::Handshake { .. } | Stage::Refreshing { .. } | Stage::Refused { .. } => {}
        }
    }

    /// Begins to close it for the application.
    pub(super) fn close_for_application(&mut self, turn: &mut Turn<'_>, code: CloseCode, reason: &str) {
        if let Stage::Admitted { session, .. } = &mut self.stage {
            session.close(turn, code, reason);
        }
    }

    /// Counts a message whose frame is shared: see [`Session::share_message`].
    #[inline]
    pub(super) fn share_message(&mut self, len: usize) -> Option<SharedForm> {
        let Stage::Admitted { session, .. } = &mut self.stage else { return None };
        session.share_message(len)
    }

    /// Returns the status for operators, if a user is admitted.
    pub(super) fn status(&self, time_base: TimeBase, config: &WorkerConfig) -> Option<Status<'_>> {
        let Stage::Admitted { session, identity, .. } = &self.stage else { return None };
        Some(Status {
            id: self.id,
            request_id: RequestId::new(identity.request_id(), config.handshake.instance, self.id),
            identity,
            since: time_base.instant(self.since),
            last_received: self.keep_alive.last_received(),
            round_trip: self.flags.round_trip(),
            traffic: session.traffic(),
            backlog: self.backlog_len(),
            is_open: session.is_open(),
            exceeds_since: self.exceeds_since(),
        })
    }

    /// Returns the number of bytes of pending output.
    pub(super) fn backlog_len(&self) -> usize {
        self.output.queue().map_or(0, OutputQueue::len)
    }

    /// Whether a pong waits for the backlog to be sent.
    pub(super) fn has_pong(&self) -> bool {
        matches!(
            &self.stage,
            Stage::Admitted { session, .. } | Stage::Unidentified { session, .. } | Stage::RejectedByClose { session }
                if session.has_pong()
        )
    }

    /// Sends the pending pong, unless there is a backlog again.
    pub(super) fn send_pong(&mut self, turn: &mut Turn<'_>) {
        if let Stage::Admitted { session, .. }
        | Stage::Unidentified { session, .. }
        | Stage::RejectedByClose { session } = &mut self.stage
        {
            session.send_pong(turn);
        }
    }

    /// Closes it with 4413 if the socket has not accepted all output that it was offered, and the pending output exceeds the
    /// limit.
    pub(super) fn enforce_max_backlog(&mut self, config: &WorkerConfig, now: Instant, codec: &mut Codec) {
        if !self
            .output
            .queue()
            .is_some_and(|queue| queue.is_offered() && queue.exceeds(config.session.max_backlog))
        {
            return;
        }
        let Output::Queue(mut queue) = mem::take(&mut self.output) else { return };
        let code = CloseCode(close_code::SLOW_CONSUMER);
        self.disconnect(
            &mut Turn { now, out: queue.tail(), is_backlogged: true, codec },
            code,
            code.reason(),
        );
        self.output = Output::Queue(queue);
    }

    /// Returns the size of its buffers and of the state of its client, in bytes.
    pub(super) fn memory(&self) -> usize {
        let output = self.output.queue().map_or(0, OutputQueue::memory);
        output
            + match &self.stage {
                Stage::Handshake { reader, .. } => reader.memory(),
                Stage::Admitted { session, client, .. } => {
                    // The state of a closing connection is about to be freed. An eviction cannot free it earlier, so if it were
                    // counted, further connections would be evicted in its place.
                    let state = if session.is_open() { A::client_memory(client) } else { 0 };
                    session.memory() + self.deferred_memory() + state
                }
                Stage::Unidentified { session, unidentified } => session.memory() + unidentified.memory(),
                Stage::RejectedByClose { session } => session.memory() + self.deferred_memory(),
                Stage::Refreshing { .. } | Stage::Refused { .. } => 0,
            }
    }

    /// Ends the connection, because memory is short. A peer with pending output gets no Close: it would be queued after that.
    pub(super) fn evict(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) {
        if turn.is_backlogged {
            return self.abort(Ending::Evicted);
        }
        self.pace = None;
        match &self.stage {
            Stage::Handshake { .. } | Stage::Unidentified { .. } => {
                self.refuse(context, turn, HandshakeError::Crowded, recorder);
            }
            Stage::Admitted { .. } | Stage::RejectedByClose { .. } => {
                self.fail(turn, CloseCode::TRY_AGAIN_LATER);
            }
            Stage::Refreshing { .. } | Stage::Refused { .. } => {}
        }
    }

    /// Whether more bytes may be read from the peer.
    pub(super) fn wants_read(&self, config: &WorkerConfig) -> bool {
        match &self.stage {
            Stage::Handshake { .. } | Stage::Refreshing { .. } | Stage::Refused { .. } => true,
            Stage::Unidentified { session, unidentified } if session.is_open() => {
                !unidentified.is_checking() && !self.is_over_pause_backlog(config)
            }
            Stage::Admitted { session, .. } | Stage::RejectedByClose { session } if session.is_open() => {
                self.pause().is_none() && !self.is_over_pause_backlog(config)
            }
            // Further messages are discarded. The Close of the peer or the end of its side is awaited.
            Stage::Admitted { session, .. }
            | Stage::Unidentified { session, .. }
            | Stage::RejectedByClose { session } => session.wants_read(),
        }
    }

    /// Whether the amount of pending output makes reading pause.
    pub(super) fn is_over_pause_backlog(&self, config: &WorkerConfig) -> bool {
        self.output.queue().is_some_and(|queue| queue.exceeds(config.session.pause_backlog))
    }

    /// Whether the next bytes may cause a record, so that they are not read while the log is full. `is_stalled` if the log has
    /// stalled for more than a second.
    pub(super) fn is_recorded(&self, is_stalled: bool) -> bool {
        match &self.stage {
            Stage::Handshake { .. } | Stage::Unidentified { .. } => !is_stalled,
            Stage::Admitted { session, .. } => session.is_open(),
            Stage::Refreshing { .. } | Stage::Refused { .. } | Stage::RejectedByClose { .. } => false,
        }
    }

    /// Whether its user is admitted and no Close was sent in either direction.
    pub(super) fn is_open(&self) -> bool {
        matches!(&self.stage, Stage::Admitted { session, .. } if session.is_open())
    }

    /// Whether reading pauses because its peer has exceeded a rate.
    pub(super) fn is_paused(&self) -> bool {
        self.pause().is_some()
    }

    /// Whether it is admitted.
    #[inline]
    pub(super) fn admission_state(&self) -> AdmissionState {
        match &self.stage {
            Stage::Handshake { refusal: None, .. } => AdmissionState::Pending,
            Stage::Handshake { refusal: Some(_), .. } => AdmissionState::Refusing,
            Stage::Unidentified { unidentified, .. } if unidentified.refusal.is_none() => {
                AdmissionState::Pending
            }
            Stage::Unidentified { .. } => AdmissionState::Refusing,
            Stage::Admitted { .. } => AdmissionState::Admitted,
            Stage::Refreshing { .. } | Stage::Refused { .. } | Stage::RejectedByClose { .. } => {
                AdmissionState::Refused
            }
        }
    }

    /// Whether its request head is still arriving, or its first message.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self.stage, Stage::Handshake { .. } | Stage::Unidentified { .. })
    }

    /// Decides that it will be refused, if its request head is still arriving.
    pub(super) fn refuse_when_complete(&mut self, error: HandshakeError) {
        match &mut self.stage {
            Stage::Handshake { refusal, .. } => _ = refusal.get_or_insert(error),
            Stage::Unidentified { unidentified, .. } => _ = unidentified.refusal.get_or_insert(error),
            Stage::Admitted { .. }
            | Stage::Refreshing { .. }
            | Stage::Refused { .. }
            | Stage::RejectedByClose { .. } => {}
        }
    }

    /// Returns the refusal that is decided and not sent yet.
    pub(super) fn refusal(&self) -> Option<HandshakeError> {
        match &self.stage {
            Stage::Handshake { refusal, .. } => *refusal,
            Stage::Unidentified { unidentified, .. } => unidentified.refusal,
            Stage::Admitted { .. }
            | Stage::Refreshing { .. }
            | Stage::Refused { .. }
            | Stage::RejectedByClose { .. } => None,
        }
    }

    /// Stops counting it for its user if it has begun to close. This happens before its Close is sent: a client that has read
    /// the Close may open its next connection at once, at another worker.
    #[inline]
    pub(super) fn release_user_if_closing(&mut self, config: &WorkerConfig) {
        if self.flags.is_counted() && !self.is_open() {
            self.release_user(config);
        }
    }

    /// Stops counting it for its user, because it is ending.
    #[cold]
    pub(super) fn release_user(&mut self, config: &WorkerConfig) {
        if !self.flags.is_counted() {
            return;
        }
        self.flags.set_counted(false);
        if let (Some(users), Some(user)) = (&config.users, self.user()) {
            users.leave(user.id(), self.id);
        }
    }

    /// Returns the state of its client and its user, if one is admitted.
    pub(super) fn client(&mut self) -> Option<(&mut A::Client, &Identity)> {
        if let Stage::Admitted { client, identity, .. } = &mut self.stage {
            Some((client, identity))
        } else {
            None
        }
    }

    /// Returns the state of its client, if a user is admitted.
    pub(super) fn client_state(&self) -> Option<&A::Client> {
        if let Stage::Admitted { client, .. } = &self.stage { Some(client) } else { None }
    }

    /// Sets the token of its user.
    pub(super) fn set_token(&mut self, token: TokenDetails<'_>) {
        if let Stage::Admitted { identity, .. } = &mut self.stage {
            *identity = identity.with_token(token);
        }
    }

    /// Sets when the token of its user expires, in seconds since 1970.
    pub(super) fn set_token_exp(&mut self, exp: Option<u64>) {
        if let Stage::Admitted { identity, .. } = &mut self.stage {
            *identity = identity.with_token_exp(exp);
        }
    }

    /// Returns the state of its client and its user, if one is admitted.
    pub(super) fn into_client(self) -> Option<(A::Client, Identity)> {
        if let Stage::Admitted { client, identity, .. } = self.stage {
            Some((client, identity))
        } else {
            None
        }
    }

    /// Returns its user, if one is admitted.
    pub(super) fn user(&self) -> Option<&Identity> {
        if let Stage::Admitted { identity, .. } = &self.stage { Some(identity) } else { None }
    }

    /// Returns what to do with the socket after all output is written.
    pub(super) fn transport(&self) -> Transport {
        match &self.stage {
            _ if self.is_aborted() => Transport::Close,
            Stage::Handshake { .. } | Stage::Refreshing { .. } => Transport::Open,
            Stage::Admitted { session, .. }
            | Stage::Unidentified { session, .. }
            | Stage::RejectedByClose { session } => session.transport(),
            Stage::Refused { .. } => Transport::ShutdownWrite,
        }
    }

    /// Records its end. `now` is when its socket was closed.
    pub(super) fn record_end(&self, now: Instant, time_base: TimeBase, recorder: &mut impl Recorder) {
        match &self.stage {
            Stage::Handshake { reader, peer, .. } => recorder.record(&Record::Abandoned {
                connection: self.id,
                peer: *peer,
                received: reader.collected(),
            }),
            Stage::Unidentified { session, unidentified } => {
                recorder.record(&unidentified.abandoned(self.id, session));
            }
            Stage::Admitted { session, identity, .. } => recorder.record(&Record::Closed {
                connection: self.id,
                identity,
                ending: session.ending().unwrap_or(Ending::Broken),
                reason: session.reason(),
                summary: Summary {
                    lasted: now.saturating_duration_since(time_base.instant(self.since)),
                    round_trip: self.flags.round_trip(),
                    traffic: session.traffic(),
                },
            }),
            Stage::Refreshing { .. } | Stage::Refused { .. } | Stage::RejectedByClose { .. } => {}
        }
    }
}
