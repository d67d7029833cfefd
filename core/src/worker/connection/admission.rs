//! Admits a user by the request, or refuses the request.

use std::time::Instant;

use zeroize::Zeroizing;

use crate::bearer_token::BearerToken;
use crate::close_code::{self, CloseCode};

use super::pacing::Pacing;
use super::watch::TokenWatch;
use super::{Connection, Context, Stage};
use crate::handshake::{
    Client, EmptyBody, HandshakeError, Identity, Peer, Query, Reject, Reply, Request, UpgradeRequest, reject,
    report_health, report_refresh,
};
use crate::id::ConnectionId;
use crate::input::{Input, Payload};
use crate::policy::{Decision, KeepAlive, Replaced};
use crate::record::{Record, Recorder};
use crate::session::{LINGER, Session};
use crate::turn::Turn;
use crate::worker::config::WorkerConfig;
use crate::worker::refresh::{PeerRequest, Refresh, RefreshOutcome};
use crate::worker::{self, Application, Opening};

impl<A: Application> Connection<A> {
    pub(super) fn handshake(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        input: &mut Input<'_>,
        recorder: &mut impl Recorder,
    ) {
        let Stage::Handshake { reader, body, .. } = &mut self.stage else { return };
        match body {
            None => match reader.receive(input) {
                Ok(Some(head)) => self.answer(context, turn, head, Some(input), recorder),
                Ok(None) => {}
                Err(error) => self.refuse(context, turn, error, recorder),
            },
            Some((body, _)) => match body.receive(input) {
                Ok(true) => {
                    let head = reader.resume();
                    self.answer(context, turn, head, None, recorder);
                }
                Ok(false) => {}
                Err(error) => self.refuse(context, turn, error, recorder),
            },
        }
    }

    /// Answers a request with this head, unless it announces a body that has not arrived. `input` has the bytes after the
    /// head; `None` if the body has arrived.
    fn answer(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        head: Payload<'_>,
        input: Option<&mut Input<'_>>,
        recorder: &mut impl Recorder,
    ) {
        let Stage::Handshake { reader, body, peer, refusal, .. } = &mut self.stage else { return };
        // It may contain a token. In the read buffer it is overwritten with the rest of the read.
        let mut owned = Zeroizing::<Vec<u8>>::default();
        let head = match head {
            Payload::Borrowed(head) => head,
            Payload::Owned(head) => {
                *owned = head;
                owned.as_mut_slice()
            }
        };
        let (peer, refusal) = (*peer, *refusal);
        let handshake = &context.config.handshake;
        let is_status = |error: &HandshakeError| close_code(handshake.reject, *error).is_none();
        // The request need not be parsed if it cannot be a health check.
        if let Some(error) = refusal.filter(|error| handshake.health_path.is_none() && is_status(error)) {
            return self.refuse(context, turn, error, recorder);
        }
        let request = match Request::parse(head, handshake) {
            Ok(Request::Upgrade(request)) => request,
            Ok(Request::HealthCheck) => return self.report_health(context, turn, refusal),
            Ok(Request::Refresh(request)) => return self.refresh(context, turn, &request, refusal, recorder),
            Err(error) => return self.refuse(context, turn, refusal.unwrap_or(error), recorder),
        };
        if let (true, None, Some(input)) = (request.announces_chunks(), refusal, input) {
            let mut empty = EmptyBody::default();
            match empty.receive(input) {
                Ok(true) => {}
                Ok(false) => {
                    reader.suspend(head);
                    *body = Some((empty, context.shared.time_base.compact(turn.now)));
                    return;
                }
                Err(error) => return self.refuse(context, turn, error, recorder),
            }
        }
        if refusal.is_none() && handshake.awaits_first_message(request.path_index()) {
            return self.await_first_message(context, turn, &request, peer, recorder);
        }
        let admission = match refusal {
            Some(error) => Err(error),
            None => request.identify(peer, handshake).and_then(|admission| {
                check_token(admission.identity(), context.config)?;
                let token = kept_token(&request, context.config)?;
                enter_user(self.id, admission.identity().id(), context).map(|()| (admission, token))
            }),
        };
        let (accepted, token) = match admission {
            Ok((admission, token)) => (admission.accept(turn.out, handshake, self.id), token),
            Err(error) => return self.refuse_request(context, turn, &request, error, recorder),
        };
        let established = Established {
            peer,
            path: request.path(),
            path_index: request.path_index(),
            query: request.query(),
            subprotocol: accepted.subprotocol.as_deref(),
            is_offer_unanswered: accepted.is_offer_unanswered,
            channels: request.channels(),
            token,
        };
        let session = Session::new(context.config.session.clone()).with_deflate(accepted.deflate);
        self.establish(context, turn, established, session, accepted.identity, recorder);
    }

    /// Admits a user whose 101 was sent.
    pub(super) fn establish(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        established: Established<'_>,
        mut session: Session,
        identity: Identity,
        recorder: &mut impl Recorder,
    ) {
        let Established { peer, path, path_index, query, subprotocol, is_offer_unanswered, channels, token } =
            established;
        recorder.record(&Record::Established {
            connection: self.id,
            peer,
            identity: &identity,
            subprotocol,
            is_offer_unanswered,
            took: turn.now.saturating_duration_since(context.shared.time_base.instant(self.since)),
        });
        self.since = context.shared.time_base.compact(turn.now);
        self.keep_alive = KeepAlive::new(turn.now);
        let mut client = A::Client::default();
        let opening = Opening {
            key: context.key,
            connection: self.id,
            identity: &identity,
            path,
            path_index,
            query,
            subprotocol,
            channels,
        };
        let mut reply = worker::Reply { session: &mut session, turn, segments: None };
        context.application.opened(&mut client, &opening, &mut reply, recorder);
        let has_tokens = context.config.in_band.refresh && A::has_short_path(&client);
        let watch = (has_tokens || token.is_some())
            .then(|| TokenWatch::new(has_tokens, token, turn.now, context.config));
        self.pace = Pacing::new(context.config.session.has_rates(), watch);
        self.stage = Stage::Admitted { session, identity, client };
    }

    /// Begins to perform a refresh of other connections, after the checks of an upgrade.
    fn refresh(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        request: &UpgradeRequest<'_>,
        refusal: Option<HandshakeError>,
        recorder: &mut impl Recorder,
    ) {
        let Stage::Handshake { peer, .. } = self.stage else { return };
        let place = (context.config.number, context.key, self.id);
        let handshake = &context.config.handshake;
        let refresh = match refusal {
            Some(error) => Err(error),
            None => request.identify(peer, handshake).and_then(|admission| {
                check_token(admission.identity(), context.config)?;
                let token = kept_token(request, context.config)?;
                Refresh::new(admission.identity(), token, request.query(), place)
            }),
        };
        match refresh {
            Ok(refresh) => {
                context.shared.requests.borrow_mut().push(PeerRequest::Refresh(refresh));
                let outcome = RefreshOutcome::NotFound;
                self.stage = Stage::Refreshing { peer, missing: 0, outcome, is_aborted: false };
            }
            Err(error) => {
                let client = request.client(peer, handshake);
                let refused = RefusedRequest { request_id: request.request_id(), client, is_refresh: true };
                self.refuse_as(context, turn, refused, error, recorder);
            }
        }
    }

    /// Adds the outcome of a refresh at a worker. `asked` is the number of workers that have been asked in addition. Answers the
    /// request if no answer of a worker is missing.
    pub(in crate::worker) fn add_refreshed(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        (added, asked): (RefreshOutcome, Option<u32>),
        recorder: &mut impl Recorder,
    ) {
        let Stage::Refreshing { missing, outcome, .. } = &mut self.stage else { return };
        *outcome = added.max(*outcome);
        *missing = asked.unwrap_or(missing.saturating_sub(1));
        if *missing == 0 {
            self.answer_refresh(context, turn, recorder);
        }
    }

    /// Answers a refresh.
    pub(in crate::worker) fn answer_refresh(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        recorder: &mut impl Recorder,
    ) {
        let Stage::Refreshing { peer, missing, outcome, .. } = self.stage else { return };
        let error = match outcome {
            RefreshOutcome::Refreshed => None,
            RefreshOutcome::NotFound | RefreshOutcome::Closing | RefreshOutcome::OtherUser if missing > 0 => {
                Some(HandshakeError::RefreshIncomplete)
            }
            RefreshOutcome::NotFound => Some(HandshakeError::RefreshNotFound),
            RefreshOutcome::Closing => Some(HandshakeError::RefreshClosing),
            RefreshOutcome::OtherUser => Some(HandshakeError::RefreshOtherUser),
        };
        match error {
            None => report_refresh(turn.out, self.reply(context)),
            Some(error) => {
                let message = Some((context.config.handshake.refusal_text)(error));
                reject(turn.out, error, Reply { message, ..self.reply(context) });
                recorder.record(&Record::Rejected {
                    connection: self.id,
                    peer,
                    request_id: None,
                    client: None,
                    is_refresh: true,
                    error,
                    close_code: None,
                    took: turn.now.saturating_duration_since(context.shared.time_base.instant(self.since)),
                });
            }
        }
        self.stage = Stage::Refused { until: turn.now + LINGER, is_aborted: false };
    }

    /// Refuses a request that is not a valid upgrade, or that is incomplete.
    pub(in crate::worker) fn refuse(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        error: HandshakeError,
        recorder: &mut impl Recorder,
    ) {
        self.refuse_as(context, turn, RefusedRequest::default(), error, recorder);
    }

    fn refuse_as(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        refused: RefusedRequest<'_>,
        error: HandshakeError,
        recorder: &mut impl Recorder,
    ) {
        if let Stage::Unidentified { .. } = self.stage {
            return self.refuse_unidentified(context, turn, error, recorder);
        }
        let message = Some((context.config.handshake.refusal_text)(error));
        reject(turn.out, error, Reply { message, ..self.reply(context) });
        self.record_refusal(context, turn.now, refused, error, None, recorder);
        self.stage = Stage::Refused { until: turn.now + LINGER, is_aborted: false };
    }

    /// Answers a health check. `refusal` is the refusal of all upgrades on this connection.
    fn report_health(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        refusal: Option<HandshakeError>,
    ) {
        let readiness = context.config.handshake.readiness.as_ref();
        // A limit of new connections per second does not make the process unready: it lasts for a moment.
        let takes_users = matches!(refusal, None | Some(HandshakeError::TooFast));
        let is_ready = takes_users && readiness.is_none_or(|readiness| readiness.is_ready());
        report_health(turn.out, is_ready, self.reply(context));
        self.stage = Stage::Refused { until: turn.now + LINGER, is_aborted: false };
    }

    /// Returns the parts of the answer to the request other than its status.
    fn reply(&self, context: &Context<'_, A>) -> Reply {
        Reply {
            retry_after: context.shared.jitter.retry_after(),
            date: context.config.handshake.wall_clock.map(|clock| clock().as_secs()),
            message: None,
            is_head: matches!(&self.stage, Stage::Handshake { reader, .. } if reader.is_head()),
        }
    }

    /// Refuses a valid upgrade request, by a Close frame if [`Reject::Close`] applies.
    pub(super) fn refuse_request(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        request: &UpgradeRequest<'_>,
        error: HandshakeError,
        recorder: &mut impl Recorder,
    ) {
        let handshake = &context.config.handshake;
        let Stage::Handshake { peer, .. } = self.stage else { return };
        let refused = RefusedRequest {
            request_id: request.request_id(),
            client: request.client(peer, handshake),
            is_refresh: false,
        };
        let Some(code) = close_code(handshake.reject, error) else {
            return self.refuse_as(context, turn, refused, error, recorder);
        };
        request.open_to_close(turn.out, handshake, self.id);
        let mut session = Session::new(context.config.session.clone());
        session.close(turn, code, error.code());
        self.record_refusal(context, turn.now, refused, error, Some(code), recorder);
        self.stage = Stage::RejectedByClose { session };
    }

    /// Records a refusal. `close_code` is the code of the Close frame, if the refusal was sent by one.
    fn record_refusal(
        &self,
        context: &mut Context<'_, A>,
        now: Instant,
        RefusedRequest { request_id, client, is_refresh }: RefusedRequest<'_>,
        error: HandshakeError,
        close_code: Option<CloseCode>,
        recorder: &mut impl Recorder,
    ) {
        let Stage::Handshake { peer, .. } = self.stage else { return };
        let took = now.saturating_duration_since(context.shared.time_base.instant(self.since));
        recorder.record(&Record::Rejected {
            connection: self.id,
            peer,
            request_id,
            client,
            is_refresh,
            error,
            close_code,
            took,
        });
    }
}

/// The request of an admitted user.
#[derive(Debug)]
pub(super) struct Established<'a> {
    pub(super) peer: Peer,
    pub(super) path: &'a str,
    pub(super) path_index: usize,
    pub(super) query: Query<'a>,
    pub(super) subprotocol: Option<&'a str>,
    pub(super) is_offer_unanswered: bool,
    pub(super) channels: Option<&'a str>,
    /// The token, if it is checked again.
    pub(super) token: Option<BearerToken>,
}

/// The fields of a refused request for its record.
#[derive(Debug, Default, Clone, Copy)]
struct RefusedRequest<'a> {
    request_id: Option<&'a str>,
    client: Option<Client<'a>>,
    /// Whether it is a refresh.
    is_refresh: bool,
}

/// Returns whether the credentials of a user hold: they are not revoked, and the grace period of the token has not passed.
pub(in crate::worker) fn check_token(
    identity: &Identity,
    config: &WorkerConfig,
) -> Result<(), HandshakeError> {
    if let (Some(expiry), Some(clock)) = (config.expiry, config.handshake.wall_clock)
        && let Some(exp) = identity.token_exp()
        && expiry.ends_after(exp, clock()).is_zero()
    {
        return Err(HandshakeError::TokenExpired);
    }
    match &config.revocations {
        Some(revocations) if revocations.are_revoked(identity) => Err(HandshakeError::Revoked),
        Some(_) | None => Ok(()),
    }
}

/// Returns the token of a request, if it is checked again.
fn kept_token(
    request: &UpgradeRequest<'_>,
    config: &WorkerConfig,
) -> Result<Option<BearerToken>, HandshakeError> {
    match config.revalidate {
        None => Ok(None),
        Some(_) => request.bearer_token().map(Some).ok_or(HandshakeError::TokenMissing),
    }
}

/// Counts one more connection of a user, if the user may have one.
pub(super) fn enter_user<A>(
    connection: ConnectionId,
    user: &str,
    context: &Context<'_, A>,
) -> Result<(), HandshakeError> {
    if context.shared.is_draining.get() {
        return Err(HandshakeError::Draining);
    }
    if context.shared.is_stalled.get() {
        return Err(HandshakeError::LogStalled);
    }
    let Some(users) = &context.config.users else { return Ok(()) };
    match users.enter(user, context.config.number, connection) {
        Decision::Admitted => {}
        Decision::Refused => return Err(HandshakeError::TooMany),
        Decision::Replace { worker, connection } => {
            let code = CloseCode(close_code::REPLACED);
            let replaced = Replaced { worker, user: user.into(), connection, code };
            context.shared.requests.borrow_mut().push(PeerRequest::Replace(replaced));
        }
    }
    Ok(())
}

/// Returns the code of the Close frame for a refusal of a valid upgrade. `None` if it is refused by its status.
fn close_code(reject: Reject, error: HandshakeError) -> Option<CloseCode> {
    match reject {
        Reject::Http => None,
        Reject::Close => error.close_code(),
    }
}
