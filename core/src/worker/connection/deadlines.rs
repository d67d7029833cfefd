//! The passing of time for a connection: deadlines, pauses and keep-alive.
//!
//! There are two kinds of deadlines. The peer can meet some of them by sending bytes: the rest of its request head or of a
//! message, a pong, the answer to a Close, the end of its side. These are handled only after its socket has been read, and do
//! not run while reading is paused. The others do not depend on received bytes.

use std::time::{Duration, Instant};

use crate::close_code::CloseCode;

use super::{Connection, Context, Stage};
use crate::close_code;
use crate::compact_instant::TimeBase;
use crate::handshake::HandshakeError;
use crate::policy::{KeepAliveAction, KeepAliveConfig, extend_if_late};
use crate::record::Recorder;
use crate::session::{Ending, TimerKind};
use crate::turn::Turn;
use crate::worker::config::WorkerConfig;
use crate::worker::timers::{Entry, Timers};
use crate::worker::{Application, Key};

impl<A: Application> Connection<A> {
    /// Whether the peer has accepted no output for too long. Only valid outside of a turn, which takes the backlog out of the
    /// connection.
    pub(in crate::worker) fn is_stalled(&self, config: &WorkerConfig, now: Instant) -> bool {
        self.stalls_at(config).is_some_and(|at| at <= now)
    }

    fn stalls_at(&self, config: &WorkerConfig) -> Option<Instant> {
        self.output.queue().and_then(|queue| queue.stalls_at(config.session.write_timeout))
    }

    /// Returns its earliest deadline.
    pub(in crate::worker) fn poll_timeout(
        &self,
        config: &WorkerConfig,
        time_base: TimeBase,
    ) -> Option<Instant> {
        let deadlines = [
            self.expires_at(config, time_base),
            self.resumes_at(config),
            self.pings_at(config, time_base),
            self.stalls_at(config),
            self.excess_ends_at(),
            self.lapses_at(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether a deadline has passed that does not depend on received bytes.
    pub(in crate::worker) fn is_due_unread(
        &self,
        config: &WorkerConfig,
        now: Instant,
        time_base: TimeBase,
    ) -> bool {
        let deadlines = [
            self.pings_at(config, time_base),
            self.stalls_at(config),
            self.excess_ends_at(),
            self.lapses_at(),
        ];
        deadlines.into_iter().flatten().any(|at| at <= now)
    }

    /// Returns the earliest deadline that its peer can meet by sending. None while reading is paused.
    pub(in crate::worker) fn expires_at(
        &self,
        config: &WorkerConfig,
        time_base: TimeBase,
    ) -> Option<Instant> {
        match &self.stage {
            Stage::Handshake { body, .. } => {
                let body = body.map(|(_, since)| time_base.instant(since) + LAST_CHUNK_TIMEOUT);
                let head = time_base.instant(self.since) + config.handshake.timeout;
                Some(body.map_or(head, |body| body.min(head)))
            }
            Stage::Admitted { session, .. } | Stage::RejectedByClose { session } => {
                if session.is_open() && !self.wants_read(config) {
                    return None;
                }
                let session = session.poll_timeout().map(|(at, _)| at);
                let pong =
                    self.beats_at(config, time_base).filter(|_| self.keep_alive.is_unanswered(time_base));
                [session, pong].into_iter().flatten().min()
            }
            Stage::Unidentified { session, unidentified } => {
                let of_session = session.poll_timeout().map(|(at, _)| at);
                let first = session.is_open().then(|| time_base.instant(unidentified.until));
                [of_session, first].into_iter().flatten().min()
            }
            Stage::Refreshing { .. } => Some(time_base.instant(self.since) + config.handshake.timeout),
            Stage::Refused { until, .. } => Some(*until),
        }
    }

    /// Returns the time at which a pause for a rate ends. None while reading pauses because of pending output.
    fn resumes_at(&self, config: &WorkerConfig) -> Option<Instant> {
        self.pause().filter(|_| !self.is_over_pause_backlog(config)).map(|(_, until)| until)
    }

    /// Returns when to ping its peer.
    fn pings_at(&self, config: &WorkerConfig, time_base: TimeBase) -> Option<Instant> {
        self.beats_at(config, time_base).filter(|_| !self.keep_alive.is_unanswered(time_base))
    }

    /// Ensures that a timer entry exists for its deadline, or for an earlier time.
    #[inline]
    pub(in crate::worker) fn arm(
        &mut self,
        key: Key,
        timers: &mut Timers,
        config: &WorkerConfig,
        time_base: TimeBase,
    ) {
        self.keep_alive.clear_answered_ping(time_base);
        if let Some(at) = self.poll_timeout(config, time_base) {
            let at = time_base.compact(at);
            if self.armed.is_none_or(|armed| at < armed) {
                self.armed = Some(at);
                timers.push(Entry::new(at, key, self.id));
            }
        }
    }

    /// Returns when to ping its peer, or to close because it has not answered. None while output is pending: a ping
    /// would be queued after it, and the write timeout applies.
    fn beats_at(&self, config: &WorkerConfig, time_base: TimeBase) -> Option<Instant> {
        let Stage::Admitted { session, .. } = &self.stage else { return None };
        let is_asked = session.is_open() && self.output.is_empty();
        if is_asked { self.keep_alive.deadline(self.pulse(config), time_base) } else { None }
    }

    fn pulse(&self, config: &WorkerConfig) -> KeepAliveConfig {
        config.keep_alive.of(self.id.0)
    }

    /// Records a read from its peer.
    #[inline(always)]
    pub(in crate::worker) fn on_received(&mut self, now: Instant) {
        self.keep_alive.on_received(now);
    }

    /// Restarts the timeout of a queued ping. Call it when all pending output has been sent.
    pub(in crate::worker) fn on_drained(&mut self, now: Instant, time_base: TimeBase) {
        self.keep_alive.on_drained(now, time_base);
    }

    /// Handles passed deadlines. Call it after the socket has been read. `is_unread` if reading is paused: then deadlines that
    /// the peer may have met by unread bytes are ignored.
    pub(in crate::worker) fn handle_deadlines(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        is_unread: bool,
        recorder: &mut impl Recorder,
    ) {
        let time_base = context.shared.time_base;
        match &mut self.stage {
            Stage::Handshake { body: Some((_, since)), .. }
                if !is_unread && time_base.instant(*since) + LAST_CHUNK_TIMEOUT <= turn.now =>
            {
                self.refuse(context, turn, HandshakeError::Body, recorder);
            }
            Stage::Handshake { reader, .. } => {
                let has_begun = reader.collected() > 0;
                let timeout = context.config.handshake.timeout;
                let at = time_base.instant(self.since) + timeout;
                if is_unread || turn.now < at {
                    return;
                }
                match extend_if_late(at, turn.now, timeout) {
                    Some(more) => {
                        let late = turn.now.saturating_duration_since(at);
                        self.since = time_base.compact(time_base.instant(self.since) + late + more);
                    }
                    None if has_begun => self.refuse(context, turn, HandshakeError::Timeout, recorder),
                    // The client has sent nothing, so there is no answer: gateways and browsers open connections ahead of use.
                    None => self.abort(Ending::Eof),
                }
            }
            Stage::Unidentified { session, unidentified } => {
                if session.is_open() && time_base.instant(unidentified.until) <= turn.now {
                    let error = match unidentified.is_checking() {
                        true => HandshakeError::TokenUnchecked,
                        false => HandshakeError::FirstMessage,
                    };
                    return self.refuse(context, turn, error, recorder);
                }
                self.handle_session_deadlines(context, turn, is_unread);
            }
            Stage::Refreshing { .. } => {
                if time_base.instant(self.since) + context.config.handshake.timeout <= turn.now {
                    self.answer_refresh(context, turn, recorder);
                }
            }
            Stage::Refused { until, .. } if *until <= turn.now => self.abort(Ending::Broken),
            Stage::Refused { .. } => {}
            Stage::Admitted { .. } | Stage::RejectedByClose { .. } => {
                let was_paused = self.pause().is_some();
                self.lapse(turn.now);
                if !is_unread {
                    self.resume(context, turn, recorder);
                }
                // The bytes that its peer sent during a pause are read only after this.
                let is_unread = is_unread || was_paused;
                self.end_excess(turn.now, recorder);
                self.handle_session_deadlines(context, turn, is_unread);
                self.beat(context, turn, is_unread);
            }
        }
    }

    fn handle_session_deadlines(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        is_unread: bool,
    ) {
        let is_paused = self.pause().is_some();
        let (Stage::Admitted { session, .. }
        | Stage::Unidentified { session, .. }
        | Stage::RejectedByClose { session }) = &mut self.stage
        else {
            return;
        };
        if session.is_open() && (is_unread || is_paused) {
            return;
        }
        let Some((at, kind)) = session.poll_timeout() else { return };
        let config = &context.config.session;
        let more = match kind {
            TimerKind::Message => extend_if_late(at, turn.now, config.message_timeout),
            TimerKind::Close => extend_if_late(at, turn.now, config.close_timeout),
            // Further bytes of the peer would have no effect.
            TimerKind::Linger => None,
        };
        match more {
            Some(more) => session.postpone_until(turn.now + more),
            None => session.handle_timeout(turn),
        }
        if session.is_aborted() {
            self.abort(Ending::Broken);
        }
    }

    /// Pings its peer if that is idle, and closes if it has not answered. If the answer may be unread, it does not close.
    /// Pings are sent in any case, because they keep gateways from closing an idle connection.
    fn beat(&mut self, context: &mut Context<'_, A>, turn: &mut Turn<'_>, is_unread: bool) {
        let (config, time_base) = (self.pulse(context.config), context.shared.time_base);
        let is_unread = is_unread || self.pause().is_some();
        let Stage::Admitted { session, .. } = &mut self.stage else { return };
        if !session.is_open() || turn.is_backlogged || (is_unread && self.keep_alive.is_unanswered(time_base))
        {
            return;
        }
        match self.keep_alive.poll(turn.now, config, time_base) {
            KeepAliveAction::Wait => {}
            // It does not fail, because the session is open.
            KeepAliveAction::Ping(payload) => drop(session.ping(turn, &payload)),
            KeepAliveAction::Close => self.fail(turn, CloseCode(close_code::NO_PONG)),
        }
    }

    /// Returns the time since which the peer has made no progress: it has accepted no pending output, or has been
    /// sending an incomplete message or head.
    pub(in crate::worker) fn waits_since(
        &self,
        config: &WorkerConfig,
        now: Instant,
        time_base: TimeBase,
    ) -> Instant {
        match (self.output.queue(), &self.stage) {
            (Some(queue), _) => queue.progress(),
            (
                None,
                Stage::Admitted { session, .. }
                | Stage::Unidentified { session, .. }
                | Stage::RejectedByClose { session },
            ) => {
                match session.poll_timeout() {
                    Some((at, TimerKind::Message)) => {
                        at.checked_sub(config.session.message_timeout).unwrap_or(now)
                    }
                    // Messages have no time limit, so the beginning of this one was not recorded.
                    Some(_) | None => time_base.instant(self.since),
                }
            }
            (None, Stage::Handshake { .. } | Stage::Refreshing { .. } | Stage::Refused { .. }) => {
                time_base.instant(self.since)
            }
        }
    }

    /// Extends the deadlines of its peer, because nothing was read from it from `since` until `now`, so the rest of a message
    /// may not have fitted into the kernel's buffers.
    pub(in crate::worker) fn postpone(&mut self, since: Instant, now: Instant, time_base: TimeBase) {
        match &mut self.stage {
            Stage::Handshake { .. } => {
                let begun = time_base.instant(self.since);
                self.since = time_base.compact(begun + now.saturating_duration_since(since.max(begun)));
            }
            Stage::Unidentified { session, unidentified } => {
                let until = time_base.instant(unidentified.until);
                unidentified.until = time_base.compact(until + now.saturating_duration_since(since));
                session.postpone(now.saturating_duration_since(since));
            }
            Stage::Admitted { session, .. } | Stage::RejectedByClose { session } => {
                session.postpone(now.saturating_duration_since(since));
            }
            Stage::Refreshing { .. } | Stage::Refused { .. } => {}
        }
    }
}

/// The longest time from the request head to the end of an announced body. A proxy that sends this end sends it with
/// the head or directly after it. Without it, the next bytes could be a body or frames.
const LAST_CHUNK_TIMEOUT: Duration = Duration::from_secs(1);
