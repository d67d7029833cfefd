//! The log of one worker, which formats the records of its core as lines.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::frame::DataKind;
use postern_core::handshake::{Client, HandshakeError, Identity, Peer, RequestId, TrustedProxies};
use postern_core::policy::RateKind;
use postern_core::record::{CredentialsEnd, RefreshRefusal};
use postern_core::session::Ending;
use postern_core::{CloseCode, ConnectionId, Record, Recorder, Summary};
use slog::{Level, Serializer};

use super::line::{Entry, FieldOrder, Fields};
use super::message::MessageLines;
use super::payload::Payload;
use super::queue::Queue;
use super::user::{Email, Id, Name, UserFields, UserLabel};
use super::{LogFormat, LogSettings, MessageLog, Stall};
use crate::refusal;

/// The log of one worker. It formats all records into one buffer, in their order, and [`WorkerLog::flush`] appends
/// the buffer to the queue.
///
/// No call blocks. If the queue is full, the lines are dropped and counted with [`Stall::Drop`]. With
/// [`Stall::Pause`] they are kept until the next call, and [`is_full`](Recorder::is_full) makes the worker stop
/// reading from users.
pub struct WorkerLog {
    settings: LogSettings,
    /// Whether the settings and the level want records of messages.
    wants_messages: bool,
    lines: MessageLines,
    /// The number of the process, in the ids of requests.
    instance: u32,
    /// Whether the lines of the last flush did not fit into the queue and are kept.
    is_full: bool,
    queue: Arc<Queue>,
}

impl WorkerLog {
    pub(super) fn new(settings: LogSettings, instance: u32, queue: Arc<Queue>) -> WorkerLog {
        let wants_messages = settings.messages != MessageLog::Off && Level::Info.is_at_least(settings.level);
        WorkerLog {
            wants_messages,
            settings,
            lines: MessageLines::new(settings.format, instance),
            instance,
            is_full: false,
            queue,
        }
    }

    /// Appends the lines since the last call to the queue. Call it once for each batch of events, at the end of the
    /// batch. All records of a batch have the same time, and the clock is read for the first one.
    #[inline]
    pub fn flush(&mut self) {
        let batch = self.lines.batch();
        if batch.lines.is_empty() {
            self.is_full = false;
            return;
        }
        batch.clock.end_batch();
        match self.settings.stall {
            Stall::Drop => self.queue.push(&batch.lines),
            Stall::Pause => {
                self.is_full = !self.queue.offer(&batch.lines);
                if self.is_full {
                    // The worker keeps up to the size of the queue: the records of one turn, and of connections
                    // that end.
                    if batch.lines.len() <= self.settings.queue {
                        return;
                    }
                    self.queue.drop_lines(&batch.lines);
                }
            }
        }
        batch.lines.clear();
        // A few records of complete payloads may have made it large.
        batch.lines.shrink_to(2 * MAX_BATCH);
    }

    /// Appends the remaining lines to the queue, because the worker ends. With [`Stall::Pause`] they may exceed the
    /// capacity of the queue. Dropping the log does the same. A runtime that does not drop it calls this.
    pub fn finish(&mut self) {
        let lines = &mut self.lines.batch().lines;
        match self.settings.stall {
            Stall::Drop => self.queue.push(lines),
            Stall::Pause => self.queue.push_over_capacity(lines),
        }
        lines.clear();
        self.is_full = false;
    }

    /// Returns when to call [`WorkerLog::flush`] again, because the last lines did not fit.
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        self.is_full.then(|| now + RETRY)
    }

    #[inline]
    fn message(
        &mut self,
        connection: ConnectionId,
        identity: &Identity,
        channel: Option<&str>,
        kind: DataKind,
        bytes: &[u8],
    ) {
        if !self.wants_messages {
            return;
        }
        let payload = Payload { kind, bytes, shown: self.settings.messages };
        let user = UserFields { identity, email: self.settings.email };
        self.lines.message(connection, user, channel, payload);
    }

    /// Returns the first fields of a record about an admitted user.
    fn of_user<'a>(&self, connection: ConnectionId, identity: &'a Identity) -> Subject<'a> {
        let user = UserFields { identity, email: self.settings.email };
        Subject { user: Some(user), ..self.of_request(connection, identity.request_id()) }
    }

    /// Returns the first fields of a record about a request that was not upgraded.
    fn of_request<'a>(&self, connection: ConnectionId, given: Option<&'a str>) -> Subject<'a> {
        Subject {
            connection,
            request: RequestId::new(given, self.instance, connection),
            session: RequestId::new(None, self.instance, connection),
            user: None,
            format: self.settings.format,
        }
    }

    fn established(
        &mut self,
        connection: ConnectionId,
        peer: Peer,
        identity: &Identity,
        subprotocol: Option<&str>,
        is_offer_unanswered: bool,
        took: Duration,
    ) {
        let (name, email, id) = (Name(identity), Email(identity, self.settings.email), Id(identity));
        let subject = self.of_user(connection, identity);
        self.rare(
            "connection_established",
            Level::Info,
            &format_args!("WebSocket connection established - User: {name} ({email}) - ID: {id}"),
            &|keys| {
                subject.emit(keys)?;
                keys.emit_arguments("peer", &format_args!("{peer}"))?;
                emit_client(keys, identity)?;
                if let Some(session) = identity.session_id() {
                    keys.emit_str("user_session", session)?;
                }
                if let Some(subprotocol) = subprotocol {
                    keys.emit_str("subprotocol", subprotocol)?;
                }
                // The offer itself is not logged, because it may contain a token.
                if is_offer_unanswered {
                    keys.emit_bool("subprotocol_unanswered", true)?;
                }
                keys.emit_u64("handshake_ms", as_millis(took))
            },
        );
    }

    fn pong(&mut self, connection: ConnectionId, identity: &Identity, round_trip: Duration) {
        let subject = self.of_user(connection, identity);
        self.rare("pong", Level::Debug, &format_args!("Pong from {}", UserLabel(identity)), &|keys| {
            subject.emit(keys)?;
            keys.emit_f64("rtt_ms", in_millis(round_trip))
        });
    }

    fn rate_exceeded(
        &mut self,
        connection: ConnectionId,
        identity: &Identity,
        kind: RateKind,
        per_second: u64,
    ) {
        let subject = self.of_user(connection, identity);
        let setting = match kind {
            RateKind::Messages => "POSTERN_MESSAGE_RATE",
            RateKind::Bytes => "POSTERN_BYTE_RATE",
        };
        self.rare(
            "rate_exceeded",
            Level::Warning,
            &format_args!("Client of {} exceeds its rate and is read no faster", UserLabel(identity)),
            &|keys| {
                subject.emit(keys)?;
                keys.emit_str("setting", setting)?;
                keys.emit_u64("per_second", per_second)
            },
        );
    }

    fn rate_kept(&mut self, connection: ConnectionId, identity: &Identity, lasted: Duration, pauses: u64) {
        let subject = self.of_user(connection, identity);
        self.rare(
            "rate_kept",
            Level::Info,
            &format_args!("Client of {} keeps its rate again", UserLabel(identity)),
            &|keys| {
                subject.emit(keys)?;
                keys.emit_u64("duration_ms", as_millis(lasted))?;
                keys.emit_u64("pauses", pauses)
            },
        );
    }

    fn token_refreshed(&mut self, connection: ConnectionId, identity: &Identity) {
        let subject = self.of_user(connection, identity);
        let sentence = format_args!("Token of {} is refreshed", UserLabel(identity));
        self.rare("token_refreshed", Level::Debug, &sentence, &|keys| {
            subject.emit(keys)?;
            match identity.token_exp() {
                Some(exp) => keys.emit_u64("token_exp", exp),
                None => Ok(()),
            }
        });
    }

    fn refresh_refused(&mut self, connection: ConnectionId, identity: &Identity, refusal: RefreshRefusal) {
        let subject = self.of_user(connection, identity);
        let sentence = format_args!("Refresh of the token of {} is refused", UserLabel(identity));
        self.rare("token_refresh_refused", Level::Warning, &sentence, &|keys| {
            subject.emit(keys)?;
            keys.emit_str("code", refusal.code())
        });
    }

    fn credentials_ended(&mut self, connection: ConnectionId, identity: &Identity, cause: CredentialsEnd) {
        let subject = self.of_user(connection, identity);
        let label = UserLabel(identity);
        let (event, token, state) = match cause {
            CredentialsEnd::Expired => ("token_expired", "Token", "has expired"),
            CredentialsEnd::Revoked => ("credentials_revoked", "Credentials", "are revoked"),
            CredentialsEnd::Refused => ("token_refused", "Token", "does not hold any more"),
            CredentialsEnd::Unchecked => ("token_unchecked", "Token", "cannot be checked"),
        };
        let sentence = format_args!("{token} of {label} {state}, and the connection is closed");
        self.rare(event, Level::Warning, &sentence, &|keys| {
            subject.emit(keys)?;
            match identity.token_exp() {
                Some(exp) => keys.emit_u64("token_exp", exp),
                None => Ok(()),
            }
        });
    }

    fn closed(
        &mut self,
        connection: ConnectionId,
        identity: &Identity,
        ending: Ending,
        reason: &str,
        Summary { lasted, round_trip, traffic }: Summary,
    ) {
        let subject = self.of_user(connection, identity);
        self.rare(
            "connection_closed",
            Level::Info,
            &format_args!("WebSocket connection closed for user {}", UserLabel(identity)),
            &|keys| {
                subject.emit(keys)?;
                emit_client(keys, identity)?;
                keys.emit_u64("code", ending.code().into())?;
                keys.emit_arguments("side", &format_args!("{}", ending.side()))?;
                keys.emit_str("reason", reason)?;
                keys.emit_u64("duration_ms", as_millis(lasted))?;
                if let Some(round_trip) = round_trip {
                    keys.emit_f64("rtt_ms", in_millis(round_trip))?;
                }
                keys.emit_u64("messages_received", traffic.messages_received)?;
                keys.emit_u64("messages_sent", traffic.messages_sent)?;
                keys.emit_u64("bytes_received", traffic.bytes_received)?;
                keys.emit_u64("bytes_sent", traffic.bytes_sent)
            },
        );
    }

    /// Appends the record of a refusal. The number in the sentence is the status of the response, or the code of the
    /// Close frame that was sent instead.
    fn rejected(
        &mut self,
        connection: ConnectionId,
        (peer, client): (Peer, Option<Client<'_>>),
        (request_id, is_refresh): (Option<&str>, bool),
        error: HandshakeError,
        close_code: Option<CloseCode>,
        took: Duration,
    ) {
        let subject = self.of_request(connection, request_id);
        let (key, number) = match close_code {
            Some(code) => ("close_code", u16::from(code)),
            None => ("status", error.status()),
        };
        let (event, what) = if is_refresh {
            ("refresh_rejected", "Refresh")
        } else {
            ("upgrade_rejected", "WebSocket upgrade")
        };
        self.rare(
            event,
            Level::Warning,
            &format_args!("{what} refused - {number} {}", refusal::message(error)),
            &|keys| {
                subject.emit(keys)?;
                keys.emit_arguments("peer", &format_args!("{peer}"))?;
                if let Some(client) = client {
                    keys.emit_arguments("client", &format_args!("{client}"))?;
                }
                keys.emit_u64(key, number.into())?;
                keys.emit_str("code", error.code())?;
                if let Some(detail) = error.detail() {
                    keys.emit_str("detail", detail)?;
                }
                if let (HandshakeError::PeerNotTrusted, Peer::Tcp { ip, .. }) = (error, peer) {
                    let ip = ip.to_canonical();
                    let preset = preset_of(ip).map(|name| format!(" or {name}")).unwrap_or_default();
                    let detail =
                        format_args!("POSTERN_TRUSTED_PROXIES needs {ip}{preset} if this is your gateway");
                    keys.emit_arguments("detail", &detail)?;
                }
                keys.emit_u64("handshake_ms", as_millis(took))
            },
        );
    }

    fn abandoned(&mut self, connection: ConnectionId, peer: Peer, received: usize) {
        let subject = self.of_request(connection, None);
        self.rare(
            "connection_abandoned",
            Level::Debug,
            &format_args!(
                "WebSocket upgrade abandoned - the connection ended before the request was complete"
            ),
            &|keys| {
                subject.emit(keys)?;
                keys.emit_arguments("peer", &format_args!("{peer}"))?;
                keys.emit_u64("bytes_received", as_u64(received))
            },
        );
    }

    /// Appends a record that is not about a message to the batch.
    fn rare(&mut self, event: &'static str, level: Level, message: &fmt::Arguments<'_>, fields: Fields<'_>) {
        if !level.is_at_least(self.settings.level) {
            return;
        }
        let batch = self.lines.batch();
        let timestamp = *batch.clock.timestamp();
        Entry { timestamp, level, event, message: *message }.write(
            self.settings.format,
            &mut batch.lines,
            FieldOrder::AsWritten,
            fields,
        );
    }
}

impl Recorder for WorkerLog {
    #[inline]
    fn record(&mut self, record: &Record<'_>) {
        match *record {
            Record::Message { connection, identity, kind, payload } => {
                self.message(connection, identity, None, kind, payload);
            }
            Record::Publication { connection, identity, channel, kind, payload } => {
                self.message(connection, identity, Some(channel), kind, payload);
            }
            Record::Established { connection, peer, identity, subprotocol, is_offer_unanswered, took } => {
                self.established(connection, peer, identity, subprotocol, is_offer_unanswered, took);
            }
            Record::Pong { connection, identity, round_trip } => {
                self.pong(connection, identity, round_trip);
            }
            Record::RateExceeded { connection, identity, kind, per_second, is_first: true } => {
                self.rate_exceeded(connection, identity, kind, per_second);
            }
            Record::RateExceeded { is_first: false, .. } => {}
            Record::TokenRefreshed { connection, identity } => self.token_refreshed(connection, identity),
            Record::RefreshRefused { connection, identity, refusal } => {
                self.refresh_refused(connection, identity, refusal);
            }
            Record::CredentialsEnded { connection, identity, cause } => {
                self.credentials_ended(connection, identity, cause);
            }
            Record::RateKept { connection, identity, lasted, pauses } => {
                self.rate_kept(connection, identity, lasted, pauses);
            }
            Record::Closed { connection, identity, ending, reason, summary } => {
                self.closed(connection, identity, ending, reason, summary);
            }
            Record::Rejected {
                connection,
                peer,
                request_id,
                client,
                is_refresh,
                error,
                close_code,
                took,
            } => {
                let request = (request_id, is_refresh);
                self.rejected(connection, (peer, client), request, error, close_code, took);
            }
            Record::Abandoned { connection, peer, received } => self.abandoned(connection, peer, received),
        }
        if self.lines.batch().lines.len() >= MAX_BATCH && !self.is_full {
            self.flush();
        }
    }

    #[inline]
    fn wants_messages(&self) -> bool {
        self.wants_messages
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.is_full
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for WorkerLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerLog").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The first fields of a record: its connection, the request of the connection, and its user.
#[derive(Clone, Copy)]
struct Subject<'a> {
    connection: ConnectionId,
    request: RequestId<'a>,
    /// Unique among all processes of the log, even if the gateway gives the same id to two requests.
    session: RequestId<'a>,
    user: Option<UserFields<'a>>,
    format: LogFormat,
}

impl Subject<'_> {
    fn emit(self, keys: &mut dyn Serializer) -> slog::Result {
        keys.emit_u64("conn", self.connection.0)?;
        keys.emit_arguments("request_id", &format_args!("{}", self.request))?;
        if self.format == LogFormat::Json {
            keys.emit_arguments("session_id", &format_args!("{}", self.session))?;
            if let Some(user) = self.user {
                user.each(|key, pieces| keys.emit_str(key, &pieces.concat()))?;
            }
        }
        Ok(())
    }
}

/// Returns the name in `POSTERN_TRUSTED_PROXIES` of a list of blocks that contains this address.
fn preset_of(ip: IpAddr) -> Option<&'static str> {
    let presets = [
        ("loopback", TrustedProxies::loopback()),
        ("private", TrustedProxies::private()),
        ("cgnat", TrustedProxies::cgnat()),
        ("link-local", TrustedProxies::link_local()),
    ];
    presets.into_iter().find(|(_, blocks)| blocks.trusts(ip)).map(|(name, _)| name)
}

/// Writes the client, if the gateway has sent its address.
fn emit_client(keys: &mut dyn Serializer, identity: &Identity) -> slog::Result {
    match identity.client() {
        Some(client) => keys.emit_str("client", client),
        None => Ok(()),
    }
}

/// Converts without loss, because no platform has a usize of more than 64 bits.
fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Converts to milliseconds, exact to a microsecond.
fn in_millis(duration: Duration) -> f64 {
    // A float represents each microsecond up to 2^53 µs, which are 285 years.
    duration.as_micros() as f64 / 1e3
}

/// Converts to whole milliseconds.
fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A batch that has grown to this number of bytes is flushed before its end.
const MAX_BATCH: usize = 64 * 1024;

/// The time from a flush into a full queue to the next one.
const RETRY: Duration = Duration::from_millis(5);
