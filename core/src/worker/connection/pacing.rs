//! Limits the rates of a client by pauses ([`RatePolicy::Pause`]).
//!
//! A client that keeps its rates is not affected. If it exceeds them, only as many bytes are read, and only as many messages
//! are handled, as its allowance permits. Further bytes stay in the kernel, except for the end of one read, which is deferred:
//!
//! ```text
//!   socket ──read, as many bytes as are left──▶ [ handled, as many messages as are left | deferred ]
//! ```
//!
//! When the allowance is used up, reading pauses until the next [step](crate::policy::Rate::step): ten milliseconds or one
//! message later. So the rate holds over every second, for messages of any size.

use std::mem;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::close_code::CloseCode;

use super::watch::{NoWatch, TokenWatch};
use super::{Connection, Context, Stage};
use crate::bearer_token::TokenCheck;
use crate::close_code;
use crate::input::Input;
use crate::policy::{Rate, RateKind, Rates};
use crate::record::{CredentialsEnd, Record, Recorder};
use crate::session::{RatePolicy, Session};
use crate::turn::Turn;
use crate::wipe::{self, Wipe};
use crate::worker::Application;
use crate::worker::check::{CheckPurpose, CheckRequest, CheckTicket};
use crate::worker::config::WorkerConfig;
use crate::worker::refresh::PeerRequest;

/// The rates of a peer, and what else its messages wait for. Each connection has one if rates are set, if its messages may
/// contain tokens, or if its token is checked again.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Whether rates are set.
    is_rated: bool,
    rates: Rates,
    /// Present if its messages may contain tokens, or its token is checked again.
    pub(super) watch: Option<Box<TokenWatch>>,
    /// The number of its messages that were charged, with [`RatePolicy::Close`].
    charged: u64,
    /// Present while the client exceeds a rate, and for some time afterwards.
    excess: Option<Box<Excess>>,
    /// Received bytes that are not handled yet: they exceed the allowance, or have arrived before the user was admitted.
    /// They may contain a token, so the memory is overwritten when it is dropped.
    deferred: Zeroizing<Vec<u8>>,
}

/// The state of a client that exceeds a rate.
#[derive(Debug)]
struct Excess {
    /// When it began.
    since: Instant,
    /// The start and the end of the current pause of reading.
    pause: Option<(Instant, Instant)>,
    /// When the last pause ended, and when it should have ended: the allowance since then is added to the current one.
    resumed: (Instant, Instant),
    /// The number of pauses.
    pauses: u64,
}

/// The cause of deferred bytes.
#[derive(Debug, Clone, Copy)]
enum Waits {
    /// They exceed this rate.
    ForRate(RateKind),
    /// The token is checked.
    ForCheck,
}

impl Pacing {
    /// Creates the pacing of a connection that has rates, or a watch.
    pub(super) fn new(has_rates: bool, watch: Option<TokenWatch>) -> Option<Box<Pacing>> {
        (has_rates || watch.is_some()).then(|| {
            Box::new(Pacing { is_rated: has_rates, watch: watch.map(Box::new), ..Pacing::default() })
        })
    }

    /// Whether messages need no look at them before they are handled.
    fn is_quiet(&self) -> bool {
        !self.is_rated && self.deferred.is_empty() && self.watch.as_ref().is_none_or(|watch| watch.is_quiet())
    }

    /// Whether messages may contain tokens, or bytes are deferred.
    fn is_needed_without_rates(&self) -> bool {
        self.watch.is_some() || !self.deferred.is_empty()
    }

    /// Returns the time from which the allowance is computed in a turn at `now`. It is earlier than `now` if a pause
    /// ended in this turn, later than it should have.
    fn since(&self, now: Instant) -> Instant {
        match &self.excess {
            Some(excess) if excess.resumed.0 == now => excess.resumed.1,
            Some(_) | None => now,
        }
    }

    /// Begins a pause.
    fn pause(&mut self, kind: RateKind, config: &WorkerConfig, now: Instant) -> &mut Excess {
        let (messages, bytes) = (config.session.message_rate, config.session.byte_rate);
        let until = match kind {
            RateKind::Messages => self.rates.messages.at_least(messages.step(), messages),
            RateKind::Bytes => self.rates.bytes.at_least(bytes.step(), bytes),
        };
        // It is later than `now`, because the allowance is less than a step.
        let until = until.unwrap_or(now).max(now + MIN_PAUSE);
        let excess = self.excess.get_or_insert_with(|| {
            Box::new(Excess { since: now, pause: None, resumed: (now, now), pauses: 0 })
        });
        excess.pause = Some((now, until));
        excess.pauses += 1;
        excess
    }
}

impl<A: Application> Connection<A> {
    /// Whether its rates are limited by pauses, or its messages are watched.
    pub(in crate::worker) fn is_limited(&self, config: &WorkerConfig) -> bool {
        self.pace.as_ref().is_some_and(|pace| {
            config.session.rate_policy == RatePolicy::Pause || pace.is_needed_without_rates()
        })
    }

    /// Whether its messages need no look at them before they are handled.
    pub(super) fn is_quiet_pace(&self) -> bool {
        self.pace.as_ref().is_none_or(|pace| pace.is_quiet())
    }

    /// Whether its client counts as exceeding a rate.
    pub(in crate::worker) fn is_pacing(&self) -> bool {
        self.exceeds_since().is_some()
    }

    /// Returns the time since which its client has exceeded a rate.
    pub(super) fn exceeds_since(&self) -> Option<Instant> {
        Some(self.excess()?.since)
    }

    fn excess(&self) -> Option<&Excess> {
        self.pace.as_ref()?.excess.as_deref()
    }

    /// Returns the start and the end of a pause of reading, for a rate or for the check of a token. It does not pause after a
    /// Close, because further messages are discarded.
    pub(super) fn pause(&self) -> Option<(Instant, Instant)> {
        let pace = self.pace.as_deref()?;
        let check = pace.watch.as_ref().and_then(|watch| watch.check());
        check.or_else(|| pace.excess.as_ref()?.pause).filter(|_| self.is_open())
    }

    /// Requires a check of its token if the time has passed.
    pub(super) fn lapse(&mut self, now: Instant) {
        if let Some(watch) = self.pace.as_mut().and_then(|pace| pace.watch.as_mut()) {
            watch.lapse(now);
        }
    }

    /// Returns when its token must be checked before its next message.
    pub(super) fn lapses_at(&self) -> Option<Instant> {
        self.pace.as_ref()?.watch.as_ref()?.lapses_at().filter(|_| self.is_open())
    }

    /// Returns the time at which its client no longer counts as exceeding a rate, because it has kept its rates for
    /// long enough.
    pub(super) fn excess_ends_at(&self) -> Option<Instant> {
        let excess = self.excess().filter(|excess| excess.pause.is_none() && self.is_open())?;
        Some(excess.resumed.0 + CONFORMING_TIME)
    }

    /// Whether there are deferred bytes.
    pub(in crate::worker) fn has_deferred(&self) -> bool {
        self.pace.as_ref().is_some_and(|pace| !pace.deferred.is_empty())
    }

    /// Returns the memory of those bytes.
    pub(super) fn deferred_memory(&self) -> usize {
        self.pace.as_ref().map_or(0, |pace| pace.deferred.capacity())
    }

    /// Returns the number of bytes that may be read now. `None` if reading pauses.
    pub(in crate::worker) fn room(
        &mut self,
        config: &WorkerConfig,
        now: Instant,
        recorder: &mut impl Recorder,
    ) -> Option<usize> {
        let (Some(pace), Stage::Admitted { session, .. }) = (&self.pace, &self.stage) else {
            return Some(usize::MAX);
        };
        if !session.is_open() {
            return Some(usize::MAX);
        }
        let since = pace.since(now);
        let (messages, bytes) = paced_rates(config);
        let bytes_left = pace.rates.bytes.left(now, since, bytes);
        if bytes.per_second != 0 && bytes_left < bytes.step() {
            self.begin_pause(RateKind::Bytes, config, now, recorder);
            return None;
        }
        let room = usize::try_from(bytes_left).unwrap_or(usize::MAX);
        if messages.per_second == 0 {
            return Some(room);
        }
        if pace.rates.messages.left(now, since, messages) == 0 && !session.is_between_messages() {
            // The next bytes may be the end of a message that exceeds the allowance. Between messages they may be a control
            // frame, which is always handled.
            self.begin_pause(RateKind::Messages, config, now, recorder);
            return None;
        }
        Some(room.min(MOST_READ))
    }

    /// Handles the bytes of one read.
    pub(super) fn receive_paced(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        bytes: &mut [u8],
        recorder: &mut impl Recorder,
    ) {
        if self.has_deferred() || self.pause().is_some() {
            // The runtime has read although reading was paused: the bytes are deferred after earlier ones.
            self.defer(bytes, turn);
            if self.pause().is_none() {
                self.handle_deferred(context, turn, recorder);
            }
            return;
        }
        let (handled, waits) = self.handle_due(context, turn, bytes, recorder);
        if let Some(waits) = waits {
            self.begin_wait(waits, context, turn.now, recorder);
            self.defer(bytes.get(handled..).unwrap_or_default(), turn);
        }
    }

    fn defer(&mut self, bytes: &[u8], turn: &mut Turn<'_>) {
        if let Some(pace) = &mut self.pace {
            wipe::reserve(&mut pace.deferred, bytes.len());
            pace.deferred.extend_from_slice(bytes);
            turn.codec.wipe(Wipe::Read);
        }
    }

    /// Defers the bytes that have arrived before the user was admitted.
    pub(super) fn defer_all(&mut self, bytes: Zeroizing<Vec<u8>>) {
        if !bytes.is_empty() {
            self.pace.get_or_insert_default().deferred = bytes;
        }
    }

    /// Ends a pause that is over, and handles deferred bytes.
    pub(super) fn resume(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) {
        let now = turn.now;
        let check = self.pace.as_ref().and_then(|pace| pace.watch.as_ref()?.check());
        if check.is_some_and(|(_, until)| until <= now) {
            return self.end_credentials(turn, CredentialsEnd::Unchecked, recorder);
        }
        let Some((since, until)) = self.pause().filter(|(_, until)| *until <= now) else { return };
        if let Some(excess) = self.pace.as_mut().and_then(|pace| pace.excess.as_mut()) {
            excess.pause = None;
            let longest = now.checked_sub(CATCH_UP).unwrap_or(now);
            excess.resumed = (now, until.max(longest));
        }
        if let Stage::Admitted { session, .. } = &mut self.stage {
            session.postpone(now.saturating_duration_since(since));
        }
        self.handle_deferred(context, turn, recorder);
    }

    /// Handles deferred bytes as far as the allowance permits, and pauses again if some are left.
    pub(in crate::worker) fn handle_deferred(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) {
        let Some(mut rest) = self.pace.as_mut().map(|pace| mem::take(&mut pace.deferred)) else { return };
        if rest.is_empty() {
            return;
        }
        let (handled, waits) = self.handle_due(context, turn, &mut rest, recorder);
        let Some(waits) = waits else {
            // Without rates, it was for the deferred bytes alone.
            self.pace.take_if(|pace| pace.watch.is_none() && !pace.is_rated);
            return;
        };
        rest.drain(..handled);
        self.begin_wait(waits, context, turn.now, recorder);
        if let Some(pace) = &mut self.pace {
            pace.deferred = rest;
        }
    }

    /// Records that its client keeps its rates again, if it has done so for long enough.
    pub(super) fn end_excess(&mut self, now: Instant, recorder: &mut impl Recorder) {
        if self.excess_ends_at().is_none_or(|at| now < at) {
            return;
        }
        let excess = self.pace.as_mut().and_then(|pace| pace.excess.take());
        if let (Some(excess), Stage::Admitted { identity, .. }) = (excess, &self.stage) {
            let lasted = excess.resumed.0.saturating_duration_since(excess.since);
            recorder.record(&Record::RateKept {
                connection: self.id,
                identity,
                lasted,
                pauses: excess.pauses,
            });
        }
    }

    /// Begins to wait for what defers the next message.
    fn begin_wait(
        &mut self,
        waits: Waits,
        context: &mut Context<'_, A>,
        now: Instant,
        recorder: &mut impl Recorder,
    ) {
        match waits {
            Waits::ForRate(kind) => self.begin_pause(kind, context.config, now, recorder),
            Waits::ForCheck => {
                let watch = self.pace.as_mut().and_then(|pace| pace.watch.as_mut());
                let token = watch.and_then(|watch| watch.begin_check(now));
                if let (Some(token), Some(user)) = (token, self.user()) {
                    let ticket =
                        CheckTicket { key: context.key, id: self.id, purpose: CheckPurpose::Revalidation };
                    let check = TokenCheck::new(token, user);
                    let request = PeerRequest::Check(Box::new(CheckRequest { ticket, check }));
                    context.shared.requests.borrow_mut().push(request);
                }
            }
        }
    }

    fn begin_pause(
        &mut self,
        kind: RateKind,
        config: &WorkerConfig,
        now: Instant,
        recorder: &mut impl Recorder,
    ) {
        let (Some(pace), Stage::Admitted { identity, session, .. }) = (&mut self.pace, &self.stage) else {
            return;
        };
        if !session.is_open() {
            return;
        }
        let excess = pace.pause(kind, config, now);
        let rate = match kind {
            RateKind::Messages => config.session.message_rate,
            RateKind::Bytes => config.session.byte_rate,
        };
        recorder.record(&Record::RateExceeded {
            connection: self.id,
            identity,
            kind,
            per_second: rate.per_second,
            is_first: excess.pauses == 1,
        });
    }

    /// Handles these bytes as far as the allowance permits. Returns their number, and what the others wait for, if there are
    /// any.
    fn handle_due(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        bytes: &mut [u8],
        recorder: &mut impl Recorder,
    ) -> (usize, Option<Waits>) {
        let len = bytes.len();
        let (message_rate, byte_rate) = paced_rates(context.config);
        let Some(pace) = self.pace.as_ref().filter(|_| self.is_open()) else {
            let mut input = Input::new(bytes);
            self.receive_messages(&mut { u64::MAX }, &mut NoWatch, context, turn, &mut input, None, recorder);
            return (len, None);
        };
        let since = pace.since(turn.now);
        let messages = pace.rates.messages.left(turn.now, since, message_rate);
        let due = usize::try_from(pace.rates.bytes.left(turn.now, since, byte_rate)).unwrap_or(usize::MAX);
        let passing = pace.watch.as_ref().map_or(u64::MAX, |watch| watch.budget());
        let most = messages.min(passing);
        let mut budget = most;
        let mut input = Input::new(bytes.get_mut(..due.min(len)).unwrap_or_default());
        self.receive_watched(&mut budget, context, turn, &mut input, recorder);
        let (left, handled) = (input.len(), due.min(len) - input.len());
        if let Some(pace) = &mut self.pace {
            pace.rates.messages.spend(since, most - budget, message_rate);
            pace.rates.bytes.spend(since, handled as u64, byte_rate);
            if let Some(watch) = &mut pace.watch {
                watch.spend(most - budget);
            }
        }
        let waits = match (left, len - handled) {
            (_, 0) => None,
            (0, _) => Some(Waits::ForRate(RateKind::Bytes)),
            _ if passing < messages => Some(Waits::ForCheck),
            _ => Some(Waits::ForRate(RateKind::Messages)),
        };
        (handled, waits)
    }

    /// Handles the messages of one read, after a look at each of them if they may contain tokens.
    fn receive_watched(
        &mut self,
        budget: &mut u64,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        input: &mut Input<'_>,
        recorder: &mut impl Recorder,
    ) {
        let Some(mut watch) = self.pace.as_mut().and_then(|pace| pace.watch.take()) else {
            return self.receive_messages(budget, &mut NoWatch, context, turn, input, None, recorder);
        };
        self.receive_messages(budget, &mut *watch, context, turn, input, None, recorder);
        if let Some(pace) = &mut self.pace {
            pace.watch = Some(watch);
        }
    }

    /// Charges the bytes of one read, and closes the connection of a client that exceeds a rate ([`RatePolicy::Close`]).
    pub(in crate::worker) fn charge(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        received: usize,
    ) {
        let (Some(pace), Stage::Admitted { session, .. }) = (&mut self.pace, &mut self.stage) else { return };
        let config = &context.config.session;
        if config.rate_policy == RatePolicy::Close
            && !pace.charge(session, context.config, turn.now, received)
        {
            let code = CloseCode(close_code::RATE_EXCEEDED);
            self.disconnect(turn, code, code.reason());
        }
    }
}

impl Pacing {
    /// Whether the bytes of one read keep the rates.
    fn charge(&mut self, session: &Session, config: &WorkerConfig, now: Instant, received: usize) -> bool {
        let total = session.traffic().messages_received;
        let messages = total - mem::replace(&mut self.charged, total);
        let bytes = (received as u64, config.session.byte_rate);
        self.rates.charge(now, (messages, config.session.message_rate), bytes)
    }
}

/// Returns the rates of messages and of bytes that are kept by pauses.
fn paced_rates(config: &WorkerConfig) -> (Rate, Rate) {
    match config.session.rate_policy {
        RatePolicy::Pause => (config.session.message_rate, config.session.byte_rate),
        RatePolicy::Close => (Rate::default(), Rate::default()),
    }
}

/// The most bytes of one read if messages have a rate, so that excess bytes stay in the kernel and not here.
const MOST_READ: usize = 16 * 1024;

/// The shortest pause.
const MIN_PAUSE: Duration = Duration::from_micros(100);

/// The longest delay of the end of a pause that does not reduce the rate of its client.
const CATCH_UP: Duration = Duration::from_millis(50);

/// The time for which a client must keep its rates until it counts as keeping them.
const CONFORMING_TIME: Duration = Duration::from_secs(10);
