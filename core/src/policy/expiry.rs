//! When the connection of a user ends whose token has expired.

use std::time::Duration;

/// The end of connections whose tokens have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryConfig {
    /// The time that a client has for a refresh after its token has expired. Default 25 s.
    pub grace: Duration,
    /// Connections end at a random time of this length after that, so that clients whose tokens expire together do not
    /// return together. Default 10 s. Zero ends them at once, 128 at a time.
    pub spread: Duration,
}

impl Default for ExpiryConfig {
    fn default() -> ExpiryConfig {
        ExpiryConfig { grace: Duration::from_secs(25), spread: Duration::from_secs(10) }
    }
}

impl ExpiryConfig {
    /// Returns the time from `time` to the end of the grace period of a token that expires at `exp`. Both are counted from 1970,
    /// `exp` in seconds.
    pub fn ends_after(&self, exp: u64, time: Duration) -> Duration {
        Duration::from_secs(exp).saturating_add(self.grace).saturating_sub(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_after_its_grace_period() {
        let expiry = ExpiryConfig::default();
        let at = Duration::from_millis;
        assert_eq!(expiry.ends_after(100, at(99_500)), at(25_500));
        assert_eq!(expiry.ends_after(100, at(124_999)), at(1));
        assert_eq!(expiry.ends_after(100, at(125_000)), Duration::ZERO);
        assert_eq!(expiry.ends_after(0, at(u64::MAX)), Duration::ZERO);
        assert!(expiry.ends_after(u64::MAX, Duration::ZERO) > Duration::from_secs(u64::MAX / 2));
    }
}
