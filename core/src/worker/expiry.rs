//! The end of connections whose credentials no longer hold: their token has expired, or it is revoked.
//!
//! Connections without an expiry have no entry anywhere. The others have an entry in the timers, which also have their other
//! deadlines. A refresh does not change it: when it fires, the time of the connection is computed again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::timers::{Entry, Timers};
use super::{Application, Key, Selector, Worker};
use crate::compact_instant::CompactInstant;
use crate::handshake::Revocation;
use crate::id::ConnectionId;
use crate::record::{CredentialsEnd, Recorder};

/// The connections of a worker whose end is scheduled, by their keys.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    scheduled: BTreeMap<u32, Scheduled>,
    /// The current time, and the number of connections that were to end at it.
    slice: Option<(CompactInstant, u32)>,
}

/// The scheduled end of a connection.
#[derive(Debug, Clone, Copy)]
struct Scheduled {
    /// The time of its entry in the timers.
    at: CompactInstant,
    cause: CredentialsEnd,
}

impl Expiries {
    pub(super) fn remove(&mut self, key: Key) {
        self.scheduled.remove(&short(key));
    }

    /// Whether a connection ends because its credentials are revoked.
    pub(super) fn is_revoked(&self, key: Key) -> bool {
        self.scheduled.get(&short(key)).is_some_and(|scheduled| scheduled.cause == CredentialsEnd::Revoked)
    }

    /// Schedules the end of a connection, unless it is scheduled earlier already.
    pub(super) fn schedule(
        &mut self,
        timers: &mut Timers,
        (key, id): (Key, ConnectionId),
        at: CompactInstant,
        cause: CredentialsEnd,
    ) {
        if self.scheduled.get(&short(key)).is_none_or(|scheduled| at < scheduled.at) {
            self.scheduled.insert(short(key), Scheduled { at, cause });
            timers.push(Entry::of_credentials(at, key, id));
        }
    }

    /// Returns the time after which another connection may be ended; zero if it may be ended at `now`. Each further slice is
    /// later, so a connection is put off once, however many end together.
    fn pause(&mut self, now: CompactInstant) -> Duration {
        let count = match self.slice {
            Some((at, count)) if at == now => count,
            Some(_) | None => 0,
        };
        self.slice = Some((now, count.saturating_add(1)));
        SLICE_PAUSE * (count / SLICE)
    }
}

impl<A: Application> Worker<A> {
    /// Schedules the end of a connection that has just been admitted, if its token expires.
    #[inline]
    pub(super) fn schedule_expiry(&mut self, key: Key, now: Instant) {
        let Some(expiry) = self.config.expiry else { return };
        let exp = self.connections.get(key.0).and_then(Connection::user).and_then(|user| user.token_exp());
        if let (Some(exp), Some(clock)) = (exp, self.config.handshake.wall_clock) {
            let left = expiry.ends_after(exp, clock()) + self.shared.jitter.within(expiry.spread);
            // A time that cannot be expressed is never.
            if let Some(at) = now.checked_add(left) {
                self.schedule(key, at, CredentialsEnd::Expired);
            }
        }
    }

    fn schedule(&mut self, key: Key, at: Instant, cause: CredentialsEnd) {
        let Some(connection) = self.connections.get(key.0) else { return };
        let at = self.shared.time_base.compact(at);
        self.expiries.schedule(&mut self.timers, (key, connection.id), at, cause);
    }

    /// Begins to end the connections whose credentials a revocation names, within a second. Returns the number of those that
    /// were open.
    pub fn revoke(&mut self, revocation: &Revocation, now: Instant) -> usize {
        let keys = match (&revocation.user, &revocation.session) {
            (Some(user), _) => self.find(&Selector::User(user.to_string())),
            (None, Some(session)) => self.find(&Selector::Session(session.to_string())),
            (None, None) => self.keys(),
        };
        let is_revoked = |key: &Key| {
            let open = self.connections.get(key.0).filter(|connection| connection.is_open());
            open.and_then(Connection::user).is_some_and(|user| revocation.matches(user))
        };
        let revoked: Vec<Key> = keys.into_iter().filter(is_revoked).collect();
        for &key in &revoked {
            self.expiries.scheduled.remove(&short(key));
            self.schedule(key, now, CredentialsEnd::Revoked);
        }
        revoked.len()
    }

    /// Handles an entry of the timers that has fired. Returns whether the connection was closed, so that it is due.
    #[cold]
    #[inline(never)]
    pub(super) fn handle_credentials_end(
        &mut self,
        entry: Entry,
        now: Instant,
        recorder: &mut impl Recorder,
    ) -> bool {
        let key = entry.key();
        let is_current = |scheduled: &&Scheduled| scheduled.at == entry.at;
        let Some(&scheduled) = self.expiries.scheduled.get(&short(key)).filter(is_current) else {
            return false;
        };
        let Some(connection) = self.connections.get(key.0).filter(|connection| entry.is_of(connection.id))
        else {
            return false;
        };
        let left = match scheduled.cause {
            CredentialsEnd::Revoked | CredentialsEnd::Refused | CredentialsEnd::Unchecked => {
                Some(Duration::ZERO)
            }
            CredentialsEnd::Expired => self.time_left(connection, now),
        };
        self.expiries.scheduled.remove(&short(key));
        let left = match left {
            // The connection was refreshed, and does not expire any more.
            None => return false,
            Some(Duration::ZERO) => self.expiries.pause(self.shared.time_base.compact(now)),
            Some(left) => {
                let spread = self.config.expiry.map_or(Duration::ZERO, |expiry| expiry.spread);
                left + self.shared.jitter.within(spread)
            }
        };
        if !left.is_zero() {
            if let Some(at) = now.checked_add(left) {
                self.schedule(key, at, scheduled.cause);
            }
            return false;
        }
        let mut is_open = false;
        self.turn(key, now, |connection, _, turn| {
            is_open = connection.is_open();
            connection.end_credentials(turn, scheduled.cause, recorder);
        });
        is_open
    }

    /// Returns the time after which a connection ends because its token has expired; zero if it has. `None`: it does not
    /// expire.
    fn time_left(&self, connection: &Connection<A>, now: Instant) -> Option<Duration> {
        let expiry = self.config.expiry?;
        let clock = self.config.handshake.wall_clock?;
        let left = expiry.ends_after(connection.user()?.token_exp()?, clock());
        let of_client = connection.client_state().and_then(A::token_expires_at);
        let of_client = of_client.map(|at| (at + expiry.grace).saturating_duration_since(now));
        Some(of_client.map_or(left, |of_client| left.max(of_client)))
    }
}

/// The most connections that are ended before other sockets are handled: a Close and its record take about 10 µs.
const SLICE: u32 = 128;

/// The time between two slices.
const SLICE_PAUSE: Duration = Duration::from_millis(1);

/// A process has fewer than 2^31 descriptors, so no key is larger.
fn short(Key(key): Key) -> u32 {
    key as u32
}
