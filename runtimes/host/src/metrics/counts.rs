//! Events of one worker, counted from the records of its core.

use std::collections::BTreeMap;
use std::time::Duration;

use postern_channels::Disconnect;
use postern_core::handshake::HandshakeError;
use postern_core::policy::RateKind;
use postern_core::record::CredentialsEnd;
use postern_core::session::{Ending, Side, Traffic};
use postern_core::{Record, close_code};

use super::Histogram;

/// Counts since the start, in plain fields of the worker that they belong to. A message changes none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Connections of users that were admitted.
    pub(super) opened: u64,
    /// Ends of connections, by close code and by the side that ended them.
    pub(super) closed: BTreeMap<(Code, Initiator), u64>,
    /// Connections that ended because the client read too slowly.
    pub(super) slow_consumers: u64,
    /// Connections that ended because the client exceeded a rate.
    pub(super) too_fast: u64,
    /// Pauses of reading because the client exceeded a rate.
    pub(super) rate_pauses: RatePauses,
    /// Refreshes of the tokens of connections.
    pub(super) refreshed: u64,
    /// Messages with tokens that did not refresh their connections.
    pub(super) refreshes_refused: u64,
    /// Connections that ended because their tokens had expired.
    pub(super) expired: u64,
    /// Connections that ended because their credentials were revoked.
    pub(super) revoked: u64,
    /// Connections whose token did not hold any more before a message.
    pub(super) token_refused: u64,
    /// Connections whose token could not be checked before a message.
    pub(super) token_unchecked: u64,
    /// Upgrades that were refused, by [`HandshakeError::code`].
    pub(super) rejected: BTreeMap<&'static str, u64>,
    /// Connections that ended before their upgrade request was complete.
    pub(super) abandoned: u64,
    /// The traffic of connections that have ended.
    pub(super) traffic: Traffic,
    /// From the accepted socket to the 101.
    pub(super) handshakes: Histogram,
    /// From pings to their pongs.
    pub(super) round_trips: Histogram,
}

/// Pauses of reading, by the rate that was exceeded.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RatePauses {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A close code as a label. Clients can choose among 4000 codes, which must not become as many time series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Code {
    /// One that RFC 6455 or Postern gives a meaning to.
    Known(u16),
    /// Any other.
    Other,
}

/// The side that ended a connection, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Initiator {
    Client,
    Server,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            opened: 0,
            closed: BTreeMap::new(),
            slow_consumers: 0,
            too_fast: 0,
            rate_pauses: RatePauses::default(),
            refreshed: 0,
            refreshes_refused: 0,
            expired: 0,
            revoked: 0,
            token_refused: 0,
            token_unchecked: 0,
            rejected: BTreeMap::new(),
            abandoned: 0,
            traffic: Traffic::default(),
            handshakes: Histogram::new(HANDSHAKE_BOUNDS),
            round_trips: Histogram::new(ROUND_TRIP_BOUNDS),
        }
    }
}

impl Counts {
    /// Counts a record. A message is not counted here, because its session counts it.
    #[inline]
    pub(super) fn record(&mut self, record: &Record<'_>) {
        match *record {
            Record::Message { .. } | Record::Publication { .. } => {}
            Record::Established { took, .. } => self.established(took),
            Record::Pong { round_trip, .. } => self.round_trips.observe(round_trip),
            Record::RateExceeded { kind: RateKind::Messages, .. } => self.rate_pauses.messages += 1,
            Record::RateExceeded { kind: RateKind::Bytes, .. } => self.rate_pauses.bytes += 1,
            Record::RateKept { .. } => {}
            Record::TokenRefreshed { .. } => self.refreshed += 1,
            Record::RefreshRefused { .. } => self.refreshes_refused += 1,
            Record::CredentialsEnded { cause: CredentialsEnd::Expired, .. } => self.expired += 1,
            Record::CredentialsEnded { cause: CredentialsEnd::Revoked, .. } => self.revoked += 1,
            Record::CredentialsEnded { cause: CredentialsEnd::Refused, .. } => self.token_refused += 1,
            Record::CredentialsEnded { cause: CredentialsEnd::Unchecked, .. } => self.token_unchecked += 1,
            Record::Closed { ending, summary, .. } => self.closed(ending, summary.traffic),
            Record::Rejected { error, .. } => self.rejected(error),
            Record::Abandoned { .. } => self.abandoned += 1,
        }
    }

    /// Counts clients that were refused because no file descriptor was left.
    pub(super) fn turned_away(&mut self, count: u64) {
        *self.rejected.entry(HandshakeError::Overloaded.code()).or_default() += count;
    }

    /// Adds the counts of another worker.
    pub(super) fn add(&mut self, other: &Counts) {
        self.opened += other.opened;
        other.closed.iter().for_each(|(labels, count)| *self.closed.entry(*labels).or_default() += count);
        self.slow_consumers += other.slow_consumers;
        self.too_fast += other.too_fast;
        self.rate_pauses.messages += other.rate_pauses.messages;
        self.rate_pauses.bytes += other.rate_pauses.bytes;
        self.refreshed += other.refreshed;
        self.refreshes_refused += other.refreshes_refused;
        self.expired += other.expired;
        self.revoked += other.revoked;
        self.token_refused += other.token_refused;
        self.token_unchecked += other.token_unchecked;
        other.rejected.iter().for_each(|(reason, count)| *self.rejected.entry(reason).or_default() += count);
        self.abandoned += other.abandoned;
        self.traffic += other.traffic;
        self.handshakes.add(&other.handshakes);
        self.round_trips.add(&other.round_trips);
    }

    fn established(&mut self, took: Duration) {
        self.opened += 1;
        self.handshakes.observe(took);
    }

    fn closed(&mut self, ending: Ending, traffic: Traffic) {
        let code = ending.code();
        let initiator = match ending.side() {
            Side::Client => Initiator::Client,
            Side::Server => Initiator::Server,
        };
        let is_ours = initiator == Initiator::Server;
        let code_label = match code {
            1000..=1015 => Code::Known(code),
            _ if close_code::ALL.contains(&code) => Code::Known(code),
            _ if is_ours && Disconnect::is_reserved(code) => Code::Known(code),
            _ => Code::Other,
        };
        *self.closed.entry((code_label, initiator)).or_default() += 1;
        let is = |own, of_channels: Disconnect| is_ours && (code == own || code == of_channels.code());
        self.slow_consumers +=
            u64::from(is(close_code::SLOW_CONSUMER, Disconnect::Slow) || ending == Ending::WriteStalled);
        self.too_fast += u64::from(is(close_code::RATE_EXCEEDED, Disconnect::TooManyRequests));
        self.traffic += traffic;
    }

    fn rejected(&mut self, error: HandshakeError) {
        *self.rejected.entry(error.code()).or_default() += 1;
    }
}

/// Bounds of durations from 500 µs to 10 s.
const BOUNDS: &[Duration] = &[
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// A handshake is one read and one write, so it takes the time of the network. Its limit is 5 s.
const HANDSHAKE_BOUNDS: &[Duration] = BOUNDS.split_at(BOUNDS.len() - 1).0;

/// From 1 ms, within a rack, to 10 s, the default of `POSTERN_PONG_TIMEOUT`.
const ROUND_TRIP_BOUNDS: &[Duration] = BOUNDS.split_at(1).1;

#[cfg(test)]
mod tests {
    use postern_core::handshake::{Identity, Peer};
    use postern_core::{CloseCode, ConnectionId, Summary};

    use super::*;

    fn closed(ending: Ending) -> Counts {
        let identity = Identity::new(b"123", b"", b"").unwrap();
        let traffic = Traffic { messages_received: 1, bytes_received: 2, messages_sent: 3, bytes_sent: 4 };
        let mut counts = Counts::default();
        counts.record(&Record::Closed {
            connection: ConnectionId(1),
            identity: &identity,
            ending,
            reason: ending.reason(),
            summary: Summary { lasted: Duration::ZERO, round_trip: None, traffic },
        });
        assert_eq!(counts.traffic, traffic);
        counts
    }

    #[test]
    fn a_close_code_chosen_by_the_client_is_counted_as_other() {
        let label = |ending| closed(ending).closed.into_iter().next().unwrap();
        for (ending, code, initiator) in [
            (Ending::PeerClosed(Some(CloseCode::NORMAL)), Code::Known(1000), Initiator::Client),
            (Ending::PeerClosed(None), Code::Known(1005), Initiator::Client),
            (Ending::PeerClosed(Some(CloseCode::from(3999))), Code::Other, Initiator::Client),
            (Ending::PeerClosed(Some(CloseCode::from(4402))), Code::Other, Initiator::Client),
            (Ending::Eof, Code::Known(1006), Initiator::Client),
            (Ending::Closed(CloseCode::from(4403)), Code::Known(4403), Initiator::Server),
            (Ending::Closed(CloseCode::from(3012)), Code::Known(3012), Initiator::Server),
            (Ending::Closed(CloseCode::from(4999)), Code::Other, Initiator::Server),
        ] {
            assert_eq!(label(ending), ((code, initiator), 1), "{ending:?}");
        }
    }

    #[test]
    fn slow_consumers_and_exceeded_rates_are_counted_if_the_server_ends_the_connection() {
        let both = |ending| {
            let counts = closed(ending);
            (counts.slow_consumers, counts.too_fast)
        };
        assert_eq!(both(Ending::Closed(CloseCode::from(4413))), (1, 0));
        assert_eq!(both(Ending::Closed(CloseCode::from(3008))), (1, 0));
        assert_eq!(both(Ending::Closed(CloseCode::from(3013))), (0, 1));
        assert_eq!(both(Ending::WriteStalled), (1, 0));
        assert_eq!(both(Ending::Closed(CloseCode::from(4429))), (0, 1));
        assert_eq!(both(Ending::PeerClosed(Some(CloseCode::from(4413)))), (0, 0));
        assert_eq!(both(Ending::Evicted), (0, 0));
    }

    #[test]
    fn counts_of_workers_are_added_up() {
        let mut one = closed(Ending::Eof);
        let rejected = Record::Rejected {
            connection: ConnectionId(1),
            peer: Peer::Unix,
            request_id: None,
            client: None,
            is_refresh: false,
            error: HandshakeError::NotFound,
            close_code: None,
            took: Duration::ZERO,
        };
        let abandoned = Record::Abandoned { connection: ConnectionId(2), peer: Peer::Unix, received: 0 };
        one.record(&rejected);
        one.record(&abandoned);
        let mut sum = Counts::default();
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.closed, BTreeMap::from([((Code::Known(1006), Initiator::Client), 2)]));
        assert_eq!(sum.rejected, BTreeMap::from([("not_found", 2)]));
        assert_eq!((sum.abandoned, sum.traffic.bytes_sent), (2, 8));
    }
}
