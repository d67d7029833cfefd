//! Deadlines that are looked at late, because the process stood still.

use std::time::{Duration, Instant};

/// How much more time a peer gets from `now` on, if its deadline `at` is judged so late that the process must have stood
/// still (a stopped process, a suspended virtual machine, a turn that took very long): as much as the judgement is late,
/// but at most `timeout`, which is what the peer had at first. `None` if the judgement is on time.
///
/// What the kernel has received by then is read before anything is judged. This is for what it could not receive: the
/// rest of a message that did not fit into the receive buffer, or packets that a suspended machine has missed.
pub(crate) fn extend_if_late(at: Instant, now: Instant, timeout: Duration) -> Option<Duration> {
    let late = now.saturating_duration_since(at);
    (late > TOLERANCE).then(|| late.min(timeout))
}

/// A judgement that is later than this is late. A worker that is merely busy is not: its turns take milliseconds.
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
