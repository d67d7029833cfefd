//! Handles received bytes: the messages of an admitted user, and the frames of a connection that was rejected by a Close.

use std::time::Instant;

use super::flags::Flags;
use super::watch::{NoWatch, Watch};
use super::{Connection, Context, Stage};
use crate::compact_instant::TimeBase;
use crate::frame::DataKind;
use crate::handshake::Identity;
use crate::id::ConnectionId;
use crate::input::{Input, Payload};
use crate::output::OutputSegments;
use crate::policy::KeepAlive;
use crate::record::{Record, Recorder};
use crate::session::{Event, Session};
use crate::turn::Turn;
use crate::wipe::Wipe;
use crate::worker::config::WorkerConfig;
use crate::worker::{Application, Message, Reply};

/// The parts of a connection that its messages need.
pub(in crate::worker) struct Admitted<'c, A: Application> {
    id: ConnectionId,
    identity: &'c Identity,
    client: &'c mut A::Client,
    session: &'c mut Session,
    keep_alive: &'c mut KeepAlive,
    flags: &'c mut Flags,
}

impl<A: Application> Admitted<'_, A> {
    /// Returns the number of its connection.
    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns the user.
    pub(super) fn identity(&self) -> &Identity {
        self.identity
    }

    /// Sends a message, unless it is closing.
    pub(super) fn send_text(&mut self, turn: &mut Turn<'_>, text: &str) {
        let _ = self.session.send_text(turn, text);
    }

    /// Records a read from its peer.
    #[inline(always)]
    pub(in crate::worker) fn on_received(&mut self, now: Instant) {
        self.keep_alive.on_received(now);
    }

    /// Whether no Close was sent in either direction.
    #[inline(always)]
    pub(in crate::worker) fn is_open(&self) -> bool {
        self.session.is_open()
    }

    /// Returns whether the state of its client may have a size: see [`Application::has_client_memory`].
    #[inline(always)]
    pub(in crate::worker) fn has_client_memory(&self) -> bool {
        A::has_client_memory(self.client)
    }

    /// Handles the messages at the front of `input` that arrived whole. Call it only between messages of an open session.
    // Inlined into the path of short messages.
    #[inline(always)]
    pub(in crate::worker) fn receive_whole_messages(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        input: &mut Input<'_>,
        recorder: &mut impl Recorder,
    ) {
        let longest = context.shared.longest_whole;
        while let Some((kind, payload)) = self.session.take_whole_message(longest, input) {
            self.handle_short_message(context, turn, kind, Payload::Borrowed(payload), None, recorder);
            // The application may close the session, whose further messages are discarded.
            if !self.session.is_open() {
                break;
            }
        }
    }

    #[inline(always)]
    fn handle_message<'b>(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        kind: DataKind,
        payload: Payload<'b>,
        segments: Option<&mut OutputSegments<'b>>,
        recorder: &mut impl Recorder,
    ) {
        if A::has_short_path(self.client) {
            return self.handle_short_message(context, turn, kind, payload, segments, recorder);
        }
        let &mut Admitted { id: connection, identity, .. } = self;
        let message = Message { connection, identity, kind, payload, is_recorded: recorder.wants_messages() };
        let reply = &mut Reply { session: self.session, turn, segments };
        context.application.message(self.client, message, reply, recorder);
    }

    /// Does the same for a client with a [short path](Application::has_short_path).
    #[inline(always)]
    fn handle_short_message<'b>(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        kind: DataKind,
        payload: Payload<'b>,
        segments: Option<&mut OutputSegments<'b>>,
        recorder: &mut impl Recorder,
    ) {
        let &mut Admitted { id: connection, identity, .. } = self;
        let message = Message { connection, identity, kind, payload, is_recorded: recorder.wants_messages() };
        let reply = &mut Reply { session: self.session, turn, segments };
        context.application.short_message(self.client, message, reply, recorder);
    }

    fn handle_pong(
        &mut self,
        payload: &[u8],
        now: Instant,
        time_base: TimeBase,
        recorder: &mut impl Recorder,
    ) {
        if let Some(round_trip) = self.keep_alive.on_pong(now, payload, time_base) {
            self.flags.set_round_trip(round_trip);
            let &mut Admitted { id: connection, identity, .. } = self;
            recorder.record(&Record::Pong { connection, identity, round_trip });
        }
    }
}

impl<A: Application> Connection<A> {
    /// Handles the bytes of one read. Large answers go into `segments`, if given. `in_place` is the number of bytes before them
    /// that were received into the buffer of a message.
    pub(in crate::worker) fn receive<'b>(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        input: &mut Input<'b>,
        in_place: usize,
        segments: Option<&mut OutputSegments<'b>>,
        recorder: &mut impl Recorder,
    ) {
        if !matches!(self.stage, Stage::Admitted { .. }) {
            // A request head or a first message, which may contain a token.
            turn.codec.wipe(Wipe::Read);
        }
        if let Stage::Handshake { .. } = self.stage {
            self.handshake(context, turn, input, recorder);
        }
        if let Stage::Unidentified { .. } = self.stage {
            self.receive_first_message(context, turn, input, recorder);
        }
        // The bytes after the head in the same read are frames.
        let received = in_place + input.len();
        if self.is_limited(context.config) {
            self.receive_paced(context, turn, input.take(received), recorder);
            return self.charge(context, turn, received);
        }
        self.receive_messages(&mut { u64::MAX }, &mut NoWatch, context, turn, input, segments, recorder);
        if let Stage::RejectedByClose { session } = &mut self.stage {
            // Frames must still be valid, but the connection has no user whose messages would be handled.
            while let Ok(Some(_)) = session.next_event(turn, input) {}
        }
        self.charge(context, turn, received);
    }

    /// Handles the bytes of one read from an admitted user. Messages above `budget` are not handled, control frames between two
    /// messages are.
    #[expect(clippy::too_many_arguments, reason = "each is of another kind")]
    pub(super) fn receive_messages<'b>(
        &mut self,
        budget: &mut u64,
        watch: &mut impl Watch,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        input: &mut Input<'b>,
        mut segments: Option<&mut OutputSegments<'b>>,
        recorder: &mut impl Recorder,
    ) {
        let Some(mut user) = self.admitted() else { return };
        loop {
            if user.session.is_between_messages() {
                while *budget > 0
                    && user.session.is_open()
                    && let Some((kind, payload)) =
                        user.session.take_whole_message(context.shared.longest_whole, input)
                {
                    *budget -= 1;
                    if watch.handle(&mut user, context, turn, (kind, payload), recorder) {
                        continue;
                    }
                    let payload = Payload::Borrowed(payload);
                    user.handle_message(context, turn, kind, payload, segments.as_deref_mut(), recorder);
                }
                if input.is_empty() {
                    return;
                }
            }
            if *budget == 0 && !user.session.begins_control_frame(input) {
                return;
            }
            // The session has answered an error of the peer, and `transport` returns what follows.
            let Ok(Some(event)) = user.session.next_event(turn, input) else { return };
            let (kind, mut payload) = match event {
                Event::Text(text) => (DataKind::Text, text.into_payload()),
                Event::Binary(payload) => (DataKind::Binary, payload),
                Event::Pong(payload) => {
                    user.handle_pong(&payload, turn.now, context.shared.time_base, recorder);
                    continue;
                }
                Event::Ping(_) | Event::Close { .. } => continue,
            };
            *budget = budget.saturating_sub(1);
            if watch.handle(&mut user, context, turn, (kind, &payload), recorder) {
                payload.wipe();
                continue;
            }
            user.handle_message(context, turn, kind, payload, segments.as_deref_mut(), recorder);
        }
    }

    /// Returns its parts that a message needs, if its user is admitted.
    #[inline(always)]
    pub(in crate::worker) fn admitted(&mut self) -> Option<Admitted<'_, A>> {
        let Stage::Admitted { session, identity, client } = &mut self.stage else { return None };
        Some(Admitted {
            id: self.id,
            identity,
            client,
            session,
            keep_alive: &mut self.keep_alive,
            flags: &mut self.flags,
        })
    }

    /// Does the same as [`admitted`](Connection::admitted) if it is also [quiet](Connection::is_quiet), and its messages have a
    /// [short path](Application::has_short_path).
    #[inline(always)]
    pub(in crate::worker) fn quiet(&mut self) -> Option<Admitted<'_, A>> {
        if self.is_quiet() { self.admitted().filter(|user| A::has_short_path(user.client)) } else { None }
    }

    /// Whether its user is admitted, and only the next bytes of its peer need attention: they begin a message or a control frame.
    /// No output is pending, no ping is unanswered, and it has no rates.
    #[inline]
    pub(in crate::worker) fn is_quiet(&self) -> bool {
        self.output.is_empty()
            && self.pace.is_none()
            && self.keep_alive.has_no_ping()
            && matches!(&self.stage, Stage::Admitted { session, .. } if session.is_between_messages())
    }

    /// Returns the buffer of a large message that is arriving, for a read to append to.
    #[inline]
    pub(in crate::worker) fn spare_buffer(&mut self, config: &WorkerConfig) -> Option<&mut Vec<u8>> {
        // Such a read may be of any length, so it is not used with a limited rate of bytes.
        let is_limited =
            self.is_limited(config) && (config.session.byte_rate.per_second != 0 || !self.is_quiet_pace());
        if let Stage::Admitted { session, .. } = &mut self.stage
            && !is_limited
        {
            session.spare_buffer()
        } else {
            None
        }
    }

    /// Removes the bytes that a read has appended to that buffer after the end of the frame.
    pub(in crate::worker) fn take_excess(&mut self) -> Vec<u8> {
        if let Stage::Admitted { session, .. } = &mut self.stage { session.take_excess() } else { Vec::new() }
    }
}
