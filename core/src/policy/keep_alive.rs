//! Detection of dead peers: an idle peer is pinged, and a peer that does not answer is dead.

use std::time::{Duration, Instant};

use super::late_deadline::extend_if_late;
use crate::compact_instant::{CompactInstant, TimeBase};

/// The times of keep-alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAliveConfig {
    /// A peer is pinged if nothing was read from it for this long. The interval of each connection differs by up to a tenth,
    /// so that connections that began together are not pinged together. Default 25 s, which is less than the idle timeout of
    /// most gateways. Zero disables pings.
    pub interval: Duration,
    /// The longest time from a ping until something is read from the peer. Default 10 s.
    pub timeout: Duration,
}

impl Default for KeepAliveConfig {
    fn default() -> KeepAliveConfig {
        KeepAliveConfig { interval: Duration::from_secs(25), timeout: Duration::from_secs(10) }
    }
}

impl KeepAliveConfig {
    /// Returns these times for one connection, with an interval that differs by up to a tenth. `number` is the number
    /// of the connection.
    pub fn of(self, number: u64) -> KeepAliveConfig {
        // Fibonacci hashing (Knuth, TAOCP 6.4): numbers that follow each other come out far apart. The upper bits are
        // the good ones, and 16 of them fit a u32.
        let spread = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u32 % 201;
        KeepAliveConfig { interval: (self.interval / 1000).saturating_mul(900 + spread), ..self }
    }
}

/// The action for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAliveAction {
    /// No action yet.
    Wait,
    /// Send a ping with this payload.
    Ping([u8; 8]),
    /// Close the connection: the peer has not answered.
    Close,
}

/// The time of the last read from a peer, and of an unanswered ping.
///
/// A read costs one store, and moves no timer: the [`deadline`](KeepAlive::deadline) is computed when it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    last_received: Instant,
    /// When the last ping was sent, until it is answered. As a `CompactInstant`, because each connection has one.
    pinged: Option<CompactInstant>,
}

impl KeepAlive {
    /// Creates the state of a new connection.
    pub fn new(now: Instant) -> KeepAlive {
        KeepAlive { last_received: now, pinged: None }
    }

    /// Returns the time of the last read.
    pub fn last_received(&self) -> Instant {
        self.last_received
    }

    /// Records a read.
    #[inline(always)]
    pub fn on_received(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// Returns when to call [`KeepAlive::poll`] next. `None` if pings are disabled.
    pub fn deadline(&self, config: KeepAliveConfig, time_base: TimeBase) -> Option<Instant> {
        match self.unanswered(time_base) {
            Some(pinged) => pinged.checked_add(config.timeout),
            None if config.interval.is_zero() => None,
            None => self.last_received.checked_add(config.interval),
        }
    }

    /// Returns what to do now. A ping counts as sent.
    pub fn poll(&mut self, now: Instant, config: KeepAliveConfig, time_base: TimeBase) -> KeepAliveAction {
        if self.deadline(config, time_base).is_none_or(|at| now < at) {
            return KeepAliveAction::Wait;
        }
        // A verdict this late means that the process itself was suspended, perhaps with its network (a virtual
        // machine): the peer is pinged again.
        let is_late =
            |pinged: Instant| extend_if_late(pinged + config.timeout, now, config.timeout).is_some();
        if self.unanswered(time_base).is_some_and(|pinged| !is_late(pinged)) {
            return KeepAliveAction::Close;
        }
        // The bytes tell this ping from all others of the connection.
        let instant = time_base.compact(now);
        self.pinged = Some(instant);
        KeepAliveAction::Ping(instant.to_bytes())
    }

    /// Handles a pong. If it answers the last ping, returns the round trip; an unsolicited pong (RFC 6455 §5.5.3) only counts
    /// as a read.
    #[cold]
    pub fn on_pong(&self, now: Instant, payload: &[u8], time_base: TimeBase) -> Option<Duration> {
        let pinged = self.pinged.filter(|pinged| payload == pinged.to_bytes())?;
        Some(now.saturating_duration_since(time_base.instant(pinged)))
    }

    /// Restarts the timeout of a ping that was queued in the backlog, and is sent only now. Call it when the backlog
    /// drains.
    pub fn on_drained(&mut self, now: Instant, time_base: TimeBase) {
        if self.is_unanswered(time_base) {
            self.pinged = Some(time_base.compact(now));
        }
    }

    /// Whether no ping is unanswered, so that the [`deadline`](KeepAlive::deadline) can only become later.
    #[inline(always)]
    pub fn has_no_ping(&self) -> bool {
        self.pinged.is_none()
    }

    /// Forgets the last ping if something was read after it. The [`deadline`](KeepAlive::deadline) may be earlier afterwards.
    pub fn clear_answered_ping(&mut self, time_base: TimeBase) {
        if !self.is_unanswered(time_base) {
            self.pinged = None;
        }
    }

    /// Whether a ping was sent, and nothing was read since.
    pub fn is_unanswered(&self, time_base: TimeBase) -> bool {
        self.unanswered(time_base).is_some()
    }

    /// Returns the time at which the last ping was sent, if nothing was read since.
    fn unanswered(&self, time_base: TimeBase) -> Option<Instant> {
        let pinged = time_base.instant(self.pinged?);
        // It was sent because nothing had been read for a while, so what was read in its instant came after it.
        (self.last_received < pinged).then_some(pinged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const CONFIG: KeepAliveConfig =
        KeepAliveConfig { interval: Duration::from_secs(25), timeout: Duration::from_secs(10) };

    #[track_caller]
    fn ping(keep_alive: &mut KeepAlive, now: Instant, time_base: TimeBase) -> [u8; 8] {
        match keep_alive.poll(now, CONFIG, time_base) {
            KeepAliveAction::Ping(payload) => payload,
            beat => panic!("{beat:?}"),
        }
    }

    #[test]
    fn a_peer_that_is_quiet_is_pinged_and_then_gone() {
        let start = Instant::now();
        let time_base = TimeBase::new(start);
        let mut keep_alive = KeepAlive::new(start);
        let before = start + 25 * SECOND - Duration::from_nanos(1);
        assert_eq!(keep_alive.deadline(CONFIG, time_base), Some(start + 25 * SECOND));
        assert_eq!(keep_alive.poll(before, CONFIG, time_base), KeepAliveAction::Wait);
        ping(&mut keep_alive, start + 25 * SECOND, time_base);
        assert_eq!(keep_alive.deadline(CONFIG, time_base), Some(start + 35 * SECOND));
        assert_eq!(keep_alive.poll(before + 10 * SECOND, CONFIG, time_base), KeepAliveAction::Wait);
        assert_eq!(keep_alive.poll(start + 35 * SECOND, CONFIG, time_base), KeepAliveAction::Close);
    }

    #[test]
    fn whatever_is_read_puts_the_ping_off_and_answers_it() {
        let start = Instant::now();
        let time_base = TimeBase::new(start);
        let mut keep_alive = KeepAlive::new(start);
        keep_alive.on_received(start + 20 * SECOND);
        assert_eq!(keep_alive.poll(start + 30 * SECOND, CONFIG, time_base), KeepAliveAction::Wait);
        assert_eq!(keep_alive.deadline(CONFIG, time_base), Some(start + 45 * SECOND));
        ping(&mut keep_alive, start + 45 * SECOND, time_base);
        keep_alive.on_received(start + 46 * SECOND);
        assert_eq!(keep_alive.poll(start + 60 * SECOND, CONFIG, time_base), KeepAliveAction::Wait);
        ping(&mut keep_alive, start + 71 * SECOND, time_base);
    }

    #[test]
    fn a_pong_to_the_last_ping_measures_the_round_trip() {
        let start = Instant::now();
        let time_base = TimeBase::new(start);
        let mut keep_alive = KeepAlive::new(start);
        assert_eq!(keep_alive.on_pong(start, b"", time_base), None);
        let payload = ping(&mut keep_alive, start + 25 * SECOND, time_base);
        assert!(!keep_alive.has_no_ping());
        keep_alive.clear_answered_ping(time_base);
        assert!(!keep_alive.has_no_ping(), "nothing was read");
        keep_alive.on_received(start + 26 * SECOND);
        assert_eq!(keep_alive.on_pong(start + 26 * SECOND, b"12345678", time_base), None);
        assert_eq!(keep_alive.on_pong(start + 26 * SECOND, &payload, time_base), Some(SECOND));
        keep_alive.clear_answered_ping(time_base);
        assert!(keep_alive.has_no_ping());
        assert_eq!(keep_alive.on_pong(start + 27 * SECOND, &payload, time_base), None, "it is settled");
    }

    #[test]
    fn a_pong_in_the_instant_of_its_ping_counts() {
        let start = Instant::now();
        let time_base = TimeBase::new(start);
        let mut keep_alive = KeepAlive::new(start);
        let config = KeepAliveConfig { interval: Duration::from_nanos(1), ..CONFIG };
        let now = start + Duration::from_nanos(1);
        let KeepAliveAction::Ping(payload) = keep_alive.poll(now, config, time_base) else {
            panic!("no ping")
        };
        keep_alive.on_received(now);
        assert!(keep_alive.on_pong(now, &payload, time_base).is_some());
        assert_eq!(keep_alive.deadline(config, time_base), Some(now + config.interval));
    }

    #[test]
    fn a_verdict_that_comes_more_than_a_second_late_is_another_ping() {
        let start = Instant::now();
        let time_base = TimeBase::new(start);
        let mut keep_alive = KeepAlive::new(start);
        ping(&mut keep_alive, start + 25 * SECOND, time_base);
        // The process was suspended before the deadline at 35 s.
        ping(&mut keep_alive, start + 37 * SECOND, time_base);
        assert_eq!(keep_alive.deadline(CONFIG, time_base), Some(start + 47 * SECOND));
        let on_time = start + 48 * SECOND;
        assert_eq!(keep_alive.poll(on_time, CONFIG, time_base), KeepAliveAction::Close);
    }

    #[test]
    fn the_timeout_of_a_ping_starts_again_when_the_backlog_is_sent() {
        let start = Instant::now();
        let time_base = TimeBase::new(start);
        let mut keep_alive = KeepAlive::new(start);
        keep_alive.on_drained(start + 5 * SECOND, time_base);
        assert_eq!(keep_alive.deadline(CONFIG, time_base), Some(start + 25 * SECOND), "there was none");
        ping(&mut keep_alive, start + 25 * SECOND, time_base);
        keep_alive.on_drained(start + 60 * SECOND, time_base);
        assert_eq!(keep_alive.deadline(CONFIG, time_base), Some(start + 70 * SECOND));
    }

    #[test]
    fn an_interval_of_zero_is_never_and_so_is_one_beyond_all_time() {
        let start = Instant::now();
        let time_base = TimeBase::new(start);
        let longest = KeepAliveConfig { interval: Duration::MAX, timeout: Duration::MAX };
        assert_eq!(KeepAlive::new(start).deadline(longest.of(7), time_base), None);
        let config = KeepAliveConfig { interval: Duration::ZERO, ..CONFIG }.of(7);
        let mut keep_alive = KeepAlive::new(start);
        assert_eq!(keep_alive.deadline(config, time_base), None);
        assert_eq!(keep_alive.poll(start + 3600 * SECOND, config, time_base), KeepAliveAction::Wait);
    }

    #[test]
    fn intervals_differ_by_a_tenth_either_way_and_evenly() {
        let mut tenths = [0; 5];
        for number in 1..=10_000 {
            let interval = CONFIG.of(number).interval.as_millis();
            assert!((22_500..=27_500).contains(&interval), "{interval}");
            tenths[((interval - 22_500) / 1000).min(4) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (1800..2200).contains(count)), "{tenths:?}");
        assert_eq!(CONFIG.of(1), CONFIG.of(1));
    }
}
