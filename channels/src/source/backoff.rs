//! The pause before the next attempt to connect.

use std::time::Duration;

/// Returns the pause after this number of consecutive failures: a random part of 100 ms, doubled each time, up to 10 s. `random`
/// has random bits. All nodes lose a broker at the same time, and should not return together.
pub fn pause_after(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(7);
    let most = (FIRST * (1 << doublings)).min(LONGEST);
    most.mul_f64(random as f64 / u64::MAX as f64)
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_seconds_and_are_random() {
        for (failures, most) in [(0, 100), (1, 100), (2, 200), (7, 6400), (8, 10_000), (u32::MAX, 10_000)] {
            assert_eq!(pause_after(failures, 0), Duration::ZERO);
            assert_eq!(pause_after(failures, u64::MAX), Duration::from_millis(most), "{failures}");
        }
    }
}
