//! The messages of a connection that contain a token.

use std::time::Instant;

use super::receive::Admitted;
use super::{Connection, Context, Stage};
use crate::bearer_token::TokenCheck;
use crate::frame::DataKind;
use crate::policy::{Rate, TokenBucket};
use crate::record::{Recorder, RefreshRefusal};
use crate::turn::Turn;
use crate::worker::check::{self, CheckPurpose, CheckRequest, CheckTicket};
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

/// The refreshes of a client whose messages may contain tokens.
#[derive(Debug, Default)]
pub(super) struct TokenWatch {
    /// Whether a token is being checked.
    is_checking: bool,
    refreshes: TokenBucket,
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
        let token = if kind == DataKind::Text { in_band::token(payload) } else { None };
        let Some(token) = token else { return false };
        let token = if self.may_refresh(turn.now) { token } else { Err(RefreshRefusal::TooMany) };
        match token {
            Ok(token) => {
                self.is_checking = true;
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
    /// Answers a refresh whose token has been checked.
    pub(in crate::worker) fn finish_refresh(
        &mut self,
        turn: &mut Turn<'_>,
        refreshed: Result<Option<u64>, RefreshRefusal>,
        recorder: &mut impl Recorder,
    ) {
        if let Some(watch) = self.pace.as_mut().and_then(|pace| pace.watch.as_mut()) {
            watch.is_checking = false;
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

/// The most refreshes of a client: one a second, and five at once.
const REFRESHES: Rate = Rate { per_second: 1, burst: 5 };
