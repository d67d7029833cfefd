//! The rates of a client's publications.

use std::time::Instant;

use postern_core::policy::{RateLimit, Verdict};

/// The rates of a client, by namespace. Most clients have none.
#[derive(Debug, Default)]
pub(super) struct Rates(Vec<(Option<Box<str>>, RateLimit)>);

impl Rates {
    /// Takes one publication to a namespace that allows `rate` of them in a second, which is also the burst. Returns whether it is
    /// within the rate.
    pub(super) fn take(&mut self, namespace: Option<&str>, rate: u32, now: Instant) -> bool {
        let index = self.0.iter().position(|(name, _)| name.as_deref() == namespace).unwrap_or_else(|| {
            self.0.push((namespace.map(Box::from), RateLimit::default()));
            self.0.len() - 1
        });
        self.0.get_mut(index).is_some_and(|(_, limit)| limit.check(now, rate, rate) == Verdict::Conforming)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_has_as_many_as_the_rate() {
        for rate in [1, 3, 7, 1_000] {
            let mut rates = Rates::default();
            let start = Instant::now();
            let mut taken = |namespace, at| (0..2 * rate).filter(|_| rates.take(namespace, rate, at)).count();
            assert_eq!(taken(Some("a"), start), rate as usize);
            assert_eq!(taken(Some("a"), start), 0);
            // Other namespaces have their own rates.
            assert_eq!(taken(None, start), rate as usize);
            let second = start + Duration::from_secs(1);
            assert_eq!(taken(Some("a"), second), rate as usize);
            assert_eq!(taken(Some("a"), second + Duration::from_secs(1) / rate), 1);
            // A pause does not accumulate more.
            assert_eq!(taken(Some("a"), second + Duration::from_secs(100)), rate as usize);
        }
    }
}
