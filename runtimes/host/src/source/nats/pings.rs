//! The questions that notice a server without an answer.

use std::time::{Duration, Instant};

/// The questions on a connection. The server answers each, in their order.
#[derive(Debug)]
pub(super) struct Pings {
    unanswered: u32,
    next: Instant,
}

/// The action at [`Pings::due`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a question, and note it with [`Pings::sent`].
    Ask,
    /// End the connection.
    GiveUp,
}

impl Pings {
    /// Creates them for a new connection.
    pub(super) fn new(now: Instant) -> Pings {
        Pings { unanswered: 0, next: now + INTERVAL }
    }

    /// Notes that a question is sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.unanswered += 1;
        self.next = now + INTERVAL;
    }

    /// Notes an answer.
    pub(super) fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Returns whether a question has no answer yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.unanswered > 0
    }

    /// Returns when to call [`poll`](Pings::poll).
    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// Returns the action that is due.
    pub(super) fn poll(&self, now: Instant) -> Option<Due> {
        if now < self.next {
            None
        } else if self.unanswered >= MOST {
            Some(Due::GiveUp)
        } else {
            Some(Due::Ask)
        }
    }
}

/// The time between two questions.
const INTERVAL: Duration = Duration::from_secs(10);

/// The number of questions without an answer that ends a connection.
const MOST: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_ends_when_two_questions_have_no_answer() {
        let start = Instant::now();
        let mut pings = Pings::new(start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((pings.due(), pings.poll(after(9))), (after(10), None));
        for seconds in [10, 20, 30] {
            assert_eq!(pings.poll(after(seconds)), Some(Due::Ask));
            pings.sent(after(seconds));
            assert!(pings.is_waiting());
            pings.answered();
        }
        assert!(!pings.is_waiting());
        for seconds in [40, 50] {
            assert_eq!(pings.poll(after(seconds)), Some(Due::Ask));
            pings.sent(after(seconds));
        }
        assert_eq!((pings.poll(after(59)), pings.poll(after(60))), (None, Some(Due::GiveUp)));
        // An answer that comes late counts.
        pings.answered();
        assert_eq!(pings.poll(after(60)), Some(Due::Ask));
    }
}
