//! What becomes of a connection when time passes: deadlines, pauses and the heartbeat.

use std::time::Instant;

use tungstenite::protocol::frame::coding::CloseCode;

use super::{Connection, Context, Stage};
use crate::close_code;
use crate::handshake::HandshakeError;
use crate::moment::Epoch;
use crate::policy::{Beat, HeartbeatConfig};
use crate::record::Recorder;
use crate::service::config::ServiceConfig;
use crate::session::{Ending, TimerKind};
use crate::turn::Turn;

impl Connection {
    /// Whether the peer has taken nothing for too long. Asked outside of a turn, which lends the backlog.
    pub(in crate::service) fn is_stalled(&self, config: &ServiceConfig, now: Instant) -> bool {
        self.stalls_at(config).is_some_and(|at| at <= now)
    }

    fn stalls_at(&self, config: &ServiceConfig) -> Option<Instant> {
        self.backlog.as_ref().and_then(|backlog| backlog.stalls_at(config.session.write_timeout))
    }

    /// When it has to be looked at although its socket says nothing.
    pub(in crate::service) fn poll_timeout(&self, config: &ServiceConfig, epoch: Epoch) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::Handshake { .. } => Some(epoch.instant(self.since) + config.handshake.timeout),
            Stage::Admitted { session, .. } | Stage::Dismissed { session } => match self.pause() {
                Some((_, until)) => Some(until),
                None => {
                    let session = session.poll_timeout().map(|(at, _)| at);
                    [session, self.beats_at(config, epoch)].into_iter().flatten().min()
                }
            },
            Stage::Refused { until, .. } => Some(*until),
        };
        [stage, self.stalls_at(config)].into_iter().flatten().min()
    }

    /// Tells that its deadline is being looked at.
    pub(in crate::service) fn settle_heartbeat(&mut self, epoch: Epoch) {
        self.heartbeat.settle(epoch);
    }

    /// When its peer is to be pinged, or is gone. Not while anything waits to be sent, which a ping would have to wait
    /// behind: then it matters whether the peer takes it.
    fn beats_at(&self, config: &ServiceConfig, epoch: Epoch) -> Option<Instant> {
        let Stage::Admitted { session, .. } = &self.stage else { return None };
        let is_asked = session.is_open() && self.backlog.is_none();
        if is_asked { self.heartbeat.due(self.pulse(config), epoch) } else { None }
    }

    fn pulse(&self, config: &ServiceConfig) -> HeartbeatConfig {
        config.heartbeat.of(self.id.0)
    }

    /// Tells that something was read of its peer.
    #[inline(always)]
    pub(in crate::service) fn hear(&mut self, now: Instant) {
        self.heartbeat.hear(now);
    }

    /// Tells that all that waited to be sent is sent.
    pub(in crate::service) fn drained(&mut self, now: Instant, epoch: Epoch) {
        self.heartbeat.reach(now, epoch);
    }

    /// Tells that time has passed; does nothing that is not due.
    pub(in crate::service) fn handle_timeout(
        &mut self,
        context: &Context<'_>,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) {
        match &mut self.stage {
            Stage::Handshake { .. }
                if context.common.epoch.instant(self.since) + context.config.handshake.timeout
                    <= turn.now =>
            {
                self.refuse(context, turn, HandshakeError::Timeout, recorder);
            }
            Stage::Refused { until, .. } if *until <= turn.now => self.abort(Ending::Broken),
            Stage::Admitted { session, .. } | Stage::Dismissed { session } => {
                if let Some(pace) = &mut self.pace
                    && let Some((since, until)) = pace.pause
                {
                    if session.is_open() && turn.now < until {
                        return;
                    }
                    pace.pause = None;
                    let by = turn.now.saturating_duration_since(since);
                    session.postpone(by);
                    self.heartbeat.postpone(by, context.common.epoch);
                }
                session.handle_timeout(turn);
                if session.is_aborted() {
                    return self.abort(Ending::Broken);
                }
                self.beat(context, turn);
            }
            Stage::Handshake { .. } | Stage::Refused { .. } => {}
        }
    }

    /// Pings its peer if that is quiet, and ends it if that has not answered.
    fn beat(&mut self, context: &Context<'_>, turn: &mut Turn<'_>) {
        let config = self.pulse(context.config);
        let Stage::Admitted { session, .. } = &mut self.stage else { return };
        if !session.is_open() || turn.is_backlogged {
            return;
        }
        match self.heartbeat.judge(turn.now, config, context.common.epoch) {
            Beat::Still => {}
            // It is open.
            Beat::Ping(payload) => drop(session.ping(turn, &payload)),
            Beat::Gone => session.dismiss(turn, CloseCode::from(close_code::NO_PONG), "no pong"),
        }
    }

    /// Since when its peer has been keeping them: has taken nothing of what waits, or has been sending what is not
    /// whole.
    pub(in crate::service) fn waits_since(
        &self,
        config: &ServiceConfig,
        now: Instant,
        epoch: Epoch,
    ) -> Instant {
        match (&self.backlog, &self.stage) {
            (Some(backlog), _) => backlog.progress(),
            (None, Stage::Admitted { session, .. } | Stage::Dismissed { session }) => {
                match session.poll_timeout() {
                    Some((at, TimerKind::Message)) => {
                        at.checked_sub(config.session.message_timeout).unwrap_or(now)
                    }
                    // Messages may take for ever, so nobody has noted when this one began.
                    Some(_) | None => epoch.instant(self.since),
                }
            }
            (None, Stage::Handshake { .. } | Stage::Refused { .. }) => epoch.instant(self.since),
        }
    }

    /// Whether its next deadline is for something that the peer is to say.
    pub(in crate::service) fn waits_for_peer(&self, epoch: Epoch) -> bool {
        match &self.stage {
            Stage::Handshake { .. } => true,
            // A ping that is due is sent, but who has not answered the last one may have, unheard.
            Stage::Admitted { session, .. } | Stage::Dismissed { session } => match session.poll_timeout() {
                Some((_, timer)) => timer == TimerKind::Message,
                None => self.heartbeat.is_unanswered(epoch),
            },
            Stage::Refused { .. } => false,
        }
    }

    /// Tells that its peer was not heard from `since` until `now`.
    pub(in crate::service) fn postpone(&mut self, since: Instant, now: Instant, epoch: Epoch) {
        match &mut self.stage {
            Stage::Handshake { .. } => {
                let begun = epoch.instant(self.since);
                self.since = epoch.moment(begun + now.saturating_duration_since(since.max(begun)));
            }
            Stage::Admitted { session, .. } | Stage::Dismissed { session } => {
                let by = now.saturating_duration_since(since);
                session.postpone(by);
                self.heartbeat.postpone(by, epoch);
            }
            Stage::Refused { .. } => {}
        }
    }
}
