//! Deadlines that are checked late, because the process was suspended.

use std::time::{Duration, Instant};

/// Returns the additional time from `now` for a peer whose deadline `at` is checked so late that the process must have been
/// suspended (a stopped process, a suspended virtual machine, a very long turn): the delay of the check, but at most
/// `timeout`, the original time. `None` if the check is on time.
///
/// Bytes in the kernel are read before a deadline is checked. The additional time is for other bytes: the rest of a message
/// that did not fit into the receive buffer, or packets that a suspended machine has missed.
pub(crate) fn extend_if_late(at: Instant, now: Instant, timeout: Duration) -> Option<Duration> {
    let late = now.saturating_duration_since(at);
    (late > TOLERANCE).then(|| late.min(timeout))
}

/// The delay above which a check is late. A busy worker does not reach it: its turns take milliseconds.
const TOLERANCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_late_judgement_gives_more_time_and_never_more_than_there_was() {
        let (at, second) = (Instant::now(), Duration::from_secs(1));
        let more = |late| extend_if_late(at, at + late, 5 * second);
        assert_eq!(more(Duration::ZERO), None);
        assert_eq!(more(second), None);
        assert_eq!(more(2 * second), Some(2 * second));
        assert_eq!(more(4 * second), Some(4 * second));
        assert_eq!(more(60 * second), Some(5 * second));
        assert_eq!(extend_if_late(at + second, at, second), None, "not due yet");
    }
}
