//! Who may come in at all, before anything is read.

use std::time::Instant;

use super::{Pace, RateLimit};
use crate::handshake::HandshakeError;

/// Judges connections as they are accepted. One per process, with the one thread that accepts.
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    /// Connections at a time.
    max_connections: usize,
    /// New connections a second, and as many at once; zero is any number.
    connect_rate: u32,
    arrivals: RateLimit,
}

impl Gate {
    /// A gate for at most `max_connections` at a time and `connect_rate` new ones a second, with as many at once. A
    /// rate of zero is any.
    pub fn new(max_connections: usize, connect_rate: u32) -> Gate {
        Gate { max_connections, connect_rate, arrivals: RateLimit::default() }
    }

    /// Judges one more beside the `connections` that are there. What it gives is the
    /// [`refusal`](crate::service::Arrival::refusal) of the arrival.
    pub fn judge(&mut self, connections: usize, now: Instant) -> Option<HandshakeError> {
        if connections >= self.max_connections {
            return Some(HandshakeError::Overloaded);
        }
        match self.arrivals.judge(now, self.connect_rate, self.connect_rate) {
            Pace::Kept => None,
            Pace::Exceeded => Some(HandshakeError::TooFast),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn as_many_as_allowed_and_no_more() {
        let mut gate = Gate::new(3, 0);
        let verdicts = [0, 2, 3, 4].map(|connections| gate.judge(connections, Instant::now()));
        assert_eq!(
            verdicts,
            [None, None, Some(HandshakeError::Overloaded), Some(HandshakeError::Overloaded)]
        );
    }

    #[test]
    fn as_fast_as_allowed_and_no_faster() {
        let (mut gate, now) = (Gate::new(usize::MAX, 4), Instant::now());
        let verdicts = [0; 5].map(|connections| gate.judge(connections, now));
        assert_eq!(verdicts, [None, None, None, None, Some(HandshakeError::TooFast)]);
        let later = now + Duration::from_millis(250);
        assert_eq!([gate.judge(0, later), gate.judge(0, later)], [None, Some(HandshakeError::TooFast)]);
    }
}
