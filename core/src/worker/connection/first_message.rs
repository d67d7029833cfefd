//! A connection whose client identifies itself by its first message.
//!
//! ```text
//!   upgrade without identity ──101──▶ waits ──first message──▶ its token is checked ──holds──▶ admitted
//!                                       │                              │
//!                                       └── another message, too late ─┴── does not hold ──▶ Close
//! ```
//!
//! Until the user is admitted, nothing is delivered, no other message is handled, and there is no record of a user.

use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use super::admission::{self, Established};
use super::{Connection, Context, Stage};
use crate::bearer_token::{BearerToken, TokenCheck, Verdict};
use crate::close_code::CloseCode;
use crate::compact_instant::CompactInstant;
use crate::frame::DataKind;
use crate::handshake::{HandshakeError, Identity, Peer, Query, UpgradeRequest};
use crate::id::ConnectionId;
use crate::input::{Input, Payload};
use crate::record::{Record, Recorder};
use crate::session::{Event, Session};
use crate::turn::Turn;
use crate::wipe::{self, Wipe};
use crate::worker::check::{CheckPurpose, CheckRequest, CheckTicket};
use crate::worker::refresh::PeerRequest;
use crate::worker::{Application, FirstMessage, Message, Reply, in_band};

/// A request whose user is not known yet.
#[derive(Debug)]
pub(super) struct Unidentified {
    peer: Peer,
    path: Box<str>,
    path_index: usize,
    /// It may contain a token.
    query: Zeroizing<Box<str>>,
    origin: Option<Box<str>>,
    client: Option<Box<str>>,
    request_id: Option<Box<str>>,
    subprotocol: Option<Box<str>>,
    is_offer_unanswered: bool,
    /// The latest time for the first message and its check.
    pub(super) until: CompactInstant,
    /// The refusal, if it is decided and not sent yet.
    pub(super) refusal: Option<HandshakeError>,
    /// The first message, while its token is checked. Its memory is overwritten when it is dropped.
    message: Option<(DataKind, Zeroizing<Vec<u8>>)>,
    /// Its token, if it will be checked again.
    token: Option<BearerToken>,
    /// The bytes after it, which may contain tokens.
    deferred: Zeroizing<Vec<u8>>,
    /// Counts this connection.
    _place: Arc<()>,
}

impl Unidentified {
    /// Whether the token of the first message is being checked.
    pub(super) fn is_checking(&self) -> bool {
        self.message.is_some()
    }

    /// Returns the record of its end without a user.
    pub(super) fn abandoned(&self, connection: ConnectionId, session: &Session) -> Record<'static> {
        let received = usize::try_from(session.traffic().bytes_received).unwrap_or(usize::MAX);
        Record::Abandoned { connection, peer: self.peer, received }
    }

    /// Returns the size of its buffers, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.message.as_ref().map_or(0, |(_, message)| message.capacity()) + self.deferred.capacity()
    }
}

impl<A: Application> Connection<A> {
    /// Sends the 101 to a request whose client will identify itself.
    pub(super) fn await_first_message(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        request: &UpgradeRequest<'_>,
        peer: Peer,
        recorder: &mut impl Recorder,
    ) {
        let (handshake, config) = (&context.config.handshake, &context.config.first_message);
        let place = context.shared.unidentified.clone();
        // One reference is in the worker, and one is here.
        let has_place = Arc::strong_count(&place) <= config.max_waiting + 1;
        let checked =
            if has_place { request.check_gateway(peer, handshake) } else { Err(HandshakeError::Crowded) };
        if let Err(error) = checked {
            return self.refuse_request(context, turn, request, error, recorder);
        }
        let (subprotocol, is_offer_unanswered, deflate) =
            request.accept_unidentified(turn.out, handshake, self.id);
        let text = |text: Option<&str>| text.map(Box::from);
        let client = request.client(peer, handshake).map(|client| client.to_string());
        let unidentified = Unidentified {
            peer,
            path: request.path().into(),
            path_index: request.path_index(),
            query: Zeroizing::new(request.query().as_str().into()),
            origin: text(request.origin()),
            client: text(client.as_deref()),
            request_id: text(request.request_id()),
            subprotocol: text(subprotocol.as_deref()),
            is_offer_unanswered,
            until: context.shared.time_base.compact(turn.now + config.timeout),
            refusal: None,
            message: None,
            token: None,
            deferred: Zeroizing::default(),
            _place: place,
        };
        let session = Session::new(config.session.clone()).with_deflate(deflate);
        self.stage = Stage::Unidentified { session, unidentified: Box::new(unidentified) };
    }

    /// Handles the bytes of one read: the first message, and control frames before it.
    pub(super) fn receive_first_message(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        input: &mut Input<'_>,
        recorder: &mut impl Recorder,
    ) {
        loop {
            let Stage::Unidentified { session, unidentified } = &mut self.stage else { return };
            if unidentified.is_checking() {
                let bytes = input.take(usize::MAX);
                wipe::reserve(&mut unidentified.deferred, bytes.len());
                unidentified.deferred.extend_from_slice(bytes);
                return;
            }
            // The session has answered an error of the peer, and `transport` returns what follows.
            let Ok(Some(event)) = session.next_event(turn, input) else {
                return self.give_up_unidentified(turn.now, recorder);
            };
            let (kind, payload) = match event {
                Event::Text(text) => (DataKind::Text, text.into_payload()),
                Event::Binary(payload) => (DataKind::Binary, payload),
                Event::Ping(_) | Event::Pong(_) | Event::Close { .. } => continue,
            };
            turn.codec.wipe(Wipe::Buffers);
            let payload = Zeroizing::new(payload.into_vec());
            let message = FirstMessage {
                path_index: unidentified.path_index,
                query: Query::of_text(&unidentified.query),
                subprotocol: unidentified.subprotocol.as_deref(),
                kind,
                payload: &payload,
            };
            let Some(token) = context.application.token_of(&message) else {
                return self.refuse(context, turn, HandshakeError::FirstMessage, recorder);
            };
            unidentified.token = context.config.revalidate.map(|_| token.clone());
            let check = TokenCheck {
                token,
                path: Some(unidentified.path.clone()),
                origin: unidentified.origin.clone(),
                client: unidentified.client.clone(),
            };
            unidentified.message = Some((kind, payload));
            let ticket = CheckTicket { key: context.key, id: self.id, purpose: CheckPurpose::FirstMessage };
            let request = PeerRequest::Check(Box::new(CheckRequest { ticket, check }));
            context.shared.requests.borrow_mut().push(request);
        }
    }

    /// Gives up the place of a connection that has begun to close.
    fn give_up_unidentified(&mut self, now: Instant, recorder: &mut impl Recorder) {
        if matches!(&self.stage, Stage::Unidentified { session, .. } if !session.is_open())
            && let Some((session, unidentified)) = self.take_unidentified(now)
        {
            recorder.record(&unidentified.abandoned(self.id, &session));
            self.stage = Stage::RejectedByClose { session };
        }
    }

    /// Admits the user of the token in the first message, or refuses the connection.
    pub(in crate::worker) fn identify(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        verdict: &Verdict,
        recorder: &mut impl Recorder,
    ) {
        // Its client may have left in the meantime.
        self.give_up_unidentified(turn.now, recorder);
        if !matches!(self.stage, Stage::Unidentified { .. }) {
            return;
        }
        let admitted = match verdict {
            Verdict::Valid(user) => admission::check_token(user, context.config)
                .and_then(|()| admission::enter_user(self.id, user.id(), context))
                .map(|()| user),
            Verdict::Refused => Err(HandshakeError::TokenRefused),
            Verdict::Unknown => Err(HandshakeError::TokenUnchecked),
        };
        match admitted {
            Ok(user) => self.admit_first(context, turn, user, recorder),
            Err(error) => self.refuse(context, turn, error, recorder),
        }
    }

    fn admit_first(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        user: &Identity,
        recorder: &mut impl Recorder,
    ) {
        let Some((session, unidentified)) = self.take_unidentified(turn.now) else { return };
        let Unidentified { origin, client, request_id, subprotocol, path, query, .. } = &*unidentified;
        let lines = [client.as_deref(), origin.as_deref(), subprotocol.as_deref()];
        let identity = user.with_texts(request_id.as_deref(), lines);
        let established = Established {
            peer: unidentified.peer,
            path,
            path_index: unidentified.path_index,
            query: Query::of_text(query),
            subprotocol: subprotocol.as_deref(),
            is_offer_unanswered: unidentified.is_offer_unanswered,
            channels: None,
            token: unidentified.token.clone(),
        };
        let session = session.with_config(context.config.session.clone());
        self.establish(context, turn, established, session, identity, recorder);
        let Stage::Admitted { session, identity, client } = &mut self.stage else { return };
        let (kind, mut message) = unidentified.message.unwrap_or((DataKind::Text, Zeroizing::default()));
        if A::has_short_path(client) {
            let answer = in_band::accepted("authenticated", identity.token_exp());
            // It fails only if the application has closed it.
            let _ = session.send_text(turn, &*answer);
        } else {
            let message = Message {
                connection: self.id,
                identity,
                kind,
                payload: Payload::Borrowed(&mut message),
                is_recorded: recorder.wants_messages(),
            };
            let reply = &mut Reply { session, turn, segments: None };
            context.application.message(client, message, reply, recorder);
        }
        self.defer_all(unidentified.deferred);
    }

    fn take_unidentified(&mut self, now: Instant) -> Option<(Session, Box<Unidentified>)> {
        if !matches!(self.stage, Stage::Unidentified { .. }) {
            return None;
        }
        // Replaced by the caller.
        let other = Stage::Refused { until: now, is_aborted: true };
        match std::mem::replace(&mut self.stage, other) {
            Stage::Unidentified { session, unidentified } => Some((session, unidentified)),
            Stage::Handshake { .. }
            | Stage::Refreshing { .. }
            | Stage::Admitted { .. }
            | Stage::Refused { .. }
            | Stage::RejectedByClose { .. } => None,
        }
    }

    /// Refuses a connection whose user is not known, by a Close.
    pub(super) fn refuse_unidentified(
        &mut self,
        context: &mut Context<'_, A>,
        turn: &mut Turn<'_>,
        error: HandshakeError,
        recorder: &mut impl Recorder,
    ) {
        let Some((mut session, unidentified)) = self.take_unidentified(turn.now) else { return };
        let code = error.close_code().unwrap_or(if matches!(error, HandshakeError::Draining) {
            CloseCode::SERVICE_RESTART
        } else {
            CloseCode::TRY_AGAIN_LATER
        });
        let Unidentified { peer, request_id, .. } = &*unidentified;
        recorder.record(&Record::Rejected {
            connection: self.id,
            peer: *peer,
            request_id: request_id.as_deref(),
            client: None,
            is_refresh: false,
            error,
            close_code: Some(code),
            took: turn.now.saturating_duration_since(context.shared.time_base.instant(self.since)),
        });
        session.close(turn, code, error.code());
        self.stage = Stage::RejectedByClose { session };
    }
}
