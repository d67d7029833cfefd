//! The messages of a connection that contain a token.

use std::time::{Duration, Instant};

use super::receive::Admitted;
use super::{Connection, Context, Stage};
use crate::bearer_token::{BearerToken, TokenCheck};
use crate::frame::DataKind;
use crate::policy::{Rate, TokenBucket};
use crate::record::{Recorder, RefreshRefusal};
use crate::turn::Turn;
use crate::wipe::Wipe;
use crate::worker::check::{self, CheckPurpose, CheckRequest, CheckTicket, Revalidate};
use crate::worker::config::WorkerConfig;
use crate::worker::refresh::PeerRequest;
use crate::worker::{Application, in_band};

/// Looks at messages before the application gets them.
pub(super) trait Watch {
    /// Handles a message, if it is not for the application. Returns whether it did.
    fn handle<A: Application>(
        &mut self,
        user: &mut Admitted<'_, A>,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        message: (DataKind, &[u8]),
        recorder: &mut impl Recorder,
    ) -> bool;
}

/// Lets the application get all messages.
#[derive(Debug)]
pub(super) struct NoWatch;

impl Watch for NoWatch {
    #[inline(always)]
    fn handle<A: Application>(
        &mut self,
        _: &mut Admitted<'_, A>,
        _: &mut Context<'_, A>,
        _: &mut Turn<'_>,
        _: (DataKind, &[u8]),
        _: &mut impl Recorder,
    ) -> bool {
        false
    }
}

/// The token of a connection, whose messages may contain newer ones, or which is checked again.
#[derive(Debug, Default)]
pub(super) struct TokenWatch {
    /// Whether messages may contain tokens.
    has_tokens: bool,
    /// Whether a token in a message is being checked.
    is_checking: bool,
    refreshes: TokenBucket,
    kept: Option<Kept>,
}

/// A token that is checked again.
#[derive(Debug)]
struct Kept {
    token: BearerToken,
    gate: Gate,
    /// The token in a message that is being checked.
    next: Option<BearerToken>,
}

/// Whether the next message may be handled.
///
/// ```text
///   Open ──time──▶ Required ──a message begins──▶ Checking ──holds──▶ Open, or Allowed ──one message──▶ Required
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Until this time, messages are handled. None: always.
    Open(Option<Instant>),
    /// The token must be checked before the next message.
    Required,
    /// The token has been checked since the first time. The connection ends at the second time if there is no verdict.
    Checking(Instant, Instant),
    /// One message may be handled.
    Allowed,
}

impl Watch for TokenWatch {
    fn handle<A: Application>(
        &mut self,
        user: &mut Admitted<'_, A>,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        (kind, payload): (DataKind, &[u8]),
        recorder: &mut impl Recorder,
    ) -> bool {
        let may_have_token = self.has_tokens && kind == DataKind::Text;
        let token = if may_have_token { in_band::token(payload) } else { None };
        let Some(token) = token else { return false };
        turn.codec.wipe(Wipe::Buffers);
        let token = if self.may_refresh(turn.now) { token } else { Err(RefreshRefusal::TooMany) };
        match token {
            Ok(token) => {
                self.is_checking = true;
                if let Some(kept) = &mut self.kept {
                    kept.next = Some(token.clone());
                }
                let ticket = CheckTicket { key: context.key, id: user.id(), purpose: CheckPurpose::Refresh };
                let check = TokenCheck::new(token, user.identity());
                let request = PeerRequest::Check(Box::new(CheckRequest { ticket, check }));
                context.shared.requests.borrow_mut().push(request);
            }
            Err(refusal) => {
                let answer = check::answer(user.id(), user.identity(), Err(refusal), recorder);
                user.send_text(turn, &answer);
            }
        }
        true
    }
}

impl TokenWatch {
    /// Creates the watch of a connection. `token` if it is checked again.
    pub(super) fn new(
        has_tokens: bool,
        token: Option<BearerToken>,
        now: Instant,
        config: &WorkerConfig,
    ) -> TokenWatch {
        let kept = config.revalidate.zip(token).map(|(revalidate, token)| {
            // The gateway has just asked.
            let gate = match revalidate {
                Revalidate::EachMessage => Gate::Required,
                Revalidate::After(time) => Gate::Open(now.checked_add(time)),
            };
            Kept { token, gate, next: None }
        });
        TokenWatch { has_tokens, kept, ..TokenWatch::default() }
    }

    /// Whether messages need no look at them until the [lapse](TokenWatch::lapses_at).
    pub(super) fn is_quiet(&self) -> bool {
        !self.has_tokens && self.kept.as_ref().is_none_or(|kept| matches!(kept.gate, Gate::Open(_)))
    }

    /// Returns when the token must be checked before the next message.
    pub(super) fn lapses_at(&self) -> Option<Instant> {
        match self.kept.as_ref()?.gate {
            Gate::Open(until) => until,
            Gate::Required | Gate::Checking(..) | Gate::Allowed => None,
        }
    }

    /// Requires a check if the time has passed.
    pub(super) fn lapse(&mut self, now: Instant) {
        if self.lapses_at().is_some_and(|at| at <= now)
            && let Some(kept) = &mut self.kept
        {
            kept.gate = Gate::Required;
        }
    }

    /// Returns the number of messages that may be handled.
    pub(super) fn budget(&self) -> u64 {
        match self.kept.as_ref().map(|kept| kept.gate) {
            None | Some(Gate::Open(_)) => u64::MAX,
            Some(Gate::Allowed) => 1,
            Some(Gate::Required | Gate::Checking(..)) => 0,
        }
    }

    /// Counts messages that were handled.
    pub(super) fn spend(&mut self, messages: u64) {
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.gate == Gate::Allowed && messages > 0) {
            kept.gate = Gate::Required;
        }
    }

    /// Begins a check, which a message waits for. Returns the token.
    pub(super) fn begin_check(&mut self, now: Instant) -> Option<BearerToken> {
        let kept = self.kept.as_mut().filter(|kept| kept.gate == Gate::Required)?;
        kept.gate = Gate::Checking(now, now + CHECK_TIMEOUT);
        Some(kept.token.clone())
    }

    /// Returns the times of the check that a message waits for: its beginning, and the latest end.
    pub(super) fn check(&self) -> Option<(Instant, Instant)> {
        match self.kept.as_ref()?.gate {
            Gate::Checking(since, until) => Some((since, until)),
            Gate::Open(_) | Gate::Required | Gate::Allowed => None,
        }
    }

    /// Lets messages pass, because a token holds at `now`.
    fn pass(&mut self, now: Instant, config: &WorkerConfig) {
        if let (Some(kept), Some(revalidate)) = (&mut self.kept, config.revalidate) {
            kept.gate = match revalidate {
                Revalidate::EachMessage => Gate::Allowed,
                Revalidate::After(time) => Gate::Open(now.checked_add(time)),
            };
        }
    }

    /// Whether the client may refresh its token now. One token is checked at a time.
    fn may_refresh(&mut self, now: Instant) -> bool {
        let may = !self.is_checking && self.refreshes.left(now, now, REFRESHES) > 0;
        if may {
            self.refreshes.spend(now, 1, REFRESHES);
        }
        may
    }
}

impl<A: Application> Connection<A> {
    fn watch(&mut self) -> Option<&mut TokenWatch> {
        self.pace.as_mut()?.watch.as_deref_mut()
    }

    /// Keeps a newer token, which holds, in place of the one that is checked again.
    pub(in crate::worker) fn keep_token(&mut self, token: BearerToken, now: Instant, config: &WorkerConfig) {
        if let Some(watch) = self.watch()
            && let Some(kept) = &mut watch.kept
        {
            kept.token = token;
            // A check of the older one may be in progress.
            if watch.check().is_none() {
                watch.pass(now, config);
            }
        }
    }

    /// Lets the message that waits for the check of its token be handled.
    pub(in crate::worker) fn pass_check(&mut self, now: Instant, config: &WorkerConfig) {
        let Some(watch) = self.watch() else { return };
        let Some((since, _)) = watch.check() else { return };
        watch.pass(now, config);
        if let Stage::Admitted { session, .. } = &mut self.stage {
            session.postpone(now.saturating_duration_since(since));
        }
    }

    /// Answers a refresh whose token has been checked.
    pub(in crate::worker) fn finish_refresh(
        &mut self,
        turn: &mut Turn<'_>,
        refreshed: Result<Option<u64>, RefreshRefusal>,
        config: &WorkerConfig,
        recorder: &mut impl Recorder,
    ) {
        let mut next = None;
        if let Some(watch) = self.watch() {
            watch.is_checking = false;
            next = watch.kept.as_mut().and_then(|kept| kept.next.take());
        }
        if let Some(next) = next.filter(|_| refreshed.is_ok()) {
            self.keep_token(next, turn.now, config);
        }
        if let Stage::Admitted { session, identity, .. } = &mut self.stage
            && session.is_open()
        {
            let answer = check::answer(self.id, identity, refreshed, recorder);
            // The session is open.
            let _ = session.send_text(turn, &*answer);
        }
    }
}

/// The longest time from the beginning of a check to its verdict. A host answers earlier.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The most refreshes of a client: one a second, and five at once.
const REFRESHES: Rate = Rate { per_second: 1, burst: 5 };
