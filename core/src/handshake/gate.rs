//! The rate of new connections.

use std::time::{Duration, Instant};

use super::HandshakeError;
use crate::policy::{RateLimit, Verdict};

/// Limits the rate of new connections. There is one per process, used by the thread that accepts. The number of connections is
/// limited by the worker that gets them ([`Worker::open`](crate::Worker::open)).
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    /// New connections per second, and the largest burst. Zero is unlimited.
    connect_rate: u32,
    arrivals: RateLimit,
    /// Connections for which another one is evicted.
    displacing: RateLimit,
}

impl Gate {
    /// Creates a gate for `connect_rate` new connections per second, with a burst of the same number. A rate of zero is
    /// unlimited.
    pub fn new(connect_rate: u32) -> Gate {
        Gate { connect_rate, arrivals: RateLimit::default(), displacing: RateLimit::default() }
    }

    /// Checks one more connection. The result is its [`refusal`](crate::worker::NewConnection::refusal).
    pub fn check(&mut self, now: Instant) -> Option<HandshakeError> {
        match self.arrivals.check(now, self.connect_rate, self.connect_rate) {
            Verdict::Conforming => None,
            Verdict::Exceeded => Some(HandshakeError::TooFast),
        }
    }

    /// Whether one more connection may be accepted at `now` although the process is full, so that another one is evicted for
    /// it or it is refused. If not, try again after [`Gate::PAUSE`].
    ///
    /// Clients that reconnect as soon as they are refused could otherwise use all processor time. At this rate, the
    /// kernel's queue of 4,096 connections is emptied in less than a second.
    pub fn may_displace(&mut self, now: Instant) -> bool {
        let burst = DISPLACED_PER_SECOND / 20;
        self.displacing.check(now, DISPLACED_PER_SECOND, burst) == Verdict::Conforming
    }

    /// The time for which accepting pauses after [`may_displace`](Gate::may_displace) has returned false, or while too
    /// many accepted connections have not reached their worker.
    pub const PAUSE: Duration = Duration::from_millis(5);
}

/// Connections a second that a full process accepts.
const DISPLACED_PER_SECOND: u32 = 4_500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_fast_as_allowed_and_no_faster() {
        let (mut gate, now) = (Gate::new(4), Instant::now());
        let verdicts = [(); 5].map(|()| gate.check(now));
        assert_eq!(verdicts, [None, None, None, None, Some(HandshakeError::TooFast)]);
        let later = now + Duration::from_millis(250);
        assert_eq!([gate.check(later), gate.check(later)], [None, Some(HandshakeError::TooFast)]);
    }

    #[test]
    fn a_full_process_empties_the_queue_of_the_kernel_in_less_than_a_second() {
        let (mut gate, start) = (Gate::new(0), Instant::now());
        let (mut now, mut accepted) = (start, 0);
        while accepted < 4096 {
            if gate.may_displace(now) {
                accepted += 1;
            } else {
                now += Gate::PAUSE;
            }
        }
        let took = now - start;
        assert!(took > Duration::from_millis(400) && took < Duration::from_secs(1), "{took:?}");
    }
}
