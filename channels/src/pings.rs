//! When clients are pinged, and when their pongs must have arrived.
//!
//! Clients are kept in groups of the same second, so a client costs eight bytes, and a timer of the worker serves all of a group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postern_core::{ConnectionId, Key};

use crate::engine::ClientRef;

/// A client in the schedule: its key, and a number that the next client with the same key does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scheduled {
    key: u32,
    generation: u32,
}

impl Scheduled {
    pub(crate) fn new(client: ClientRef) -> Scheduled {
        // A worker has fewer than 2^32 connections, and fewer than that begin in the time of a few pings.
        Scheduled { key: client.key.0 as u32, generation: client.connection.0 as u32 }
    }

    /// Returns whether it is the client of this connection.
    pub(crate) fn is_of(self, connection: ConnectionId) -> bool {
        self.generation == connection.0 as u32
    }

    pub(crate) fn key(self) -> Key {
        Key(self.key as usize)
    }
}

/// The step that is due for a group of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PingStep {
    /// Send a ping.
    Ping,
    /// Check that the pong has arrived.
    Check,
}

/// The schedule of the pings of a worker's clients.
#[derive(Debug)]
pub(crate) struct Pings {
    /// Second 0 of the groups.
    start: Instant,
    interval: Duration,
    pong_timeout: Duration,
    /// The groups by their second; checks of a second come before its pings.
    groups: BTreeMap<(u64, bool), Vec<Scheduled>>,
}

impl Pings {
    /// Creates an empty schedule. The interval is longer than the time for a pong.
    pub(crate) fn new(start: Instant, interval: Duration, pong_timeout: Duration) -> Pings {
        Pings { start, interval, pong_timeout, groups: BTreeMap::new() }
    }

    /// Adds a client, whose first ping is due after half an interval to a whole one: `random` decides.
    pub(crate) fn add(&mut self, client: Scheduled, now: Instant, random: u32) {
        let half = self.interval / 2;
        let delay = half + half.mul_f64(f64::from(random) / f64::from(u32::MAX));
        self.group(now + delay, PingStep::Ping).push(client);
    }

    /// Returns when the next group is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let (&(second, _), _) = self.groups.first_key_value()?;
        Some(self.start + Duration::from_secs(second))
    }

    /// Returns the next group that is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(PingStep, Vec<Scheduled>)> {
        let entry = self.groups.first_entry()?;
        let (second, is_ping) = *entry.key();
        (self.start + Duration::from_secs(second) <= now).then(|| {
            let step = if is_ping { PingStep::Ping } else { PingStep::Check };
            (step, entry.remove())
        })
    }

    /// Schedules the next step of a group for which `step` was taken.
    pub(crate) fn put_back(&mut self, step: PingStep, mut clients: Vec<Scheduled>, now: Instant) {
        if clients.is_empty() {
            return;
        }
        let (delay, next) = match step {
            PingStep::Ping => (self.pong_timeout, PingStep::Check),
            PingStep::Check => (self.interval.saturating_sub(self.pong_timeout), PingStep::Ping),
        };
        let group = self.group(now + delay, next);
        if group.is_empty() {
            *group = clients;
        } else {
            group.append(&mut clients);
        }
    }

    fn group(&mut self, at: Instant, step: PingStep) -> &mut Vec<Scheduled> {
        // The next whole second, so that a group is never due too early.
        let second = at.saturating_duration_since(self.start).as_secs() + 1;
        self.groups.entry((second, step == PingStep::Ping)).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_pinged_in_every_interval_and_checked_after_each_ping() {
        let start = Instant::now();
        let mut pings = Pings::new(start, Duration::from_secs(25), Duration::from_secs(8));
        let client = Scheduled { key: 7, generation: 1 };
        pings.add(client, start, u32::MAX / 2);
        let mut steps = Vec::new();
        let mut now = start;
        while steps.len() < 6 {
            now = pings.poll_timeout().unwrap().max(now);
            let (step, clients) = pings.take_due(now).unwrap();
            assert_eq!(clients, [client]);
            steps.push((step, (now - start).as_secs()));
            pings.put_back(step, clients, now);
        }
        let (ping, check) = (PingStep::Ping, PingStep::Check);
        assert_eq!(steps, [(ping, 19), (check, 28), (ping, 46), (check, 55), (ping, 73), (check, 82)]);
    }

    #[test]
    fn first_pings_are_spread_over_half_an_interval() {
        let start = Instant::now();
        let mut pings = Pings::new(start, Duration::from_secs(25), Duration::from_secs(8));
        for (random, key) in [(0, 0), (u32::MAX, 1)] {
            pings.add(Scheduled { key, generation: 0 }, start, random);
        }
        assert_eq!(pings.take_due(start + Duration::from_secs(12)), None);
        let first = pings.take_due(start + Duration::from_secs(13)).unwrap();
        assert_eq!(first.1.len(), 1);
        assert_eq!(pings.take_due(start + Duration::from_secs(25)), None);
        assert!(pings.take_due(start + Duration::from_secs(26)).is_some());
    }
}
